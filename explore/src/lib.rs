//! Small worlds, explored to the end: every order in which messages, notices, faults and timers can come, within a
//! bound, is tried on the cores themselves, and every history that comes of it is judged.
//!
//! The simulation of `sim` goes far into few of the runs of a large world; this goes into all runs of a small one.
//! What is wrong in a protocol mostly shows with three processes, one fault and two messages, but often in one order
//! out of millions.
//!
//! - [`search`] visits every state of a [`search::World`] once;
//! - [`daemons`] is the world of group communication: daemons, the network between them, and a membership service
//!   that does whatever its interface allows.
#![deny(missing_docs)]

pub mod daemons;
mod fingerprint;
pub mod search;
