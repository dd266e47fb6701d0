//! An install is complete: once a daemon is in a configuration it casts and delivers nothing in an earlier one, and a
//! process that was told a view of a group, or has left the group, is given nothing in an earlier view of it.
//! [KK:install]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupName, GroupViewId, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// A process in a group.
struct Member {
    view: GroupViewId,
    /// The view is over, too: the process has left the group.
    left: bool,
    since: Position,
}

/// The checker.
#[derive(Default)]
pub(crate) struct NoPartialInstall {
    daemons: BTreeMap<DaemonId, (ConfigurationId, Position)>,
    processes: BTreeMap<ProcessId, BTreeMap<GroupName, Member>>,
}

impl Property for NoPartialInstall {
    fn name(&self) -> &'static str {
        "no_partial_install"
    }

    fn claim(&self) -> &'static str {
        "KK:install"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, configuration, .. } => {
                self.daemons.insert(*daemon, (configuration.id, at));
                Ok(())
            }
            Event::Cast { daemon, configuration, .. } | Event::Deliver { daemon, configuration, .. } => {
                match self.daemons.get(daemon) {
                    Some((current, since)) if configuration < current => breach(
                        &[*since, at],
                        format!("{daemon} cast or delivered in {configuration}, but is in {current} already"),
                    ),
                    _ => Ok(()),
                }
            }
            Event::GroupInstall { process, view } => {
                let member = Member { view: view.id, left: false, since: at };
                self.processes.entry(*process).or_default().insert(view.group.clone(), member);
                Ok(())
            }
            Event::GroupLeave { process, group } => {
                let member = self.processes.get_mut(process).and_then(|groups| groups.get_mut(group));
                member.into_iter().for_each(|member| (member.left, member.since) = (true, at));
                Ok(())
            }
            Event::Detach { process } => {
                let groups = self.processes.get_mut(process);
                let members = groups.into_iter().flat_map(|groups| groups.values_mut());
                members.for_each(|member| (member.left, member.since) = (true, at));
                Ok(())
            }
            Event::GroupDeliver { process, group, message, view, .. } => {
                let member = self.processes.get(process).and_then(|groups| groups.get(group));
                match member.filter(|member| member.view > *view || member.left) {
                    Some(member) => breach(
                        &[member.since, at],
                        format!(
                            "{process} was given {message} in view {view} of {group}, which is over for it"
                        ),
                    ),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["no_partial_install"];
    let late = Script::new().forms(1, "a b").casts("a", 1).delivers("a", "a", 1).agrees(2, "a b");
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1").views("g", 1, "a/1 b/1").sends("a/1", "g", 1);
    let given = Event::GroupDeliver {
        process: process("b/1"),
        group: group("g"),
        message: model::MessageId::new(process("a/1"), 1),
        view: GroupViewId { configuration: configuration(1, "a b").id, position: 1 },
        digest: digest("a/1", 1),
    };
    vec![
        rejected(
            "b delivers a message of the configuration that it left",
            only,
            late.clone().installs("b", 2, "a b").raw(Event::Deliver {
                daemon: daemon("b"),
                configuration: configuration(1, "a b").id,
                origin: daemon("a"),
                index: 1,
                digest: digest("a", 1),
            }),
        ),
        rejected(
            "b is given a message in the view that it left for the next",
            only,
            two.clone().views("g", 2, "a/1 b/1").raw(given.clone()),
        ),
        rejected(
            "b is given a message after it left",
            only,
            two.clone().leaves("b/1", "g").raw(given.clone()),
        ),
        rejected("b is given a message after it is gone", only, two.clone().detaches("b/1").raw(given)),
        accepted("b delivers it, then installs", late.delivers("b", "a", 1).installs("a b", 2, "a b")),
        accepted("b leaves, joins again, and is given messages", {
            let back = two.leaves("b/1", "g").views("g", 2, "a/1").views("g", 3, "a/1 b/1");
            back.receives("a/1 b/1", "g", "a/1", 1)
        }),
    ]
}
