//! The machine of a content server: keeps the unit databases of the units that it holds, and serves or mirrors the
//! sessions that they assign to it [FK:server].
//!
//! Invariant: a session is served under the fence that this server's copy of the unit database gives it, and only on
//! a stream that the session's gateway opened for that fence.

mod commits;
mod components;
mod content;
mod doors;
mod faults;
mod gateways;
mod groups;
mod interface;
mod moves;
mod orders;
#[cfg(test)]
mod tests;
mod unit;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use model::trace::Role;
use model::{Machine, ProcessId, SessionId, Time, UnitId};

use crate::catalogue::Catalogue;
use crate::edition::{ContentId, Edition};
use crate::held::{Held, Scene, Serving};
use crate::message::{ContentMessage, GatewayId};
use crate::names::Purpose;
use crate::params::Params;
use crate::replica;
use crate::service::ContentService;
use crate::timers::Timers;
use crate::unit_db::{self, Database, Intent, Session};
pub(crate) use content::Holders;
use content::editions_of;
use doors::Doors;
use groups::{Delivery, tell};
pub use interface::{Input, Output, Predecessor, SessionStatus};
use unit::Unit;

/// Whether this server goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    No,
    /// It hands over what it serves.
    Asked,
    /// It has, and said so.
    Done,
}

/// The content server.
pub struct Server<S: ContentService> {
    service: S,
    /// The service with units and editions that it holds no more, while others take over what is served of them.
    former: Option<S>,
    params: Params,
    me: Option<ProcessId>,
    /// Whether its daemon is in the primary component.
    in_primary: bool,
    catalogue: Catalogue,
    /// Questions about the units, and who asked, until the catalogue is complete.
    questions: VecDeque<(GatewayId, u64)>,
    units: BTreeMap<UnitId, Unit<S::Context>>,
    doors: Doors,
    /// Every held session's deadline.
    timers: Timers<(UnitId, SessionId)>,
    /// Orders of operators that were multicast and have not come back, by ticket: in the groups of these units.
    orders: BTreeMap<u64, BTreeSet<UnitId>>,
    /// The last name given to a context.
    lineages: u64,
    drain: Drain,
    /// Whether it takes nothing new.
    is_cordoned: bool,
}

impl<S: ContentService> Server<S> {
    /// A server of `service`, not attached to its daemon yet.
    pub fn new(service: S, params: Params) -> Server<S> {
        Server {
            service,
            former: None,
            doors: Doors::new(params.detach_ttl),
            params,
            me: None,
            in_primary: false,
            catalogue: Catalogue::default(),
            questions: VecDeque::new(),
            units: BTreeMap::new(),
            timers: Timers::new(),
            orders: BTreeMap::new(),
            lineages: 0,
            drain: Drain::No,
            is_cordoned: false,
        }
    }

    /// This server as a member of groups, while it is attached.
    pub fn me(&self) -> Option<ProcessId> {
        self.me
    }

    /// Whether an operator had it take nothing new.
    pub fn is_cordoned(&self) -> bool {
        self.is_cordoned
    }

    /// The unit databases.
    pub fn databases(&self) -> impl Iterator<Item = (&UnitId, &Database)> {
        self.units.iter().map(|(unit, held)| (unit, &held.database))
    }

    /// Every session of the units held here.
    pub fn sessions(&self) -> impl Iterator<Item = SessionStatus<'_>> {
        self.units.iter().flat_map(|(unit, state)| {
            state.database.sessions().iter().map(move |(id, session)| status_of(unit, state, *id, session))
        })
    }

    /// A session on a unit held here.
    pub fn session(&self, unit: &UnitId, id: SessionId) -> Option<SessionStatus<'_>> {
        let (unit, state) = self.units.get_key_value(unit)?;
        Some(status_of(unit, state, id, state.database.sessions().get(&id)?))
    }

    /// Since when there is something in sessions served here that the others have not been told: what a takeover now would
    /// have to do without.
    pub fn untold_since(&self) -> Option<Time> {
        self.units.values().filter_map(|state| state.dirty_since).min()
    }

    fn attached(&mut self, me: ProcessId, out: &mut Vec<Output>) {
        self.detached(out);
        if self.drain != Drain::No {
            return;
        }
        self.me = Some(me);
        let mut groups = Vec::from([Purpose::Service.group()]);
        for (unit, editions) in editions_of(&self.service) {
            groups.push(Purpose::Content(unit.clone()).group());
            let fresh = self.fresh_unit(me, &unit, editions);
            self.units.insert(unit, fresh);
        }
        out.push(Output::Join(groups));
    }

    fn fresh_unit(&self, me: ProcessId, unit: &UnitId, editions: BTreeSet<Edition>) -> Unit<S::Context> {
        let limits = unit_db::Limits {
            moves_max: self.params.moves_max,
            state_bytes_max: self.params.message_bytes_max,
            results_kept: self.params.requests_kept,
        };
        let latest = editions.last().map(|edition| ContentId { unit: unit.clone(), edition: *edition });
        let shared = latest.and_then(|content| self.service.shared(&content));
        let mut database = Database::new(me, self.params.policy, editions.clone(), shared, limits);
        if self.is_cordoned {
            database.begin_with(Intent::Cordoned);
        }
        Unit::new(database, editions)
    }

    /// Without a daemon this server is nobody, and has nothing to say to gateways: others have its sessions, or will.
    fn detached(&mut self, out: &mut Vec<Output>) {
        self.refuse_orders(|_| true, out);
        self.me = None;
        self.in_primary = false;
        self.former = None;
        self.units.clear();
        self.timers.clear();
        self.doors.clear(out);
        self.catalogue = Catalogue::default();
        self.questions.clear();
    }

    /// Leaves every group in which sessions are assigned; those served here go on until their new primaries have
    /// them.
    fn drain(&mut self, out: &mut Vec<Output>) {
        self.drain = Drain::Asked;
        self.refuse_orders(|_| true, out);
        out.push(Output::Leave(Vec::from([Purpose::Service.group()])));
        for unit in self.units.keys().cloned().collect::<Vec<_>>() {
            self.leave_to_others(&unit, out);
        }
    }

    /// A server that drains leaves the group of a unit once others have its database: who comes later would begin with
    /// an empty one.
    pub(super) fn leave_to_others(&mut self, unit: &UnitId, out: &mut Vec<Output>) {
        let Some(state) = self.units.get_mut(unit).filter(|_| self.drain == Drain::Asked) else { return };
        if state.has_heirs() && !state.has_left {
            state.leave(unit, self.params.message_bytes_max, out);
        }
    }

    /// The drain is over once no session is served here: gateways have fenced this server off, or are gone.
    fn tell_if_drained(&mut self, out: &mut Vec<Output>) {
        if self.drain == Drain::Asked && !self.units.values().any(Unit::serves) {
            self.drain = Drain::Done;
            for (unit, state) in &self.units {
                for (session, held) in &state.held {
                    self.note_role(unit, *session, held.fence, Role::None, out);
                }
            }
            out.push(Output::Drained);
        }
    }

    fn held(&mut self, unit: &UnitId, session: SessionId) -> Option<&mut Held<S::Context>> {
        self.units.get_mut(unit)?.held.get_mut(&session).map(Box::as_mut)
    }

    /// Runs one step of a held session, and passes on what it has to say.
    fn with_held<R>(
        &mut self,
        unit: &UnitId,
        session: SessionId,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut Held<S::Context>, &Session, &mut Scene<'_, S>) -> R,
    ) -> Option<R> {
        let me = self.me?;
        let state = self.units.get_mut(unit)?;
        let edition = state.held.get(&session)?.replica.content.edition;
        let Unit { editions, vanishing, .. } = state;
        let (present, former) = (&self.service, self.former.as_ref());
        let (service, editions) = Holders { present, former, editions, vanishing }.of(edition);
        let (held, known) = (state.held.get_mut(&session)?, state.database.sessions().get(&session)?);
        let (mut send, mut casts, mut updates, mut trace) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let shared = state.database.shared().map(|shared| (shared, state.database.view()));
        let commit = service.commit(&held.replica.content).max(state.database.policy().commit);
        let limits = replica::Limits {
            requests_kept: self.params.requests_kept,
            context_bytes_max: self.params.context_bytes_max,
        };
        let mut scene = Scene {
            service,
            unit,
            editions,
            session,
            me,
            limits,
            // What comes of requests to a shared state is certain before it is applied.
            commit: if shared.is_none() { commit } else { None },
            shared,
            commit_bytes_max: self.params.message_bytes_max,
            uncertain: state.database.policy().uncertain,
            fault: None,
            lineages: &mut self.lineages,
            send: &mut send,
            casts: &mut casts,
            updates: &mut updates,
            trace: self.params.trace.then_some(&mut trace),
        };
        let result = step(held, known, &mut scene);
        let fault = scene.fault;
        let view = state.database.view();
        out.extend(updates.into_iter().map(|(number, operation)| {
            tell(unit, &ContentMessage::Update { view, session, number, operation })
        }));
        out.extend(trace.into_iter().map(Output::Trace));
        for message in send {
            self.doors.send_if_open(&known.gateway, message, out);
        }
        commits::cast(unit, session, casts, out);
        if let Some(fault) = fault {
            self.fail(unit, session, fault, out);
        }
        self.reschedule(unit, session);
        Some(result)
    }

    fn set_serving(&mut self, unit: &UnitId, session: SessionId, serving: Serving) {
        if let Some(held) = self.held(unit, session) {
            held.serving = serving;
        }
        self.reschedule(unit, session);
    }

    /// Keeps the timer of a session right.
    fn reschedule(&mut self, unit: &UnitId, session: SessionId) {
        let deadline = self.held(unit, session).and_then(|held| held.deadline());
        self.timers.set(&(unit.clone(), session), deadline);
    }

    fn respond(&mut self, now: Time, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        let responded = self.with_held(unit, session, out, |held, _, scene| {
            let responded = held.respond(now, scene);
            held.rest(now, scene);
            responded
        });
        if responded == Some(true) {
            self.soil(now, unit, session);
        }
    }

    /// A time has come that the service asked for, or at which the gateway is told that there is none.
    fn go_on(&mut self, now: Time, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        if self.held(unit, session).is_some_and(|held| held.is_due(now)) {
            self.respond(now, unit, session, out);
        } else {
            self.with_held(unit, session, out, |held, _, scene| held.rest(now, scene));
        }
    }

    fn soil(&mut self, now: Time, unit: &UnitId, session: SessionId) {
        if let Some(state) = self.units.get_mut(unit) {
            state.soil(now, session);
        }
    }

    fn on_deadline(&mut self, now: Time, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        match self.held(unit, session).map(|held| held.serving.clone()) {
            Some(Serving::Claiming { since, again }) => {
                self.press_claim(now, unit, session, (since, again), out);
            }
            Some(Serving::Streaming { .. }) => self.go_on(now, unit, session, out),
            Some(Serving::Nothing | Serving::Joining | Serving::Reigning { .. }) | None => {}
        }
    }
}

fn status_of<'a, C>(
    unit: &'a UnitId,
    state: &Unit<C>,
    id: SessionId,
    session: &'a Session,
) -> SessionStatus<'a> {
    let held = state.held.get(&id);
    let name = |server: ProcessId| state.database.name_of(server);
    SessionStatus {
        primary: session.primary.and_then(name),
        backups: session.backups.iter().filter_map(|backup| name(*backup)).collect(),
        unit,
        id,
        session,
        role: held.map_or(Role::None, |held| held.role),
        client: held.and_then(|held| held.client()),
        responses: held.map_or(session.responses, |held| held.replica.responses),
        requests: held.map_or(session.requests, |held| held.replica.requests),
        heard: state.heard.get(&id).copied(),
    }
}

impl<S: ContentService> Machine for Server<S> {
    type Input = Input<S>;
    type Output = Output;

    fn handle(&mut self, now: Time, input: Input<S>, out: &mut Vec<Output>) {
        match input {
            Input::Attached(me) => self.attached(me, out),
            Input::Detached => self.detached(out),
            Input::Primary(primary) => self.enter_component(now, primary, out),
            Input::Views(views) => views.iter().for_each(|view| self.on_view(now, view, out)),
            Input::Message { group, sender, payload, level } => {
                self.on_message(now, group, Delivery { sender, level, payload: &payload }, out);
            }
            Input::GatewayUp(gateway) => self.gateway_up(now, &gateway, out),
            Input::GatewayDown(gateway) => self.gateway_down(now, &gateway, out),
            Input::Gateway(gateway, message) => self.on_gateway(now, &gateway, message, out),
            Input::Content { ticket, service } => self.content(now, ticket, service, out),
            Input::Move { ticket, unit, session, to } => self.order_move(ticket, unit, session, to, out),
            Input::Adjust { ticket, unit, change } => self.order_adjustment(ticket, unit, change, out),
            Input::Publish { ticket, unit, edition } => self.order_publication(ticket, unit, edition, out),
            Input::Found { ticket, unit, anew } => self.order_foundation(ticket, unit, anew, out),
            Input::Cordon { ticket, on } => self.order_cordon(ticket, on, out),
            Input::Dismiss { ticket, unit, session } => self.order_dismissal(ticket, unit, session, out),
            Input::Drain => self.drain(out),
        }
        self.forget_vanished(now, out);
        self.tell_if_drained(out);
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some((unit, session)) = self.timers.pop(now) {
            self.on_deadline(now, &unit, session, out);
        }
        for (unit, state) in &mut self.units {
            if state.propagate_at.is_some_and(|time| time <= now) {
                state.propagate(unit, self.params.message_bytes_max, out);
            }
        }
        let units = &self.units;
        let sessions = || units.values().flat_map(|state| state.database.sessions().values());
        self.doors.sweep(now, |gateway| sessions().any(|known| known.gateway == *gateway), out);
        self.forget_vanished(now, out);
        self.tell_if_drained(out);
    }

    fn next_wake(&self) -> Option<(Time, &'static str)> {
        let session = self.timers.first().map(|time| (time, "a session"));
        let propagations = self.units.values().filter_map(|state| state.propagate_at);
        let propagation = propagations.min().map(|time| (time, "propagation"));
        let door = self.doors.deadline().map(|time| (time, "a gateway that cannot be reached"));
        let vanishing = self.units.values().filter_map(|state| state.vanishes_at);
        let vanishing = vanishing.min().map(|time| (time, "what is not held any more"));
        session.into_iter().chain(propagation).chain(door).chain(vanishing).min()
    }
}
