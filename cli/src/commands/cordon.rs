//! `handover cordon` and `handover uncordon`: a content server takes no new sessions, or its share again.

use std::process::ExitCode;

use model::Name;
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{CordonRequest, UncordonRequest};
use svc_kit::tls::Role;

use super::drain;
use super::order::{Asked, OrderError};
use crate::operator;
use crate::snapshot::limited;

/// What `cordon` does.
pub const CORDON: &str = "\
Have a content server take no new sessions, as long as others hold their content: none that is opened, none for balance, and \
none as a backup. It keeps those that it has, until they end or are moved.

A server that ends and is started again is not cordoned any more.";

/// What `uncordon` does.
pub const UNCORDON: &str = "\
Have a content server take its share of sessions again. Those that are elsewhere stay there until sessions are moved for \
balance, when a server comes.";

/// Which content server is meant.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The server, such as server-2
    name: Name,
    #[command(flatten)]
    asked: Asked,
}

pub async fn cordon(args: Args) -> anyhow::Result<ExitCode> {
    let mut client = client(&args).await?;
    client.cordon(limited(CordonRequest {})).await.map_err(OrderError::Refused)?;
    println!("{} takes no new sessions", args.name);
    Ok(ExitCode::SUCCESS)
}

pub async fn uncordon(args: Args) -> anyhow::Result<ExitCode> {
    let mut client = client(&args).await?;
    client.uncordon(limited(UncordonRequest {})).await.map_err(OrderError::Refused)?;
    println!("{} takes its share of sessions", args.name);
    Ok(ExitCode::SUCCESS)
}

async fn client(args: &Args) -> anyhow::Result<ServerServiceClient<tonic::transport::Channel>> {
    let snapshot = args.asked.snapshot().await?;
    let channel = operator::wire()?.connect(drain::find(&snapshot, args.name)?, Role::Server).await?;
    Ok(ServerServiceClient::new(channel))
}
