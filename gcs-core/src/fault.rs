//! What others may do wrong: a process, a peer, the membership service. Each is refused without effect and named, for
//! the host to report, log and count.

use core::fmt;
use core::time::Duration;

use model::StartId;

/// Why a process's request had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No process is attached on this connection.
    NotAttached,
    /// A process is attached on this connection already.
    AlreadyAttached,
    /// The daemon has as many processes as it takes.
    TooManyConnections {
        /// The limit.
        max: usize,
    },
    /// The list of groups is empty.
    NoGroups,
    /// More groups than one request may name.
    TooManyGroupsInRequest {
        /// The limit.
        max: usize,
    },
    /// More groups than one process may be in.
    TooManyGroups {
        /// The limit.
        max: usize,
    },
    /// The payload is too long.
    PayloadTooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The daemon can queue no more: the host went on reading in spite of [`crate::Throttle::Hold`].
    Overloaded,
    /// The process was asked to stop sending to a strict group and did not say in time that it has. It is detached.
    BlockTimeout {
        /// How long it had.
        after: Duration,
    },
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::NotAttached => f.write_str("no process is attached on this connection"),
            Rejection::AlreadyAttached => f.write_str("a process is attached on this connection already"),
            Rejection::TooManyConnections { max } => {
                write!(f, "the daemon takes no more than {max} processes")
            }
            Rejection::NoGroups => f.write_str("the request names no group"),
            Rejection::TooManyGroupsInRequest { max } => {
                write!(f, "a request names no more than {max} groups")
            }
            Rejection::TooManyGroups { max } => write!(f, "a process is in no more than {max} groups"),
            Rejection::PayloadTooLong { bytes, max } => {
                write!(f, "the payload has {bytes} bytes, and may have {max}")
            }
            Rejection::Overloaded => f.write_str("the daemon can queue no more"),
            Rejection::BlockTimeout { after } => {
                write!(f, "the process did not stop within {after:?} when a strict group changed")
            }
        }
    }
}

impl core::error::Error for Rejection {}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerFault {
    /// A later life of the same daemon has opened a stream to us.
    OutOfDateIncarnation,
    /// The peer opens an epoch that it has left, or sends in one that it has not opened.
    WrongEpoch,
    /// A frame was left out.
    FrameGap {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The peer says that it has frames that were not sent, or lacks frames that it acknowledged.
    WrongAcknowledgement {
        /// What the peer says it has.
        received: u64,
    },
    /// As many peers as this daemon talks to are known already.
    TooManyPeers,
    /// The peer goes by this daemon's own name.
    OurName,
    /// The peer is not a member of the configuration that it speaks of.
    NotAMember,
    /// The configuration that the peer speaks of is not one that this daemon was or may come to be in.
    ForeignConfiguration,
    /// Entries of a stream were left out.
    IndexGap {
        /// The index that should have come.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// More entries than any window allows.
    WindowExceeded,
    /// Order records from somebody who is not the sequencer, or of unknown members.
    WrongOrder,
    /// A sync that cannot be the sender's, or has not one number for each member.
    WrongSync,
    /// News of deliveries that has not one number for each member, or is of entries that do not exist.
    WrongProgress,
    /// A part of a group table outside an exchange, or for daemons of another class; or something else inside one.
    WrongTable,
}

impl PeerFault {
    /// Whether the stream on which it was found has lost its footing and must be closed, to be opened anew.
    pub const fn breaks_link(self) -> bool {
        match self {
            PeerFault::OutOfDateIncarnation
            | PeerFault::WrongEpoch
            | PeerFault::FrameGap { .. }
            | PeerFault::WrongAcknowledgement { .. }
            | PeerFault::TooManyPeers
            | PeerFault::OurName => true,
            PeerFault::NotAMember
            | PeerFault::ForeignConfiguration
            | PeerFault::IndexGap { .. }
            | PeerFault::WindowExceeded
            | PeerFault::WrongOrder
            | PeerFault::WrongSync
            | PeerFault::WrongProgress
            | PeerFault::WrongTable => false,
        }
    }
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerFault::OutOfDateIncarnation => f.write_str("a later life of this daemon is known"),
            PeerFault::WrongEpoch => f.write_str("the stream is not open in this epoch"),
            PeerFault::FrameGap { expected, found } => {
                write!(f, "frame {found} came where {expected} was due")
            }
            PeerFault::WrongAcknowledgement { received } => {
                write!(f, "{received} frames cannot have been received")
            }
            PeerFault::TooManyPeers => f.write_str("as many peers as allowed are known"),
            PeerFault::OurName => f.write_str("the peer goes by this daemon's name"),
            PeerFault::NotAMember => {
                f.write_str("the peer is not a member of the configuration it speaks of")
            }
            PeerFault::ForeignConfiguration => f.write_str("this daemon cannot be in that configuration"),
            PeerFault::IndexGap { expected, found } => {
                write!(f, "entry {found} came where {expected} was due")
            }
            PeerFault::WindowExceeded => f.write_str("more entries than any window allows"),
            PeerFault::WrongOrder => f.write_str("order records by somebody else or of somebody unknown"),
            PeerFault::WrongSync => f.write_str("a sync that does not fit its sender or configuration"),
            PeerFault::WrongProgress => f.write_str("news of deliveries that does not fit the configuration"),
            PeerFault::WrongTable => {
                f.write_str("a part of a table out of place, or something else in its place")
            }
        }
    }
}

impl core::error::Error for PeerFault {}

/// Why a notice of the membership service was not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeFault {
    /// The start id is of another life, or not greater than the last one.
    OutOfDateStart {
        /// What came.
        start: StartId,
    },
    /// This daemon is not in the proposed set, or not in the view.
    Excluded,
    /// A view without a start change of its own, or for one that another start change has overtaken.
    OutOfDateView,
    /// The view has a member that its start change did not propose.
    UnproposedMember,
}

impl fmt::Display for NoticeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoticeFault::OutOfDateStart { start } => write!(f, "start change {start} is out of date"),
            NoticeFault::Excluded => f.write_str("this daemon is not in the set"),
            NoticeFault::OutOfDateView => f.write_str("the view does not follow from the last start change"),
            NoticeFault::UnproposedMember => f.write_str("the view has a member that was not proposed"),
        }
    }
}

impl core::error::Error for NoticeFault {}
