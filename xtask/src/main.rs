//! The automation of this repository: `cargo xtask ci` is what CI runs, locally.

mod clients;
mod compose;
mod deployment;
mod engine;
mod observability;
mod steps;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <command>

  ci     format, lints, unit tests, scripts, simulation, mutants, contracts, deployment, end-to-end tests, clients,
         chaos on real networks (needs root), drills on the compose cluster (needs root), the main job
  compose
         of these, the drills on the compose cluster alone
  tidy   the rules that no other tool checks: claims, dependencies between crates, file sizes
";

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    let done = match command.as_deref() {
        Some("ci") => steps::ci(),
        Some("compose") => steps::drill_compose(),
        Some(engine::INSIDE) => engine::inside(steps::drills),
        Some("tidy") => tidy::check(),
        Some(_) | None => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
