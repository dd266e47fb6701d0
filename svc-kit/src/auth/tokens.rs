//! Tokens of a list. The list has a digest of each, with whom it belongs to and what that one may do:
//!
//! ```toml
//! [tokens.alice]
//! rank = "viewer"
//! sha256 = "64 hexadecimal digits"
//! ```
//!
//! A plain digest will do since tokens are 244 random bits, which nobody can guess; it is not for passwords.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use model::Name;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{AuthError, Principal, Rank};

/// Whom tokens belong to, by their digests. To look for a digest says nothing of the tokens that have others.
#[derive(Debug)]
pub struct Tokens(HashMap<[u8; 32], Principal>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    tokens: BTreeMap<Name, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    rank: Rank,
    sha256: String,
}

impl Tokens {
    /// Reads a list.
    ///
    /// # Errors
    /// If there is none in the file, or not one that can be meant.
    pub fn read(path: &Path) -> Result<Tokens, AuthError> {
        let text = std::fs::read_to_string(path).map_err(|error| AuthError::new(path, error))?;
        let list: List = toml::from_str(&text).map_err(|error| AuthError::new(path, error.message()))?;
        let mut tokens = HashMap::new();
        for (name, Entry { rank, sha256 }) in list.tokens {
            let wrong = |what: &str| AuthError::new(path, format!("tokens.{name}.sha256 {what}"));
            let mut digest = [0; 32];
            let decoded = hex::decode_to_slice(&sha256, &mut digest);
            decoded.map_err(|_| wrong("is not 64 hexadecimal digits"))?;
            let principal = Principal { name: principal_name(name), rank };
            if tokens.insert(digest, principal).is_some() {
                return Err(wrong("is another's too"));
            }
        }
        Ok(Tokens(tokens))
    }

    /// Whether somebody of that name has a token.
    pub fn has(&self, name: Name) -> bool {
        let name = principal_name(name);
        self.0.values().any(|principal| principal.name == name)
    }

    pub(super) fn find(&self, token: &str) -> Option<Principal> {
        self.0.get(&digest(token)).cloned()
    }
}

fn principal_name(name: Name) -> Arc<str> {
    format!("token:{name}").into()
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// A new token, which is shown once.
pub struct Token(String);

impl Token {
    /// Draws one.
    pub fn draw() -> Token {
        let half = || Uuid::new_v4().simple().to_string();
        Token(format!("handover_{}{}", half(), half()))
    }

    /// What makes it good, in a list.
    pub fn entry(&self, name: Name, rank: Rank) -> String {
        let digest = hex::encode(digest(&self.0));
        format!("[tokens.{name}]\nrank = \"{rank}\"\nsha256 = \"{digest}\"\n")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tokens, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        std::fs::write(&path, text).unwrap();
        Tokens::read(&path).map_err(|error| error.reason)
    }

    #[test]
    fn a_token_is_found_by_its_digest_alone() {
        let (token, other) = (Token::draw(), Token::draw());
        let entry = token.entry(Name::literal("alice"), Rank::Viewer);
        assert!(!entry.contains(&token.0));
        let tokens = read(&format!("{entry}{}", other.entry(Name::literal("bob"), Rank::Admin))).unwrap();
        assert_eq!(&*tokens.find(&token.0).unwrap().name, "token:alice");
        assert_eq!(tokens.find(&other.0).unwrap().rank, Rank::Admin);
        assert!(tokens.find(&Token::draw().0).is_none());
    }

    #[test]
    fn a_list_that_cannot_be_meant_is_refused() {
        let digest = "0".repeat(64);
        let entry = |name: &str, rank: &str, digest: &str| {
            format!("[tokens.{name}]\nrank = \"{rank}\"\nsha256 = \"{digest}\"\n")
        };
        let twice = entry("a", "viewer", &digest) + &entry("b", "viewer", &digest);
        for (text, complaint) in [
            (entry("a", "king", &digest), "unknown variant `king`"),
            (entry("a", "viewer", "12"), "tokens.a.sha256 is not 64 hexadecimal digits"),
            (twice, "tokens.b.sha256 is another's too"),
            (entry("\"A b\"", "viewer", &digest), ""),
            ("tokens = 1".to_owned(), ""),
        ] {
            let refused = read(&text).unwrap_err();
            assert!(refused.starts_with(complaint), "{refused}");
        }
    }
}
