//! What a server is told and what it orders: plain data.

use alloc::collections::BTreeMap;

use model::{Address, Configuration, ConfigurationId, DaemonId, ServerId, StartId};

use crate::message::{Fault, Message};

/// What the host tells a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A daemon opened a stream. If it is attached already, the new stream takes the place of the old one.
    Attach {
        /// Who.
        daemon: DaemonId,
        /// Where it takes connections from other daemons.
        address: Address,
        /// The last start change that it was told, by whichever server, in this life of it.
        last_start: Option<StartId>,
        /// The last configuration that it was told, by whichever server.
        last_configuration: Option<ConfigurationId>,
    },
    /// The stream of a daemon is gone. No effect if the daemon is not attached.
    Detach {
        /// Who.
        daemon: DaemonId,
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
    /// There is a new configuration. For logs and status; its members attached here are notified as well.
    Agreed {
        /// Which.
        configuration: Configuration,
        /// Where its members take connections.
        addresses: BTreeMap<DaemonId, Address>,
    },
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
