//! What this server holds changes: units and editions of units come and go.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use model::trace::Role;
use model::{SessionId, Time, UnitId};

use super::doors::Doors;
use super::unit::Unit;
use super::{Drain, Output, Server};
use crate::edition::Edition;
use crate::message::{ContentMessage, ToGateway, encode};
use crate::names::Purpose;
use crate::service::ContentService;
use crate::unit_db::Ordered;

/// So long a unit that is not held any more is served to clients whose new servers have not come.
const VANISH_TIMEOUT: Duration = Duration::from_secs(10);

/// The editions of each unit that a service holds.
pub(super) fn editions_of<S: ContentService>(service: &S) -> BTreeMap<UnitId, BTreeSet<Edition>> {
    let mut editions = BTreeMap::<UnitId, BTreeSet<Edition>>::new();
    for info in service.units() {
        editions.entry(info.unit).or_default().insert(info.edition);
    }
    editions
}

/// The service that holds a unit: the former one, if the present one does not any more.
pub(super) fn holder_of<'a, S, C>(unit: &Unit<C>, service: &'a S, former: Option<&'a S>) -> &'a S {
    former.filter(|_| unit.vanishes_at.is_some()).unwrap_or(service)
}

impl<S: ContentService> Server<S> {
    /// The editions of a unit that are held here.
    pub fn editions(&self, unit: &UnitId) -> impl Iterator<Item = Edition> {
        self.units.get(unit).into_iter().flat_map(|state| state.editions.iter().copied())
    }

    pub(super) fn content(&mut self, now: Time, ticket: u64, service: S, out: &mut Vec<Output>) {
        let mut editions = editions_of(&service);
        let mut told = BTreeSet::new();
        // What vanished before and has not been taken over is served no longer: there is one former service.
        let vanished = self.units.iter().filter(|(_, state)| state.vanishes_at.is_some());
        let vanished = vanished.map(|(unit, _)| unit.clone());
        vanished.collect::<Vec<_>>().iter().for_each(|unit| self.give_up(unit, out));
        for unit in self.units.keys().cloned().collect::<Vec<_>>() {
            let Some(editions) = editions.remove(&unit) else {
                self.vanish(now, &unit, out);
                continue;
            };
            if self.hold(ticket, &unit, editions, out) {
                told.insert(unit);
            }
        }
        self.former = Some(core::mem::replace(&mut self.service, service));
        self.forget_vanished(now, out);
        if told.is_empty() {
            out.push(Output::Ordered { ticket, outcome: Ok(Ordered::Held) });
        } else {
            self.orders.insert(ticket, told);
        }
        let Some(me) = self.me.filter(|_| self.drain == Drain::No) else { return };
        let groups: Vec<_> = editions.keys().map(|unit| Purpose::Content(unit.clone()).group()).collect();
        out.extend((!groups.is_empty()).then_some(Output::Join(groups)));
        for (unit, editions) in editions {
            let fresh = self.fresh_unit(me, &unit, editions);
            self.units.insert(unit, fresh);
        }
        self.announce(out);
    }

    /// These are the editions of a unit from here on. Sessions on others have to go at once: nobody here can serve them.
    /// Returns whether anything is different, and is told to the other servers of the unit.
    fn hold(
        &mut self,
        ticket: u64,
        unit: &UnitId,
        editions: BTreeSet<Edition>,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(state) = self.units.get_mut(unit).filter(|state| state.editions != editions) else {
            return false;
        };
        state.editions = editions.clone();
        let held = state.held.iter();
        let gone = held.filter(|(_, held)| !editions.contains(&held.replica.content.edition));
        let gone: Vec<_> = gone.map(|(session, held)| (*session, held.fence)).collect();
        if !gone.is_empty() {
            state.propagate_all(unit, self.params.message_bytes_max, out);
        }
        let group = |session| Purpose::Session(unit.clone(), session).group();
        let groups: Vec<_> = gone.iter().map(|(session, _)| group(*session)).collect();
        out.extend((!groups.is_empty()).then_some(Output::Leave(groups)));
        suspend(state, gone.iter().map(|(session, _)| *session), &self.doors, out);
        for (session, _) in &gone {
            state.held.remove(session);
            self.timers.set(&(unit.clone(), *session), None);
        }
        for (session, fence) in gone {
            self.note_role(unit, session, fence, Role::None, out);
        }
        let message = encode(&ContentMessage::Holds { editions, ticket });
        out.push(Output::multicast(Purpose::Content(unit.clone()).group(), message));
        true
    }

    /// A unit is not held any more. If others can take over what is served of it, that goes on here until they have, as when
    /// the server drains.
    fn vanish(&mut self, now: Time, unit: &UnitId, out: &mut Vec<Output>) {
        match self.units.get_mut(unit) {
            Some(state) if state.serves() && state.has_heirs() && !state.has_left => {
                state.vanishes_at = Some(now + VANISH_TIMEOUT);
                state.leave(unit, self.params.message_bytes_max, out);
                self.refuse_orders(|of| of == unit, out);
            }
            Some(_) | None => self.give_up(unit, out),
        }
    }

    /// Gives up the units that are not held any more, once nothing is served of them, or it has been for too long: sessions that
    /// have ended meanwhile are taken over by nobody.
    pub(super) fn forget_vanished(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.former.is_none() {
            return;
        }
        let is_over =
            |state: &Unit<S::Context>| state.vanishes_at.is_some_and(|time| time <= now || !state.serves());
        let over = self.units.iter().filter(|(_, state)| is_over(state)).map(|(unit, _)| unit.clone());
        over.collect::<Vec<_>>().iter().for_each(|unit| self.give_up(unit, out));
        if self.units.values().all(|state| state.vanishes_at.is_none()) {
            self.former = None;
        }
    }

    /// A unit is not held any more: the other replicas hear the last of its sessions, and take them over.
    fn give_up(&mut self, unit: &UnitId, out: &mut Vec<Output>) {
        let Some(mut state) = self.units.remove(unit) else { return };
        self.refuse_orders(|of| of == unit, out);
        let mut groups = Vec::new();
        if !state.has_left {
            state.propagate_all(unit, self.params.message_bytes_max, out);
            groups.push(Purpose::Content(unit.clone()).group());
        }
        suspend(&state, state.held.keys().copied(), &self.doors, out);
        for (session, held) in &state.held {
            groups.push(Purpose::Session(unit.clone(), *session).group());
            self.timers.set(&(unit.clone(), *session), None);
            self.note_role(unit, *session, held.fence, Role::None, out);
        }
        out.extend((!groups.is_empty()).then_some(Output::Leave(groups)));
    }
}

/// Gateways are told of those of these sessions that were served here. This server stays connected to them and goes on with
/// other sessions, so they would wait for it, even if nobody is left who knows the session.
fn suspend<C>(
    unit: &Unit<C>,
    sessions: impl Iterator<Item = SessionId>,
    doors: &Doors,
    out: &mut Vec<Output>,
) {
    for session in sessions.filter(|session| unit.held.get(session).is_some_and(|held| held.streams())) {
        if let Some(known) = unit.database.sessions().get(&session) {
            doors.send_if_open(&known.gateway, ToGateway::Suspended { session }, out);
        }
    }
}
