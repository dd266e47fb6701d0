//! State transfer: who has the same state as whom in a group whose name says so ([`GroupName::transfers_state`]).
//!
//! The members that have the same state, because they came the same way and so were given the same messages, are a
//! *class*. A view may bring classes together: a newcomer that has no state yet, or both sides of a partition that
//! has healed. Then one member of each class is asked to tell its state, and what it tells is given to the members of
//! the other classes, in the total order of the group. When every class has told, all members are one class.
//!
//! If another view comes before that, the classes are what they were, less those who are gone, and it begins anew:
//! all that go on together agree on whether it was finished, because what is told comes in the order of the group's
//! messages and views. Newcomers that have no state are not asked; their daemons say so for them.
//!
//! It is the exchange of [`crate::exchange`] once more, among processes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::{GroupName, GroupView, GroupViewId, ProcessId};

/// Members are being brought up to date.
#[derive(Clone, Debug, Hash)]
struct Round {
    view: GroupViewId,
    members: BTreeSet<ProcessId>,
    /// For these nobody has told.
    missing: BTreeSet<ProcessId>,
}

/// What a member that is attached here knows of the others.
#[derive(Clone, Debug, Hash)]
struct Standing {
    class: BTreeSet<ProcessId>,
    /// Whether it has a state to tell.
    informed: bool,
    round: Option<Round>,
}

/// What a member is to do about a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Nothing.
    None,
    /// To tell its state, for its class.
    Tell,
    /// It has none: its daemon is to say so.
    SayNothing,
}

/// What something that was told means to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It has the same state, or is in another view.
    Nothing,
    /// It is to be given what was told.
    Given,
    /// The same, and everybody is up to date now.
    Last {
        /// Whether it is to be given what was told.
        given: bool,
    },
}

/// The members of groups with state transfer that are attached here.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Transfers {
    members: BTreeMap<(u32, GroupName), Standing>,
    /// Those of them that have no state, and the views in which that is to be said.
    uninformed: BTreeMap<(u32, GroupName), GroupViewId>,
}

impl Transfers {
    /// `me` is told a view.
    pub(crate) fn view(&mut self, me: ProcessId, view: &GroupView) -> Duty {
        let members: BTreeSet<ProcessId> = view.members.iter().map(|member| member.process).collect();
        let first = view.joined.contains(&me);
        let standing = self
            .members
            .entry((me.connection(), view.group.clone()))
            .or_insert_with(|| Standing { class: BTreeSet::new(), informed: false, round: None });
        if first {
            *standing = Standing { class: [me].into(), informed: members.len() == 1, round: None };
        } else {
            standing.class.retain(|process| view.transitional.contains(process));
        }
        if members == standing.class {
            standing.round = None;
            standing.informed = true;
            return Duty::None;
        }
        standing.round = Some(Round { view: view.id, missing: members.clone(), members });
        match standing.class.first() {
            Some(speaker) if *speaker == me && standing.informed => Duty::Tell,
            Some(speaker) if *speaker == me => Duty::SayNothing,
            Some(_) | None => Duty::None,
        }
    }

    /// It is to be said that `me` has no state to tell in `view`, and not in the views before.
    pub(crate) fn say_nothing(&mut self, me: ProcessId, group: GroupName, view: GroupViewId) {
        self.uninformed.insert((me.connection(), group), view);
    }

    /// The next process of which is to be said that it has no state to tell, and in which views.
    pub(crate) fn next_uninformed(&mut self) -> Option<(u32, Vec<(GroupName, GroupViewId)>)> {
        let connection = self.uninformed.first_key_value()?.0.0;
        let mut groups = Vec::new();
        while let Some(entry) = self.uninformed.first_entry().filter(|entry| entry.key().0 == connection) {
            let ((_, group), view) = entry.remove_entry();
            groups.push((group, view));
        }
        Some((connection, groups))
    }

    /// The class for which `me` speaks in `view`, if it does.
    pub(crate) fn speaks_for(
        &self,
        me: ProcessId,
        group: &GroupName,
        view: GroupViewId,
    ) -> Option<Arc<[ProcessId]>> {
        let standing = self.members.get(&(me.connection(), group.clone()))?;
        let speaks = standing.round.as_ref()?.view == view && standing.class.first() == Some(&me);
        speaks.then(|| standing.class.iter().copied().collect())
    }

    /// A member told something of its state in `view`: for the whole of `class` if that is said, and then it has told
    /// all.
    pub(crate) fn told(
        &mut self,
        me: ProcessId,
        group: &GroupName,
        view: GroupViewId,
        by: ProcessId,
        class: Option<&[ProcessId]>,
    ) -> News {
        let Some(standing) = self.members.get_mut(&(me.connection(), group.clone())) else {
            return News::Nothing;
        };
        let Some(round) = standing.round.as_mut().filter(|round| round.view == view) else {
            return News::Nothing;
        };
        let given = !standing.class.contains(&by);
        if let Some(class) = class {
            round.missing.retain(|process| !class.contains(process));
            if round.missing.is_empty() {
                standing.class = core::mem::take(&mut round.members);
                standing.informed = true;
                standing.round = None;
                return News::Last { given };
            }
        }
        if given { News::Given } else { News::Nothing }
    }

    /// A process is not in `group` any more.
    pub(crate) fn leave(&mut self, connection: u32, group: &GroupName) {
        let place = (connection, group.clone());
        self.members.remove(&place);
        self.uninformed.remove(&place);
    }

    /// A process detached.
    pub(crate) fn detach(&mut self, connection: u32) {
        self.members.retain(|(other, _), _| *other != connection);
        self.uninformed.retain(|(other, _), _| *other != connection);
    }
}
