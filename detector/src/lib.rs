//! When silence is suspicious, and what a daemon says of peers that it cannot reach.
//!
//! A connection that is closed tells at once that something is wrong. One that is cut says nothing at all: so whoever
//! is at its other end *beats*, a sign of life once a period on the stream that carries the data, and whoever hears
//! nothing for long enough breaks the connection, which from there on is a lost one.
//!
//! | part | topic |
//! | --- | --- |
//! | `profile` | periods and bounds for three kinds of network |
//! | `pulse` | to whom a beat is due |
//! | `monitor` | who has been silent for too long |
//! | `reach` | from lost and regained links to a report that does not flap |
//!
//! The parts are plain structs for the machines that own them. Like every core the crate has no clock and does no I/O,
//! and it counts in whole microseconds: the same facts give the same verdicts everywhere.
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

mod monitor;
mod profile;
mod pulse;
mod reach;

pub use monitor::Monitor;
pub use profile::{Params, Profile, UnknownProfile};
pub use pulse::Pulse;
pub use reach::{Doubt, Doubted, Reach, Report};
