//! What daemons remember of primary components, so that the next one can be told by those who were in the last: dynamic
//! voting, after Yeger-Lotem, Keidar and Dolev.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{ConfigurationId, Name};

/// A primary component, or what was to become one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// The configuration.
    pub id: ConfigurationId,
    /// Those of its members who vote.
    pub members: BTreeSet<Name>,
}

/// What one daemon remembers, also when it starts again.
///
/// Invariant: every attempt is newer than what was formed, and no two have the same members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ballots {
    /// The last primary component that it was in; nothing before the first.
    pub formed: Option<Ballot>,
    /// Those that it agreed to since, and does not know whether all others did.
    pub attempts: Vec<Ballot>,
}

impl Ballots {
    /// Agrees to `ballot`, which may come to be the primary component from now on.
    pub fn attempt(&mut self, ballot: Ballot) {
        // Of two with the same members, the later one asks as much of the next.
        self.attempts.retain(|earlier| earlier.members != ballot.members);
        self.attempts.push(ballot);
    }

    /// All have agreed to the configuration `id`. False if this daemon has not.
    pub fn form(&mut self, id: ConfigurationId) -> bool {
        let Some(place) = self.attempts.iter().position(|attempt| attempt.id == id) else { return false };
        self.formed = Some(self.attempts.swap_remove(place));
        self.attempts.clear();
        true
    }

    /// The greatest counter of a configuration that is remembered.
    pub fn counter(&self) -> u64 {
        let all = self.formed.iter().chain(&self.attempts);
        all.map(|ballot| ballot.id.counter()).max().unwrap_or(0)
    }
}
