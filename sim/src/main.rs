//! The sweep as a program of its own; `handover sim` is the same.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    sim::cli::run(sim::cli::Args::parse())
}
