//! Puts a trace before every property, and counts what was in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::trace::{Event, Record, Role};
use model::{ConfigurationId, Fence, SessionId};

use crate::property::{Breach, Position, Property, Violation};
use crate::unpromised::Unpromised;

/// How much a trace contains: a verdict on a run in which nothing happened is worth nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records of all kinds.
    pub records: u64,
    /// Distinct configurations that somebody installed.
    pub views: u64,
    /// Messages that daemons cast.
    pub messages: u64,
    /// Deliveries of these by daemons.
    pub deliveries: u64,
    /// Primaries of sessions after the first of each.
    pub takeovers: u64,
    /// Requests that clients submitted.
    pub requests: u64,
    /// Responses that gateways accepted.
    pub responses: u64,
    /// Configurations from which daemons went different ways. Nothing is promised against that.
    pub partings: u64,
    /// Configurations whose messages have no one order for all who were ever in them. For messages that are not safe
    /// nothing is promised against that.
    pub reorderings: u64,
}

/// The verdict on a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was judged.
    pub tally: Tally,
    /// The first breach of each broken property.
    pub violations: Vec<Violation>,
    /// The files that the trace came from, if it did.
    pub sources: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { records, views, messages, deliveries, takeovers, requests, responses, .. } = self.tally;
        writeln!(f, "{records} records: {views} views, {messages} messages, {deliveries} deliveries,")?;
        writeln!(f, "{takeovers} takeovers, {requests} requests, {responses} responses")?;
        let Tally { partings, reorderings, .. } = self.tally;
        writeln!(
            f,
            "not promised: {partings} configurations left by different ways, {reorderings} with two orders"
        )?;
        let locate = |at: &Position| match self.sources.get(usize::from(at.source)) {
            Some(file) => format!("{file}:{}", at.line),
            None => format!("record {}", at.line),
        };
        for violation in &self.violations {
            violation.tell(f, locate)?;
            writeln!(f)?;
        }
        write!(f, "{} violations", self.violations.len())
    }
}

/// Reads a trace record by record.
pub struct Judge {
    properties: Vec<Box<dyn Property>>,
    violations: Vec<Violation>,
    tally: Tally,
    installed: BTreeSet<ConfigurationId>,
    primaries: BTreeMap<SessionId, BTreeSet<Fence>>,
    unpromised: Unpromised,
}

impl Default for Judge {
    fn default() -> Judge {
        Judge {
            properties: crate::all(),
            violations: Vec::new(),
            tally: Tally::default(),
            installed: BTreeSet::new(),
            primaries: BTreeMap::new(),
            unpromised: Unpromised::default(),
        }
    }
}

impl Judge {
    /// Puts the next record before the properties that are not broken yet.
    pub fn observe(&mut self, at: Position, event: &Event) {
        self.count(event);
        self.unpromised.observe(at, event);
        self.ask(|property| property.observe(at, event));
    }

    /// What is broken so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The verdict, once every record has been seen.
    pub fn finish(mut self) -> Report {
        self.ask(|property| property.finish());
        let takeovers = self.primaries.values().map(|fences| fences.len() as u64 - 1).sum();
        let views = self.installed.len() as u64;
        let (partings, reorderings) = (self.unpromised.partings(), self.unpromised.reorderings());
        let tally = Tally { views, takeovers, partings, reorderings, ..self.tally };
        Report { tally, violations: self.violations, sources: Vec::new() }
    }

    fn ask(&mut self, mut question: impl FnMut(&mut dyn Property) -> Result<(), Breach>) {
        let violations = &mut self.violations;
        self.properties.retain_mut(|property| match question(property.as_mut()) {
            Ok(()) => true,
            Err(breach) => {
                violations.push(Violation { property: property.name(), claim: property.claim(), breach });
                false
            }
        });
    }

    fn count(&mut self, event: &Event) {
        self.tally.records += 1;
        match event {
            Event::Install { configuration, .. } => {
                self.installed.insert(configuration.id);
            }
            Event::Cast { .. } => self.tally.messages += 1,
            Event::Deliver { .. } => self.tally.deliveries += 1,
            Event::Role { session, fence, role: Role::Primary, .. } => {
                self.primaries.entry(*session).or_default().insert(*fence);
            }
            Event::Submit { .. } => self.tally.requests += 1,
            Event::Accept { .. } => self.tally.responses += 1,
            _ => {}
        }
    }
}

/// Judges a whole trace in memory. Positions are places in `records`, from 1.
pub fn judge<'a>(records: impl IntoIterator<Item = &'a Record>) -> Report {
    let mut judge = Judge::default();
    for (record, line) in records.into_iter().zip(1..) {
        judge.observe(Position { source: 0, line }, &record.event);
    }
    judge.finish()
}
