//! The unit database: the sessions of one content unit, replicated at every server that holds the unit [FK:unit-db].
//!
//! A deterministic state machine over the events of the content group: views and messages in their total order.
//! Invariant (EI1): replicas in one another's `synced` sets have equal databases at equal places of that order
//! [FK:consistent]. So a view that only removes members is acted upon at once, with no message exchanged
//! [FK:failure-only]; any other view waits until each class of equal replicas has told its database, by one of its
//! members [FK:state-exchange].

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use model::{Digest, Fence, GroupView, GroupViewId, ProcessId, SessionId};
use serde::{Deserialize, Serialize};

use crate::assign::{Assignment, Loads};
use crate::message::{AttachRefusal, ContentMessage, GatewayId, Secret, encode};

/// How many ended sessions are remembered, so that a late copy of one does not come back to life.
const TOMBS_MAX: usize = 4096;

/// How available the sessions of a unit are, and at what price [FK:parameters]. Part of the database, so that all
/// replicas choose alike whatever their own settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Policy {
    /// Servers beside the primary that apply every request.
    pub backups: u8,
    /// How often a primary propagates the contexts that changed.
    pub period: Duration,
}

/// What the unit database knows of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What its client shows.
    pub secret: Secret,
    /// Where its client is.
    pub gateway: GatewayId,
    /// Who responds; `None` only between a start in a broken-off exchange and the next complete one.
    pub primary: Option<ProcessId>,
    /// Who applies every request too, the first in line first.
    pub backups: Vec<ProcessId>,
    /// The primary's right to serve.
    pub fence: Fence,
    /// The primary before this one: its last word is still welcome.
    pub replaced: Option<Replaced>,
    /// Which propagation the context is from.
    pub version: Version,
    /// As last propagated, or as the service opened it.
    pub context: Bytes,
    /// How many requests the context reflects.
    pub requests: u64,
    /// How many responses the context reflects.
    pub responses: u64,
}

/// A former primary of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Replaced {
    /// Who.
    pub server: ProcessId,
    /// The fence that it had.
    pub fence: Fence,
}

/// Orders the propagations of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// The fence of the primary that propagated.
    pub fence: Fence,
    /// Its how-manieth propagation of the session.
    pub number: u64,
}

/// What a primary propagates of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The session.
    pub session: SessionId,
    /// Which propagation this is.
    pub version: Version,
    /// The context.
    pub context: Bytes,
    /// How many requests it reflects.
    pub requests: u64,
    /// How many responses it reflects.
    pub responses: u64,
}

/// An ended session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tomb {
    /// When it ended, in ended sessions of this unit.
    pub order: u64,
    /// How many requests were known to be applied.
    pub requests: u64,
}

/// A database, or a part of one, as its class tells it to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    policy: Policy,
    fences: u64,
    buried: u64,
    sessions: Vec<(SessionId, Session)>,
    tombs: Vec<(SessionId, Tomb)>,
}

/// What a transition means for the server that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The session is new, or its primary, backups or fence may have changed.
    Assigned(SessionId),
    /// A start was repeated: the gateway may have missed the claim.
    Repeated(SessionId),
    /// The primary propagated the session's context.
    Updated(SessionId),
    /// The session's client is at another gateway; it was at this one.
    Attached { session: SessionId, before: GatewayId },
    /// The session is over; this is what was known of it.
    Ended { session: SessionId, last: Box<Session> },
    /// The gateway is to be told that it cannot attach.
    Refused { session: SessionId, gateway: GatewayId, reason: AttachRefusal },
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

/// What has come of one class's database.
type Parts = BTreeMap<u32, (u32, Share)>;

/// The replica of the unit database at one server.
#[derive(Clone, Debug)]
pub struct Database {
    me: ProcessId,
    policy: Policy,
    /// The last fence counter given out.
    fences: u64,
    /// How many sessions have ended.
    buried: u64,
    sessions: BTreeMap<SessionId, Session>,
    tombs: BTreeMap<SessionId, Tomb>,
    view: GroupViewId,
    members: BTreeSet<ProcessId>,
    /// Members whose database is known to equal this one.
    synced: BTreeSet<ProcessId>,
    phase: Phase,
    loads: Loads,
    limits: Limits,
}

/// Bounds of one database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Moves for balance in one view.
    pub(crate) moves_max: usize,
    /// The size of one state message, in bytes.
    pub(crate) state_bytes_max: usize,
}

impl Database {
    /// An empty database, at a server that is in no view of the content group yet.
    pub(crate) fn new(me: ProcessId, policy: Policy, limits: Limits) -> Database {
        Database {
            me,
            policy,
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
        }
    }

    /// The sessions, by id.
    pub fn sessions(&self) -> &BTreeMap<SessionId, Session> {
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

    /// A fingerprint of all that replicas must agree on.
    pub fn digest(&self) -> Digest {
        Digest::of(&encode(&self.share(self.sessions.clone().into_iter().collect(), self.entombed())))
    }

    /// The member that answers for all where any of them could.
    pub(crate) fn is_spokesman(&self) -> bool {
        self.members.first() == Some(&self.me)
    }

    /// A view of the content group.
    pub(crate) fn on_view(&mut self, view: &GroupView, open: &dyn Fn() -> Bytes) -> Vec<Effect> {
        let mut effects = self.abandon_exchange(open);
        self.view = view.id;
        self.members = view.members.iter().map(|member| member.process).collect();
        let transitional: BTreeSet<_> = view.transitional.iter().copied().chain([self.me]).collect();
        self.synced = self.synced.intersection(&transitional).copied().collect();
        if self.members.is_subset(&self.synced) {
            self.synced = self.members.clone();
            effects.extend(self.reassign(BTreeSet::new()));
        } else {
            self.phase = Phase::Exchanging { shares: BTreeMap::new(), waiting: Vec::new() };
            effects.extend(self.tell());
        }
        effects
    }

    /// A message of the content group. `open` makes the context of a new session.
    pub(crate) fn on_message(
        &mut self,
        from: ProcessId,
        message: ContentMessage,
        open: &dyn Fn() -> Bytes,
    ) -> Vec<Effect> {
        match (&mut self.phase, message) {
            (Phase::Running, ContentMessage::State { .. }) => Vec::new(),
            (Phase::Running, message) => self.apply(from, message, open),
            (Phase::Exchanging { shares, .. }, ContentMessage::State { view, class, part, parts, share }) => {
                if view != self.view {
                    return Vec::new();
                }
                shares.entry(class).or_default().insert(part, (parts, share));
                self.try_merge(open)
            }
            (Phase::Exchanging { waiting, .. }, message) => {
                waiting.push((from, message));
                Vec::new()
            }
        }
    }

    fn apply(&mut self, from: ProcessId, message: ContentMessage, open: &dyn Fn() -> Bytes) -> Vec<Effect> {
        match message {
            ContentMessage::Start { session, secret, gateway } => {
                let effects = self.insert(session, secret, gateway, open);
                if effects.is_empty() { self.assign(session) } else { effects }
            }
            ContentMessage::Attach { session, secret, gateway } => self.attach(session, secret, gateway),
            ContentMessage::Inquire { session, secret, gateway, fence } => {
                self.inquire(session, secret, gateway, fence)
            }
            ContentMessage::Propagate { updates } => {
                updates.into_iter().filter_map(|update| self.update(from, update)).collect()
            }
            ContentMessage::End { session, secret, gateway } => self.end(session, secret, gateway),
            ContentMessage::Expire { session, gateway } => self.expire(session, gateway),
            ContentMessage::State { .. } => Vec::new(),
        }
    }

    /// Inserts a session without a primary. Returns an effect only if there is nothing to insert.
    fn insert(
        &mut self,
        id: SessionId,
        secret: Secret,
        gateway: GatewayId,
        open: &dyn Fn() -> Bytes,
    ) -> Vec<Effect> {
        if self.tombs.contains_key(&id) {
            return Vec::from([Effect::Refused { session: id, gateway, reason: AttachRefusal::Ended }]);
        }
        if self.sessions.contains_key(&id) {
            return Vec::from([Effect::Repeated(id)]);
        }
        let version = Version { fence: Fence::NONE, number: 0 };
        let session = Session {
            secret,
            gateway,
            primary: None,
            backups: Vec::new(),
            fence: Fence::NONE,
            replaced: None,
            version,
            context: open(),
            requests: 0,
            responses: 0,
        };
        self.sessions.insert(id, session);
        Vec::new()
    }

    fn assign(&mut self, id: SessionId) -> Vec<Effect> {
        let (mut assignment, sessions) = self.assignment();
        let Some(session) = sessions.get_mut(&id) else { return Vec::new() };
        assignment.assign(id, session);
        Vec::from([Effect::Assigned(id)])
    }

    fn attach(&mut self, id: SessionId, secret: Secret, gateway: GatewayId) -> Vec<Effect> {
        let refused = |reason| Vec::from([Effect::Refused { session: id, gateway: gateway.clone(), reason }]);
        match self.sessions.get_mut(&id) {
            None if self.tombs.contains_key(&id) => refused(AttachRefusal::Ended),
            None => refused(AttachRefusal::Unknown),
            Some(session) if session.secret != secret => refused(AttachRefusal::WrongSecret),
            Some(session) if session.gateway == gateway => Vec::from([Effect::Repeated(id)]),
            Some(session) => {
                let before = core::mem::replace(&mut session.gateway, gateway);
                Vec::from([Effect::Attached { session: id, before }])
            }
        }
    }

    fn inquire(&mut self, id: SessionId, secret: Secret, gateway: GatewayId, fence: Fence) -> Vec<Effect> {
        let reason = match self.sessions.get(&id) {
            None if self.tombs.contains_key(&id) => AttachRefusal::Ended,
            None => AttachRefusal::Unknown,
            Some(session) if session.secret != secret => AttachRefusal::WrongSecret,
            Some(session) if session.gateway != gateway => AttachRefusal::Elsewhere,
            Some(session) if session.fence < fence => return self.outrank(id, fence),
            Some(_) => return Vec::from([Effect::Repeated(id)]),
        };
        Vec::from([Effect::Refused { session: id, gateway, reason }])
    }

    /// The copies of a session whose primary had `fence` are lost, and its gateway takes nobody below that. In a later
    /// view the session gets a fence above it; an earlier view is one that the others have left behind.
    fn outrank(&mut self, id: SessionId, fence: Fence) -> Vec<Effect> {
        if self.view <= fence.view() {
            return Vec::new();
        }
        let (mut assignment, sessions) = self.assignment();
        let Some(session) = sessions.get_mut(&id) else { return Vec::new() };
        assignment.refence(session);
        Vec::from([Effect::Assigned(id)])
    }

    /// Takes an update from the primary, or from the one before it if nothing newer is known.
    fn update(&mut self, from: ProcessId, update: Update) -> Option<Effect> {
        let session = self.sessions.get_mut(&update.session)?;
        let current = session.primary == Some(from) && update.version.fence == session.fence;
        let last_word = session.replaced == Some(Replaced { server: from, fence: update.version.fence })
            && session.version.fence < session.fence;
        if !(current || last_word) || update.version <= session.version {
            return None;
        }
        session.version = update.version;
        session.context = update.context;
        session.requests = update.requests;
        session.responses = update.responses;
        Some(Effect::Updated(update.session))
    }

    fn end(&mut self, id: SessionId, secret: Secret, gateway: Option<GatewayId>) -> Vec<Effect> {
        let refused = |reason| {
            gateway.map(|gateway| Effect::Refused { session: id, gateway, reason }).into_iter().collect()
        };
        match self.sessions.get(&id) {
            None if self.tombs.contains_key(&id) => refused(AttachRefusal::Ended),
            None => refused(AttachRefusal::Unknown),
            Some(session) if session.secret != secret => refused(AttachRefusal::WrongSecret),
            Some(_) => self.bury(id).into_iter().collect(),
        }
    }

    fn expire(&mut self, id: SessionId, gateway: GatewayId) -> Vec<Effect> {
        let reason = match self.sessions.get(&id) {
            None if self.tombs.contains_key(&id) => AttachRefusal::Ended,
            None => AttachRefusal::Unknown,
            Some(session) if session.gateway != gateway => AttachRefusal::Elsewhere,
            Some(_) => return self.bury(id).into_iter().collect(),
        };
        Vec::from([Effect::Refused { session: id, gateway, reason }])
    }

    fn bury(&mut self, id: SessionId) -> Option<Effect> {
        let last = self.sessions.remove(&id)?;
        self.loads.remove(&last);
        self.buried += 1;
        self.tombs.insert(id, Tomb { order: self.buried, requests: last.requests });
        self.trim_tombs();
        Some(Effect::Ended { session: id, last: Box::new(last) })
    }

    fn trim_tombs(&mut self) {
        while self.tombs.len() > TOMBS_MAX {
            let oldest = self.tombs.iter().min_by_key(|(id, tomb)| (tomb.order, **id)).map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            self.tombs.remove(&oldest);
        }
    }

    fn assignment(&mut self) -> (Assignment<'_>, &mut BTreeMap<SessionId, Session>) {
        let assignment = Assignment {
            members: &self.members,
            policy: self.policy,
            view: self.view,
            fences: &mut self.fences,
            loads: &mut self.loads,
        };
        (assignment, &mut self.sessions)
    }

    /// Assigns every session anew among the members. Sessions in `disputed` get a new fence in any case.
    fn reassign(&mut self, disputed: BTreeSet<SessionId>) -> Vec<Effect> {
        self.loads = Loads::of(&self.members, self.sessions.values());
        let (mut assignment, sessions) = self.assignment();
        let mut effects = Vec::new();
        for (id, session) in sessions.iter_mut() {
            let fence = session.fence;
            let changed = assignment.assign(*id, session);
            if disputed.contains(id) && session.fence == fence {
                assignment.refence(session);
            }
            if changed || session.fence != fence {
                effects.push(Effect::Assigned(*id));
            }
        }
        effects
    }

    /// If this member speaks for its class, tells the class's database.
    fn tell(&self) -> Vec<Effect> {
        let class: Vec<_> = self.synced.intersection(&self.members).copied().collect();
        if class.first() != Some(&self.me) {
            return Vec::new();
        }
        let shares = self.parts();
        let parts = u32::try_from(shares.len()).unwrap_or(u32::MAX);
        let message = |(part, share)| {
            let (view, class) = (self.view, class.clone());
            Effect::Tell(ContentMessage::State { view, class, part, parts, share })
        };
        (0..).zip(shares).map(message).collect()
    }

    fn share(&self, sessions: Vec<(SessionId, Session)>, tombs: Vec<(SessionId, Tomb)>) -> Share {
        Share { policy: self.policy, fences: self.fences, buried: self.buried, sessions, tombs }
    }

    fn entombed(&self) -> Vec<(SessionId, Tomb)> {
        self.tombs.iter().map(|(id, tomb)| (*id, *tomb)).collect()
    }

    /// The database in parts, none of which is much larger than a state message may be.
    fn parts(&self) -> Vec<Share> {
        const SESSION_OVERHEAD: usize = 512;
        let mut parts = Vec::from([self.share(Vec::new(), self.entombed())]);
        let mut room = 0usize;
        for (id, session) in &self.sessions {
            let size = session.context.len() + SESSION_OVERHEAD;
            if room < size {
                parts.push(self.share(Vec::new(), Vec::new()));
                room = self.limits.state_bytes_max;
            }
            room = room.saturating_sub(size);
            if let Some(part) = parts.last_mut() {
                part.sessions.push((*id, session.clone()));
            }
        }
        parts
    }

    /// Once all members have told their databases: makes one of them, and goes on.
    fn try_merge(&mut self, open: &dyn Fn() -> Bytes) -> Vec<Effect> {
        let Phase::Exchanging { shares, .. } = &self.phase else { return Vec::new() };
        let whole = |parts: &Parts| parts.values().all(|(of, _)| parts.len() == *of as usize);
        let told: BTreeSet<_> = shares
            .iter()
            .filter(|(_, parts)| whole(parts))
            .flat_map(|(class, _)| class.iter().copied())
            .collect();
        if !told.is_superset(&self.members) {
            return Vec::new();
        }
        let Phase::Exchanging { shares, waiting } = core::mem::replace(&mut self.phase, Phase::Running)
        else {
            return Vec::new();
        };
        let before = self.sessions.clone();
        let disputed =
            self.merge(shares.into_values().flat_map(BTreeMap::into_values).map(|(_, share)| share));
        self.synced = self.members.clone();
        self.reassign(disputed);
        let moves_max = self.limits.moves_max;
        let (mut assignment, sessions) = self.assignment();
        assignment.balance(sessions, moves_max);
        let mut effects = self.differences(&before);
        for (from, message) in waiting {
            effects.extend(self.apply(from, message, open));
        }
        effects
    }

    /// What the exchange changed, for a server that held the database `before`: who serves, where the client is, and
    /// what is known of the context.
    fn differences(&self, before: &BTreeMap<SessionId, Session>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (id, last) in before {
            if !self.sessions.contains_key(id) {
                effects.push(Effect::Ended { session: *id, last: Box::new(last.clone()) });
            }
        }
        for (id, session) in &self.sessions {
            let last = before.get(id);
            let part = |it: &Session| (it.primary, it.backups.clone(), it.fence);
            if last.is_none_or(|last| part(last) != part(session)) {
                effects.push(Effect::Assigned(*id));
            }
            let Some(last) = last else { continue };
            if last.gateway != session.gateway {
                effects.push(Effect::Attached { session: *id, before: last.gateway.clone() });
            }
            if last.version != session.version {
                effects.push(Effect::Updated(*id));
            }
        }
        effects
    }

    /// Replaces the database by the merge of all shares, in which the copy that reflects most wins [FK:merge].
    /// Returns the sessions whose copies disagree on who may serve.
    fn merge(&mut self, shares: impl Iterator<Item = Share>) -> BTreeSet<SessionId> {
        let (mut sessions, mut disputed) = (BTreeMap::<SessionId, Session>::new(), BTreeSet::new());
        let mut policy = None;
        self.tombs.clear();
        for share in shares {
            policy = policy.max(Some((share.fences, share.policy)));
            self.fences = self.fences.max(share.fences);
            self.buried = self.buried.max(share.buried);
            self.tombs.extend(share.tombs);
            for (id, copy) in share.sessions {
                match sessions.get(&id) {
                    Some(known) if (known.primary, known.fence) != (copy.primary, copy.fence) => {
                        disputed.insert(id);
                    }
                    Some(_) | None => {}
                }
                let wins = sessions.get(&id).is_none_or(|known| weight(&copy) > weight(known));
                if wins {
                    sessions.insert(id, copy);
                }
            }
        }
        self.policy = policy.map_or(self.policy, |(_, policy)| policy);
        sessions.retain(|id, copy| self.tombs.get(id).is_none_or(|tomb| copy.requests > tomb.requests));
        self.tombs.retain(|id, _| !sessions.contains_key(id));
        self.sessions = sessions;
        self.trim_tombs();
        disputed
    }

    /// A new view while an exchange was under way: what waited is applied to the own database, as all replicas of
    /// this class do; sessions that were started meanwhile stay without a primary until the next reassignment. Nobody
    /// is refused, since another class may know better: who asks will ask again.
    fn abandon_exchange(&mut self, open: &dyn Fn() -> Bytes) -> Vec<Effect> {
        let Phase::Exchanging { waiting, .. } = core::mem::replace(&mut self.phase, Phase::Running) else {
            return Vec::new();
        };
        let mut effects = Vec::new();
        for (from, message) in waiting {
            match message {
                ContentMessage::Start { session, secret, gateway } => {
                    effects.extend(self.insert(session, secret, gateway, open));
                }
                ContentMessage::Attach { .. }
                | ContentMessage::Inquire { .. }
                | ContentMessage::Propagate { .. }
                | ContentMessage::End { .. }
                | ContentMessage::Expire { .. }
                | ContentMessage::State { .. } => effects.extend(self.apply(from, message, open)),
            }
        }
        effects.retain(|effect| !matches!(effect, Effect::Refused { .. }));
        effects
    }
}

/// Copies are compared by what their clients have seen, then by anything at all, so that the choice is total.
fn weight(session: &Session) -> impl Ord {
    let allocation =
        (session.primary, session.backups.clone(), session.gateway.clone(), session.context.clone());
    (session.requests, session.responses, session.fence, session.version, allocation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Address, Boot, ConfigurationId, DaemonId, Member};

    const LIMITS: Limits = Limits { moves_max: 64, state_bytes_max: 2000 };

    fn server(name: &str) -> ProcessId {
        ProcessId::new(DaemonId::new(name.parse().unwrap(), Boot::new(1)), 1)
    }

    fn database(name: &str) -> Database {
        let policy = Policy { backups: 1, period: Duration::from_millis(500) };
        Database::new(server(name), policy, LIMITS)
    }

    fn gateway(name: &str) -> GatewayId {
        GatewayId { name: name.parse().unwrap(), boot: Boot::new(1), address: Address::new("localhost:1") }
    }

    fn context() -> Bytes {
        Bytes::from_static(b"new")
    }

    /// View number `counter` with these members, of whom `along` came along.
    fn view(counter: u64, members: &[&str], along: &[&str]) -> GroupView {
        let servers = |names: &[&str]| names.iter().map(|name| server(name)).collect::<Vec<_>>();
        let member = |name: &&str| Member { process: server(name), name: name.parse().unwrap() };
        GroupView {
            group: model::GroupName::new("content/u").unwrap(),
            id: GroupViewId { configuration: ConfigurationId::new(counter, 0), position: 0 },
            members: members.iter().map(member).collect(),
            joined: Vec::new(),
            left: Vec::new(),
            transitional: servers(along),
        }
    }

    /// Replicas of one database, and the total order in which they are told things.
    struct Group {
        replicas: Vec<(&'static str, Database)>,
        order: Vec<(ProcessId, ContentMessage)>,
        /// How many messages replicas told by themselves.
        told: usize,
    }

    impl Group {
        fn new(names: &[&'static str]) -> Group {
            let replicas = names.iter().map(|name| (*name, database(name))).collect();
            Group { replicas, order: Vec::new(), told: 0 }
        }

        /// A running group with these members.
        fn running(names: &[&'static str]) -> Group {
            let mut group = Group::new(names);
            group.view(1, names, &[]);
            group.settle();
            group
        }

        /// Tells a view to its members; those not among `along` come from elsewhere.
        fn view(&mut self, counter: u64, members: &[&str], along: &[&str]) {
            self.replicas.retain(|(name, _)| members.contains(name));
            for (name, replica) in &mut self.replicas {
                let transitional = if along.contains(name) { along } else { &[*name] };
                let effects = replica.on_view(&view(counter, members, transitional), &context);
                for effect in effects {
                    if let Effect::Tell(message) = effect {
                        self.told += 1;
                        self.order.push((server(name), message));
                    }
                }
            }
        }

        fn say(&mut self, from: &str, message: ContentMessage) -> Vec<Effect> {
            self.order.push((server(from), message));
            self.settle()
        }

        /// Delivers what was multicast, to all in one order. Returns the first replica's effects.
        fn settle(&mut self) -> Vec<Effect> {
            let mut effects = Vec::new();
            for (from, message) in core::mem::take(&mut self.order) {
                for (place, (_, replica)) in self.replicas.iter_mut().enumerate() {
                    let theirs = replica.on_message(from, message.clone(), &context);
                    if place == 0 {
                        effects.extend(theirs);
                    }
                }
            }
            self.agree();
            effects
        }

        fn agree(&self) {
            let digests: BTreeSet<_> = self
                .replicas
                .iter()
                .filter(|(_, replica)| replica.is_agreed())
                .map(|(_, r)| r.digest())
                .collect();
            assert!(digests.len() <= 1, "replicas differ");
        }

        fn start(&mut self, id: u128) -> Vec<Effect> {
            let (session, secret) = (SessionId::new(id), Secret::new(id));
            self.say("g", ContentMessage::Start { session, secret, gateway: gateway("g") })
        }

        fn session(&self, id: u128) -> &Session {
            &self.replicas[0].1.sessions()[&SessionId::new(id)]
        }

        fn propagate(&mut self, from: ProcessId, id: u128, fence: Fence, number: u64, context: &'static str) {
            let update = Update {
                session: SessionId::new(id),
                version: Version { fence, number },
                context: Bytes::from_static(context.as_bytes()),
                requests: number,
                responses: number,
            };
            self.order.push((from, ContentMessage::Propagate { updates: Vec::from([update]) }));
            self.settle();
        }

        fn primaries(&self) -> BTreeMap<ProcessId, usize> {
            let mut count = BTreeMap::new();
            for session in self.replicas[0].1.sessions().values() {
                *count.entry(session.primary.unwrap()).or_default() += 1;
            }
            count
        }
    }

    fn name(server: ProcessId) -> alloc::string::String {
        alloc::string::ToString::to_string(&server.daemon().name())
    }

    #[test]
    fn sessions_are_spread_evenly_each_with_a_backup_elsewhere() {
        let mut group = Group::running(&["a", "b", "c"]);
        (0..9).for_each(|id| drop(group.start(id)));
        assert_eq!(group.primaries().into_values().collect::<Vec<_>>(), [3, 3, 3]);
        for session in group.replicas[0].1.sessions().values() {
            assert_eq!(session.backups.len(), 1);
            assert_ne!(session.primary, session.backups.first().copied());
        }
    }

    #[test]
    fn a_repeated_start_is_the_same_start() {
        let mut group = Group::running(&["a", "b"]);
        assert_eq!(group.start(1), [Effect::Assigned(SessionId::new(1))]);
        let fence = group.session(1).fence;
        assert_eq!(group.start(1), [Effect::Repeated(SessionId::new(1))]);
        assert_eq!(group.session(1).fence, fence);
    }

    #[test]
    fn a_failure_moves_sessions_to_their_backups_without_a_message() {
        let mut group = Group::running(&["a", "b", "c"]);
        (0..9).for_each(|id| drop(group.start(id)));
        let before = group.replicas[0].1.sessions().clone();
        let told = group.told;
        group.view(2, &["a", "b"], &["a", "b"]);
        group.agree();
        assert_eq!(group.told, told, "no message");
        for (id, session) in group.replicas[0].1.sessions() {
            let old = &before[id];
            if old.primary == Some(server("c")) {
                assert_eq!(session.primary, old.backups.first().copied());
                assert!(session.fence > old.fence);
            } else {
                assert_eq!((session.primary, session.fence), (old.primary, old.fence));
            }
            assert_eq!(session.backups.len(), 1);
        }
    }

    #[test]
    fn a_newcomer_is_told_the_database_and_takes_its_share() {
        let mut group = Group::running(&["a", "b"]);
        (0..9).for_each(|id| drop(group.start(id)));
        group.replicas.push(("c", database("c")));
        group.view(2, &["a", "b", "c"], &["a", "b"]);
        assert!(group.order.len() > 3, "the database takes several messages, the newcomer's one");
        assert!(!group.replicas[0].1.is_agreed());
        group.settle();
        assert_eq!(group.primaries().into_values().collect::<Vec<_>>(), [3, 3, 3]);
        assert!(group.replicas.iter().all(|(_, replica)| replica.is_agreed()));
    }

    #[test]
    fn what_comes_during_an_exchange_waits_for_its_end() {
        let mut group = Group::running(&["a", "b"]);
        group.replicas.push(("c", database("c")));
        group.view(2, &["a", "b", "c"], &["a", "b"]);
        let states = core::mem::take(&mut group.order);
        group.start(1);
        assert!(group.replicas[0].1.sessions().is_empty());
        group.order = states;
        group.settle();
        assert!(group.session(1).primary.is_some());
    }

    #[test]
    fn a_change_during_an_exchange_leaves_nobody_behind() {
        let mut group = Group::running(&["a", "b"]);
        group.start(1);
        group.replicas.push(("c", database("c")));
        group.view(2, &["a", "b", "c"], &["a", "b"]);
        group.order.clear();
        group.start(2);
        // b fails before anybody's state was delivered: a and c still differ, although no one joins.
        group.view(3, &["a", "c"], &["a", "c"]);
        assert!(group.replicas.iter().all(|(_, replica)| !replica.is_agreed()));
        assert_eq!(group.session(2).primary, None);
        group.settle();
        assert!(group.session(1).primary.is_some() && group.session(2).primary.is_some());
        assert_eq!(group.replicas[1].1.sessions().len(), 2);
    }

    #[test]
    fn only_the_primary_propagates_and_the_one_before_it_has_a_last_word() {
        let mut group = Group::running(&["a", "b", "c"]);
        group.start(1);
        let (first, fence) = (group.session(1).primary.unwrap(), group.session(1).fence);
        let other = group.session(1).backups[0];
        group.propagate(other, 1, fence, 1, "not the primary");
        assert_eq!(group.session(1).context, "new");
        group.propagate(first, 1, fence, 2, "second");
        group.propagate(first, 1, fence, 1, "first");
        assert_eq!(group.session(1).context, "second");

        let (first_name, other_name) = (name(first), name(other));
        let rest: Vec<&str> = ["a", "b", "c"].into_iter().filter(|name| *name != first_name).collect();
        group.view(2, &rest, &rest);
        assert_eq!(group.session(1).primary, Some(other), "{other_name}");
        group.propagate(first, 1, fence, 3, "last word");
        assert_eq!(group.session(1).context, "last word");
        let new = group.session(1).fence;
        group.propagate(other, 1, new, 1, "other's");
        group.propagate(first, 1, fence, 4, "too late");
        assert_eq!(group.session(1).context, "other's");
    }

    #[test]
    fn an_ended_session_stays_ended() {
        let mut group = Group::running(&["a", "b"]);
        group.start(1);
        let session = SessionId::new(1);
        let end = |secret| ContentMessage::End {
            session,
            secret: Secret::new(secret),
            gateway: Some(gateway("h")),
        };
        let refused = |reason| [Effect::Refused { session, gateway: gateway("h"), reason }];
        assert_eq!(group.say("g", end(2)), refused(AttachRefusal::WrongSecret));
        assert!(matches!(group.say("g", end(1))[..], [Effect::Ended { .. }]));
        assert_eq!(group.say("g", end(1)), refused(AttachRefusal::Ended));
        assert!(matches!(group.start(1)[..], [Effect::Refused { reason: AttachRefusal::Ended, .. }]));
        // A replica that did not hear of the end comes back with the session.
        let mut stale = database("c");
        stale.on_view(&view(1, &["c"], &[]), &context);
        stale.insert(session, Secret::new(1), gateway("g"), &context);
        group.replicas.push(("c", stale));
        group.view(2, &["a", "b", "c"], &["a", "b"]);
        group.settle();
        assert!(group.replicas.iter().all(|(_, replica)| replica.sessions().is_empty()));
    }

    #[test]
    fn a_session_expires_only_where_its_client_is() {
        let mut group = Group::running(&["a", "b"]);
        group.start(1);
        let (session, secret) = (SessionId::new(1), Secret::new(1));
        let attached = group.say("g", ContentMessage::Attach { session, secret, gateway: gateway("h") });
        assert_eq!(attached, [Effect::Attached { session, before: gateway("g") }]);
        let expired = group.say("g", ContentMessage::Expire { session, gateway: gateway("g") });
        let reason = AttachRefusal::Elsewhere;
        assert_eq!(expired, [Effect::Refused { session, gateway: gateway("g"), reason }]);
        let expired = group.say("h", ContentMessage::Expire { session, gateway: gateway("h") });
        assert!(matches!(expired[..], [Effect::Ended { .. }]));
    }

    #[test]
    fn of_two_copies_the_one_that_reflects_more_wins_under_a_new_fence() {
        let (mut left, mut right) = (Group::running(&["a"]), Group::running(&["b"]));
        left.start(1);
        right.start(1);
        let (left_fence, right_fence) = (left.session(1).fence, right.session(1).fence);
        left.propagate(server("a"), 1, left_fence, 1, "less");
        right.propagate(server("b"), 1, right_fence, 2, "more");
        let mut both = Group { replicas: left.replicas, order: Vec::new(), told: 0 };
        both.replicas.extend(right.replicas);
        both.view(5, &["a", "b"], &[]);
        both.settle();
        let session = both.session(1);
        assert_eq!(session.context, "more");
        assert!(session.fence > left_fence && session.fence > right_fence);
    }

    #[test]
    fn tombs_are_bounded() {
        let mut database = database("a");
        database.on_view(&view(1, &["a"], &[]), &context);
        for id in 0..TOMBS_MAX as u128 + 10 {
            database.insert(SessionId::new(id), Secret::new(0), gateway("g"), &context);
            database.bury(SessionId::new(id));
        }
        assert_eq!(database.tombs.len(), TOMBS_MAX);
        assert!(!database.tombs.contains_key(&SessionId::new(0)));
    }
}
