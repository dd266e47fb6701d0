//! `handover drain`: a content server hands its sessions over, and ends.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use model::{Address, Name};
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{DrainRequest, DrainResponse, StartDrainRequest};
use serde_json::json;
use svc_kit::status;
use svc_kit::tls::Role;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::order::{Asked, OrderError};
use super::status::Format;
use crate::operator;
use crate::snapshot::{Snapshot, limited};
use crate::words::counted;

/// How long others may take to be given shared state that rests on the server, and how often that is looked at.
const VOTERS_MAX: Duration = Duration::from_secs(60);
const VOTERS_PAUSE: Duration = Duration::from_millis(500);

type Server = ServerServiceClient<Channel>;

/// Have a content server hand all its sessions over to others and end, as SIGTERM does. Clients notice nothing: each
/// session is served there until another server serves it.
///
/// `handover up` starts the server again, so that one drain after the other restarts all servers. Where shared state would be
/// left without most of its voters, it waits a minute for others to have it, and exits with 73 (64 + FAILED_PRECONDITION) if
/// they have not. Exits with 74 (64 + ABORTED) if the server ended before all sessions were handed over.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The server, such as server-2
    name: Name,
    /// Begin it, and do not wait for its end: the same command without this shows how far it is
    #[arg(long)]
    no_wait: bool,
    /// Even if shared state is left without most of its voters, and lost if more of them go
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    asked: Asked,
    /// How to show it: progress comes as one line each
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { name, force, output, .. } = args;
    let snapshot = args.asked.snapshot().await?;
    let channel = operator::wire()?.connect(find(&snapshot, name)?, Role::Server).await?;
    let server = ServerServiceClient::new(channel);
    if args.no_wait {
        begin(server, name, force, output).await?;
    } else {
        follow(server, name, force, output).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Begins a drain.
async fn begin(mut server: Server, name: Name, force: bool, output: Format) -> anyhow::Result<()> {
    let begun = server.start_drain(limited(StartDrainRequest { force, ..Default::default() })).await;
    let operation = begun.map_err(OrderError::Refused)?.into_inner().operation.unwrap_or_default();
    let total = operation.metadata.unwrap_or_default().sessions_total;
    match output {
        Format::Table => println!("{name} hands {} over, as {}", sessions(total), operation.name),
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
async fn follow(server: Server, name: Name, force: bool, output: Format) -> anyhow::Result<()> {
    let mut progress = drain(server, name, force).await.map_err(OrderError::Refused)?;
    let mut last = None;
    while let Some(now) = progress.message().await.map_err(OrderError::Refused)? {
        if last.replace(now.sessions) == Some(now.sessions) {
            continue;
        }
        match output {
            Format::Table if now.sessions == 0 => println!("{name} serves no session"),
            Format::Table => println!("{name} hands {} over", sessions(now.sessions)),
            Format::Json => println!("{}", json!({ "server": name.as_str(), "sessions": now.sessions })),
        }
    }
    Ok(())
}

/// Begins a drain as soon as shared state allows it.
async fn drain(mut server: Server, name: Name, force: bool) -> Result<Streaming<DrainResponse>, Status> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        match server.drain(operator::unlimited(DrainRequest { force })).await {
            Err(refused) if must_wait(&refused) && begun.elapsed() < VOTERS_MAX => {
                if !std::mem::replace(&mut told, true) {
                    eprintln!("{name} waits: {}", refused.message());
                }
                tokio::time::sleep(VOTERS_PAUSE).await;
            }
            answer => return answer.map(Response::into_inner),
        }
    }
}

/// Whether others are yet to be given shared state.
fn must_wait(refused: &Status) -> bool {
    status::reason(refused).as_deref() == Some("VOTERS_NEEDED")
}

fn sessions(count: u64) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), "session")
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
