//! What makes a cursor the cluster's own: a keyed code over it, so that no client can invent one or change one
//! ([ADR 15](../../docs/adr/0015-a-sealed-cursor-brings-a-forgotten-session-back.md)).
//!
//! The code covers the unit, the session and the secret of the client beside the cursor itself: it is good for the client
//! that it was given to, and for nobody else. Keys rotate: the first one seals, all of them open.

use std::fmt;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::{Digest, Sha256};
use svc_kit::settings;

/// How a sealed text names its key.
pub(crate) const KEY_ID_BYTES: usize = 4;
/// The length of the code.
pub(crate) const CODE_BYTES: usize = 16;

/// A key: 32 random bytes, the same at all gateways of the cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// The key that 64 hexadecimal digits spell.
    pub fn parse(text: &str) -> Option<Key> {
        let mut key = [0; 32];
        hex::decode_to_slice(text, &mut key).ok()?;
        Some(Key(key))
    }

    /// How texts that are sealed with it name it; it gives nothing away.
    fn id(&self) -> [u8; KEY_ID_BYTES] {
        let digest = Sha256::new().chain_update(b"handover cursor key").chain_update(self.0).finalize();
        let mut id = [0; KEY_ID_BYTES];
        id.iter_mut().zip(digest).for_each(|(id, byte)| *id = byte);
        id
    }

    /// The code of nothing so far. Whether a key ends in zeroes or there are none makes no difference to it.
    fn code(&self) -> Hmac<Sha256> {
        let mut key = hmac::digest::Key::<Hmac<Sha256>>::default();
        key.iter_mut().zip(self.0).for_each(|(padded, byte)| *padded = byte);
        Hmac::new(&key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Whoever is shown the settings sees that there is one.
impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(settings::HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let text = String::deserialize(deserializer)?;
        Key::parse(&text).ok_or_else(|| de::Error::custom("must be 64 hexadecimal digits"))
    }
}

/// Why a seal is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is none of these keys'.
    UnknownKey,
    /// It is not that of this text.
    Forged,
}

/// A key at work. What comes of it before any text does is computed once, and not for each cursor.
struct Sealer {
    id: [u8; KEY_ID_BYTES],
    code: Hmac<Sha256>,
}

impl Sealer {
    /// The code so far. Every part goes in with its length, so that no two lists of parts are one text.
    fn code(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut code = self.code.clone();
        for part in parts {
            code.update(&(part.len() as u64).to_le_bytes());
            code.update(part);
        }
        code
    }
}

/// The keys of a cluster.
pub(crate) struct Seals(Vec<Sealer>);

impl Seals {
    pub(crate) fn new(keys: Vec<Key>) -> Seals {
        Seals(keys.iter().map(|key| Sealer { id: key.id(), code: key.code() }).collect())
    }

    /// Whether there is no key: nothing is sealed then.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the first key, and its code of these parts.
    pub(crate) fn seal(&self, parts: &[&[u8]]) -> Option<([u8; KEY_ID_BYTES], [u8; CODE_BYTES])> {
        let key = self.0.first()?;
        let full = key.code(parts).finalize().into_bytes();
        let mut code = [0; CODE_BYTES];
        code.iter_mut().zip(full).for_each(|(code, byte)| *code = byte);
        Some((key.id, code))
    }

    /// Whether the code is that of these parts, under the key of this name. How long that takes says nothing of where
    /// they differ.
    pub(crate) fn check(&self, id: &[u8], code: &[u8], parts: &[&[u8]]) -> Result<(), Broken> {
        let key = self.0.iter().find(|key| key.id == id).ok_or(Broken::UnknownKey)?;
        let own = key.code(parts);
        if code.len() != CODE_BYTES {
            return Err(Broken::Forged);
        }
        own.verify_truncated_left(code).map_err(|_| Broken::Forged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: char) -> Key {
        Key::parse(&digit.to_string().repeat(64)).unwrap()
    }

    #[test]
    fn a_key_is_spelt_with_64_digits_and_never_shown() {
        assert!(Key::parse(&"0".repeat(63)).is_none());
        assert!(Key::parse(&"+f".repeat(32)).is_none());
        assert_eq!(format!("{:?}", key('a')), "Key(..)");
    }

    #[test]
    fn all_keys_open_what_the_first_one_sealed() {
        let before = Seals::new(vec![key('a')]);
        let after = Seals::new(vec![key('b'), key('a')]);
        let (id, code) = before.seal(&[b"one", b"two"]).unwrap();
        assert_eq!(after.check(&id, &code, &[b"one", b"two"]), Ok(()));
        let (new, _) = after.seal(&[b"one", b"two"]).unwrap();
        assert_ne!(new, id, "the first one seals");
        assert_eq!(before.check(&new, &code, &[b"one", b"two"]), Err(Broken::UnknownKey));
    }

    #[test]
    fn a_code_is_of_its_parts_and_of_how_they_are_divided() {
        let seals = Seals::new(vec![key('a')]);
        let (id, code) = seals.seal(&[b"one", b"two"]).unwrap();
        for parts in [&[&b"onet"[..], b"wo"][..], &[b"one", b"tw0"], &[b"one"], &[b"onetwo"]] {
            assert_eq!(seals.check(&id, &code, parts), Err(Broken::Forged));
        }
        assert_eq!(seals.check(&id, &code[1..], &[b"one", b"two"]), Err(Broken::Forged));
        assert_eq!(seals.check(&id, &[], &[b"one", b"two"]), Err(Broken::Forged));
    }
}
