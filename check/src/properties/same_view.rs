//! A multicast is given to members in the view that they are in, and to all of them in the same one.
//! [VKCD:same-view]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{GroupName, GroupViewId, ProcessId};

use crate::numbers::Numbers;
use crate::property::{Breach, Position, Property, breach};

/// Where a message was given first.
struct Given {
    view: u32,
    at: Position,
}

/// The checker.
#[derive(Default)]
pub(crate) struct SameView {
    current: BTreeMap<ProcessId, BTreeMap<GroupName, GroupViewId>>,
    views: Numbers<(GroupName, GroupViewId)>,
    given: BTreeMap<ProcessId, BTreeMap<u64, Given>>,
}

impl Property for SameView {
    fn name(&self) -> &'static str {
        "same_view"
    }

    fn claim(&self) -> &'static str {
        "VKCD:same-view"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::GroupInstall { process, view } => {
                self.current.entry(*process).or_default().insert(view.group.clone(), view.id);
            }
            Event::GroupLeave { process, group } => {
                if let Some(groups) = self.current.get_mut(process) {
                    groups.remove(group);
                }
            }
            Event::Detach { process } => {
                self.current.remove(process);
            }
            Event::GroupDeliver { process, group, message, view, .. } => {
                let current = self.current.get(process).and_then(|groups| groups.get(group));
                if current != Some(view) {
                    return breach(
                        &[at],
                        format!(
                            "{process} was given {message} in view {view} of {group}, which it is not in"
                        ),
                    );
                }
                let number = self.views.of(&(group.clone(), *view));
                let messages = self.given.entry(message.sender()).or_default();
                let first = messages.entry(message.number()).or_insert(Given { view: number, at });
                if first.view != number {
                    let (_, other) = self.views.value(first.view);
                    return breach(
                        &[first.at, at],
                        format!(
                            "{process} was given {message} in view {view} of {group}, another one in {other}"
                        ),
                    );
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
    let only = &["same_view"];
    let given = |position: u64| Event::GroupDeliver {
        process: process("b/1"),
        group: group("g"),
        message: model::MessageId::new(process("a/1"), 1),
        view: GroupViewId { configuration: configuration(1, "a b").id, position },
        digest: digest("a/1", 1),
    };
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1").views("g", 1, "a/1 b/1").sends("a/1", "g", 1);
    vec![
        rejected(
            "b is given in the next view what a was given in the last",
            // What they were given in the last view then differs, too.
            &["virtual_synchrony", "same_view"],
            two.clone()
                .receives("a/1", "g", "a/1", 1)
                .views("g", 2, "a/1 b/1")
                .receives("b/1", "g", "a/1", 1),
        ),
        rejected("b is given a message in a view to come", only, two.clone().raw(given(2))),
        rejected("b is given a message after it left", only, two.clone().leaves("b/1", "g").raw(given(1))),
        rejected("b is given a message after it is gone", only, two.clone().detaches("b/1").raw(given(1))),
        accepted("a newcomer is not given what came before", {
            let both = two.receives("a/1 b/1", "g", "a/1", 1).attaches("b/2");
            both.views("g", 2, "a/1 b/1 b/2").quiescent("a b")
        }),
    ]
}
