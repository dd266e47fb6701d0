//! Settings of the membership server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use membership_core::Protocol;
use membership_core::{Params, Rule};
use model::{Address, Name};
use serde::{Deserialize, Deserializer, Serialize};
use svc_kit::auth::{Auth, AuthError, AuthFiles};
use svc_kit::detection::{Detection, DetectionArgs};
use svc_kit::dial::{Keepalive, Wire};
use svc_kit::ops::Ops;
use svc_kit::process::{Arguments, CommonArgs};
use svc_kit::settings::{self, Invalid, Settings};
use svc_kit::telemetry::Log;
use svc_kit::tls::{Identity, Role, TlsError, TlsFiles};

/// What the server runs with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster: daemons and servers of other clusters are refused.
    #[serde(default = "settings::default_cluster")]
    pub cluster: Name,
    /// The name of this server, unique in the cluster.
    pub name: Name,
    /// Where connections are taken. Port 0 picks a free one.
    #[serde(default = "defaults::listen")]
    pub listen: SocketAddr,
    /// Under which `host:port` others reach this server; by default the address it listens on.
    #[serde(default, deserialize_with = "settings::address::given")]
    pub advertise: Option<Address>,
    /// All membership servers of the cluster; this one may be left out. Empty if it is the only one.
    #[serde(default, deserialize_with = "settings::list")]
    pub peers: Vec<Peer>,
    /// How membership servers agree: `moshe` or `wombat`. All of a cluster have to do it alike.
    #[serde(default, deserialize_with = "protocol", serialize_with = "settings::text")]
    pub protocol: Protocol,
    /// Where to put the address that was bound.
    pub ready_file: Option<PathBuf>,
    /// Accepted like everywhere, and not used: what this server tells a daemon is in the trace of that daemon.
    pub trace: Option<PathBuf>,
    /// How long the farewell to daemons and servers may take.
    #[serde(default = "defaults::drain_timeout", with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// What kind of network this is: when silence is suspicious, and the defaults of the times below.
    #[serde(default)]
    pub detection: Detection,
    /// How long a join waits for more joins.
    #[serde(default, with = "humantime_serde::option")]
    pub settle: Option<Duration>,
    /// How long the first daemons of a configuration that came into being elsewhere wait for the others.
    #[serde(default, with = "humantime_serde::option")]
    pub regather: Option<Duration>,
    /// How long a daemon whose stream broke has to attach again, while no other daemon misses it.
    #[serde(default, with = "humantime_serde::option")]
    pub grace: Option<Duration>,
    /// The daemons that decide which configuration is the primary component: the one that has more than half of them,
    /// or half and among them the one whose name is the least. Empty: none is.
    #[serde(default, deserialize_with = "settings::list")]
    pub voters: Vec<Name>,
    /// Whether a majority of those voters makes a primary component, or a majority of the last one, of which the first
    /// has a majority of the voters.
    #[serde(default)]
    pub voting: Voting,
    /// How many daemons there may be.
    #[serde(default = "defaults::daemons")]
    pub daemons: usize,
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

/// Who has to be in the primary component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Voting {
    /// A majority of the voters, always.
    #[default]
    Static,
    /// A majority of the last primary component.
    Dynamic,
}

/// Another membership server, written `NAME=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Peer {
    /// Its name.
    pub name: Name,
    /// Where it takes connections.
    pub address: Address,
}

/// The text does not name a server and its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be NAME=HOST:PORT, such as membership-2=10.0.0.2:7420")]
pub struct BadPeer;

impl FromStr for Peer {
    type Err = BadPeer;

    fn from_str(text: &str) -> Result<Peer, BadPeer> {
        let (name, address) = text.split_once('=').ok_or(BadPeer)?;
        let address = settings::address::parse(address).ok_or(BadPeer)?;
        Ok(Peer { name: name.parse().map_err(|_| BadPeer)?, address })
    }
}

impl Serialize for Peer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}={}", self.name, self.address))
    }
}

impl TryFrom<String> for Peer {
    type Error = BadPeer;

    fn try_from(text: String) -> Result<Peer, BadPeer> {
        text.parse()
    }
}

fn protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

mod defaults {
    use super::*;

    pub fn listen() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 7420).into()
    }

    pub fn drain_timeout() -> Duration {
        Duration::from_secs(5)
    }

    pub fn daemons() -> usize {
        Params::lan().daemons_max
    }
}

impl Config {
    /// The most servers that a cluster may have: each sends its proposals to each.
    const SERVERS_MAX: usize = 7;

    /// The settings of the machine.
    pub fn params(&self) -> Params {
        let mut params = Params::of(self.detection.profile);
        params.settle = self.settle.unwrap_or(params.settle);
        params.regather = self.regather.unwrap_or(params.regather);
        params.grace = self.grace.unwrap_or(params.grace);
        if !self.voters.is_empty() {
            let voters = self.voters.iter().copied().collect();
            params.primary = match self.voting {
                Voting::Static => Rule::Majority(voters),
                Voting::Dynamic => Rule::Dynamic(voters),
            };
        }
        Params { protocol: self.protocol, daemons_max: self.daemons, ..params }
    }

    /// The other servers.
    pub fn others(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.name != self.name)
    }
}

impl Settings for Config {
    const ROLE: Role = Role::Membership;

    fn check(&self) -> Result<(), Invalid> {
        let zero = Duration::ZERO;
        let distinct: std::collections::BTreeSet<_> = self.peers.iter().map(|peer| peer.name).collect();
        let voters: std::collections::BTreeSet<_> = self.voters.iter().collect();
        let addresses: std::collections::BTreeSet<_> = self.peers.iter().map(|peer| &peer.address).collect();
        let too_many = format!("must name at most {} other servers", Config::SERVERS_MAX - 1);
        let rules = [
            (distinct.len() == self.peers.len(), "peers", "must name each server once"),
            (addresses.len() == self.peers.len(), "peers", "must give each server an address of its own"),
            (self.others().count() < Config::SERVERS_MAX, "peers", too_many.as_str()),
            (self.daemons > 0, "daemons", "must be at least 1"),
            (voters.len() == self.voters.len(), "voters", "must name each daemon once"),
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
    /// All membership servers of the cluster, if there are several
    #[arg(long, value_name = "NAME=HOST:PORT", value_delimiter = ',')]
    pub peers: Option<Vec<String>>,
    /// How membership servers agree: moshe, unless set, or wombat
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// Detection of silent daemons and servers.
    #[command(flatten)]
    pub detection: DetectionArgs,
    /// A daemon that joins waits this long for others that do: with the profile lan 20ms unless set
    #[arg(long, value_name = "DURATION")]
    pub settle: Option<String>,
    /// A daemon whose connection broke may take this long to come back, if no other daemon misses it: with the
    /// profile lan 1.6s unless set
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<String>,
    /// After a restart, wait this long for daemons to come back: with the profile lan 1s unless set
    #[arg(long, value_name = "DURATION")]
    pub regather: Option<String>,
    /// Daemons of which the primary component has a majority; without them, none is primary
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub voters: Option<Vec<String>>,
    /// `static`, unless set: the primary component has a majority of the voters; `dynamic`: one of the primary component before
    /// it
    #[arg(long, value_name = "RULE")]
    pub voting: Option<String>,
    /// How many daemons there may be: 128 unless set
    #[arg(long, value_name = "NUMBER")]
    pub daemons: Option<usize>,
}

impl Arguments for Args {
    fn common(&self) -> &CommonArgs {
        &self.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &Args) -> Result<Config, String> {
        settings::load(None, [], flags).map_err(|error| error.to_string())
    }

    fn flags(peers: &[&str]) -> Args {
        let peers = peers.iter().map(|peer| (*peer).to_owned()).collect();
        let common = CommonArgs { name: Some("m-1".to_owned()), ..CommonArgs::default() };
        Args { common, peers: Some(peers), ..Args::default() }
    }

    #[test]
    fn one_list_of_servers_fits_all_of_them() {
        let config = load(&flags(&["m-1=a:1", "m-2=b:2"])).unwrap();
        let other = Peer { name: "m-2".parse().unwrap(), address: Address::new("b:2") };
        assert_eq!(config.others().collect::<Vec<_>>(), [&other]);
        assert_eq!(load(&Args { peers: None, ..flags(&[]) }).unwrap().peers, []);
    }

    #[test]
    fn errors_name_the_setting() {
        let cases: [(Args, &str); 7] = [
            (
                Args { detection: DetectionArgs { profile: Some("slow".to_owned()) }, ..flags(&[]) },
                "detection.profile",
            ),
            (flags(&["m-2=b"]), "peers"),
            (flags(&["b:2"]), "peers"),
            (flags(&["m-2=b:1", "m-2=b:2"]), "peers"),
            (Args { daemons: Some(0), ..flags(&[]) }, "daemons"),
            (Args { protocol: Some("paxos".to_owned()), ..flags(&[]) }, "protocol"),
            (Args { settle: Some("soon".to_owned()), ..flags(&[]) }, "settle"),
        ];
        for (flags, setting) in cases {
            let error = load(&flags).unwrap_err();
            assert!(error.contains(&format!("`{setting}`")), "{error}");
        }
    }
}
