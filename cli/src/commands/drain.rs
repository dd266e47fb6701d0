//! `handover drain`: a content server hands its sessions over, and ends.

use std::process::ExitCode;

use anyhow::bail;
use model::{Address, Name};
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{DrainRequest, StartDrainRequest};
use serde_json::json;
use svc_kit::status;
use svc_kit::tls::Role;
use tonic::transport::Channel;

use super::order::{Asked, OrderError};
use super::status::Format;
use crate::operator;
use crate::snapshot::{Snapshot, limited};

type Server = ServerServiceClient<Channel>;

/// Have a content server hand all its sessions over to others and end, as SIGTERM does. Clients notice nothing: each
/// session is served there until another server serves it.
///
/// `handover up` starts the server again, so that one drain after the other restarts all servers. Exits with 74 (64 +
/// ABORTED) if the server ended before all sessions were handed over.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The server, such as server-2
    name: Name,
    /// Begin it, and do not wait for its end: the same command without this shows how far it is
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    asked: Asked,
    /// How to show it: progress comes as one line each
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { name, output, .. } = args;
    let snapshot = args.asked.snapshot().await?;
    let channel = operator::wire()?.connect(find(&snapshot, name)?, Role::Server).await?;
    let server = ServerServiceClient::new(channel);
    if args.no_wait {
        begin(server, name, output).await?;
    } else {
        follow(server, name, output).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Begins a drain.
async fn begin(mut server: Server, name: Name, output: Format) -> anyhow::Result<()> {
    let begun = server.start_drain(limited(StartDrainRequest::default())).await;
    let operation = begun.map_err(OrderError::Refused)?.into_inner().operation.unwrap_or_default();
    let total = operation.metadata.unwrap_or_default().sessions_total;
    match output {
        Format::Table => println!("{name} hands {total} sessions over, as {}", operation.name),
        Format::Json => {
            println!(
                "{}",
                json!({ "server": name.as_str(), "sessions": total, "operation": operation.name })
            );
        }
    }
    Ok(())
}

/// Begins a drain, or joins one under way, and shows its progress until it is over.
async fn follow(mut server: Server, name: Name, output: Format) -> anyhow::Result<()> {
    let drained = server.drain(operator::unlimited(DrainRequest {})).await;
    let mut progress = drained.map_err(OrderError::Refused)?.into_inner();
    let mut last = None;
    while let Some(now) = progress.message().await.map_err(OrderError::Refused)? {
        if last.replace(now.sessions) == Some(now.sessions) {
            continue;
        }
        match output {
            Format::Table if now.sessions == 0 => println!("{name} serves no session"),
            Format::Table => println!("{name} hands {} sessions over", now.sessions),
            Format::Json => println!("{}", json!({ "server": name.as_str(), "sessions": now.sessions })),
        }
    }
    Ok(())
}

/// Where the server of this name is.
pub(super) fn find(snapshot: &Snapshot, name: Name) -> anyhow::Result<&Address> {
    let mut is_silent = true;
    for (at, answer) in &snapshot.servers {
        if let Ok(status) = answer {
            is_silent = false;
            if status.name == name.as_str() {
                return Ok(at);
            }
        }
    }
    if is_silent {
        bail!(OrderError::Silent);
    }
    bail!(OrderError::Refused(status::not_found("server", name.as_str())))
}
