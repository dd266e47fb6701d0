//! `handover membership`: what membership servers know, and what operators tell them.

mod ask;
mod events;
mod matrix;
mod roll;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use model::{Address, Name};
use proto::membership::v1 as pb;
use serde::Serialize;

use super::ClusterChoice;
use super::signals::{EXIT_INTERRUPTED, Signals};
use super::status::Format;
use crate::cluster::Service;
use crate::snapshot::limited;
pub use ask::AskError;
use ask::Servers;

/// Show which machines are in the cluster and why, and keep machines out.
///
/// Asks the membership servers of the cluster that `handover up` or `handover demo` runs on this computer, or those whose
/// addresses are given: the first one that answers. Exits with 69 if none does.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The name of the cluster: of one on this computer if several are running, and in certificates
    #[arg(long, value_name = "NAME", env = "HANDOVER_CLUSTER", global = true)]
    cluster: Option<Name>,
    /// Ask these membership servers, one after the other until one answers
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "HANDOVER_MEMBERSHIP", value_parser = super::status::address, global = true)]
    membership: Vec<Address>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List the daemons, where they are attached and how they are, and what is wrong with the servers
    List(Output),
    /// Show the last configurations, the newest last: who came, who left and why
    History(Output),
    /// Show the configuration, and each new one as it comes, until Ctrl-C
    Watch(Output),
    /// Show who can reach whom: `.` is whole, `?` in doubt, `x` cut
    Matrix(Output),
    /// Send a daemon away, and keep it out for a time
    Evict {
        /// The daemon, such as machine-3
        name: Name,
        /// Keep it out for so long
        #[arg(long = "for", value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
        time: Duration,
    },
    /// Keep a daemon out until its maintenance is over
    Maintenance {
        /// The daemon, such as machine-3
        name: Name,
        /// Whether it is in maintenance from now on
        state: Switch,
    },
}

#[derive(Clone, Copy, Debug, clap::Args)]
struct Output {
    /// How to show it
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    /// It is sent away, and kept out
    On,
    /// It may come in again
    Off,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let cluster = ClusterChoice { cluster: args.cluster };
    let addresses = cluster.addresses(Service::Membership, &args.membership)?;
    if addresses.is_empty() {
        bail!("no membership server is running");
    }
    let servers = Servers(addresses);
    match args.command {
        Command::List(Output { output }) => show(&roll::Roll::of(&servers.membership().await?), output)?,
        Command::History(Output { output }) => {
            show(&events::History::of(servers.membership().await?), output)?
        }
        Command::Matrix(Output { output }) => {
            show(&matrix::Matrix::of(&servers.membership().await?), output)?
        }
        Command::Watch(Output { output }) => return watch(&servers, output).await,
        Command::Evict { name, time } => evict(&servers, name, time).await?,
        Command::Maintenance { name, state } => maintain(&servers, name, state).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(it: &(impl std::fmt::Display + Serialize), output: Format) -> anyhow::Result<()> {
    match output {
        Format::Table => print!("{it}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(it)?),
    }
    Ok(())
}

async fn watch(servers: &Servers, output: Format) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let show = |view: &pb::View| {
        let change = events::Change::of(view);
        match output {
            Format::Table => print!("{}", change.lines()),
            Format::Json => println!("{}", serde_json::to_string(&change)?),
        }
        Ok(())
    };
    tokio::select! {
        ended = servers.watch(show) => ended.map(|()| ExitCode::SUCCESS),
        () = signals.next() => Ok(EXIT_INTERRUPTED.into()),
    }
}

async fn evict(servers: &Servers, name: Name, time: Duration) -> anyhow::Result<()> {
    let hint = absent(servers, name).await?;
    let duration = Some(prost_types::Duration::try_from(time)?);
    let request = pb::EvictRequest { name: name.to_string(), duration };
    servers.ask(async |mut client| client.evict(limited(request.clone())).await).await?;
    println!("{name} is kept out for {}{hint}", humantime::format_duration(time));
    Ok(())
}

async fn maintain(servers: &Servers, name: Name, state: Switch) -> anyhow::Result<()> {
    let hint = absent(servers, name).await?;
    let maintenance = state == Switch::On;
    let request = pb::SetMaintenanceRequest { name: name.to_string(), maintenance };
    servers.ask(async |mut client| client.set_maintenance(limited(request.clone())).await).await?;
    match state {
        Switch::On => println!("{name} is kept out until `maintenance {name} off`{hint}"),
        Switch::Off => println!("{name} may come in"),
    }
    Ok(())
}

/// A hint for whoever mistypes a name. One that nobody has now may be that of a machine that is down.
async fn absent(servers: &Servers, name: Name) -> anyhow::Result<&'static str> {
    let membership = servers.membership().await?;
    let is_there = membership.daemons.iter().any(|it| ask::without_boot(&it.daemon) == name.as_str());
    Ok(if is_there { "" } else { "; no daemon of that name is attached now" })
}
