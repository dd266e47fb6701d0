//! Safe delivery: what has its place in the total order waits until every member of the configuration is known to
//! have come as far.
//!
//! A member that has come to a position holds everything up to it, gap-free, and delivers it before it moves on to
//! another configuration, come what may. So once all members have said that they have come to the position of a
//! message, each of them delivers it unless it crashes, and all of them in the same order [VKCD:safe].
//!
//! One order holds for messages of both levels: what comes after a message that waits, waits too. Members say how far
//! they have come as soon as they have placed a safe message, so that it costs one message delay more than an agreed
//! one. What still waits when the configuration ends is delivered on the way out, and not called safe.
//!
//! Bounds: what waits here is not stable only as long as somebody has not placed it; so there is no more of it than
//! members' windows admit, and what they admit again while the last news is on its way.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use model::Level;

use crate::message::{Payload, Rank};
use crate::order::Place;

/// How far the members of one configuration have come in the total order, and what waits for them.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Safe {
    /// By rank: the last position to which that member has come.
    reached: Vec<u64>,
    /// Up to where the others know of us.
    told: u64,
    /// The last safe message that we have placed.
    wanted: u64,
    waiting: VecDeque<(Place, Payload)>,
}

impl Safe {
    /// Of a configuration with `members` members.
    pub(crate) fn new(members: usize) -> Safe {
        Safe { reached: vec![0; members], told: 0, wanted: 0, waiting: VecDeque::new() }
    }

    /// A payload has its place. Returns it if it need not wait.
    pub(crate) fn place(&mut self, place: Place, payload: Payload) -> Option<Payload> {
        let safe = payload.level() == Level::Safe;
        if safe {
            self.wanted = place.position;
        } else if self.waiting.is_empty() {
            return Some(payload);
        }
        self.waiting.push_back((place, payload));
        None
    }

    /// `member` has come to `position`.
    pub(crate) fn reached(&mut self, member: Rank, position: u64) {
        let reached = &mut self.reached[member.index()];
        *reached = (*reached).max(position);
    }

    /// The next payload that need not wait any more.
    pub(crate) fn next(&mut self) -> Option<(Place, Payload)> {
        let (place, payload) = self.waiting.front()?;
        match payload.level() {
            Level::Safe if self.reached.iter().any(|reached| *reached < place.position) => None,
            Level::Safe | Level::Agreed => self.waiting.pop_front(),
        }
    }

    /// The configuration is over: everything that waits, in its order.
    pub(crate) fn end(&mut self) -> VecDeque<(Place, Payload)> {
        core::mem::take(&mut self.waiting)
    }

    /// Whether others may be waiting to hear how far we have come.
    pub(crate) fn pressing(&self) -> bool {
        self.told < self.wanted
    }

    /// The others are told how far we have come; `own` is our rank.
    pub(crate) fn tell(&mut self, own: Rank) -> u64 {
        self.told = self.reached[own.index()];
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(position: u64) -> Place {
        Place { origin: Rank::new(0), index: position, payload: position, position }
    }

    fn payload(level: Level) -> Payload {
        let terms = model::Terms { level, ..Default::default() };
        let group = model::GroupName::new("g").unwrap();
        Payload::Multicast { connection: 1, number: 1, group, bytes: Default::default(), terms }
    }

    fn ready(safe: &mut Safe) -> Vec<u64> {
        core::iter::from_fn(|| safe.next()).map(|(place, _)| place.position).collect()
    }

    #[test]
    fn a_safe_message_waits_for_all_members_and_holds_up_what_follows() {
        let mut safe = Safe::new(2);
        assert!(safe.place(place(1), payload(Level::Agreed)).is_some());
        assert!(safe.place(place(2), payload(Level::Safe)).is_none());
        assert!(safe.place(place(3), payload(Level::Agreed)).is_none());
        assert!(safe.place(place(4), payload(Level::Safe)).is_none());
        safe.reached(Rank::new(0), 4);
        assert_eq!(ready(&mut safe), []);
        safe.reached(Rank::new(1), 3);
        safe.reached(Rank::new(1), 2);
        assert_eq!(ready(&mut safe), [2, 3]);
        assert_eq!(safe.end().len(), 1);
    }

    #[test]
    fn others_are_to_hear_of_a_safe_message_at_once() {
        let (mut safe, me) = (Safe::new(2), Rank::new(0));
        safe.place(place(1), payload(Level::Agreed));
        safe.reached(me, 1);
        assert!(!safe.pressing());
        safe.place(place(2), payload(Level::Safe));
        safe.reached(me, 2);
        assert!(safe.pressing());
        assert_eq!(safe.tell(me), 2);
        assert!(!safe.pressing());
    }
}
