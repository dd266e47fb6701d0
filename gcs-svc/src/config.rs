//! Settings of the daemon.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use model::{Address, Name};
use serde::{Deserialize, Serialize};
use svc_kit::auth::{Auth, AuthError, AuthFiles};
use svc_kit::detection::{Detection, DetectionArgs};
use svc_kit::dial::{Keepalive, Wire};
use svc_kit::ops::Ops;
use svc_kit::process::{Arguments, CommonArgs};
use svc_kit::settings::{self, Invalid, Settings};
use svc_kit::telemetry::Log;
use svc_kit::tls::{Identity, Role, TlsError, TlsFiles};

/// What the daemon runs with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster: daemons and processes of other clusters are refused.
    #[serde(default = "settings::default_cluster")]
    pub cluster: Name,
    /// The name of this daemon, unique in the cluster.
    pub name: Name,
    /// Where connections of processes and of other daemons are taken. Port 0 picks a free one.
    #[serde(default = "defaults::listen")]
    pub listen: SocketAddr,
    /// Under which `host:port` other daemons reach this one; by default the address it listens on.
    #[serde(default, deserialize_with = "settings::address::given")]
    pub advertise: Option<Address>,
    /// The membership servers, the preferred one first.
    #[serde(default = "defaults::membership", deserialize_with = "settings::address::list")]
    pub membership: Vec<Address>,
    /// Where to put the address that was bound.
    pub ready_file: Option<PathBuf>,
    /// Where to keep what has to be known after a restart: without it, this daemon does not vote for primary components.
    pub state_dir: Option<PathBuf>,
    /// Where to write a trace.
    pub trace: Option<PathBuf>,
    /// How long the farewell to processes and daemons may take.
    #[serde(default = "defaults::drain_timeout", with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// When silence is suspicious.
    #[serde(default)]
    pub detection: Detection,
    /// When a silent connection counts as broken on which nobody beats.
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

/// The table `limits`. Daemons of one cluster are meant to have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The longest payload of a process, in bytes.
    pub payload_bytes: usize,
    /// The most attached processes.
    pub processes: usize,
    /// A process that lets more events wait than this is evicted.
    pub events: usize,
    /// A process that lets more bytes of events wait than this is evicted.
    pub event_bytes: usize,
    /// The most groups that one process may be in.
    pub groups: usize,
    /// A member of a strict group that does not stop within this time when it is asked to is evicted.
    #[serde(with = "humantime_serde")]
    pub block_timeout: Duration,
}

impl Limits {
    /// The least that `payload_bytes` may be: what content servers and gateways send fits into it. Their longest messages are
    /// that of a server with all its units, and a commit with a response of half a MiB behind shorter ones.
    const PAYLOAD_BYTES_MIN: usize = 1 << 20;
    /// The most that `payload_bytes` may be: what fits a message together with the rest of a batch.
    const PAYLOAD_BYTES_MAX: usize = 2 << 20;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            payload_bytes: 1 << 20,
            processes: 4096,
            events: 64 * 1024,
            event_bytes: 64 << 20,
            groups: 1 << 16,
            block_timeout: Duration::from_secs(1),
        }
    }
}

mod defaults {
    use super::*;

    pub fn listen() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 7410).into()
    }

    pub fn membership() -> Vec<Address> {
        vec![Address::new("127.0.0.1:7420")]
    }

    pub fn drain_timeout() -> Duration {
        Duration::from_secs(5)
    }
}

impl Config {
    /// The settings of the machine.
    pub fn params(&self) -> gcs_core::Params {
        gcs_core::Params {
            payload_bytes_max: self.limits.payload_bytes,
            connections_max: self.limits.processes,
            groups_per_process_max: self.limits.groups,
            block_timeout: self.limits.block_timeout,
            detection: Some(self.detection.params()),
            trace: self.trace.is_some(),
            ..gcs_core::Params::lan()
        }
    }
}

impl Settings for Config {
    const ROLE: Role = Role::Machine;

    fn check(&self) -> Result<(), Invalid> {
        let zero = Duration::ZERO;
        let payload_bytes = Limits::PAYLOAD_BYTES_MIN..=Limits::PAYLOAD_BYTES_MAX;
        let in_bounds = format!("must be {} to {}", payload_bytes.start(), payload_bytes.end());
        let rules = [
            (!self.membership.is_empty(), "membership", "must name at least one server"),
            (payload_bytes.contains(&self.limits.payload_bytes), "limits.payload_bytes", &in_bounds),
            (self.limits.processes > 0, "limits.processes", "must be at least 1"),
            (self.limits.events > 0, "limits.events", "must be at least 1"),
            (self.limits.groups > 0, "limits.groups", "must be at least 1"),
            (self.limits.block_timeout > zero, "limits.block_timeout", "must be longer than nothing"),
            (
                self.limits.event_bytes >= self.limits.payload_bytes.max(self.limits.events),
                "limits.event_bytes",
                "must be at least `limits.payload_bytes` and `limits.events`",
            ),
            (self.keepalive.interval > zero, "keepalive.interval", "must be longer than nothing"),
            (self.keepalive.timeout > zero, "keepalive.timeout", "must be longer than nothing"),
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
        Ok(Wire {
            keepalive: self.detection.backstop(&self.keepalive),
            tls: self.tls.open(own)?,
            token: None,
        })
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
    /// Addresses of membership servers, the preferred one first: 127.0.0.1:7420 unless set
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub membership: Option<Vec<String>>,
    /// Directory for what has to be known after a restart; without it, this daemon does not vote for primary components
    #[arg(long, value_name = "DIRECTORY")]
    pub state_dir: Option<PathBuf>,
    /// Detection of silent peers and servers.
    #[command(flatten)]
    pub detection: DetectionArgs,
}

impl Arguments for Args {
    fn common(&self) -> &CommonArgs {
        &self.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let env = pairs.iter().map(|(name, value)| (format!("HANDOVER_{name}"), (*value).to_owned()));
        settings::load(None, env, &Args::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_enough_and_flags_override() {
        let config = load(&[("NAME", "machine-1")]).unwrap();
        assert_eq!((config.cluster.as_str(), config.listen.port()), ("handover", 7410));
        assert_eq!(config.params().check(), Ok(()));
        let flags = Args { membership: Some(vec!["a:1".into(), "b:2".into()]), ..Args::default() };
        let env = [("HANDOVER_NAME".to_owned(), "machine-1".to_owned())];
        let config: Config = settings::load(None, env.clone(), &flags).unwrap();
        assert_eq!(config.membership, [Address::new("a:1"), Address::new("b:2")]);
        let detection = DetectionArgs { profile: Some("wan".into()) };
        let config: Config = settings::load(None, env, &Args { detection, ..flags }).unwrap();
        assert_eq!(config.params().detection, Some(detector::Profile::Wan.params()));
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (name, value, message) in [
            (
                "LISTEN",
                "here",
                "bad value for `listen`: \"here\" from HANDOVER_LISTEN: invalid socket address syntax",
            ),
            (
                "MEMBERSHIP",
                "",
                "bad value for `membership`: \"\" from HANDOVER_MEMBERSHIP: must name at least one server",
            ),
            (
                "LIMITS__PAYLOAD_BYTES",
                "9999999",
                "bad value for `limits.payload_bytes`: \"9999999\" from HANDOVER_LIMITS__PAYLOAD_BYTES: must be 1048576 to 2097152",
            ),
            (
                "LIMITS__PAYLOAD_BYTES",
                "1048575",
                "bad value for `limits.payload_bytes`: \"1048575\" from HANDOVER_LIMITS__PAYLOAD_BYTES: must be 1048576 to 2097152",
            ),
            (
                "LIMITS__PROCESS",
                "1",
                "unknown setting `limits.process` in HANDOVER_LIMITS__PROCESS; did you mean `limits.processes`?",
            ),
            (
                "KEEPALIVE__INTERVAL",
                "0s",
                "bad value for `keepalive.interval`: \"0s\" from HANDOVER_KEEPALIVE__INTERVAL: must be longer than nothing",
            ),
            (
                "DETECTION__PROFILE",
                "slow",
                "bad value for `detection.profile`: \"slow\" from HANDOVER_DETECTION__PROFILE: must be fast, lan or wan",
            ),
            (
                "DRAIN_TIMEOUT",
                "5",
                "bad value for `drain_timeout`: \"5\" from HANDOVER_DRAIN_TIMEOUT: expected a duration",
            ),
        ] {
            assert_eq!(load(&[("NAME", "machine-1"), (name, value)]).unwrap_err(), message);
        }
    }
}
