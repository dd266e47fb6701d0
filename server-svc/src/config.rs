//! Settings of the content server.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use model::{Address, Level, Name, UnitId};
use serde::{Deserialize, Serialize};
use session_core::{Components, Params, Policy, Rebuild, Uncertain};
use svc_kit::auth::{Auth, AuthError, AuthFiles};
use svc_kit::dial::{Keepalive, Wire};
use svc_kit::ops::Ops;
use svc_kit::process::{Arguments, CommonArgs};
use svc_kit::settings::{self, Invalid, Settings};
use svc_kit::telemetry::Log;
use svc_kit::tls::{Identity, Role, TlsError, TlsFiles};

use crate::store::Selection;

/// What the content server runs with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster: daemons and gateways of other clusters refuse this server.
    #[serde(default = "settings::default_cluster")]
    pub cluster: Name,
    /// The name of this server, unique among the content servers of the cluster.
    pub name: Name,
    /// Where connections of operators are taken. Port 0 picks a free one.
    #[serde(default = "defaults::listen")]
    pub listen: SocketAddr,
    /// Under which `host:port` operators reach this server; by default the address it listens on.
    #[serde(default, deserialize_with = "settings::address::given")]
    pub advertise: Option<Address>,
    /// The daemons, the preferred one first: the one on the same machine.
    #[serde(default = "defaults::gcs", deserialize_with = "settings::address::list")]
    pub gcs: Vec<Address>,
    /// The directory of content.
    pub content: PathBuf,
    /// Which of its units to hold; all of them if none is named.
    #[serde(default, deserialize_with = "settings::list")]
    pub units: Vec<UnitId>,
    /// How sessions are kept available.
    #[serde(default)]
    pub sessions: Sessions,
    /// How long before its time a fragment of a film is sent.
    #[serde(default = "defaults::lead", with = "humantime_serde")]
    pub lead: Duration,
    /// Where to put the address that was bound.
    pub ready_file: Option<PathBuf>,
    /// Where to write a trace.
    pub trace: Option<PathBuf>,
    /// How long handing the sessions over may take at shutdown.
    #[serde(default = "defaults::drain_timeout", with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// How long the service may take to return, before this server leaves all groups until it does.
    #[serde(default = "defaults::hang_timeout", with = "humantime_serde")]
    pub hang_timeout: Duration,
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

/// The table `sessions`. Where replicas of a unit are running already, their policy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Servers beside the primary that apply every request.
    pub backups: u8,
    /// How often contexts that changed are told to all replicas of the unit.
    #[serde(with = "humantime_serde")]
    pub period: Duration,
    /// How long a session waits for its client, while no gateway answers for it, before it is ended.
    #[serde(with = "humantime_serde")]
    pub detach_ttl: Duration,
    /// Where sessions are served while the cluster is partitioned.
    pub components: Where,
    /// What a new primary does about responses that the one before it may have sent.
    pub uncertain: Doubt,
    /// How surely the session group has each response before its client is sent it, if the service does not demand more.
    pub commit: Commit,
    /// What becomes of a session that all servers have forgotten, and whose client comes back.
    pub rebuild: Anew,
}

/// What becomes of a session that all servers have forgotten, when its client brings a cursor that the cluster sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Anew {
    /// It is lost
    Never,
    /// It is made anew, from the context in the cursor
    Allowed,
}

impl Anew {
    fn policy(self) -> Rebuild {
        match self {
            Anew::Never => Rebuild::Never,
            Anew::Allowed => Rebuild::Allowed,
        }
    }
}

/// How surely a session group has a response before the client is sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Commit {
    /// It need not have it
    None,
    /// The response has its place in the order of the group
    Agreed,
    /// Every daemon of the configuration holds it
    Safe,
}

impl Commit {
    fn policy(self) -> Option<Level> {
        match self {
            Commit::None => None,
            Commit::Agreed => Some(Level::Agreed),
            Commit::Safe => Some(Level::Safe),
        }
    }
}

/// What becomes of uncertain responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// Ask the gateway which of them the client has: none is lost or repeated
    Ask,
    /// Send them again: some come twice
    Resend,
    /// Leave them out: some never come
    Skip,
    /// Send those again that the service calls essential, and leave out the others
    Essential,
}

impl Doubt {
    fn policy(self) -> Uncertain {
        match self {
            Doubt::Ask => Uncertain::Ask,
            Doubt::Resend => Uncertain::Resend,
            Doubt::Skip => Uncertain::Skip,
            Doubt::Essential => Uncertain::Essential,
        }
    }
}

/// Which components of a partitioned cluster serve sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Where {
    /// Each serves whom it reaches
    Any,
    /// Only the primary component does; membership servers have to know the voters
    Primary,
}

impl Where {
    fn policy(self) -> Components {
        match self {
            Where::Any => Components::Any,
            Where::Primary => Components::Primary,
        }
    }
}

impl Default for Sessions {
    fn default() -> Sessions {
        let Params { policy, detach_ttl, .. } = Params::default();
        Sessions {
            backups: policy.backups,
            period: policy.period,
            detach_ttl,
            components: Where::Any,
            uncertain: Doubt::Ask,
            commit: Commit::None,
            rebuild: Anew::Never,
        }
    }
}

mod defaults {
    use super::*;

    pub fn listen() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 7430).into()
    }

    pub fn gcs() -> Vec<Address> {
        vec![Address::new("127.0.0.1:7410")]
    }

    pub fn lead() -> Duration {
        vod::LEAD_DEFAULT
    }

    pub fn hang_timeout() -> Duration {
        Duration::from_secs(10)
    }

    pub fn drain_timeout() -> Duration {
        Duration::from_secs(25)
    }
}

impl Config {
    /// The settings of the machine.
    pub fn params(&self) -> Params {
        Params {
            policy: Policy {
                backups: self.sessions.backups,
                period: self.sessions.period,
                components: self.sessions.components.policy(),
                uncertain: self.sessions.uncertain.policy(),
                commit: self.sessions.commit.policy(),
                rebuild: self.sessions.rebuild.policy(),
            },
            detach_ttl: self.sessions.detach_ttl,
            trace: self.trace.is_some(),
            ..Params::default()
        }
    }

    /// Which units of the directory are held.
    pub fn selection(&self) -> Selection {
        let units: BTreeSet<UnitId> = self.units.iter().cloned().collect();
        if units.is_empty() { Selection::All } else { Selection::Units(units) }
    }
}

impl Settings for Config {
    const ROLE: Role = Role::Server;

    fn check(&self) -> Result<(), Invalid> {
        let (zero, longer) = (Duration::ZERO, "must be longer than nothing");
        let rules = [
            (!self.gcs.is_empty(), "gcs", "must name at least one daemon"),
            (self.sessions.period >= Policy::PERIOD_MIN, "sessions.period", "must be at least 1ms"),
            (self.sessions.period <= Policy::PERIOD_MAX, "sessions.period", "must be at most 1h"),
            (self.hang_timeout > zero, "hang_timeout", longer),
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
    /// Directory of content: every file UNIT.mp4, UNIT.course.toml, UNIT.collection.md, UNIT.tokens.txt or UNIT.kv.toml in it
    /// is a content unit
    #[arg(long, value_name = "DIR")]
    pub content: Option<PathBuf>,
    /// Hold only these units of the directory
    #[arg(long, value_name = "UNIT", value_delimiter = ',')]
    pub units: Option<Vec<String>>,
    /// Send a fragment this long before its time: 2s unless set
    #[arg(long, value_name = "DURATION")]
    pub lead: Option<String>,
    /// Leave all groups when the service does not return for this long: 10s unless set
    #[arg(long, value_name = "DURATION")]
    pub hang_timeout: Option<String>,
    /// Availability.
    #[command(flatten)]
    pub sessions: SessionsArgs,
}

/// The flags of the table `sessions`.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct SessionsArgs {
    /// Servers beside the primary that apply every request of a session: 1 unless set
    #[arg(long, value_name = "NUMBER")]
    pub backups: Option<u8>,
    /// Propagate contexts that changed this often: 500ms unless set
    #[arg(long, value_name = "DURATION")]
    pub period: Option<String>,
    /// End a session without a client or a gateway after this long: 60s unless set
    #[arg(long, value_name = "DURATION")]
    pub detach_ttl: Option<String>,
    /// Where sessions are served while the cluster is partitioned: any unless set
    #[arg(long, value_enum, value_name = "WHERE")]
    pub components: Option<Where>,
    /// What a new primary does about responses that the one before it may have sent: ask unless set
    #[arg(long, value_enum, value_name = "WHAT")]
    pub uncertain: Option<Doubt>,
    /// Send a response only when the session group has it: none unless set
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub commit: Option<Commit>,
    /// What becomes of a session that all servers have forgotten, and whose client comes back: never unless set
    #[arg(long, value_enum, value_name = "WHETHER")]
    pub rebuild: Option<Anew>,
}

impl Arguments for Args {
    fn common(&self) -> &CommonArgs {
        &self.common
    }
}
