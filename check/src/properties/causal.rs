//! Nothing is given to a process after what may depend on it, in whatever groups, views and configurations both come. A
//! message may depend on what its sender sent or was given before, and on what these depend on. [VKCD:causal]
//!
//! Daemons are judged by `reliable_causal`, which demands more. Processes are judged at the end, when the order of what
//! each did is known: for each, the pasts of what it was given are gathered, each part of them once.

use std::collections::BTreeMap;

use model::ProcessId;
use model::trace::Event;

use crate::numbers::Numbers;
use crate::property::{Breach, Position, Property, breach};

/// A sender's number, and its message's.
type Message = (u32, u64);

/// What a process did, in order: messages that it was given, and how many of these before each that it sent.
#[derive(Default)]
struct Context {
    given: Vec<(Message, Position)>,
    sent: Vec<(u64, u32)>,
}

impl Context {
    /// How many messages the process had been given when it sent message `number`.
    fn past(&self, number: u64) -> usize {
        let place = self.sent.partition_point(|(sent, _)| *sent <= number);
        place.checked_sub(1).map_or(0, |place| self.sent[place].1 as usize)
    }
}

/// What the messages that one process was given depend on.
#[derive(Default)]
struct Pasts {
    /// By sender: its last message that something depends on.
    needed: BTreeMap<u32, u64>,
    /// By sender: how much of what it was given has been gathered.
    gathered: BTreeMap<u32, usize>,
}

impl Pasts {
    /// Gathers what `message` depends on, and itself.
    fn gather(&mut self, message: Message, contexts: &BTreeMap<u32, Context>) {
        let mut open = vec![message];
        while let Some((sender, number)) = open.pop() {
            let needed = self.needed.entry(sender).or_insert(0);
            if *needed >= number {
                continue;
            }
            *needed = number;
            let Some(context) = contexts.get(&sender) else { continue };
            let past = context.past(number);
            let gathered = self.gathered.entry(sender).or_insert(0);
            if *gathered < past {
                open.extend(context.given[*gathered..past].iter().map(|(message, _)| *message));
                *gathered = past;
            }
        }
    }
}

/// The checker.
#[derive(Default)]
pub(crate) struct Causal {
    processes: Numbers<ProcessId>,
    contexts: BTreeMap<u32, Context>,
}

impl Property for Causal {
    fn name(&self) -> &'static str {
        "causal"
    }

    fn claim(&self) -> &'static str {
        "VKCD:causal"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::GroupSend { process, message, .. } => {
                let context = self.contexts.entry(self.processes.of(process)).or_default();
                context.sent.push((message.number(), context.given.len() as u32));
            }
            Event::GroupDeliver { process, message, .. } => {
                let message = (self.processes.of(&message.sender()), message.number());
                let context = self.contexts.entry(self.processes.of(process)).or_default();
                context.given.push((message, at));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Breach> {
        for (process, context) in &self.contexts {
            let mut pasts = Pasts::default();
            let mut last: BTreeMap<u32, u64> = BTreeMap::new();
            for (message, at) in &context.given {
                let (sender, number) = *message;
                let needed = pasts.needed.get(&sender).is_some_and(|needed| *needed >= number);
                // What comes twice, or after a later message of the same sender, is judged elsewhere.
                let in_turn = last.insert(sender, number).is_none_or(|last| last < number);
                if needed && in_turn {
                    let (process, sender) = (self.processes.value(*process), self.processes.value(sender));
                    return breach(
                        &[*at],
                        format!(
                            "{process} was given message {number} of {sender} after one that may depend on it"
                        ),
                    );
                }
                pasts.gather(*message, &self.contexts);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["causal"];
    let groups = Script::new().forms(1, "a b c").attaches("a/1 b/1 c/1").views("g", 1, "a/1 b/1 c/1");
    let groups = groups.views("h", 2, "a/1 b/1").views("k", 3, "b/1 c/1");
    let asked = groups.sends("a/1", "g", 1).receives("b/1", "g", "a/1", 1);
    let answered = asked.clone().sends("b/1", "k", 1);
    // b hears of the question only by what a sends it next.
    let hearsay = Script::new().forms(1, "a b c").attaches("a/1 b/1 c/1").views("g", 1, "a/1 c/1");
    let hearsay =
        hearsay.views("h", 2, "a/1 b/1").views("k", 3, "b/1 c/1").sends("a/1", "g", 1).sends("a/1", "h", 2);
    let hearsay = hearsay.receives("b/1", "h", "a/1", 2).sends("b/1", "k", 1);
    vec![
        rejected(
            "c is given the answer before the question",
            only,
            answered.clone().receives("c/1", "k", "b/1", 1).receives("c/1", "g", "a/1", 1),
        ),
        rejected(
            "c is given what a third, who does not know the question, says after it",
            only,
            hearsay.clone().receives("c/1", "k", "b/1", 1).receives("c/1", "g", "a/1", 1),
        ),
        rejected(
            "c is given the question where it joins later",
            only,
            answered.clone().receives("c/1", "k", "b/1", 1).forms(2, "c").receives("c/1", "g", "a/1", 1),
        ),
        accepted(
            "c is given the question first",
            answered.receives("c/1", "g", "a/1", 1).receives("c/1", "k", "b/1", 1),
        ),
        accepted(
            "c is given the question first, and then what a third says",
            hearsay.receives("c/1", "g", "a/1", 1).receives("c/1", "k", "b/1", 1),
        ),
        accepted(
            "messages that know nothing of each other come as they like",
            asked.sends("c/1", "k", 1).receives("c/1", "k", "c/1", 1).receives("c/1", "g", "a/1", 1),
        ),
    ]
}
