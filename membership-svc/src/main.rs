//! The membership server.

use std::process::ExitCode;

use clap::Parser;
use membership_svc::config::Args;

#[derive(Parser)]
#[command(name = "membership-svc", version, about = "Agrees on who is connected, and tells the daemons")]
struct CommandLine {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    membership_svc::main(&CommandLine::parse().args)
}
