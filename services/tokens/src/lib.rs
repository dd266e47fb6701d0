//! Tokens: content units are texts, and a session is a conversation with something that has read one of them. It goes on
//! from what it is given, a word at a time, as language models do.
//!
//! Which word comes next is left to chance, and chance is not in the context: two servers would not say the same. So
//! every unit demands output commit, and a word that was said once is that word at every server.
//!
//! [`Text`] is what was read, [`Context`] what is remembered of a conversation, [`Tokens`] the content service over both.
//! What is said in a session is described in `proto/handover/tokens/v1`.
#![deny(missing_docs)]

mod context;
mod service;
mod text;

pub use context::{Chain, Context};
pub use service::Tokens;
pub use text::{Text, TextError};
