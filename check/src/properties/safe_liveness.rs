//! What is sent at the safe level becomes safe: whoever is given such a message while its daemon stays in a configuration
//! has been told that it is safe. On the way out of a configuration, from the start change to the install, it may be
//! given without. [VKCD:safe]
//!
//! So in a quiescent run, in which nobody is on the way out, every message of the last configuration became safe at
//! every member; that each is given at all is for `self_delivery` and `final_delivery`.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{DaemonId, Level, MessageId, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct SafeLiveness {
    leaving: BTreeSet<DaemonId>,
    /// Messages sent at the safe level.
    demanded: BTreeSet<MessageId>,
    /// The last message of each sender that is known to be sent.
    known: BTreeMap<ProcessId, u64>,
    /// What each process was told last to be safe: the message comes next.
    told: BTreeMap<ProcessId, MessageId>,
    /// Deliveries without the word, of messages whose level is not known yet.
    waiting: BTreeMap<MessageId, (ProcessId, Position)>,
}

impl Property for SafeLiveness {
    fn name(&self) -> &'static str {
        "safe_liveness"
    }

    fn claim(&self) -> &'static str {
        "VKCD:safe"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::StartChange { daemon, .. } => drop(self.leaving.insert(*daemon)),
            Event::Install { daemon, .. } => drop(self.leaving.remove(daemon)),
            Event::GroupSend { process, message, level, .. } => {
                self.known.insert(*process, message.number());
                let waiting = self.waiting.remove(message);
                if *level == Level::Safe {
                    self.demanded.insert(*message);
                    return waiting.map_or(Ok(()), |(process, at)| without_the_word(*message, process, at));
                }
            }
            Event::GroupSafe { process, message, .. } => drop(self.told.insert(*process, *message)),
            Event::GroupDeliver { process, message, .. } => {
                let known = self.known.get(&message.sender()).is_some_and(|last| *last >= message.number());
                let demanded = self.demanded.contains(message);
                if known && !demanded {
                    return Ok(());
                }
                let leaving = self.leaving.contains(&process.daemon());
                if leaving || self.told.get(process) == Some(message) {
                    return Ok(());
                }
                if demanded {
                    return without_the_word(*message, *process, at);
                }
                self.waiting.insert(*message, (*process, at));
            }
            _ => {}
        }
        Ok(())
    }
}

fn without_the_word(message: MessageId, process: ProcessId, at: Position) -> Result<(), Breach> {
    breach(
        &[at],
        format!("{process} was given {message}, sent at the safe level, without being told that it is safe"),
    )
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1").views("g", 1, "a/1 b/1");
    let sent = two.sends_safely("a/1", "g", 1).casts("a", 1).delivers("a b", "a", 1);
    let half = sent.clone().safe("a/1", "g", "a/1", 1).receives("a/1 b/1", "g", "a/1", 1);
    vec![
        rejected(
            "b is given the message, and never told that it is safe",
            &["safe_liveness"],
            half.quiescent("a b"),
        ),
        accepted(
            "both are told",
            sent.clone().safe("a/1 b/1", "g", "a/1", 1).receives("a/1 b/1", "g", "a/1", 1).quiescent("a b"),
        ),
        accepted(
            "both are given it on their way to the next configuration",
            sent.agrees(2, "a b")
                .receives("a/1 b/1", "g", "a/1", 1)
                .installs("a b", 2, "a b")
                .quiescent("a b"),
        ),
    ]
}
