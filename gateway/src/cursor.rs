//! A client's cursor as the client holds it: opaque bytes that bring it back to right after a response, at any
//! gateway [FK:cursor].
//!
//! A version byte, then the session and its position, encoded with postcard. The session is in it so that a mix-up
//! of two sessions is found here and not at a content service. Where the cluster has keys, the version is another one, and
//! the bytes are between the name of a key and a code that only this cluster can make.

use bytes::Bytes;
use model::{SessionId, UnitId};
use serde::{Deserialize, Serialize};
use session_core::message::{Cursor, Resume, Secret};

use crate::seal::{Broken, CODE_BYTES, KEY_ID_BYTES, Seals};

const OPEN: u8 = 1;
const SEALED: u8 = 2;
/// The longest cursor: a context of the greatest size, with room to spare.
pub(crate) const CURSOR_BYTES_MAX: usize = 8 * 1024;
/// What most cursors fit into, in bytes: with every response one is written.
const ROOM: usize = 96;
/// No session gets this far. Numbers beyond it are made up.
pub(crate) const NUMBER_MAX: u64 = 1 << 48;

/// What is wrong with a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    #[error("is not a cursor")]
    Malformed,
    #[error("is a cursor of version {found}, which this gateway does not read")]
    Version { found: u8 },
    #[error("is a cursor of another session")]
    AnotherSession,
    #[error("has no seal, and this cluster seals its cursors")]
    Unsealed,
    #[error("was not given to this client in this session as it is")]
    Forged,
    #[error("is sealed with a key that this gateway does not have")]
    UnknownKey,
}

#[derive(Serialize, Deserialize)]
struct Content {
    session: u128,
    /// Nothing stands for the beginning.
    cursor: Option<Cursor>,
}

/// Who holds the cursors of a session.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) unit: UnitId,
    pub(crate) session: SessionId,
    pub(crate) secret: Secret,
}

impl Seals {
    /// The cursor as the client gets it with a response.
    pub(crate) fn cursor(&self, holder: &Holder, cursor: Cursor) -> Bytes {
        self.written(holder, Some(cursor))
    }

    /// The cursor of a client that has nothing yet.
    pub(crate) fn beginning(&self, holder: &Holder) -> Bytes {
        self.written(holder, None)
    }

    fn written(&self, holder: &Holder, cursor: Option<Cursor>) -> Bytes {
        let content = Content { session: holder.session.bits(), cursor };
        let encoded = postcard::to_extend(&content, Vec::with_capacity(ROOM));
        assert!(encoded.is_ok(), "cursors are plain data");
        let content = encoded.unwrap_or_default();
        let secret = holder.secret.bits().to_le_bytes();
        let Some((id, code)) = self.seal(&[holder.unit.as_str().as_bytes(), &secret, &content]) else {
            return Bytes::from([&[OPEN], &content[..]].concat());
        };
        Bytes::from([&[SEALED], &id[..], &content, &code].concat())
    }

    /// Reads what a client brings, and says whether it is sealed. Without a cursor it does not say where it is.
    pub(crate) fn read(&self, holder: &Holder, bytes: &[u8]) -> Result<(Resume, bool), CursorError> {
        let Some((&version, body)) = bytes.split_first() else { return Ok((Resume::Anywhere, false)) };
        if !matches!(version, OPEN | SEALED) {
            return Err(CursorError::Version { found: version });
        }
        if bytes.len() > CURSOR_BYTES_MAX {
            return Err(CursorError::Malformed);
        }
        if version == OPEN {
            let resume = resume(holder, body)?;
            return if self.is_empty() { Ok((resume, false)) } else { Err(CursorError::Unsealed) };
        }
        let sealed = body.split_at_checked(KEY_ID_BYTES);
        let (id, sealed) = sealed.ok_or(CursorError::Malformed)?;
        let end = sealed.len().checked_sub(CODE_BYTES).ok_or(CursorError::Malformed)?;
        let (content, code) = sealed.split_at(end);
        let resume = resume(holder, content)?;
        let secret = holder.secret.bits().to_le_bytes();
        let covered = [holder.unit.as_str().as_bytes(), &secret, content];
        self.check(id, code, &covered).map_err(|broken| match broken {
            Broken::UnknownKey => CursorError::UnknownKey,
            Broken::Forged => CursorError::Forged,
        })?;
        Ok((resume, true))
    }
}

fn resume(holder: &Holder, content: &[u8]) -> Result<Resume, CursorError> {
    let (Content { session, cursor }, rest) =
        postcard::take_from_bytes(content).map_err(|_| CursorError::Malformed)?;
    if session != holder.session.bits() {
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
    use crate::seal::Key;

    fn holder(session: u128) -> Holder {
        let unit = UnitId::new("film-1").unwrap();
        Holder { unit, session: SessionId::new(session), secret: Secret::new(42) }
    }

    fn cursor() -> Cursor {
        Cursor { responses: 41, requests: 3, context: Bytes::from_static(b"context") }
    }

    fn seals(keys: &[char]) -> Seals {
        Seals::new(keys.iter().map(|digit| Key::parse(&digit.to_string().repeat(64)).unwrap()).collect())
    }

    #[test]
    fn a_cursor_reads_back_in_its_session() {
        for (seals, sealed) in [(seals(&[]), false), (seals(&['a']), true)] {
            let bytes = seals.cursor(&holder(7), cursor());
            assert_eq!(seals.read(&holder(7), &bytes), Ok((Resume::After(cursor()), sealed)));
            let beginning = seals.beginning(&holder(7));
            assert_eq!(seals.read(&holder(7), &beginning), Ok((Resume::Beginning, sealed)));
            assert_eq!(seals.read(&holder(7), &[]), Ok((Resume::Anywhere, false)));
            for bytes in [bytes, beginning] {
                assert_eq!(seals.read(&holder(8), &bytes), Err(CursorError::AnotherSession));
            }
        }
    }

    #[test]
    fn what_is_not_a_cursor_is_refused() {
        let seals = seals(&[]);
        let good = seals.cursor(&holder(7), cursor());
        let with = |change: fn(&mut Vec<u8>)| {
            let mut bytes = good.to_vec();
            change(&mut bytes);
            seals.read(&holder(7), &bytes)
        };
        assert_eq!(with(|bytes| bytes[0] = 9), Err(CursorError::Version { found: 9 }));
        assert_eq!(with(|bytes| bytes.truncate(10)), Err(CursorError::Malformed));
        assert_eq!(with(|bytes| bytes.push(0)), Err(CursorError::Malformed));
        assert_eq!(with(|bytes| bytes.resize(CURSOR_BYTES_MAX + 1, 0)), Err(CursorError::Malformed));
        let made_up = Cursor { responses: u64::MAX, ..cursor() };
        let bytes = seals.cursor(&holder(7), made_up);
        assert_eq!(seals.read(&holder(7), &bytes), Err(CursorError::Malformed));
    }

    #[test]
    fn a_sealed_cursor_cannot_be_changed_invented_or_given_away() {
        let seals = seals(&['a']);
        let good = seals.cursor(&holder(7), cursor());
        for place in 1 + KEY_ID_BYTES..good.len() {
            let mut changed = good.to_vec();
            changed[place] ^= 1;
            assert!(seals.read(&holder(7), &changed).is_err(), "byte {place} counts");
        }
        let open = super::tests::seals(&[]).cursor(&holder(7), cursor());
        assert_eq!(seals.read(&holder(7), &open), Err(CursorError::Unsealed));
        let elsewhere = Holder { unit: UnitId::new("film-2").unwrap(), ..holder(7) };
        let somebody = Holder { secret: Secret::new(43), ..holder(7) };
        for holder in [elsewhere, somebody] {
            assert_eq!(seals.read(&holder, &good), Err(CursorError::Forged));
        }
        let others = super::tests::seals(&['b']);
        assert_eq!(others.read(&holder(7), &good), Err(CursorError::UnknownKey));
        assert_eq!(super::tests::seals(&[]).read(&holder(7), &good), Err(CursorError::UnknownKey));
        assert_eq!(
            super::tests::seals(&['b', 'a']).read(&holder(7), &good),
            Ok((Resume::After(cursor()), true))
        );
    }

    #[test]
    fn corrupted_cursors_are_refused_or_read_back() {
        let (open, sealed) = (seals(&[]), seals(&['a']));
        let samples = [&open, &sealed].map(|it| [it.cursor(&holder(7), cursor()), it.beginning(&holder(7))]);
        let samples: Vec<_> = samples.concat().into_iter().map(|it| it.to_vec()).collect();
        fuzz::bytes(fuzz::target!(), &samples, |bytes| {
            let known = samples.iter().any(|sample| sample == bytes);
            assert!(known || bytes.is_empty() || sealed.read(&holder(7), bytes).is_err());
            match open.read(&holder(7), bytes) {
                Ok((Resume::After(cursor), _)) => {
                    let again = open.cursor(&holder(7), cursor.clone());
                    assert_eq!(open.read(&holder(7), &again), Ok((Resume::After(cursor), false)));
                    true
                }
                Ok((Resume::Beginning | Resume::Anywhere, _)) => true,
                Err(_) => false,
            }
        });
    }
}
