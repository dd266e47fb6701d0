//! The membership service, as free as its interface: it may begin a change at any time, propose any set, tell any
//! part of it, and decide for any set of daemons that were all told and that each was proposed. A view names the last
//! start change of each member; it may never reach a member that was told of another change first.
//!
//! What it does freely is a *detour*, and bounded. What it must do in the end: when all that can talk to each other are
//! not in one view of exactly them, it begins a change for them, if need be, and decides.

use gcs_core::Notice;
use model::{Address, Configuration, DaemonId, StartId};

use super::{Action, COUNT, Place, Set};

/// What a daemon was told last, if everything on its way arrives.
#[derive(Clone, Copy, Default, Hash)]
struct Told {
    starts: u64,
    /// What its start change proposed, if no view has followed.
    proposed: Option<Set>,
    /// Its last view.
    view: (u64, Set),
}

#[derive(Clone, Default, Hash)]
pub(super) struct Service {
    told: [Told; COUNT],
    counter: u64,
}

impl Service {
    /// What the service must do for `component`, whose members can talk to each other and to nobody else.
    pub(super) fn due(&self, component: Set) -> Option<Action> {
        let mut told = component.places().map(|place| self.told[place]);
        let first = told.next()?.view;
        if component.places().all(|place| self.told[place].proposed.is_none())
            && first.1 == component
            && told.all(|told| told.view == first)
        {
            return None;
        }
        let may_decide = self.may_decide(component);
        Some(if may_decide {
            Action::View(component)
        } else {
            Action::Start { told: component, proposed: component }
        })
    }

    /// Everything that the service may do while `alive` can hear it.
    pub(super) fn detours(&self, alive: Set) -> Vec<Action> {
        let mut detours = Vec::new();
        for proposed in Set::ALL.subsets() {
            let told = Set(proposed.0 & alive.0).subsets();
            detours.extend(told.map(|told| Action::Start { told, proposed }));
            if self.may_decide(proposed) {
                detours.push(Action::View(proposed));
            }
        }
        detours
    }

    /// Whether a view of `members` would follow from their start changes.
    fn may_decide(&self, members: Set) -> bool {
        members
            .places()
            .all(|place| self.told[place].proposed.is_some_and(|proposed| members.is_in(proposed)))
    }

    /// Begins a change, as `place` is told.
    pub(super) fn start(&mut self, place: Place, proposed: Set, ids: &[DaemonId; COUNT]) -> Notice {
        let told = &mut self.told[place];
        told.starts += 1;
        told.proposed = Some(proposed);
        Notice::StartChange {
            start: StartId::new(ids[place].boot(), told.starts),
            proposed: proposed.places().map(|place| (ids[place], Address::new("memory"))).collect(),
        }
    }

    /// Decides.
    pub(super) fn view(&mut self, members: Set, ids: &[DaemonId; COUNT]) -> Notice {
        self.counter += 1;
        for place in members.places() {
            self.told[place].proposed = None;
            self.told[place].view = (self.counter, members);
        }
        let start = |place: Place| (ids[place], StartId::new(ids[place].boot(), self.told[place].starts));
        Notice::View(Configuration::new(self.counter, members.places().map(start).collect()))
    }
}
