//! Orders of operators: each becomes a message of the content group, and is answered when that is delivered.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use model::{Name, SessionId, UnitId};

use super::groups::tell;
use super::{Drain, Output, Server};
use crate::message::{ContentMessage, encode};
use crate::names::Purpose;
use crate::service::ContentService;
use crate::unit_db::{Intent, OrderRefusal, Ordered, PolicyChange};

/// The ticket of messages that nobody waits for; orders begin with 1.
pub(super) const NOBODYS: u64 = 0;

impl<S: ContentService> Server<S> {
    /// An operator wants a session elsewhere.
    pub(super) fn order_move(
        &mut self,
        ticket: u64,
        unit: UnitId,
        session: SessionId,
        to: Option<Name>,
        out: &mut Vec<Output>,
    ) {
        let to = to.map(|name| self.catalogue.named(name).ok_or(OrderRefusal::UnknownServer)).transpose();
        let message = to.map(|to| ContentMessage::Move { session, to, ticket });
        self.order(ticket, unit, message, out);
    }

    /// An operator wants another policy for a unit.
    pub(super) fn order_adjustment(
        &mut self,
        ticket: u64,
        unit: UnitId,
        change: PolicyChange,
        out: &mut Vec<Output>,
    ) {
        self.order(ticket, unit, Ok(ContentMessage::Adjust { change, ticket }), out);
    }

    /// An operator wants new sessions on a unit to be opened on another edition.
    pub(super) fn order_publication(
        &mut self,
        ticket: u64,
        unit: UnitId,
        edition: u32,
        out: &mut Vec<Output>,
    ) {
        self.order(ticket, unit, Ok(ContentMessage::Publish { edition, ticket }), out);
    }

    /// An operator founds the shared state of a unit.
    pub(super) fn order_foundation(&mut self, ticket: u64, unit: UnitId, anew: bool, out: &mut Vec<Output>) {
        self.order(ticket, unit, Ok(ContentMessage::Found { anew, ticket }), out);
    }

    /// An operator closes a session.
    pub(super) fn order_dismissal(
        &mut self,
        ticket: u64,
        unit: UnitId,
        session: SessionId,
        out: &mut Vec<Output>,
    ) {
        self.order(ticket, unit, Ok(ContentMessage::Dismiss { session, ticket }), out);
    }

    /// An operator has this server take nothing new, or its share again: answered when all servers of its units know.
    pub(super) fn order_cordon(&mut self, ticket: u64, on: bool, out: &mut Vec<Output>) {
        if self.drain != Drain::No {
            out.push(Output::Ordered { ticket, outcome: Err(OrderRefusal::Unsettled) });
            return;
        }
        self.is_cordoned = on;
        let intent = if on { Intent::Cordoned } else { Intent::Open };
        let stays = |unit: &&UnitId| self.is_in_group_of(unit);
        let units: BTreeSet<UnitId> = self.units.keys().filter(stays).cloned().collect();
        out.extend(units.iter().map(|unit| tell(unit, &ContentMessage::Intend { intent, ticket })));
        if units.is_empty() {
            out.push(Output::Ordered { ticket, outcome: Ok(Ordered::Intended) });
        } else {
            self.orders.insert(ticket, units);
        }
    }

    fn order(
        &mut self,
        ticket: u64,
        unit: UnitId,
        message: Result<ContentMessage, OrderRefusal>,
        out: &mut Vec<Output>,
    ) {
        let refusal = match message {
            _ if self.me.is_none() || self.drain != Drain::No => OrderRefusal::Unsettled,
            _ if !self.is_in_group_of(&unit) => OrderRefusal::UnknownUnit,
            Err(refusal) => refusal,
            Ok(message) => {
                let group = Purpose::Content(unit.clone()).group();
                self.orders.insert(ticket, BTreeSet::from([unit]));
                out.push(Output::multicast(group, encode(&message)));
                return;
            }
        };
        out.push(Output::Ordered { ticket, outcome: Err(refusal) });
    }

    /// Whether what this server says of a unit comes back to it.
    fn is_in_group_of(&self, unit: &UnitId) -> bool {
        self.units.get(unit).is_some_and(|state| !state.has_left)
    }

    /// An order of this server came back in the group of a unit: the last one of its kind is the answer.
    pub(super) fn returned(
        &mut self,
        ticket: u64,
        unit: &UnitId,
        outcome: Result<Ordered, OrderRefusal>,
        out: &mut Vec<Output>,
    ) {
        let Some(units) = self.orders.get_mut(&ticket) else { return };
        units.remove(unit);
        if units.is_empty() {
            self.orders.remove(&ticket);
            out.push(Output::Ordered { ticket, outcome });
        }
    }

    /// Orders for these units are answered by nobody any more: this server leaves their groups.
    pub(super) fn refuse_orders(&mut self, of: impl Fn(&UnitId) -> bool, out: &mut Vec<Output>) {
        let gone = self.orders.extract_if(.., |_, units| units.iter().any(&of));
        let outcome = Err(OrderRefusal::Unsettled);
        out.extend(gone.map(|(ticket, _)| Output::Ordered { ticket, outcome }));
    }
}
