//! Nothing happens to anybody before its first view: a daemon casts and delivers nothing before it has installed a
//! configuration, and a process is given no message to a group before it was told a view of that. [VKCD:initial-view]

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{DaemonId, GroupName, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct InitialView {
    installed: BTreeSet<DaemonId>,
    told: BTreeMap<ProcessId, BTreeSet<GroupName>>,
}

impl Property for InitialView {
    fn name(&self) -> &'static str {
        "initial_view"
    }

    fn claim(&self) -> &'static str {
        "VKCD:initial-view"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, .. } => {
                self.installed.insert(*daemon);
                Ok(())
            }
            Event::Cast { daemon, .. } | Event::Deliver { daemon, .. }
                if !self.installed.contains(daemon) =>
            {
                breach(&[at], format!("{daemon} cast or delivered before it installed any configuration"))
            }
            Event::GroupInstall { process, view } => {
                let groups = self.told.entry(*process).or_default();
                if !groups.contains(&view.group) {
                    groups.insert(view.group.clone());
                }
                Ok(())
            }
            Event::GroupDeliver { process, group, message, .. }
            | Event::GroupSafe { process, group, message, .. } => match self.told.get(process) {
                Some(groups) if groups.contains(group) => Ok(()),
                _ => breach(
                    &[at],
                    format!("{process} was given {message} before it was told any view of {group}"),
                ),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["initial_view"];
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1").views("g", 1, "a/1");
    vec![
        rejected("a casts before its first configuration", only, Script::new().casts("a", 1)),
        rejected(
            "b is given a message before it is a member",
            only,
            two.clone().sends("a/1", "g", 1).receives("a/1", "g", "a/1", 1).raw(Event::GroupDeliver {
                process: process("b/1"),
                group: group("g"),
                message: model::MessageId::new(process("a/1"), 1),
                view: model::GroupViewId { configuration: configuration(1, "a b").id, position: 1 },
                digest: digest("a/1", 1),
            }),
        ),
        accepted(
            "b is a member first",
            two.views("g", 2, "a/1 b/1").sends("a/1", "g", 1).receives("a/1 b/1", "g", "a/1", 1),
        ),
    ]
}
