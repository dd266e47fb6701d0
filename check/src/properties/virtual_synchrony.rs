//! Who moves together from one view to the next delivered the same set of messages in the first: daemons from
//! configuration to configuration, members of a group from view to view of it. [KK:virtual-synchrony]
//!
//! A quiescent run ends the last view of everybody alive. The last view of a crashed daemon is exempt.

use std::collections::BTreeMap;
use std::fmt::Display;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupName, GroupViewId, ProcessId};

use crate::property::{Breach, Position, Property, breach, of_daemon};
use crate::runs::Messages;

/// Somebody who completed a view, and what it delivered there.
struct Witness<S> {
    who: S,
    at: Position,
    with: Vec<S>,
    delivered: Messages<S>,
}

impl<S: Ord + Copy + Display> Witness<S> {
    fn agrees_with(&self, other: &Witness<S>, view: impl Display) -> Result<(), Breach> {
        let differ = |has: &Witness<S>, lacks: &Witness<S>| match has.delivered.first_not_in(&lacks.delivered)
        {
            Some((sender, number)) => breach(
                &[self.at, other.at],
                format!(
                    "{} and {} complete {view} together, but only {} delivered message {number} of {sender} there",
                    self.who, other.who, has.who
                ),
            ),
            None => Ok(()),
        };
        differ(self, other)?;
        differ(other, self)
    }
}

/// A member of a group, in its present view.
struct Member {
    view: GroupViewId,
    delivered: Messages<ProcessId>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct VirtualSynchrony {
    current: BTreeMap<DaemonId, ConfigurationId>,
    delivered: BTreeMap<(DaemonId, ConfigurationId), Messages<DaemonId>>,
    moves: BTreeMap<(ConfigurationId, ConfigurationId), Witness<DaemonId>>,
    members: BTreeMap<ProcessId, BTreeMap<GroupName, Member>>,
    /// One witness of each transitional set.
    group_moves: BTreeMap<(GroupName, GroupViewId, GroupViewId), Vec<Witness<ProcessId>>>,
}

impl Property for VirtualSynchrony {
    fn name(&self) -> &'static str {
        "virtual_synchrony"
    }

    fn claim(&self) -> &'static str {
        "KK:virtual-synchrony"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Deliver { daemon, configuration, origin, index, .. } => {
                self.delivered.entry((*daemon, *configuration)).or_default().insert(*origin, *index);
            }
            Event::Install { daemon, configuration, previous, .. } => {
                self.current.insert(*daemon, configuration.id);
                let delivered = self.delivered.remove(&(*daemon, *previous)).unwrap_or_default();
                let mine = Witness { who: *daemon, at, with: Vec::new(), delivered };
                match self.moves.get(&(*previous, configuration.id)) {
                    Some(first) => first.agrees_with(&mine, previous)?,
                    None => {
                        self.moves.insert((*previous, configuration.id), mine);
                    }
                }
            }
            Event::GroupDeliver { process, group, message, .. } => {
                if let Some(member) = self.members.get_mut(process).and_then(|groups| groups.get_mut(group)) {
                    member.delivered.insert(message.sender(), message.number());
                }
            }
            Event::GroupInstall { process, view } => {
                let fresh = Member { view: view.id, delivered: Messages::default() };
                let groups = self.members.entry(*process).or_default();
                if let Some(Member { view: previous, delivered }) = groups.insert(view.group.clone(), fresh) {
                    let with = view.transitional.clone();
                    let mine = Witness { who: *process, at, with, delivered };
                    self.completes((view.group.clone(), previous, view.id), mine)?;
                }
            }
            Event::GroupLeave { process, group } => {
                if let Some(groups) = self.members.get_mut(process) {
                    groups.remove(group);
                }
            }
            Event::Detach { process } => {
                self.members.remove(process);
            }
            Event::Quiescent { daemons, .. } => self.come_to_rest(at, daemons)?,
            _ => {}
        }
        Ok(())
    }
}

impl VirtualSynchrony {
    fn completes(
        &mut self,
        step: (GroupName, GroupViewId, GroupViewId),
        mine: Witness<ProcessId>,
    ) -> Result<(), Breach> {
        let view = format!("{} of {}", step.1, step.0);
        let witnesses = self.group_moves.entry(step).or_default();
        let together =
            |other: &&Witness<ProcessId>| other.with.contains(&mine.who) && mine.with.contains(&other.who);
        match witnesses.iter().find(together) {
            Some(first) => first.agrees_with(&mine, view),
            None => {
                witnesses.push(mine);
                Ok(())
            }
        }
    }

    /// Everybody in `daemons`, and every process there, completes its present view.
    fn come_to_rest(&self, at: Position, daemons: &[DaemonId]) -> Result<(), Breach> {
        let mut rest: BTreeMap<ConfigurationId, Witness<DaemonId>> = BTreeMap::new();
        let mut group_rest: BTreeMap<(&GroupName, GroupViewId), Witness<ProcessId>> = BTreeMap::new();
        for daemon in daemons {
            if let Some(current) = self.current.get(daemon) {
                let delivered = self.delivered.get(&(*daemon, *current)).cloned().unwrap_or_default();
                let mine = Witness { who: *daemon, at, with: Vec::new(), delivered };
                match rest.get(current) {
                    Some(first) => first.agrees_with(&mine, current)?,
                    None => {
                        rest.insert(*current, mine);
                    }
                }
            }
            for (process, groups) in self.members.range(of_daemon(*daemon)) {
                for (group, member) in groups {
                    let delivered = member.delivered.clone();
                    let mine = Witness { who: *process, at, with: Vec::new(), delivered };
                    match group_rest.get(&(group, member.view)) {
                        Some(first) => {
                            first.agrees_with(&mine, format_args!("{} of {group}", member.view))?
                        }
                        None => {
                            group_rest.insert((group, member.view), mine);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["virtual_synchrony"];
    let three = Script::new().forms(1, "a b c").casts("c", 1);
    let group = Script::new().forms(1, "a b").attaches("a/1 b/1 b/2").views("g", 1, "a/1 b/1 b/2");
    vec![
        rejected(
            "c crashes, and only a has what it sent",
            only,
            three.clone().delivers("a", "c", 1).crashes("c").forms(2, "a b"),
        ),
        rejected(
            "only one member is given a message of a process that is gone",
            only,
            group
                .clone()
                .sends("b/2", "g", 1)
                .receives("a/1", "g", "b/2", 1)
                .detaches("b/2")
                .views("g", 2, "a/1 b/1"),
        ),
        rejected(
            "a and b come to rest with different messages",
            &["virtual_synchrony", "final_delivery"],
            Script::new().forms(1, "a b").casts("a", 1).delivers("a", "a", 1).quiescent("a b"),
        ),
        rejected(
            "two members come to rest with different messages",
            &["virtual_synchrony", "group_view_agreement", "final_delivery"],
            group.clone().sends("b/2", "g", 1).receives("a/1 b/2", "g", "b/2", 1).quiescent("a b"),
        ),
        accepted(
            "c crashes before anybody has what it sent but c",
            three.clone().delivers("c", "c", 1).crashes("c").forms(2, "a b"),
        ),
        accepted(
            "b moves elsewhere, and need not have what a has",
            three.delivers("a", "c", 1).crashes("c").agrees(2, "b").installs("b", 2, "b").forms(3, "a b"),
        ),
        accepted(
            "a member that is gone need not have what came after",
            group
                .clone()
                .sends("b/2", "g", 1)
                .detaches("a/1")
                .receives("b/1 b/2", "g", "b/2", 1)
                .quiescent("a b"),
        ),
        accepted(
            "a member that left its group need not have what came after",
            group
                .sends("b/2", "g", 1)
                .leaves("a/1", "g")
                .views("g", 2, "b/1 b/2")
                .receives("b/1 b/2", "g", "b/2", 1)
                .quiescent("a b"),
        ),
    ]
}
