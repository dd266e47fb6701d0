//! In which order the daemons of a configuration deliver. As long as no change is under way, all deliver one sequence, and
//! each is somewhere in it; on the way out a daemon goes on along it and may then leave it, see `reliable_total_order`.
//! So one sequence is kept for a configuration, and for a daemon how far it came, and what it delivered on the way out.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{ConfigurationId, DaemonId};

use crate::numbers::Numbers;
use crate::property::Position;

/// A message of a configuration: its origin's number, and its index there.
pub(crate) type Message = (u32, u64);

/// How a daemon left a configuration.
#[derive(Debug)]
pub(crate) struct Parting {
    pub who: DaemonId,
    pub at: Position,
    /// How much of the common sequence it had delivered when the change began.
    pub before: usize,
    /// What it delivered after that.
    pub after: Vec<Message>,
    /// Who came along.
    pub along: BTreeSet<u32>,
}

/// A configuration.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// What was delivered while no change was under way, and where each message was first.
    pub common: Vec<(Message, Position)>,
    pub partings: Vec<Parting>,
    /// The different ways to the next configuration.
    pub next: BTreeSet<ConfigurationId>,
}

/// A daemon in its present configuration.
struct Stay {
    configuration: u32,
    before: usize,
    leaving: bool,
    after: Vec<Message>,
}

/// A delivery that is not the next one of the common sequence.
pub(crate) struct Astray {
    /// What comes there, and who found out where.
    pub expected: (Message, Position),
    pub found: Message,
    /// Its place in the sequence, from 0.
    pub place: usize,
}

/// All configurations.
#[derive(Default)]
pub(crate) struct Lines {
    pub daemons: Numbers<DaemonId>,
    pub configurations: Numbers<ConfigurationId>,
    stays: BTreeMap<DaemonId, Stay>,
    /// By the configuration's number.
    lines: Vec<Line>,
}

impl Lines {
    /// Looks at the next record.
    pub(crate) fn observe(&mut self, at: Position, event: &Event) -> Result<(), Astray> {
        match event {
            Event::StartChange { daemon, .. } => {
                if let Some(stay) = self.stays.get_mut(daemon) {
                    stay.leaving = true;
                }
            }
            Event::Install { daemon, configuration, transitional, .. } => {
                let number = self.configurations.of(&configuration.id);
                let stay = Stay { configuration: number, before: 0, leaving: false, after: Vec::new() };
                if let Some(old) = self.stays.insert(*daemon, stay) {
                    let along = transitional.iter().map(|daemon| self.daemons.of(daemon)).collect();
                    let line = self.line(old.configuration);
                    line.next.insert(configuration.id);
                    let Stay { before, after, .. } = old;
                    line.partings.push(Parting { who: *daemon, at, before, after, along });
                }
            }
            Event::Deliver { daemon, configuration, origin, index, .. } => {
                let message = (self.daemons.of(origin), *index);
                let number = self.configurations.of(configuration);
                let Some(stay) = self.stays.get_mut(daemon).filter(|stay| stay.configuration == number)
                else {
                    return Ok(());
                };
                if stay.leaving {
                    stay.after.push(message);
                    return Ok(());
                }
                let place = stay.before;
                stay.before += 1;
                let line = self.line(number);
                match line.common.get(place) {
                    Some(expected) if expected.0 != message => {
                        return Err(Astray { expected: *expected, found: message, place });
                    }
                    Some(_) => {}
                    None => line.common.push((message, at)),
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn line(&mut self, number: u32) -> &mut Line {
        let place = number as usize;
        if self.lines.len() <= place {
            self.lines.resize_with(place + 1, Line::default);
        }
        &mut self.lines[place]
    }

    /// Every configuration that somebody was in, by its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Line)> {
        (0..).zip(&self.lines)
    }
}
