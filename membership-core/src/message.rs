//! What membership servers say to each other. Messages on a link arrive in the order in which they were sent; when
//! a link breaks, any number of the last ones may be lost.

use alloc::collections::BTreeMap;

use model::{Address, DaemonId, ServerId, StartId};

/// Numbers that a peer or a daemon claims have to stay below this, so that counting on from them cannot overflow.
pub(crate) const CLAIM_MAX: u64 = 1 << 62;

/// From one membership server to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Who is attached to the sender. The first message of a link.
    Row(Row),
    /// The sender's vote for a configuration.
    Proposal(Proposal),
}

/// The daemons attached to one server. A greater version replaces a smaller one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// Counts the changes of `daemons` in this life of the server.
    pub version: u64,
    /// Who is attached.
    pub daemons: BTreeMap<DaemonId, Attachment>,
}

/// How a daemon is attached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// Where it takes connections from other daemons.
    pub address: Address,
    /// The last start id that it had been told when it attached. Of two servers that announce the same daemon, the
    /// one with the greater has the newer attachment.
    pub after: StartId,
    /// The version of the row in which this attachment appeared. Who attaches again is told everything again.
    pub since: u64,
}

/// The vote of a server for the configuration of all daemons that are attached to the servers of `target`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Counts the sender's proposals.
    pub number: u64,
    /// Which path it belongs to.
    pub kind: Kind,
    /// The servers that the sender sees up, itself among them, with the versions of their rows: two servers with
    /// the same target propose the same set of daemons.
    pub target: BTreeMap<ServerId, u64>,
    /// The start ids that the sender gave its own daemons together with this proposal.
    pub starts: BTreeMap<DaemonId, StartId>,
    /// The greatest configuration counter that the sender knows of.
    pub counter: u64,
    /// For each server of the target, the number of its newest proposal that the sender has used in a configuration.
    pub used: BTreeMap<ServerId, u64>,
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
    /// Its row names more daemons than there may be.
    TooManyDaemons,
    /// Its target leaves out itself or the receiver.
    NotAddressed,
    /// It votes on a row that it has not announced, or for a daemon that is not in its row.
    NotAnnounced,
    /// A start id belongs to another life of its daemon.
    ForeignStart,
    /// A number is so great that counting could not go on from it.
    OutOfRange,
}

impl Row {
    pub(crate) fn check(&self, daemons_max: usize) -> Result<(), Fault> {
        if self.daemons.len() > daemons_max {
            return Err(Fault::TooManyDaemons);
        }
        if self.version >= CLAIM_MAX {
            return Err(Fault::OutOfRange);
        }
        self.daemons.iter().try_for_each(|(daemon, attachment)| check_start(daemon, attachment.after))
    }
}

impl Proposal {
    /// What can be said against a proposal that `from` sent to `to`, having announced `row`.
    pub(crate) fn check(&self, from: ServerId, to: ServerId, row: &Row) -> Result<(), Fault> {
        let round = match self.kind {
            Kind::Fast => 0,
            Kind::Slow { round } => round,
        };
        if self.number.max(self.counter).max(round) >= CLAIM_MAX {
            return Err(Fault::OutOfRange);
        }
        let (Some(&version), true) = (self.target.get(&from), self.target.contains_key(&to)) else {
            return Err(Fault::NotAddressed);
        };
        let votes_on_row = self.starts.keys().all(|daemon| row.daemons.contains_key(daemon));
        if version > row.version || (version == row.version && !votes_on_row) {
            return Err(Fault::NotAnnounced);
        }
        self.starts.iter().try_for_each(|(daemon, start)| check_start(daemon, *start))
    }
}

fn check_start(daemon: &DaemonId, start: StartId) -> Result<(), Fault> {
    if start.boot() != daemon.boot() {
        Err(Fault::ForeignStart)
    } else if start.number() >= CLAIM_MAX {
        Err(Fault::OutOfRange)
    } else {
        Ok(())
    }
}
