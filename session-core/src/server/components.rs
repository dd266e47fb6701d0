//! Units that only the primary component serves: their primaries fall silent where their daemon is not in it, and claim
//! their sessions again when it is. It is the same with units whose sessions share a state, where that cannot change.
//!
//! Unit databases know nothing of it. Each side of a partition appoints primaries as always, and the primary of the
//! other sides claims nothing and sends nothing; so replicas are equal whenever which daemon has noticed what.

use alloc::vec::Vec;

use model::trace::Role;
use model::{SessionId, Time, UnitId};

use super::groups::Moves;
use super::{Output, Server, Serving};
use crate::message::ToGateway;
use crate::service::ContentService;
use crate::unit_db::Components;

impl<S: ContentService> Server<S> {
    /// This server's daemon is in the primary component now, or not any more.
    pub(super) fn enter_component(&mut self, now: Time, primary: bool, out: &mut Vec<Output>) {
        self.in_primary = primary;
        let mut moves = Moves::default();
        for unit in self.units.keys().cloned().collect::<Vec<_>>() {
            self.review_component(now, &unit, &mut moves, out);
        }
        moves.order(out);
    }

    /// Whether this server may serve the sessions of a unit that it holds: not if only the primary component does, and
    /// its daemon is not in it, nor if sessions share a state, and too few of those who vote on it are here.
    pub fn may_serve(&self, unit: &UnitId) -> bool {
        !self.is_apart(unit)
    }

    /// Whether the unit is served by another component, or by none.
    pub(super) fn is_apart(&self, unit: &UnitId) -> bool {
        let Some(database) = self.units.get(unit).map(|state| &state.database) else { return false };
        (!self.in_primary && database.policy().components == Components::Primary) || !database.is_live()
    }

    /// The component or the policy of the unit may be another one: who served falls silent, or who was silent serves.
    pub(super) fn review_component(
        &mut self,
        now: Time,
        unit: &UnitId,
        moves: &mut Moves,
        out: &mut Vec<Output>,
    ) {
        let apart = self.is_apart(unit);
        let Some(state) = self.units.get(unit) else { return };
        let primaries = state.held.iter().filter(|(_, held)| held.role == Role::Primary);
        let silent = |serving: &Serving| *serving == Serving::Nothing;
        let concerned = primaries.filter(|(_, held)| silent(&held.serving) != apart);
        for session in concerned.map(|(session, _)| *session).collect::<Vec<_>>() {
            if apart {
                self.fall_silent(now, unit, session, moves, out);
            } else if self.held(unit, session).is_some_and(|held| held.joined) {
                // Not at once: the views of this component are on their way, and may name another primary.
                let again = now + self.params.claim_retry;
                self.set_serving(unit, session, Serving::Claiming { since: now, again });
            }
        }
    }

    fn fall_silent(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        moves: &mut Moves,
        out: &mut Vec<Output>,
    ) {
        let known = self.units.get(unit).and_then(|state| state.database.sessions().get(&session));
        if let Some(known) = known {
            self.doors.send_if_open(&known.gateway, ToGateway::Suspended { session }, out);
        }
        if !self.retire(now, unit, session, moves, out) {
            self.set_serving(unit, session, Serving::Nothing);
        }
    }
}
