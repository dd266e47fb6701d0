//! The content server.

use std::process::ExitCode;

use clap::Parser;
use server_svc::config::Args;

#[derive(Parser)]
#[command(
    name = "server-svc",
    version,
    about = "Serves sessions on films, together with the other content servers"
)]
struct CommandLine {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    server_svc::main(&CommandLine::parse().args)
}
