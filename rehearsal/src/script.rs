//! What happens in a session: requests and responses in an order that a seed decides.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A seeded sequence of throws.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    /// True once in `times`, on average.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// `bytes` with a few of them wrong, missing or doubled.
    pub(crate) fn spoilt(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len() + 1);
            match self.below(3) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.below(256) as u8),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << self.below(8)),
            }
        }
        bytes
    }
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The client sends this.
    Request(Vec<u8>),
    /// The primary sends its next response, waiting as long as the service wants it to.
    Next,
}

impl Step {
    /// As it is told to people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Step::Request(bytes) => format!("request {}", shown(bytes)),
            Step::Next => "next".to_owned(),
        }
    }
}

/// Bytes as text, if that is what they are, and not too many of them.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 160;
    let start = bytes.get(..SHOWN_MAX).unwrap_or(bytes);
    let text = match std::str::from_utf8(start) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => start.escape_ascii().to_string(),
    };
    if start.len() < bytes.len() { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}

/// The steps of one session.
pub(crate) fn write(dice: &mut Dice, requests: &[Vec<u8>], steps: usize) -> Vec<Step> {
    // Some clients ask more than they listen.
    let patience = 2 + dice.below(4);
    let step = |_| match requests.len() {
        0 => Step::Next,
        _ if !dice.once_in(patience) => Step::Next,
        count => {
            let request = &requests[dice.below(count)];
            Step::Request(if dice.once_in(8) { dice.spoilt(request) } else { request.clone() })
        }
    };
    (0..steps).map(step).collect()
}
