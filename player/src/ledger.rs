//! What a client got: whether every response came exactly once and in order, and whether the bytes are those of the
//! film.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use vod::Film;

/// A number so far ahead of the last one means that the other side counts differently, not that so many are late.
const SKIP_MAX: u64 = 1024;

/// How a response fits behind those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the next one, or one behind others that may still come.
    Ahead,
    /// It was missing, and comes after a later one.
    Late,
    /// It was here before.
    Repeated,
}

/// The number of a response is beyond all reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("response {number} came after response {highest}")]
pub struct Nonsense {
    /// The number.
    pub number: u64,
    /// The greatest one before.
    pub highest: u64,
}

/// Counts the responses of one session, and takes the fingerprint of their bytes in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    highest: u64,
    missing: BTreeSet<u64>,
    repeated: u64,
    reordered: u64,
    bytes: u64,
    hasher: Sha256,
}

impl Ledger {
    /// Enters the next response.
    ///
    /// # Errors
    /// If its number cannot be meant.
    pub fn enter(&mut self, number: u64, payload: &[u8]) -> Result<Place, Nonsense> {
        let place = if number > self.highest {
            if number - self.highest > SKIP_MAX {
                return Err(Nonsense { number, highest: self.highest });
            }
            self.missing.extend(self.highest + 1..number);
            self.highest = number;
            Place::Ahead
        } else if self.missing.remove(&number) {
            self.reordered += 1;
            Place::Late
        } else {
            self.repeated += 1;
            Place::Repeated
        };
        self.bytes += payload.len() as u64;
        self.hasher.update(payload);
        Ok(place)
    }

    /// The greatest number so far; 0 before the first response.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// How many different responses came.
    pub fn responses(&self) -> u64 {
        self.highest - self.lost()
    }

    /// How many have not come although later ones have.
    pub fn lost(&self) -> u64 {
        self.missing.len() as u64
    }

    /// How many came again.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// How many came after a later one.
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// How many bytes came, counting those that came again.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether what came is, byte for byte, as much of `film` as that many responses bring from its start on.
    pub fn matches(&self, film: &Film) -> bool {
        let Ok(count) = usize::try_from(self.highest) else { return false };
        let Some(fragments) = film.fragments().get(..count) else { return false };
        let mut expected = Sha256::new();
        for (index, fragment) in fragments.iter().enumerate() {
            expected.update(if index == 0 { film.opening(fragment) } else { film.payload(fragment) });
        }
        self.hasher.clone().finalize() == expected.finalize()
    }

    /// Whether that is the whole of `film`.
    pub fn is_complete(&self, film: &Film) -> bool {
        usize::try_from(self.highest).is_ok_and(|count| count == film.fragments().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::films;

    fn after(numbers: &[u64]) -> Ledger {
        let mut ledger = Ledger::default();
        for number in numbers {
            ledger.enter(*number, b"x").unwrap();
        }
        ledger
    }

    #[test]
    fn each_disorder_is_counted_as_what_it_is() {
        for (numbers, responses, lost, repeated, reordered) in [
            (&[][..], 0, 0, 0, 0),
            (&[1, 2, 3], 3, 0, 0, 0),
            (&[1, 3], 2, 1, 0, 0),
            (&[1, 1, 2], 2, 0, 1, 0),
            (&[1, 3, 2], 3, 0, 0, 1),
            (&[2, 1, 1, 4], 3, 1, 1, 1),
            (&[0], 0, 0, 1, 0),
        ] {
            let ledger = after(numbers);
            let counted = (ledger.responses(), ledger.lost(), ledger.repeated(), ledger.reordered());
            assert_eq!(counted, (responses, lost, repeated, reordered), "{numbers:?}");
        }
    }

    #[test]
    fn a_number_beyond_reason_is_refused_and_changes_nothing() {
        let mut ledger = after(&[1]);
        assert_eq!(ledger.enter(u64::MAX, b""), Err(Nonsense { number: u64::MAX, highest: 1 }));
        assert_eq!((ledger.highest(), ledger.lost()), (1, 0));
    }

    #[test]
    fn the_bytes_are_compared_with_the_same_stretch_of_the_film() {
        let film = films::ALL[0].parse().unwrap();
        let payload = |index: u32| {
            let fragment = film.fragment(index).unwrap();
            if index == 0 { film.opening(fragment) } else { film.payload(fragment) }
        };
        let mut ledger = Ledger::default();
        assert!(ledger.matches(&film) && !ledger.is_complete(&film));
        for index in 0..film.fragments().len() as u32 {
            ledger.enter(u64::from(index) + 1, &payload(index)).unwrap();
            if [0, 1, 59].contains(&index) {
                assert!(ledger.matches(&film), "after fragment {index}");
            }
        }
        assert!(ledger.matches(&film) && ledger.is_complete(&film));
        let mut spoilt = Ledger::default();
        spoilt.enter(1, &payload(1)).unwrap();
        assert!(!spoilt.matches(&film));
        let mut twice = ledger;
        twice.enter(1, &payload(0)).unwrap();
        assert!(!twice.matches(&film));
    }
}
