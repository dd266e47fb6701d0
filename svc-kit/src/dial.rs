//! Connections to other processes, with the same care for silence at both ends.

use std::time::Duration;

use model::Address;
use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint};

use crate::auth::Bearer;
use crate::status;
use crate::tls::{Role, Tls};

/// The largest message that any service takes or sends, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The largest HTTP/2 frame that either end of a connection takes, in bytes: a batch of messages goes out in a few.
pub(crate) const FRAME_BYTES_MAX: u32 = 128 * 1024;

/// The table `keepalive`: when a silent connection counts as broken. The cost is one small frame each way for each
/// connection and interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
    /// Ask the other end of a connection for a sign of life this often: 1s unless set
    #[arg(long = "keepalive-interval", id = "keepalive_interval", value_name = "DURATION")]
    pub interval: Option<String>,
    /// A connection without a sign of life for this long is broken: 2s unless set
    #[arg(long = "keepalive-timeout", id = "keepalive_timeout", value_name = "DURATION")]
    pub timeout: Option<String>,
}

/// The text is not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not of the form host:port")]
pub struct BadAddress(pub Address);

/// How connections of a process are made, both ways: with what care for silence, and as whom. Clients show a token with each
/// call.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    /// When a silent connection counts as broken.
    pub keepalive: Keepalive,
    /// Who this process is, where connections are TLS.
    pub tls: Option<Tls>,
    /// Who calls, where that is asked for.
    pub token: Option<Bearer>,
}

impl Wire {
    /// How to connect to the process of that role at `address`. Nothing is sent before the caller connects.
    ///
    /// # Errors
    /// If there can be no connection to such an address.
    pub fn endpoint(&self, address: &Address, role: Role) -> Result<Endpoint, DialError> {
        let bad = || BadAddress(address.clone());
        let unreachable = |error| DialError::Unreachable { address: address.clone(), error };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|_| bad())?;
        let endpoint = endpoint
            .tcp_nodelay(true)
            .max_frame_size(FRAME_BYTES_MAX)
            .connect_timeout(self.keepalive.timeout)
            .http2_keep_alive_interval(self.keepalive.interval)
            .keep_alive_timeout(self.keepalive.timeout)
            .keep_alive_while_idle(true);
        match &self.tls {
            Some(tls) => endpoint.tls_config(tls.client(role)).map_err(unreachable),
            None => Ok(endpoint),
        }
    }

    /// A call of a client.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = &self.token {
            token.show(&mut request);
        }
        request
    }

    /// Connects to the process of that role at `address`, once.
    ///
    /// # Errors
    /// If nobody answers there, or not a process of that role.
    pub async fn connect(&self, address: &Address, role: Role) -> Result<Channel, DialError> {
        let endpoint = self.endpoint(address, role)?;
        endpoint.connect().await.map_err(|error| DialError::Unreachable { address: address.clone(), error })
    }
}

/// How long to wait before the next attempt to reach somebody: 5 ms, then twice as long each time, up to 500 ms.
#[derive(Clone, Copy, Debug)]
pub struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(5);
    const LAST: Duration = Duration::from_millis(500);

    /// From the shortest wait on.
    pub const fn new() -> Backoff {
        Backoff(Backoff::FIRST)
    }

    /// Waits.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Backoff::LAST);
    }

    /// Whether there was no pause yet, since the start or since an attempt succeeded.
    pub fn is_fresh(&self) -> bool {
        self.0 == Backoff::FIRST
    }

    /// The attempt succeeded: the next wait is the shortest again.
    pub fn reset(&mut self) {
        *self = Backoff::new();
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There can be none.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// Nobody answers there.
    #[error("cannot reach {address}: {}", status::innermost(.error))]
    Unreachable {
        /// Where.
        address: Address,
        /// Why. Not the source of this one, which would be told once more.
        error: tonic::transport::Error,
    },
}

impl DialError {
    /// Why there is none, without the address.
    pub fn cause(&self) -> String {
        match self {
            DialError::Address(bad) => bad.to_string(),
            DialError::Unreachable { error, .. } => status::innermost(error).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_limit_and_start_again() {
        let mut backoff = Backoff::new();
        let pause = async |backoff: &mut Backoff| {
            let start = tokio::time::Instant::now();
            backoff.pause().await;
            start.elapsed().as_millis()
        };
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pauses.push(pause(&mut backoff).await);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 500, 500]);
        assert!(!backoff.is_fresh());
        backoff.reset();
        assert!(backoff.is_fresh());
        assert_eq!(pause(&mut backoff).await, 5);
    }

    #[test]
    fn an_address_without_form_is_refused() {
        let bad = Address::new("no port here");
        let refused = Wire::default().endpoint(&bad, Role::Gateway);
        assert!(matches!(refused, Err(DialError::Address(BadAddress(it))) if it == bad));
    }
}
