//! The attached client of a session, and how much it may be sent.

use super::interface::Attachment;
use crate::credit::Credit;

/// The attached client. Bytes are counted from its attachment on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) attachment: Attachment,
    /// The last response that its stream has taken, and the bytes of all that it has taken.
    consumed: u64,
    consumed_bytes: u64,
    /// The last response that the server may send, and the bytes of all that it may.
    granted: u64,
    granted_bytes: u64,
    /// The bytes of all responses that it was passed.
    passed_bytes: u64,
    /// As many of them had been passed when the present stream of a server was opened.
    bytes_before: u64,
}

impl Reader {
    /// A client that has the responses up to this one.
    pub(super) fn new(attachment: Attachment, responses: u64) -> Reader {
        Reader {
            attachment,
            consumed: responses,
            consumed_bytes: 0,
            granted: responses,
            granted_bytes: 0,
            passed_bytes: 0,
            bytes_before: 0,
        }
    }

    /// A stream is opened to a server, after this response if that is known. Returns how much it may send. The client's
    /// window counts from what it has taken, so that no row of takeovers can flood it.
    pub(super) fn open_stream(&mut self, from: Option<u64>, window: Credit) -> Credit {
        let from = from.unwrap_or(self.consumed);
        let responses = self.consumed.saturating_add(window.responses).saturating_sub(from);
        let bytes = self.consumed_bytes.saturating_add(window.bytes).saturating_sub(self.passed_bytes);
        self.granted = from.saturating_add(responses);
        self.granted_bytes = self.passed_bytes.saturating_add(bytes);
        self.bytes_before = self.passed_bytes;
        Credit { responses, bytes }
    }

    /// The stream goes on after response `to`, and not after response `from`, where the client was. So does its window.
    pub(super) fn shift(&mut self, from: Option<u64>, to: u64) {
        let from = from.unwrap_or(self.consumed);
        let shifted = |number: u64| number.saturating_add(to).saturating_sub(from);
        (self.consumed, self.granted) = (shifted(self.consumed), shifted(self.granted));
    }

    /// The bytes that wait for its stream to take them.
    pub(super) fn buffered(&self) -> u64 {
        self.passed_bytes.saturating_sub(self.consumed_bytes)
    }

    /// Whether a server may send the response of this number, after all that was passed.
    pub(super) fn has_room_for(&self, response: u64) -> bool {
        response <= self.granted && self.passed_bytes < self.granted_bytes
    }

    /// The client is passed a response.
    pub(super) fn pass(&mut self, bytes: usize) {
        self.passed_bytes = self.passed_bytes.saturating_add(bytes as u64);
    }

    /// The client's stream has taken the responses up to this one, if its number is still of interest, and this many
    /// bytes in all.
    pub(super) fn consume(&mut self, responses: Option<u64>, bytes: u64) {
        self.consumed = self.consumed.max(responses.unwrap_or(0));
        self.consumed_bytes = self.consumed_bytes.max(bytes.min(self.passed_bytes));
    }

    /// How far the server may go now, if that is worth a message: half a window more.
    pub(super) fn top_up(&mut self, window: Credit) -> Option<Credit> {
        let responses = self.consumed.saturating_add(window.responses);
        let bytes = self.consumed_bytes.saturating_add(window.bytes);
        let is_worth =
            |now: u64, granted: u64, window: u64| now.saturating_sub(granted) >= (window / 2).max(1);
        if !is_worth(responses, self.granted, window.responses)
            && !is_worth(bytes, self.granted_bytes, window.bytes)
        {
            return None;
        }
        (self.granted, self.granted_bytes) = (responses.max(self.granted), bytes.max(self.granted_bytes));
        Some(Credit { responses: self.granted, bytes: self.granted_bytes.saturating_sub(self.bytes_before) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Credit = Credit { responses: 100, bytes: 1000 };

    #[test]
    fn a_window_of_bytes_opens_again_by_halves_as_they_are_taken() {
        let mut reader = Reader::new(Attachment(1), 7);
        assert_eq!(reader.open_stream(Some(7), WINDOW), WINDOW);
        (0..4).for_each(|_| reader.pass(300));
        assert_eq!(reader.top_up(WINDOW), None);
        reader.consume(Some(8), 300);
        assert_eq!(reader.top_up(WINDOW), None);
        reader.consume(Some(9), 600);
        assert_eq!(reader.top_up(WINDOW), Some(Credit { responses: 109, bytes: 1600 }));
        // The next server begins with what the client has not taken of the one before.
        assert_eq!(reader.open_stream(Some(11), WINDOW), Credit { responses: 98, bytes: 400 });
        reader.consume(Some(11), 1200);
        assert_eq!(reader.top_up(WINDOW), Some(Credit { responses: 111, bytes: 1000 }));
    }

    #[test]
    fn a_response_that_is_larger_than_the_window_is_followed_by_the_next_once_it_is_taken() {
        let mut reader = Reader::new(Attachment(1), 0);
        reader.open_stream(Some(0), WINDOW);
        reader.pass(5000);
        assert_eq!(reader.top_up(WINDOW), None);
        assert_eq!(reader.open_stream(Some(1), WINDOW).bytes, 0, "nothing fits");
        reader.consume(Some(1), u64::MAX);
        assert_eq!(reader.top_up(WINDOW), Some(Credit { responses: 101, bytes: 1000 }));
    }
}
