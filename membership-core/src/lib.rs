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
//! And once connections have stopped changing, all daemons that can talk to each other are told one configuration of
//! exactly them, and nothing after it [Moshe:precision].
//!
//! | part | topic |
//! | --- | --- |
//! | `server` | the machine: facts in, orders out, who is told what and when |
//! | `attachments` | the daemons attached to this server, and their start ids |
//! | `network` | the servers that are up, what each announced, and whom lost ones leave behind |
//! | `census`, `cliques` | the network event that follows: who is to be together |
//! | `reports`, `places` | what daemons say of each other, in few bits |
//! | `standings` | what everybody was told last, so that nobody is told it again |
//! | `vitals` | signs of life |
//! | `flaps`, `bars` | who has to wait before it may come back, and who is kept out by operators |
//! | `protocol` | what a server needs of a protocol by which it agrees with others |
//! | `moshe`, `links`, `agreement` | one: who can talk to whom, and votes: one round when all saw the same, the slow path otherwise |
//! | `wombat` | the other: who is in command, and what it decides |
//! | `primary`, `attempts` | which configuration is the primary component, and who has to have written that down |
//! | `message` | what servers say to each other |
//! | `port` | the facts and orders |
//! | `params` | limits and times |
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

mod agreement;
mod attachments;
mod attempts;
mod bars;
mod census;
mod cliques;
mod flaps;
mod links;
mod message;
mod moshe;
mod network;
mod params;
mod places;
mod port;
mod primary;
mod protocol;
mod reports;
mod server;
mod standings;
mod vitals;
mod wombat;

pub use attachments::Arrival;
pub use message::{
    Attachment, Bar, Change, Fault, Kind, Leave, Message, Neighbours, Place, Proposal, Row, Standing,
    Started, Target, Term,
};
pub use params::{Params, Protocol, UnknownProtocol};
pub use port::{Agreed, Departure, Input, Notice, Output, Rejection};
pub use primary::Rule;
pub use server::Server;
pub use wombat::word::{Beacon, Decide, Outdone, Prepare, Ready, SeatedAt, Word};
