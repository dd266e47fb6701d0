//! A replicated key-value store: content units are stores, and all sessions on a unit read and write the same one.
//!
//! The store is the [state that sessions share](session_core::SharedState), so every request has one place in the order
//! of all of them and is carried out once, whichever servers die meanwhile; the context of a session is the answer that
//! is due. This is primary-backup replication with a view service [PB:promotion]: the primary of a session has its
//! requests carried out by all servers of the unit, and answers once they have them.
//!
//! [`Store`] is the store, [`Kv`] the content service. What is said in a session is described in `proto/handover/kv/v1`.
#![deny(missing_docs)]

mod service;
mod store;

pub use service::{Context, Kv};
pub use store::{Answer, Store, StoreError};
