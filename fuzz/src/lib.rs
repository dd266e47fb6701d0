//! Corrupted input for whatever reads messages of others: good messages, with a few bytes changed.
//!
//! A reader must refuse what it cannot read and never panic, whatever comes. Bytes at random are refused at the door;
//! what finds bugs is nearly right. So every case begins with a sample of each kind of message, and edits it. Cases
//! follow from their number alone: a test that fails fails again. `FUZZ=100` runs a hundred times as many.
//!
//! A development dependency of the crates that read; no part of any program.
#![deny(missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use prost::Message;

/// How many cases there are for each reader.
const CASES: u64 = 20_000;

/// What became of the cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases that made sense to the reader.
    pub read: u64,
    /// Cases that it refused.
    pub refused: u64,
}

/// Has `read` read corrupted versions of `samples`; it says whether they made sense.
///
/// # Panics
/// If `read` does, or if all cases went one way, so that they prove nothing.
pub fn bytes(samples: &[Vec<u8>], mut read: impl FnMut(&[u8]) -> bool) -> Tally {
    let mut tally = Tally::default();
    for case in 0..CASES * times() {
        let mut dice = Dice(case);
        let corrupted = corrupted(samples, &mut dice);
        match catch_unwind(AssertUnwindSafe(|| read(&corrupted))) {
            Ok(true) => tally.read += 1,
            Ok(false) => tally.refused += 1,
            Err(panic) => {
                eprintln!("case {case}: {corrupted:02x?}");
                resume_unwind(panic);
            }
        }
    }
    assert!(tally.read.min(tally.refused) > CASES / 100, "too few of one kind: {tally:?}");
    tally
}

/// The same for protobuf messages: `read` is given what decodes.
///
/// # Panics
/// As [`bytes`].
pub fn messages<M: Message + Default>(samples: &[M], mut read: impl FnMut(M) -> bool) -> Tally {
    let samples: Vec<Vec<u8>> = samples.iter().map(Message::encode_to_vec).collect();
    bytes(&samples, |bytes| M::decode(bytes).is_ok_and(&mut read))
}

fn times() -> u64 {
    std::env::var("FUZZ").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// SplitMix64: each number of a case is as good as the next.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// One of the samples, with one to four edits.
fn corrupted(samples: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = samples.get(dice.below(samples.len())).cloned().unwrap_or_default();
    for _ in 0..=dice.below(4) {
        edit(&mut bytes, samples, dice);
    }
    bytes
}

fn edit(bytes: &mut Vec<u8>, samples: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(bytes.len());
    let upto = at + dice.below((bytes.len() - at).min(16));
    match dice.below(9) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..upto)),
        2 => {
            let again = bytes[at..upto].to_vec();
            drop(bytes.splice(at..at, again));
        }
        3 => {
            let other = samples.get(dice.below(samples.len())).map(Vec::as_slice).unwrap_or_default();
            let from = dice.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        // The greatest number that a varint holds, one too great, and one that never ends.
        4 => {
            let long = [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..], &[0xff; 11]];
            drop(bytes.splice(at..at, long[dice.below(2)].iter().copied()));
        }
        5 => bytes.insert(at, dice.next() as u8),
        6 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        7 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
        _ if !bytes.is_empty() => bytes[at] = dice.next() as u8,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_what_is_nearly_right() {
        let samples = [b"one two".to_vec(), b"three".to_vec()];
        let mut seen = std::collections::BTreeSet::new();
        let tally = bytes(&samples, |bytes| {
            seen.insert(bytes.to_vec());
            bytes.starts_with(b"one")
        });
        assert!(tally.read > CASES / 10 && seen.len() > 1000, "{tally:?}");
    }

    #[test]
    #[should_panic = "too few"]
    fn a_reader_that_takes_everything_proves_nothing() {
        bytes(&[vec![1]], |_| true);
    }

    #[test]
    #[should_panic = "attempt"]
    fn a_panic_is_found() {
        bytes(&[vec![7, 1, 2, 3]], |bytes| {
            bytes.first().is_some_and(|first| first.checked_add(1).expect("attempt") > 3)
        });
    }
}
