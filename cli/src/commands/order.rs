//! Orders of operators to the content servers: who is asked, and what may become of it.

use model::Address;
use tonic::Status;

use super::ClusterChoice;
use crate::cluster::Service;
use crate::operator;
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
        Ok(match &self.server[..] {
            [] => self.cluster.find()?.addresses(Service::Server),
            named => named.to_vec(),
        })
    }

    /// What they say about themselves.
    ///
    /// # Errors
    /// If there is no such cluster, or an address makes no sense.
    pub async fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let servers = self.addresses()?;
        Ok(Probe::new(operator::wire()?).snapshot(&Addresses { servers, ..Addresses::default() }).await?)
    }
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The servers refuse it.
    #[error("{}{}", .0.message(), svc_kit::status::reason(.0).map(|it| format!(" ({it})")).unwrap_or_default())]
    Refused(Status),
    /// No server answers.
    #[error("no content server answers")]
    Silent,
    /// No daemon answers.
    #[error("no daemon answers")]
    NoDaemon,
}
