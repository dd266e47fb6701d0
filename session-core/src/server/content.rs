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
use crate::held::Held;
use crate::message::{ContentMessage, ToGateway, encode};
use crate::names::Purpose;
use crate::service::ContentService;
use crate::unit_db::Ordered;

/// So long what is not held any more is served to clients whose new servers have not come.
const VANISH_TIMEOUT: Duration = Duration::from_secs(10);

/// The editions of each unit that a service holds.
pub(super) fn editions_of<S: ContentService>(service: &S) -> BTreeMap<UnitId, BTreeSet<Edition>> {
    let mut editions = BTreeMap::<UnitId, BTreeSet<Edition>>::new();
    for info in service.units() {
        editions.entry(info.unit).or_default().insert(info.edition);
    }
    editions
}

/// The service as it is and, while something is left of what it does not hold any more, as it was.
#[derive(Clone, Copy)]
pub(crate) struct Holders<'a, S> {
    pub(crate) present: &'a S,
    pub(crate) former: Option<&'a S>,
    /// The editions of one unit that the present one holds.
    pub(crate) editions: &'a BTreeSet<Edition>,
    /// Those that only the former one holds.
    pub(crate) vanishing: &'a BTreeSet<Edition>,
}

impl<'a, S> Holders<'a, S> {
    /// The one that holds an edition, and which ones it holds.
    pub(crate) fn of(&self, edition: Edition) -> (&'a S, &'a BTreeSet<Edition>) {
        let former = self.former.filter(|_| self.vanishing.contains(&edition));
        former.map_or((self.present, self.editions), |former| (former, self.vanishing))
    }
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
        vanished.collect::<Vec<_>>().iter().for_each(|unit| self.let_go(unit, out));
        for unit in self.units.keys().cloned().collect::<Vec<_>>() {
            let Some(editions) = editions.remove(&unit) else {
                self.vanish(now, &unit, out);
                continue;
            };
            if self.hold(now, ticket, &unit, editions, out) {
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

    /// These are the editions of a unit from here on. What others can take over of those that are gone goes on here until they
    /// have, as in a planned move; nobody here serves the rest. Returns whether anything is different, and is told to the other
    /// servers of the unit.
    fn hold(
        &mut self,
        now: Time,
        ticket: u64,
        unit: &UnitId,
        editions: BTreeSet<Edition>,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(state) = self.units.get_mut(unit).filter(|state| state.editions != editions) else {
            return false;
        };
        state.vanishing = state.editions.difference(&editions).copied().collect();
        state.vanishes_at = (!state.vanishing.is_empty()).then_some(now + VANISH_TIMEOUT);
        state.editions = editions.clone();
        let can_wait = |held: &Held<S::Context>| {
            held.streams() && state.database.is_held_elsewhere(held.replica.content.edition)
        };
        let gone = state.held.iter().filter(|(_, held)| state.is_vanishing(held) && !can_wait(held));
        let gone = gone.map(|(session, _)| *session).collect();
        self.abandon(unit, gone, out);
        let message = encode(&ContentMessage::Holds { editions, ticket });
        out.push(Output::multicast(Purpose::Content(unit.clone()).group(), message));
        true
    }

    /// Sessions on editions that are not held here are served no longer: the other replicas hear the last of them.
    fn abandon(&mut self, unit: &UnitId, sessions: Vec<SessionId>, out: &mut Vec<Output>) {
        let Some(state) = self.units.get_mut(unit).filter(|_| !sessions.is_empty()) else { return };
        state.propagate_all(unit, self.params.message_bytes_max, out);
        let group = |session: &SessionId| Purpose::Session(unit.clone(), *session).group();
        out.push(Output::Leave(sessions.iter().map(group).collect()));
        suspend(state, sessions.iter().copied(), &self.doors, out);
        for session in sessions {
            let held = self.units.get_mut(unit).and_then(|state| state.held.remove(&session));
            self.timers.set(&(unit.clone(), session), None);
            if let Some(held) = held {
                self.note_role(unit, session, held.fence, Role::None, out);
            }
        }
    }

    /// A unit is not held any more. If others can take over what is served of it, that goes on here until they have, as when
    /// the server drains.
    fn vanish(&mut self, now: Time, unit: &UnitId, out: &mut Vec<Output>) {
        match self.units.get_mut(unit) {
            Some(state) if state.serves() && state.has_heirs() && !state.has_left => {
                state.vanishing = core::mem::take(&mut state.editions);
                state.vanishes_at = Some(now + VANISH_TIMEOUT);
                state.leave(unit, self.params.message_bytes_max, out);
                self.refuse_orders(|of| of == unit, out);
            }
            Some(_) | None => self.give_up(unit, out),
        }
    }

    /// Lets go of what is not held any more, once nothing of it is served, or it has been for too long: sessions that
    /// have ended meanwhile are taken over by nobody. Until all servers of the unit know, they may ask what becomes of its
    /// contexts.
    pub(super) fn forget_vanished(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.former.is_none() {
            return;
        }
        let is_known = |state: &Unit<S::Context>| {
            let counts = |edition: &Edition| self.me.is_some_and(|me| state.database.has(me, *edition));
            state.has_left || !state.vanishing.iter().any(counts)
        };
        let is_over = |state: &Unit<S::Context>, until: Time| {
            until <= now || (!state.serves_vanishing() && is_known(state))
        };
        let over = |state: &Unit<S::Context>| state.vanishes_at.is_some_and(|until| is_over(state, until));
        let over = self.units.iter().filter(|(_, state)| over(state)).map(|(unit, _)| unit.clone());
        over.collect::<Vec<_>>().iter().for_each(|unit| self.let_go(unit, out));
        if self.units.values().all(|state| state.vanishes_at.is_none()) {
            self.former = None;
        }
    }

    /// Nothing is served any more of what is not held.
    fn let_go(&mut self, unit: &UnitId, out: &mut Vec<Output>) {
        let Some(state) = self.units.get_mut(unit) else { return };
        if state.editions.is_empty() {
            return self.give_up(unit, out);
        }
        let left = state.held.iter().filter(|(_, held)| state.is_vanishing(held));
        let left = left.map(|(session, _)| *session).collect();
        self.abandon(unit, left, out);
        if let Some(state) = self.units.get_mut(unit) {
            state.vanishing.clear();
            state.vanishes_at = None;
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
