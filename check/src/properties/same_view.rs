//! A multicast is given to members in the view that they are in, and to all of them in the same one, as far as their
//! daemons move together from the configuration in which they are given it. [VKCD:same-view]
//!
//! Nothing is promised between daemons that part: each side orders anew what had no place yet, and that may put a
//! change of the view before or after the message.

use std::collections::BTreeMap;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupName, GroupViewId, ProcessId};

use crate::numbers::Numbers;
use crate::property::{Breach, Position, Property, breach};

/// In which view a message was given first, and to whom: numbers of both.
#[derive(Clone, Copy)]
struct Given {
    view: u32,
    to: u32,
    at: Position,
}

/// Messages by their sender's number and their own.
type Messages = BTreeMap<(u32, u64), Given>;

/// The checker.
#[derive(Default)]
pub(crate) struct SameView {
    current: BTreeMap<ProcessId, BTreeMap<GroupName, GroupViewId>>,
    processes: Numbers<ProcessId>,
    views: Numbers<(GroupName, GroupViewId)>,
    configurations: BTreeMap<DaemonId, ConfigurationId>,
    /// What the processes of a daemon were given in its present configuration.
    given: BTreeMap<DaemonId, Messages>,
    moves: BTreeMap<(ConfigurationId, ConfigurationId), Messages>,
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
                if current.is_some_and(|current| current < view) {
                    return breach(
                        &[at],
                        format!(
                            "{process} was given {message} in view {view} of {group}, which it was not told yet"
                        ),
                    );
                }
                let (view, to) = (self.views.of(&(group.clone(), *view)), self.processes.of(process));
                let message = (self.processes.of(&message.sender()), message.number());
                let mine = Given { view, to, at };
                let here = self.given.entry(process.daemon()).or_default();
                let first = *here.entry(message).or_insert(mine);
                self.agree(message, first, mine)?;
            }
            Event::Install { daemon, configuration, previous, .. } => {
                self.configurations.insert(*daemon, configuration.id);
                let given = self.given.remove(daemon).unwrap_or_default();
                let step = (*previous, configuration.id);
                self.join(self.moves.get(&step), &given)?;
                self.moves.entry(step).or_default().extend(given);
            }
            Event::Quiescent { daemons, .. } => {
                let mut rest: BTreeMap<ConfigurationId, Messages> = BTreeMap::new();
                for daemon in daemons {
                    if let (Some(id), Some(given)) = (self.configurations.get(daemon), self.given.get(daemon))
                    {
                        self.join(rest.get(id), given)?;
                        rest.entry(*id).or_default().extend(given);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl SameView {
    /// Checks that what some were given agrees with what others were given.
    fn join(&self, known: Option<&Messages>, given: &Messages) -> Result<(), Breach> {
        let Some(known) = known else { return Ok(()) };
        given.iter().try_for_each(|(message, mine)| match known.get(message) {
            Some(theirs) => self.agree(*message, *theirs, *mine),
            None => Ok(()),
        })
    }

    fn agree(&self, message: (u32, u64), theirs: Given, mine: Given) -> Result<(), Breach> {
        if theirs.view == mine.view {
            return Ok(());
        }
        let (sender, number) = (self.processes.value(message.0), message.1);
        let (group, my_view) = self.views.value(mine.view);
        let (_, their_view) = self.views.value(theirs.view);
        let (me, them) = (self.processes.value(mine.to), self.processes.value(theirs.to));
        breach(
            &[theirs.at, mine.at],
            format!(
                "of {group}, {them} was given {sender}!{number} in view {their_view}, but {me} in {my_view}"
            ),
        )
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
    let moved = two.clone().receives("a/1", "g", "a/1", 1).views("g", 2, "a/1 b/1");
    let torn = moved.receives("b/1", "g", "a/1", 1);
    vec![
        rejected(
            "b is given in the next view what a was given in the last",
            &["virtual_synchrony", "same_view", "group_view_agreement"],
            {
                // What they were given in the last view then differs, too.
                torn.clone().forms(2, "a b")
            },
        ),
        rejected(
            "b comes to rest with a message in another view",
            &["virtual_synchrony", "same_view", "group_view_agreement"],
            torn.clone().quiescent("a b"),
        ),
        rejected(
            "two processes of one daemon are given a message in two views",
            &["virtual_synchrony", "same_view"],
            {
                let here = Script::new()
                    .forms(1, "a")
                    .attaches("a/1 a/2")
                    .views("g", 1, "a/1 a/2")
                    .sends("a/1", "g", 1);
                here.receives("a/1", "g", "a/1", 1).views("g", 2, "a/1 a/2").receives("a/2", "g", "a/1", 1)
            },
        ),
        accepted("a and b part, and each places the message and the newcomer anew", {
            let joined = two.clone().attaches("b/2").receives("a/1", "g", "a/1", 1).forms(2, "a");
            joined.told("b/1 b/2", "g", 2, "a/1 b/1 b/2").receives("b/1 b/2", "g", "a/1", 1).forms(3, "b")
        }),
        rejected("b is given a message in a view to come", only, two.clone().raw(given(2))),
        accepted("a newcomer is not given what came before", {
            let both = two.receives("a/1 b/1", "g", "a/1", 1).attaches("b/2");
            both.views("g", 2, "a/1 b/1 b/2").quiescent("a b")
        }),
    ]
}
