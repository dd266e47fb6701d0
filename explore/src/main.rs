//! `explore`: all that can happen to three daemons within a bound, judged.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use explore::daemons::{Bound, Daemons};
use explore::search::{Outcome, Tally, search};

/// Explores every order in which things can happen to three daemons in one configuration, and judges every history.
#[derive(Parser)]
struct Args {
    /// Messages that are multicast, each by any daemon at any time.
    #[arg(long, default_value_t = 1)]
    messages: u32,
    /// Daemons that crash.
    #[arg(long, default_value_t = 0)]
    crashes: u32,
    /// Partitions of one daemon from the others.
    #[arg(long, default_value_t = 0)]
    partitions: u32,
    /// Partitions that heal.
    #[arg(long, default_value_t = 0)]
    merges: u32,
    /// Start changes and views that the membership service could do without.
    #[arg(long, default_value_t = 0)]
    detours: u32,
    /// Timers that fire.
    #[arg(long, default_value_t = 0)]
    ticks: u32,
    /// Give up after this many states.
    #[arg(long, default_value_t = 100_000_000)]
    states_max: u64,
}

fn main() -> ExitCode {
    let Args { messages, crashes, partitions, merges, detours, ticks, states_max } = Args::parse();
    let bound = Bound { messages, crashes, partitions, merges, detours, ticks };
    let began = Instant::now();
    let tell = |tally: &Tally| {
        let Tally { states, actions, histories, ends, paths, depth } = tally;
        println!(
            "{states} states, {actions} actions, {histories} histories, {ends} ends, {paths:.1e} paths, depth {depth}, {:.1} s",
            began.elapsed().as_secs_f64()
        );
    };
    match search(Daemons::new(bound), states_max, tell) {
        Outcome::Sound(tally) => {
            tell(&tally);
            ExitCode::SUCCESS
        }
        Outcome::Found(tally, finding) => {
            tell(&tally);
            println!("{finding}");
            ExitCode::FAILURE
        }
        Outcome::Unfinished(tally) => {
            tell(&tally);
            println!("there is more");
            ExitCode::FAILURE
        }
    }
}
