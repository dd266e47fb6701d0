//! Judges traces: every property that Handover promises, as a checker that reads what a run let observers see.
//! The same checkers judge simulated and real runs.
//!
//! Two rules keep a verdict sound, wherever a trace comes from:
//!
//! - *Only a process's own order counts.* Records of one process are in the order in which it saw them; how the
//!   records of two processes interleave depends on clocks, and no verdict does. Whatever relates two processes is
//!   judged once both sides of it are known. The one exception is [`model::trace::Event::Quiescent`], which its
//!   author writes when nothing happens any more.
//! - *Absence proves nothing by itself.* What a killed process wrote may end early, so that something is missing
//!   counts only where the process wrote something later, or where a quiescent run names it as alive.
#![deny(missing_docs)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each property is about a few events of the vocabulary and passes over all others"
)]

mod judge;
pub mod linear;
mod lines;
mod numbers;
mod order;
mod properties;
mod property;
pub mod read;
mod runs;
#[cfg(test)]
mod script;
mod unpromised;

pub use judge::{Judge, Report, Tally, judge};
pub use properties::all;
pub use property::{Breach, Position, Property, Violation};
