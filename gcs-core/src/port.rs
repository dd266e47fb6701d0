//! The machine's contract with its host: facts in, orders out.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use model::trace::Event;
use model::{Address, Configuration, DaemonId, GroupName, GroupView, GroupViewId, MessageId, Name, StartId};

use crate::link::Epoch;
use crate::message::Message;

/// A fact that the host tells the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The membership service said something. In the order in which it said it.
    Membership(Notice),

    /// Our stream to `peer` is open, and `peer` answered with what it has of it ([`Output::Resume`] there).
    LinkUp {
        /// Whom the stream leads to.
        peer: DaemonId,
        /// From [`Output::Connect`].
        epoch: Epoch,
        /// The number of the last frame that the peer has.
        received: u64,
    },
    /// Our stream to `peer` broke, or could not take what it was given. The host keeps trying to open it again until
    /// it is told to disconnect. What was sent and is not acknowledged will be sent again.
    LinkDown {
        /// Whom the stream leads to.
        peer: DaemonId,
        /// From [`Output::Connect`].
        epoch: Epoch,
    },
    /// `peer` acknowledged frames of our stream to it ([`Output::Ack`] there).
    Acked {
        /// Whom the stream leads to.
        peer: DaemonId,
        /// From [`Output::Connect`].
        epoch: Epoch,
        /// The number of the last frame that the peer has.
        received: u64,
    },
    /// A peer opened its stream to us. Answered by [`Output::Resume`], or refused.
    Opened {
        /// Who.
        from: DaemonId,
        /// As the peer says.
        epoch: Epoch,
    },
    /// A frame came on a peer's stream to us.
    Frame {
        /// Who sent it.
        from: DaemonId,
        /// The epoch under which the stream was opened.
        epoch: Epoch,
        /// From 1 in each epoch.
        number: u64,
        /// The content.
        message: Message,
    },

    /// A local process attached.
    Attach {
        /// Never used before in this life of the daemon.
        connection: u32,
        /// What it calls itself.
        name: Name,
    },
    /// A local process is gone: its connection closed, or it was evicted.
    Detach {
        /// The process.
        connection: u32,
    },
    /// A local process joins groups. For a group that it is in, nothing happens.
    Join {
        /// The process.
        connection: u32,
        /// The groups.
        groups: Vec<GroupName>,
    },
    /// A local process leaves groups. For a group that it is not in, nothing happens.
    Leave {
        /// The process.
        connection: u32,
        /// The groups.
        groups: Vec<GroupName>,
    },
    /// A local process multicasts to a group. It need not be a member.
    Multicast {
        /// The process.
        connection: u32,
        /// To whom.
        group: GroupName,
        /// What.
        payload: Bytes,
    },
}

/// What the membership service says [KK:membership-service].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A change has begun: whoever will be in the coming view is in `proposed`.
    StartChange {
        /// Locally unique, strictly increasing.
        start: StartId,
        /// Who may be in the view, and where each takes connections.
        proposed: BTreeMap<DaemonId, Address>,
    },
    /// The change is decided.
    View(Configuration),
}

/// An order to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a stream to `peer`, say who we are and `epoch`, and keep it open.
    Connect {
        /// Whom.
        peer: DaemonId,
        /// Where.
        address: Address,
        /// Which run of frame numbers the stream carries.
        epoch: Epoch,
    },
    /// Close the stream to `peer`, and do not open it again.
    Disconnect {
        /// Whom.
        peer: DaemonId,
    },
    /// Send a frame on the stream to `peer`. Given only while the link is up.
    Send {
        /// Whom.
        peer: DaemonId,
        /// Which run of frame numbers.
        epoch: Epoch,
        /// From 1 in each epoch.
        number: u64,
        /// Shared by all peers that are sent the same.
        message: Arc<Message>,
    },
    /// Answer a peer that opened its stream to us: this is what we have of it.
    Resume {
        /// Who opened the stream.
        to: DaemonId,
        /// Of the peer's stream.
        epoch: Epoch,
        /// The number of the last frame that we have.
        received: u64,
    },
    /// Acknowledge frames of a peer's stream to us.
    Ack {
        /// Whose stream.
        peer: DaemonId,
        /// Of the peer's stream.
        epoch: Epoch,
        /// The number of the last frame that we have.
        received: u64,
    },
    /// A peer broke the protocol. What it said had no effect. The host logs and counts it; after a fault of the link
    /// itself ([`PeerFault::breaks_link`]) it also closes the stream.
    Refuse {
        /// Who.
        from: DaemonId,
        /// How.
        fault: PeerFault,
    },
    /// The membership service said something that makes no sense here. It had no effect.
    RefuseNotice(NoticeFault),

    /// Give local processes an event, each in its one ordered stream.
    Deliver {
        /// To whom.
        connections: Arc<[u32]>,
        /// What.
        event: ProcessEvent,
    },
    /// What a local process asked for cannot be. It had no effect.
    Rejected {
        /// The process.
        connection: u32,
        /// Why.
        reason: Rejection,
    },
    /// Stop or go on reading from local processes. A detached connection must still be told.
    Throttle(Throttle),

    /// The daemon moved into `configuration`: for logs.
    Installed {
        /// The new configuration.
        configuration: Configuration,
        /// Who came along from the same previous one [KK:transitional-set].
        transitional: BTreeSet<DaemonId>,
    },
    /// Something that an observer may want to see. Only with [`crate::Params::trace`].
    Trace(Event),
}

/// What a process is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// New views of all groups that one step changed, in the order of the groups' names.
    Views(Vec<Arc<GroupView>>),
    /// A message to a group that the process is in.
    Message {
        /// The group.
        group: GroupName,
        /// Which message, and who sent it.
        id: MessageId,
        /// The receiver's view of the group.
        view: GroupViewId,
        /// The content.
        payload: Bytes,
    },
}

/// Whether to read from local processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// Enough is waiting: read nothing.
    Hold,
    /// Read on.
    Go,
}

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
    /// The daemon can queue no more: the host went on reading in spite of [`Throttle::Hold`].
    Overloaded,
}

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
    /// The list of deliveries has not one number for each member, or names entries that do not exist.
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
