//! A client's cursor as the client holds it: opaque bytes that bring it back to right after a response, at any
//! gateway [FK:cursor].
//!
//! A version byte, then the session and its position, encoded with postcard. The session is in it so that a mix-up
//! of two sessions is found here and not at a content service.

use bytes::Bytes;
use model::SessionId;
use serde::{Deserialize, Serialize};
use session_core::message::{Cursor, Resume};

const VERSION: u8 = 1;
/// The longest cursor: a context of the greatest size, with room to spare.
pub(crate) const CURSOR_BYTES_MAX: usize = 8 * 1024;
/// No session gets this far. Numbers beyond it are made up.
pub(crate) const NUMBER_MAX: u64 = 1 << 48;

/// What is wrong with a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    #[error("is not a cursor")]
    Malformed,
    #[error("is a cursor of version {found}, and this gateway reads version {VERSION}")]
    Version { found: u8 },
    #[error("is a cursor of another session")]
    AnotherSession,
}

#[derive(Serialize, Deserialize)]
struct Content {
    session: u128,
    /// Nothing stands for the beginning.
    cursor: Option<Cursor>,
}

/// The cursor as the client gets it with a response.
pub(crate) fn encode(session: SessionId, cursor: Cursor) -> Bytes {
    written(session, Some(cursor))
}

/// The cursor of a client that has nothing yet.
pub(crate) fn beginning(session: SessionId) -> Bytes {
    written(session, None)
}

fn written(session: SessionId, cursor: Option<Cursor>) -> Bytes {
    let content = Content { session: session.bits(), cursor };
    let encoded = postcard::to_extend(&content, vec![VERSION]);
    assert!(encoded.is_ok(), "cursors are plain data");
    Bytes::from(encoded.unwrap_or_default())
}

/// Reads what a client of `session` brings. Without a cursor it does not say where it is.
pub(crate) fn decode(session: SessionId, bytes: &[u8]) -> Result<Resume, CursorError> {
    let Some((&version, body)) = bytes.split_first() else { return Ok(Resume::Anywhere) };
    if version != VERSION {
        return Err(CursorError::Version { found: version });
    }
    if bytes.len() > CURSOR_BYTES_MAX {
        return Err(CursorError::Malformed);
    }
    let (content, rest): (Content, _) =
        postcard::take_from_bytes(body).map_err(|_| CursorError::Malformed)?;
    let Content { session: of, cursor } = content;
    if of != session.bits() {
        return Err(CursorError::AnotherSession);
    }
    if !rest.is_empty() {
        return Err(CursorError::Malformed);
    }
    match cursor {
        None => Ok(Resume::Beginning),
        Some(cursor) if cursor.responses.max(cursor.requests) > NUMBER_MAX => Err(CursorError::Malformed),
        Some(cursor) => Ok(Resume::After(cursor)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId::new(7);

    fn cursor() -> Cursor {
        Cursor { responses: 41, requests: 3, context: Bytes::from_static(b"context") }
    }

    #[test]
    fn a_cursor_reads_back_in_its_session() {
        let bytes = encode(SESSION, cursor());
        assert_eq!(decode(SESSION, &bytes), Ok(Resume::After(cursor())));
        assert_eq!(decode(SESSION, &beginning(SESSION)), Ok(Resume::Beginning));
        assert_eq!(decode(SESSION, &[]), Ok(Resume::Anywhere));
        for bytes in [bytes, beginning(SESSION)] {
            assert_eq!(decode(SessionId::new(8), &bytes), Err(CursorError::AnotherSession));
        }
    }

    #[test]
    fn what_is_not_a_cursor_is_refused() {
        let good = encode(SESSION, cursor());
        let with = |change: fn(&mut Vec<u8>)| {
            let mut bytes = good.to_vec();
            change(&mut bytes);
            decode(SESSION, &bytes)
        };
        assert_eq!(with(|bytes| bytes[0] = 9), Err(CursorError::Version { found: 9 }));
        assert_eq!(with(|bytes| bytes.truncate(10)), Err(CursorError::Malformed));
        assert_eq!(with(|bytes| bytes.push(0)), Err(CursorError::Malformed));
        assert_eq!(with(|bytes| bytes.resize(CURSOR_BYTES_MAX + 1, 0)), Err(CursorError::Malformed));
        let made_up = Cursor { responses: u64::MAX, ..cursor() };
        assert_eq!(decode(SESSION, &encode(SESSION, made_up)), Err(CursorError::Malformed));
    }

    #[test]
    fn corrupted_cursors_are_refused_or_read_back() {
        let samples = [encode(SESSION, cursor()).to_vec(), beginning(SESSION).to_vec()];
        fuzz::bytes(fuzz::target!(), &samples, |bytes| match decode(SESSION, bytes) {
            Ok(Resume::After(cursor)) => {
                assert_eq!(decode(SESSION, &encode(SESSION, cursor.clone())), Ok(Resume::After(cursor)));
                true
            }
            Ok(Resume::Beginning | Resume::Anywhere) => true,
            Err(_) => false,
        });
    }
}
