//! A store, and what requests do to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use session_core::{Refusal, SharedState};
use thiserror::Error;

/// So long a key is at most, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// So long a value is at most, in bytes.
const VALUE_BYTES_MAX: usize = 2048;
/// So many keys there are at most.
const KEYS_MAX: usize = 10_000;
/// A longer request is refused unread: the longest that makes sense, with each byte of it escaped.
const REQUEST_BYTES_MAX: usize = 6 * (KEY_BYTES_MAX + 2 * VALUE_BYTES_MAX) + 100;

const ALLOWED: &str = r#"{"get":{"key":"a"}}, {"put":{"key":"a","value":"1"}}, {"delete":{"key":"a"}} and {"compare_and_put":{"key":"a","expected":"1","value":"2"}}"#;

/// Keys and their values, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// How many requests were carried out.
    revision: u64,
    entries: BTreeMap<String, String>,
}

/// A store's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    #[serde(default)]
    entries: BTreeMap<String, String>,
}

/// Why a file cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum StoreError {
    #[error("this is not the file of a store: {0}")]
    Toml(String),
    #[error("{0}")]
    Entry(String),
    #[error("{0} keys are too many: {KEYS_MAX} is the most")]
    TooMany(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Get {
        key: String,
    },
    Put {
        key: String,
        value: String,
    },
    Delete {
        key: String,
    },
    #[serde(alias = "compareAndPut")]
    CompareAndPut {
        key: String,
        expected: Option<String>,
        value: String,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The place of the request in the order of all.
    pub revision: u64,
    /// What it was about.
    pub key: String,
    /// What the key has now.
    pub value: Option<String>,
    /// Whether it was done, and not only compared.
    pub done: bool,
}

impl Store {
    /// Reads the file of a store: its title, and what is in it when it is founded.
    ///
    /// # Errors
    /// A [`StoreError`] says what keeps it from being served.
    pub fn parse(file: &str) -> Result<(String, Store), StoreError> {
        let File { title, entries } =
            toml::from_str(file).map_err(|error| StoreError::Toml(error.message().to_owned()))?;
        if entries.len() > KEYS_MAX {
            return Err(StoreError::TooMany(entries.len()));
        }
        for (key, value) in &entries {
            fits(key, value).map_err(|refusal| StoreError::Entry(refusal.message))?;
        }
        Ok((title, Store { revision: 0, entries }))
    }

    fn carry_out(&mut self, request: &[u8]) -> Result<Answer, Refusal> {
        let malformed = |what: &dyn std::fmt::Display| {
            Refusal::malformed(format_args!("not a request to a store: {what}; requests are {ALLOWED}"))
        };
        if request.len() > REQUEST_BYTES_MAX {
            return Err(malformed(&format_args!("{} bytes are too many", request.len())));
        }
        let request: Request = serde_json::from_slice(request).map_err(|error| malformed(&error))?;
        let (key, done) = match request {
            Request::Get { key } => (key, true),
            Request::Put { key, value } => {
                self.put(&key, value)?;
                (key, true)
            }
            Request::Delete { key } => {
                self.entries.remove(&key);
                (key, true)
            }
            Request::CompareAndPut { key, expected, value } => {
                let is_so = self.entries.get(&key) == expected.as_ref();
                if is_so {
                    self.put(&key, value)?;
                }
                (key, is_so)
            }
        };
        fits(&key, "")?;
        let value = self.entries.get(&key).cloned();
        Ok(Answer { revision: self.revision, key, value, done })
    }

    fn put(&mut self, key: &str, value: String) -> Result<(), Refusal> {
        fits(key, &value)?;
        if self.entries.len() >= KEYS_MAX && !self.entries.contains_key(key) {
            return Err(Refusal::precondition(format_args!("the store is full: it has {KEYS_MAX} keys")));
        }
        self.entries.insert(key.to_owned(), value);
        Ok(())
    }
}

fn fits(key: &str, value: &str) -> Result<(), Refusal> {
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        let told = format_args!("a key of {} bytes; keys have 1 to {KEY_BYTES_MAX}", key.len());
        return Err(Refusal::out_of_range(told));
    }
    if value.len() > VALUE_BYTES_MAX {
        let told = format_args!("a value of {} bytes; values have up to {VALUE_BYTES_MAX}", value.len());
        return Err(Refusal::out_of_range(told));
    }
    Ok(())
}

impl SharedState for Store {
    /// Every request has a place in the order, also one that is refused.
    fn update(&mut self, request: &[u8]) -> Bytes {
        self.revision += 1;
        bytes_of(&self.carry_out(request))
    }

    fn snapshot(&self) -> Bytes {
        bytes_of(self)
    }
}

/// As it travels between servers.
fn bytes_of(it: &impl Serialize) -> Bytes {
    match postcard::to_allocvec(it) {
        Ok(bytes) => bytes.into(),
        Err(error) => panic!("stores are plain data: {error}"),
    }
}
