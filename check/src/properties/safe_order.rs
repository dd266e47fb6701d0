//! Safe messages have one order for everybody and ever: there is an order of all messages that somebody was told are safe
//! in which every process was given those that it was given, in whatever configurations and views. [VKCD:safe]
//!
//! For other messages that is not promised: daemons that part may order anew what only the departed had delivered. How
//! often it happens is counted in the report.

use std::collections::{BTreeMap, BTreeSet};

use model::ProcessId;
use model::trace::Event;

use crate::numbers::Numbers;
use crate::order::disagreement;
use crate::property::{Breach, Position, Property, breach};

/// A sender's number, and its message's.
type Message = (u32, u64);

/// What one process was given that is safe, or may be, in order.
#[derive(Default)]
struct Line {
    messages: Vec<Message>,
    last: Option<Position>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct SafeOrder {
    processes: Numbers<ProcessId>,
    /// The last message of each sender that is known to be sent.
    known: BTreeMap<u32, u64>,
    /// Messages sent at the safe level.
    demanded: BTreeSet<Message>,
    /// Messages that somebody was told are safe.
    safe: BTreeSet<Message>,
    lines: BTreeMap<ProcessId, Line>,
}

impl Property for SafeOrder {
    fn name(&self) -> &'static str {
        "safe_order"
    }

    fn claim(&self) -> &'static str {
        "VKCD:safe"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::GroupSend { process, message, level, .. } => {
                let sender = self.processes.of(process);
                self.known.insert(sender, message.number());
                if *level != model::Level::Agreed {
                    self.demanded.insert((sender, message.number()));
                }
            }
            Event::GroupSafe { message, .. } => {
                let sender = self.processes.of(&message.sender());
                self.safe.insert((sender, message.number()));
            }
            Event::GroupDeliver { process, message, .. } => {
                let message = (self.processes.of(&message.sender()), message.number());
                let known = self.known.get(&message.0).is_some_and(|last| *last >= message.1);
                if !known || self.demanded.contains(&message) {
                    let line = self.lines.entry(*process).or_default();
                    line.messages.push(message);
                    line.last = Some(at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Breach> {
        for line in self.lines.values_mut() {
            line.messages.retain(|message| self.safe.contains(message));
        }
        let lines: Vec<(&ProcessId, &Line)> = self.lines.iter().collect();
        let sequences: Vec<&[Message]> = lines.iter().map(|(_, line)| line.messages.as_slice()).collect();
        let Some(steps) = disagreement(&sequences) else { return Ok(()) };
        let spell = |message: Message| format!("{}!{}", self.processes.value(message.0), message.1);
        let told: Vec<String> = steps
            .iter()
            .map(|step| {
                format!("{} has {} before {}", lines[step.sequence].0, spell(step.earlier), spell(step.later))
            })
            .collect();
        let evidence: Vec<Position> = steps.iter().filter_map(|step| lines[step.sequence].1.last).collect();
        breach(&evidence, format!("safe messages have no one order: {}", told.join(", ")))
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1").views("g", 1, "a/1 b/1");
    let crossed = |script: Script| {
        let leaving = script.agrees(2, "a").agrees(3, "b");
        let a = leaving.receives("a/1", "g", "a/1", 1).receives("a/1", "g", "b/1", 1).installs("a", 2, "a");
        a.receives("b/1", "g", "b/1", 1).receives("b/1", "g", "a/1", 1).installs("b", 3, "b")
    };
    let agreed = crossed(two.clone().sends("a/1", "g", 1).sends("b/1", "g", 1));
    let one_is_safe = two.sends_safely("a/1", "g", 1).sends_safely("b/1", "g", 1).safe("a/1", "g", "a/1", 1);
    let both_are_safe = one_is_safe.clone().safe("b/1", "g", "b/1", 1);
    vec![
        rejected("a and b part with two orders of safe messages", &["safe_order"], crossed(both_are_safe)),
        accepted("a and b part with two orders of other messages", agreed),
        accepted("only one of the two is safe", crossed(one_is_safe)),
    ]
}
