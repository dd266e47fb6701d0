//! The group communication end-point: one [`Daemon`] is one member of configurations that an external membership
//! service decides, and gives the processes attached to it virtually synchronous, totally ordered multicast in
//! lightweight groups.
//!
//! The layers are plain structs, from the network up, and `daemon` ties them:
//!
//! - `link`: a numbered one-way stream to each peer, which resumes after a broken connection;
//! - `detection`: which peers are silent, and which cannot be reached;
//! - `endpoint`: the streams of a configuration's members, the syncs, and what they agree on [KK:end-point];
//! - `stability`: who has delivered what, hence what may be forgotten and who may send more;
//! - `order`: one total order over the streams of a configuration;
//! - `safe`: what waits until every member is known to have it;
//! - `groups` and `exchange`: the table of groups that every daemon holds, and how tables are merged;
//! - `strict`: groups whose members stop before their view changes;
//! - `transfer`: which members of a group have the same state, and who tells it to the others;
//! - `processes`: the local processes and what they have handed in.
//!
//! Like every core the crate has no clock, no randomness, no sockets and no threads: see [`model::Machine`].
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

mod daemon;
mod detection;
mod endpoint;
mod exchange;
mod fault;
mod groups;
mod link;
mod message;
mod order;
mod params;
mod port;
mod processes;
mod safe;
mod stability;
mod stream;
mod strict;
mod transfer;

pub use daemon::{Daemon, Windows};
pub use fault::{NoticeFault, PeerFault, Rejection};
pub use link::Epoch;
pub use message::{Entry, Message, Payload, Rank, Row, Run, Sync, Table};
pub use order::Rest;
pub use params::{Limit, Params, ParamsError};
pub use port::{Answer, Input, Notice, Output, ProcessEvent, Throttle};
