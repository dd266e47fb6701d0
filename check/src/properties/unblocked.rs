//! Nobody is left blocked: in a quiescent run every living member that was asked to send no more was told to go on, or
//! has left. [KK:liveness]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{GroupName, ProcessId};

use crate::property::{Breach, Position, Property, breach, of_daemon};

/// The checker.
#[derive(Default)]
pub(crate) struct Unblocked {
    blocked: BTreeMap<ProcessId, BTreeMap<GroupName, Position>>,
}

impl Property for Unblocked {
    fn name(&self) -> &'static str {
        "unblocked"
    }

    fn claim(&self) -> &'static str {
        "KK:liveness"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::GroupBlock { process, group } => {
                self.blocked.entry(*process).or_default().insert(group.clone(), at);
            }
            Event::GroupUnblock { process, group } | Event::GroupLeave { process, group } => {
                if let Some(groups) = self.blocked.get_mut(process) {
                    groups.remove(group);
                }
            }
            Event::Detach { process } => {
                self.blocked.remove(process);
            }
            Event::Quiescent { daemons, .. } => {
                let live = daemons.iter().flat_map(|daemon| self.blocked.range(of_daemon(*daemon)));
                for (process, groups) in live {
                    if let Some((group, since)) = groups.first_key_value() {
                        return breach(&[*since, at], format!("{process} is left blocked in {group}"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let blocked = Script::new().forms(1, "a b").attaches("a/1 b/1").views("strict:g", 1, "a/1 b/1");
    let blocked = blocked.blocks("a/1 b/1", "strict:g");
    let half = blocked.clone().unblocks("a/1", "strict:g");
    vec![
        rejected("b is never told to go on", &["unblocked"], half.clone().quiescent("a b")),
        accepted("both are told to go on", half.clone().unblocks("b/1", "strict:g").quiescent("a b")),
        accepted(
            "b leaves instead",
            half.clone()
                .leaves("b/1", "strict:g")
                .blocks("a/1", "strict:g")
                .views("strict:g", 2, "a/1")
                .unblocks("a/1", "strict:g")
                .quiescent("a b"),
        ),
        accepted(
            "b is evicted",
            half.detaches("b/1")
                .blocks("a/1", "strict:g")
                .views("strict:g", 2, "a/1")
                .unblocks("a/1", "strict:g")
                .quiescent("a b"),
        ),
        accepted(
            "b's daemon dies",
            blocked
                .crashes("b")
                .forms(2, "a")
                .views("strict:g", 0, "a/1")
                .unblocks("a/1", "strict:g")
                .quiescent("a"),
        ),
    ]
}
