//! What is sent in the last view is delivered to everybody in it: in a quiescent run every living daemon has delivered
//! what any of them cast in the configuration that they are in, and every member of a group has been given what
//! another sent as a member in the view that is the last for both, unless it was refused. What somebody sends from outside
//! in the last configuration is given to members whose view does not change there. [KK:liveness]

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupName, GroupViewId, MessageId, ProcessId};

use crate::property::{Breach, Position, Property, breach, of_daemon};
use crate::runs::Messages;

/// What a daemon has done in its present configuration.
#[derive(Default)]
struct Daemon {
    configuration: Option<ConfigurationId>,
    cast: Messages<DaemonId>,
    delivered: Messages<DaemonId>,
}

/// What a process has done in its present view of a group.
struct Member {
    view: GroupViewId,
    /// It was told that before its daemon came into the configuration.
    carried: bool,
    sent: u64,
    given: BTreeMap<ProcessId, Given>,
}

/// What a member was given of one sender.
#[derive(Clone, Copy, Default)]
struct Given {
    messages: u64,
    last: u64,
}

/// The checker.
#[derive(Default)]
pub(crate) struct FinalDelivery {
    daemons: BTreeMap<DaemonId, Daemon>,
    members: BTreeMap<ProcessId, BTreeMap<GroupName, Member>>,
    /// The last message of a process to a group that it is not in, sent in its daemon's present configuration.
    outside: BTreeMap<ProcessId, BTreeMap<GroupName, MessageId>>,
    /// Messages that may be refused, with their groups and the views in which they were sent.
    refusable: BTreeMap<MessageId, (GroupName, GroupViewId)>,
}

impl Property for FinalDelivery {
    fn name(&self) -> &'static str {
        "final_delivery"
    }

    fn claim(&self) -> &'static str {
        "KK:liveness"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, configuration, .. } => {
                let configuration = Some(configuration.id);
                self.daemons.insert(*daemon, Daemon { configuration, ..Daemon::default() });
                for (_, groups) in self.members.range_mut(of_daemon(*daemon)) {
                    groups.values_mut().for_each(|member| member.carried = true);
                }
                self.outside.retain(|process, _| process.daemon() != *daemon);
            }
            Event::Cast { daemon, index, .. } => {
                self.daemons.entry(*daemon).or_default().cast.insert(*daemon, *index);
            }
            Event::Deliver { daemon, origin, index, .. } => {
                self.daemons.entry(*daemon).or_default().delivered.insert(*origin, *index);
            }
            Event::GroupInstall { process, view } => {
                let member = Member { view: view.id, carried: false, sent: 0, given: BTreeMap::new() };
                self.members.entry(*process).or_default().insert(view.group.clone(), member);
            }
            Event::GroupSend { process, group, message, view: Some(view), only_in, .. } => {
                if let Some(member) = self.member(*process, group) {
                    member.sent += 1;
                }
                if only_in.is_some() || group.is_strict() {
                    self.refusable.insert(*message, (group.clone(), *view));
                }
            }
            Event::GroupSend { process, group, message, view: None, only_in: None, .. } => {
                self.outside.entry(*process).or_default().insert(group.clone(), *message);
            }
            Event::GroupRefuse { process, message } => {
                // Who has asked to leave a strict group sends from outside, and may be blocked there still.
                if let Some(groups) = self.outside.get_mut(process) {
                    groups.retain(|_, last| last != message);
                }
                if let Some((group, view)) = self.refusable.remove(message)
                    && let Some(member) = self.member(*process, &group)
                    && member.view == view
                {
                    member.sent -= 1;
                }
            }
            Event::GroupDeliver { process, group, message, .. } => {
                if let Some(member) = self.member(*process, group) {
                    let given = member.given.entry(message.sender()).or_default();
                    *given = Given { messages: given.messages + 1, last: message.number() };
                }
            }
            Event::GroupLeave { process, group } => {
                if let Some(groups) = self.members.get_mut(process) {
                    groups.remove(group);
                }
            }
            Event::Detach { process } => {
                self.members.remove(process);
                self.outside.remove(process);
            }
            Event::Quiescent { daemons, .. } => {
                self.daemons_have_all(at, daemons)?;
                self.members_have_all(at, daemons)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl FinalDelivery {
    fn member(&mut self, process: ProcessId, group: &GroupName) -> Option<&mut Member> {
        self.members.get_mut(&process)?.get_mut(group)
    }

    fn daemons_have_all(&self, at: Position, alive: &[DaemonId]) -> Result<(), Breach> {
        let live = || alive.iter().filter_map(|daemon| Some((daemon, self.daemons.get(daemon)?)));
        for (_, sender) in live() {
            let together = live().filter(|(_, state)| state.configuration == sender.configuration);
            for (receiver, state) in together {
                if let Some((origin, index)) = sender.cast.first_not_in(&state.delivered) {
                    return breach(
                        &[at],
                        format!("{receiver} has not delivered message {index} of {origin} in the end"),
                    );
                }
            }
        }
        Ok(())
    }

    fn members_have_all(&self, at: Position, alive: &[DaemonId]) -> Result<(), Breach> {
        let alive: BTreeSet<DaemonId> = alive.iter().copied().collect();
        let mut together: BTreeMap<(&GroupName, GroupViewId), Vec<(ProcessId, &Member)>> = BTreeMap::new();
        for (process, groups) in alive.iter().flat_map(|daemon| self.members.range(of_daemon(*daemon))) {
            for (group, member) in groups {
                together.entry((group, member.view)).or_default().push((*process, member));
            }
        }
        for ((group, view), members) in &together {
            for (sender, from) in members.iter().filter(|(_, member)| member.sent > 0) {
                for (receiver, to) in members {
                    let given = to.given.get(sender).map_or(0, |given| given.messages);
                    if given < from.sent {
                        let sent = from.sent;
                        return breach(
                            &[at],
                            format!(
                                "in view {view} of {group} {sender} sent {sent} messages, and {receiver} was given {given}"
                            ),
                        );
                    }
                }
            }
        }
        self.outsiders_are_heard(at, &alive)
    }

    fn outsiders_are_heard(&self, at: Position, alive: &BTreeSet<DaemonId>) -> Result<(), Breach> {
        let live = self.outside.iter().filter(|(process, _)| alive.contains(&process.daemon()));
        for (group, message) in live.flat_map(|(_, sent)| sent) {
            let lacks = |(process, groups): (&ProcessId, &BTreeMap<GroupName, Member>)| {
                let member = groups.get(group).filter(|member| member.carried)?;
                let last = member.given.get(&message.sender()).map_or(0, |given| given.last);
                (last < message.number()).then_some(*process)
            };
            let mut members = alive.iter().flat_map(|daemon| self.members.range(of_daemon(*daemon)));
            if let Some(process) = members.find_map(lacks) {
                return breach(
                    &[at],
                    format!("{process} in {group} was not given {message}, sent from outside"),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let two = Script::new().forms(1, "a b");
    let members = two.clone().attaches("a/1 b/1").views("g", 1, "a/1 b/1");
    let outside = members.clone().attaches("a/2").forms(2, "a b").sends("a/2", "g", 1);
    vec![
        rejected(
            "nobody delivers what a cast",
            &["self_delivery", "final_delivery"],
            two.clone().casts("a", 1).quiescent("a b"),
        ),
        rejected(
            "no member is given what the other sends",
            &["self_delivery", "final_delivery"],
            members.clone().sends("a/1", "g", 1).quiescent("a b"),
        ),
        rejected(
            "nobody is given what comes from outside",
            &["final_delivery"],
            outside.clone().quiescent("a b"),
        ),
        accepted(
            "a view changes about what comes from outside",
            outside.clone().leaves("b/1", "g").views("g", 3, "a/1").quiescent("a b"),
        ),
        accepted("who sent it is gone", outside.detaches("a/2").quiescent("a b")),
        accepted("everything is delivered", two.casts("a", 1).delivers("a b", "a", 1).quiescent("a b")),
        accepted(
            "what was refused from outside need not be given",
            Script::new()
                .forms(1, "a b")
                .attaches("a/1 b/1")
                .views("strict:g", 1, "a/1")
                .sends("b/1", "strict:g", 1)
                .refuses("b/1", 1)
                .quiescent("a b"),
        ),
        accepted(
            "what was refused need not be given",
            members.sends_only_in("a/1", "g", 1, 9).refuses("a/1", 1).quiescent("a b"),
        ),
    ]
}
