//! Fingerprints of states, and parts of states that remember theirs.
//!
//! A fingerprint has 64 bits. Among ten million states, two that differ have the same one with a probability of three
//! in a million; one of them would then not be visited.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The fingerprint of `value`, the same in every run.
pub(crate) fn of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = Folded(0);
    value.hash(&mut hasher);
    hasher.finish()
}

/// Folds each word into the rest by a multiplication to 128 bits: states are mostly small numbers, and a hash made
/// for hostile input would take a third of the search.
struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        const OTHER: u64 = 0xd1b5_4a32_d192_ed03;
        let product = u128::from(self.0 ^ word ^ OTHER) * u128::from(ODD ^ self.0.rotate_left(32));
        self.0 = (product as u64 ^ (product >> 64) as u64).wrapping_add(self.0.rotate_left(23));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A part of a state, shared by all states that have it in common.
pub(crate) struct Part<T> {
    value: Arc<T>,
    print: Cell<Option<u64>>,
}

impl<T> Part<T> {
    pub(crate) fn new(value: T) -> Part<T> {
        Part { value: Arc::new(value), print: Cell::new(None) }
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Part<T> {
        Part { value: Arc::clone(&self.value), print: self.print.clone() }
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Changes the part in this state alone.
impl<T: Clone> DerefMut for Part<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.print.set(None);
        Arc::make_mut(&mut self.value)
    }
}

impl<T: Hash> Hash for Part<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let print = self.print.get().unwrap_or_else(|| of(&*self.value));
        self.print.set(Some(print));
        state.write_u64(print);
    }
}
