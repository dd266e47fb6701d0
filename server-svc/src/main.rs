//! The content server, with the services that come with Handover.

use std::process::ExitCode;

fn main() -> ExitCode {
    server_svc::host(server_svc::bundled::load)
}
