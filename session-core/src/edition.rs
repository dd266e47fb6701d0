//! Editions of a content unit. Content does not change while it is served [FK:static]: what changes is which edition new sessions
//! are opened on. A session stays with its own, and so a context is always told together with the edition that it is of, and
//! with the [`History`] that led to it.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use model::{Digest, UnitId};
use postcard::ser_flavors::Size;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An edition of some unit's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Edition {
    /// Later ones have greater numbers.
    pub number: u32,
    /// A fingerprint of the content, so that no two servers serve different content as the same edition.
    pub digest: Digest,
}

impl Edition {
    /// The only one, of content that never changes or is known by nothing but its unit.
    pub const ONLY: Edition = Edition { number: 1, digest: Digest::EMPTY };
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

/// Content: an edition of a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentId {
    /// The unit.
    pub unit: UnitId,
    /// Which edition of it.
    pub edition: Edition,
}

impl ContentId {
    /// The content of a unit that has only this.
    pub fn only(unit: UnitId) -> ContentId {
        ContentId { unit, edition: Edition::ONLY }
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ContentId { unit, edition } = self;
        if edition.number == 1 { write!(f, "{unit}") } else { write!(f, "{unit}@{edition}") }
    }
}

/// The committed responses that led to a context, as a fingerprint: two contexts after as many responses go on from each
/// other if theirs are the same, and if not, clients were told different things on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History(u64);

impl History {
    /// That of a session to which nothing was committed.
    pub(crate) const NONE: History = History(0);

    /// One more response was committed: after so many requests it left this context, encoded.
    pub(crate) fn then(self, requests: u64, context: &[u8], payload: &[u8]) -> History {
        let numbers = [self.0, requests, context.len() as u64].map(u64::to_le_bytes);
        History(Digest::of(numbers.as_flattened()).and(context).and(payload).bits())
    }
}

/// What a context travels behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) edition: Edition,
    pub(crate) history: History,
}

impl Head {
    /// That of a context which nothing was committed to.
    pub(crate) fn new(edition: Edition) -> Head {
        Head { edition, history: History::NONE }
    }
}

/// A context as it travels.
pub(crate) fn encode_context<C: Serialize>(head: Head, context: &C) -> Bytes {
    Bytes::from(encoded(&(head, context)))
}

/// The context that a response left, as it travels: behind the history that ends with the response.
pub(crate) fn encode_committed<C: Serialize>(
    before: Head,
    context: &C,
    requests: u64,
    payload: &[u8],
) -> Bytes {
    let context = encoded(context);
    let head = Head { history: before.history.then(requests, &context, payload), ..before };
    Bytes::from([encoded(&head), context].concat())
}

/// What most contexts fit into, in bytes: with every response one is encoded.
const ROOM: usize = 64;

fn encoded(value: &impl Serialize) -> Vec<u8> {
    let encoded = postcard::to_extend(value, Vec::with_capacity(ROOM));
    assert!(encoded.is_ok(), "contexts are plain data");
    encoded.unwrap_or_default()
}

/// How many bytes a service's context takes.
pub(crate) fn size_of(context: &impl Serialize) -> usize {
    postcard::serialize_with_flavor(context, Size::default()).unwrap_or(usize::MAX)
}

/// The context of a session that nobody has opened yet: that of a new session on this edition, whatever that is. Replicas
/// of the unit database that do not hold the edition can tell it too.
pub(crate) fn unopened(edition: Edition) -> Bytes {
    Bytes::from(encoded(&Head::new(edition)))
}

/// What a context travels behind, and the rest; nothing if the bytes are not a context.
pub(crate) fn split(bytes: &[u8]) -> Option<(Head, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

/// The edition that a context is of; nothing if the bytes are not a context.
pub(crate) fn edition_of(bytes: &[u8]) -> Option<Edition> {
    split(bytes).map(|(head, _)| head.edition)
}

/// The history that led to a context.
pub(crate) fn history_of(bytes: &[u8]) -> History {
    split(bytes).map_or(History::NONE, |(head, _)| head.history)
}

/// Reads a context that travelled; `open` makes one of a session that nobody has opened. Nothing if it is not one.
pub(crate) fn decode_context<C: DeserializeOwned>(bytes: &[u8], open: impl FnOnce() -> C) -> Option<C> {
    let (_, context) = split(bytes)?;
    if context.is_empty() { Some(open()) } else { postcard::from_bytes(context).ok() }
}
