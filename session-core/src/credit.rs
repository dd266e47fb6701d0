//! How far a primary may be ahead of its client: by so many responses, and so many bytes of them. What waits at a gateway
//! is bounded that way whether responses are large or small, and small ones are many on their way.

use bytes::Bytes;

/// What a response takes beside its payload and context, about, in bytes.
const OVERHEAD: usize = 256;

/// What a response takes while it waits, in bytes.
pub fn response_bytes(payload: &Bytes, context: &Bytes) -> usize {
    payload.len() + context.len() + OVERHEAD
}

/// How much may be sent. Whoever has some of both left sends one more response, however large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// In responses.
    pub responses: u64,
    /// In bytes, as [`response_bytes`] counts them.
    pub bytes: u64,
}

impl Credit {
    /// Nothing.
    pub const NONE: Credit = Credit { responses: 0, bytes: 0 };

    /// So many responses, of whatever size.
    pub const fn responses(responses: u64) -> Credit {
        Credit { responses, bytes: u64::MAX }
    }
}

/// What a primary may still send in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// The number of the last response, and the bytes of all of the stream.
    up_to: Credit,
    /// The bytes of the stream so far.
    sent: u64,
}

impl Room {
    /// At the beginning of a stream after this response.
    pub(crate) fn after(response: u64, credit: Credit) -> Room {
        let up_to = Credit { responses: response.saturating_add(credit.responses), bytes: credit.bytes };
        Room { up_to, sent: 0 }
    }

    /// Whether there is room for the response after this one.
    pub(crate) fn is_left(&self, response: u64) -> bool {
        self.is_left_beyond(response, 0)
    }

    /// Whether there is, if so many bytes are to be sent before it.
    pub(crate) fn is_left_beyond(&self, response: u64, bytes: usize) -> bool {
        response < self.up_to.responses && self.sent.saturating_add(bytes as u64) < self.up_to.bytes
    }

    /// A response is sent.
    pub(crate) fn use_up(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// A response is left out: its number takes no room.
    pub(crate) fn leave_out(&mut self) {
        self.up_to.responses = self.up_to.responses.saturating_add(1);
    }

    /// The client took some of what was sent.
    pub(crate) fn grow(&mut self, up_to: Credit) {
        self.up_to.responses = self.up_to.responses.max(up_to.responses);
        self.up_to.bytes = self.up_to.bytes.max(up_to.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_one_more_while_some_of_both_is_left() {
        let mut room = Room::after(3, Credit { responses: 2, bytes: 100 });
        assert!(room.is_left(4) && !room.is_left(5));
        assert!(room.is_left_beyond(4, 99) && !room.is_left_beyond(4, 100));
        room.use_up(100);
        assert!(!room.is_left(4));
        room.grow(Credit { responses: 0, bytes: 101 });
        assert!(room.is_left(4) && !room.is_left(5));
        room.leave_out();
        assert!(room.is_left(5) && !room.is_left(6));
        assert!(!Room::after(3, Credit::NONE).is_left(3));
        assert!(Room::after(3, Credit::responses(1)).is_left(3));
    }
}
