//! Planned moves at the servers that they concern: an operator's order becomes a message of the content group, and a
//! primary that is replaced while it lives goes on until its successor serves.

use alloc::vec::Vec;

use model::trace::Role;
use model::{Name, SessionId, Time, UnitId};

use super::groups::Moves;
use super::{Drain, Output, Server, Serving};
use crate::message::{ContentMessage, encode};
use crate::names::Purpose;
use crate::service::ContentService;
use crate::unit_db::MoveRefusal;

impl<S: ContentService> Server<S> {
    /// An operator wants a session elsewhere. The answer comes with the order's own delivery.
    pub(super) fn order_move(
        &mut self,
        ticket: u64,
        unit: UnitId,
        session: SessionId,
        to: Option<Name>,
        out: &mut Vec<Output>,
    ) {
        let to = to.map(|name| self.catalogue.named(name).ok_or(MoveRefusal::UnknownServer)).transpose();
        let refusal = match to {
            _ if self.me.is_none() || self.drain != Drain::No => MoveRefusal::Unsettled,
            _ if !self.units.contains_key(&unit) => MoveRefusal::UnknownUnit,
            Err(refusal) => refusal,
            Ok(to) => {
                let group = Purpose::Content(unit.clone()).group();
                let payload = encode(&ContentMessage::Move { session, to, ticket });
                self.orders.insert(ticket, unit);
                out.push(Output::Multicast { group, payload });
                return;
            }
        };
        out.push(Output::Moved { ticket, outcome: Err(refusal) });
    }

    /// Orders for these units are answered by nobody any more: this server leaves their groups.
    pub(super) fn refuse_orders(&mut self, of: impl Fn(&UnitId) -> bool, out: &mut Vec<Output>) {
        let gone = self.orders.extract_if(.., |_, unit| of(unit));
        let outcome = Err(MoveRefusal::Unsettled);
        out.extend(gone.map(|(ticket, _)| Output::Moved { ticket, outcome }));
    }

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
