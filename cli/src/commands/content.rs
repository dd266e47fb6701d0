//! `handover content`: the content of a cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use model::{Address, UnitId};
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{PublishEditionRequest, ReloadContentRequest};
use proto::session::v1::session_service_client::SessionServiceClient;
use proto::session::v1::{ContentUnit, ListContentUnitsRequest};
use server_svc::content::Kind;
use server_svc::store;
use svc_kit::dial::Wire;
use svc_kit::status::sentence;
use svc_kit::tls::Role;
use tonic::{Code, Status};

use super::order::OrderError;
use super::{ClusterChoice, program};
use crate::cluster::Service;
use crate::cluster::state::{Process, State};
use crate::operator;
use crate::silence;
use crate::snapshot::limited;
use crate::table::Table;

/// Add content units, publish new editions of them, and list them.
///
/// The name of its file says what a unit is called and what it is: UNIT.mp4 is a film, UNIT.course.toml a course,
/// UNIT.collection.md a collection of documents, UNIT.tokens.txt a text to go on from, UNIT.kv.toml a key-value store.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    #[command(about = "Add a unit to the cluster on this computer, or to a content directory")]
    Add(AddArgs),
    #[command(about = "Publish a new edition of a unit of the cluster on this computer")]
    Publish(PublishArgs),
    /// List the units that sessions can be opened on now
    Ls(LsArgs),
}

/// Add a unit to the cluster on this computer, or to a content directory.
///
/// The file is checked first: a film has to be fragmented MP4, for instance, in fragments of at most 10 s, half a second
/// being best. It is copied to those machines that hold the fewest units, and can be used at once.
#[derive(Clone, Debug, clap::Args)]
struct AddArgs {
    /// The file, called UNIT.mp4, UNIT.course.toml, UNIT.collection.md, UNIT.tokens.txt or UNIT.kv.toml
    file: PathBuf,
    /// How many machines hold it; as many as the others by default
    #[arg(long, value_name = "N")]
    replicas: Option<usize>,
    /// Copy it to this content directory instead, and nothing else
    #[arg(long, value_name = "DIR", conflicts_with = "replicas")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterChoice,
}

/// Publish a new edition of a unit of the cluster on this computer.
///
/// The file is checked first, and copied to all machines that hold the unit. When all of their servers have it, new sessions
/// are opened on it, everywhere from the same moment on; sessions that are there stay with the edition that they were opened
/// on.
///
/// Exits with 64 + N if the servers refuse with gRPC code N, such as 73 (FAILED_PRECONDITION) if some server of the unit is
/// not on this computer, and does not hold the edition.
#[derive(Clone, Debug, clap::Args)]
struct PublishArgs {
    /// The file
    file: PathBuf,
    /// The unit; by default it is called as the file is, up to the dot
    #[arg(long)]
    unit: Option<UnitId>,
    #[command(flatten)]
    cluster: ClusterChoice,
}

/// List the units that some server holds.
#[derive(Clone, Debug, clap::Args)]
struct LsArgs {
    #[command(flatten)]
    cluster: ClusterChoice,
    /// Ask this gateway; can be repeated
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "HANDOVER_GATEWAYS", value_parser = super::status::address)]
    gateway: Vec<Address>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add(args) => add(args).await?,
        Command::Publish(args) => publish(args).await?,
        Command::Ls(args) => ls(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(args: AddArgs) -> anyhow::Result<()> {
    if let Some(dir) = args.dir {
        let unit = store::add(&args.file, &dir)?;
        println!(
            "{unit} is in {}; servers of that directory hold it once they load their content again",
            dir.display()
        );
        return Ok(());
    }
    readable(&args.file)?;
    let state = args.cluster.find()?;
    let holders = holders(&state, &args.file, args.replicas.unwrap_or(state.replicas))?;
    let mut unit = None;
    for (server, dir, _) in &holders {
        unit = Some(store::add(&args.file, dir).with_context(|| format!("cannot add it to {server}"))?);
    }
    for (_, _, address) in &holders {
        reload(address).await?;
    }
    let Some(unit) = unit else { bail!("no server is running that could hold it") };
    let names: Vec<_> = holders.iter().map(|(server, ..)| server.as_str()).collect();
    let verb = if Kind::of(&args.file) == Some(Kind::Film) { "watch" } else { "talk" };
    println!("{unit} is on {}; try it with `{} {verb} {unit}`", names.join(", "), program());
    Ok(())
}

/// A file that is not there is no matter of the servers.
fn readable(file: &Path) -> anyhow::Result<()> {
    std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(())
}

type Holder = (String, PathBuf, Address);

/// The running servers that get a unit: those that have it, so that adding it again changes nothing, then those with
/// the fewest others.
fn holders(state: &State, file: &Path, replicas: usize) -> anyhow::Result<Vec<Holder>> {
    if replicas == 0 {
        bail!("a unit is held by one machine at least");
    }
    let unit = store::named(file)?.unit;
    let units = |server: &Process| -> BTreeSet<UnitId> {
        let dir = server.content.as_deref();
        dir.and_then(|dir| store::list(dir).ok()).unwrap_or_default().into_keys().collect()
    };
    let mut servers: Vec<&Process> =
        state.all(Service::Server).filter(|server| server.pid.is_some()).collect();
    servers.sort_by_cached_key(|server| {
        let units = units(server);
        (!units.contains(&unit), units.len(), server.name)
    });
    let holder =
        |server: &Process| Some((server.name.to_string(), server.content.clone()?, server.address.clone()?));
    Ok(servers.into_iter().take(replicas).filter_map(holder).collect())
}

async fn publish(args: PublishArgs) -> anyhow::Result<()> {
    readable(&args.file)?;
    let state = args.cluster.find()?;
    let (unit, kind) = match args.unit {
        Some(unit) => (unit, Kind::of(&args.file).context("the name of the file does not say what it is")?),
        None => store::named(&args.file).map(|name| (name.unit, name.kind))?,
    };
    let mut holders = Vec::new();
    let mut latest = 0;
    for server in state.all(Service::Server).filter(|server| server.pid.is_some()) {
        let (Some(dir), Some(address)) = (&server.content, &server.address) else { continue };
        if let Some(editions) = store::list(dir).unwrap_or_default().remove(&unit) {
            latest = editions.into_keys().fold(latest, u32::max);
            holders.push((server.name, dir, address));
        }
    }
    let edition = latest + 1;
    let Some((_, _, asked)) = holders.first() else {
        bail!("no server that is running holds `{unit}`; add it with `{} content add`", program());
    };
    let name = store::Named { unit: unit.clone(), edition, kind };
    for (server, dir, _) in &holders {
        store::add_as(&args.file, dir, &name).with_context(|| format!("cannot add it to {server}"))?;
    }
    for (_, _, address) in &holders {
        reload(address).await?;
    }
    let channel = operator::wire()?.connect(asked, Role::Server).await?;
    let request = PublishEditionRequest { name: format!("contentUnits/{unit}"), edition };
    let published = ServerServiceClient::new(channel).publish_edition(limited(request)).await;
    published.map_err(OrderError::Refused)?;
    let names: Vec<_> = holders.iter().map(|(server, ..)| server.to_string()).collect();
    println!("new sessions on {unit} are opened on edition {edition}, which is on {}", names.join(", "));
    Ok(())
}

async fn reload(server: &Address) -> anyhow::Result<()> {
    let channel = operator::wire()?.connect(server, Role::Server).await?;
    let reloaded = ServerServiceClient::new(channel).reload_content(limited(ReloadContentRequest {})).await;
    reloaded.map_err(|status| anyhow::anyhow!("{server} cannot load its content: {}", sentence(&status)))?;
    Ok(())
}

async fn ls(args: LsArgs) -> anyhow::Result<()> {
    let gateways = args.cluster.addresses(Service::Gateway, &args.gateway)?;
    let mut table = Table::new(["UNIT", "EDITION", "TITLE", "DURATION", "SIZE", "TYPE"]);
    for unit in list(&gateways).await? {
        let duration = playing_time(&unit).map_or_else(|| "-".to_owned(), clock);
        let id = unit.name.rsplit('/').next().unwrap_or_default().to_owned();
        let size = format!("{} KiB", unit.size_bytes.div_ceil(1024));
        table.row([id, unit.edition.to_string(), unit.title, duration, size, unit.media_type]);
    }
    print!("{table}");
    Ok(())
}

/// What the first gateway that answers lists. Those that do not are named.
pub async fn list(gateways: &[Address]) -> anyhow::Result<Vec<ContentUnit>> {
    if gateways.is_empty() {
        bail!("no gateway is running");
    }
    let (wire, mut refusal) = (operator::wire()?, None);
    for gateway in gateways {
        match list_of(&wire, gateway).await {
            Ok(units) => return Ok(units),
            Err(status) if is_silence(&status) => silence::tell(gateway, &status),
            Err(status) => refusal = Some(status),
        }
    }
    bail!(refusal.map_or(OrderError::NoGateway, OrderError::Refused))
}

async fn list_of(wire: &Wire, gateway: &Address) -> Result<Vec<ContentUnit>, Status> {
    let channel = wire.connect(gateway, Role::Gateway).await;
    let channel = channel.map_err(|error| Status::unavailable(error.cause()))?;
    let request = limited(ListContentUnitsRequest {});
    let answer = SessionServiceClient::new(channel).list_content_units(request).await?;
    Ok(answer.into_inner().content_units)
}

/// Whether another gateway may answer. What becomes of a call to somebody else than a gateway depends on who it is.
fn is_silence(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Unknown, Code::Internal];
    codes.contains(&status.code())
}

/// How long a unit plays, in whole seconds, if it does.
pub fn playing_time(unit: &ContentUnit) -> Option<Duration> {
    let seconds = unit.duration.as_ref()?.seconds.unsigned_abs();
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Minutes and seconds.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}
