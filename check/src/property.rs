//! What a checker is, and how it says what it found.

use std::fmt;

use model::trace::Event;
use model::{DaemonId, GroupName, ProcessId, UnitId};

/// Where a record stands in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Which file of the trace, from 0 in the order of their names. A run that is judged as it goes has one source.
    pub source: u16,
    /// Which record of it, from 1.
    pub line: u32,
}

/// A sentence that everything in a trace must bear out.
///
/// A property is told every record once, in an order that keeps the order of each process, and reports the first
/// breach that it sees; after that it is not asked again, for its state rests on what it promised.
pub trait Property {
    /// Its name: that of the file that defines it.
    fn name(&self) -> &'static str;

    /// The claim that it checks.
    fn claim(&self) -> &'static str;

    /// Looks at the next record.
    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach>;

    /// Judges what can be judged only once the whole trace is known.
    fn finish(&mut self) -> Result<(), Breach> {
        Ok(())
    }
}

/// What is wrong with a trace, in the words of the property that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// One sentence that names everyone involved.
    pub what: String,
    /// The records that prove it.
    pub evidence: Vec<Position>,
}

/// The result that reports a breach.
pub(crate) fn breach<T>(evidence: &[Position], what: String) -> Result<T, Breach> {
    Err(Breach { what, evidence: evidence.to_vec() })
}

/// The unit whose servers are the group's members, if it is such a group.
pub(crate) fn unit_of(group: &GroupName) -> Option<UnitId> {
    UnitId::new(group.as_str().strip_prefix("content/")?)
}

/// All processes on a daemon, as a range of keys.
pub(crate) fn of_daemon(daemon: DaemonId) -> std::ops::RangeInclusive<ProcessId> {
    ProcessId::new(daemon, 0)..=ProcessId::new(daemon, u32::MAX)
}

/// A broken property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the property.
    pub property: &'static str,
    /// The claim that does not hold.
    pub claim: &'static str,
    /// How it was broken.
    pub breach: Breach,
}

impl Violation {
    /// Tells the violation, with each record of the evidence as `locate` spells its place.
    pub(crate) fn tell(
        &self,
        f: &mut fmt::Formatter<'_>,
        locate: impl Fn(&Position) -> String,
    ) -> fmt::Result {
        let evidence: Vec<String> = self.breach.evidence.iter().map(locate).collect();
        write!(f, "{} [{}]: {}; see {}", self.property, self.claim, self.breach.what, evidence.join(", "))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f, |at| format!("record {}", at.line))
    }
}
