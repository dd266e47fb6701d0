//! Settings of the gateway.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use model::{Address, Name};
use serde::{Deserialize, Serialize};
use session_core::{Credit, GatewayParams};
use svc_kit::auth::{Auth, AuthError, AuthFiles};
use svc_kit::dial::{Keepalive, Wire};
use svc_kit::ops::Ops;
use svc_kit::process::{Arguments, CommonArgs};
use svc_kit::settings::{self, Invalid, Settings};
use svc_kit::telemetry::Log;
use svc_kit::tls::{Identity, Role, TlsError, TlsFiles};

use crate::seal::Key;

/// What the gateway runs with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster: servers of other clusters are refused.
    #[serde(default = "settings::default_cluster")]
    pub cluster: Name,
    /// The name of this gateway, unique among the gateways of the cluster.
    pub name: Name,
    /// Where connections of clients and of content servers are taken, on one port. Port 0 picks a free one.
    #[serde(default = "defaults::listen")]
    pub listen: SocketAddr,
    /// Under which `host:port` content servers reach this gateway; by default the address it listens on.
    #[serde(default, deserialize_with = "settings::address::given")]
    pub advertise: Option<Address>,
    /// The daemons, the preferred one first: another takes its place when it is lost.
    #[serde(default = "defaults::gcs", deserialize_with = "settings::address::list")]
    pub gcs: Vec<Address>,
    /// Where to put the address that was bound.
    pub ready_file: Option<PathBuf>,
    /// Where to write a trace.
    pub trace: Option<PathBuf>,
    /// How long calls under way may take at shutdown.
    #[serde(default = "defaults::drain_timeout", with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// Patience.
    #[serde(default)]
    pub sessions: Sessions,
    /// What makes cursors the cluster's own.
    #[serde(default)]
    pub cursors: Cursors,
    /// When a silent connection counts as broken.
    #[serde(default)]
    pub keepalive: Keepalive,
    /// Who this process is, and who says who others are.
    #[serde(default)]
    pub tls: TlsFiles,
    /// Which clients and operators are known by a token.
    #[serde(default)]
    pub auth: AuthFiles,
    /// Whether others than this computer may connect without TLS.
    #[serde(default)]
    pub insecure: bool,
    /// Metrics and health over HTTP.
    #[serde(default)]
    pub ops: Ops,
    /// Logging.
    #[serde(default)]
    pub log: Log,
}

/// The table `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most sessions.
    pub sessions: usize,
    /// The most requests of one session that may wait for their acknowledgement.
    pub requests: usize,
    /// The longest request, in bytes of JSON.
    pub request_bytes: usize,
    /// How many responses a server may be ahead of a client. They are kept in memory here.
    pub window: u64,
    /// How many bytes of them. The next response may be sent while there is some of both left.
    pub window_bytes: u64,
    /// How many bytes all servers may be ahead of all clients together: windows shrink where there are many sessions.
    pub buffer_bytes: u64,
    /// How many calls a second one principal may make, or one host where clients have no names; 0: as many as it likes.
    pub calls_per_second: u32,
    /// How many of them at once, after a while without any; 0: as many as in a second.
    pub calls_at_once: u32,
    /// How many connections one host may have; 0: as many as it likes.
    pub connections_per_host: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        let GatewayParams { sessions_max, requests_max, request_bytes_max, window, buffer_bytes, .. } =
            GatewayParams::default();
        Limits {
            sessions: sessions_max,
            requests: requests_max,
            request_bytes: request_bytes_max,
            window: window.responses,
            window_bytes: window.bytes,
            buffer_bytes,
            calls_per_second: 0,
            calls_at_once: 0,
            connections_per_host: 1024,
        }
    }
}

/// The table `cursors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cursors {
    /// The keys, the same at all gateways, each of 64 hexadecimal digits. The first one seals, all of them open: a new key
    /// comes last until all gateways have it, and then first; the old one goes when no client has a cursor of it any more.
    /// Without a key nothing is sealed.
    #[serde(deserialize_with = "settings::list")]
    pub keys: Vec<Key>,
}

/// The table `sessions`: how long things wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// How long a session waits for its client before it is ended.
    #[serde(with = "humantime_serde")]
    pub detach_ttl: Duration,
    /// How long a client waits for a server before it is told that there is none.
    #[serde(with = "humantime_serde")]
    pub no_replica_timeout: Duration,
    /// How long a server may say nothing to a client for which something is due, before it is replaced.
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
    /// After this time a multicast that nobody answered is repeated, and again after longer ones.
    #[serde(with = "humantime_serde")]
    pub retry: Duration,
}

impl Default for Sessions {
    fn default() -> Sessions {
        let GatewayParams { detach_ttl, no_replica_timeout, stall_timeout, retry, .. } =
            GatewayParams::default();
        Sessions { detach_ttl, no_replica_timeout, stall_timeout, retry }
    }
}

mod defaults {
    use super::*;

    pub fn listen() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 7400).into()
    }

    pub fn gcs() -> Vec<Address> {
        vec![Address::new("127.0.0.1:7410")]
    }

    pub fn drain_timeout() -> Duration {
        Duration::from_secs(25)
    }
}

impl Config {
    /// The settings of the machine.
    pub fn params(&self) -> GatewayParams {
        GatewayParams {
            sessions_max: self.limits.sessions,
            requests_max: self.limits.requests,
            request_bytes_max: self.limits.request_bytes,
            window: Credit { responses: self.limits.window, bytes: self.limits.window_bytes },
            buffer_bytes: self.limits.buffer_bytes,
            retry: self.sessions.retry,
            no_replica_timeout: self.sessions.no_replica_timeout,
            stall_timeout: self.sessions.stall_timeout,
            detach_ttl: self.sessions.detach_ttl,
            trace: self.trace.is_some(),
        }
    }
}

impl Settings for Config {
    const ROLE: Role = Role::Gateway;

    fn check(&self) -> Result<(), Invalid> {
        /// The longest request that fits a multicast of a daemon with the settings it comes with.
        const REQUEST_BYTES_MAX: usize = 512 * 1024;
        const WINDOW_MAX: u64 = 1024;
        /// A server that rests says so after a second.
        const STALL_MIN: Duration = Duration::from_secs(2);
        let zero = Duration::ZERO;
        let longer = "must be longer than nothing";
        let too_large = format!("must be 1 to {REQUEST_BYTES_MAX}");
        let too_wide = format!("must be 1 to {WINDOW_MAX}");
        let rules = [
            (!self.gcs.is_empty(), "gcs", "must name at least one daemon"),
            (self.limits.sessions > 0, "limits.sessions", "must be at least 1"),
            (self.limits.requests > 0, "limits.requests", "must be at least 1"),
            (
                (1..=REQUEST_BYTES_MAX).contains(&self.limits.request_bytes),
                "limits.request_bytes",
                &too_large,
            ),
            ((1..=WINDOW_MAX).contains(&self.limits.window), "limits.window", &too_wide),
            (self.limits.window_bytes > 0, "limits.window_bytes", "must be at least 1"),
            (self.limits.buffer_bytes > 0, "limits.buffer_bytes", "must be at least 1"),
            (self.sessions.retry > zero, "sessions.retry", longer),
            (self.sessions.no_replica_timeout > zero, "sessions.no_replica_timeout", longer),
            (self.sessions.stall_timeout >= STALL_MIN, "sessions.stall_timeout", "must be at least 2s"),
            (self.keepalive.interval > zero, "keepalive.interval", longer),
            (self.keepalive.timeout > zero, "keepalive.timeout", longer),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, reason)) => Err(Invalid { key, reason: reason.to_owned() }),
            None => self.tls.check(self.listen, self.insecure).and_then(|()| self.auth.check()),
        }
    }

    fn who(&self) -> (Name, Name) {
        (self.cluster, self.name)
    }

    fn log(&self) -> &Log {
        &self.log
    }

    fn wire(&self) -> Result<Wire, TlsError> {
        let own = Identity { cluster: self.cluster, role: Config::ROLE, name: self.name };
        Ok(Wire { keepalive: self.keepalive, tls: self.tls.open(own)?, token: None })
    }

    fn auth(&self) -> Result<Option<Auth>, AuthError> {
        self.auth.open()
    }

    fn listen(&self) -> SocketAddr {
        self.listen
    }
}

/// The command line.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct Args {
    /// What every service has.
    #[command(flatten)]
    #[serde(flatten)]
    pub common: CommonArgs,
    /// Addresses of group communication daemons, the preferred one first: 127.0.0.1:7410 unless set
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub gcs: Option<Vec<String>>,
    /// Limits.
    #[command(flatten)]
    pub limits: LimitsArgs,
    /// Patience.
    #[command(flatten)]
    pub sessions: SessionsArgs,
}

/// The flags of the table `limits`.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct LimitsArgs {
    /// How many calls a second one principal may make, or one host where clients have no names; 0, unless set: no limit
    #[arg(long = "calls-per-second", value_name = "N")]
    pub calls_per_second: Option<u32>,
    /// How many of them at once; 0, unless set: as many as in a second
    #[arg(long = "calls-at-once", value_name = "N")]
    pub calls_at_once: Option<u32>,
    /// How many connections one host may have: 1024 unless set; 0: no limit
    #[arg(long = "connections-per-host", value_name = "N")]
    pub connections_per_host: Option<usize>,
}

/// The flags of the table `sessions`.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct SessionsArgs {
    /// End a session whose client has been away for this long: 60s unless set
    #[arg(long = "detach-ttl", value_name = "DURATION")]
    pub detach_ttl: Option<String>,
    /// Tell a client that there is no server after this long: 10s unless set
    #[arg(long = "no-replica-timeout", value_name = "DURATION")]
    pub no_replica_timeout: Option<String>,
    /// Replace a server that says nothing for this long although something is due: 5s unless set
    #[arg(long = "stall-timeout", value_name = "DURATION")]
    pub stall_timeout: Option<String>,
}

impl Arguments for Args {
    fn common(&self) -> &CommonArgs {
        &self.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(env: &[(&str, &str)], file: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, file).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings::load(Some(&path), env, &Args::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_all_that_a_gateway_needs() {
        let config = load(&[], "name = 'gateway-1'").unwrap();
        assert_eq!(config.listen.port(), 7400);
        assert_eq!(config.gcs, [Address::new("127.0.0.1:7410")]);
        let (params, default) = (config.params(), GatewayParams::default());
        assert_eq!((params.window, params.detach_ttl), (default.window, default.detach_ttl));
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let timeout = "HANDOVER_SESSIONS__NO_REPLICA_TIMEOUT";
        for (env, file, message) in [
            (&[][..], "gcs = ' , '", "bad value for `gcs`: \" , \""),
            (&[(timeout, "0s")], "", "bad value for `sessions.no_replica_timeout`: \"0s\""),
            (&[(timeout, "soon")], "", "bad value for `sessions.no_replica_timeout`: \"soon\""),
            (&[], "limits.window = 5000", "bad value for `limits.window`: 5000"),
            (&[], "limits.windows = 5", "unknown setting `limits.windows`"),
        ] {
            let complaint = load(env, &format!("name = 'gateway-1'\n{file}")).unwrap_err();
            assert!(complaint.starts_with(message), "{complaint}");
        }
        assert!(load(&[], "name = 'No Name'").unwrap_err().starts_with("bad value for `name`: \"No Name\""));
        assert!(load(&[], "").unwrap_err().starts_with("the setting `name` is missing"));
    }
}
