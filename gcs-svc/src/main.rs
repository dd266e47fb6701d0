//! The group communication daemon.

use std::process::ExitCode;

use clap::Parser;
use gcs_svc::config::Args;

#[derive(Parser)]
#[command(
    name = "gcs-svc",
    version,
    about = "Virtually synchronous, totally ordered multicast in lightweight groups"
)]
struct CommandLine {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    gcs_svc::main(&CommandLine::parse().args)
}
