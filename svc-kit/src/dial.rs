//! Connections to other processes, with the same care for silence at both ends.

use std::time::Duration;

use model::Address;
use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint};

/// The largest message that any service takes or sends, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The table `keepalive`: when a silent connection counts as broken. The cost is one small frame each way for each
/// connection and interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keepalive {
    /// How often the other end is asked for a sign of life.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long it has to give one.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { interval: Duration::from_secs(1), timeout: Duration::from_secs(2) }
    }
}

/// The flags of the table `keepalive`.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct KeepaliveArgs {
    /// Ask the other end of a connection for a sign of life this often, such as 1s
    #[arg(long = "keepalive-interval", id = "keepalive_interval", value_name = "DURATION")]
    pub interval: Option<String>,
    /// A connection without a sign of life for this long is broken, such as 2s
    #[arg(long = "keepalive-timeout", id = "keepalive_timeout", value_name = "DURATION")]
    pub timeout: Option<String>,
}

/// The text is not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not of the form host:port")]
pub struct BadAddress(pub Address);

/// How to connect to `address`. Nothing is sent before the caller connects.
pub fn endpoint(address: &Address, keepalive: &Keepalive) -> Result<Endpoint, BadAddress> {
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).map_err(|_| BadAddress(address.clone()))?;
    Ok(endpoint
        .tcp_nodelay(true)
        .connect_timeout(keepalive.timeout)
        .http2_keep_alive_interval(keepalive.interval)
        .keep_alive_timeout(keepalive.timeout)
        .keep_alive_while_idle(true))
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There can be none.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// Nobody answers there.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// Where.
        address: Address,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Connects to `address`, once.
pub async fn connect(address: &Address, keepalive: &Keepalive) -> Result<Channel, DialError> {
    let endpoint = endpoint(address, keepalive)?;
    endpoint.connect().await.map_err(|source| DialError::Unreachable { address: address.clone(), source })
}
