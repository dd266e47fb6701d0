//! Nothing is delivered twice: no message of a configuration to a daemon, no multicast to a process.
//! [VKCD:no-duplication]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, ProcessId};

use crate::property::{Breach, Position, Property, breach};
use crate::runs::Messages;

/// The checker.
#[derive(Default)]
pub(crate) struct NoDuplication {
    daemons: BTreeMap<DaemonId, BTreeMap<ConfigurationId, Messages<DaemonId>>>,
    processes: BTreeMap<ProcessId, Messages<ProcessId>>,
}

impl Property for NoDuplication {
    fn name(&self) -> &'static str {
        "no_duplication"
    }

    fn claim(&self) -> &'static str {
        "VKCD:no-duplication"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Deliver { daemon, configuration, origin, index, .. } => {
                let delivered = self.daemons.entry(*daemon).or_default().entry(*configuration).or_default();
                if !delivered.insert(*origin, *index) {
                    return breach(
                        &[at],
                        format!("{daemon} delivered message {index} of {origin} in {configuration} again"),
                    );
                }
                Ok(())
            }
            Event::GroupDeliver { process, message, .. } => {
                let delivered = self.processes.entry(*process).or_default();
                if !delivered.insert(message.sender(), message.number()) {
                    return breach(&[at], format!("{process} was given {message} again"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["no_duplication"];
    vec![
        rejected(
            "b delivers a message of a twice",
            only,
            Script::new().forms(1, "a b").casts("a", 1).delivers("b", "a", 1).delivers("b", "a", 1),
        ),
        rejected(
            "a process is given a multicast twice",
            only,
            Script::new()
                .forms(1, "a b")
                .attaches("a/1 b/1")
                .views("g", 1, "a/1 b/1")
                .sends("a/1", "g", 1)
                .receives("b/1", "g", "a/1", 1)
                .receives("b/1", "g", "a/1", 1),
        ),
        accepted(
            "numbers start again in the next configuration",
            Script::new()
                .forms(1, "a")
                .casts("a", 1)
                .delivers("a", "a", 1)
                .forms(2, "a")
                .casts("a", 1)
                .delivers("a", "a", 1),
        ),
    ]
}
