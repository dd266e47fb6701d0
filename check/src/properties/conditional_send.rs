//! A message for one view of its group is given to members in that view or to nobody: whoever is given it is in that
//! view; if its sender is told that it is refused, nobody who goes the same way from there as the sender's daemon is given
//! it; and in a quiescent run a living sender that was a member has been told so, or somebody was given it.
//! [OVS:conditional-send]
//!
//! Why not simply "nobody" after a refusal: where daemons part, each side places anew what had no place yet. One side
//! may see the message before a change of the view, the other after it.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupViewId, MessageId, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// Who was given a message, in which view and configuration.
struct Given {
    process: ProcessId,
    view: GroupViewId,
    configuration: Option<ConfigurationId>,
    at: Position,
}

/// A message for one view.
struct Conditional {
    only_in: GroupViewId,
    /// Whether its sender was in a view of the group.
    from_inside: bool,
    sent: Position,
}

/// The checker.
#[derive(Default)]
pub(crate) struct ConditionalSend {
    current: BTreeMap<DaemonId, ConfigurationId>,
    /// Where a daemon went from a configuration.
    next: BTreeMap<(DaemonId, ConfigurationId), ConfigurationId>,
    conditional: BTreeMap<MessageId, Conditional>,
    /// The last message of each sender that is known to be sent.
    known: BTreeMap<ProcessId, u64>,
    /// Deliveries of what is conditional, or may be.
    given: BTreeMap<MessageId, Vec<Given>>,
    refused: BTreeMap<MessageId, (Option<ConfigurationId>, Position)>,
    gone: BTreeSet<ProcessId>,
}

impl Property for ConditionalSend {
    fn name(&self) -> &'static str {
        "conditional_send"
    }

    fn claim(&self) -> &'static str {
        "OVS:conditional-send"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, configuration, previous, .. } => {
                self.current.insert(*daemon, configuration.id);
                self.next.insert((*daemon, *previous), configuration.id);
            }
            Event::GroupSend { process, message, view, only_in, .. } => {
                self.known.insert(*process, message.number());
                match only_in {
                    Some(only_in) => {
                        let (only_in, from_inside) = (*only_in, view.is_some());
                        self.conditional.insert(*message, Conditional { only_in, from_inside, sent: at });
                        return self.is_given_there(*message);
                    }
                    None => drop(self.given.remove(message)),
                }
            }
            Event::GroupDeliver { process, message, view, .. } => {
                let known = self.known.get(&message.sender()).is_some_and(|last| *last >= message.number());
                if known && !self.conditional.contains_key(message) {
                    return Ok(());
                }
                let configuration = self.current.get(&process.daemon()).copied();
                let given = Given { process: *process, view: *view, configuration, at };
                self.given.entry(*message).or_default().push(given);
                return self.is_given_there(*message);
            }
            Event::GroupRefuse { process, message } => {
                let configuration = self.current.get(&process.daemon()).copied();
                self.refused.insert(*message, (configuration, at));
            }
            Event::Detach { process } => drop(self.gone.insert(*process)),
            Event::Quiescent { daemons, .. } => return self.all_are_decided(at, daemons),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Breach> {
        for (message, (_, refused)) in &self.refused {
            let sender = message.sender().daemon();
            for given in self.given.get(message).into_iter().flatten() {
                let Some(configuration) = given.configuration else { continue };
                let way = |daemon: DaemonId| self.next.get(&(daemon, configuration)).copied();
                let (ours, theirs) = (way(sender), way(given.process.daemon()));
                let both_stay = self.current.get(&sender) == Some(&configuration) && theirs.is_none();
                if ours.is_some() && ours == theirs || both_stay {
                    return breach(
                        &[*refused, given.at],
                        format!("{message} was refused, but {} was given it", given.process),
                    );
                }
            }
        }
        Ok(())
    }
}

impl ConditionalSend {
    /// Checks the last delivery, or all if the message has just become known.
    fn is_given_there(&self, message: MessageId) -> Result<(), Breach> {
        let Some(conditional) = self.conditional.get(&message) else { return Ok(()) };
        let mut given = self.given.get(&message).into_iter().flatten();
        match given.rfind(|given| given.view != conditional.only_in) {
            Some(given) => breach(
                &[conditional.sent, given.at],
                format!(
                    "{message}, for view {} only, was given to {} in {}",
                    conditional.only_in, given.process, given.view
                ),
            ),
            None => Ok(()),
        }
    }

    fn all_are_decided(&self, at: Position, alive: &[DaemonId]) -> Result<(), Breach> {
        let alive: BTreeSet<DaemonId> = alive.iter().copied().collect();
        let lives = |process: ProcessId| alive.contains(&process.daemon()) && !self.gone.contains(&process);
        let open = self.conditional.iter().find(|(message, conditional)| {
            let decided = self.given.contains_key(message) || self.refused.contains_key(message);
            conditional.from_inside && lives(message.sender()) && !decided
        });
        match open {
            Some((message, conditional)) => breach(
                &[conditional.sent, at],
                format!("{message}, for view {} only, was neither given nor refused", conditional.only_in),
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["conditional_send"];
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1 b/2").views("g", 1, "a/1 b/1");
    let sent = two.sends_only_in("a/1", "g", 1, 1);
    let late = sent.clone().views("g", 2, "a/1 b/1 b/2");
    let torn =
        sent.clone().receives("b/1", "g", "a/1", 1).told("a/1", "g", 2, "a/1 b/1 b/2").refuses("a/1", 1);
    vec![
        rejected("it is given in the next view", only, late.clone().receives("a/1 b/1 b/2", "g", "a/1", 1)),
        rejected(
            "it is refused, and given all the same",
            only,
            sent.clone().receives("a/1 b/1", "g", "a/1", 1).refuses("a/1", 1).quiescent("a b"),
        ),
        rejected(
            "nobody says what became of it",
            &["self_delivery", "conditional_send", "final_delivery"],
            sent.clone().quiescent("a b"),
        ),
        rejected(
            "nobody says what became of it when the view has changed",
            &["self_delivery", "conditional_send"],
            late.clone().quiescent("a b"),
        ),
        accepted("it is given", sent.clone().receives("a/1 b/1", "g", "a/1", 1).quiescent("a b")),
        accepted("it is refused", late.refuses("a/1", 1).quiescent("a b")),
        accepted("its sender is gone", sent.detaches("a/1").views("g", 2, "b/1").quiescent("a b")),
        accepted("the sides part, and one has given it", torn.forms(2, "a").forms(3, "b")),
    ]
}
