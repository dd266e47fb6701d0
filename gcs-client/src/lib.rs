//! How a process works in groups: it attaches to a daemon, sends commands, and gets events in one order.
//!
//! An [`Attachment`] is one life of the process as a group member. When it is lost, for whatever reason, its last
//! event is [`Event::Lost`], and all its memberships are gone; the owner connects again and is a new member. No
//! gRPC type is needed to use it.
#![deny(missing_docs)]

mod attach;
mod pause;
mod wire;

pub use attach::{Attachment, Commands, ConnectError, Events, Target, TryCommandError};
pub use pause::Pause;

use bytes::Bytes;
use model::{GroupName, GroupView, GroupViewId, Level, MessageId, Outcome, ProcessId, Terms};

/// What a process can have done. Commands take effect in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Join these groups, if it is not in them.
    Join(Vec<GroupName>),
    /// Leave these groups, if it is in them.
    Leave(Vec<GroupName>),
    /// Nothing more is sent to these strict groups until [`Event::Unblock`]: the answer to [`Event::Block`].
    Blocked(Vec<GroupName>),
    /// The next part of the state: the answer to [`Event::StateWanted`].
    State {
        /// The group.
        group: GroupName,
        /// The view of which the process was asked.
        view: GroupViewId,
        /// The part.
        part: Bytes,
        /// Whether that was all.
        last: bool,
    },
    /// Multicast to a group, whether it is in it or not.
    Multicast {
        /// To whom.
        group: GroupName,
        /// What.
        payload: Bytes,
        /// On what terms.
        terms: Terms,
    },
}

impl Command {
    /// A multicast on the usual terms: agreed, whatever the view, without a report.
    pub fn multicast(group: GroupName, payload: Bytes) -> Command {
        Command::Multicast { group, payload, terms: Terms::default() }
    }
}

/// What a process is told. The order of events is the order of the group communication service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// One step gave these groups new views; in the order of their names.
    Views(Vec<GroupView>),
    /// A message to a group that the process is in.
    Message {
        /// The group.
        group: GroupName,
        /// Which message, and who sent it.
        id: MessageId,
        /// The view in which it was delivered.
        view: GroupViewId,
        /// How surely it has reached the others. A message sent as safe comes as agreed if the configuration ends
        /// before it is known to be safe.
        level: Level,
        /// What.
        payload: Bytes,
    },
    /// From here on views come to be in the primary component, or not. Before the first time, they do not.
    Primary(bool),
    /// Send nothing more to these strict groups, and say so: [`Command::Blocked`]. Who does not is evicted.
    Block(Vec<GroupName>),
    /// Go on in these groups.
    Unblock(Vec<GroupName>),
    /// Tell your state as it was when you were told this view: [`Command::State`].
    StateWanted {
        /// The group.
        group: GroupName,
        /// The view.
        view: GroupViewId,
    },
    /// A part of the state that members who came another way had when they were told this view.
    State {
        /// The group.
        group: GroupName,
        /// The view.
        view: GroupViewId,
        /// Who tells it.
        from: ProcessId,
        /// The part.
        part: Bytes,
        /// Whether `from` has told all.
        last: bool,
    },
    /// Everybody in this view has been told what the others' states were.
    UpToDate {
        /// The group.
        group: GroupName,
        /// The view.
        view: GroupViewId,
    },
    /// What became of one of the process's own multicasts.
    Outcome {
        /// Which of them, from 1.
        number: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// The attachment is over. Nothing comes after this.
    Lost(Loss),
}

/// Why an attachment ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The daemon is shutting down; another one may be there.
    #[error("the daemon is draining")]
    Draining,
    /// Events were not read fast enough.
    #[error("evicted: {0}")]
    Evicted(String),
    /// A command was refused; it is the caller's fault.
    #[error("refused: {0}")]
    Refused(String),
    /// The connection is gone.
    #[error("the connection broke: {0}")]
    Broken(String),
}
