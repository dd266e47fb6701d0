//! The gateway.

use std::process::ExitCode;

use clap::Parser;
use gateway::config::Args;

#[derive(Parser)]
#[command(
    name = "gateway",
    version,
    about = "Where clients open sessions, and where servers bring their responses"
)]
struct CommandLine {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    gateway::main(&CommandLine::parse().args)
}
