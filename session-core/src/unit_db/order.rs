//! What becomes of an operator's order. Every replica decides it at its place in the order of the content group, so that
//! no two can differ on it.

use core::fmt;

use super::{Policy, Relocation};
use crate::edition::Edition;

/// An order that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// A session is moved.
    Moved(Relocation),
    /// The unit has this policy from here on.
    Adjusted(Policy),
    /// New sessions are opened on this edition from here on.
    Published(Edition),
    /// All know which editions the server holds.
    Held,
    /// The unit's shared state is founded: those who are here vote on it from here on.
    Founded,
    /// All know what the server means to take on.
    Intended,
    /// A session is closed.
    Dismissed,
}

/// Why an order is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderRefusal {
    /// The server that was asked does not hold the unit.
    UnknownUnit,
    /// There is no such session, or it has ended.
    UnknownSession,
    /// No content server has that name, or it is leaving.
    UnknownServer,
    /// The server that the session was to go to does not hold the unit, or not in the session's edition.
    NotAReplica,
    /// The session is there already.
    AlreadyPrimary,
    /// Nobody else holds the unit in the session's edition.
    NobodyElse,
    /// The edition is the present one, or an older one.
    NotNewer,
    /// Some server of the unit does not hold the edition, or another one by the same number.
    NotHeldByAll,
    /// The unit has no state that its sessions share.
    NothingShared,
    /// The unit's shared state was founded before.
    FoundedBefore,
    /// The servers of the unit are about to change, or the one that was asked is leaving.
    Unsettled,
}

impl fmt::Display for OrderRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OrderRefusal::UnknownUnit => "this server does not hold the unit: ask one that does",
            OrderRefusal::UnknownSession => "there is no such session, or it has ended",
            OrderRefusal::UnknownServer => "no content server of that name is here, or it is leaving",
            OrderRefusal::NotAReplica => {
                "that server does not hold the session's unit in the session's edition"
            }
            OrderRefusal::AlreadyPrimary => "that server is the session's primary already",
            OrderRefusal::NobodyElse => "no other server holds the session's unit in the session's edition",
            OrderRefusal::NotNewer => "new sessions are opened on this edition already, or on a later one",
            OrderRefusal::NotHeldByAll => {
                "some server of the unit does not hold this edition, or holds other content by that number"
            }
            OrderRefusal::NothingShared => "the unit has no state that its sessions share",
            OrderRefusal::FoundedBefore => {
                "the unit's shared state was founded before: to found it anew gives up what only others have of it"
            }
            OrderRefusal::Unsettled => "the servers of the unit are changing: ask again in a moment",
        })
    }
}
