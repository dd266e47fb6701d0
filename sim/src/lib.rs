//! A deterministic world in which the membership, group communication and session cores run together, or the former two
//! alone: from one seed come topology, delays, clients and faults, and a trace that the properties judge.
//!
//! | part | topic |
//! | --- | --- |
//! | `world` | all hosts, virtual time, phases of a run, and the words in which stories direct it |
//! | `net` | connections and the queue of what is going to happen |
//! | `hosts` | what a process does around its core |
//! | `client`, `toy` | clients that can compute what they must be sent, by a service made for that |
//! | `fault`, `happens` | faults, at random times and at named moments |
//! | `knobs`, `dice` | all parameters, and all randomness |
//! | `coverage` | what struck and what happened, in numbers |
//! | `diagram` | a run as text |
//! | `membership` | another world, of membership servers and daemons alone |
//! | `report`, `cli` | verdicts |
#![deny(missing_docs)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "packets and timers of all protocols share one type each, and every host knows a few of them"
)]
#![allow(clippy::expect_used, reason = "what the world does not hold of itself is a mistake of the world")]

pub mod cli;
pub mod client;
pub mod coverage;
pub mod diagram;
pub mod dice;
pub mod fault;
pub mod happens;
mod hosts;
pub mod knobs;
pub mod membership;
mod net;
mod packet;
mod report;
mod scene;
pub mod toy;
mod world;

pub use happens::Happens;
pub use knobs::Knobs;
pub use packet::Node;
pub use report::Outcome;
pub use world::{Ambusher, Player, World};
