//! The machine of a content server: keeps the unit databases of the units that it holds, and serves or mirrors the
//! sessions that they assign to it [FK:server].
//!
//! Invariant: a session is served under the fence that this server's copy of the unit database gives it, and only on
//! a stream that the session's gateway opened for that fence.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;
use model::trace::{Event, Role};
use model::{Fence, GroupName, GroupView, Machine, ProcessId, SessionId, Time, UnitId};

use crate::catalogue::Catalogue;
use crate::held::{Grant, Held, Scene, Serving};
use crate::message::{
    ContentMessage, DecodeError, GatewayId, ServiceMessage, SessionMessage, ToGateway, ToServer, decode,
    encode,
};
use crate::names::Purpose;
use crate::params::Params;
use crate::replica::{self, decode_context, encode_context};
use crate::service::ContentService;
use crate::unit_db::{self, Database, Effect, Session};

/// Messages that wait for a gateway to be reached, at most; the oldest go first. They are answers that the gateway
/// asks for again if it still wants them.
const OUTBOX_MAX: usize = 256;

/// A fact.
#[derive(Clone, Debug)]
pub enum Input<S> {
    /// The process is attached to its daemon, as this member.
    Attached(ProcessId),
    /// The attachment is lost, and with it every membership.
    Detached,
    /// Views of groups, all of one step.
    Views(Vec<GroupView>),
    /// A message of a group.
    Message {
        /// Where.
        group: GroupName,
        /// From whom.
        sender: ProcessId,
        /// What.
        payload: Bytes,
    },
    /// The stream to a gateway is open.
    GatewayUp(GatewayId),
    /// The stream to a gateway is closed, and what was on it may be lost.
    GatewayDown(GatewayId),
    /// A gateway speaks.
    Gateway(GatewayId, ToServer),
    /// The content is this now; units may have come or gone.
    Content(S),
    /// Hand all sessions over and say when that is done.
    Drain,
}

/// An order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Join these groups.
    Join(Vec<GroupName>),
    /// Leave these groups.
    Leave(Vec<GroupName>),
    /// Multicast to a group.
    Multicast {
        /// Where.
        group: GroupName,
        /// What.
        payload: Bytes,
    },
    /// Keep a stream open to this gateway, from now on.
    Dial(GatewayId),
    /// No session is at this gateway any more, and it cannot be reached: stop dialling.
    Hangup(GatewayId),
    /// Tell a gateway. Sent only while its stream is open.
    Send(GatewayId, ToGateway),
    /// This server's part in a session changed: for the log.
    RoleChanged {
        /// The unit.
        unit: UnitId,
        /// The session.
        session: SessionId,
        /// The session's fence.
        fence: Fence,
        /// What this server is in it now.
        role: Role,
    },
    /// A member of a group sent something that is not a message of ours; it was ignored.
    Refused {
        /// Where.
        group: GroupName,
        /// From whom.
        sender: ProcessId,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// Nothing is served here any more.
    Drained,
    /// For observers.
    Trace(Event),
}

/// One held unit.
#[derive(Debug)]
struct Unit<C> {
    database: Database,
    /// Events of the content group since its last view.
    position: u64,
    held: BTreeMap<SessionId, Held<C>>,
    /// Sessions served here whose context changed since it was last propagated.
    dirty: BTreeSet<SessionId>,
    propagate_at: Option<Time>,
    /// When the database last heard of each session's context.
    heard: BTreeMap<SessionId, Time>,
}

/// A gateway that some session is at.
#[derive(Debug, Default)]
struct Door {
    up: bool,
    outbox: Vec<ToGateway>,
}

/// The content server.
pub struct Server<S: ContentService> {
    service: S,
    params: Params,
    me: Option<ProcessId>,
    catalogue: Catalogue,
    units: BTreeMap<UnitId, Unit<S::Context>>,
    doors: BTreeMap<GatewayId, Door>,
    /// Every held session's deadline, earliest first.
    timers: BTreeSet<(Time, UnitId, SessionId)>,
    draining: bool,
}

/// A session as this server knows it, for operators.
#[derive(Clone, Debug)]
pub struct SessionStatus<'a> {
    /// The unit.
    pub unit: &'a UnitId,
    /// The session.
    pub id: SessionId,
    /// What the unit database knows.
    pub session: &'a Session,
    /// What this server is in it.
    pub role: Role,
    /// How many responses this server's context reflects: its own if it has a role, else the database's.
    pub responses: u64,
    /// Likewise for requests.
    pub requests: u64,
    /// When the database last heard of the session's context.
    pub heard: Option<Time>,
}

impl<S: ContentService> Server<S> {
    /// A server of `service`, not attached to its daemon yet.
    pub fn new(service: S, params: Params) -> Server<S> {
        Server {
            service,
            params,
            me: None,
            catalogue: Catalogue::default(),
            units: BTreeMap::new(),
            doors: BTreeMap::new(),
            timers: BTreeSet::new(),
            draining: false,
        }
    }

    /// This server as a member of groups, while it is attached.
    pub fn me(&self) -> Option<ProcessId> {
        self.me
    }

    /// The unit databases.
    pub fn databases(&self) -> impl Iterator<Item = (&UnitId, &Database)> {
        self.units.iter().map(|(unit, held)| (unit, &held.database))
    }

    /// Every session of the units held here.
    pub fn sessions(&self) -> impl Iterator<Item = SessionStatus<'_>> {
        self.units.iter().flat_map(|(unit, state)| {
            state.database.sessions().iter().map(move |(id, session)| {
                let held = state.held.get(id);
                SessionStatus {
                    unit,
                    id: *id,
                    session,
                    role: held.map_or(Role::None, |held| held.role),
                    responses: held.map_or(session.responses, |held| held.replica.responses),
                    requests: held.map_or(session.requests, |held| held.replica.requests),
                    heard: state.heard.get(id).copied(),
                }
            })
        })
    }

    fn attached(&mut self, me: ProcessId, out: &mut Vec<Output>) {
        self.detached();
        self.me = Some(me);
        let mut groups = Vec::from([Purpose::Service.group()]);
        for info in self.service.units() {
            groups.push(Purpose::Content(info.unit.clone()).group());
            self.units.insert(info.unit, self.fresh_unit(me));
        }
        out.push(Output::Join(groups));
    }

    fn fresh_unit(&self, me: ProcessId) -> Unit<S::Context> {
        let limits = unit_db::Limits {
            moves_max: self.params.moves_max,
            state_bytes_max: self.params.message_bytes_max,
        };
        Unit {
            database: Database::new(me, self.params.policy, limits),
            position: 0,
            held: BTreeMap::new(),
            dirty: BTreeSet::new(),
            propagate_at: None,
            heard: BTreeMap::new(),
        }
    }

    /// Without a daemon this server is nobody: others have its sessions, or will.
    fn detached(&mut self) {
        self.me = None;
        self.units.clear();
        self.timers.clear();
        self.catalogue = Catalogue::default();
    }

    fn content(&mut self, service: S, out: &mut Vec<Output>) {
        self.service = service;
        let Some(me) = self.me else { return };
        let units: BTreeSet<_> = self.service.units().into_iter().map(|info| info.unit).collect();
        let gone: Vec<_> = self.units.keys().filter(|unit| !units.contains(unit)).cloned().collect();
        let new: Vec<_> = units.into_iter().filter(|unit| !self.units.contains_key(unit)).collect();
        let groups = |units: &[UnitId]| units.iter().map(|u| Purpose::Content(u.clone()).group()).collect();
        out.extend((!new.is_empty()).then(|| Output::Join(groups(&new))));
        out.extend((!gone.is_empty()).then(|| Output::Leave(groups(&gone))));
        for unit in gone {
            self.units.remove(&unit);
        }
        for unit in new {
            let fresh = self.fresh_unit(me);
            self.units.insert(unit, fresh);
        }
        self.announce(out);
    }

    fn announce(&self, out: &mut Vec<Output>) {
        let holds = ServiceMessage::Holds { units: self.service.units() };
        out.push(Output::Multicast { group: Purpose::Service.group(), payload: encode(&holds) });
    }

    fn on_view(&mut self, now: Time, view: &GroupView, out: &mut Vec<Output>) {
        match Purpose::of(&view.group) {
            Some(Purpose::Service) if self.catalogue.on_view(view) => self.announce(out),
            Some(Purpose::Service) | None => {}
            Some(Purpose::Content(unit)) => {
                let service = &self.service;
                let Some(state) = self.units.get_mut(&unit) else { return };
                state.position = 0;
                let effects = state.database.on_view(view, &|| encode_context(&service.open(&unit)));
                self.act(now, &unit, effects, out);
                self.observe_database(&unit, out);
            }
            Some(Purpose::Session(unit, session)) => self.entered(now, &unit, session, out),
        }
    }

    /// This server is in the session group: requests reach it from here on, so it can claim the session.
    fn entered(&mut self, now: Time, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        let Some(held) = self.units.get_mut(unit).and_then(|state| state.held.get_mut(&session)) else {
            return;
        };
        held.joined = true;
        if held.serving == Serving::Joining {
            self.claim(now, now, unit, session, out);
        }
    }

    fn on_message(
        &mut self,
        now: Time,
        group: GroupName,
        sender: ProcessId,
        payload: &Bytes,
        out: &mut Vec<Output>,
    ) {
        let handled = match Purpose::of(&group) {
            Some(Purpose::Service) => decode(payload).map(|message| self.on_service(sender, message, out)),
            Some(Purpose::Content(unit)) => {
                decode(payload).map(|message| self.on_content(now, &unit, sender, message, out))
            }
            Some(Purpose::Session(unit, session)) => {
                decode(payload).map(|message| self.on_session(now, &unit, session, message, out))
            }
            None => Ok(()),
        };
        if let Err(error) = handled {
            out.push(Output::Refused { group, sender, error });
        }
    }

    fn on_service(&mut self, sender: ProcessId, message: ServiceMessage, out: &mut Vec<Output>) {
        match message {
            ServiceMessage::Holds { units } => self.catalogue.on_holds(sender, units),
            ServiceMessage::List { gateway, query } => {
                if self.me.is_some() && self.catalogue.answerer(query) == self.me {
                    let units = self.catalogue.units();
                    self.send(&gateway, ToGateway::Units { query, units }, out);
                }
            }
        }
    }

    fn on_content(
        &mut self,
        now: Time,
        unit: &UnitId,
        sender: ProcessId,
        message: ContentMessage,
        out: &mut Vec<Output>,
    ) {
        let service = &self.service;
        let Some(state) = self.units.get_mut(unit) else { return };
        state.position += 1;
        let effects = state.database.on_message(sender, message, &|| encode_context(&service.open(unit)));
        self.act(now, unit, effects, out);
        self.observe_database(unit, out);
    }

    fn observe_database(&self, unit: &UnitId, out: &mut Vec<Output>) {
        let (true, Some(server), Some(state)) = (self.params.trace, self.me, self.units.get(unit)) else {
            return;
        };
        if state.database.is_agreed() {
            let (view, position, digest) = (state.database.view(), state.position, state.database.digest());
            out.push(Output::Trace(Event::Database { server, unit: unit.clone(), view, position, digest }));
        }
    }

    /// Does what transitions of a unit database mean for this server.
    fn act(&mut self, now: Time, unit: &UnitId, effects: Vec<Effect>, out: &mut Vec<Output>) {
        let (mut join, mut leave) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Assigned(session) => {
                    self.hear(now, unit, session);
                    self.settle(now, unit, session, &mut join, &mut leave, out);
                }
                Effect::Repeated(session) => self.reclaim(now, unit, session, out),
                Effect::Updated(session) => {
                    self.hear(now, unit, session);
                    self.follow(unit, session, out);
                }
                Effect::Attached { session, before } => self.follow_client(now, unit, session, &before, out),
                Effect::Ended { session, last } => self.ended(unit, session, &last, &mut leave, out),
                Effect::Refused { session, gateway, reason } => {
                    if self.speaks_for(unit) {
                        self.send(&gateway, ToGateway::Refused { session, reason }, out);
                    }
                }
                Effect::Tell(message) => {
                    let group = Purpose::Content(unit.clone()).group();
                    out.push(Output::Multicast { group, payload: encode(&message) });
                }
            }
        }
        out.extend((!leave.is_empty()).then_some(Output::Leave(leave)));
        out.extend((!join.is_empty()).then_some(Output::Join(join)));
    }

    fn hear(&mut self, now: Time, unit: &UnitId, session: SessionId) {
        if let Some(state) = self.units.get_mut(unit) {
            state.heard.insert(session, now);
        }
    }

    fn speaks_for(&self, unit: &UnitId) -> bool {
        self.units.get(unit).is_some_and(|state| state.database.is_spokesman())
    }

    /// Takes the role in a session that the unit database gives this server.
    fn settle(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        join: &mut Vec<GroupName>,
        leave: &mut Vec<GroupName>,
        out: &mut Vec<Output>,
    ) {
        let (Some(me), Some(state)) = (self.me, self.units.get_mut(unit)) else { return };
        let Some(known) = state.database.sessions().get(&session).cloned() else { return };
        let (fence, role) = (known.fence, role_of(me, &known));
        let was = state.held.get(&session).map_or(Role::None, |held| held.role);
        if was == Role::Primary && role != Role::Primary {
            last_word(unit, session, state, out);
        }
        let group = || Purpose::Session(unit.clone(), session).group();
        let changed = match (state.held.get_mut(&session), role) {
            (None, Role::None) => false,
            (Some(_), Role::None) => {
                state.held.remove(&session);
                leave.push(group());
                true
            }
            (Some(held), Role::Primary | Role::Backup) => held.take_role(role, fence),
            (None, Role::Primary | Role::Backup) => {
                let context = decode_context(&known.context).unwrap_or_else(|| self.service.open(unit));
                let mut held = Held::new(Role::None, &known, context);
                held.take_role(role, fence);
                state.held.insert(session, held);
                join.push(group());
                true
            }
        };
        let ready = state.held.get(&session).is_some_and(|held| held.joined);
        if changed {
            out.push(Output::RoleChanged { unit: unit.clone(), session, fence, role });
            if self.params.trace {
                let event = Event::Role { server: me, unit: unit.clone(), session, fence, role };
                out.push(Output::Trace(event));
            }
        }
        self.door(&known.gateway, out);
        if changed && role == Role::Primary && ready {
            self.claim(now, now, unit, session, out);
        }
    }

    /// The gateway asked again for a session that is there: perhaps the claim was lost.
    fn reclaim(&mut self, now: Time, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        let held = self.units.get(unit).and_then(|state| state.held.get(&session));
        if held.is_some_and(|held| held.role == Role::Primary && held.joined) {
            self.claim(now, now, unit, session, out);
        }
    }

    /// A backup, or a primary that has not begun yet, goes on from what was propagated.
    fn follow(&mut self, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        self.with_held(unit, session, out, |held, known, scene| held.follow(known, scene));
    }

    /// The client is at another gateway now.
    fn follow_client(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        before: &GatewayId,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.units.get(unit) else { return };
        let Some(gateway) = state.database.sessions().get(&session).map(|known| known.gateway.clone()) else {
            return;
        };
        self.door(&gateway, out);
        let Some(held) = state_of(&mut self.units, unit, session) else { return };
        if held.role == Role::Primary {
            let joined = held.joined;
            held.serving = Serving::Joining;
            self.send_if_up(before, ToGateway::Moved { session }, out);
            if joined {
                self.claim(now, now, unit, session, out);
            }
        }
        self.hang_up(before, session, out);
    }

    fn ended(
        &mut self,
        unit: &UnitId,
        session: SessionId,
        last: &Session,
        leave: &mut Vec<GroupName>,
        out: &mut Vec<Output>,
    ) {
        let speaks = self.speaks_for(unit);
        let Some(state) = self.units.get_mut(unit) else { return };
        state.heard.remove(&session);
        state.dirty.remove(&session);
        let answers = match last.primary {
            Some(primary) => Some(primary) == self.me,
            None => speaks,
        };
        if let Some(held) = state.held.remove(&session) {
            leave.push(Purpose::Session(unit.clone(), session).group());
            self.timers.remove(&(held.deadline().unwrap_or(Time::ZERO), unit.clone(), session));
            if let (true, Some(server)) = (self.params.trace, self.me) {
                let (fence, role) = (held.fence, Role::None);
                out.push(Output::Trace(Event::Role { server, unit: unit.clone(), session, fence, role }));
            }
        }
        if answers {
            self.send(&last.gateway, ToGateway::Ended { session }, out);
        }
        self.hang_up(&last.gateway, session, out);
    }

    fn on_session(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        message: SessionMessage,
        out: &mut Vec<Output>,
    ) {
        let SessionMessage::Request { number, operation } = message;
        let changed =
            self.with_held(unit, session, out, |held, _, scene| held.request(number, operation, scene));
        if changed == Some(true) {
            self.soil(now, unit, session);
            self.respond(now, unit, session, out);
        }
    }

    /// Asks the gateway of a session how far its client got.
    fn claim(&mut self, now: Time, since: Time, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        let again = now + self.params.claim_retry;
        self.set_serving(unit, session, Serving::Claiming { since, again });
        let Some(state) = self.units.get(unit) else { return };
        let (Some(held), Some(known)) = (state.held.get(&session), state.database.sessions().get(&session))
        else {
            return;
        };
        let (fence, requests, gateway) = (held.fence, held.replica.requests, known.gateway.clone());
        let claim = ToGateway::Claim { unit: unit.clone(), session, fence, requests };
        self.send_if_up(&gateway, claim, out);
    }

    fn on_gateway(&mut self, now: Time, gateway: &GatewayId, message: ToServer, out: &mut Vec<Output>) {
        let (ToServer::Serve { session, .. }
        | ToServer::Credit { session, .. }
        | ToServer::Fenced { session, .. }
        | ToServer::Unknown { session }) = message;
        let at_this_gateway = |state: &Unit<S::Context>| {
            state.held.contains_key(&session)
                && (self.draining
                    || state.database.sessions().get(&session).is_some_and(|known| known.gateway == *gateway))
        };
        let Some(unit) =
            self.units.iter().find(|(_, state)| at_this_gateway(state)).map(|(unit, _)| unit.clone())
        else {
            return;
        };
        let Some(held) = state_of(&mut self.units, &unit, session) else { return };
        match message {
            ToServer::Serve { fence, stream, cursor, credit, repeats_from, .. } => {
                if held.role == Role::Primary && held.fence == fence {
                    let grant = Grant { stream, cursor, credit, repeats_from };
                    self.with_held(&unit, session, out, |held, _, scene| held.serve(grant, scene));
                    self.propagate_soon(now, &unit, session);
                }
            }
            ToServer::Credit { stream, up_to: more, .. } => {
                if let Serving::Streaming { stream: current, up_to, .. } = &mut held.serving
                    && *current == stream
                {
                    *up_to = more.max(*up_to);
                }
            }
            ToServer::Fenced { fence, .. } => {
                if held.fence == fence {
                    self.set_serving(&unit, session, Serving::Nothing);
                    self.let_go(&unit, session, out);
                }
            }
            ToServer::Unknown { .. } => {}
        }
        self.respond(now, &unit, session, out);
    }

    /// While draining: what another server has taken over is done here.
    fn let_go(&mut self, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        if !self.draining {
            return;
        }
        if let Some(state) = self.units.get_mut(unit) {
            state.held.remove(&session);
        }
        self.tell_if_drained(out);
    }

    fn tell_if_drained(&self, out: &mut Vec<Output>) {
        let serves = |held: &Held<S::Context>| matches!(held.serving, Serving::Streaming { .. });
        if self.draining && !self.units.values().any(|state| state.held.values().any(serves)) {
            out.push(Output::Drained);
        }
    }

    /// Leaves every group in which sessions are assigned; those served here go on until their new primaries have
    /// them.
    fn drain(&mut self, out: &mut Vec<Output>) {
        self.draining = true;
        let mut groups = Vec::from([Purpose::Service.group()]);
        for (unit, state) in &mut self.units {
            let served: Vec<_> = state.held.iter().filter(|(_, held)| held.role == Role::Primary).collect();
            state.dirty.extend(served.into_iter().map(|(session, _)| *session));
            propagate(unit, state, self.params.message_bytes_max, out);
            groups.push(Purpose::Content(unit.clone()).group());
        }
        out.push(Output::Leave(groups));
        self.tell_if_drained(out);
    }

    fn gateway_up(&mut self, now: Time, gateway: &GatewayId, out: &mut Vec<Output>) {
        let Some(door) = self.doors.get_mut(gateway) else { return };
        door.up = true;
        let waiting = core::mem::take(&mut door.outbox);
        out.extend(waiting.into_iter().map(|message| Output::Send(gateway.clone(), message)));
        for (unit, session, since) in self.served_at(gateway) {
            self.claim(now, since.unwrap_or(now), &unit, session, out);
        }
    }

    fn gateway_down(&mut self, now: Time, gateway: &GatewayId) {
        let Some(door) = self.doors.get_mut(gateway) else { return };
        door.up = false;
        for (unit, session, since) in self.served_at(gateway) {
            let (since, again) = (since.unwrap_or(now), now + self.params.claim_retry);
            self.set_serving(&unit, session, Serving::Claiming { since, again });
        }
    }

    /// The sessions that this server serves to clients of a gateway, or tries to, and since when it tries.
    fn served_at(&self, gateway: &GatewayId) -> Vec<(UnitId, SessionId, Option<Time>)> {
        let mut served = Vec::new();
        for (unit, state) in &self.units {
            for (session, held) in &state.held {
                let here =
                    state.database.sessions().get(session).is_some_and(|known| known.gateway == *gateway);
                match held.serving {
                    Serving::Claiming { since, .. } if here => {
                        served.push((unit.clone(), *session, Some(since)))
                    }
                    Serving::Streaming { .. } if here => {
                        served.push((unit.clone(), *session, None));
                    }
                    Serving::Nothing
                    | Serving::Joining
                    | Serving::Claiming { .. }
                    | Serving::Streaming { .. } => {}
                }
            }
        }
        served
    }

    /// Makes sure that there is a stream to a gateway, or that somebody is trying.
    fn door(&mut self, gateway: &GatewayId, out: &mut Vec<Output>) -> &mut Door {
        if !self.doors.contains_key(gateway) {
            out.push(Output::Dial(gateway.clone()));
        }
        self.doors.entry(gateway.clone()).or_default()
    }

    fn send(&mut self, gateway: &GatewayId, message: ToGateway, out: &mut Vec<Output>) {
        let door = self.door(gateway, out);
        if door.up {
            out.push(Output::Send(gateway.clone(), message));
            return;
        }
        if door.outbox.len() == OUTBOX_MAX {
            door.outbox.remove(0);
        }
        door.outbox.push(message);
    }

    fn send_if_up(&self, gateway: &GatewayId, message: ToGateway, out: &mut Vec<Output>) {
        if self.doors.get(gateway).is_some_and(|door| door.up) {
            out.push(Output::Send(gateway.clone(), message));
        }
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
        let (held, known) = (state.held.get_mut(&session)?, state.database.sessions().get(&session)?);
        let before = held.deadline();
        let (mut send, mut trace) = (Vec::new(), Vec::new());
        let limits = replica::Limits {
            requests_kept: self.params.requests_kept,
            context_bytes_max: self.params.context_bytes_max,
        };
        let mut scene = Scene {
            service: &self.service,
            unit,
            session,
            me,
            limits,
            send: &mut send,
            trace: self.params.trace.then_some(&mut trace),
        };
        let result = step(held, known, &mut scene);
        let after = held.deadline();
        let gateway = known.gateway.clone();
        self.reschedule(unit, session, before, after);
        out.extend(trace.into_iter().map(Output::Trace));
        for message in send {
            self.send_if_up(&gateway, message, out);
        }
        Some(result)
    }

    fn set_serving(&mut self, unit: &UnitId, session: SessionId, serving: Serving) {
        let Some(held) = state_of(&mut self.units, unit, session) else { return };
        let before = held.deadline();
        held.serving = serving;
        let after = held.deadline();
        self.reschedule(unit, session, before, after);
    }

    fn reschedule(&mut self, unit: &UnitId, session: SessionId, before: Option<Time>, after: Option<Time>) {
        if before != after {
            if let Some(time) = before {
                self.timers.remove(&(time, unit.clone(), session));
            }
            if let Some(time) = after {
                self.timers.insert((time, unit.clone(), session));
            }
        }
    }

    fn respond(&mut self, now: Time, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        if self.with_held(unit, session, out, |held, _, scene| held.respond(now, scene)) == Some(true) {
            self.soil(now, unit, session);
        }
    }

    /// The context of a session served here is ahead of the unit database.
    fn soil(&mut self, now: Time, unit: &UnitId, session: SessionId) {
        let Some(state) = self.units.get_mut(unit) else { return };
        if state.held.get(&session).is_some_and(|held| held.role == Role::Primary) {
            state.dirty.insert(session);
            let due = now + state.database.policy().period;
            state.propagate_at = state.propagate_at.or(Some(due));
        }
    }

    /// A new primary propagates at once: until then a second failure would go back to what the first one left.
    fn propagate_soon(&mut self, now: Time, unit: &UnitId, session: SessionId) {
        if let Some(state) = self.units.get_mut(unit) {
            state.dirty.insert(session);
            state.propagate_at = Some(now);
        }
    }

    /// A claim that nobody answered: ask again, or end the session if its client has been away for too long.
    fn press_claim(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        since: Time,
        out: &mut Vec<Output>,
    ) {
        if now.since(since) < self.params.detach_ttl {
            self.claim(now, since, unit, session, out);
            return;
        }
        self.set_serving(unit, session, Serving::Nothing);
        let Some(state) = self.units.get(unit) else { return };
        let Some(known) = state.database.sessions().get(&session) else { return };
        let end = ContentMessage::Expire { session, gateway: known.gateway.clone() };
        out.push(Output::Multicast { group: Purpose::Content(unit.clone()).group(), payload: encode(&end) });
    }

    /// Stops dialling a gateway that is gone, if `last` was the last session that had its client there.
    fn hang_up(&mut self, gateway: &GatewayId, last: SessionId, out: &mut Vec<Output>) {
        if self.doors.get(gateway).is_none_or(|door| door.up) {
            return;
        }
        let mut sessions = self.units.values().flat_map(|state| state.database.sessions());
        if !sessions.any(|(id, known)| *id != last && known.gateway == *gateway) {
            self.doors.remove(gateway);
            out.push(Output::Hangup(gateway.clone()));
        }
    }
}

fn role_of(me: ProcessId, session: &Session) -> Role {
    if session.primary == Some(me) {
        Role::Primary
    } else if session.backups.contains(&me) {
        Role::Backup
    } else {
        Role::None
    }
}

fn state_of<'a, C>(
    units: &'a mut BTreeMap<UnitId, Unit<C>>,
    unit: &UnitId,
    session: SessionId,
) -> Option<&'a mut Held<C>> {
    units.get_mut(unit)?.held.get_mut(&session)
}

/// Multicasts what became of the sessions served here since the last time.
fn propagate<C>(unit: &UnitId, state: &mut Unit<C>, bytes_max: usize, out: &mut Vec<Output>)
where
    C: Clone + serde::Serialize + serde::de::DeserializeOwned,
{
    const UPDATE_OVERHEAD: usize = 128;
    state.propagate_at = None;
    let (mut batch, mut size) = (Vec::new(), 0);
    let mut flush = |updates: Vec<_>| {
        let group = Purpose::Content(unit.clone()).group();
        out.push(Output::Multicast { group, payload: encode(&ContentMessage::Propagate { updates }) });
    };
    for session in core::mem::take(&mut state.dirty) {
        let Some(held) = state.held.get_mut(&session) else { continue };
        if held.role != Role::Primary {
            continue;
        }
        let update = held.update(session);
        size += update.context.len() + UPDATE_OVERHEAD;
        batch.push(update);
        if size >= bytes_max {
            flush(core::mem::take(&mut batch));
            size = 0;
        }
    }
    if !batch.is_empty() {
        flush(batch);
    }
}

/// A primary that is replaced while it lives says how far it got.
fn last_word<C>(unit: &UnitId, session: SessionId, state: &mut Unit<C>, out: &mut Vec<Output>)
where
    C: Clone + serde::Serialize + serde::de::DeserializeOwned,
{
    state.dirty.remove(&session);
    if let Some(held) = state.held.get_mut(&session) {
        let payload = encode(&ContentMessage::Propagate { updates: Vec::from([held.update(session)]) });
        out.push(Output::Multicast { group: Purpose::Content(unit.clone()).group(), payload });
    }
}

impl<S: ContentService> Machine for Server<S> {
    type Input = Input<S>;
    type Output = Output;

    fn handle(&mut self, now: Time, input: Input<S>, out: &mut Vec<Output>) {
        match input {
            Input::Attached(me) => self.attached(me, out),
            Input::Detached => self.detached(),
            Input::Views(views) => views.iter().for_each(|view| self.on_view(now, view, out)),
            Input::Message { group, sender, payload } => self.on_message(now, group, sender, &payload, out),
            Input::GatewayUp(gateway) => self.gateway_up(now, &gateway, out),
            Input::GatewayDown(gateway) => self.gateway_down(now, &gateway),
            Input::Gateway(gateway, message) => self.on_gateway(now, &gateway, message, out),
            Input::Content(service) => self.content(service, out),
            Input::Drain => self.drain(out),
        }
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some((time, unit, session)) = self.timers.first().cloned() {
            if time > now {
                break;
            }
            self.timers.remove(&(time, unit.clone(), session));
            match state_of(&mut self.units, &unit, session).map(|held| held.serving.clone()) {
                Some(Serving::Claiming { since, .. }) => self.press_claim(now, &unit, session, since, out),
                Some(Serving::Streaming { stream, up_to, .. }) => {
                    self.set_serving(&unit, session, Serving::Streaming { stream, up_to, due: None });
                    self.respond(now, &unit, session, out);
                }
                Some(Serving::Nothing | Serving::Joining) | None => {}
            }
        }
        for (unit, state) in &mut self.units {
            if state.propagate_at.is_some_and(|time| time <= now) {
                propagate(unit, state, self.params.message_bytes_max, out);
            }
        }
    }

    fn next_wake(&self) -> Option<(Time, &'static str)> {
        let session = self.timers.first().map(|(time, _, _)| (*time, "a session"));
        let propagation = self
            .units
            .values()
            .filter_map(|state| state.propagate_at)
            .min()
            .map(|time| (time, "propagation"));
        session.into_iter().chain(propagation).min()
    }
}
