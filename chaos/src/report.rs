//! What a group process says on its standard output: one report a line, as JSON.

use std::collections::BTreeMap;

use model::{Digest, GroupName, GroupViewId, ProcessId};
use serde::{Deserialize, Serialize};

/// What happened to a group process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// It is attached.
    Attached {
        /// As whom.
        process: ProcessId,
    },
    /// It went from one view of a group to another one.
    Moved(Move),
    /// It is not attached any more.
    Lost {
        /// As whom it was.
        process: ProcessId,
        /// What it was told.
        why: String,
    },
    /// It was told something that no member may be told.
    Wrong {
        /// Who it is.
        process: ProcessId,
        /// What.
        what: String,
    },
    /// It was asked to rest: it sends nothing and is in all groups, or will be.
    Resting(Rest),
}

/// A step from one view of a group to the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Who took it.
    pub process: ProcessId,
    /// The group.
    pub group: GroupName,
    /// The view that it left.
    pub from: GroupViewId,
    /// The view that it came to.
    pub to: GroupViewId,
    /// How many messages it was given in the view that it left.
    pub messages: u64,
    /// Which, and in which order.
    pub digest: Digest,
}

/// How a group process stands that sends nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// Who it is.
    pub process: ProcessId,
    /// How many of its own messages it has not been given, and ought to be.
    pub owed: usize,
    /// Of how many it asked what became of them, and was not told.
    pub unreported: usize,
    /// Its views.
    pub views: BTreeMap<GroupName, View>,
}

/// A view of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Which.
    pub id: GroupViewId,
    /// Who is in it.
    pub members: Vec<ProcessId>,
}
