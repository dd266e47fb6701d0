//! The last views of groups that processes of this daemon were told, for operators who ask what happened. The lock is held
//! to write a view down and to read a page, never while anybody waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{GroupName, GroupView, GroupViewId, Time};

/// So many views are remembered, of all groups together.
const VIEWS_MAX: usize = 16384;

/// The last views, the oldest first.
#[derive(Debug, Default)]
pub struct History(Mutex<Views>);

#[derive(Debug, Default)]
struct Views {
    seen: VecDeque<(Time, Arc<GroupView>)>,
    /// Of each group that is among them: its last view, and how many there are.
    latest: HashMap<GroupName, (GroupViewId, usize)>,
}

impl History {
    fn views(&self) -> MutexGuard<'_, Views> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process was told these views. Those that another one was told before are known.
    pub fn note(&self, now: Time, told: &[Arc<GroupView>]) {
        let mut views = self.views();
        for view in told {
            let (latest, count) = views.latest.get(&view.group).copied().unwrap_or((GroupViewId::NONE, 0));
            if count > 0 && latest >= view.id {
                continue;
            }
            views.latest.insert(view.group.clone(), (view.id, count + 1));
            views.seen.push_back((now, view.clone()));
            views.forget_surplus();
        }
    }

    /// The views of a group that are remembered, the latest first, from the one before `before` on.
    pub fn of(
        &self,
        group: &GroupName,
        before: Option<GroupViewId>,
        max: usize,
    ) -> Vec<(Time, Arc<GroupView>)> {
        let views = self.views();
        let is_asked = |view: &GroupView| view.group == *group && before.is_none_or(|it| view.id < it);
        views.seen.iter().rev().filter(|(_, view)| is_asked(view)).take(max).cloned().collect()
    }
}

impl Views {
    fn forget_surplus(&mut self) {
        if self.seen.len() <= VIEWS_MAX {
            return;
        }
        let Some((_, view)) = self.seen.pop_front() else { return };
        if let Some((_, count)) = self.latest.get_mut(&view.group) {
            *count -= 1;
            if *count == 0 {
                self.latest.remove(&view.group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::ConfigurationId;

    use super::*;

    fn id(position: u64) -> GroupViewId {
        GroupViewId { configuration: ConfigurationId::new(1, 0), position }
    }

    fn view(group: &str, position: u64) -> Arc<GroupView> {
        Arc::new(GroupView {
            group: GroupName::new(group).unwrap(),
            id: id(position),
            members: Vec::new(),
            joined: Vec::new(),
            left: Vec::new(),
            transitional: Vec::new(),
            primary: false,
        })
    }

    fn positions(history: &History, group: &str, before: Option<u64>, max: usize) -> Vec<u64> {
        let found = history.of(&GroupName::new(group).unwrap(), before.map(id), max);
        found.iter().map(|(_, view)| view.id.position).collect()
    }

    #[test]
    fn the_views_of_a_group_are_told_once_and_the_latest_first() {
        let history = History::default();
        for position in 1..=4 {
            history.note(Time::ZERO, &[view("a", position), view("b", position)]);
            history.note(Time::ZERO, &[view("a", position)]);
        }
        assert_eq!(positions(&history, "a", None, 9), [4, 3, 2, 1]);
        assert_eq!(positions(&history, "a", Some(3), 1), [2]);
        assert!(positions(&history, "c", None, 9).is_empty());
    }

    #[test]
    fn the_oldest_views_are_forgotten() {
        let history = History::default();
        history.note(Time::ZERO, &[view("a", 1)]);
        (1..=VIEWS_MAX as u64).for_each(|position| history.note(Time::ZERO, &[view("b", position)]));
        assert!(positions(&history, "a", None, 9).is_empty());
        let views = history.views();
        assert_eq!((views.seen.len(), views.latest.len()), (VIEWS_MAX, 1));
    }
}
