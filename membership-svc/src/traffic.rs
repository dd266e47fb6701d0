//! What this server has said, counted by kind: the cost of membership, for operators and benchmarks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use membership_core::{Message, Notice, Word};

/// Counts of what was sent, by what the contract calls it. A message to several is counted once for each.
#[derive(Debug, Default)]
pub struct Traffic {
    servers: Mutex<Counts>,
    daemons: Mutex<Counts>,
}

/// How often each kind was sent.
pub type Counts = BTreeMap<&'static str, u64>;

impl Traffic {
    /// A message goes to a server.
    pub fn to_server(&self, message: &Message) {
        count(&self.servers, of_message(message));
    }

    /// A notice goes to a daemon.
    pub fn to_daemon(&self, notice: &Notice) {
        let kind = match notice {
            Notice::StartChange { .. } => "start_change",
            Notice::View(_) => "view",
            Notice::Attempt(_) => "attempt",
        };
        count(&self.daemons, kind);
    }

    /// What was sent to servers.
    pub fn servers(&self) -> Counts {
        open(&self.servers).clone()
    }

    /// What was sent to daemons, but for signs of life.
    pub fn daemons(&self) -> Counts {
        open(&self.daemons).clone()
    }
}

fn open(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counts: &Mutex<Counts>, kind: &'static str) {
    *open(counts).entry(kind).or_default() += 1;
}

fn of_message(message: &Message) -> &'static str {
    match message {
        Message::Row(_) => "row",
        Message::Change(_) => "change",
        Message::Links(_) => "links",
        Message::Bars(_) => "bars",
        Message::Proposal(_) => "proposal",
        Message::Attempted(_) => "attempts",
        Message::Beat => "beat",
        Message::Wombat(word) => match word {
            Word::Beacon(_) => "beacon",
            Word::Ping => "ping",
            Word::Pong => "pong",
            Word::Missing(_) => "missing",
            Word::Away => "away",
            Word::Outdone(_) => "outdone",
            Word::Prepare(_) => "prepare",
            Word::Ready(_) => "ready",
            Word::Decide(_) => "decide",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_counted_by_kind() {
        let traffic = Traffic::default();
        for message in [Message::Beat, Message::Wombat(Word::Ping), Message::Beat] {
            traffic.to_server(&message);
        }
        traffic.to_daemon(&Notice::View(model::Configuration::new(1, BTreeMap::new())));
        assert_eq!(traffic.servers(), Counts::from([("beat", 2), ("ping", 1)]));
        assert_eq!(traffic.daemons(), Counts::from([("view", 1)]));
    }
}
