//! The views of a strict group change under blocked members: one that has been told a view is told the next only
//! between the request to send no more and the word to go on. The request may come before its first view. [KK:block]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{GroupName, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// A member of a strict group, and since when it is blocked or not.
struct Member {
    blocked: bool,
    since: Position,
}

/// The checker.
#[derive(Default)]
pub(crate) struct BlockedViews {
    members: BTreeMap<ProcessId, BTreeMap<GroupName, Member>>,
}

impl Property for BlockedViews {
    fn name(&self) -> &'static str {
        "blocked_views"
    }

    fn claim(&self) -> &'static str {
        "KK:block"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::GroupInstall { process, view } if view.group.is_strict() => {
                let groups = self.members.entry(*process).or_default();
                match groups.get(&view.group) {
                    Some(Member { blocked: false, since }) => {
                        let (group, id) = (&view.group, view.id);
                        return breach(
                            &[*since, at],
                            format!("{process} was told view {id} of {group} while it was free to send"),
                        );
                    }
                    Some(Member { blocked: true, .. }) => {}
                    // The first view asks nobody to stop.
                    None => drop(groups.insert(view.group.clone(), Member { blocked: false, since: at })),
                }
            }
            Event::GroupBlock { process, group } => self.set(at, *process, group, true),
            Event::GroupUnblock { process, group } => self.set(at, *process, group, false),
            Event::GroupLeave { process, group } => {
                if let Some(groups) = self.members.get_mut(process) {
                    groups.remove(group);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl BlockedViews {
    fn set(&mut self, at: Position, process: ProcessId, group: &GroupName, blocked: bool) {
        let groups = self.members.entry(process).or_default();
        groups.insert(group.clone(), Member { blocked, since: at });
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["blocked_views"];
    let one = Script::new().forms(1, "a b").attaches("a/1 b/1").views("strict:g", 1, "a/1");
    let blocked = one.clone().blocks("a/1", "strict:g");
    vec![
        rejected("a is not asked to stop", only, one.clone().views("strict:g", 2, "a/1 b/1")),
        rejected(
            "a goes on before the view comes",
            only,
            blocked.clone().unblocks("a/1", "strict:g").views("strict:g", 2, "a/1 b/1"),
        ),
        accepted(
            "a is asked to stop, and two views come at once",
            blocked
                .views("strict:g", 2, "a/1 b/1")
                .blocks("b/1", "strict:g")
                .views("strict:g", 3, "a/1 b/1")
                .unblocks("a/1 b/1", "strict:g"),
        ),
        accepted(
            "b is blocked from the start, and told another view before it may send",
            Script::new()
                .forms(1, "a b")
                .attaches("b/1")
                .blocks("b/1", "strict:g")
                .views("strict:g", 1, "b/1")
                .views("strict:g", 2, "b/1")
                .unblocks("b/1", "strict:g"),
        ),
        accepted(
            "who left and joins again is new",
            one.leaves("a/1", "strict:g").views("strict:g", 3, "a/1"),
        ),
        accepted(
            "other groups block nobody",
            Script::new().forms(1, "a b").attaches("a/1 b/1").views("g", 1, "a/1").views("g", 2, "a/1 b/1"),
        ),
    ]
}
