//! Who has delivered what: hence what may be forgotten, and who may cast more.
//!
//! Members tell each other from time to time how far they have delivered each stream. The owner of a stream concludes
//! how far it is *stable*, delivered by every member, and says so with whatever it casts next; the others forget what
//! is stable. Because the owner decides and links are first in, first out, a member never holds more of a stream than
//! the owner's window, whatever happened to third parties' news [KK:stability].
//!
//! A payload is stable when it is *delivered* everywhere, not when it is received, so that a window also bounds what
//! waits for its place in the order. Order records have a window of their own: they make payloads stable, so payloads
//! must not keep them out. A record comes with at least one payload that it places, and is stable soon after it.

use alloc::vec;
use alloc::vec::Vec;

use crate::message::{Entry, Rank};
use crate::params::{Limit, Params};

/// What is known of deliveries in one configuration, and the window of our own stream.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Stability {
    /// By rank: how far that member has delivered our stream.
    reached: Vec<u64>,
    stable: u64,
    /// What the others know of `stable`.
    announced: u64,
    /// By rank: how far we have delivered that member's stream.
    delivered: Vec<u64>,
    /// What the others know of `delivered`.
    told: Vec<u64>,
    /// Payloads delivered since then.
    fresh: usize,
    fresh_bytes: usize,
    fresh_max: Limit,
    /// Our own entries above `stable`.
    payloads: usize,
    payload_bytes: usize,
    records: usize,
    /// Our own payloads from the first.
    payloads_cast: u64,
    window: Limit,
}

impl Stability {
    pub(crate) fn new(members: usize, params: &Params) -> Stability {
        Stability {
            reached: vec![0; members],
            stable: 0,
            announced: 0,
            delivered: vec![0; members],
            told: vec![0; members],
            fresh: 0,
            fresh_bytes: 0,
            fresh_max: params.window.over(4),
            payloads: 0,
            payload_bytes: 0,
            records: 0,
            payloads_cast: 0,
            window: params.window,
        }
    }

    /// Whether the window admits another payload. It may overshoot by that one.
    pub(crate) fn admits_payload(&self) -> bool {
        !self.window.reached(self.payloads, self.payload_bytes)
    }

    /// Whether the window admits another order record.
    pub(crate) fn admits_record(&self) -> bool {
        self.records < self.window.entries
    }

    /// Payloads in our window, and their bytes.
    pub(crate) fn in_window(&self) -> (usize, usize) {
        (self.payloads, self.payload_bytes)
    }

    /// How many payloads were appended to our stream.
    pub(crate) fn payloads_cast(&self) -> u64 {
        self.payloads_cast
    }

    /// An entry was appended to our stream.
    pub(crate) fn cast(&mut self, entry: &Entry) {
        match entry {
            Entry::Payload(payload) => {
                self.payloads_cast += 1;
                self.payloads += 1;
                self.payload_bytes += payload.cost();
            }
            Entry::Order(_) => self.records += 1,
        }
    }

    /// An entry of our stream is stable and forgotten.
    pub(crate) fn forgotten(&mut self, entry: &Entry) {
        match entry {
            Entry::Payload(payload) => {
                self.payloads -= 1;
                self.payload_bytes -= payload.cost();
            }
            Entry::Order(_) => self.records -= 1,
        }
    }

    /// A payload of `cost` bytes was delivered here.
    pub(crate) fn delivered(&mut self, cost: usize) {
        self.fresh += 1;
        self.fresh_bytes += cost;
    }

    /// We have delivered `member`'s stream up to `index`.
    pub(crate) fn have(&mut self, member: Rank, index: u64) {
        self.delivered[member.index()] = index;
    }

    /// `member` has delivered our stream up to `index`.
    pub(crate) fn reached(&mut self, member: Rank, index: u64) {
        let reached = &mut self.reached[member.index()];
        *reached = (*reached).max(index);
    }

    /// How far our own stream is stable; `own` is our rank.
    pub(crate) fn stable(&mut self, own: Rank) -> u64 {
        self.reached[own.index()] = self.delivered[own.index()];
        self.stable = self.reached.iter().copied().min().unwrap_or(0);
        self.stable
    }

    /// The others are told how far our own stream is stable.
    pub(crate) fn announce(&mut self) -> u64 {
        self.announced = self.stable;
        self.stable
    }

    /// Whether enough was delivered that senders' windows may wait for the news.
    pub(crate) fn pressing(&self) -> bool {
        self.fresh_max.reached(self.fresh, self.fresh_bytes) && self.news()
    }

    /// Whether the others do not know all that we have delivered, or how far our own stream is stable.
    pub(crate) fn news(&self) -> bool {
        self.stable > self.announced || self.told != self.delivered
    }

    /// The others are told what we have delivered.
    pub(crate) fn tell(&mut self) -> Vec<u64> {
        self.told.clone_from(&self.delivered);
        self.fresh = 0;
        self.fresh_bytes = 0;
        self.told.clone()
    }

    /// What the others know that we have delivered of `member`'s stream: nothing above it is stable.
    pub(crate) fn told(&self, member: Rank) -> u64 {
        self.told[member.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    fn stability(members: usize, entries: usize) -> Stability {
        let window = Limit { entries, bytes: 1 << 20 };
        Stability::new(members, &Params { window, ..Params::lan() })
    }

    #[test]
    fn stable_is_what_the_slowest_member_has_delivered() {
        let mut s = stability(3, 8);
        let own = Rank::new(0);
        s.have(own, 5);
        s.reached(Rank::new(1), 3);
        assert_eq!(s.stable(own), 0);
        s.reached(Rank::new(2), 4);
        s.reached(Rank::new(1), 2);
        assert_eq!(s.stable(own), 3);
    }

    #[test]
    fn news_is_what_the_others_were_not_told() {
        let mut s = stability(2, 8);
        assert!(!s.news());
        s.have(Rank::new(0), 2);
        s.have(Rank::new(1), 1);
        assert!(s.news());
        assert_eq!(s.tell(), [2, 1]);
        assert!(!s.news());
        s.reached(Rank::new(1), 2);
        s.stable(Rank::new(0));
        assert!(s.news());
        assert_eq!(s.announce(), 2);
        assert!(!s.news());
        assert_eq!(s.told(Rank::new(1)), 1);
    }

    #[test]
    fn a_full_window_of_payloads_still_admits_records() {
        let mut s = stability(2, 4);
        let payload = Entry::Payload(Payload::Gone { connection: 1 });
        (0..4).for_each(|_| s.cast(&payload));
        assert!(!s.admits_payload() && s.admits_record());
        s.forgotten(&payload);
        assert!(s.admits_payload());
    }

    #[test]
    fn a_quarter_window_of_deliveries_is_pressing() {
        let mut s = stability(2, 8);
        assert!(!s.pressing());
        s.delivered(1);
        s.have(Rank::new(0), 1);
        assert!(!s.pressing());
        s.delivered(1);
        s.have(Rank::new(0), 2);
        assert!(s.pressing());
        s.tell();
        assert!(!s.pressing());
    }
}
