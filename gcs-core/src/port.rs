//! The machine's contract with its host: facts in, orders out.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use detector::Report;
use model::trace::Event;
use model::{
    Address, Configuration, DaemonId, GroupName, GroupView, GroupViewId, Level, MessageId, Name, Outcome,
    ProcessId, StartId, Terms,
};

use crate::fault::{NoticeFault, PeerFault, Rejection};
use crate::link::Epoch;
use crate::message::Message;
use crate::order::Rest;

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
    /// Our stream to `peer` broke, or could not take what it was given, or could not be opened. The host keeps trying to
    /// open it again until it is told to disconnect. What was sent and is not acknowledged will be sent again.
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
    /// A peer's stream to us is over. It may open another one.
    Closed {
        /// Whose.
        from: DaemonId,
        /// The epoch under which it was opened.
        epoch: Epoch,
    },
    /// All has been told that had come when that was asked for ([`Output::CatchUp`]).
    CaughtUp,
    /// What came of a probe ([`Output::Probe`]).
    Probed {
        /// Who was probed.
        peer: DaemonId,
        /// Who answered.
        answer: Answer,
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
    /// A local process has stopped sending to strict groups, as it was asked to ([`ProcessEvent::Block`]). Groups for
    /// which it was not asked are passed over.
    Blocked {
        /// The process.
        connection: u32,
        /// The groups.
        groups: Vec<GroupName>,
    },
    /// A local process tells the next part of its state, as it was asked to ([`ProcessEvent::StateWanted`]). If the
    /// group has a later view by now, this is passed over: whoever is to tell its state there is asked again.
    State {
        /// The process.
        connection: u32,
        /// The group.
        group: GroupName,
        /// The view of which it was asked.
        view: GroupViewId,
        /// The part.
        part: Bytes,
        /// Whether that was all.
        last: bool,
    },
    /// Somebody who is no process wants to know of all configurations, and of all views of groups whose names begin
    /// with `prefix`: what there is now, and what comes. Ended by [`Input::Detach`].
    Watch {
        /// Never used before in this life of the daemon.
        connection: u32,
        /// The beginning of names; empty for all.
        prefix: Arc<str>,
    },
    /// A local process multicasts to a group. It need not be a member.
    Multicast {
        /// The process.
        connection: u32,
        /// To whom.
        group: GroupName,
        /// What.
        payload: Bytes,
        /// On what terms.
        terms: Terms,
    },
}

/// Who answers at the address of a peer that is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The peer.
    Present,
    /// Nobody, in good time.
    None,
    /// Somebody else: that life of the peer has ended.
    Other,
}

/// What the membership service says [KK:membership-service].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// Not of the service, but instead of it: it cannot be reached, nor can some member, so that it may have made a primary
    /// component without us. Until the next view, this is none.
    Secondary,
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
    /// Tell all that has come by now, what lies unread in sockets as well, and then [`Input::CaughtUp`].
    CatchUp,
    /// Break our stream to `peer`, whether it is open or being opened, and open it again: nothing has been heard of the
    /// peer for too long. Only with [`crate::Params::detection`], like the other orders about detection.
    Reset {
        /// Whom it leads to.
        peer: DaemonId,
        /// From [`Output::Connect`].
        epoch: Epoch,
        /// For how long.
        silent: Duration,
    },
    /// Tell the membership service which peers cannot be reached; it replaces what it was told before.
    Reach(Report<DaemonId>),
    /// Find out who answers at the address of `peer`, and say so ([`Input::Probed`]).
    Probe {
        /// Whom to ask for.
        peer: DaemonId,
        /// Where.
        address: Address,
    },
    /// Acknowledge frames of a peer's stream to us; repeated without news, it is a sign of life.
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
        /// What the previous one left.
        rest: Rest,
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
        /// How surely it has reached the others. A message sent as safe is given as agreed if the configuration ends
        /// before it is known to be safe: then those who came along are given it too, and of others nothing is known.
        level: Level,
        /// The content.
        payload: Bytes,
    },
    /// Tell your state as it was when you were told this view, to those members that have another one
    /// ([`Input::State`]).
    StateWanted {
        /// The group, one with state transfer.
        group: GroupName,
        /// The view.
        view: GroupViewId,
    },
    /// A part of the state that another class of members had when it was told this view. If another view of the group
    /// comes before [`ProcessEvent::UpToDate`], what was told means nothing.
    State {
        /// The group.
        group: GroupName,
        /// The view.
        view: GroupViewId,
        /// Who tells it.
        from: ProcessId,
        /// The part, in the order in which they were told.
        part: Bytes,
        /// Whether `from` has told all.
        last: bool,
    },
    /// Every class of members of this view has told its state to the others.
    UpToDate {
        /// The group.
        group: GroupName,
        /// The view.
        view: GroupViewId,
    },
    /// The daemon moved into this configuration: to those who watch.
    Configuration(Configuration),
    /// From here on views come to be in the primary component, or not: before the first view that does. Until a
    /// process is told so for the first time, they do not.
    Primary(bool),
    /// Send nothing more to these strict groups, and say so ([`Input::Blocked`]); what was sent before counts as sent
    /// in the view that was told last. Who does not answer within [`crate::Params::block_timeout`] is evicted. A
    /// process that is about to be told its first view of a group may be told this before.
    Block(Vec<GroupName>),
    /// Go on in these groups.
    Unblock(Vec<GroupName>),
    /// What became of one of the process's own multicasts. It takes the place of the message in the order; if the
    /// process is given the message too, that comes first.
    Outcome {
        /// Which of its multicasts, from 1.
        number: u64,
        /// What became of it.
        outcome: Outcome,
    },
}

/// Whether to read from local processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Throttle {
    /// Enough is waiting: read nothing.
    Hold,
    /// Read on.
    Go,
}
