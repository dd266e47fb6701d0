//! What one sender sends is delivered in the order in which it was sent, and without a gap: each stream of a daemon in
//! a configuration from its first message on; the multicasts of a process in order over all groups, and without a gap
//! in a group while sender and receiver are members together, but for messages that are meant for one view only, or were
//! refused before the next was sent.
//! [KK:reliable-fifo]

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupName, MessageId, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// A member of a group: the last message from each fellow member, since the two are members together.
#[derive(Default)]
struct Member {
    last: BTreeMap<ProcessId, u64>,
}

/// A delivery of a message whose sender has not been heard of yet: the message before it in its group was `previous`.
struct Waiting {
    process: ProcessId,
    previous: u64,
    at: Position,
}

/// The checker.
#[derive(Default)]
pub(crate) struct Fifo {
    cast: BTreeMap<(DaemonId, ConfigurationId), u64>,
    delivered: BTreeMap<DaemonId, BTreeMap<(ConfigurationId, DaemonId), u64>>,
    /// Per sender and group, the numbers of its messages.
    sent: BTreeMap<ProcessId, BTreeMap<GroupName, Vec<u64>>>,
    /// Messages that need not be given to anybody: for one view only, or refused.
    excused: BTreeSet<MessageId>,
    /// Per receiver and sender, the last message over all groups.
    given: BTreeMap<ProcessId, BTreeMap<ProcessId, u64>>,
    members: BTreeMap<ProcessId, BTreeMap<GroupName, Member>>,
    waiting: BTreeMap<MessageId, Vec<Waiting>>,
}

impl Property for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn claim(&self) -> &'static str {
        "KK:reliable-fifo"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Cast { daemon, configuration, index, .. } => {
                let last = self.cast.entry((*daemon, *configuration)).or_default();
                if *index != *last + 1 {
                    return breach(&[at], format!("{daemon} cast {index} after {last} in {configuration}"));
                }
                *last = *index;
            }
            Event::Deliver { daemon, configuration, origin, index, .. } => {
                let last =
                    self.delivered.entry(*daemon).or_default().entry((*configuration, *origin)).or_default();
                // Twice the same is for `no_duplication` to judge.
                if *index != *last && *index != *last + 1 {
                    return breach(
                        &[at],
                        format!(
                            "{daemon} delivered message {index} of {origin} in {configuration} after {last}"
                        ),
                    );
                }
                *last = *index;
            }
            Event::GroupInstall { process, view } => {
                let member = self.members.entry(*process).or_default().entry(view.group.clone()).or_default();
                member.last.retain(|sender, _| view.transitional.contains(sender));
                for fellow in &view.members {
                    // Zero: they are together from here on, but nothing is known of what came before.
                    member.last.entry(fellow.process).or_insert(0);
                }
            }
            Event::GroupLeave { process, group } => {
                // Who comes back begins anew, with its own messages too.
                self.members.entry(*process).or_default().remove(group);
            }
            Event::GroupSend { process, group, message, only_in, .. } => {
                if only_in.is_some() {
                    self.excused.insert(*message);
                }
                self.sends(*process, group, *message)?;
            }
            Event::GroupRefuse { message, .. } => drop(self.excused.insert(*message)),
            Event::GroupDeliver { process, group, message, .. } => {
                self.gives(at, *process, group, *message)?
            }
            _ => {}
        }
        Ok(())
    }
}

impl Fifo {
    fn sends(&mut self, process: ProcessId, group: &GroupName, message: MessageId) -> Result<(), Breach> {
        self.sent.entry(process).or_default().entry(group.clone()).or_default().push(message.number());
        for waiting in self.waiting.remove(&message).unwrap_or_default() {
            self.has_no_gap(group, message, &waiting)?;
        }
        Ok(())
    }

    fn gives(
        &mut self,
        at: Position,
        process: ProcessId,
        group: &GroupName,
        message: MessageId,
    ) -> Result<(), Breach> {
        let (sender, number) = (message.sender(), message.number());
        let last = self.given.entry(process).or_default().entry(sender).or_default();
        if number < *last {
            return breach(
                &[at],
                format!("{process} was given {message} after message {last} of the same sender"),
            );
        }
        *last = number;
        let member = self.members.get_mut(&process).and_then(|groups| groups.get_mut(group));
        let Some(last) = member.and_then(|member| member.last.get_mut(&sender)) else { return Ok(()) };
        let waiting = Waiting { process, previous: std::mem::replace(last, number), at };
        if waiting.previous == 0 || waiting.previous == number {
            return Ok(());
        }
        let sent = self.sent.get(&sender).and_then(|groups| groups.get(group)?.last().copied());
        if sent.is_some_and(|sent| sent >= number) {
            return self.has_no_gap(group, message, &waiting);
        }
        self.waiting.entry(message).or_default().push(waiting);
        Ok(())
    }

    /// Checks that a sender sent nothing to `group` between the previous message given and `message`.
    fn has_no_gap(&self, group: &GroupName, message: MessageId, waiting: &Waiting) -> Result<(), Breach> {
        let numbers = self.sent.get(&message.sender()).and_then(|groups| groups.get(group));
        let sent = numbers.map_or(&[][..], Vec::as_slice);
        let next = sent.partition_point(|number| *number <= waiting.previous);
        let sender = message.sender();
        let counts = |number: &&u64| !self.excused.contains(&MessageId::new(sender, **number));
        match sent[next..].iter().find(counts) {
            Some(missed) if *missed < message.number() => breach(
                &[waiting.at],
                format!(
                    "{} was given {message} in {group}, but not message {missed} before it",
                    waiting.process
                ),
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["fifo"];
    let two = Script::new().forms(1, "a b");
    let both = two.clone().attaches("a/1 b/1").views("g", 1, "a/1 b/1").views("h", 2, "a/1 b/1");
    let three = both.clone().sends("a/1", "g", 1).sends("a/1", "h", 2).sends("a/1", "g", 3);
    vec![
        rejected("a casts its second message first", only, two.clone().casts("a", 2)),
        rejected(
            "b delivers the second message first",
            only,
            two.clone().casts("a", 1).casts("a", 2).delivers("b", "a", 2),
        ),
        rejected(
            "a process is given an older message of another group late",
            only,
            three
                .clone()
                .receives("b/1", "g", "a/1", 1)
                .receives("b/1", "g", "a/1", 3)
                .receives("b/1", "h", "a/1", 2),
        ),
        rejected(
            "a member misses a message from another",
            only,
            three.clone().sends("a/1", "g", 4).receives("b/1", "g", "a/1", 1).receives("b/1", "g", "a/1", 4),
        ),
        rejected(
            "a member misses a message over a change of view",
            only,
            three
                .clone()
                .receives("a/1 b/1", "g", "a/1", 1)
                .views("g", 3, "a/1 b/1")
                .sends("a/1", "g", 4)
                .receives("b/1", "g", "a/1", 4),
        ),
        rejected(
            "a member misses a message, and clocks put the send last",
            only,
            both.clone()
                .receives("b/1", "g", "a/1", 1)
                .receives("b/1", "g", "a/1", 3)
                .sends("a/1", "g", 1)
                .sends("a/1", "g", 2)
                .sends("a/1", "g", 3),
        ),
        accepted(
            "everything comes in order",
            two.casts("a", 1).casts("a", 2).delivers("a b", "a", 1).delivers("a b", "a", 2).forms(2, "a b"),
        ),
        accepted("members who were apart miss what was sent meanwhile", {
            let apart = three.clone().receives("a/1 b/1", "g", "a/1", 1).sends("a/1", "g", 4);
            let merged = apart.told("b/1", "g", 3, "a/1 b/1").but(|event| {
                if let Event::GroupInstall { view, .. } = event {
                    view.transitional.retain(|member| *member == process("b/1"));
                }
            });
            merged.receives("b/1", "g", "a/1", 4)
        }),
        accepted("a process that was away misses messages", {
            let away = three.clone().receives("a/1 b/1", "g", "a/1", 1).leaves("b/1", "g");
            away.sends("a/1", "g", 4).views("g", 3, "a/1 b/1").receives("b/1", "g", "a/1", 4)
        }),
        accepted("a process that was away misses what it sent meanwhile", {
            let away = three.clone().receives("a/1 b/1", "g", "a/1", 1).leaves("a/1", "g");
            away.sends("a/1", "g", 4)
                .views("g", 3, "a/1 b/1")
                .sends("a/1", "g", 5)
                .receives("a/1", "g", "a/1", 5)
        }),
        accepted(
            "a message for one view only leaves a gap",
            both.clone()
                .sends("a/1", "g", 1)
                .sends_only_in("a/1", "g", 2, 9)
                .sends("a/1", "g", 3)
                .receives("b/1", "g", "a/1", 1)
                .refuses("a/1", 2)
                .receives("b/1", "g", "a/1", 3),
        ),
        accepted(
            "messages of other groups leave gaps in the numbers",
            three.receives("b/1", "g", "a/1", 1).receives("b/1", "g", "a/1", 3),
        ),
    ]
}
