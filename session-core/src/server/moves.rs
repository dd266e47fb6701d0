//! Planned moves at the servers that they concern: a primary that is replaced while it lives goes on until its successor
//! serves.

use alloc::vec::Vec;

use model::trace::Role;
use model::{SessionId, Time, UnitId};

use super::groups::Moves;
use super::{Output, Server, Serving};
use crate::service::ContentService;

impl<S: ContentService> Server<S> {
    /// Whether the unit database has another primary for a session that is still served here.
    pub(super) fn is_outgoing(&self, unit: &UnitId, session: SessionId) -> bool {
        let Some(state) = self.units.get(unit) else { return false };
        let serves = state.held.get(&session).is_some_and(|held| held.role == Role::Primary);
        let known = state.database.sessions().get(&session);
        serves && known.is_some_and(|known| known.primary != self.me)
    }

    /// A primary whose successor serves, or whose gateway cannot be reached, takes the part that the database has for
    /// it. Returns whether it was one.
    pub(super) fn retire(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        moves: &mut Moves,
        out: &mut Vec<Output>,
    ) -> bool {
        let outgoing = self.is_outgoing(unit, session);
        if outgoing {
            self.set_serving(unit, session, Serving::Nothing);
            self.settle(now, unit, session, moves, out);
        }
        outgoing
    }

    /// As [`Server::retire`], where nothing else joins or leaves.
    pub(super) fn retire_alone(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        out: &mut Vec<Output>,
    ) -> bool {
        let mut moves = Moves::default();
        let outgoing = self.retire(now, unit, session, &mut moves, out);
        moves.order(out);
        outgoing
    }
}
