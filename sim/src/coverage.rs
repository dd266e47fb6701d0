//! Where runs went: which faults struck, at which moments, and what the protocols came across. A table of many runs says
//! whether the faults reach what they are meant to reach; what never happened is a zero in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::trace::{Event, Record};
use model::{ConfigurationId, DaemonId};

use crate::fault::Strike;
use crate::happens::Happens;

/// Something worth counting that is neither a fault nor a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "they are named for what they are")]
pub enum Fact {
    Install,
    TransitionalSetSmaller,
    MergeOfHistories,
    Hole,
    Orphan,
    Residue,
    ResidueDropped,
    Forward,
    ExchangeBegun,
    ExchangeCompleted,
    ExchangeInterrupted,
    LinkResumed,
    LinkSilent,
    ReachReport,
    FrameAgain,
    EarlyMessage,
    LateMessage,
    ViewAbandoned,
    ViewRefused,
    WindowFull,
    ProcessHeld,
    ProcessHung,
    MembershipFailover,
    SlowRound,
    Parting,
    Reordering,
}

impl Fact {
    const ALL: [(Fact, &'static str); 26] = [
        (Fact::Install, "installs"),
        (Fact::TransitionalSetSmaller, "transitional sets smaller than the previous configuration"),
        (Fact::MergeOfHistories, "configurations that merge several histories"),
        (Fact::Hole, "holes skipped"),
        (Fact::Orphan, "orphans skipped after a hole"),
        (Fact::Residue, "residue delivered"),
        (Fact::ResidueDropped, "residue of departed daemons dropped"),
        (Fact::Forward, "forwards sent"),
        (Fact::ExchangeBegun, "table exchanges begun"),
        (Fact::ExchangeCompleted, "table exchanges completed"),
        (Fact::ExchangeInterrupted, "table exchanges interrupted"),
        (Fact::LinkResumed, "links resumed"),
        (Fact::LinkSilent, "links reset that were silent"),
        (Fact::ReachReport, "reports of peers that cannot be reached"),
        (Fact::FrameAgain, "frames sent again"),
        (Fact::EarlyMessage, "early messages buffered"),
        (Fact::LateMessage, "late messages dropped"),
        (Fact::ViewAbandoned, "views abandoned for a later start change"),
        (Fact::ViewRefused, "obsolete views refused"),
        (Fact::WindowFull, "requests that waited for the window"),
        (Fact::ProcessHeld, "processes held back"),
        (Fact::ProcessHung, "processes evicted that did not stop"),
        (Fact::MembershipFailover, "daemons that turned to another membership server"),
        (Fact::SlowRound, "membership proposals of the slow path"),
        (Fact::Parting, "configurations left by more than one way"),
        (Fact::Reordering, "configurations whose messages have no one order everywhere"),
    ];
}

/// How often a moment came, and how often a fault waited for it and struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moments {
    came: u64,
    hit: u64,
}

/// The counts of a run, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    faults: BTreeMap<&'static str, u64>,
    moments: BTreeMap<Happens, Moments>,
    facts: BTreeMap<Fact, u64>,
}

impl Coverage {
    /// A fault struck.
    pub fn struck(&mut self, strike: &Strike) {
        if let Some(name) = strike.name() {
            *self.faults.entry(name).or_default() += 1;
        }
    }

    /// A moment came.
    pub fn came(&mut self, moment: Happens) {
        self.moments.entry(moment).or_default().came += 1;
    }

    /// A fault strikes that waited for this moment.
    pub fn hit(&mut self, moment: Happens) {
        self.moments.entry(moment).or_default().hit += 1;
    }

    /// Something happened so often.
    pub fn count(&mut self, fact: Fact, times: u64) {
        *self.facts.entry(fact).or_default() += times;
    }

    /// How often it happened.
    pub fn of(&self, fact: Fact) -> u64 {
        self.facts.get(&fact).copied().unwrap_or(0)
    }

    /// Counts what a trace tells.
    pub fn read(&mut self, records: &[Record]) {
        let mut members: BTreeMap<ConfigurationId, BTreeSet<DaemonId>> = BTreeMap::new();
        let mut histories: BTreeMap<ConfigurationId, BTreeSet<ConfigurationId>> = BTreeMap::new();
        for record in records {
            let Event::Install { configuration, previous, transitional, .. } = &record.event else {
                continue;
            };
            self.count(Fact::Install, 1);
            if members.get(previous).is_some_and(|before| transitional.len() < before.len()) {
                self.count(Fact::TransitionalSetSmaller, 1);
            }
            members.insert(configuration.id, configuration.set());
            // Who comes from nowhere has no history.
            if previous.counter() > 0 {
                let from = histories.entry(configuration.id).or_default();
                if from.insert(*previous) && from.len() == 2 {
                    self.count(Fact::MergeOfHistories, 1);
                }
            }
        }
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Coverage) {
        other.faults.iter().for_each(|(name, times)| *self.faults.entry(name).or_default() += times);
        for (moment, more) in &other.moments {
            let sum = self.moments.entry(*moment).or_default();
            sum.came += more.came;
            sum.hit += more.hit;
        }
        other.facts.iter().for_each(|(fact, times)| self.count(*fact, *times));
    }

    /// What happened, fault by fault and fact by fact, under its name in the table.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let faults =
            Strike::NAMES.into_iter().map(|name| (name, self.faults.get(name).copied().unwrap_or(0)));
        faults.chain(Fact::ALL.into_iter().map(|(fact, name)| (name, self.of(fact))))
    }

    /// How often each moment of daemons came, and how often a fault that waited for it struck.
    pub fn moments(&self) -> impl Iterator<Item = (Happens, u64, u64)> {
        Happens::DAEMONS.into_iter().map(|moment| {
            let Moments { came, hit } = self.moments.get(&moment).copied().unwrap_or_default();
            (moment, came, hit)
        })
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, times) in self.rows() {
            writeln!(f, "{times:>10}  {name}")?;
        }
        writeln!(f, "\n      came       hit  moments of daemons")?;
        for (moment, came, hit) in self.moments() {
            writeln!(f, "{came:>10}  {hit:>8}  {moment:?}")?;
        }
        Ok(())
    }
}
