//! The unit database: the sessions of one content unit, replicated at every server that holds the unit [FK:unit-db].
//!
//! A deterministic state machine over the events of the content group: views and messages in their total order.
//! Invariant: replicas in one another's `synced` sets have equal databases at equal places of that order
//! [FK:consistent]. So a view that only removes members is acted upon at once, with no message exchanged
//! [FK:failure-only]; any other view waits until each class of equal replicas has told its database, by one of its
//! members [FK:state-exchange].

mod editions;
mod exchange;
mod happening;
mod intent;
mod order;
mod policy;
mod rebuild;
mod relocation;
mod session;
mod shared;
mod stalls;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;
use model::{Boot, Digest, Fence, GroupView, GroupViewId, Name, ProcessId, SessionId};

use crate::assign::{Assignment, Loads};
use crate::edition::{Edition, edition_of, unopened};
use crate::message::{AttachRefusal, ContentMessage, GatewayId, Secret, encode};
use crate::service::SharedState;
pub(crate) use editions::Holdings;
use exchange::Parts;
pub use exchange::Share;
use happening::{Cast, Chronicle};
pub use happening::{Happening, Why};
pub use intent::Intent;
pub(crate) use intent::Intents;
pub use order::{OrderRefusal, Ordered};
pub use policy::{Components, Policy, PolicyChange, Rebuild, Uncertain};
pub use relocation::Relocation;
pub use session::{Replaced, Session, Stage, Tomb, Update, Version};
pub use shared::SharedStatus;
pub(crate) use shared::{Carried, Shared};
pub use stalls::Stalls;

/// How many ended sessions are remembered, so that a late copy of one does not come back to life.
const TOMBS_MAX: usize = 4096;

/// How many messages wait for the end of an exchange before what gateways would ask again is dropped.
const WAITING_MAX: usize = 1 << 16;

/// What a transition means for the server that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The session is new, or its primary, backups or fence may have changed.
    Assigned(SessionId),
    /// A start was repeated: the gateway may have missed the claim.
    Repeated(SessionId),
    /// The gateway has no stream of the session.
    Missed(SessionId),
    /// The primary propagated the session's context.
    Updated(SessionId),
    /// The session's client is at another gateway; it was at this one.
    Attached { session: SessionId, before: GatewayId },
    /// The session is over; this is what was known of it.
    Ended { session: SessionId, last: Box<Session> },
    /// The gateway is to be told that it cannot attach.
    Refused { session: SessionId, gateway: GatewayId, reason: AttachRefusal },
    /// What became of an operator's order, which this member gave.
    Ordered { by: ProcessId, ticket: u64, outcome: Result<Ordered, OrderRefusal> },
    /// A gateway heard nothing from the primary of a session for too long; it is moved, if it can be.
    Stalled { session: SessionId, from: Option<ProcessId>, to: Option<ProcessId> },
    /// So many sessions were moved to spread them evenly.
    Balanced(usize),
    /// The unit has another policy.
    PolicyChanged,
    /// New sessions are opened on another edition.
    Published,
    /// The shared state can change among the present members now, or cannot any more.
    Live,
    /// Requests to the shared state may be multicast from here on, and what came of those before may be used.
    Opened,
    /// A request of this session to the shared state was carried out.
    Carried(SessionId),
    /// To be multicast in the content group.
    Tell(ContentMessage),
}

/// Whether the database may be acted upon.
#[derive(Clone, Debug)]
enum Phase {
    /// All members of the view have it.
    Running,
    /// Some members may have another: waiting for each class to tell its own. Other events wait too.
    Exchanging { shares: BTreeMap<Vec<ProcessId>, Parts>, waiting: Vec<(ProcessId, ContentMessage)> },
}

/// What is behind the bytes in a database.
pub(crate) trait Contexts {
    /// One of two that both sides of a partition served, if there is more to it than to take one of them.
    fn merge(&self, one: &[u8], other: &[u8]) -> Option<Bytes>;

    /// The shared state that a snapshot was taken of.
    fn restore(&self, edition: Edition, snapshot: &[u8]) -> Option<Box<dyn SharedState>>;
}

/// The replica of the unit database at one server.
#[derive(Clone, Debug)]
pub struct Database {
    me: ProcessId,
    policy: Policy,
    /// The edition that new sessions are opened on.
    edition: Edition,
    /// How many times operators changed the policy, or the edition.
    changes: u64,
    holdings: Holdings,
    intents: Intents,
    /// The state that all sessions share, if the unit has one.
    shared: Option<Shared>,
    /// The last fence counter given out.
    fences: u64,
    /// How many sessions have ended.
    buried: u64,
    sessions: BTreeMap<SessionId, Box<Session>>,
    tombs: BTreeMap<SessionId, Tomb>,
    view: GroupViewId,
    members: BTreeSet<ProcessId>,
    /// Members whose database is known to equal this one.
    synced: BTreeSet<ProcessId>,
    phase: Phase,
    loads: Loads,
    limits: Limits,
    chronicle: Chronicle,
}

/// Bounds of one database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Moves for balance in one view.
    pub(crate) moves_max: usize,
    /// The size of one state message, in bytes.
    pub(crate) state_bytes_max: usize,
    /// Results of a session's requests to the shared state that are remembered.
    pub(crate) results_kept: usize,
}

impl Database {
    /// An empty database, at a server that is in no view of the content group yet, and holds these editions.
    /// `shared` is the state that sessions share as it is founded, if they share one.
    pub(crate) fn new(
        me: ProcessId,
        policy: Policy,
        editions: BTreeSet<Edition>,
        shared: Option<Box<dyn SharedState>>,
        limits: Limits,
    ) -> Database {
        Database {
            me,
            policy,
            edition: editions.last().copied().unwrap_or(Edition::ONLY),
            changes: 0,
            holdings: Holdings::of(me, editions),
            intents: Intents::default(),
            shared: shared.map(Shared::unfounded),
            fences: 0,
            buried: 0,
            sessions: BTreeMap::new(),
            tombs: BTreeMap::new(),
            view: GroupViewId::NONE,
            members: BTreeSet::new(),
            synced: BTreeSet::from([me]),
            phase: Phase::Running,
            loads: Loads::default(),
            limits,
            chronicle: Chronicle::default(),
        }
    }

    /// The sessions, by id.
    pub fn sessions(&self) -> &BTreeMap<SessionId, Box<Session>> {
        &self.sessions
    }

    /// The policy that all replicas follow.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The view of the content group.
    pub fn view(&self) -> GroupViewId {
        self.view
    }

    /// The servers in that view.
    pub fn members(&self) -> &BTreeSet<ProcessId> {
        &self.members
    }

    /// Whether the database is that of all members; while it is not, nobody is appointed.
    pub fn is_agreed(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Who serves any of its sessions.
    pub(crate) fn primaries(&self) -> BTreeSet<ProcessId> {
        self.sessions.values().filter_map(|session| session.primary).collect()
    }

    /// How many sessions nobody serves though some member could, and has not been told to leave them alone.
    pub(crate) fn forsaken(&self) -> usize {
        let can = |session: &Session| {
            let edition = session.edition();
            self.members.iter().any(|member| edition.is_some_and(|edition| self.has(*member, edition)))
        };
        let is_forsaken =
            |session: &Session| session.primary.is_none() && !session.is_given_up() && can(session);
        self.sessions.values().filter(|session| is_forsaken(session)).count()
    }

    /// A fingerprint of all that replicas must agree on.
    pub fn digest(&self) -> Digest {
        Digest::of(&encode(&(self.whole(), self.shared.as_ref().map(Shared::fingerprint))))
    }

    /// The member that answers for all where any of them could.
    pub(crate) fn is_spokesman(&self) -> bool {
        self.members.first() == Some(&self.me)
    }

    /// A view of the content group.
    pub(crate) fn on_view(&mut self, view: &GroupView) -> Vec<Effect> {
        let mut effects = self.abandon_exchange();
        self.meet(view);
        self.view = view.id;
        self.members = view.members.iter().map(|member| member.process).collect();
        self.holdings.retain(&self.members);
        if let Some(shared) = &mut self.shared {
            shared.on_view(view);
        }
        let transitional: BTreeSet<_> = view.transitional.iter().copied().chain([self.me]).collect();
        self.synced = self.synced.intersection(&transitional).copied().collect();
        if self.members.is_subset(&self.synced) {
            self.synced = self.members.clone();
            effects.extend(self.review_shared());
            effects.extend(self.reassign());
        } else {
            self.phase = Phase::Exchanging { shares: BTreeMap::new(), waiting: Vec::new() };
            effects.extend(self.tell());
        }
        effects
    }

    /// A message of the content group.
    pub(crate) fn on_message(
        &mut self,
        from: ProcessId,
        message: ContentMessage,
        contexts: &dyn Contexts,
    ) -> Vec<Effect> {
        match (&mut self.phase, message) {
            (Phase::Running, ContentMessage::State { .. }) => Vec::new(),
            (Phase::Running, message) => self.apply(from, message),
            (Phase::Exchanging { shares, .. }, ContentMessage::State { view, class, part, parts, share }) => {
                if view != self.view || !class.contains(&from) {
                    return Vec::new();
                }
                shares.entry(class).or_default().insert(part, (parts, share));
                self.try_merge(contexts)
            }
            (Phase::Exchanging { waiting, .. }, message) => {
                if waiting.len() < WAITING_MAX || !message.is_asked_again() {
                    waiting.push((from, message));
                }
                Vec::new()
            }
        }
    }

    fn apply(&mut self, from: ProcessId, message: ContentMessage) -> Vec<Effect> {
        match message {
            ContentMessage::Start { session, secret, gateway } => {
                let effects = self.start(session, secret, gateway);
                if effects.is_empty() { self.assign(session) } else { effects }
            }
            ContentMessage::Attach { session, secret, gateway } => self.attach(session, secret, gateway),
            ContentMessage::Inquire { session, secret, gateway, fence } => {
                self.inquire(session, secret, gateway, fence)
            }
            ContentMessage::Rebuild { session, secret, gateway, cursor } => {
                self.rebuild(session, secret, gateway, cursor)
            }
            ContentMessage::Stalled { session, secret, gateway, fence } => {
                self.complain(session, secret, gateway, fence)
            }
            ContentMessage::Propagate { updates } => {
                updates.into_iter().flat_map(|update| self.update(from, update)).collect()
            }
            ContentMessage::End { session, secret, gateway } => self.end(session, secret, gateway),
            ContentMessage::Expire { session, gateway } => self.expire(session, gateway),
            ContentMessage::Move { session, to, ticket } => {
                let cast = self.cast_of(session);
                let outcome = self.relocate(session, to);
                self.tell_changes(session, cast, Some(Why::Ordered));
                let answer = Effect::Ordered { by: from, ticket, outcome: outcome.map(Ordered::Moved) };
                outcome.ok().map(|_| Effect::Assigned(session)).into_iter().chain([answer]).collect()
            }
            ContentMessage::Adjust { change, ticket } => self.adjust(from, change, ticket),
            ContentMessage::Publish { edition, ticket } => self.publish(from, edition, ticket),
            ContentMessage::Holds { editions, ticket } => self.hold(from, editions, ticket),
            ContentMessage::Found { anew, ticket } => self.found(from, anew, ticket),
            ContentMessage::Intend { intent, ticket } => self.intend(from, intent, ticket),
            ContentMessage::Dismiss { session, ticket } => self.dismiss(from, session, ticket),
            ContentMessage::Fail { session, fence } => self.fail(from, session, fence).into_iter().collect(),
            ContentMessage::Update { view, session, number, operation } => {
                self.carry_out(view, session, number, &operation)
            }
            ContentMessage::Adopt { view } => self.adopt(view),
            ContentMessage::Settle { .. } | ContentMessage::State { .. } => Vec::new(),
        }
    }

    /// A client opens a session. Returns an effect only if there is nothing to open.
    fn start(&mut self, id: SessionId, secret: Secret, gateway: GatewayId) -> Vec<Effect> {
        let name = gateway.name;
        let effects = self.insert(id, secret, gateway);
        if effects.is_empty() {
            self.tell_of(id, Happening::Opened { gateway: name });
        }
        effects
    }

    /// Inserts a session without a primary. Returns an effect only if there is nothing to insert.
    fn insert(&mut self, id: SessionId, secret: Secret, gateway: GatewayId) -> Vec<Effect> {
        if self.tombs.contains_key(&id) {
            let reason = self.why_not(id);
            return Vec::from([Effect::Refused { session: id, gateway, reason }]);
        }
        if self.sessions.contains_key(&id) {
            return Vec::from([Effect::Repeated(id)]);
        }
        let version = Version { fence: Fence::NONE, number: 0 };
        let session = Session {
            secret,
            gateway,
            hops: 0,
            primary: None,
            backups: Vec::new(),
            fence: Fence::NONE,
            replaced: None,
            placed: false,
            stalls: Stalls::NONE,
            merged: false,
            rebuilt: false,
            version,
            past: Vec::new(),
            context: unopened(self.edition),
            requests: 0,
            responses: 0,
        };
        self.sessions.insert(id, Box::new(session));
        Vec::new()
    }

    fn assign(&mut self, id: SessionId) -> Vec<Effect> {
        let cast = self.cast_of(id);
        let (mut assignment, sessions) = self.assignment();
        let Some(session) = sessions.get_mut(&id) else { return Vec::new() };
        assignment.assign(id, session);
        self.tell_changes(id, cast, None);
        Vec::from([Effect::Assigned(id)])
    }

    fn attach(&mut self, id: SessionId, secret: Secret, gateway: GatewayId) -> Vec<Effect> {
        let refused = |reason| Vec::from([Effect::Refused { session: id, gateway: gateway.clone(), reason }]);
        match self.sessions.get_mut(&id) {
            None => refused(self.why_not(id)),
            Some(session) if session.secret != secret => refused(AttachRefusal::WrongSecret),
            Some(session) if session.gateway == gateway => Vec::from([Effect::Repeated(id)]),
            Some(session) => {
                let to = gateway.name;
                session.hops = session.hops.saturating_add(1);
                let before = core::mem::replace(&mut session.gateway, gateway);
                self.tell_of(id, Happening::Attached { from: before.name, to });
                Vec::from([Effect::Attached { session: id, before }])
            }
        }
    }

    fn inquire(&mut self, id: SessionId, secret: Secret, gateway: GatewayId, fence: Fence) -> Vec<Effect> {
        let known = self.known_at(id, secret, gateway, fence);
        known.map_or_else(|effects| effects, |_| Vec::from([Effect::Missed(id)]))
    }

    /// Why nobody can attach to a session that is not here.
    pub(crate) fn why_not(&self, id: SessionId) -> AttachRefusal {
        match self.tombs.get(&id) {
            Some(tomb) if tomb.failed => AttachRefusal::Failed,
            Some(_) => AttachRefusal::Ended,
            None => AttachRefusal::Unknown,
        }
    }

    /// The session, if its client is at this gateway, which has seen no fence above the session's; if not, what comes of
    /// that.
    fn known_at(
        &mut self,
        id: SessionId,
        secret: Secret,
        gateway: GatewayId,
        fence: Fence,
    ) -> Result<&Session, Vec<Effect>> {
        let is_outranked = |known: &Session| known.secret == secret && known.fence < fence;
        if self.sessions.get(&id).is_some_and(|known| is_outranked(known)) {
            return Err(self.outrank(id, secret, gateway, fence));
        }
        let reason = match self.sessions.get(&id) {
            None => self.why_not(id),
            Some(session) if session.secret != secret => AttachRefusal::WrongSecret,
            Some(session) if session.gateway != gateway => AttachRefusal::Elsewhere,
            Some(session) => return Ok(session),
        };
        Err(Vec::from([Effect::Refused { session: id, gateway, reason }]))
    }

    /// The copies of a session whose primary had `fence` are lost, and its gateway takes nobody below that. In a later
    /// view the session gets a fence above it; an earlier view is one that the others have left behind. Nobody is left who
    /// would know, but the gateway, where the client went last.
    fn outrank(&mut self, id: SessionId, secret: Secret, gateway: GatewayId, fence: Fence) -> Vec<Effect> {
        if self.view <= fence.view() {
            return Vec::new();
        }
        let is_elsewhere = self.sessions.get(&id).is_some_and(|session| session.gateway != gateway);
        let attached = if is_elsewhere { self.attach(id, secret, gateway) } else { Vec::new() };
        let (mut assignment, sessions) = self.assignment();
        let Some(session) = sessions.get_mut(&id) else { return Vec::new() };
        assignment.refence(session);
        attached.into_iter().chain([Effect::Assigned(id)]).collect()
    }

    /// Takes an update from the primary, or from the one before it if nothing newer is known. If the client turns out to be
    /// on another edition, the session goes to who holds that.
    fn update(&mut self, from: ProcessId, update: Update) -> Vec<Effect> {
        let Some(session) = self.sessions.get_mut(&update.session) else { return Vec::new() };
        let current = session.primary == Some(from) && update.version.fence == session.fence;
        let last_word = session.replaced == Some(Replaced { server: from, fence: update.version.fence })
            && session.version.fence < session.fence;
        let is_context = edition_of(&update.context).is_some();
        if !(current || last_word) || update.version <= session.version || !is_context {
            return Vec::new();
        }
        session.merged &= !current;
        session.rebuilt &= !current;
        // The first one of a primary is of where it begins.
        let begins = update.version.fence != session.version.fence;
        if !begins && (update.requests, update.responses) > (session.requests, session.responses) {
            session.stalls.forgive();
        }
        let (id, edition) = (update.session, session.edition());
        session.take(update);
        let is_same = session.edition() == edition;
        let assigned = if is_same { Vec::new() } else { self.assign(id) };
        [Effect::Updated(id)].into_iter().chain(assigned).collect()
    }

    fn end(&mut self, id: SessionId, secret: Secret, gateway: Option<GatewayId>) -> Vec<Effect> {
        let refused = |reason| {
            gateway.map(|gateway| Effect::Refused { session: id, gateway, reason }).into_iter().collect()
        };
        match self.sessions.get(&id) {
            None => refused(self.why_not(id)),
            Some(session) if session.secret != secret => refused(AttachRefusal::WrongSecret),
            Some(_) => self.bury(id, Happening::Closed, None).into_iter().collect(),
        }
    }

    /// An operator closes a session.
    fn dismiss(&mut self, by: ProcessId, id: SessionId, ticket: u64) -> Vec<Effect> {
        let last = self.bury(id, Happening::Dismissed, None);
        let outcome = last.as_ref().map(|_| Ordered::Dismissed).ok_or(OrderRefusal::UnknownSession);
        last.into_iter().chain([Effect::Ordered { by, ticket, outcome }]).collect()
    }

    /// The service cannot go on with a session, as its primary says.
    fn fail(&mut self, from: ProcessId, id: SessionId, fence: Fence) -> Option<Effect> {
        let known = self.sessions.get(&id)?;
        let is_its_word = known.primary == Some(from) && known.fence == fence;
        is_its_word.then(|| self.bury(id, Happening::Failed, None)).flatten()
    }

    fn expire(&mut self, id: SessionId, gateway: GatewayId) -> Vec<Effect> {
        let reason = match self.sessions.get(&id) {
            None => self.why_not(id),
            Some(session) if session.gateway != gateway => AttachRefusal::Elsewhere,
            Some(_) => {
                let expired_at = Some((gateway.name, gateway.boot));
                return self.bury(id, Happening::Expired, expired_at).into_iter().collect();
            }
        };
        Vec::from([Effect::Refused { session: id, gateway, reason }])
    }

    fn bury(&mut self, id: SessionId, end: Happening, expired_at: Option<(Name, Boot)>) -> Option<Effect> {
        let last = self.sessions.remove(&id)?;
        self.loads.remove(&last);
        if let Some(shared) = &mut self.shared {
            shared.forget(id);
        }
        let failed = end == Happening::Failed;
        self.tell_of(id, end);
        self.buried += 1;
        self.tombs.insert(id, Tomb { order: self.buried, requests: last.requests, expired_at, failed });
        self.trim_tombs();
        Some(Effect::Ended { session: id, last })
    }

    fn trim_tombs(&mut self) {
        let surplus = self.tombs.len().saturating_sub(TOMBS_MAX);
        if surplus > 0 {
            let mut by_age: Vec<_> = self.tombs.iter().map(|(id, tomb)| (tomb.order, *id)).collect();
            let (oldest, ..) = by_age.select_nth_unstable(surplus);
            for (_, id) in oldest {
                self.tombs.remove(id);
            }
        }
    }

    fn assignment(&mut self) -> (Assignment<'_>, &mut BTreeMap<SessionId, Box<Session>>) {
        let assignment = Assignment {
            members: &self.members,
            holdings: &self.holdings,
            intents: &self.intents,
            policy: self.policy,
            view: self.view,
            fences: &mut self.fences,
            loads: &mut self.loads,
        };
        (assignment, &mut self.sessions)
    }

    /// Assigns every session anew among the members.
    fn reassign(&mut self) -> Vec<Effect> {
        let changed = self.redistribute(&BTreeSet::new());
        let effects = changed.iter().map(|(id, _)| Effect::Assigned(*id)).collect();
        changed.into_iter().for_each(|(id, cast)| self.tell_changes(id, cast, None));
        self.intents.retain(&self.members);
        effects
    }

    /// Assigns every session anew among the members. Sessions in `disputed` get a new fence in any case. Returns those
    /// that are different, with who had which part in them.
    fn redistribute(&mut self, disputed: &BTreeSet<SessionId>) -> Vec<(SessionId, Cast)> {
        self.loads = Loads::of(&self.members, &self.sessions);
        let (mut assignment, sessions) = self.assignment();
        let mut changed = Vec::new();
        for (id, session) in sessions.iter_mut() {
            let fence = session.fence;
            let cast = (session.primary, session.backups.clone());
            let is_recast = assignment.assign(*id, session);
            if disputed.contains(id) && session.fence == fence {
                assignment.refence(session);
            }
            if is_recast || session.fence != fence {
                changed.push((*id, cast));
            }
        }
        changed
    }
}
