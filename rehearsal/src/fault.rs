//! What a rehearsal finds.

use std::fmt;

use model::UnitId;

/// Why sessions of a service would not survive a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The unit of the session.
    pub unit: UnitId,
    /// Which of the sessions on it.
    pub seed: u64,
    /// What happened in the session, up to where the fault shows.
    pub steps: Vec<String>,
    /// What is wrong.
    pub what: What,
}

/// The kinds of faults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// New sessions have other contexts at other servers.
    #[error("two servers open the session with different contexts")]
    Opens,
    /// The context is not what it was once it has been turned into bytes and back.
    #[error(
        "the context does not survive its way through bytes: {before} became {after}. Is a field skipped, or kept in \
         a collection without an order?"
    )]
    RoundTrip {
        /// The context that was encoded.
        before: String,
        /// What was decoded.
        after: String,
    },
    /// The context is too large.
    #[error("the context takes {bytes} bytes, and may take {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The service cannot go on.
    #[error("the service cannot go on: {0}")]
    Fails(String),
    /// A response is too long.
    #[error("a response takes {bytes} bytes, and may take {max}")]
    TooLong {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A server that took over, or did again what had been done before, came to something else.
    #[error(
        "a server that took the session over came to something else:\n  undisturbed:       {expected}\n  after a \
         hand-over: {found}\nDoes the service remember something outside of its context, or look at a clock, at chance \
         or at the order of a hash map?"
    )]
    Differs {
        /// What came of the last step without a hand-over.
        expected: String,
        /// What came of it after one.
        found: String,
    },
    /// A backup judges a request in another way than the primary.
    #[error(
        "a backup judges the last request in another way:\n  primary: {primary}\n  backup:  {backup}\nA backup never \
         calls `next`: does the verdict depend on what `next` changed?"
    )]
    Backup {
        /// The verdict of the primary.
        primary: String,
        /// The verdict of the backup.
        backup: String,
    },
    /// Contexts of two sides of a partition are merged in a way that replicas may differ on.
    #[error("`merge` breaks a rule: {law}\n  expected: {expected}\n  found:    {found}")]
    Merge {
        /// The rule.
        law: &'static str,
        /// What should have come of it.
        expected: String,
        /// What did.
        found: String,
    },
    /// The state that sessions share is not the same at two servers.
    #[error(
        "two servers that carried out the same requests on the state that sessions share came to different results, or \
         states: {one}, and {other}. Does `update` look at anything but the state and the request, or does a snapshot \
         leave something out?"
    )]
    SharedState {
        /// What came of the last request at one of them.
        one: String,
        /// And at the other one.
        other: String,
    },
    /// A snapshot of the state that sessions share cannot be read.
    #[error("`restore` does not know a snapshot of the state that sessions share")]
    Snapshot,
    /// `next` changed the context without sending anything.
    #[error("`next` changed the context and sent nothing: nobody would be told of the change")]
    SilentChange,
    /// `next` asks for one time after another, and never sends anything.
    #[error("`next` asked for another time {0} times in a row, and sent nothing")]
    NeverComes(usize),
    /// The service panicked.
    #[error("the service panicked: {0}")]
    Panicked(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n\nIt happened on unit `{}`, in session {}:", self.what, self.unit, self.seed)?;
        let first = self.steps.len().saturating_sub(STEPS_SHOWN);
        if first > 0 {
            writeln!(f, "       ... {first} steps before")?;
        }
        for (number, step) in self.steps.iter().enumerate().skip(first) {
            writeln!(f, "  {:3}. {step}", number + 1)?;
        }
        Ok(())
    }
}

/// So many of the last steps are shown.
const STEPS_SHOWN: usize = 20;

impl std::error::Error for Fault {}
