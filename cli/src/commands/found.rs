//! `handover found`: founds the state that the sessions on a unit share.

use std::process::ExitCode;

use model::{Address, UnitId};
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{FoundStateRequest, UnitStatus};
use serde::Serialize;
use svc_kit::dial::Wire;
use svc_kit::tls::Role;

use super::order::{Asked, OrderError};
use super::policy;
use super::status::Format;
use crate::operator;
use crate::snapshot::{Addresses, Probe, Snapshot, limited};

/// Found the state that the sessions on a unit share, such as a key-value store, among the servers that hold it now. These
/// are its voters from then on: while more than half of them are together, with the state in memory, it can be used, and
/// nobody else can go on with it. `handover up` founds what is there when it starts.
///
/// Exits with 64 + N if the servers refuse with gRPC code N, such as 73 (FAILED_PRECONDITION) if it was founded before.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The content unit
    unit: UnitId,
    /// Also if it was founded before: go on with what the servers that are here have of it, and give up what only others
    /// have. For when most voters are gone for good
    #[arg(long)]
    anew: bool,
    #[command(flatten)]
    asked: Asked,
    /// How to show it
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Founded {
    unit: String,
    voters: Vec<String>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let snapshot = args.asked.snapshot().await?;
    let unit = args.unit.to_string();
    let (asked, known) = policy::find(&snapshot, &unit)?;
    let founded = Founded { unit, voters: found(&operator::wire()?, asked, &known.name, args.anew).await? };
    match args.output {
        Format::Table => println!("{}: {} vote on it", founded.unit, founded.voters.join(", ")),
        Format::Json => println!("{}", serde_json::to_string_pretty(&founded)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Founds whatever can be founded on a new cluster.
pub(super) async fn found_all(wire: &Wire, addresses: &Addresses) -> anyhow::Result<()> {
    let snapshot = Probe::new(wire.clone()).snapshot(addresses).await?;
    for (server, unit) in unfounded(&snapshot) {
        found(wire, server, &unit.name, false).await?;
    }
    Ok(())
}

/// The units whose sessions share a state that is not founded, each with a server that holds it.
fn unfounded(snapshot: &Snapshot) -> Vec<(&Address, &UnitStatus)> {
    let mut units = Vec::<(&Address, &UnitStatus)>::new();
    for (at, answer) in &snapshot.servers {
        for unit in answer.iter().flat_map(|status| &status.units) {
            let is_new = units.iter().all(|(_, known)| known.name != unit.name);
            if is_new && unit.shared_state.as_ref().is_some_and(|state| state.voters.is_empty()) {
                units.push((at, unit));
            }
        }
    }
    units
}

async fn found(wire: &Wire, server: &Address, unit: &str, anew: bool) -> anyhow::Result<Vec<String>> {
    let channel = wire.connect(server, Role::Server).await?;
    let request = FoundStateRequest { name: unit.to_owned(), anew };
    let founded = ServerServiceClient::new(channel).found_state(limited(request)).await;
    Ok(founded.map_err(OrderError::Refused)?.into_inner().voters)
}
