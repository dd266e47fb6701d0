//! What happens in the groups of a server, and what it means for the sessions here.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use model::trace::{Event, Role};
use model::{Fence, GroupName, GroupView, Level, ProcessId, SessionId, Time, UnitId};

use super::commits::Place;
use super::interface::{Output, Predecessor};
use super::unit::Unit;
use super::{Holders, Server};
use crate::edition::{ContentId, Edition, decode_context};
use crate::held::{Held, Serving};
use crate::message::{AttachRefusal, ContentMessage, GatewayId, ServiceMessage, ToGateway, decode, encode};
use crate::names::Purpose;
use crate::replica::{Base, ServiceContexts};
use crate::service::{ContentService, UnitInfo};
use crate::unit_db::{Effect, Session};

/// What a group delivers.
pub(super) struct Delivery<'a> {
    pub(super) sender: ProcessId,
    pub(super) level: Level,
    pub(super) payload: &'a Bytes,
}

/// Questions about the units that wait, at most; the oldest go first. They are asked again.
const QUESTIONS_MAX: usize = 256;

/// Groups to join and to leave, gathered over the effects of one event.
#[derive(Default)]
pub(super) struct Moves {
    join: Vec<GroupName>,
    leave: Vec<GroupName>,
}

impl Moves {
    pub(super) fn order(self, out: &mut Vec<Output>) {
        let Moves { join, leave } = self;
        out.extend((!leave.is_empty()).then_some(Output::Leave(leave)));
        out.extend((!join.is_empty()).then_some(Output::Join(join)));
    }
}

impl<S: ContentService> Server<S> {
    /// Says what clients can have here: of each unit, the edition that new sessions are opened on.
    pub(super) fn announce(&self, out: &mut Vec<Output>) {
        let is_present = |info: &UnitInfo| {
            self.units.get(&info.unit).is_some_and(|state| state.database.edition() == info.edition)
        };
        let units = self.service.units().into_iter().filter(is_present).collect();
        let holds = ServiceMessage::Holds { units };
        out.push(Output::multicast(Purpose::Service.group(), encode(&holds)));
    }

    pub(super) fn on_view(&mut self, now: Time, view: &GroupView, out: &mut Vec<Output>) {
        match Purpose::of(&view.group) {
            Some(Purpose::Service) => {
                if self.catalogue.on_view(view) {
                    self.announce(out);
                }
                self.answer(now, out);
            }
            None => {}
            Some(Purpose::Content(unit)) => {
                let Some(state) = self.units.get_mut(&unit) else { return };
                state.has_joined |= self.me.is_some_and(|me| view.joined.contains(&me));
                if !state.has_joined {
                    return;
                }
                state.position = 0;
                let effects = state.database.on_view(view);
                self.tell_news(&unit, out);
                self.act(now, &unit, effects, out);
                self.observe_database(&unit, out);
                self.leave_to_others(&unit, out);
            }
            Some(Purpose::Session(unit, session)) => self.entered(now, &unit, session, view, out),
        }
    }

    /// This server is in the session group: requests reach it from here on, so it can claim the session. A view that it did
    /// not join with is of an earlier membership, as that of a content group may be.
    fn entered(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        view: &GroupView,
        out: &mut Vec<Output>,
    ) {
        let joins = self.me.is_some_and(|me| view.joined.contains(&me));
        if self.held(unit, session).is_none_or(|held| !held.joined && !joins) {
            return;
        }
        self.meet(now, unit, session, view, out);
        let Some(held) = self.held(unit, session) else { return };
        held.joined = true;
        if held.serving == Serving::Joining {
            self.claim(now, now, unit, session, out);
        }
    }

    pub(super) fn on_message(
        &mut self,
        now: Time,
        group: GroupName,
        delivery: Delivery<'_>,
        out: &mut Vec<Output>,
    ) {
        let Delivery { sender, level, payload } = delivery;
        let handled = match Purpose::of(&group) {
            Some(Purpose::Service) => {
                decode(payload).map(|message| self.on_service(now, sender, message, out))
            }
            Some(Purpose::Content(unit)) => {
                decode(payload).map(|message| self.on_content(now, &unit, (sender, level), message, out))
            }
            Some(Purpose::Session(unit, session)) => decode(payload).map(|message| {
                let place = Place { unit: &unit, session, sender, level };
                self.on_session(now, place, message, out);
            }),
            None => Ok(()),
        };
        if let Err(error) = handled {
            out.push(Output::Refused { group, sender, error });
        }
    }

    fn on_service(&mut self, now: Time, sender: ProcessId, message: ServiceMessage, out: &mut Vec<Output>) {
        match message {
            ServiceMessage::Holds { units } => self.catalogue.on_holds(sender, units),
            ServiceMessage::List { gateway, query } => {
                if self.me.is_some() && self.catalogue.answerer(query) == self.me {
                    if self.questions.len() == QUESTIONS_MAX {
                        self.questions.pop_front();
                    }
                    self.questions.push_back((gateway, query));
                }
            }
        }
        self.answer(now, out);
    }

    fn answer(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.catalogue.is_complete() {
            for (gateway, query) in core::mem::take(&mut self.questions) {
                let units = self.catalogue.units();
                self.doors.send(now, &gateway, ToGateway::Units { query, units }, out);
            }
        }
    }

    fn on_content(
        &mut self,
        now: Time,
        unit: &UnitId,
        (sender, level): (ProcessId, Level),
        message: ContentMessage,
        out: &mut Vec<Output>,
    ) {
        let settles = message.settles();
        let Some(state) = self.units.get_mut(unit).filter(|state| state.has_joined) else { return };
        let (present, former) = (&self.service, self.former.as_ref());
        let Unit { editions, vanishing, .. } = state;
        let holders = Holders { present, former, editions, vanishing };
        let contexts = ServiceContexts { holders, unit, bytes_max: self.params.context_bytes_max };
        state.position += 1;
        let mut effects = state.database.on_message(sender, message, &contexts);
        if let Some((view, opening)) = settles {
            effects.extend(match level {
                Level::Safe => state.database.settle(view, opening),
                Level::Agreed => state.database.settle_later(view),
            });
        }
        self.tell_news(unit, out);
        self.act(now, unit, effects, out);
        self.observe_database(unit, out);
        self.leave_to_others(unit, out);
    }

    /// What happened to sessions in the unit database.
    fn tell_news(&mut self, unit: &UnitId, out: &mut Vec<Output>) {
        let Some(state) = self.units.get_mut(unit) else { return };
        let news = state.database.news();
        out.extend(news.into_iter().map(|(session, happening)| state.report(unit, session, happening)));
    }

    fn observe_database(&self, unit: &UnitId, out: &mut Vec<Output>) {
        let (true, Some(server), Some(state)) = (self.params.trace, self.me, self.units.get(unit)) else {
            return;
        };
        if state.database.is_agreed() {
            let (view, position, digest) = (state.database.view(), state.position, state.database.digest());
            let (primaries, forsaken) = (state.database.primaries(), state.database.forsaken());
            let unit = unit.clone();
            let event = Event::Database { server, unit, view, position, digest, primaries, forsaken };
            out.push(Output::Trace(event));
        }
    }

    fn observe_balance(&self, unit: &UnitId, moves: usize, out: &mut Vec<Output>) {
        let (true, Some(server), Some(state)) = (self.params.trace, self.me, self.units.get(unit)) else {
            return;
        };
        let (view, at_most) = (state.database.view(), self.params.moves_max);
        out.push(Output::Trace(Event::Balance { server, unit: unit.clone(), view, moves, at_most }));
    }

    /// Does what transitions of a unit database mean for this server.
    fn act(&mut self, now: Time, unit: &UnitId, effects: Vec<Effect>, out: &mut Vec<Output>) {
        let mut moves = Moves::default();
        for effect in effects {
            match effect {
                Effect::Assigned(session) => {
                    self.hear(now, unit, session);
                    self.settle(now, unit, session, &mut moves, out);
                }
                Effect::Repeated(session) => self.reclaim(now, unit, session, out),
                Effect::Missed(session) => {
                    // If there is a stream here, word of it is on its way: to begin anew would be to lose it again.
                    let streams = |held: &mut Held<_>| {
                        matches!(held.serving, Serving::Streaming { .. } | Serving::Reigning { .. })
                    };
                    if !self.held(unit, session).is_some_and(streams) {
                        self.reclaim(now, unit, session, out);
                    }
                }
                Effect::Updated(session) => {
                    self.hear(now, unit, session);
                    self.make_way(now, unit, session, &mut moves, out);
                    self.follow(unit, session, out);
                }
                Effect::Attached { session, before } => {
                    self.retire(now, unit, session, &mut moves, out);
                    self.follow_client(now, unit, session, &before, out);
                }
                Effect::Ended { session, last } => self.ended(now, unit, session, &last, &mut moves, out),
                Effect::Refused { session, gateway, reason } => {
                    if self.speaks_for(unit) {
                        self.doors.send(now, &gateway, ToGateway::Refused { session, reason }, out);
                    }
                }
                Effect::Ordered { by, ticket, outcome } => {
                    if Some(by) == self.me {
                        self.returned(ticket, unit, outcome, out);
                    }
                }
                Effect::Stalled { session, from, to } => {
                    out.push(Output::Stalled { unit: unit.clone(), session, from, to });
                }
                Effect::Balanced(moves) => self.observe_balance(unit, moves, out),
                Effect::PolicyChanged => {
                    if let Some(state) = self.units.get_mut(unit) {
                        state.hasten(now);
                    }
                    self.review_component(now, unit, &mut moves, out);
                }
                Effect::Published => self.announce(out),
                Effect::Live => self.review_component(now, unit, &mut moves, out),
                Effect::Opened => {
                    let held =
                        self.units.get(unit).map(|state| state.held.keys().copied().collect::<Vec<_>>());
                    held.into_iter().flatten().for_each(|session| self.respond(now, unit, session, out));
                }
                Effect::Carried(session) => self.respond(now, unit, session, out),
                Effect::Tell(message) => out.push(tell(unit, &message)),
            }
        }
        moves.order(out);
    }

    fn hear(&mut self, now: Time, unit: &UnitId, session: SessionId) {
        if let Some(state) = self.units.get_mut(unit) {
            state.heard.insert(session, now);
        }
    }

    fn speaks_for(&self, unit: &UnitId) -> bool {
        self.units.get(unit).is_some_and(|state| state.database.is_spokesman())
    }

    /// The new primary of a session has told its context: whoever served the session before need not go on.
    fn make_way(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        moves: &mut Moves,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.units.get(unit) else { return };
        let told = state.database.sessions().get(&session).map(|known| known.version.fence);
        if told > state.held.get(&session).map(|held| held.fence) {
            self.retire(now, unit, session, moves, out);
        }
    }

    /// Takes the part in a session that the unit database gives this server. A primary that is replaced while it lives
    /// says how far it got, and goes on until its gateway has granted the session to another.
    pub(super) fn settle(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        moves: &mut Moves,
        out: &mut Vec<Output>,
    ) {
        let (Some(me), Some(state)) = (self.me, self.units.get_mut(unit)) else { return };
        let Some(known) = state.database.sessions().get(&session).cloned() else { return };
        // Its own settings may have changed since it told the others what it holds.
        let holds_it = known.edition().is_some_and(|edition| state.editions.contains(&edition));
        let (fence, role) = (known.fence, if holds_it { role_of(me, &known) } else { Role::None });
        let before = state.held.get(&session).map_or(Role::None, |held| held.role);
        if before == Role::Primary && role != Role::Primary {
            match state.held.get(&session).map(|held| &held.serving) {
                Some(Serving::Streaming { .. }) => {
                    state.last_word(unit, session, out);
                    return;
                }
                Some(Serving::Joining | Serving::Claiming { .. } | Serving::Reigning { .. }) => {
                    state.last_word(unit, session, out);
                }
                Some(Serving::Nothing) | None => {}
            }
        }
        let group = || Purpose::Session(unit.clone(), session).group();
        let changed = match (state.held.get_mut(&session), role) {
            (None, Role::None) => false,
            (Some(_), Role::None) => {
                state.held.remove(&session);
                moves.leave.push(group());
                true
            }
            (Some(held), Role::Primary | Role::Backup) => held.take_role(role, fence),
            (None, Role::Primary | Role::Backup) => {
                self.lineages += 1;
                let base = base_of(&self.service, unit, &known, self.lineages);
                let mut held = Box::new(Held::new(fence, base));
                held.take_role(role, fence);
                state.held.insert(session, held);
                moves.join.push(group());
                true
            }
        };
        let ready = state.held.get(&session).is_some_and(|held| held.joined);
        self.reschedule(unit, session);
        if changed {
            self.note_role(unit, session, fence, role, out);
        }
        self.doors.dial(now, &known.gateway, out);
        if changed && role == Role::Primary && ready {
            self.claim(now, now, unit, session, out);
        }
    }

    pub(super) fn note_role(
        &self,
        unit: &UnitId,
        session: SessionId,
        fence: Fence,
        role: Role,
        out: &mut Vec<Output>,
    ) {
        let before = if role == Role::Primary { self.predecessor(unit, session, fence) } else { None };
        out.push(Output::RoleChanged { unit: unit.clone(), session, fence, role, before });
        if let (true, Some(server)) = (self.params.trace, self.me) {
            out.push(Output::Trace(Event::Role { server, unit: unit.clone(), session, fence, role }));
        }
    }

    /// Who had the session before the primary that it has now: whom that replaced, or, where nobody was left for a while,
    /// who propagated last.
    fn predecessor(&self, unit: &UnitId, session: SessionId, now: Fence) -> Option<Predecessor> {
        let database = &self.units.get(unit)?.database;
        let known = database.sessions().get(&session)?;
        let server = known.replaced.map(|replaced| replaced.server);
        let fence = known.replaced.map_or(known.version.fence, |replaced| replaced.fence);
        let is_here = server.is_some_and(|server| database.members().contains(&server));
        (Fence::NONE < fence && fence < now).then_some(Predecessor { server, fence, is_here })
    }

    /// The gateway asked again for a session that is there: perhaps the claim was lost.
    fn reclaim(&mut self, now: Time, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        let primary = |held: &mut Held<_>| held.role == Role::Primary && held.joined;
        if !self.is_outgoing(unit, session) && self.held(unit, session).is_some_and(primary) {
            self.claim(now, now, unit, session, out);
        }
    }

    /// A backup, or a primary that has not begun yet, goes on from what was propagated.
    fn follow(&mut self, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        self.with_held(unit, session, out, |held, known, scene| {
            held.follow(known, scene);
            // A backup follows nothing of an edition that it does not hold, nor of before what was committed here.
            let can_follow = known.edition().is_some_and(|edition| scene.editions.contains(&edition))
                && held.ledger.fence <= known.version.fence;
            if held.role == Role::Backup && can_follow {
                let (server, session) = (scene.me, scene.session);
                let known = (known.responses, known.requests);
                let position = (held.replica.responses, held.replica.requests);
                let has_all = held.joined && held.ledger.knows && held.ledger.unheard.is_empty();
                let waits = scene.commit.is_some() && !has_all;
                scene.observe(|| Event::Follow { server, session, known, position, waits });
            }
        });
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
        let known = self.units.get(unit).and_then(|state| state.database.sessions().get(&session));
        let Some(gateway) = known.map(|known| known.gateway.clone()) else { return };
        self.doors.dial(now, &gateway, out);
        // It listens to the server that it thinks serves the session, which may be this one, primary or not.
        self.doors.send_if_open(before, ToGateway::Moved { session }, out);
        let Some(held) = self.held(unit, session).filter(|held| held.role == Role::Primary) else { return };
        held.serving = Serving::Joining;
        let joined = held.joined;
        self.reschedule(unit, session);
        if joined {
            self.claim(now, now, unit, session, out);
        }
    }

    fn ended(
        &mut self,
        now: Time,
        unit: &UnitId,
        session: SessionId,
        last: &Session,
        moves: &mut Moves,
        out: &mut Vec<Output>,
    ) {
        let answers = match last.primary {
            Some(primary) => Some(primary) == self.me,
            None => self.speaks_for(unit),
        };
        let Some(state) = self.units.get_mut(unit) else { return };
        let failed = state.database.why_not(session) == AttachRefusal::Failed;
        state.heard.remove(&session);
        state.dirty.remove(&session);
        if let Some(held) = state.held.remove(&session) {
            moves.leave.push(Purpose::Session(unit.clone(), session).group());
            self.note_role(unit, session, held.fence, Role::None, out);
        }
        self.reschedule(unit, session);
        if answers {
            let reason = AttachRefusal::Failed;
            let over =
                if failed { ToGateway::Refused { session, reason } } else { ToGateway::Ended { session } };
            self.doors.send(now, &last.gateway, over, out);
        }
    }
}

/// A multicast in the content group of a unit.
pub(super) fn tell(unit: &UnitId, message: &ContentMessage) -> Output {
    let group = Purpose::Content(unit.clone()).group();
    Output::Multicast { group, payload: encode(message), level: message.level() }
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

/// The context of a session as the unit database has it.
fn base_of<S: ContentService>(service: &S, unit: &UnitId, known: &Session, lineage: u64) -> Base<S::Context> {
    let edition = known.edition().unwrap_or(Edition::ONLY);
    let content = ContentId { unit: unit.clone(), edition };
    let open = || service.open(&content);
    let context = decode_context(&known.context, open).unwrap_or_else(open);
    let (requests, (responses, history)) = (known.requests, known.history());
    Base { content, history, context, requests, responses, lineage }
}
