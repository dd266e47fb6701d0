//! What servers of Wombat say to each other, besides announcing rows to their leader.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use model::{Address, DaemonId, ServerId};

use crate::message::{CLAIM_MAX, Fault, NAMES_MAX, Started, check_starts};
use crate::port::Departure;

/// From one server to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// The sender is in command.
    Beacon(Beacon),
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// To the leader: this server, the sender's predecessor, cannot be reached.
    Missing(ServerId),
    /// The sender neither leads nor follows the receiver.
    Away,
    /// From the leader: a daemon of the receiver has attached elsewhere.
    Outdone(Outdone),
    /// From the leader: a change begins.
    Prepare(Prepare),
    /// To the leader: its daemons know.
    Ready(Ready),
    /// From the leader: the change is complete.
    Decide(Decide),
}

/// The word of a leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Beacon {
    /// Whom it leads, itself among them.
    pub view: BTreeSet<ServerId>,
    /// When the next beacon is to be expected.
    pub next: Duration,
}

/// A daemon that another server has the better claim to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outdone {
    /// Who.
    pub daemon: DaemonId,
    /// The version of the receiver's row in which its attachment appeared.
    pub since: u64,
    /// The life of it whose attachment counts.
    pub by: DaemonId,
    /// Where that is attached.
    pub at: ServerId,
}

/// Who is to be together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prepare {
    /// Counts the changes that the sender has begun.
    pub number: u64,
    /// Who has to answer, the sender among them.
    pub servers: BTreeSet<ServerId>,
    /// Each set of daemons that can talk to each other.
    pub cliques: Vec<BTreeMap<DaemonId, SeatedAt>>,
    /// Some of the pairs that could not be together in one.
    pub cuts: Vec<(DaemonId, DaemonId)>,
}

/// Where a daemon is attached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeatedAt {
    /// To which server.
    pub server: ServerId,
    /// Where it takes connections from other daemons.
    pub address: Address,
    /// How often it had attached before.
    pub attempt: u64,
    /// The version of its server's row in which this attachment appeared.
    pub since: u64,
}

/// A server has told its daemons a start change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ready {
    /// Of the change.
    pub number: u64,
    /// The greatest configuration counter that the sender knows of.
    pub counter: u64,
    /// What it told its own daemons.
    pub starts: BTreeMap<DaemonId, Started>,
}

/// What has become of a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decide {
    /// Of the change.
    pub number: u64,
    /// Of all configurations that come of it.
    pub counter: u64,
    /// All their members, and what each was told for it.
    pub starts: BTreeMap<DaemonId, Started>,
    /// Who is in none any more.
    pub left: Vec<Departure>,
}

impl Word {
    /// What can be said against it.
    pub(crate) fn check(&self, to: ServerId, daemons_max: usize) -> Result<(), Fault> {
        match self {
            Word::Beacon(beacon) if beacon.view.len() > NAMES_MAX => Err(Fault::TooManyNames),
            Word::Prepare(prepare) => prepare.check(to, daemons_max),
            Word::Ready(Ready { number, counter, starts }) => {
                check_numbers(*number, *counter).and(check_starts(starts, daemons_max))
            }
            Word::Decide(Decide { number, counter, starts, left }) => {
                if left.len() > daemons_max || left.iter().any(|it| it.doubted_by.len() > daemons_max) {
                    return Err(Fault::TooManyDaemons);
                }
                check_numbers(*number, *counter).and(check_starts(starts, daemons_max))
            }
            Word::Beacon(_) | Word::Ping | Word::Pong | Word::Missing(_) | Word::Away | Word::Outdone(_) => {
                Ok(())
            }
        }
    }
}

impl Prepare {
    fn check(&self, to: ServerId, daemons_max: usize) -> Result<(), Fault> {
        if self.servers.len() > NAMES_MAX {
            return Err(Fault::TooManyNames);
        }
        if !self.servers.contains(&to) {
            return Err(Fault::NotAddressed);
        }
        let daemons = || self.cliques.iter().flatten();
        if daemons().count() > daemons_max || self.cuts.len() > daemons_max.saturating_mul(daemons_max) {
            return Err(Fault::TooManyDaemons);
        }
        let attempt = daemons().map(|(_, seat)| seat.attempt).max().unwrap_or(0);
        check_numbers(self.number, attempt)?;
        let names: BTreeSet<_> = daemons().map(|(daemon, _)| daemon.name()).collect();
        if names.len() == daemons().count() { Ok(()) } else { Err(Fault::SeatedTwice) }
    }
}

fn check_numbers(a: u64, b: u64) -> Result<(), Fault> {
    if a.max(b) >= CLAIM_MAX { Err(Fault::OutOfRange) } else { Ok(()) }
}
