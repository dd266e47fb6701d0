//! What the parts of the framework say to each other: multicasts inside the groups, and the point-to-point stream
//! between a content server and a gateway.
//!
//! Group messages are encoded with postcard behind a version byte: the multicast layer sees bytes.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use model::{Address, Boot, Fence, GroupViewId, Level, Name, ProcessId, SessionId, UnitId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::credit::{Credit, response_bytes};
use crate::edition::{Edition, History, split, unopened};
use crate::service::{Refusal, UnitInfo};
use crate::unit_db::{Intent, PolicyChange, Share, Update};

/// Counts that others tell are taken up to here, so that there is room to count on. Nobody gets this far.
pub(crate) const COUNT_MAX: u64 = 1 << 62;

/// One life of a gateway, and where servers reach it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GatewayId {
    /// Its configured name.
    pub name: Name,
    /// Which life.
    pub boot: Boot,
    /// Where servers dial it.
    pub address: Address,
}

/// What a client must show to use its session: 128 random bits that the opening gateway drew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(u128);

impl Secret {
    /// The secret with these bits.
    pub const fn new(bits: u128) -> Secret {
        Secret(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How far a client got: the last response that it has, and the context after it. From here any server can go on
/// [FK:exactly-once].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The number of the last response; 0 before the first.
    pub responses: u64,
    /// How many requests the context reflects.
    pub requests: u64,
    /// The context after that response and those requests, as the service encodes it, behind its edition and history.
    pub context: Bytes,
}

impl Cursor {
    /// Where a new session on this edition begins.
    pub(crate) fn beginning(edition: Edition) -> Cursor {
        Cursor { responses: 0, requests: 0, context: unopened(edition) }
    }
}

/// From where a server goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The client has nothing yet.
    Beginning,
    /// The client has this much.
    After(Cursor),
    /// Nobody knows what the client has: wherever the server is.
    Anywhere,
}

impl Resume {
    /// The number of the client's last response, if that is known.
    pub fn responses(&self) -> Option<u64> {
        match self {
            Resume::Beginning => Some(0),
            Resume::After(cursor) => Some(cursor.responses),
            Resume::Anywhere => None,
        }
    }
}

/// Multicast in the service group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceMessage {
    /// The sender holds these units, and no others.
    Holds {
        /// All that it holds.
        units: Vec<UnitInfo>,
    },
    /// A gateway asks which units there are; one server answers, chosen by the query number.
    List {
        /// Who asks.
        gateway: GatewayId,
        /// Which question of that gateway; a repeated question has a new number and so reaches another server.
        query: u64,
    },
}

/// Multicast in a content group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContentMessage {
    /// A client wants a session [FK:start-session]. Repeating it is harmless.
    Start {
        /// Chosen by the gateway.
        session: SessionId,
        /// What the client will show.
        secret: Secret,
        /// Where the client is.
        gateway: GatewayId,
    },
    /// The client of a session is now at this gateway.
    Attach {
        /// The session.
        session: SessionId,
        /// What the client showed.
        secret: Secret,
        /// Where the client is.
        gateway: GatewayId,
    },
    /// A primary tells what became of its sessions: one message for all of them, each period [FK:propagate].
    Propagate {
        /// The sessions that changed.
        updates: Vec<Update>,
    },
    /// A gateway asks after a session whose server it has lost. The primary claims the session again, or the gateway is
    /// told that there is none, or that its client is elsewhere.
    Inquire {
        /// The session.
        session: SessionId,
        /// What the client showed.
        secret: Secret,
        /// Who asks.
        gateway: GatewayId,
        /// The greatest fence that it has seen. A session whose copies with that fence are lost needs one above it, and has
        /// its client here.
        fence: Fence,
    },
    /// A gateway was told that nobody knows this session, and brings a cursor of it that this cluster sealed. Where the
    /// unit allows it, the session goes on from there.
    Rebuild {
        /// The session.
        session: SessionId,
        /// What the client showed. The seal says that it is the session's.
        secret: Secret,
        /// Where the client is.
        gateway: GatewayId,
        /// How far it got; nothing: it has nothing yet.
        cursor: Option<Cursor>,
    },
    /// A gateway has heard nothing from the primary of a session for too long, although something is due. The session
    /// is moved to another server.
    Stalled {
        /// The session.
        session: SessionId,
        /// What the client showed.
        secret: Secret,
        /// Who complains.
        gateway: GatewayId,
        /// The greatest fence that it has seen. Of a primary that it has never heard of, it has to complain twice.
        fence: Fence,
    },
    /// The session is over.
    End {
        /// The session.
        session: SessionId,
        /// What the client showed.
        secret: Secret,
        /// Who wants to know.
        gateway: Option<GatewayId>,
    },
    /// Nobody came for the session in time: it is over, unless its client is at another gateway by now.
    Expire {
        /// The session.
        session: SessionId,
        /// Where its client was.
        gateway: GatewayId,
    },
    /// An operator wants the session elsewhere.
    Move {
        /// The session.
        session: SessionId,
        /// To which server; nobody in particular: away from where it is.
        to: Option<ProcessId>,
        /// Which order of the sender's this is, for its answer.
        ticket: u64,
    },
    /// An operator wants another policy for the unit.
    Adjust {
        /// What is to be different.
        change: PolicyChange,
        /// Which order of the sender's this is, for its answer.
        ticket: u64,
    },
    /// An operator wants new sessions to be opened on another edition.
    Publish {
        /// Its number.
        edition: u32,
        /// Which order of the sender's this is, for its answer.
        ticket: u64,
    },
    /// The sender holds these editions of the unit now, and no others.
    Holds {
        /// All that it holds.
        editions: BTreeSet<Edition>,
        /// Which order of the sender's this is, for its answer.
        ticket: u64,
    },
    /// An operator founds the unit's shared state among those who are here.
    Found {
        /// Whether it is founded already, and goes on with those who are here whoever else has it.
        anew: bool,
        /// Which order of the sender's this is, for its answer.
        ticket: u64,
    },
    /// All members have come to this view with the same shared state, once all have this [PB:view-change].
    Settle {
        /// The view in which it is said, and counts.
        view: GroupViewId,
    },
    /// What all members have come to this view with counts as changed in it. Said once they are known to have.
    Adopt {
        /// The view in which it is said, and counts.
        view: GroupViewId,
    },
    /// A session's request to the shared state. Repeating it is harmless [PB:at-most-once].
    Update {
        /// The view in which it is said, and counts [PB:forward].
        view: GroupViewId,
        /// The session.
        session: SessionId,
        /// Which of its requests.
        number: u64,
        /// The request.
        operation: Bytes,
    },
    /// The database of one class of replicas, told to those who may have another [FK:state-exchange].
    State {
        /// The view in which it is told.
        view: GroupViewId,
        /// The replicas that have this very database.
        class: Vec<ProcessId>,
        /// Which part this is, from 0.
        part: u32,
        /// Of how many.
        parts: u32,
        /// The part.
        share: Share,
    },
    /// The sender means to take on this much from here on.
    Intend {
        /// How much.
        intent: Intent,
        /// Which order of the sender's this is, for its answer.
        ticket: u64,
    },
    /// An operator closes the session.
    Dismiss {
        /// The session.
        session: SessionId,
        /// Which order of the sender's this is, for its answer.
        ticket: u64,
    },
    /// The service cannot go on with the session, as its primary says.
    Fail {
        /// The session.
        session: SessionId,
        /// The primary's fence. Whoever has replaced it tries for himself.
        fence: Fence,
    },
}

impl ContentMessage {
    /// How surely the others are to have it when it is delivered.
    pub(crate) fn level(&self) -> Level {
        if self.settles().is_some() { Level::Safe } else { Level::Agreed }
    }

    /// Whether who said it, a gateway, says it again until it is answered.
    pub(crate) fn is_asked_again(&self) -> bool {
        matches!(
            self,
            ContentMessage::Start { .. }
                | ContentMessage::Attach { .. }
                | ContentMessage::Inquire { .. }
                | ContentMessage::Rebuild { .. }
                | ContentMessage::Stalled { .. }
        )
    }

    /// If all members have it: the view in which they have all that was said before it too, and whether that is all
    /// that they came to the view with.
    pub(crate) fn settles(&self) -> Option<(GroupViewId, bool)> {
        if let ContentMessage::Settle { view } | ContentMessage::Adopt { view } = self {
            Some((*view, true))
        } else if let ContentMessage::Update { view, .. } = self {
            Some((*view, false))
        } else {
            None
        }
    }
}

/// Multicast in a session group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionMessage {
    /// The client's request number `number`, from 1.
    Request {
        /// Applied once, in the order of the numbers.
        number: u64,
        /// What the service is to do, in the service's own encoding.
        operation: Bytes,
    },
    /// The primary's next responses, in units with output commit. The group has them when it has this, and the client
    /// is sent them no sooner. Without responses: that the sender is the primary from here on, or a point that all
    /// before it has been had by the group [VMFT:output-commit].
    Commit {
        /// The primary's fence. After a commit under a greater one it counts no more.
        fence: Fence,
        /// The number of the first response.
        first: u64,
        /// The responses.
        responses: Vec<Committed>,
    },
    /// The sender is new in the group, and asks what it has missed.
    Ask {
        /// The view of the group in which it asks.
        view: GroupViewId,
    },
    /// What the sender has of the session, for members that are new.
    Standing(Standing),
}

/// A response that the session group has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// How many requests the context reflects.
    pub requests: u64,
    /// The context after the response and those requests.
    pub context: Bytes,
    /// What the client gets.
    pub payload: Bytes,
    /// Nothing follows unless a request changes that.
    pub last: bool,
}

impl Committed {
    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        response_bytes(&self.payload, &self.context)
    }

    /// A client's position right after it, by its number.
    pub(crate) fn cursor(&self, responses: u64) -> Cursor {
        Cursor { responses, requests: self.requests, context: self.context.clone() }
    }

    /// Whether it was committed to a session with this history.
    pub(crate) fn follows_on(&self, history: History) -> bool {
        split(&self.context).is_some_and(|(head, context)| {
            head.history == history.then(self.requests, context, &self.payload)
        })
    }
}

/// What one member of a session group has of the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Who asked for it, and in which view; nobody, if it is told unasked. What was said before somebody asked may be on its
    /// way still, and says nothing of what was committed meanwhile.
    pub answers: Option<(ProcessId, GroupViewId)>,
    /// Whether it has all that was committed; not so if it is new itself.
    pub knows: bool,
    /// The greatest fence under which anything was multicast as committed.
    pub reign: Fence,
    /// The fence under which the last response was committed.
    pub fence: Fence,
    /// Its context.
    pub cursor: Cursor,
    /// The last committed responses with their numbers, up to the cursor's. Some may be missing, and not all of them need
    /// follow on each other.
    pub kept: Vec<(u64, Committed)>,
    /// Responses up to this number were committed, and are not among them for want of room.
    pub forgotten: u64,
    /// The last requests that were delivered.
    pub requests: Vec<Remembered>,
}

/// A request that was delivered, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Which.
    pub number: u64,
    /// What the service is to do.
    pub operation: Bytes,
    /// What the service said, if it was applied.
    pub outcome: Option<Result<(), Refusal>>,
}

/// A response on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The client's position after it.
    pub cursor: Cursor,
    /// What the client gets.
    pub payload: Bytes,
    /// Nothing follows unless a request changes that.
    pub last: bool,
}

/// Sent by a content server to a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToGateway {
    /// The sender is primary of the session now, and asks how far the client got.
    Claim {
        /// The unit.
        unit: UnitId,
        /// The session.
        session: SessionId,
        /// The right to serve: the greatest fence wins.
        fence: Fence,
        /// How many requests the claimant has applied.
        requests: u64,
    },
    /// The stream begins: what follows is this server's.
    Started {
        /// The session.
        session: SessionId,
        /// The stream that the gateway named.
        stream: u64,
        /// Requests that had been acknowledged and of which the context knows nothing.
        requests_lost: u64,
        /// Where it begins.
        cursor: Cursor,
        /// It begins there wherever the client is: by the unit's policy, nobody asked.
        uncertain: bool,
        /// Both sides of a partition served the session, and here they are one again.
        merged: bool,
        /// All servers had forgotten the session, and it is made anew from its client's cursor.
        rebuilt: bool,
    },
    /// The next responses, of which there is one at least.
    Responses {
        /// The session.
        session: SessionId,
        /// The stream that they belong to.
        stream: u64,
        /// One after the other.
        responses: Vec<Response>,
    },
    /// A request was applied, or refused by the service.
    Applied {
        /// The session.
        session: SessionId,
        /// The stream that it belongs to.
        stream: u64,
        /// The request.
        number: u64,
        /// What the service said.
        outcome: Result<(), Refusal>,
        /// The client's position after it.
        cursor: Cursor,
    },
    /// The server has had nothing to send for a while, and goes on to have nothing. Who neither sends nor rests hangs.
    Rests {
        /// The session.
        session: SessionId,
        /// The stream that it belongs to.
        stream: u64,
        /// For how long; without a time, until a request comes.
        time: Option<Duration>,
    },
    /// The server serves the session no more, and does not know of anybody who does.
    Suspended {
        /// The session.
        session: SessionId,
    },
    /// The session is over.
    Ended {
        /// The session.
        session: SessionId,
    },
    /// The session cannot be attached to.
    Refused {
        /// The session.
        session: SessionId,
        /// Why.
        reason: AttachRefusal,
    },
    /// The client of this session has attached through another gateway.
    Moved {
        /// The session.
        session: SessionId,
    },
    /// The units there are, in answer to a question.
    Units {
        /// Which question.
        query: u64,
        /// All units that some server holds, by id.
        units: Vec<UnitInfo>,
    },
}

impl ToGateway {
    /// Says a response, in one message with those before it if nothing was said in between.
    pub fn respond(said: &mut Vec<ToGateway>, session: SessionId, stream: u64, response: Response) {
        let place = (session, stream);
        match said.last_mut() {
            Some(ToGateway::Responses { session, stream, responses }) if (*session, *stream) == place => {
                responses.push(response);
            }
            Some(_) | None => {
                said.push(ToGateway::Responses { session, stream, responses: Vec::from([response]) });
            }
        }
    }
}

/// Sent by a gateway to a content server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToServer {
    /// The claim is granted. Replaces any stream before it.
    Serve {
        /// The session.
        session: SessionId,
        /// The fence of the claim.
        fence: Fence,
        /// The new stream's number, to be repeated in all that belongs to it.
        stream: u64,
        /// From where.
        resume: Resume,
        /// How much may be sent beyond what the cursor, or the server's own count, has; `None` while no client is
        /// attached.
        credit: Option<Credit>,
        /// Requests from this number on are repeated, by the gateway or by the client; those before it were
        /// acknowledged.
        repeats_from: u64,
    },
    /// The client took responses; the server may send more.
    Credit {
        /// The session.
        session: SessionId,
        /// The stream.
        stream: u64,
        /// The highest response number allowed, and the bytes of all responses of the stream.
        up_to: Credit,
    },
    /// The claim is refused: somebody has a greater fence.
    Fenced {
        /// The session.
        session: SessionId,
        /// The fence of the claim.
        fence: Fence,
    },
    /// This gateway knows nothing of the session.
    Unknown {
        /// The session.
        session: SessionId,
    },
}

/// Why a session cannot be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachRefusal {
    /// No such session: never opened, ended long ago, or forgotten with all its servers.
    Unknown,
    /// The session was closed.
    Ended,
    /// The secret is another session's.
    WrongSecret,
    /// The session's client is at another gateway.
    Elsewhere,
    /// The client's cursor has a context that is not one of the service's.
    BadCursor,
    /// No such session, and the unit does not make sessions anew.
    Forgotten,
    /// The service could not go on with the session, which is over.
    Failed,
}

impl fmt::Display for AttachRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttachRefusal::Unknown => "there is no such session: it was never opened, or nobody remembers it",
            AttachRefusal::Ended => "the session has ended",
            AttachRefusal::WrongSecret => "the secret is not this session's",
            AttachRefusal::Elsewhere => "the session's client is at another gateway",
            AttachRefusal::BadCursor => "the context in the cursor is not one of the service's",
            AttachRefusal::Failed => "the service failed in the session, which has ended",
            AttachRefusal::Forgotten => "nobody remembers the session, and its unit makes none anew",
        })
    }
}

/// A group message that is not ours, or not of our version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first byte names another version.
    #[error("message of version {found}, expected {VERSION}")]
    Version {
        /// What it says.
        found: u8,
    },
    /// The bytes are not such a message.
    #[error("malformed message: {0}")]
    Malformed(String),
}

const VERSION: u8 = 1;

/// Encodes a group message.
pub(crate) fn encode<M: Serialize>(message: &M) -> Bytes {
    let encoded = postcard::to_extend(message, Vec::from([VERSION]));
    assert!(encoded.is_ok(), "group messages are plain data");
    Bytes::from(encoded.unwrap_or_default())
}

/// Decodes a group message.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, DecodeError> {
    match bytes.split_first() {
        None => Err(DecodeError::Malformed("empty".into())),
        Some((&VERSION, body)) => {
            postcard::from_bytes(body).map_err(|error| DecodeError::Malformed(alloc::format!("{error}")))
        }
        Some((&found, _)) => Err(DecodeError::Version { found }),
    }
}
