//! What membership servers say to each other. Messages on a link arrive in the order in which they were sent; when
//! a link breaks, any number of the last ones may be lost.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::time::Duration;

use detector::Report;
use model::{Address, Ballots, ConfigurationId, DaemonId, Name, ServerId, StartId};

use crate::primary::ATTEMPTS_MAX;
use crate::wombat::word::Word;

/// Numbers that a peer or a daemon claims have to stay below this, so that counting on from them cannot overflow.
pub(crate) const CLAIM_MAX: u64 = 1 << 62;

/// The most servers, or names that are kept out, of which a peer may tell.
pub(crate) const NAMES_MAX: usize = 1024;

/// From one membership server to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Who is attached to the sender. The first message of a link.
    Row(Row),
    /// What changed in the sender's row.
    Change(Change),
    /// Which servers can talk to each other, as far as the sender knows.
    Links(BTreeMap<ServerId, Neighbours>),
    /// Which daemons operators keep out, as far as the sender knows.
    Bars(BTreeMap<Name, Bar>),
    /// The sender's vote for a configuration.
    Proposal(Proposal),
    /// Which configuration these daemons have agreed to have as the primary component, each the last one.
    Attempted(BTreeMap<DaemonId, ConfigurationId>),
    /// The sender is alive.
    Beat,
    /// What only servers of Wombat say.
    Wombat(Word),
}

/// The daemons attached to one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// Counts the changes of `daemons` in this life of the server.
    pub version: u64,
    /// Who is attached.
    pub daemons: BTreeMap<DaemonId, Attachment>,
}

/// The step to the next version of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The version that comes of it.
    pub version: u64,
    /// Everybody in whom anything changed.
    pub daemons: BTreeMap<DaemonId, Place>,
}

/// What became of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// This is how it is attached.
    Taken(Attachment),
    /// It is not attached any more.
    Left(Leave),
}

/// How a daemon is attached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// Where it takes connections from other daemons.
    pub address: Address,
    /// How often it had attached before, to any server, in this life of it. Of two servers that announce the same
    /// daemon, the one with the greater number has the newer attachment.
    pub attempt: u64,
    /// The version of the row in which this attachment appeared.
    pub since: u64,
    /// The configuration that it was told last.
    pub standing: Option<Standing>,
    /// Whether it has been told a start change since.
    pub is_changing: bool,
    /// Whether its stream broke, and it has time to come back.
    pub lost: Option<Leave>,
    /// Whether it has to wait, for it left too often.
    pub held: bool,
    /// Which other daemons it cannot talk to.
    pub report: Arc<Report<DaemonId>>,
}

/// A configuration, as those remember it who were told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Standing {
    /// Which.
    pub id: ConfigurationId,
    /// How many members it has.
    pub size: usize,
}

/// Why a daemon is not attached any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leave {
    /// It said goodbye.
    Goodbye,
    /// Its stream broke.
    Closed,
    /// It was silent for this long.
    Silent(Duration),
    /// An operator sent it away.
    Barred,
    /// It attached elsewhere, or a later life of it did.
    Superseded,
    /// What it claimed of itself on a new stream is impossible.
    Rejected,
    /// The server that it was attached to is gone, and it did not attach to another.
    ServerLost(ServerId),
}

/// The servers that one server has links to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Neighbours {
    /// Counts the changes of `linked` in this life of the server.
    pub version: u64,
    /// The servers that it has a link to and a row of.
    pub linked: BTreeSet<ServerId>,
}

/// Whether a name is kept out. The greater of two is the newer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bar {
    /// Counts the changes for this name.
    pub version: u64,
    /// The server at which that was decided.
    pub by: Name,
    /// For how long, from when a server hears of it; `None` if the name is free.
    pub out: Option<Term>,
}

/// For how long a name is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// For a time.
    For(Duration),
    /// Until it is let in again: it is in maintenance.
    Maintenance,
}

/// The vote of a server for the configurations of all daemons that are attached to the servers of `target`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Counts the sender's proposals.
    pub number: u64,
    /// Which path it belongs to.
    pub kind: Kind,
    /// What it votes for.
    pub target: Target,
    /// What the sender told its own daemons together with this proposal.
    pub starts: BTreeMap<DaemonId, Started>,
    /// The greatest configuration counter that the sender knows of.
    pub counter: u64,
    /// For each server of the target, the number of its newest proposal that the sender has used in a configuration.
    pub used: BTreeMap<ServerId, u64>,
}

/// A daemon that was told a start change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Started {
    /// Which.
    pub start: StartId,
    /// What it remembers of primary components, if it votes for the next.
    pub ballots: Option<Ballots>,
}

/// A network event: the servers that agree on it, and who is to be together in a configuration. Two servers with the
/// same target propose the same sets of daemons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    /// Who votes, the sender among them.
    pub servers: BTreeSet<ServerId>,
    /// The fingerprint of the sets: each daemon, and its attachment.
    pub digest: u64,
}

/// The two paths to agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One round, among servers that saw the same change [Moshe:fast].
    Fast,
    /// Only proposals of the same round make a configuration [Moshe:slow].
    Slow {
        /// From 1.
        round: u64,
    },
}

/// How a peer broke the protocol. Its message had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It speaks on a link that is not up, or is an earlier life of a server that is.
    NotUp,
    /// It names more daemons than there may be.
    TooManyDaemons,
    /// It names more servers or more names than there may be.
    TooManyNames,
    /// Its target leaves out itself or the receiver.
    NotAddressed,
    /// It changes its row to a version that is not later.
    OldVersion,
    /// A start id belongs to another life of its daemon.
    ForeignStart,
    /// A number is so great that counting could not go on from it.
    OutOfRange,
    /// It seats two daemons of one name.
    SeatedTwice,
    /// It speaks another protocol than the receiver.
    ForeignProtocol,
}

impl Row {
    pub(crate) fn check(&self, daemons_max: usize) -> Result<(), Fault> {
        if self.daemons.len() > daemons_max {
            return Err(Fault::TooManyDaemons);
        }
        if self.version >= CLAIM_MAX {
            return Err(Fault::OutOfRange);
        }
        self.daemons.values().try_for_each(|attachment| attachment.check(daemons_max))
    }
}

impl Attachment {
    pub(crate) fn check(&self, daemons_max: usize) -> Result<(), Fault> {
        if self.report.len() > daemons_max {
            return Err(Fault::TooManyDaemons);
        }
        let counter = self.standing.map_or(0, |standing| standing.id.counter());
        if self.attempt.max(counter) >= CLAIM_MAX { Err(Fault::OutOfRange) } else { Ok(()) }
    }
}

impl Proposal {
    /// What can be said against a proposal that `from` sent to `to`.
    pub(crate) fn check(&self, from: ServerId, to: ServerId, daemons_max: usize) -> Result<(), Fault> {
        let round = match self.kind {
            Kind::Fast => 0,
            Kind::Slow { round } => round,
        };
        if self.number.max(self.counter).max(round) >= CLAIM_MAX {
            return Err(Fault::OutOfRange);
        }
        if !self.target.servers.contains(&from) || !self.target.servers.contains(&to) {
            return Err(Fault::NotAddressed);
        }
        check_starts(&self.starts, daemons_max)
    }
}

/// What can be said against start ids that a server claims to have given.
pub(crate) fn check_starts(starts: &BTreeMap<DaemonId, Started>, daemons_max: usize) -> Result<(), Fault> {
    if starts.len() > daemons_max {
        return Err(Fault::TooManyDaemons);
    }
    starts.iter().try_for_each(|(daemon, Started { start, ballots })| {
        if let Some(ballots) = ballots {
            check_ballots(ballots, daemons_max)?;
        }
        if start.boot() != daemon.boot() {
            Err(Fault::ForeignStart)
        } else if start.number() >= CLAIM_MAX {
            Err(Fault::OutOfRange)
        } else {
            Ok(())
        }
    })
}

/// What can be said against what a daemon claims to remember.
pub(crate) fn check_ballots(ballots: &Ballots, daemons_max: usize) -> Result<(), Fault> {
    let members = ballots.formed.iter().chain(&ballots.attempts).map(|ballot| ballot.members.len());
    if ballots.attempts.len() > ATTEMPTS_MAX || members.max() > Some(daemons_max) {
        return Err(Fault::TooManyNames);
    }
    if ballots.counter() >= CLAIM_MAX { Err(Fault::OutOfRange) } else { Ok(()) }
}
