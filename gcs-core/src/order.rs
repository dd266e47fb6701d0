//! One total order over the streams of a configuration.
//!
//! An origin multicasts its payload in its own stream; the sequencer, the lowest-ranked member, multicasts *order
//! records* in its own: "then the payloads of origin o up to index i". A record is an entry like any other, so the
//! end-point's cuts and forwards cover it. Payloads are delivered in the order of the records, and delivery stops at
//! the first gap, be it a payload or a record that is not here. Only the sequencer places payloads, its own
//! included, and it records what it has received, so the order contains causality.
//!
//! The way out of a configuration, [`Order::close`], is one indivisible step with the install:
//!
//! 1. payloads in the order of the records; one that nobody in the transitional set has is a *hole* and is skipped;
//! 2. after a hole, payloads whose origin is outside the transitional set are skipped too, since they may depend on
//!    the hole. Members of the set cannot depend on it: they never saw it;
//! 3. then the payloads without a record, of origins in the transitional set, by (rank, index);
//! 4. payloads without a record of other origins are dropped: they may depend on records that nobody here saw.
//!
//! Nobody in the set has delivered any of these before, since delivery stops at a gap, and what is decided depends on
//! the agreed streams alone, so all members of the set decide the same [VKCD:weak-total-order]. To do a part of it
//! earlier would be wrong: if another start change came between, the next transitional set might decide otherwise.
//!
//! So what a hole costs is this. Everybody, in whatever transitional set, delivers the same sequence up to its first hole
//! or to the end of the records it has [VKCD:reliable-total-order]. From there on another part of the configuration may
//! have delivered what is skipped here, and the rest in another order; the two sides never agree on that again, which
//! matters to nobody who waits for messages to be safe. Causality is not at stake, and nothing that is delivered lacks a
//! cause: payloads before the hole have theirs before them, and members of the set, whose payloads follow it, had
//! delivered only what comes before [VKCD:reliable-causal]. Nor is self delivery: a hole's origin is never in the set.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::message::{Entry, Rank, Run};
use crate::stream::Stream;

/// The member that places payloads.
pub(crate) const SEQUENCER: Rank = Rank::new(0);

/// Positions from here on are of payloads that no sound order covers; see [`Order::close`].
const UNRECORDED: u64 = 1 << 63;

/// What was not delivered in the order of the records, on the way out of a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Gaps: places of payloads that nobody who came along has.
    pub holes: u64,
    /// Payloads after a gap that were dropped, since their origin did not come along.
    pub orphans: u64,
    /// Payloads without a record that were delivered by rule.
    pub residue: u64,
    /// Payloads without a record that were dropped, since their origin did not come along.
    pub dropped: u64,
}

/// A payload's place in the total order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) origin: Rank,
    /// In the origin's stream.
    pub(crate) index: u64,
    /// Which of the origin's payloads, from 1.
    pub(crate) payload: u64,
    /// Increases along the order. Up to the first hole it is the sequencer's count, hence the same for the same
    /// payload wherever it is delivered.
    pub(crate) position: u64,
}

/// How far the order of one configuration has come here.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Order {
    /// By rank: the payloads of that stream have their places up to this index.
    placed: Vec<u64>,
    /// By rank: how many payloads that is.
    payloads: Vec<u64>,
    /// The sequencer's stream has been searched for records up to this index.
    searched: u64,
    /// The record in hand, and the run in it.
    record: Arc<[Run]>,
    run: usize,
    /// Everything in the sequencer's stream up to this index is done with: payloads placed, records used up.
    used: u64,
    position: u64,
    /// By rank: what we recorded, if we are the sequencer.
    recorded: Vec<u64>,
}

impl Order {
    /// The order of a configuration with `members` members. The positions below that number belong to what comes
    /// with the configuration itself.
    pub(crate) fn new(members: usize) -> Order {
        Order {
            placed: vec![0; members],
            payloads: vec![0; members],
            searched: 0,
            record: Arc::new([]),
            run: 0,
            used: 0,
            position: members as u64,
            recorded: vec![0; members],
        }
    }

    /// The next payload in the order, if it and its record are here. It counts as delivered.
    pub(crate) fn next(&mut self, streams: &[Stream]) -> Option<Place> {
        loop {
            let Some(run) = self.record.get(self.run) else {
                self.next_record(streams)?;
                continue;
            };
            let origin = run.origin.index();
            let index = self.placed[origin] + 1;
            if index > run.upto {
                self.run += 1;
                continue;
            }
            let entry = streams[origin].get(index)?;
            self.placed[origin] = index;
            match entry {
                Entry::Order(_) => {}
                Entry::Payload(_) => {
                    self.position += 1;
                    return Some(self.place(run.origin, index, self.position));
                }
            }
        }
    }

    fn place(&mut self, origin: Rank, index: u64, position: u64) -> Place {
        let payloads = &mut self.payloads[origin.index()];
        *payloads += 1;
        Place { origin, index, payload: *payloads, position }
    }

    /// Takes the sequencer's next record in hand.
    fn next_record(&mut self, streams: &[Stream]) -> Option<()> {
        let sequencer = &streams[SEQUENCER.index()];
        loop {
            let entry = sequencer.get(self.searched + 1)?;
            self.searched += 1;
            match entry {
                Entry::Payload(_) => {}
                Entry::Order(runs) => {
                    self.record = Arc::clone(runs);
                    self.run = 0;
                    return Some(());
                }
            }
        }
    }

    /// The position of the last payload that has its place. Everything up to it is here.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How far `rank`'s stream has been delivered: entries up to there serve no purpose here any more, but to be
    /// forwarded. To be asked for whenever [`Order::next`] has nothing more.
    pub(crate) fn delivered(&mut self, rank: Rank, streams: &[Stream]) -> u64 {
        let placed = self.placed[rank.index()];
        if rank != SEQUENCER {
            return placed;
        }
        let record_in_hand = self.run < self.record.len();
        let used_up = if record_in_hand { self.searched.saturating_sub(1) } else { self.searched };
        loop {
            let next = self.used + 1;
            let done = match streams[SEQUENCER.index()].get(next) {
                Some(Entry::Payload(_)) => next <= placed,
                Some(Entry::Order(_)) => next <= used_up,
                None => false,
            };
            if !done {
                // No run need look again at what is used: it may be forgotten.
                self.placed[SEQUENCER.index()] = placed.max(self.used);
                return self.used;
            }
            self.used = next;
        }
    }

    /// Whether there are payloads that have no place here.
    pub(crate) fn leaves_out(&self, streams: &[Stream]) -> bool {
        streams.iter().zip(&self.placed).any(|(stream, placed)| stream.last_payload() > *placed)
    }

    /// Whether the sequencer has payloads to place.
    pub(crate) fn unrecorded(&self, streams: &[Stream]) -> bool {
        streams.iter().zip(&self.recorded).any(|(stream, recorded)| stream.last_payload() > *recorded)
    }

    /// The sequencer's next record: every payload that it holds and has not recorded.
    pub(crate) fn record(&mut self, streams: &[Stream]) -> Arc<[Run]> {
        let mut runs = Vec::new();
        for (origin, stream) in Rank::all(streams.len()).zip(streams) {
            let recorded = &mut self.recorded[origin.index()];
            if stream.last_payload() > *recorded {
                *recorded = stream.last_payload();
                runs.push(Run { origin, upto: *recorded });
            }
        }
        runs.into()
    }

    /// Everything that is still to be delivered on the way out of the configuration: `streams` end where the
    /// transitional set agreed that they end.
    ///
    /// Places after the first hole, and places without a record, hold in this transitional set only: elsewhere the
    /// same count may belong to other payloads. `fingerprint`, of the configuration to come, goes into their
    /// positions so that nobody takes one for the other.
    pub(crate) fn close(
        mut self,
        streams: &[Stream],
        transitional: &BTreeSet<Rank>,
        fingerprint: u32,
    ) -> (Vec<Place>, Rest) {
        let mut places = Vec::new();
        let mut rest = Rest::default();
        let mut unsound = 0;
        let mut mark = |place: Place| {
            unsound += 1;
            Place { position: UNRECORDED | unsound << 32 | u64::from(fingerprint), ..place }
        };
        let mut hole = false;
        loop {
            while let Some(place) = self.next(streams) {
                if !hole {
                    places.push(place);
                } else if transitional.contains(&place.origin) {
                    places.push(mark(place));
                } else {
                    rest.orphans += 1;
                }
            }
            if self.run >= self.record.len() {
                break;
            }
            // The stream of this run's origin has ended: the rest of the run is a hole.
            hole = true;
            rest.holes += 1;
            self.run += 1;
        }
        for (origin, stream) in Rank::all(streams.len()).zip(streams) {
            for index in self.placed[origin.index()] + 1..=stream.end() {
                match stream.get(index) {
                    Some(Entry::Payload(_)) if transitional.contains(&origin) => {
                        let place = self.place(origin, index, 0);
                        places.push(mark(place));
                        rest.residue += 1;
                    }
                    Some(Entry::Payload(_)) => rest.dropped += 1,
                    Some(Entry::Order(_)) | None => {}
                }
            }
        }
        (places, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    /// Streams in writing: for each member its entries, `.` a payload, or a record such as `0:2 1:1`.
    fn streams(text: &[&[&str]]) -> Vec<Stream> {
        let entry = |text: &str| match text {
            "." => Entry::Payload(Payload::Gone { connection: 0 }),
            runs => Entry::Order(
                runs.split(' ')
                    .map(|run| {
                        let (origin, upto) = run.split_once(':').unwrap();
                        Run { origin: Rank::new(origin.parse().unwrap()), upto: upto.parse().unwrap() }
                    })
                    .collect(),
            ),
        };
        let stream = |entries: &&[&str]| {
            let mut stream = Stream::default();
            entries.iter().for_each(|text| {
                stream.push(entry(text));
            });
            stream
        };
        text.iter().map(stream).collect()
    }

    fn short(places: &[Place]) -> Vec<(u32, u64)> {
        places.iter().map(|place| (place.origin.place(), place.index)).collect()
    }

    fn ready(order: &mut Order, streams: &[Stream]) -> Vec<(u32, u64)> {
        let places: Vec<Place> = core::iter::from_fn(|| order.next(streams)).collect();
        short(&places)
    }

    fn set(ranks: &[u32]) -> BTreeSet<Rank> {
        ranks.iter().map(|rank| Rank::new(*rank)).collect()
    }

    #[test]
    fn delivery_follows_the_records_and_stops_at_the_first_gap() {
        let mut order = Order::new(3);
        let mut s = streams(&[&[".", "1:2 0:1"], &["."], &["."]]);
        assert_eq!(ready(&mut order, &s), [(1, 1)], "the second payload of 1 is missing");
        assert_eq!(order.delivered(Rank::new(0), &s), 0);
        s[1].push(Entry::Payload(Payload::Gone { connection: 0 }));
        assert_eq!(ready(&mut order, &s), [(1, 2), (0, 1)]);
        assert_eq!(order.delivered(Rank::new(0), &s), 2);
        assert_eq!(order.delivered(Rank::new(2), &s), 0, "no record, no place");
    }

    #[test]
    fn the_sequencer_records_each_payload_once() {
        let mut order = Order::new(2);
        let mut s = streams(&[&["."], &[".", "."]]);
        let record = order.record(&s);
        let run = |origin, upto| Run { origin: Rank::new(origin), upto };
        assert_eq!(*record, [run(0, 1), run(1, 2)]);
        s[0].push(Entry::Order(record));
        assert!(!order.unrecorded(&s), "its own record needs no place");
        assert_eq!(ready(&mut order, &s), [(0, 1), (1, 1), (1, 2)]);
        s[0].push(Entry::Payload(Payload::Gone { connection: 0 }));
        assert_eq!(*order.record(&s), [run(0, 3)], "a run passes over records");
    }

    #[test]
    fn a_run_passes_over_records_that_are_forgotten() {
        let mut order = Order::new(2);
        let mut s = streams(&[&[".", "0:1", "1:1"], &["."]]);
        assert_eq!(ready(&mut order, &s), [(0, 1), (1, 1)]);
        let used = order.delivered(SEQUENCER, &s);
        assert_eq!(used, 3);
        while s[0].forget_first(used).is_some() {}
        for entry in streams(&[&[".", "0:4"]])[0].iter() {
            s[0].push(entry.clone());
        }
        assert_eq!(ready(&mut order, &s), [(0, 4)]);
    }

    #[test]
    fn residue_of_the_transitional_set_follows_by_rank_and_the_rest_is_dropped() {
        let s = streams(&[&["2:1", "."], &[".", "."], &["."], &["."]]);
        let (places, rest) = Order::new(4).close(&s, &set(&[1, 2]), 7);
        assert_eq!(short(&places), [(2, 1), (1, 1), (1, 2)]);
        assert_eq!(rest, Rest { residue: 2, dropped: 2, ..Rest::default() });
    }

    #[test]
    fn after_a_hole_only_the_transitional_set_keeps_its_places() {
        // 3 is gone with its second payload. 0 is gone too: what it sent after may depend on that payload.
        let s = streams(&[&["3:2 0:2 1:1", ".", "3:3 2:1"], &["."], &["."], &["."]]);
        let mut order = Order::new(4);
        assert_eq!(ready(&mut order, &s), [(3, 1)]);
        let (places, rest) = order.close(&s, &set(&[1, 2]), 7);
        assert_eq!(short(&places), [(1, 1), (2, 1)]);
        assert_eq!(rest, Rest { holes: 2, orphans: 1, ..Rest::default() });
    }

    #[test]
    fn positions_increase_and_unsound_ones_carry_the_fingerprint() {
        let s = streams(&[&[".", "0:1 1:2 2:1"], &["."], &["."]]);
        let (places, _) = Order::new(3).close(&s, &set(&[2]), 7);
        assert_eq!(short(&places), [(0, 1), (1, 1), (2, 1)]);
        let positions: Vec<u64> = places.iter().map(|place| place.position).collect();
        assert_eq!(positions, [4, 5, UNRECORDED | 1 << 32 | 7]);
    }

    #[test]
    fn an_absurd_run_is_skipped_in_one_step() {
        let s = streams(&[&["1:18446744073709551615 2:1"], &["."], &["."]]);
        let (places, _) = Order::new(3).close(&s, &set(&[1, 2]), 0);
        assert_eq!(short(&places), [(1, 1), (2, 1)]);
    }
}
