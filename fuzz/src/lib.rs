//! Corrupted input for whatever reads messages of others: good messages, with a few places edited.
//!
//! A reader must refuse what it cannot read and never panic, whatever comes. Bytes at random are refused at the door;
//! what finds bugs is nearly right. In `cargo test` a case is a [`Script`]: one of the samples, and what is done to it.
//! `bolero` makes it from the number of the case alone: a test that fails fails again. `FUZZ=100` runs a hundred times as
//! many. Under `cargo bolero test` a fuzzer edits the samples, led by the code that they reach. What it leaves is read
//! first by `cargo test`.
//!
//! A development dependency of the crates that read; no part of any program.
#![deny(missing_docs)]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// Names the test that it stands in, which is the target to be fuzzed.
pub use bolero::check as target;
use bolero::generator::bolero_generator::driver;
use bolero::{DefaultEngine, Driver, TypeGenerator, one_of, one_value_of};
use prost::Message;
use rand_xoshiro::Xoroshiro128PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// How many cases there are for each reader.
const CASES: u64 = 15_000;

/// A test that a fuzzer can run.
pub type Target = bolero::TestTarget<bolero::ByteSliceGenerator, DefaultEngine, bolero::BorrowedInput>;

/// Has `read` read corrupted versions of `samples`; it says whether they made sense.
///
/// # Panics
/// If `read` does, or if nearly all cases go one way, so that they prove nothing.
pub fn bytes(target: Target, samples: &[Vec<u8>], mut read: impl FnMut(&[u8]) -> bool + RefUnwindSafe) {
    hand_to_fuzzer(samples);
    // A fuzzer does not come back from here. Without one, these are the cases that it has left.
    target.with_iterations(0).for_each(|bytes: &[u8]| {
        read(bytes);
    });
    let cases = CASES * std::env::var("FUZZ").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let mut made_sense = 0;
    for case in 0..cases {
        let Some(script) = Script::numbered(case) else { continue };
        match catch_unwind(AssertUnwindSafe(|| read(&script.play(samples)))) {
            Ok(sense) => made_sense += u64::from(sense),
            Err(panic) => {
                eprintln!("case {case}: {script:?}");
                resume_unwind(panic);
            }
        }
    }
    assert!(made_sense.min(cases - made_sense) > cases / 100, "too few of one kind: {made_sense} of {cases}");
}

/// The same for protobuf messages: `read` is given what decodes.
///
/// # Panics
/// As [`bytes`].
pub fn messages<M: Message + Default>(
    target: Target,
    samples: &[M],
    mut read: impl FnMut(M) -> bool + RefUnwindSafe,
) {
    let samples: Vec<_> = samples.iter().map(Message::encode_to_vec).collect();
    bytes(target, &samples, |bytes| M::decode(bytes).is_ok_and(&mut read));
}

/// Puts the samples where a fuzzer, if there is one, is about to look for something to begin with.
fn hand_to_fuzzer(samples: &[Vec<u8>]) {
    let Ok(arguments) = std::env::var("BOLERO_LIBFUZZER_ARGS") else { return };
    let corpus = arguments.split(' ').next().unwrap_or_default();
    for (number, sample) in samples.iter().enumerate() {
        let path = Path::new(corpus).join(format!("sample-{number}"));
        std::fs::write(&path, sample).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// A sample, and what is done to it.
#[derive(Debug, TypeGenerator)]
struct Script {
    sample: u8,
    #[generator(Vec::produce().with().len(1_usize..=4))]
    edits: Vec<Edit>,
}

/// At a place, so many bytes give way to others.
#[derive(Debug, TypeGenerator)]
struct Edit(u16, #[generator(one_value_of([1, 1, 1, 0, 4, usize::MAX]))] usize, Put);

#[derive(Debug, TypeGenerator)]
enum Put {
    Byte(#[generator(one_of((u8::produce(), one_value_of([0, 1, 0x7f, 0x80, 0xff]))))] u8),
    /// The greatest number that a varint holds, one too great, and one that never ends.
    Varint(#[generator(one_value_of([1, 2, 0xff]))] u8),
    /// What stands there, with one bit changed.
    Flipped(#[generator(0..8)] u8),
    /// So much of what stands there already, or nothing.
    Again(#[generator(one_value_of([0, 0, 2, 8, 16]))] usize),
    /// So much of what a sample has at some place.
    Piece(u8, u16, u8),
}

impl Script {
    fn numbered(case: u64) -> Option<Self> {
        let dice = Xoroshiro128PlusPlus::seed_from_u64(case);
        driver::Rng::new(dice, &driver::Options::default()).produce()
    }

    fn play(&self, samples: &[Vec<u8>]) -> Vec<u8> {
        let sample = |number: u8| &samples[usize::from(number) % samples.len()];
        let mut bytes = sample(self.sample).clone();
        for &Edit(at, removed, ref put) in &self.edits {
            let put = match *put {
                Put::Byte(byte) => vec![byte],
                Put::Varint(last) => [[0xff; 9].as_slice(), &[last]].concat(),
                Put::Flipped(bit) => {
                    bytes[place(&bytes, at, 1)].iter().map(|byte| byte ^ (1 << bit)).collect()
                }
                Put::Again(length) => bytes[place(&bytes, at, length)].to_vec(),
                Put::Piece(of, from, length) => sample(of)[place(sample(of), from, length.into())].to_vec(),
            };
            drop(bytes.splice(place(&bytes, at, removed), put));
        }
        bytes
    }
}

/// So many bytes from there, as far as there are any.
fn place(bytes: &[u8], at: u16, length: usize) -> Range<usize> {
    let start = usize::from(at) % (bytes.len() + 1);
    start..start.saturating_add(length).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_reader_sees_what_is_nearly_right_and_the_same_each_time() {
        let samples = [b"one two".to_vec(), b"three".to_vec()];
        let mut seen = [Vec::new(), Vec::new()];
        for seen in &mut seen {
            bytes(target!(), &samples, |bytes| {
                seen.push(bytes.to_vec());
                bytes.starts_with(b"one")
            });
        }
        assert_eq!(seen[0], seen[1]);
        assert!(seen[0].iter().collect::<BTreeSet<_>>().len() > 1000);
    }

    #[test]
    #[should_panic = "too few"]
    fn a_reader_that_takes_everything_proves_nothing() {
        bytes(target!(), &[vec![1]], |_| true);
    }

    #[test]
    #[should_panic = "attempt"]
    fn a_panic_is_found() {
        bytes(target!(), &[vec![7, 1, 2, 3]], |bytes| {
            bytes.first().is_some_and(|first| first.checked_add(1).expect("attempt") > 3)
        });
    }
}
