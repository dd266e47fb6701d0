//! The only source of randomness: one seed decides everything.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A seeded sequence of throws.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of `seed` for one purpose: throws for one purpose do not shift those for another.
    pub fn new(seed: u64, purpose: u64) -> Dice {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(purpose);
        Dice(rng)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// A number in `range`.
    pub fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.bits() % (range.end() - range.start() + 1)
    }

    /// A time in `range`, to the microsecond.
    pub fn time(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let micros = |time: &Duration| time.as_micros() as u64;
        Duration::from_micros(self.between(micros(range.start())..=micros(range.end())))
    }

    /// True in `percent` of all throws.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.bits() % 100 < percent
    }

    /// One of `of`, which is not empty.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}
