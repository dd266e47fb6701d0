//! There is one order of messages: daemons that move together from one configuration to the next delivered what they
//! both delivered in the same order, and so were the processes on these daemons given messages, over all groups.
//! [VKCD:weak-total-order]
//!
//! Nothing is promised between daemons that part: one may have delivered what the others had to put in order anew.

use std::collections::BTreeMap;
use std::fmt::Display;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, ProcessId};

use crate::numbers::Numbers;
use crate::order::disagreement;
use crate::property::{Breach, Position, Property, breach, of_daemon};

/// A sender's number, and its message's.
type Message = (u32, u64);

/// What one observer saw in one configuration, in order; it ended at `at`.
#[derive(Clone)]
struct Line<M> {
    who: M,
    at: Position,
    messages: Vec<Message>,
}

/// What all that move together saw. Equal lines are kept once.
type Lines<M> = Vec<Line<M>>;

fn add<M>(lines: &mut Lines<M>, line: Line<M>) {
    if !lines.iter().any(|other| other.messages == line.messages) {
        lines.push(line);
    }
}

/// A way from one configuration to the next.
type Move = (ConfigurationId, ConfigurationId);

/// The checker.
#[derive(Default)]
pub(crate) struct TotalOrder {
    daemons: Numbers<DaemonId>,
    processes: Numbers<ProcessId>,
    current: BTreeMap<DaemonId, ConfigurationId>,
    delivered: BTreeMap<DaemonId, Vec<Message>>,
    given: BTreeMap<ProcessId, Vec<Message>>,
    moves: BTreeMap<Move, Lines<DaemonId>>,
    process_moves: BTreeMap<Move, Lines<ProcessId>>,
}

impl Property for TotalOrder {
    fn name(&self) -> &'static str {
        "total_order"
    }

    fn claim(&self) -> &'static str {
        "VKCD:weak-total-order"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Deliver { daemon, origin, index, .. } => {
                let message = (self.daemons.of(origin), *index);
                self.delivered.entry(*daemon).or_default().push(message);
            }
            Event::GroupDeliver { process, message, .. } => {
                let message = (self.processes.of(&message.sender()), message.number());
                self.given.entry(*process).or_default().push(message);
            }
            Event::Install { daemon, configuration, previous, .. } => {
                self.current.insert(*daemon, configuration.id);
                let step = (*previous, configuration.id);
                let messages = self.delivered.remove(daemon).unwrap_or_default();
                add(self.moves.entry(step).or_default(), Line { who: *daemon, at, messages });
                let lines = self.process_moves.entry(step).or_default();
                for (process, messages) in self.given.range_mut(of_daemon(*daemon)) {
                    add(lines, Line { who: *process, at, messages: std::mem::take(messages) });
                }
            }
            Event::Quiescent { daemons, .. } => self.come_to_rest(at, daemons)?,
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Breach> {
        self.moves.values().try_for_each(|lines| agree(lines, &self.daemons))?;
        self.process_moves.values().try_for_each(|lines| agree(lines, &self.processes))
    }
}

impl TotalOrder {
    /// Everybody in `daemons` completes its present configuration.
    fn come_to_rest(&self, at: Position, daemons: &[DaemonId]) -> Result<(), Breach> {
        let mut rest: BTreeMap<ConfigurationId, (Lines<DaemonId>, Lines<ProcessId>)> = BTreeMap::new();
        for daemon in daemons {
            let Some(current) = self.current.get(daemon) else { continue };
            let (lines, process_lines) = rest.entry(*current).or_default();
            let messages = self.delivered.get(daemon).cloned().unwrap_or_default();
            add(lines, Line { who: *daemon, at, messages });
            for (process, messages) in self.given.range(of_daemon(*daemon)) {
                add(process_lines, Line { who: *process, at, messages: messages.clone() });
            }
        }
        for (lines, process_lines) in rest.values() {
            agree(lines, &self.daemons)?;
            agree(process_lines, &self.processes)?;
        }
        Ok(())
    }
}

fn agree<M: Ord + Clone + Display>(lines: &Lines<M>, senders: &Numbers<M>) -> Result<(), Breach> {
    let sequences: Vec<&[Message]> = lines.iter().map(|line| line.messages.as_slice()).collect();
    let Some(steps) = disagreement(&sequences) else { return Ok(()) };
    let spell = |message: Message| format!("{}!{}", senders.value(message.0), message.1);
    let told: Vec<String> = steps
        .iter()
        .map(|step| {
            format!("{} has {} before {}", lines[step.sequence].who, spell(step.earlier), spell(step.later))
        })
        .collect();
    let evidence: Vec<Position> = steps.iter().map(|step| lines[step.sequence].at).collect();
    breach(&evidence, format!("there is no one order: {}", told.join(", ")))
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["total_order"];
    let two = Script::new().forms(1, "a b").casts("a", 1).casts("b", 1);
    let crossed = |leaving: Script| {
        let a = leaving.delivers("a", "a", 1).delivers("a", "b", 1);
        a.delivers("b", "b", 1).delivers("b", "a", 1)
    };
    let apart = crossed(two.clone().agrees(2, "a").agrees(3, "b"));
    let groups = Script::new()
        .forms(1, "a b")
        .attaches("a/1 b/1")
        .views("g", 1, "a/1 b/1")
        .views("h", 2, "a/1 b/1")
        .sends("a/1", "g", 1)
        .sends("b/1", "h", 1)
        .receives("a/1", "g", "a/1", 1)
        .receives("a/1", "h", "b/1", 1)
        .receives("b/1", "h", "b/1", 1)
        .receives("b/1", "g", "a/1", 1);
    vec![
        rejected(
            "a and b move on with two orders",
            only,
            crossed(two.clone().agrees(2, "a b")).installs("a b", 2, "a b"),
        ),
        rejected(
            "a and b come to rest with two orders",
            &["reliable_total_order", "total_order"],
            crossed(two).quiescent("a b"),
        ),
        rejected("two processes see two groups in two orders", only, groups.quiescent("a b")),
        accepted("a and b part with two orders", apart.clone().installs("a", 2, "a").installs("b", 3, "b")),
        accepted("b crashes with its own order", apart.crashes("b").installs("a", 2, "a")),
    ]
}
