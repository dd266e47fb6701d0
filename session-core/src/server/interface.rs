//! What a content server is told and what it orders.

use alloc::vec::Vec;

use bytes::Bytes;
use model::trace::{Event, Role};
use model::{Fence, GroupName, GroupView, GroupViewId, Level, Name, ProcessId, SessionId, Time, UnitId};

use crate::fault::Fault;
use crate::message::{DecodeError, GatewayId, ToGateway, ToServer};
use crate::unit_db::{Happening, OrderRefusal, Ordered, PolicyChange, Session};

/// A fact.
#[derive(Clone, Debug)]
pub enum Input<S> {
    /// The process is attached to its daemon, as this member.
    Attached(ProcessId),
    /// The attachment is lost, and with it every membership.
    Detached,
    /// Whether the server's daemon is in the primary component, from here on. Until it is told, it is not.
    Primary(bool),
    /// Views of groups, all of one step.
    Views(Vec<GroupView>),
    /// A message of a group.
    Message {
        /// Where.
        group: GroupName,
        /// From whom.
        sender: ProcessId,
        /// What.
        payload: Bytes,
        /// How surely the others have it.
        level: Level,
    },
    /// The stream to a gateway is open.
    GatewayUp(GatewayId),
    /// The stream to a gateway is closed, and what was on it may be lost.
    GatewayDown(GatewayId),
    /// A gateway speaks.
    Gateway(GatewayId, ToServer),
    /// The content is this now; units and editions may have come or gone. Answered when all servers of these units know.
    Content {
        /// A number that this server was given for no other order.
        ticket: u64,
        /// The service with it.
        service: S,
    },
    /// An operator wants a session elsewhere.
    Move {
        /// A number that this server was given for no other order.
        ticket: u64,
        /// The unit.
        unit: UnitId,
        /// The session.
        session: SessionId,
        /// The server that is to serve it; nobody in particular: away from where it is.
        to: Option<Name>,
    },
    /// An operator wants another policy for a unit.
    Adjust {
        /// A number that this server was given for no other order.
        ticket: u64,
        /// The unit.
        unit: UnitId,
        /// What is to be different.
        change: PolicyChange,
    },
    /// An operator wants new sessions on a unit to be opened on another edition.
    Publish {
        /// A number that this server was given for no other order.
        ticket: u64,
        /// The unit.
        unit: UnitId,
        /// The number of the edition.
        edition: u32,
    },
    /// An operator founds the shared state of a unit among the servers that are here.
    Found {
        /// A number that this server was given for no other order.
        ticket: u64,
        /// The unit.
        unit: UnitId,
        /// Whether it is founded already, and goes on with these servers whoever else has it.
        anew: bool,
    },
    /// An operator wants this server to take nothing new, or its share again.
    Cordon {
        /// A number that this server was given for no other order.
        ticket: u64,
        /// Whether it is to take nothing new.
        on: bool,
    },
    /// An operator closes a session.
    Dismiss {
        /// A number that this server was given for no other order.
        ticket: u64,
        /// The unit.
        unit: UnitId,
        /// The session.
        session: SessionId,
    },
    /// Hand all sessions over and say when that is done.
    Drain,
}

/// An order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Join these groups.
    Join(Vec<GroupName>),
    /// Leave these groups.
    Leave(Vec<GroupName>),
    /// Multicast to a group.
    Multicast {
        /// Where.
        group: GroupName,
        /// What.
        payload: Bytes,
        /// How surely the others are to have it when it is delivered.
        level: Level,
    },
    /// Keep a stream open to this gateway, from now on.
    Dial(GatewayId),
    /// Close the stream to this gateway, or stop dialling it. Nothing more is told about it.
    Hangup(GatewayId),
    /// Tell a gateway. Sent only while its stream is open.
    Send(GatewayId, ToGateway),
    /// This server's part in a session changed: for the log.
    RoleChanged {
        /// The unit.
        unit: UnitId,
        /// The session.
        session: SessionId,
        /// The session's fence.
        fence: Fence,
        /// What this server is in it now.
        role: Role,
        /// If it is primary: who was before, as far as that is known.
        before: Option<Predecessor>,
    },
    /// A gateway heard nothing from the primary of a session for too long: for the log.
    Stalled {
        /// The unit.
        unit: UnitId,
        /// The session.
        session: SessionId,
        /// The primary.
        from: Option<ProcessId>,
        /// Who serves the session from here on, if anybody does: nobody else can, or enough have been tried.
        to: Option<ProcessId>,
    },
    /// The service cannot go on with a session that is served here, which is over: for the log.
    Failed {
        /// The unit.
        unit: UnitId,
        /// The session.
        session: SessionId,
        /// What is wrong.
        fault: Fault,
    },
    /// Something happened to a session on a unit held here: for operators.
    Happened {
        /// The unit.
        unit: UnitId,
        /// The session.
        session: SessionId,
        /// The view of the content group, and after how many events in it.
        place: (GroupViewId, u64),
        /// What.
        happening: Happening,
    },
    /// A member of a group sent something that is not a message of ours; it was ignored.
    Refused {
        /// Where.
        group: GroupName,
        /// From whom.
        sender: ProcessId,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// What became of an operator's order.
    Ordered {
        /// Which.
        ticket: u64,
        /// What was done, or why nothing was.
        outcome: Result<Ordered, OrderRefusal>,
    },
    /// Nothing is served here any more.
    Drained,
    /// For observers.
    Trace(Event),
}

/// Whom a primary takes a session over from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// The server, if the unit database still knows.
    pub server: Option<ProcessId>,
    /// Its fence.
    pub fence: Fence,
    /// Whether it is still in the group of the unit, and could go on.
    pub is_here: bool,
}

impl Output {
    /// A multicast that asks for no more than its place in the order.
    pub(super) fn multicast(group: GroupName, payload: Bytes) -> Output {
        Output::Multicast { group, payload, level: Level::Agreed }
    }
}

/// A session as this server knows it, for operators.
#[derive(Clone, Debug)]
pub struct SessionStatus<'a> {
    /// The unit.
    pub unit: &'a UnitId,
    /// The session.
    pub id: SessionId,
    /// What the unit database knows.
    pub session: &'a Session,
    /// The name of its primary.
    pub primary: Option<Name>,
    /// The names of its backups, of those that are known.
    pub backups: Vec<Name>,
    /// What this server is in it.
    pub role: Role,
    /// At the server that serves it: whether its gateway has a client for it.
    pub client: Option<bool>,
    /// How many responses this server's context reflects: its own if it has a role, else the database's.
    pub responses: u64,
    /// Likewise for requests.
    pub requests: u64,
    /// When the database last heard of the session's context.
    pub heard: Option<Time>,
}
