//! The exchange of databases after a view that brings replicas together which may differ [FK:state-exchange]: each
//! class of equal replicas has one of them tell its database, and when all have, all make the same one of them
//! [FK:merge].

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;
use model::{ProcessId, SessionId};
use serde::{Deserialize, Serialize};

use super::shared::Told;
use super::{
    Contexts, Database, Effect, Holdings, Intent, OrderRefusal, Ordered, Phase, Policy, Session, Shared, Tomb,
};
use crate::edition::Edition;
use crate::message::{COUNT_MAX, ContentMessage, decode, encode};

/// A database, or a part of one, as its class tells it to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    policy: Policy,
    edition: Edition,
    changes: u64,
    holdings: Vec<(ProcessId, BTreeSet<Edition>)>,
    intents: Vec<(ProcessId, Intent)>,
    fences: u64,
    buried: u64,
    sessions: Vec<(SessionId, Box<Session>)>,
    tombs: Vec<(SessionId, Tomb)>,
    /// The next piece of the shared state.
    shared: Bytes,
}

/// What has come of one class's database.
pub(super) type Parts = BTreeMap<u32, (u32, Share)>;

impl Database {
    /// If this member speaks for its class, tells the class's database.
    pub(super) fn tell(&self) -> Vec<Effect> {
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

    /// The database in one piece.
    pub(super) fn whole(&self) -> Share {
        self.share(self.sessions.clone().into_iter().collect(), self.entombed())
    }

    fn share(&self, sessions: Vec<(SessionId, Box<Session>)>, tombs: Vec<(SessionId, Tomb)>) -> Share {
        let Database { policy, edition, changes, fences, buried, .. } = *self;
        let holdings = self.holdings.told(self.synced.intersection(&self.members));
        let intents = self.intents.told(self.synced.intersection(&self.members));
        let shared = Bytes::new();
        Share { policy, edition, changes, holdings, intents, fences, buried, sessions, tombs, shared }
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
        let shared =
            self.shared.as_ref().and_then(Shared::told).map(|told| encode(&told)).unwrap_or_default();
        let pieces = shared.chunks(self.limits.state_bytes_max.max(1));
        parts.extend(
            pieces
                .map(|piece| Share { shared: shared.slice_ref(piece), ..self.share(Vec::new(), Vec::new()) }),
        );
        parts
    }

    /// Once all members have told their databases: makes one of them, and goes on.
    pub(super) fn try_merge(&mut self, contexts: &dyn Contexts) -> Vec<Effect> {
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
        let (before, policy, edition) = (self.sessions.clone(), self.policy, self.edition);
        let copies = shares.values().filter_map(shared_state).collect();
        let shares = shares.into_values().flat_map(BTreeMap::into_values).map(|(_, share)| share);
        let disputed = self.merge(shares.collect(), contexts);
        if let Some(shared) = &mut self.shared {
            shared.merge(copies, self.edition, contexts);
        }
        self.synced = self.members.clone();
        self.redistribute(&disputed);
        let moves_max = self.limits.moves_max;
        let (mut assignment, sessions) = self.assignment();
        let moved = assignment.balance(sessions, moves_max);
        let mut effects = self.review_shared();
        effects.extend((!moved.is_empty()).then_some(Effect::Balanced(moved.len())));
        effects.extend(self.differences(&before));
        self.tell_differences(&before, &disputed, &moved);
        self.intents.retain(&self.members);
        effects.extend((self.policy != policy).then_some(Effect::PolicyChanged));
        effects.extend((self.edition != edition).then_some(Effect::Published));
        for (from, message) in waiting {
            effects.extend(self.apply(from, message));
        }
        effects
    }

    /// What the exchange changed, for a server that held the database `before`: who serves, where the client is, and
    /// what is known of the context.
    fn differences(&self, before: &BTreeMap<SessionId, Box<Session>>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (id, last) in before {
            if !self.sessions.contains_key(id) {
                effects.push(Effect::Ended { session: *id, last: last.clone() });
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
            if (last.version, &last.context) != (session.version, &session.context) {
                effects.push(Effect::Updated(*id));
            }
        }
        effects
    }

    /// Replaces the database by the merge of all shares, in which the copy that reflects most wins [FK:merge], with what
    /// the service makes of the contexts if several sides served. Returns the sessions whose copies disagree on who may
    /// serve.
    fn merge(&mut self, shares: Vec<Share>, contexts: &dyn Contexts) -> BTreeSet<SessionId> {
        let (mut sessions, mut disputed) = (BTreeMap::<SessionId, Box<Session>>::new(), BTreeSet::new());
        let mut merged = BTreeMap::<SessionId, Bytes>::new();
        self.merge_settings(&shares);
        self.tombs.clear();
        for share in shares {
            self.fences = self.fences.max(share.fences.min(COUNT_MAX));
            self.buried = self.buried.max(share.buried.min(COUNT_MAX));
            self.tombs.extend(share.tombs);
            for (id, mut copy) in share.sessions {
                let Some(known) = sessions.get_mut(&id) else {
                    sessions.insert(id, copy);
                    continue;
                };
                if (known.primary, known.fence) != (copy.primary, copy.fence) {
                    disputed.insert(id);
                }
                let both = known.merged || copy.merged || have_diverged(known, &copy);
                // All replicas come to the same, so those that do not hold the content have to be able to.
                if both && copy.edition().is_some_and(|edition| self.all_have(edition)) {
                    let so_far = merged.get(&id).unwrap_or(&known.context);
                    if let Some(context) = contexts.merge(so_far, &copy.context) {
                        merged.insert(id, context);
                    }
                }
                if weight(&copy) > weight(known) {
                    core::mem::swap(known, &mut copy);
                }
                known.find_client(copy.hops, copy.gateway);
                known.merged = both;
            }
        }
        for (id, context) in merged {
            if let Some(session) = sessions.get_mut(&id) {
                session.context = context;
            }
        }
        sessions.retain(|id, copy| self.tombs.get(id).is_none_or(|tomb| !tomb.covers(copy)));
        self.tombs.retain(|id, _| !sessions.contains_key(id));
        self.sessions = sessions;
        self.trim_tombs();
        disputed
    }

    /// What operators chose, and who holds what. What was changed most often is the newest; a newcomer's own settings
    /// count for nothing.
    fn merge_settings(&mut self, shares: &[Share]) {
        let settings = |share: &Share| {
            let changes = share.changes.min(COUNT_MAX);
            (changes, share.fences, share.edition, share.policy)
        };
        if let Some((changes, _, edition, policy)) = shares.iter().map(settings).max() {
            (self.changes, self.edition, self.policy) = (changes, edition, policy);
        }
        self.holdings = Holdings::default();
        for (member, editions) in shares.iter().flat_map(|share| &share.holdings) {
            self.holdings.set(*member, editions.clone());
        }
        self.holdings.retain(&self.members);
        self.intents.forget(&self.members);
        for (member, intent) in shares.iter().flat_map(|share| &share.intents) {
            self.intents.set(*member, *intent);
        }
    }

    /// A new view while an exchange was under way: what waited is applied to the own database, as all replicas of
    /// this class do; sessions that were started meanwhile stay without a primary until the next reassignment. Nobody
    /// is refused, since another class may know better: who asks will ask again.
    pub(super) fn abandon_exchange(&mut self) -> Vec<Effect> {
        let Phase::Exchanging { waiting, .. } = core::mem::replace(&mut self.phase, Phase::Running) else {
            return Vec::new();
        };
        let mut effects = Vec::new();
        for (from, message) in waiting {
            match message {
                ContentMessage::Start { session, secret, gateway } => {
                    effects.extend(self.insert(session, secret, gateway));
                }
                // Nobody gives out a fence before all agree; the gateway will ask again.
                ContentMessage::Inquire { .. }
                | ContentMessage::Stalled { .. }
                | ContentMessage::Rebuild { .. } => {}
                ContentMessage::Move { ticket, .. }
                | ContentMessage::Adjust { ticket, .. }
                | ContentMessage::Publish { ticket, .. }
                | ContentMessage::Found { ticket, .. }
                | ContentMessage::Dismiss { ticket, .. } => {
                    let outcome = Err(OrderRefusal::Unsettled);
                    effects.push(Effect::Ordered { by: from, ticket, outcome });
                }
                ContentMessage::Attach { .. }
                | ContentMessage::Propagate { .. }
                | ContentMessage::End { .. }
                | ContentMessage::Expire { .. }
                | ContentMessage::Fail { .. }
                | ContentMessage::Settle { .. }
                | ContentMessage::Adopt { .. }
                | ContentMessage::Update { .. }
                | ContentMessage::State { .. } => effects.extend(self.apply(from, message)),
                ContentMessage::Holds { editions, ticket } => {
                    self.holdings.set(from, editions);
                    effects.push(Effect::Ordered { by: from, ticket, outcome: Ok(Ordered::Held) });
                }
                ContentMessage::Intend { intent, ticket } => {
                    self.intents.set(from, intent);
                    effects.push(Effect::Ordered { by: from, ticket, outcome: Ok(Ordered::Intended) });
                }
            }
        }
        effects.retain(|effect| !matches!(effect, Effect::Refused { .. }));
        effects
    }
}

/// The shared state that a class has told; nothing if it has none, or it cannot be read.
fn shared_state(parts: &Parts) -> Option<Told> {
    let pieces: Vec<_> = parts.values().map(|(_, share)| &share.shared[..]).collect();
    decode(&pieces.concat()).ok()
}

/// Whether two sides of a partition served the session: each propagated what the other does not know.
fn have_diverged(one: &Session, other: &Session) -> bool {
    !one.comes_after(other.version) && !other.comes_after(one.version)
}

/// Copies are compared by what their clients have seen, then by anything at all, so that the choice is total.
fn weight(session: &Session) -> impl Ord {
    let appointed = (session.primary, session.backups.clone(), session.placed, session.stalls);
    let allocation = (appointed, session.gateway.clone(), session.context.clone());
    (session.requests, session.responses, session.fence, session.version, session.rebuilt, allocation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit_db::Limits;
    use crate::unit_db::tests::Plain;
    use model::{Boot, DaemonId, Name};

    #[test]
    fn counts_that_leave_no_room_are_not_taken() {
        let me = ProcessId::new(DaemonId::new(Name::literal("a"), Boot::new(1)), 1);
        let limits = Limits { moves_max: 1, state_bytes_max: 1, results_kept: 1 };
        let mut database = Database::new(me, Policy::default(), BTreeSet::new(), None, limits);
        let share = Share { changes: u64::MAX, fences: u64::MAX, buried: u64::MAX, ..database.whole() };
        database.merge(Vec::from([share]), &Plain);
        let counts = [database.changes, database.fences, database.buried];
        assert_eq!(counts, [COUNT_MAX; 3]);
    }
}
