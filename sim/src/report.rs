//! What a run came to, and what people need to know when it went wrong.

use std::fmt;

use crate::client::Tally;
use crate::coverage::Coverage;
use crate::membership;

/// The verdict on a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The run.
    pub seed: u64,
    /// How many events it took.
    pub events: u64,
    /// What went wrong that is no property of the trace.
    pub complaints: Vec<String>,
    /// What the properties say.
    pub report: check::Report,
    /// What struck and what happened.
    pub coverage: Coverage,
    /// The same for a world of membership servers.
    pub membership: membership::Coverage,
    /// What became of the clients' sessions.
    pub tallies: Vec<Tally>,
}

impl Outcome {
    /// Whether nothing went wrong.
    pub fn is_good(&self) -> bool {
        self.complaints.is_empty() && self.report.violations.is_empty()
    }

    /// What is wrong first, in a word: the property, or `complaint`.
    pub fn verdict(&self) -> &'static str {
        match self.report.violations.first() {
            Some(violation) => violation.property,
            None if self.complaints.is_empty() => "good",
            None => "complaint",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.verdict())?;
        for violation in &self.report.violations {
            writeln!(f, "{violation}")?;
        }
        for complaint in &self.complaints {
            writeln!(f, "{complaint}")?;
        }
        Ok(())
    }
}
