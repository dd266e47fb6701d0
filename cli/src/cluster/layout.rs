//! What a local cluster consists of: how its processes are called, and which machine holds which unit.

use std::collections::BTreeSet;
use std::fmt;

use model::Name;
use serde::{Deserialize, Serialize};
use svc_kit::tls::Role;

/// A kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// `membership-svc`.
    Membership,
    /// `gcs-svc`: the daemon of a machine.
    Daemon,
    /// `server-svc`: the content server of a machine.
    Server,
    /// `gateway`.
    Gateway,
}

impl Service {
    /// The subcommand that runs it.
    pub fn subcommand(self) -> &'static str {
        match self {
            Service::Membership => "membership-svc",
            Service::Daemon => "gcs-svc",
            Service::Server => "server-svc",
            Service::Gateway => "gateway",
        }
    }

    /// What its processes are there for.
    pub fn role(self) -> Role {
        match self {
            Service::Membership => Role::Membership,
            Service::Daemon => Role::Machine,
            Service::Server => Role::Server,
            Service::Gateway => Role::Gateway,
        }
    }

    fn stem(self) -> &'static str {
        self.role().as_str()
    }

    /// The name of its process number `number`, from 1: `server-2`.
    pub fn name(self, number: usize) -> Name {
        let name = format!("{}-{number}", self.stem()).parse();
        let Ok(name) = name else { unreachable!("the stem and a number are a name") };
        name
    }

    /// The process that a user means by `text`: `server-2`, or `2` for short.
    pub fn named(self, text: &str) -> Option<Name> {
        let number = text.strip_prefix(self.stem()).and_then(|it| it.strip_prefix('-')).unwrap_or(text);
        Some(self.name(number.parse().ok()?))
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.stem())
    }
}

/// The machines, of 1 to `machines`, that hold unit number `unit`, from 0: `replicas` of them, other ones for each
/// unit, so that no machine holds all while there are more machines than replicas and enough units.
pub fn holders(unit: usize, machines: usize, replicas: usize) -> BTreeSet<usize> {
    (0..replicas.min(machines)).map(|replica| (unit + replica) % machines + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_partial_and_spread() {
        let held = |film| holders(film, 4, 3).into_iter().collect::<Vec<_>>();
        assert_eq!([held(0), held(1), held(2)], [vec![1, 2, 3], vec![2, 3, 4], vec![1, 3, 4]]);
        assert_eq!(holders(5, 2, 3), BTreeSet::from([1, 2]));
        assert_eq!(holders(5, 1, 1), BTreeSet::from([1]));
    }

    #[test]
    fn a_process_is_meant_by_its_name_or_its_number() {
        let server_2 = Service::Server.name(2);
        assert_eq!(server_2.as_str(), "server-2");
        assert_eq!(Service::Server.named("server-2"), Some(server_2));
        assert_eq!(Service::Server.named("2"), Some(server_2));
        assert_eq!(Service::Server.named("machine-2"), None);
        assert_eq!(Service::Daemon.named("machine-2").unwrap().as_str(), "machine-2");
    }
}
