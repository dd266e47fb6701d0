//! Editions of a content unit. Content does not change while it is served [FK:static]: what changes is which edition new sessions
//! are opened on. A session stays with its own, and so a context is always told together with the edition that it is of.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use model::{Digest, UnitId};
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

/// A context as it travels: behind its edition.
pub(crate) fn encode_context<C: Serialize>(edition: Edition, context: &C) -> Bytes {
    let encoded = postcard::to_extend(&(edition, context), Vec::new());
    assert!(encoded.is_ok(), "contexts are plain data");
    Bytes::from(encoded.unwrap_or_default())
}

/// How many bytes a service's context takes.
pub(crate) fn size_of(context: &impl Serialize) -> usize {
    postcard::to_extend(context, Vec::new()).map_or(usize::MAX, |bytes| bytes.len())
}

/// The context of a session that nobody has opened yet: that of a new session on this edition, whatever that is. Replicas
/// of the unit database that do not hold the edition can tell it too.
pub(crate) fn unopened(edition: Edition) -> Bytes {
    let encoded = postcard::to_extend(&edition, Vec::new());
    Bytes::from(encoded.unwrap_or_default())
}

/// The edition that a context is of; nothing if the bytes are not a context.
pub(crate) fn edition_of(bytes: &[u8]) -> Option<Edition> {
    postcard::take_from_bytes(bytes).ok().map(|(edition, _)| edition)
}

/// Reads a context that travelled; `open` makes one of a session that nobody has opened. Nothing if it is not one.
pub(crate) fn decode_context<C: DeserializeOwned>(bytes: &[u8], open: impl FnOnce() -> C) -> Option<C> {
    let (_, context) = postcard::take_from_bytes::<Edition>(bytes).ok()?;
    if context.is_empty() { Some(open()) } else { postcard::from_bytes(context).ok() }
}
