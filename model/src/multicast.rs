//! What a sender asks of a multicast, and what it is told of it.

use serde::{Deserialize, Serialize};

use crate::GroupViewId;

/// How surely a message has reached the others when a member is given it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It has its place in the total order.
    #[default]
    Agreed,
    /// It has its place in the total order, and every daemon of the configuration holds it and all that comes before
    /// it: whoever lives and stays is given it too [VKCD:safe].
    Safe,
}

/// On what terms a message is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How surely it must have reached the others.
    pub level: Level,
    /// It is for this view of the group, or for nobody.
    pub only_in: Option<GroupViewId>,
    /// Whether the sender wants to hear what became of it. If nobody is given it on account of another term, the
    /// sender is told in any case.
    pub report: bool,
}

/// What became of a multicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was given to the members of the group.
    Delivered {
        /// Their view.
        view: GroupViewId,
        /// How surely it has reached them.
        level: Level,
    },
    /// Nobody is in the group.
    NoMembers,
    /// It was for another view of the group: nobody is given it.
    OtherView {
        /// The view that came instead; nothing if nobody is in the group.
        view: Option<GroupViewId>,
    },
    /// The sender is blocked in this strict group: nobody is given it.
    Blocked,
}
