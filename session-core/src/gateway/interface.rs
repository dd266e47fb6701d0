//! What a gateway is told and what it orders: facts, orders, and their parts.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use model::trace::Event;
use model::{Fence, GroupName, Name, SessionId, UnitId};

use crate::credit::Credit;
use crate::message::{AttachRefusal, Response, Resume, Secret, ToGateway, ToServer};
use crate::service::{Refusal, UnitInfo};

/// Limits and periods of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayParams {
    /// How many sessions may be here at once.
    pub sessions_max: usize,
    /// How many requests of one session may wait for their acknowledgement.
    pub requests_max: usize,
    /// The largest request, in bytes.
    pub request_bytes_max: usize,
    /// How far a server may be ahead of the client.
    pub window: Credit,
    /// How many bytes all servers may be ahead of all clients together: windows shrink where there are many sessions.
    pub buffer_bytes: u64,
    /// After this time a multicast that nobody answered is repeated, and again after longer ones.
    pub retry: Duration,
    /// How long clients wait while no server serves them.
    pub no_replica_timeout: Duration,
    /// How long a server may say nothing to a client for which something is due, before it is to be replaced.
    pub stall_timeout: Duration,
    /// How long a session waits for its client.
    pub detach_ttl: Duration,
    /// Whether trace events are among the outputs.
    pub trace: bool,
}

impl Default for GatewayParams {
    fn default() -> GatewayParams {
        GatewayParams {
            sessions_max: 20_000,
            requests_max: 64,
            request_bytes_max: 64 * 1024,
            window: Credit { responses: 256, bytes: 256 * 1024 },
            buffer_bytes: 256 * 1024 * 1024,
            retry: Duration::from_millis(250),
            no_replica_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(5),
            detach_ttl: Duration::from_secs(60),
            trace: false,
        }
    }
}

/// Names a call of a client, so that the host finds who waits for the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Names the stream of a content server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Names one attachment of a client to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment(pub u64);

/// Where a client is in its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// What it has, if it says so.
    pub resume: Resume,
    /// Whether it sends its requests that this does not reflect again, acknowledged or not, under their numbers. Only
    /// then are none lost that were acknowledged by servers and gateways which are all gone.
    pub resends: bool,
    /// Whether its cursor is sealed: a gateway of this cluster gave it to this client. A session that all have forgotten can
    /// be made anew from it.
    pub sealed: bool,
}

/// A fact.
#[allow(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Debug)]
pub enum Input {
    /// The gateway is attached to a daemon.
    GroupsUp,
    /// It is not.
    GroupsDown,
    /// A client asks which units there are.
    List(Ticket),
    /// A client opens a session; the host drew `session` and `secret`.
    Open { ticket: Ticket, unit: UnitId, session: SessionId, secret: Secret },
    /// A client wants the responses of its session.
    Attach { ticket: Ticket, unit: UnitId, session: SessionId, secret: Secret, from: Position },
    /// A client's stream is closed.
    Detach { session: SessionId, attachment: Attachment },
    /// A client's stream has taken all responses up to this number, and so many bytes in all since it was attached.
    Consumed { session: SessionId, attachment: Attachment, responses: u64, bytes: u64 },
    /// A client's request. Without a number it is the next one.
    Request { ticket: Ticket, session: SessionId, secret: Secret, number: Option<u64>, operation: Bytes },
    /// A client is done with its session.
    Close { ticket: Ticket, unit: UnitId, session: SessionId, secret: Secret },
    /// A content server opened its stream.
    LinkUp { link: LinkId, server: Name },
    /// A content server's stream is closed.
    LinkDown(LinkId),
    /// A content server speaks.
    Server { link: LinkId, message: ToGateway },
}

/// An order.
#[allow(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Multicast to a group.
    Multicast { group: GroupName, payload: Bytes },
    /// Tell a content server.
    ToServer { link: LinkId, message: ToServer },
    /// Answer a call. Every call is answered once.
    Reply { ticket: Ticket, reply: Result<Reply, Failure> },
    /// Pass to the attached client.
    ToClient { session: SessionId, attachment: Attachment, event: ClientEvent },
    /// The server with this fence said nothing for too long, and is to be replaced: for the log.
    Stalled { session: SessionId, server: Option<Name>, fence: Fence },
    /// Another server serves the client than it was told of last: for the log.
    TakenOver {
        session: SessionId,
        server: Name,
        fence: Fence,
        why: Change,
        /// For how long the client heard nothing although something was due, or might have been.
        gap: Duration,
        /// Acknowledged requests that were lost with the servers before.
        requests_lost: u64,
    },
    /// A stream goes on after response `after`, and not after `before`, the last one that the client has: the unit has it so
    /// when a server takes over. What is left out, or comes again, is counted.
    Displaced { session: SessionId, before: u64, after: u64 },
    /// A server spoke out of turn, on a stream that is not its own any more; it was ignored.
    Stale { link: LinkId, session: SessionId },
    /// For observers.
    Trace(Event),
}

/// Why a client is served by another server from some time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The stream of the server before broke: it is gone.
    Lost,
    /// It may serve no more on its side of a separation, or holds the content no more.
    Suspended,
    /// It said nothing for too long.
    Stalled,
    /// Another one was appointed while its stream was open.
    Moved,
}

/// A good answer to a call.
#[allow(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The units there are.
    Units(Vec<UnitInfo>),
    /// The session is open.
    Opened,
    /// The client is attached: events follow.
    Attached(Attachment),
    /// The request has this number, and was applied.
    Applied { number: u64 },
    /// The session is over.
    Closed,
}

/// What an attached client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// This server serves from here on.
    Serving {
        /// Its name.
        server: Name,
        /// Its fence.
        fence: Fence,
        /// Whether another server did before.
        takeover: bool,
        /// Acknowledged requests of which nothing is known any more, since the client was last told.
        requests_lost: u64,
        /// Whether the server before was replaced since it said nothing for too long.
        stalled: bool,
    },
    /// Both sides of a partition served the session. It goes on from one context again: the one that reflects more
    /// requests, or what the service makes of both.
    Merged,
    /// All servers had forgotten the session, and it was made anew from the cursor.
    Rebuilt,
    /// Responses, of which there is one at least. The position after each is what to bring when attaching elsewhere.
    Responses(Vec<Response>),
    /// The stream is over, for this reason.
    Over(Failure),
}

/// Why a call failed or a stream ended.
#[allow(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No server holds such a unit.
    UnknownUnit,
    /// The session is not known, here or anywhere.
    UnknownSession,
    /// The session is over.
    Ended,
    /// The session is over, for the service could not go on with it.
    ServiceFailed,
    /// The secret is not the session's.
    WrongSecret,
    /// The cursor's context is not one of the service's.
    BadCursor,
    /// No server came forward in time.
    NoReplica,
    /// The session has another client now, here or at another gateway.
    Displaced,
    /// The gateway has as many sessions, or calls that wait, as it may.
    TooManySessions { limit: usize },
    /// The session has as many unacknowledged requests as it may.
    TooManyRequests { limit: usize },
    /// The request is too large.
    RequestTooLarge { size: usize, limit: usize },
    /// The request's number leaves a gap.
    RequestGap { number: u64, expected: u64 },
    /// The service refused the request.
    Refused(Refusal),
}

impl From<AttachRefusal> for Failure {
    fn from(reason: AttachRefusal) -> Failure {
        match reason {
            AttachRefusal::Unknown | AttachRefusal::Forgotten => Failure::UnknownSession,
            AttachRefusal::Ended => Failure::Ended,
            AttachRefusal::Failed => Failure::ServiceFailed,
            AttachRefusal::WrongSecret => Failure::WrongSecret,
            AttachRefusal::Elsewhere => Failure::Displaced,
            AttachRefusal::BadCursor => Failure::BadCursor,
        }
    }
}

/// A session as this gateway knows it, for operators.
#[derive(Clone, Debug)]
pub struct GatewaySession<'a> {
    /// The session.
    pub id: SessionId,
    /// The unit.
    pub unit: &'a UnitId,
    /// Who serves it, if anybody does.
    pub server: Option<Name>,
    /// Under which fence.
    pub fence: Fence,
    /// Whether its client is attached.
    pub attached: bool,
    /// How many responses were passed to the client.
    pub responses: u64,
    /// Requests that are not acknowledged yet.
    pub requests_pending: usize,
    /// How often its servers said nothing for too long.
    pub stalls: u32,
    /// The bytes of responses that were passed to the client's stream, which has not taken them.
    pub buffered: u64,
}
