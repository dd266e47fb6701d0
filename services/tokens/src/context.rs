//! What is remembered of a conversation, and what a request does to it [FK:context].

use std::fmt;
use std::time::Duration;

use model::Time;
use serde::{Deserialize, Serialize};
use session_core::Refusal;

use crate::text::{Place, Text};

/// So many tokens follow on one prompt at most.
const TOKENS_MAX: u32 = 10_000;
/// The longest time from one token to the next.
const PACE_MAX: Duration = Duration::from_secs(10);

/// A fingerprint of all tokens so far: of the one before and the token, by FNV-1a in 64 bits. Who follows it sees that
/// nothing is missing, repeated or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain(u64);

impl Chain {
    /// Before the first token.
    pub const START: Chain = Chain(0xcbf2_9ce4_8422_2325);

    /// After this token too.
    #[must_use]
    pub fn and(self, token: &str) -> Chain {
        let before = self.0.to_be_bytes();
        let bytes = before.iter().chain(token.as_bytes());
        Chain(
            bytes.fold(Chain::START.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)),
        )
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A conversation: some tens of bytes, however long it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The place of the word that was said last, if what was said last is in the text.
    pub(crate) at: Option<Place>,
    /// How many tokens are to come.
    pub(crate) left: u32,
    /// How many there were.
    pub(crate) said: u64,
    pub(crate) chain: Chain,
    pub(crate) due: Time,
    pub(crate) pace: Duration,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    Prompt { text: String, tokens: u32 },
    Pace { milliseconds: u64 },
    Stop {},
}

impl Context {
    pub(crate) fn new() -> Context {
        let pace = Duration::from_millis(40);
        Context { at: None, left: 0, said: 0, chain: Chain::START, due: Time::ZERO, pace }
    }

    pub(crate) fn apply(&mut self, text: &Text, request: Request) -> Result<(), Refusal> {
        match request {
            Request::Prompt { tokens, .. } if !(1..=TOKENS_MAX).contains(&tokens) => {
                return Err(Refusal::out_of_range(format_args!(
                    "{tokens} tokens; a prompt is answered by 1 to {TOKENS_MAX}"
                )));
            }
            Request::Prompt { text: said, tokens } => {
                self.at = text.find(&said);
                self.left = tokens;
            }
            Request::Pace { milliseconds } if Duration::from_millis(milliseconds) > PACE_MAX => {
                return Err(Refusal::out_of_range(format_args!(
                    "a token comes after {PACE_MAX:?} at the latest"
                )));
            }
            Request::Pace { milliseconds } => self.pace = Duration::from_millis(milliseconds),
            Request::Stop {} => self.left = 0,
        }
        Ok(())
    }
}
