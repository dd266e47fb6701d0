//! A view of a group is the same to everybody who is told it: one id, one list of members, in the order of their ids.
//! What it says of who joined and who left is the difference to the view that the member was told before.
//! [VKCD:view-agreement]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{GroupName, GroupView, GroupViewId, Member, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct ViewAgreement {
    views: BTreeMap<(GroupName, GroupViewId), (Vec<Member>, Position)>,
    told: BTreeMap<ProcessId, BTreeMap<GroupName, Vec<ProcessId>>>,
}

impl Property for ViewAgreement {
    fn name(&self) -> &'static str {
        "view_agreement"
    }

    fn claim(&self) -> &'static str {
        "VKCD:view-agreement"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::GroupInstall { process, view } => {
                self.is_one_list(at, *process, view)?;
                let members = view.members.iter().map(|m| m.process).collect();
                let before = self.told.entry(*process).or_default().insert(view.group.clone(), members);
                tells_the_difference(at, *process, view, before.as_deref())
            }
            Event::GroupLeave { process, group } => {
                if let Some(groups) = self.told.get_mut(process) {
                    groups.remove(group);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl ViewAgreement {
    fn is_one_list(&mut self, at: Position, process: ProcessId, view: &GroupView) -> Result<(), Breach> {
        let GroupView { group, id, members, .. } = view;
        if !members.is_sorted_by(|a, b| a.process < b.process) {
            return breach(
                &[at],
                format!("the members of view {id} of {group} at {process} are not in order"),
            );
        }
        let (known, before) = self.views.entry((group.clone(), *id)).or_insert_with(|| (members.clone(), at));
        if known == members {
            return Ok(());
        }
        breach(&[*before, at], format!("view {id} of {group} has other members at {process} than elsewhere"))
    }
}

fn tells_the_difference(
    at: Position,
    process: ProcessId,
    view: &GroupView,
    before: Option<&[ProcessId]>,
) -> Result<(), Breach> {
    let members: Vec<ProcessId> = view.members.iter().map(|m| m.process).collect();
    let without = |all: &[ProcessId], some: &[ProcessId]| -> Vec<ProcessId> {
        all.iter().filter(|p| !some.contains(p)).copied().collect()
    };
    let old = before.unwrap_or_default();
    let sorted = |list: &[ProcessId]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list
    };
    for (told, is, verb) in
        [(&view.joined, without(&members, old), "joined"), (&view.left, without(old, &members), "left")]
    {
        if sorted(told) != sorted(&is) {
            let (id, group) = (view.id, &view.group);
            return breach(
                &[at],
                format!("view {id} of {group} tells {process} that {told:?} {verb}, not {is:?}"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["view_agreement"];
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1");
    vec![
        rejected(
            "one id names two lists",
            only,
            two.clone().told("a/1", "g", 1, "a/1 b/1").told("b/1", "g", 1, "b/1"),
        ),
        rejected("the list is not in order", only, two.clone().told("a/1", "g", 1, "b/1 a/1")),
        rejected(
            "who joined is not told",
            only,
            two.clone().views("g", 1, "a/1").told("a/1", "g", 2, "a/1 b/1").but(|event| {
                if let Event::GroupInstall { view, .. } = event {
                    view.joined.clear();
                }
            }),
        ),
        rejected(
            "who left is not told",
            only,
            two.clone().views("g", 1, "a/1 b/1").told("a/1", "g", 2, "a/1").but(|event| {
                if let Event::GroupInstall { view, .. } = event {
                    view.left.clear();
                }
            }),
        ),
        accepted("a process leaves and is a newcomer again", {
            two.views("g", 1, "a/1 b/1").leaves("b/1", "g").views("g", 2, "a/1").views("g", 3, "a/1 b/1")
        }),
    ]
}
