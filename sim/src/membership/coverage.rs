//! What struck and what happened, in numbers. What never happened is a zero in the table.

use std::collections::BTreeMap;
use std::fmt;

use crate::membership::faults::Kind;
use crate::membership::log::Moment;

/// The counts of a run, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    strikes: BTreeMap<Kind, u64>,
    /// How often each moment came, and how often a fault that waited for it struck.
    moments: BTreeMap<Moment, (u64, u64)>,
    facts: BTreeMap<&'static str, u64>,
    /// The longest that it took after all faults until nobody heard anything any more, in milliseconds.
    longest: u64,
}

/// What is counted besides faults and moments.
pub const FACTS: [&str; 28] = [
    "runs under parameters of a local network",
    "runs in which nothing waits",
    "runs in which only servers fail",
    "  server outages in them that nobody heard of",
    "runs in which one link flaps",
    "  times that it fell",
    "  configurations that this cost",
    "ends: the network is whole",
    "ends: parts",
    "ends: a link between servers is cut",
    "ends: a link between daemons is cut",
    "ends: a daemon reaches servers but no peers",
    "ends: a daemon reaches peers but no servers",
    "  groups at the end",
    "  pairs of cut daemons at one clique of servers",
    "configurations",
    "configurations told",
    "primary components",
    "start changes told",
    "configurations agreed on while a pair was known to be cut",
    "votes of the fast path",
    "votes of the slow path",
    "rows sent",
    "changes of rows sent",
    "rejections: attached elsewhere",
    "rejections: barred",
    "attachments",
    "machine steps",
];

impl Coverage {
    pub(super) fn struck(&mut self, kind: Kind) {
        *self.strikes.entry(kind).or_default() += 1;
    }

    pub(super) fn came(&mut self, moment: Moment) {
        self.moments.entry(moment).or_default().0 += 1;
    }

    pub(super) fn hit(&mut self, moment: Moment) {
        self.moments.entry(moment).or_default().1 += 1;
    }

    pub(super) fn count(&mut self, fact: &'static str, times: u64) {
        debug_assert!(FACTS.contains(&fact), "{fact}");
        *self.facts.entry(fact).or_default() += times;
    }

    pub(super) fn took(&mut self, millis: u64) {
        self.longest = self.longest.max(millis);
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Coverage) {
        other.strikes.iter().for_each(|(kind, times)| *self.strikes.entry(*kind).or_default() += times);
        for (moment, (came, hit)) in &other.moments {
            let sum = self.moments.entry(*moment).or_default();
            *sum = (sum.0 + came, sum.1 + hit);
        }
        other.facts.iter().for_each(|(fact, times)| *self.facts.entry(fact).or_default() += times);
        self.longest = self.longest.max(other.longest);
    }

    /// Every row of the table: how often, and what.
    pub fn rows(&self) -> impl Iterator<Item = (u64, &'static str)> {
        let strikes = Kind::ALL.into_iter().map(|(kind, _, name)| (self.strikes.get(&kind), name));
        let facts = FACTS.into_iter().map(|fact| (self.facts.get(fact), fact));
        strikes.chain(facts).map(|(times, name)| (times.copied().unwrap_or(0), name))
    }

    /// How often each moment came, and how often a fault that waited for it struck.
    pub(super) fn moments(&self) -> impl Iterator<Item = (Moment, u64, u64)> {
        Moment::ALL.into_iter().map(|moment| {
            let (came, hit) = self.moments.get(&moment).copied().unwrap_or_default();
            (moment, came, hit)
        })
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (times, name) in self.rows() {
            writeln!(f, "{times:>10}  {name}")?;
        }
        writeln!(f, "{:>10}  the longest from the last fault to the last notice, in ms", self.longest)?;
        writeln!(f, "\n      came       hit  moments")?;
        for (moment, came, hit) in self.moments() {
            writeln!(f, "{came:>10}  {hit:>8}  {moment:?}")?;
        }
        Ok(())
    }
}
