//! What is delivered was sent, and is what was sent: every delivery has the digest of the cast, and every multicast
//! reaches processes with the digest and in the group that its sender gave it. [VKCD:delivery-integrity]
//!
//! That a send is missing counts only where its sender's record of it cannot be cut off: the sender wrote a later send
//! or moved on, or is alive in a quiescent run.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, Digest, GroupName, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// A message as it was first seen, be that when it was sent or when it was delivered.
struct Seen<C> {
    content: C,
    sent: bool,
    at: Position,
}

/// What one sender sent under consecutive numbers, and what others delivered of it.
struct Stream<C> {
    messages: BTreeMap<u64, Seen<C>>,
    last_sent: u64,
    /// How many messages of `messages` nobody is known to have sent.
    unsent: usize,
}

impl<C> Default for Stream<C> {
    fn default() -> Stream<C> {
        Stream { messages: BTreeMap::new(), last_sent: 0, unsent: 0 }
    }
}

impl<C: PartialEq> Stream<C> {
    fn see(
        &mut self,
        at: Position,
        number: u64,
        content: C,
        sent: bool,
        sender: impl Display,
    ) -> Result<(), Breach> {
        if sent {
            self.last_sent = self.last_sent.max(number);
        }
        match self.messages.entry(number) {
            Entry::Vacant(place) => {
                place.insert(Seen { content, sent, at });
                self.unsent += usize::from(!sent);
            }
            Entry::Occupied(mut place) => {
                let seen = place.get_mut();
                if seen.content != content {
                    return breach(
                        &[seen.at, at],
                        format!("message {number} of {sender} is not the same wherever it is seen"),
                    );
                }
                if sent && !seen.sent {
                    seen.sent = true;
                    self.unsent -= 1;
                }
            }
        }
        Ok(())
    }

    /// Checks that everything up to `limit` was sent.
    fn is_sent_to(&self, limit: u64, sender: impl Display) -> Result<(), Breach> {
        if self.unsent == 0 {
            return Ok(());
        }
        match self.messages.range(..=limit).find(|(_, seen)| !seen.sent) {
            Some((number, seen)) => breach(
                &[seen.at],
                format!("message {number} of {sender} was delivered, but {sender} never sent it"),
            ),
            None => Ok(()),
        }
    }
}

/// The checker.
#[derive(Default)]
pub(crate) struct DeliveryIntegrity {
    casts: BTreeMap<(DaemonId, ConfigurationId), Stream<Digest>>,
    /// Which configurations a daemon has left: it casts nothing in them any more.
    left: BTreeSet<(DaemonId, ConfigurationId)>,
    multicasts: BTreeMap<ProcessId, Stream<(GroupName, Digest)>>,
    detached: BTreeSet<ProcessId>,
}

impl Property for DeliveryIntegrity {
    fn name(&self) -> &'static str {
        "delivery_integrity"
    }

    fn claim(&self) -> &'static str {
        "VKCD:delivery-integrity"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Cast { daemon, configuration, index, digest } => {
                let stream = self.casts.entry((*daemon, *configuration)).or_default();
                stream.see(at, *index, *digest, true, daemon)
            }
            Event::Deliver { configuration, origin, index, digest, .. } => {
                let stream = self.casts.entry((*origin, *configuration)).or_default();
                stream.see(at, *index, *digest, false, origin)
            }
            Event::Install { daemon, previous, .. } => {
                self.left.insert((*daemon, *previous));
                Ok(())
            }
            Event::GroupSend { process, group, message, digest, .. } => {
                let stream = self.multicasts.entry(*process).or_default();
                stream.see(at, message.number(), (group.clone(), *digest), true, process)
            }
            Event::GroupDeliver { group, message, digest, .. } => {
                let sender = message.sender();
                let stream = self.multicasts.entry(sender).or_default();
                stream.see(at, message.number(), (group.clone(), *digest), false, sender)
            }
            Event::Detach { process } => {
                self.detached.insert(*process);
                Ok(())
            }
            Event::Quiescent { daemons, .. } => self.is_sent_by(|daemon| daemons.contains(&daemon)),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), Breach> {
        self.is_sent_by(|_| false)
    }
}

impl DeliveryIntegrity {
    /// Checks every stream as far as it is known; that of a complete daemon is known to its end.
    fn is_sent_by(&self, complete: impl Fn(DaemonId) -> bool) -> Result<(), Breach> {
        for ((daemon, configuration), stream) in &self.casts {
            let ended = complete(*daemon) || self.left.contains(&(*daemon, *configuration));
            stream.is_sent_to(if ended { u64::MAX } else { stream.last_sent }, daemon)?;
        }
        for (process, stream) in &self.multicasts {
            let ended = complete(process.daemon()) || self.detached.contains(process);
            stream.is_sent_to(if ended { u64::MAX } else { stream.last_sent }, process)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["delivery_integrity"];
    let two = Script::new().forms(1, "a b");
    let member = two.clone().attaches("a/1 b/1").views("g", 1, "b/1");
    let other_digest = |event: &mut Event| match event {
        Event::Deliver { digest, .. } | Event::GroupDeliver { digest, .. } => *digest = Digest::EMPTY,
        _ => unreachable!("only deliveries are spoilt"),
    };
    vec![
        rejected(
            "b delivers what a did not cast before it moved on",
            only,
            two.clone().delivers("b", "a", 1).forms(2, "a"),
        ),
        rejected(
            "b delivers what a, alive at the end, never cast",
            only,
            two.clone().delivers("a b", "b", 1).casts("a", 1).delivers("a b", "a", 1).quiescent("a b"),
        ),
        rejected(
            "b delivers other bytes than a cast",
            only,
            two.clone().casts("a", 1).delivers("b", "a", 1).but(other_digest),
        ),
        rejected(
            "a process is given what was never sent",
            only,
            member.clone().receives("b/1", "g", "a/1", 1).detaches("a/1"),
        ),
        rejected(
            "a process is given what was not sent before something else",
            only,
            member.clone().sends("a/1", "g", 2).receives("b/1", "g", "a/1", 1),
        ),
        rejected(
            "a process is given other bytes than were sent",
            only,
            member.clone().sends("a/1", "g", 1).receives("b/1", "g", "a/1", 1).but(other_digest),
        ),
        accepted(
            "the end of what a crashed daemon wrote is missing",
            two.clone().delivers("b", "a", 1).crashes("a"),
        ),
        accepted(
            "clocks put the delivery before the cast",
            two.delivers("b", "a", 1).casts("a", 1).delivers("a", "a", 1).forms(2, "a"),
        ),
    ]
}
