//! Wombat: the servers have permanent ranks, and the first of those who are there commands. Its word is a message to
//! each of the others and one back from each, where Moshe has one from each to each.
//!
//! The lecture from which this comes leaves open what Wombat guarantees; here, only how soon something happens depends
//! on time. Two leaders may be in command at once, each of those who follow it: a server follows one of them, takes
//! part in a change of that one alone, and forgets it when it follows another. So no daemon is told a configuration
//! but after the start change that was given for it, whoever believes what.
//!
//! | part | topic |
//! | --- | --- |
//! | `command` | who is in command: beacons, pings, taking over, shutting up |
//! | `follower` | what a server knows that follows another, and how long it bears silence |
//! | `round` | one change: everybody prepares, the leader decides |
//! | `word` | what is said |

pub(crate) mod command;
mod follower;
pub(crate) mod round;
pub(crate) mod word;

use core::time::Duration;

use model::ServerId;

use command::Command;
use round::Round;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Wombat {
    pub(crate) command: Command,
    pub(crate) round: Round,
}

impl Wombat {
    pub(crate) fn new(me: ServerId, pace: Duration) -> Wombat {
        Wombat { command: Command::new(me, pace), round: Round::new(me) }
    }
}
