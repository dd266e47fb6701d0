//! What a service builder writes: a few deterministic functions over the context of a session [FK:context].
//!
//! The framework runs [`ContentService::apply`] at the primary and at every backup, and [`ContentService::next`] at the
//! primary alone. Both see the context by value and nothing else that changes: no clock but `now`, no state of their
//! own. Content does not change: a new [`Edition`] of a unit is other content.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use dyn_clone::DynClone;
use model::{Level, Time, UnitId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::edition::{ContentId, Edition};

/// A content service: stateless functions over contexts, and the content behind them. `examples/tally.rs` is a complete
/// one of the smallest size, `docs/writing-a-service.md` goes through it, and `rehearsal::rehearse` checks in a unit test
/// that a service keeps to what is demanded here.
pub trait ContentService {
    /// What the service remembers of a session. Small: it travels with every response, and its encoding may not
    /// exceed `Params::context_bytes_max`. A request that would make it larger is refused, a response that does ends the
    /// session.
    type Context: Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned;

    /// The content held here, to be told to clients: of each unit one edition or more. A server tells the others
    /// in one message, and daemons take no more than 1 MiB: that is 2,000 units with titles of 256 bytes.
    fn units(&self) -> Vec<UnitInfo>;

    /// The context of a new session on `content`. The same at every server that holds it.
    fn open(&self, content: &ContentId) -> Self::Context;

    /// Applies a client's request to the context. Deterministic: it runs at the primary and at every backup, and must
    /// come to the same verdict at each. A backup calls [`ContentService::next`] never, and knows what that did to the
    /// context no sooner than the primary propagates it: whether a request is refused may not depend on it. What a
    /// refused request did to the context is undone. Where a server catches a panic, the request is refused for it.
    ///
    /// # Errors
    /// A [`Refusal`] goes back to the client.
    fn apply(&self, content: &ContentId, context: &mut Self::Context, request: &[u8]) -> Result<(), Refusal>;

    /// How surely the session group has each response before its client is sent it, at least. By default it need not:
    /// that is right for a service whose [`ContentService::next`] follows from context and content. One that draws
    /// random numbers, or asks somebody, demands [`Level::Safe`], and then response number *n* of a session is what it
    /// was when it was first sent, whoever sends it again.
    fn commit(&self, _content: &ContentId) -> Option<Level> {
        None
    }

    /// The state that all sessions on `content` share, as it is founded; nothing: there is none, as for most content.
    /// Where there is one, every request is carried out on it first, by all servers of the unit in one order, and
    /// [`ContentService::apply`] is given what came of that in the place of the request, once it is certain: one
    /// request for each response, or more while there is nothing to send.
    fn shared(&self, _content: &ContentId) -> Option<Box<dyn SharedState>> {
        None
    }

    /// The shared state that a [snapshot](SharedState::snapshot) was taken of; nothing if it is none.
    fn restore(&self, _content: &ContentId, _snapshot: &[u8]) -> Option<Box<dyn SharedState>> {
        None
    }

    /// What the primary does next, and the context after it. Called again after each response, each request, and
    /// whenever a time that it asked for has come. Where a server catches a panic, the session is over, as with [`Next::Fail`].
    fn next(&self, content: &ContentId, context: &mut Self::Context, now: Time) -> Next;

    /// One context of two, for a session that both sides of a partition served. `None`: the context that reflects more
    /// requests is taken, and the other one dropped. Without a word of its own, a service never asks for more.
    ///
    /// All replicas come to the same context whichever way they meet, so this has to be commutative, associative and
    /// idempotent, and to use nothing but what it is given. What the client's own cursor has is merged in as well. Each
    /// side has applied requests that the other has not, and those that both have may be in both contexts.
    fn merge(
        &self,
        _content: &ContentId,
        _one: &Self::Context,
        _other: &Self::Context,
    ) -> Option<Self::Context> {
        None
    }

    /// Whether a client cannot do without this response, as a film cannot without the pictures that others build on. It
    /// makes a difference only where the policy of the unit is [`Uncertain::Essential`](crate::Uncertain::Essential).
    fn is_essential(&self, _content: &ContentId, _response: &[u8]) -> bool {
        true
    }
}

/// State that all sessions on a unit share: a deterministic state machine, the same at all servers of the unit.
pub trait SharedState: fmt::Debug + Send + DynClone {
    /// Carries out a request of some session, and says what came of it. Whatever a client may send has to be answered,
    /// also what is not understood.
    fn update(&mut self, request: &[u8]) -> Bytes;

    /// All of it, for a server that is new.
    fn snapshot(&self) -> Bytes;
}

dyn_clone::clone_trait_object!(SharedState);

/// How long a response may be, in bytes. A server sends a gateway several in one message, and one that is committed goes
/// through the group first, where messages are shorter.
pub const fn response_bytes_max(commit: Option<Level>) -> usize {
    match commit {
        None => 1 << 20,
        Some(_) => 1 << 19,
    }
}

/// What a primary does next in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Sends this response at once. `last`: nothing follows unless a request changes that.
    Respond {
        /// The response, as the client gets it. At most [`response_bytes_max`] bytes: a longer one ends the session.
        payload: Bytes,
        /// Whether the content is at its end.
        last: bool,
    },
    /// Nothing before this time; the context is unchanged.
    At(Time),
    /// Nothing before a request comes; the context is unchanged.
    Idle,
    /// Nothing ever, for the service cannot go on: the session is over, and its client is told that the service failed.
    Fail {
        /// What is wrong, for who looks into the server's log.
        why: String,
    },
}

/// Why a request was not applied. The client gets both parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind of mistake.
    pub kind: RefusalKind,
    /// What is wrong, in a sentence for the client's developer.
    pub message: String,
}

impl Refusal {
    /// The request cannot be understood.
    pub fn malformed(message: impl fmt::Display) -> Refusal {
        Refusal { kind: RefusalKind::Malformed, message: message.to_string() }
    }

    /// The request asks for something beyond the content.
    pub fn out_of_range(message: impl fmt::Display) -> Refusal {
        Refusal { kind: RefusalKind::OutOfRange, message: message.to_string() }
    }

    /// The request makes no sense in the present context.
    pub fn precondition(message: impl fmt::Display) -> Refusal {
        Refusal { kind: RefusalKind::Precondition, message: message.to_string() }
    }

    /// The request is none of these, and the service failed on it.
    pub fn failed(message: impl fmt::Display) -> Refusal {
        Refusal { kind: RefusalKind::Failed, message: message.to_string() }
    }
}

/// The kinds of mistakes in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalKind {
    /// The request cannot be understood.
    Malformed,
    /// The request asks for something beyond the content, such as a position after its end.
    OutOfRange,
    /// The request makes no sense in the present context.
    Precondition,
    /// The mistake is the service's.
    Failed,
}

/// A content unit in one edition, as clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitInfo {
    /// Its id.
    pub unit: UnitId,
    /// The edition.
    pub edition: Edition,
    /// A title for people.
    pub title: String,
    /// The media type of each response, such as `application/json`; of a film, that of all of them put together.
    pub media_type: String,
    /// How long it plays at rate 1.
    pub duration: Duration,
    /// Its size, in bytes.
    pub size: u64,
}

impl UnitInfo {
    /// A unit of one edition, without a length or a size that would tell anybody anything.
    pub fn new(unit: UnitId, title: &str, media_type: &str) -> UnitInfo {
        let (title, media_type) = (String::from(title), String::from(media_type));
        let edition = Edition::ONLY;
        UnitInfo { unit, edition, title, media_type, duration: Duration::ZERO, size: 0 }
    }
    /// The content that this is about.
    pub fn content(&self) -> ContentId {
        ContentId { unit: self.unit.clone(), edition: self.edition }
    }
}
