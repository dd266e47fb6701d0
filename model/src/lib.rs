//! The nouns that every layer shares: identifiers, views, time, the shape of a machine, and the vocabulary of
//! traces. No behaviour beyond order and spelling.
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

mod ballots;
mod ids;
mod machine;
mod multicast;
mod time;
pub mod trace;
mod view;

pub use ballots::{Ballot, Ballots};
pub use ids::{
    Boot, ConfigurationId, DaemonId, Digest, Fence, GroupName, MessageId, Name, NameError, ProcessId,
    ServerId, SessionId, StartId, UnitId, UnitIdError,
};
pub use machine::Machine;
pub use multicast::{Level, Outcome, Terms};
pub use time::Time;
pub use view::{Address, Configuration, GroupView, GroupViewId, Member};
