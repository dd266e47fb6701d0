//! Who sends, receives it too: a daemon delivers all that it cast in a configuration before it leaves that, and a
//! process that multicasts to a group of its own, and stays in it, is given the message or told that it is refused.
//! [KK:self-delivery]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupName, MessageId, ProcessId};

use crate::property::{Breach, Position, Property, breach, of_daemon};

/// One daemon's own messages that it has not delivered yet.
#[derive(Default)]
struct Own {
    current: Option<ConfigurationId>,
    undelivered: BTreeMap<(ConfigurationId, u64), Position>,
}

/// One process: the groups that it is in, and its own messages to them that it was not given yet.
#[derive(Default)]
struct Member {
    groups: BTreeMap<GroupName, BTreeMap<MessageId, Position>>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct SelfDelivery {
    daemons: BTreeMap<DaemonId, Own>,
    processes: BTreeMap<ProcessId, Member>,
}

impl Property for SelfDelivery {
    fn name(&self) -> &'static str {
        "self_delivery"
    }

    fn claim(&self) -> &'static str {
        "KK:self-delivery"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Cast { daemon, configuration, index, .. } => {
                self.daemons.entry(*daemon).or_default().undelivered.insert((*configuration, *index), at);
            }
            Event::Deliver { daemon, configuration, origin, index, .. } if daemon == origin => {
                self.daemons.entry(*daemon).or_default().undelivered.remove(&(*configuration, *index));
            }
            Event::Install { daemon, configuration, previous, .. } => {
                let own = self.daemons.entry(*daemon).or_default();
                own.has_delivered(*daemon, *previous, at)?;
                own.current = Some(configuration.id);
            }
            Event::GroupInstall { process, view } => {
                self.processes.entry(*process).or_default().groups.entry(view.group.clone()).or_default();
            }
            Event::GroupSend { process, group, message, .. } => {
                if let Some(undelivered) = self.undelivered(*process, group) {
                    undelivered.insert(*message, at);
                }
            }
            Event::GroupDeliver { process, group, message, .. } if *process == message.sender() => {
                if let Some(undelivered) = self.undelivered(*process, group) {
                    undelivered.remove(message);
                }
            }
            Event::GroupRefuse { process, message } => {
                for undelivered in
                    self.processes.get_mut(process).into_iter().flat_map(|m| m.groups.values_mut())
                {
                    undelivered.remove(message);
                }
            }
            Event::GroupLeave { process, group } => {
                if let Some(member) = self.processes.get_mut(process) {
                    member.groups.remove(group);
                }
            }
            Event::Detach { process } => {
                self.processes.remove(process);
            }
            Event::Quiescent { daemons, .. } => {
                for daemon in daemons {
                    self.quiet(*daemon, at)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Own {
    fn has_delivered(
        &self,
        daemon: DaemonId,
        configuration: ConfigurationId,
        by: Position,
    ) -> Result<(), Breach> {
        match self.undelivered.range((configuration, 0)..=(configuration, u64::MAX)).next() {
            Some(((_, index), cast)) => breach(
                &[*cast, by],
                format!(
                    "{daemon} left {configuration} or came to rest in it without its own message {index}"
                ),
            ),
            None => Ok(()),
        }
    }
}

impl SelfDelivery {
    fn undelivered(
        &mut self,
        process: ProcessId,
        group: &GroupName,
    ) -> Option<&mut BTreeMap<MessageId, Position>> {
        self.processes.get_mut(&process)?.groups.get_mut(group)
    }

    /// Judges a live daemon and its processes when nothing is left to do.
    fn quiet(&self, daemon: DaemonId, by: Position) -> Result<(), Breach> {
        if let Some(own) = self.daemons.get(&daemon)
            && let Some(current) = own.current
        {
            own.has_delivered(daemon, current, by)?;
        }
        for (process, member) in self.processes.range(of_daemon(daemon)) {
            for (group, undelivered) in &member.groups {
                if let Some((message, sent)) = undelivered.first_key_value() {
                    return breach(
                        &[*sent, by],
                        format!("{process} in {group} was not given its own {message}"),
                    );
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["self_delivery"];
    let group = Script::new().forms(1, "a").attaches("a/1").views("g", 1, "a/1").sends("a/1", "g", 1);
    let only_in_the_next = |event: &mut Event| match event {
        Event::GroupSend { view, only_in, .. } => {
            *only_in = view.map(|view| model::GroupViewId { position: view.position + 1, ..view });
        }
        _ => unreachable!("only sends are spoilt"),
    };
    vec![
        rejected(
            "a forgets its own message when it moves on",
            only,
            Script::new().forms(1, "a").casts("a", 1).forms(2, "a"),
        ),
        rejected(
            "a process never hears itself",
            &["self_delivery", "final_delivery"],
            group.clone().quiescent("a"),
        ),
        accepted(
            "a process leaves with its own message under way",
            group.clone().leaves("a/1", "g").quiescent("a"),
        ),
        accepted(
            "a process is told that its message is refused",
            group.clone().but(only_in_the_next).refuses("a/1", 1).quiescent("a"),
        ),
        accepted("a process is gone before its own message comes", group.detaches("a/1").quiescent("a")),
        accepted(
            "a crashes with its own message under way",
            Script::new().forms(1, "a b").casts("a", 1).crashes("a"),
        ),
    ]
}
