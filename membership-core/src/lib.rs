//! Membership of daemons, kept outside of them: a few servers agree on who is connected, and tell each daemon a
//! start change at the beginning of every change and a configuration at its end [Moshe:client-server].
//!
//! What a daemon is told, over its whole life and whichever servers it is attached to:
//! - its start ids increase, and each start change proposes a set that it belongs to itself;
//! - a start change comes before each configuration, and the configuration carries, for this daemon, the id of the
//!   last start change that it was told [KK:start-id];
//! - the members are among those that this start change proposed, and configuration ids increase;
//! - configurations with equal ids are equal everywhere [KK:view].
//!
//! And once connections have stopped changing, all daemons are told one configuration of exactly those attached, and
//! nothing after it [Moshe:precision].
//!
//! | part | topic |
//! | --- | --- |
//! | `server` | the machine: facts in, orders out, who is told what and when |
//! | `attachments` | the daemons attached to this server, and their start ids |
//! | `network` | the servers that are up, what each announced, and the census that follows |
//! | `agreement` | proposals: one round when all saw the same, the slow path otherwise |
//! | `message` | what servers say to each other |
//! | `port` | the facts and orders |
//! | `params` | limits and times |
//!
//! Limit: connections between the servers that are up have to be transitive. Where two of them cannot talk to each
//! other but both talk to a third, the three do not agree until that is mended; nobody is told anything wrong.
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

mod agreement;
mod attachments;
mod message;
mod network;
mod params;
mod port;
mod server;

pub use message::{Attachment, Fault, Kind, Message, Proposal, Row};
pub use params::Params;
pub use port::{Input, Notice, Output, Rejection};
pub use server::Server;
