//! What servers mean to take on. Who is cordoned keeps what it has, and is given more only where nobody else holds the
//! content; who leaves says so first, so that the others can tell it from one that is lost. All of it is said in the content
//! group, as what each server holds is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use model::ProcessId;
use serde::{Deserialize, Serialize};

use super::{Database, Effect, Ordered};

/// What a server means to take on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Intent {
    /// Its share.
    #[default]
    Open,
    /// Nothing new.
    Cordoned,
    /// Nothing: it hands over what it has, and goes.
    Leaving,
}

/// The intents of all members, and of those who left since sessions were last assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intents(BTreeMap<ProcessId, Intent>);

impl Intents {
    /// What `member` means to take on.
    pub(crate) fn of(&self, member: ProcessId) -> Intent {
        self.0.get(&member).copied().unwrap_or_default()
    }

    /// Whether `member` takes its share.
    pub(crate) fn is_open(&self, member: ProcessId) -> bool {
        self.of(member) == Intent::Open
    }

    pub(super) fn set(&mut self, member: ProcessId, intent: Intent) {
        if intent == Intent::Open {
            self.0.remove(&member);
        } else {
            self.0.insert(member, intent);
        }
    }

    /// What these mean is told anew.
    pub(super) fn forget(&mut self, members: &BTreeSet<ProcessId>) {
        self.0.retain(|member, _| !members.contains(member));
    }

    /// Nobody but `members` counts any more.
    pub(super) fn retain(&mut self, members: &BTreeSet<ProcessId>) {
        self.0.retain(|member, _| members.contains(member));
    }

    /// As they are told, of these members.
    pub(super) fn told<'a>(&self, members: impl Iterator<Item = &'a ProcessId>) -> Vec<(ProcessId, Intent)> {
        members.filter_map(|member| Some((*member, *self.0.get(member)?))).collect()
    }
}

impl Database {
    /// What a server means to take on.
    pub fn intent(&self, server: ProcessId) -> Intent {
        self.intents.of(server)
    }

    /// What this server means to take on from the beginning.
    pub(crate) fn begin_with(&mut self, intent: Intent) {
        self.intents.set(self.me, intent);
    }

    /// `member` means this from here on. What it has stays with it.
    pub(super) fn intend(&mut self, member: ProcessId, intent: Intent, ticket: u64) -> Vec<Effect> {
        if !self.members.contains(&member) {
            return Vec::new();
        }
        self.intents.set(member, intent);
        Vec::from([Effect::Ordered { by: member, ticket, outcome: Ok(Ordered::Intended) }])
    }
}
