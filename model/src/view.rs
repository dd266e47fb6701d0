//! Views: of daemons, which we call configurations, and of processes in a group.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{ConfigurationId, DaemonId, Digest, GroupName, Name, ProcessId, StartId};

/// Where a daemon or gateway takes connections, as `host:port`. Opaque to the machines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(Arc<str>);

impl Address {
    /// The address with this text.
    pub fn new(text: &str) -> Address {
        Address(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A view of daemons: the triple `<id, members, start ids>` of the membership service [KK:view]. The start id of a
/// member says which of its syncs counts for the way into this configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Configuration {
    /// Grows along the history of each member.
    pub id: ConfigurationId,
    /// Each member with the id of the last start change that it was told before this configuration.
    pub members: BTreeMap<DaemonId, StartId>,
    /// Whether it is the primary component: of all configurations that exist side by side, at most one is. False where
    /// no rule says which.
    #[serde(default)]
    pub primary: bool,
}

impl Configuration {
    /// The configuration with this counter and these members, which is not the primary component. Its digest follows
    /// from them.
    pub fn new(counter: u64, members: BTreeMap<DaemonId, StartId>) -> Configuration {
        let digest = members.iter().fold(Digest::EMPTY, |digest, (daemon, start)| {
            digest
                .and(daemon.name().as_str().as_bytes())
                .and(&daemon.boot().number().to_le_bytes())
                .and(&start.boot().number().to_le_bytes())
                .and(&start.number().to_le_bytes())
        });
        Configuration { id: ConfigurationId::new(counter, digest.bits()), members, primary: false }
    }

    /// Where a daemon is before its first configuration: alone, under an id below every other.
    pub fn initial(daemon: DaemonId) -> Configuration {
        Configuration::new(0, BTreeMap::from([(daemon, StartId::new(daemon.boot(), 0))]))
    }

    /// The configuration with the same counter and members that is the primary component, or is not: these are two, each
    /// with an id of its own.
    #[must_use]
    pub fn with_primary(self, primary: bool) -> Configuration {
        let plain = Configuration::new(self.id.counter(), self.members);
        if !primary {
            return plain;
        }
        let digest = Digest::EMPTY.and(&plain.id.digest().to_le_bytes()).and(b"primary");
        let id = ConfigurationId::new(plain.id.counter(), digest.bits());
        Configuration { id, primary, ..plain }
    }

    /// The members without their start ids.
    pub fn set(&self) -> BTreeSet<DaemonId> {
        self.members.keys().copied().collect()
    }
}

/// The id of a group's view: increases at each process, over all views of the group that it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupViewId {
    /// The configuration in which the view came to be.
    pub configuration: ConfigurationId,
    /// Place in the total order of that configuration. Places below the number of its members belong to views that
    /// came with the configuration itself: 0, but where daemons of several histories meet, the least rank of each.
    pub position: u64,
}

impl GroupViewId {
    /// Below every view that a process is told.
    pub const NONE: GroupViewId = GroupViewId { configuration: ConfigurationId::new(0, 0), position: 0 };
}

impl fmt::Display for GroupViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.configuration, self.position)
    }
}

/// A process in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub process: ProcessId,
    /// What it calls itself; not unique, not used by protocols.
    pub name: Name,
}

/// A view of a group, as one of its members is told it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupView {
    /// The group.
    pub group: GroupName,
    /// Increases along the history of each member.
    pub id: GroupViewId,
    /// The members, in the order of their ids: the same list at every member.
    pub members: Vec<Member>,
    /// Who is in this view and was not in this member's previous one.
    pub joined: Vec<ProcessId>,
    /// Who was in this member's previous view and is not in this one.
    pub left: Vec<ProcessId>,
    /// Who came along from the same previous view, and so delivered the same messages in it [VKCD:transitional-set].
    pub transitional: Vec<ProcessId>,
    /// Whether it came to be in the primary component ([`Configuration::primary`]).
    #[serde(default)]
    pub primary: bool,
}
