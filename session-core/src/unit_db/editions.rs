//! Which editions of the unit each member holds, and which one new sessions are opened on. All of it is said in the
//! content group, so that every replica goes over to a new edition at the same place of the order, and knows who can
//! serve a session on which.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use model::ProcessId;

use super::{Database, Effect, OrderRefusal, Ordered};
use crate::edition::Edition;

/// The editions that each member holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings(BTreeMap<ProcessId, BTreeSet<Edition>>);

impl Holdings {
    /// Those of one member.
    pub(super) fn of(member: ProcessId, editions: BTreeSet<Edition>) -> Holdings {
        Holdings([(member, editions)].into())
    }

    /// Whether `member` can serve sessions on `edition`.
    pub(crate) fn has(&self, member: ProcessId, edition: Edition) -> bool {
        self.0.get(&member).is_some_and(|held| held.contains(&edition))
    }

    /// `member` holds these, and no others.
    pub(crate) fn set(&mut self, member: ProcessId, editions: BTreeSet<Edition>) {
        self.0.insert(member, editions);
    }

    /// Nobody but `members` counts any more.
    pub(super) fn retain(&mut self, members: &BTreeSet<ProcessId>) {
        self.0.retain(|member, _| members.contains(member));
    }

    /// As they are told, of these members.
    pub(super) fn told<'a>(
        &self,
        members: impl Iterator<Item = &'a ProcessId>,
    ) -> Vec<(ProcessId, BTreeSet<Edition>)> {
        members.filter_map(|member| Some((*member, self.0.get(member)?.clone()))).collect()
    }

    /// The edition of this number, if every one of `members` holds the same.
    fn common(&self, members: &BTreeSet<ProcessId>, number: u32) -> Option<Edition> {
        let first = self.0.get(members.first()?)?;
        let edition = *first.iter().find(|edition| edition.number == number)?;
        members.iter().all(|member| self.has(*member, edition)).then_some(edition)
    }
}

impl Database {
    /// The edition that new sessions are opened on.
    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// Whether `member` can serve sessions on `edition`.
    pub fn has(&self, member: ProcessId, edition: Edition) -> bool {
        self.holdings.has(member, edition)
    }

    /// Whether some other member can.
    pub(crate) fn is_held_elsewhere(&self, edition: Edition) -> bool {
        self.members.iter().any(|member| *member != self.me && self.has(*member, edition))
    }

    /// Whether every member can.
    pub(super) fn all_have(&self, edition: Edition) -> bool {
        self.members.iter().all(|member| self.has(*member, edition))
    }

    /// `member` holds these editions now: sessions go to those who can serve them.
    pub(super) fn hold(
        &mut self,
        member: ProcessId,
        editions: BTreeSet<Edition>,
        ticket: u64,
    ) -> Vec<Effect> {
        if !self.members.contains(&member) {
            return Vec::new();
        }
        self.holdings.set(member, editions);
        let mut effects = self.reassign();
        effects.push(Effect::Ordered { by: member, ticket, outcome: Ok(Ordered::Held) });
        effects
    }

    /// New sessions are opened on the edition of this number from here on. Sessions that are there stay with theirs.
    pub(super) fn publish(&mut self, by: ProcessId, number: u32, ticket: u64) -> Vec<Effect> {
        let outcome = match self.holdings.common(&self.members, number) {
            _ if number <= self.edition.number => Err(OrderRefusal::NotNewer),
            None => Err(OrderRefusal::NotHeldByAll),
            Some(edition) => Ok(edition),
        };
        let answer = Effect::Ordered { by, ticket, outcome: outcome.map(Ordered::Published) };
        let Ok(edition) = outcome else { return Vec::from([answer]) };
        self.edition = edition;
        self.changes += 1;
        Vec::from([Effect::Published, answer])
    }
}
