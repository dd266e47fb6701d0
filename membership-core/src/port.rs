//! What a server is told and what it orders: plain data.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use detector::Report;
use model::{Address, Ballot, Configuration, ConfigurationId, DaemonId, Name, ServerId, StartId, Time};

use crate::attachments::Arrival;
use crate::message::{Fault, Leave, Message, Term};

/// What the host tells a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A daemon opened a stream. If it is attached already, the new stream takes the place of the old one.
    Attach(Arrival),
    /// The stream of a daemon is gone. No effect if the daemon is not attached.
    Detach {
        /// Who.
        daemon: DaemonId,
        /// Why. After a goodbye, or if the daemon is not what it claims, it is gone; otherwise it may come back.
        leave: Leave,
    },
    /// A daemon says which others it cannot talk to: all of them, each time.
    Report {
        /// Who says so.
        daemon: DaemonId,
        /// Of whom, and how much it doubts.
        report: Report<DaemonId>,
    },
    /// A daemon has nothing to say, and is alive.
    Beat {
        /// Who.
        daemon: DaemonId,
    },
    /// A daemon has written down that it agrees to have a configuration as the primary component; or says that it cannot,
    /// and the others go on without its vote.
    Attempted {
        /// Who.
        daemon: DaemonId,
        /// Which configuration it was asked about.
        id: ConfigurationId,
        /// Whether it agrees.
        agrees: bool,
    },
    /// An operator keeps a daemon out, or lets it in again.
    Bar {
        /// The daemon, whether it is attached or not.
        name: Name,
        /// For how long; `None` lets it in.
        out: Option<Term>,
    },
    /// A link to a server was made, or made again; before its first message. What was sent on an earlier link and has
    /// not arrived is lost.
    PeerUp {
        /// Who is at the other end.
        server: ServerId,
    },
    /// The link to a server broke; after its last message.
    PeerDown {
        /// Who was at the other end.
        server: ServerId,
    },
    /// A server says something.
    Peer {
        /// Who.
        from: ServerId,
        /// What.
        message: Message,
    },
}

/// What a server orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell a daemon on its stream.
    Notify {
        /// Who.
        daemon: DaemonId,
        /// What.
        notice: Notice,
    },
    /// Close the stream of a daemon, or of one that asked to attach: it is not attached.
    Rejected {
        /// Who.
        daemon: DaemonId,
        /// Why.
        reason: Rejection,
    },
    /// Tell a daemon that this server is alive.
    Beat {
        /// Who.
        daemon: DaemonId,
    },
    /// Close the stream of a daemon that has been silent for too long. It counts as lost already.
    HangUp {
        /// Who.
        daemon: DaemonId,
    },
    /// Close the link to a server that has been silent for too long. It counts as down already.
    HangUpOn {
        /// Which.
        server: ServerId,
    },
    /// Send to a server on its link.
    Send {
        /// To whom.
        to: ServerId,
        /// What.
        message: Message,
    },
    /// A server broke the protocol; nothing was changed. For logs and counts.
    Refuse {
        /// Who.
        from: ServerId,
        /// How.
        fault: Fault,
    },
    /// There are new configurations. For logs and status; their members attached here are notified as well.
    Agreed(Agreed),
}

/// What servers agreed on, and how it came about as far as this one knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// One for each set of daemons that can talk to each other. None if nobody is attached.
    pub configurations: Vec<Configuration>,
    /// Where each member takes connections, and the server that it is attached to.
    pub seats: BTreeMap<DaemonId, (Address, ServerId)>,
    /// Who is in a configuration now and was in none before.
    pub joined: BTreeSet<DaemonId>,
    /// Who was in a configuration before and is in none now.
    pub left: Vec<Departure>,
    /// Some of the pairs that could not be together in one.
    pub cuts: Vec<(DaemonId, DaemonId)>,
}

/// How a daemon was lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Departure {
    /// Who.
    pub daemon: DaemonId,
    /// What became of its stream, if this server heard of that.
    pub leave: Option<Leave>,
    /// Some of the daemons that doubted that it is there, and for how long they had heard nothing of it.
    pub doubted_by: BTreeMap<DaemonId, Duration>,
}

/// What a daemon is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// A change began; the configuration to come has no members but these.
    StartChange {
        /// Greater than all that this daemon was told before.
        start: StartId,
        /// Who may become a member, and where they take connections. Contains the daemon itself.
        proposed: BTreeMap<DaemonId, Address>,
    },
    /// Write down that this may become the primary component, and say so: before the view, if it does.
    Attempt(Ballot),
    /// A change is complete.
    View(Configuration),
}

/// Why a daemon is not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// A later life of it is attached, or it attached elsewhere later.
    Superseded {
        /// The life of the attachment that counts.
        by: DaemonId,
        /// The server at which it attached.
        at: ServerId,
    },
    /// An operator keeps it out.
    Barred {
        /// Until then; or until its maintenance is over.
        until: Option<Time>,
    },
    /// There are as many daemons as there may be.
    TooManyDaemons {
        /// The limit.
        max: usize,
    },
    /// The last start id that it claims is not of this life of it.
    ForeignStart,
    /// A number that it claims is so great that counting could not go on from it.
    OutOfRange,
}
