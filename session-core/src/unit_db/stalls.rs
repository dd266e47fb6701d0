//! Sessions of which nothing comes although something is due: their gateways say so in the content group, and every
//! replica moves them away from their primaries at that place in the order.
//!
//! Whatever a session does to its servers, it does to few of them: without any progress it is moved
//! [`MOVES_MAX`] times in a row, and if the last of its servers is lost then, nobody is appointed any more. Where two servers
//! are all that there is, the second time is back to the first one.

use alloc::vec::Vec;

use model::{Fence, ProcessId, SessionId};
use serde::{Deserialize, Serialize};

use super::{Database, Effect, Session, Why};
use crate::message::{GatewayId, Secret};

/// How often a session is moved in a row while nothing comes of it.
const MOVES_MAX: u8 = 2;

/// What gateways had to say of the silence of a session's primaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stalls {
    /// How often the session was moved for it.
    pub moves: u32,
    /// How often in a row, without any progress between.
    in_a_row: u8,
    /// From whom it was moved first of these times.
    first: Option<ProcessId>,
    /// The fence of the last primary that was missed and that its gateway had never heard of: it may have been on its way.
    missed: Fence,
}

impl Stalls {
    /// Nobody complained.
    pub const NONE: Stalls = Stalls { moves: 0, in_a_row: 0, first: None, missed: Fence::NONE };

    /// Whether no further server is to be tried.
    pub fn is_over(&self) -> bool {
        self.in_a_row >= MOVES_MAX
    }

    /// Who has had the session already without any progress, and is the last to be given it again.
    pub(crate) fn suspect(&self) -> Option<ProcessId> {
        self.first.filter(|_| self.in_a_row > 0)
    }

    /// The session went on, or an operator takes care of it.
    pub(super) fn forgive(&mut self) {
        self.in_a_row = 0;
    }

    /// The session is moved from this server.
    fn count(&mut self, from: Option<ProcessId>) {
        if self.in_a_row == 0 {
            self.first = from;
        }
        self.moves = self.moves.saturating_add(1);
        self.in_a_row += 1;
    }
}

impl Database {
    /// A gateway has not heard from the primary of a session for too long; `fence` is the greatest that it knows.
    pub(super) fn complain(
        &mut self,
        id: SessionId,
        secret: Secret,
        gateway: GatewayId,
        fence: Fence,
    ) -> Vec<Effect> {
        let known = match self.known_at(id, secret, gateway, fence) {
            Err(effects) => return effects,
            Ok(known) => known,
        };
        let (newest, stalls) = (known.fence, known.stalls);
        if fence < newest && stalls.missed != newest {
            self.stalls_of(id, |stalls| stalls.missed = newest);
            return Vec::from([Effect::Missed(id)]);
        }
        let cast = self.cast_of(id);
        let (mut assignment, sessions) = self.assignment();
        let Some(session) = sessions.get_mut(&id) else { return Vec::new() };
        let from = session.primary;
        if session.stalls.is_over() || !assignment.relieve(id, session) {
            return Vec::from([Effect::Missed(id), Effect::Stalled { session: id, from, to: None }]);
        }
        session.stalls.count(from);
        let to = session.primary;
        self.tell_changes(id, cast, Some(Why::Stalled));
        Vec::from([Effect::Assigned(id), Effect::Stalled { session: id, from, to }])
    }

    fn stalls_of(&mut self, id: SessionId, change: impl FnOnce(&mut Stalls)) {
        if let Some(session) = self.sessions.get_mut(&id) {
            change(&mut session.stalls);
        }
    }
}

impl Session {
    /// Whether it is left alone if its primary is lost, after all the others that it was moved to hung. One that was moved
    /// back for want of a third server has had two of them, and the other one may be well: it may have waited for this one.
    pub(crate) fn is_given_up(&self) -> bool {
        self.stalls.is_over() && (self.primary.is_none() || self.primary != self.stalls.suspect())
    }
}
