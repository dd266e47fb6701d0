//! Where sessions are measured: a cluster, or a single bare server.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use handover_cli::bundle;
use handover_cli::cluster::{Cluster, Options, Service};
use model::Address;
use tempfile::TempDir;

use crate::child::{self, Child};
use crate::usage::Usage;

/// Machines of the cluster, each with a daemon and a server.
pub const MACHINES: usize = 4;

/// The unit of the store, and how many servers hold it.
pub const STORE: &str = "notes";
pub const STORE_REPLICAS: usize = 3;

/// Something that serves sessions. All of it ends when this is dropped.
pub enum Place {
    Handover { cluster: Box<Cluster>, _dir: TempDir },
    Bare { server: Box<Child>, address: Address },
    Relayed { relay: Box<Child>, server: Box<Child>, address: Address },
}

/// What a place is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A tonic server.
    Bare,
    /// The same behind another one.
    Relayed,
    /// A cluster.
    Handover,
}

impl Kind {
    /// Whoever takes turns.
    pub const ALL: [Kind; 3] = [Kind::Bare, Kind::Relayed, Kind::Handover];

    /// Starts one.
    pub async fn start(self) -> anyhow::Result<Place> {
        match self {
            Kind::Bare => Place::bare().await,
            Kind::Relayed => Place::relayed().await,
            Kind::Handover => Place::handover(1).await,
        }
    }
}

impl Place {
    /// A cluster of four machines and two gateways, whose sessions have so many backups.
    pub async fn handover(backups: u8) -> anyhow::Result<Place> {
        let spout = std::env::current_exe()?.with_file_name("spout");
        Place::cluster_of(|options| {
            options.server = Some(spout);
            options.machines = MACHINES;
            options.backups = backups;
        })
        .await
    }

    /// A cluster of three machines, each of which holds the store.
    pub async fn store() -> anyhow::Result<Place> {
        Place::cluster_of(|options| {
            options.machines = STORE_REPLICAS;
            options.replicas = STORE_REPLICAS;
            options.further =
                bundle::ALL.iter().filter(|file| file.name.starts_with(STORE)).copied().collect();
        })
        .await
    }

    async fn cluster_of(choose: impl FnOnce(&mut Options)) -> anyhow::Result<Place> {
        let dir = tempfile::tempdir()?;
        let mut options = Options::new("bench".parse()?, dir.path());
        options.films = Vec::new();
        choose(&mut options);
        // On a machine that others use, a process may be held up for longer than is usual.
        for service in [Service::Membership, Service::Daemon] {
            options.flags.insert(service, vec!["--detection-profile".to_owned(), "wan".to_owned()]);
        }
        let cluster = Box::new(Cluster::start(options).await?);
        Ok(Place::Handover { cluster, _dir: dir })
    }

    /// A tonic server with the contract of a gateway, and nothing behind it.
    async fn bare() -> anyhow::Result<Place> {
        let (server, address) = bare(None).await?;
        Ok(Place::Bare { server, address })
    }

    /// The same behind another one.
    async fn relayed() -> anyhow::Result<Place> {
        let (server, behind) = bare(None).await?;
        let (relay, address) = bare(Some(&behind)).await?;
        Ok(Place::Relayed { relay, server, address })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Place::Handover { .. } => "Handover",
            Place::Bare { .. } => "tonic",
            Place::Relayed { .. } => "two tonics",
        }
    }

    /// Where clients go.
    pub fn gateways(&self) -> Vec<Address> {
        match self {
            Place::Handover { cluster, .. } => cluster.gateways(),
            Place::Bare { address, .. } | Place::Relayed { address, .. } => vec![address.clone()],
        }
    }

    /// Some content server.
    pub fn server(&self) -> anyhow::Result<Address> {
        let Place::Handover { cluster, .. } = self else { anyhow::bail!("a bare server is no cluster") };
        cluster.address(Service::Server.name(1)).cloned().context("there is one")
    }

    pub fn cluster(&mut self) -> anyhow::Result<&mut Cluster> {
        match self {
            Place::Handover { cluster, .. } => Ok(cluster),
            Place::Bare { .. } | Place::Relayed { .. } => anyhow::bail!("a bare server is no cluster"),
        }
    }

    /// What all processes of each kind have used so far, together.
    pub fn usage(&self) -> anyhow::Result<BTreeMap<&'static str, Usage>> {
        let mut sums = BTreeMap::<&str, Usage>::new();
        let mut add = |kind, usage: Usage| {
            let sum = sums.entry(kind).or_default();
            *sum = Usage { cpu: sum.cpu + usage.cpu, resident_kib: sum.resident_kib + usage.resident_kib };
        };
        match self {
            Place::Handover { cluster, .. } => {
                for process in cluster.state().processes {
                    let kind = match process.service {
                        Service::Membership => "membership",
                        Service::Daemon => "daemons",
                        Service::Server => "servers",
                        Service::Gateway => "gateways",
                    };
                    add(kind, Usage::of(process.pid.with_context(|| format!("{} has died", process.name))?)?);
                }
            }
            Place::Bare { server, .. } => add("server", server.usage()?),
            Place::Relayed { relay, server, .. } => {
                add("relay", relay.usage()?);
                add("server", server.usage()?);
            }
        }
        Ok(sums)
    }
}

/// A bare server, in front of another one or not, and where it is.
async fn bare(behind: Option<&Address>) -> anyhow::Result<(Box<Child>, Address)> {
    let mut command = child::myself()?;
    command.arg("bare");
    if let Some(behind) = behind {
        command.args(["--behind", behind.as_str()]);
    }
    let mut server = Box::new(Child::speaking(command)?);
    let address = Address::new(&server.line().await?);
    Ok((server, address))
}

/// The processor time between two counts, of all kinds together.
pub fn cpu(before: &BTreeMap<&str, Usage>, after: &BTreeMap<&str, Usage>) -> Duration {
    let sum = |usages: &BTreeMap<&str, Usage>| usages.values().map(|usage| usage.cpu).sum::<Duration>();
    sum(after).saturating_sub(sum(before))
}
