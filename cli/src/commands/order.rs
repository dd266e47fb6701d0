//! Orders of operators to the content servers: who is asked, and what may become of it.

use anyhow::bail;
use model::Address;
use tonic::Status;

use super::ClusterChoice;
use crate::cluster::Service;
use crate::operator;
use crate::silence;
use crate::snapshot::{Addresses, Probe, Snapshot};

/// Which content servers are asked.
#[derive(Clone, Debug, clap::Args)]
pub struct Asked {
    #[command(flatten)]
    cluster: ClusterChoice,
    /// Ask this content server; can be repeated
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "HANDOVER_SERVERS", value_parser = super::status::address)]
    server: Vec<Address>,
}

impl Asked {
    /// Where they are.
    ///
    /// # Errors
    /// If there is no such cluster.
    pub fn addresses(&self) -> anyhow::Result<Vec<Address>> {
        self.cluster.addresses(Service::Server, &self.server)
    }

    /// What they say about themselves.
    ///
    /// # Errors
    /// If there is no such cluster, an address makes no sense, or none of them answers.
    pub async fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let servers = self.addresses()?;
        let servers = Addresses { servers, ..Addresses::default() };
        let snapshot = Probe::new(operator::wire()?).snapshot(&servers).await?;
        if snapshot.up_servers().next().is_none() {
            let silent = snapshot.silent();
            silent.iter().for_each(|(at, why)| silence::tell(at, why));
            let refusal = silent.into_iter().find(|(_, why)| silence::is_refusal(why));
            bail!(refusal.map_or(OrderError::Silent, |(_, why)| OrderError::Refused(why.clone())));
        }
        Ok(snapshot)
    }
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The servers refuse it.
    #[error("{}", svc_kit::status::sentence(.0))]
    Refused(Status),
    /// No server answers.
    #[error("no content server answers")]
    Silent,
    /// No daemon answers.
    #[error("no daemon answers")]
    NoDaemon,
    /// No gateway answers.
    #[error("no gateway answers")]
    NoGateway,
}
