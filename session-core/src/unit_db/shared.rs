//! The state that all sessions on a unit share: a replicated state machine in the content group [FK:shared-state]
//! ([ADR 16](../../../docs/adr/0016-shared-state-answers-to-its-voters.md)).
//!
//! An operator *founds* it once: whoever holds the unit then is a *voter*, by name. A view of the content group is
//! *live* if most voters are in it whose copies can be relied upon, that is, who *vouch*: who founded the state, or were
//! given it in a live view. A server that has lost its memory does not count until then [PB:promotion]. In live views
//! alone requests are carried out, each once [PB:at-most-once], and only after it is known that all members have come to
//! the view with the same copy. What came of a request may be used once all members have it, and a change of the view in
//! which it is used [VMFT:output-commit].
//!
//! Invariant: what came of a request and was used is in every copy of every later live view.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use model::{Digest, GroupView, GroupViewId, Name, ProcessId, SessionId};
use serde::{Deserialize, Serialize};

use super::{Contexts, Database, Effect, Intent, OrderRefusal, Ordered, Phase};
use crate::edition::Edition;
use crate::message::{COUNT_MAX, ContentMessage};
use crate::service::SharedState;

/// When a state was founded; of two, the greater one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Founding {
    /// How many times it was founded, as far as those who did it last knew.
    pub(crate) number: u64,
    /// In which view.
    pub(crate) view: GroupViewId,
}

/// How far a copy of the state is: of two copies the greater one has all that was ever used of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Reach {
    /// Of which founding it is.
    founding: Founding,
    /// The view in which it was changed last, or adopted as it was.
    view: GroupViewId,
    /// How many requests it reflects.
    updates: u64,
}

/// What came of the last requests of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Results {
    /// The last one that was carried out.
    last: u64,
    /// The oldest first.
    kept: VecDeque<Kept>,
}

/// A request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    number: u64,
    /// A fingerprint of the request.
    request: Digest,
    /// The how-manieth it was of all sessions.
    update: u64,
    result: Bytes,
}

/// What became of a request to the shared state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// This, as the `update`-th of all requests.
    Out { update: u64, result: Bytes },
    /// It was carried out so long ago that nobody knows what came of it.
    Forgotten,
    /// Another request was carried out under its number: its client has gone back, and says something else.
    Otherwise,
    /// It was not, or may not be used yet.
    NotYet,
}

/// One copy of the state, and all that goes with it.
#[derive(Clone, Debug)]
struct Replica {
    /// The names of the servers that held the unit when it was founded. Most of them are needed to go on.
    voters: BTreeSet<Name>,
    reach: Reach,
    /// Members whose copies count as votes.
    vouchers: BTreeSet<ProcessId>,
    /// A fingerprint of all requests that were carried out, in their order.
    history: Digest,
    results: BTreeMap<SessionId, Results>,
    state: Box<dyn SharedState>,
}

/// A copy as one class of replicas tells it to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    voters: BTreeSet<Name>,
    reach: Reach,
    vouchers: BTreeSet<ProcessId>,
    history: Digest,
    results: BTreeMap<SessionId, Results>,
    snapshot: Bytes,
}

/// The shared state of a unit at one server.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// As it will be if it is founded here.
    unfounded: Box<dyn SharedState>,
    /// Nothing: it is not founded, as far as is known here.
    replica: Option<Replica>,
    /// The members of the view by name.
    names: BTreeMap<ProcessId, Name>,
    /// Whether the view is live.
    live: bool,
    /// Whether all members are known to have come to the view, each with the same copy.
    open: bool,
    /// Updates up to this one are in every copy of every later live view.
    settled: u64,
}

impl Shared {
    /// A state that begins like this, if it is founded here.
    pub(super) fn unfounded(state: Box<dyn SharedState>) -> Shared {
        Shared {
            unfounded: state,
            replica: None,
            names: BTreeMap::new(),
            live: false,
            open: false,
            settled: 0,
        }
    }

    /// Whether requests are carried out among the present members, or will be in a moment.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Whether requests may be multicast.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// What came of request `number` of a session.
    pub(crate) fn carried(&self, session: SessionId, number: u64, request: &[u8]) -> Carried {
        let results = self.replica.as_ref().and_then(|replica| replica.results.get(&session));
        let Some(results) = results.filter(|results| number <= results.last) else { return Carried::NotYet };
        match results.kept.iter().find(|kept| kept.number == number) {
            None => Carried::Forgotten,
            Some(kept) if kept.update > self.settled => Carried::NotYet,
            Some(kept) if kept.request != Digest::of(request) => Carried::Otherwise,
            Some(Kept { update, result, .. }) => Carried::Out { update: *update, result: result.clone() },
        }
    }

    /// When the state was founded.
    pub(crate) fn founding(&self) -> Option<Founding> {
        self.replica.as_ref().map(|replica| replica.reach.founding)
    }

    /// What replicas must agree on.
    pub(super) fn fingerprint(&self) -> Option<(BTreeSet<Name>, Reach, BTreeSet<ProcessId>, Digest)> {
        let of = |it: &Replica| (it.voters.clone(), it.reach, it.vouchers.clone(), it.history);
        self.replica.as_ref().map(of)
    }

    pub(super) fn on_view(&mut self, view: &GroupView) {
        self.names = view.members.iter().map(|member| (member.process, member.name)).collect();
        self.open = false;
    }

    /// All members have the same copy in this view: says whether it is live.
    fn review(&mut self) {
        let names = &self.names;
        self.live = self.replica.as_mut().is_some_and(|replica| {
            replica.vouchers.retain(|member| names.contains_key(member));
            let is_live =
                replica.has_majority(replica.vouchers.iter().filter_map(|member| names.get(member)));
            if is_live {
                replica.vouchers = names.keys().copied().collect();
            }
            is_live
        });
    }

    pub(super) fn told(&self) -> Option<Told> {
        self.replica.as_ref().map(|replica| Told {
            voters: replica.voters.clone(),
            reach: replica.reach,
            vouchers: replica.vouchers.clone(),
            history: replica.history,
            results: replica.results.clone(),
            snapshot: replica.state.snapshot(),
        })
    }

    /// Makes the copy that reaches furthest everybody's. Whoever vouches for the state still does, if it is of the same
    /// founding.
    pub(super) fn merge(&mut self, copies: Vec<Told>, edition: Edition, contexts: &dyn Contexts) {
        let own = self.replica.take();
        let Some(founding) = copies.iter().map(|copy| copy.reach.founding).max() else { return };
        let of_last = || copies.iter().filter(|copy| copy.reach.founding == founding);
        let vouchers = of_last().flat_map(|copy| copy.vouchers.iter().copied()).collect();
        let Some(furthest) = of_last().max_by_key(|copy| copy.reach).cloned() else { return };
        let Told { voters, mut reach, history, results, snapshot, .. } = furthest;
        reach.updates = reach.updates.min(COUNT_MAX);
        if own.as_ref().is_some_and(|own| own.reach.founding != founding) {
            self.settled = 0;
        }
        let own = own.filter(|own| (own.reach, own.history) == (reach, history));
        let state = own.map(|own| own.state).or_else(|| contexts.restore(edition, &snapshot));
        self.replica = state.map(|state| Replica { voters, reach, vouchers, history, results, state });
    }

    /// Those who are here vote on it from here on.
    fn found(&mut self, view: GroupViewId, anew: bool) -> Result<(), OrderRefusal> {
        if self.replica.is_some() && !anew {
            return Err(OrderRefusal::FoundedBefore);
        }
        let voters = self.names.values().copied().collect();
        let vouchers = self.names.keys().copied().collect();
        let before = self.replica.take();
        let foundings = before.as_ref().map_or(0, |replica| replica.reach.founding.number.min(COUNT_MAX));
        let founding = Founding { number: foundings + 1, view };
        let updates = before.as_ref().map_or(0, |replica| replica.reach.updates);
        let reach = Reach { founding, view, updates };
        self.open = false;
        self.replica = Some(match before {
            Some(replica) => Replica { voters, reach, vouchers, ..replica },
            None => {
                let (history, results, state) = (Digest::EMPTY, BTreeMap::new(), self.unfounded.clone());
                Replica { voters, reach, vouchers, history, results, state }
            }
        });
        Ok(())
    }

    /// Carries a request out, unless it was before.
    fn update(&mut self, session: SessionId, number: u64, operation: &[u8], view: GroupViewId, kept: usize) {
        let Some(replica) = &mut self.replica else { return };
        let results = replica.results.entry(session).or_default();
        if number <= results.last {
            return;
        }
        results.last = number;
        replica.reach = Reach { view, updates: replica.reach.updates + 1, ..replica.reach };
        let identity = [&session.bits().to_le_bytes()[..], &number.to_le_bytes(), operation].concat();
        replica.history = replica.history.and(&identity);
        let (request, update) = (Digest::of(operation), replica.reach.updates);
        let result = replica.state.update(operation);
        results.kept.push_back(Kept { number, request, update, result });
        let surplus = results.kept.len().saturating_sub(kept);
        results.kept.drain(..surplus);
    }

    /// The session is over. Where the view is not live, others may know better.
    pub(super) fn forget(&mut self, session: SessionId) {
        if let Some(replica) = self.replica.as_mut().filter(|_| self.live) {
            replica.results.remove(&session);
        }
    }
}

/// A shared state, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedStatus {
    /// Whether it can change among the present members.
    pub live: bool,
    /// Who votes on it; nobody: it is not founded, as far as is known here.
    pub voters: BTreeSet<Name>,
    /// How many requests it reflects.
    pub updates: u64,
}

impl Replica {
    /// Whether most voters are among these.
    fn has_majority<'a>(&self, names: impl Iterator<Item = &'a Name>) -> bool {
        let votes: BTreeSet<_> = names.filter(|name| self.voters.contains(*name)).collect();
        votes.len() * 2 > self.voters.len()
    }
}

impl Database {
    /// Whether the unit has a shared state that can change now, and could not without this member and those that are
    /// leaving.
    pub fn rests_on_me(&self) -> bool {
        let stays = |member: &&ProcessId| **member != self.me && self.intents.of(**member) != Intent::Leaving;
        self.shared.as_ref().filter(|shared| shared.live).is_some_and(|Shared { replica, names, .. }| {
            replica.as_ref().is_some_and(|replica| {
                let left = replica.vouchers.iter().filter(stays).filter_map(|member| names.get(member));
                !replica.has_majority(left)
            })
        })
    }

    /// The shared state, if the unit has one, for operators.
    pub fn shared_status(&self) -> Option<SharedStatus> {
        let Shared { replica, live, .. } = self.shared.as_ref()?;
        let replica = replica.as_ref();
        Some(SharedStatus {
            live: *live,
            voters: replica.map(|replica| replica.voters.clone()).unwrap_or_default(),
            updates: replica.map_or(0, |replica| replica.reach.updates),
        })
    }

    /// The shared state, if the unit has one.
    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// Whether sessions can be served here: not if the unit has a shared state that cannot change among the present
    /// members. While these make theirs the same, nothing is said of that.
    pub fn is_live(&self) -> bool {
        self.shared.as_ref().is_none_or(Shared::is_live)
    }

    /// All members have the same copy now.
    pub(super) fn review_shared(&mut self) -> Vec<Effect> {
        let Some(shared) = &mut self.shared else { return Vec::new() };
        let before = shared.live;
        shared.review();
        if let (true, Some(replica)) = (shared.live, &mut shared.replica) {
            replica.results.retain(|session, _| self.sessions.contains_key(session));
        }
        let (live, spokesman) = (shared.live, self.is_spokesman());
        let turned = (live != before).then_some(Effect::Live);
        let opening = ContentMessage::Settle { view: self.view };
        turned.into_iter().chain((live && spokesman).then_some(Effect::Tell(opening))).collect()
    }

    /// An operator founds the state, or founds it anew, among those who are here.
    pub(super) fn found(&mut self, by: ProcessId, anew: bool, ticket: u64) -> Vec<Effect> {
        let view = self.view;
        let shared = self.shared.as_mut().ok_or(OrderRefusal::NothingShared);
        let outcome = shared.and_then(|shared| shared.found(view, anew));
        let answer = Effect::Ordered { by, ticket, outcome: outcome.map(|()| Ordered::Founded) };
        let review = if outcome.is_ok() { self.review_shared() } else { Vec::new() };
        review.into_iter().chain([answer]).collect()
    }

    /// A request to the shared state, of the primary of a session in this view.
    pub(super) fn carry_out(
        &mut self,
        view: GroupViewId,
        session: SessionId,
        number: u64,
        operation: &[u8],
    ) -> Vec<Effect> {
        let results_kept = self.limits.results_kept;
        let Some(shared) = self.shared.as_mut().filter(|shared| shared.live) else { return Vec::new() };
        if view != self.view || !self.sessions.contains_key(&session) {
            return Vec::new();
        }
        shared.update(session, number, operation, view, results_kept);
        Vec::from([Effect::Carried(session)])
    }

    /// Daemons have changed, and nobody knows whether all members have what was said in this view up to here. If the
    /// members stay the same, they are asked again.
    pub(crate) fn settle_later(&self, view: GroupViewId) -> Vec<Effect> {
        let asks = view == self.view && self.is_live() && self.is_spokesman();
        asks.then_some(Effect::Tell(ContentMessage::Settle { view })).into_iter().collect()
    }

    /// All members have come to this view with the same copy, which reaches as far as if it had been changed in it.
    pub(super) fn adopt(&mut self, view: GroupViewId) -> Vec<Effect> {
        let shared = self.shared.as_mut().filter(|shared| shared.live && view == self.view);
        if let Some(replica) = shared.and_then(|shared| shared.replica.as_mut()) {
            replica.reach.view = view;
        }
        Vec::new()
    }

    /// All members have what was said in this view up to here. If it was said in `opening`, they have all come to it with
    /// the same state.
    ///
    /// That does not make what they came with count for more than what others may have in its place, who were in the
    /// view before too and parted from these on its last messages. It does once the state was changed in this view.
    pub(crate) fn settle(&mut self, view: GroupViewId, opening: bool) -> Vec<Effect> {
        let is_running = matches!(self.phase, Phase::Running) && view == self.view;
        let is_spokesman = self.is_spokesman();
        let shared = self.shared.as_mut().filter(|shared| is_running && shared.live);
        let Some(Shared { open, settled, replica: Some(replica), .. }) = shared else { return Vec::new() };
        *open |= opening;
        let is_adopted = replica.reach.view == view;
        if is_adopted {
            *settled = replica.reach.updates;
        }
        let asks = opening && is_spokesman && !is_adopted;
        let adoption = asks.then_some(Effect::Tell(ContentMessage::Adopt { view }));
        opening.then_some(Effect::Opened).into_iter().chain(adoption).collect()
    }
}
