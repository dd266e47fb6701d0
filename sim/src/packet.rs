//! Who there is in the world, and what they say to each other on connections. The first packet on each connection is
//! a greeting; it says who dials, and to whom.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use detector::Report;
use gcs_core::{Epoch, ProcessEvent};
use model::{Address, DaemonId, GroupName, GroupViewId, Name, ProcessId, ServerId, SessionId, Terms, UnitId};
use session_core::gateway::{Attachment, ClientEvent, Failure, Position};
use session_core::message::{GatewayId, Secret, ToGateway, ToServer};

/// A place where a process runs, in all its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A membership server.
    Membership(usize),
    /// The daemon of a machine.
    Daemon(usize),
    /// The content server of a machine.
    Server(usize),
    /// A gateway.
    Gateway(usize),
    /// A client.
    Client(usize),
    /// A process that does nothing but use groups.
    Process(usize),
}

impl Node {
    /// Where others reach it.
    pub fn address(self) -> Address {
        Address::new(&self.to_string())
    }

    /// Who is at `address`.
    pub fn at(address: &Address) -> Option<Node> {
        address.as_str().parse().ok()
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Membership(n) => write!(f, "membership-{}", n + 1),
            Node::Daemon(n) => write!(f, "daemon-{}", n + 1),
            Node::Server(n) => write!(f, "server-{}", n + 1),
            Node::Gateway(n) => write!(f, "gateway-{}", n + 1),
            Node::Client(n) => write!(f, "client-{}", n + 1),
            Node::Process(n) => write!(f, "process-{}", n + 1),
        }
    }
}

impl FromStr for Node {
    type Err = ();

    fn from_str(text: &str) -> Result<Node, ()> {
        let (kind, number) = text.rsplit_once('-').ok_or(())?;
        let index = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).ok_or(())?;
        match kind {
            "membership" => Ok(Node::Membership(index)),
            "daemon" => Ok(Node::Daemon(index)),
            "server" => Ok(Node::Server(index)),
            "gateway" => Ok(Node::Gateway(index)),
            "client" => Ok(Node::Client(index)),
            "process" => Ok(Node::Process(index)),
            _ => Err(()),
        }
    }
}

/// What travels on a connection.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are named for what they are")]
pub enum Packet {
    /// A daemon greets a membership server.
    Register(membership_core::Arrival),
    /// A membership server tells a daemon.
    Notice(membership_core::Notice),

    /// Membership servers greet each other.
    Peer(ServerId),
    /// What they say then.
    Agreement(membership_core::Message),

    /// A daemon tells its server which peers it cannot reach.
    Reach(Report<DaemonId>),

    /// A daemon greets another one.
    Link { from: DaemonId, to: DaemonId, epoch: Epoch },
    /// How far the other one has come with this stream.
    Resume { received: u64 },
    /// The next frame of the stream.
    Frame { number: u64, message: Arc<gcs_core::Message> },
    /// Frames up to here have arrived.
    Ack { received: u64 },
    /// A daemon asks who is there.
    Probe { to: DaemonId },
    /// The answer.
    Answered(gcs_core::Answer),

    /// A process greets its daemon.
    Attach { name: Name },
    /// It is attached.
    Attached(ProcessId),
    /// It joins groups.
    Join(Vec<GroupName>),
    /// It leaves groups.
    Leave(Vec<GroupName>),
    /// It has stopped sending to strict groups.
    Blocked(Vec<GroupName>),
    /// It tells a part of its state.
    TellState { group: GroupName, view: GroupViewId, part: Bytes, last: bool },
    /// It multicasts.
    Multicast { group: GroupName, payload: Bytes, terms: Terms },
    /// It is told.
    Event(ProcessEvent),

    /// A content server greets a gateway.
    Door { server: Name, gateway: GatewayId },
    /// It is the gateway that was meant.
    DoorOpen,
    /// A content server tells a gateway.
    ToGateway(ToGateway),
    /// A gateway tells a content server.
    ToServer(ToServer),

    /// A client calls a gateway; the first call on a connection is its greeting.
    Call { call: u64, what: Call },
    /// The gateway answers.
    Answer { call: u64, answer: Result<Answer, Failure> },
    /// The gateway tells the attached client.
    ToClient { attachment: Attachment, event: ClientEvent },
    /// The client has taken responses.
    Consumed { attachment: Attachment, session: SessionId, responses: u64, bytes: u64 },
    /// The client lets go of its attachment.
    Detach { attachment: Attachment, session: SessionId },
}

/// What a client asks of a gateway.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are named for what they are")]
pub enum Call {
    /// Open a session.
    Open { unit: UnitId },
    /// Attach to it.
    Attach { unit: UnitId, session: SessionId, secret: Secret, from: Position },
    /// Apply a request.
    Request { session: SessionId, secret: Secret, number: Option<u64>, operation: Bytes },
    /// End it.
    Close { unit: UnitId, session: SessionId, secret: Secret },
}

/// A good answer to a call.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are named for what they are")]
pub enum Answer {
    /// This is the session.
    Opened { session: SessionId, secret: Secret },
    /// Events follow.
    Attached(Attachment),
    /// The request was applied.
    Applied { number: u64 },
    /// The session is over.
    Closed,
}
