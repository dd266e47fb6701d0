//! Linearizability of histories that clients saw: whether every operation can be given one moment between its call and
//! its answer, so that a single copy that does them at these moments gives the same answers.
//!
//! The search is that of Wing and Gong, with Lowe's memory of what was tried. It takes exponential time in the number of
//! operations that are under way at once, and none in that of those that follow on each other, so objects that have
//! nothing to do with each other are best judged one by one.

use std::collections::HashSet;
use std::hash::Hash;

/// An operation, from its call to its answer.
#[derive(Clone, Debug)]
pub struct Call<O> {
    /// What was done, and what was answered.
    pub operation: O,
    /// When it was called.
    pub called: u64,
    /// When it was answered; nothing: never, so it may have been done or not.
    pub answered: Option<u64>,
}

/// Whether a history is one of an object that begins as `initial`. `step` does an operation: nothing if the object would
/// have answered otherwise. An operation that was not answered fits in with any answer.
pub fn is_linearizable<S, O>(initial: S, calls: &[Call<O>], step: impl Fn(&S, &O) -> Option<S>) -> bool
where
    S: Clone + Eq + Hash,
{
    let mut calls: Vec<&Call<O>> = calls.iter().collect();
    calls.sort_by_key(|call| call.called);
    let begin = Partial { done: Done::default(), state: initial };
    let (mut seen, mut open) = (HashSet::from([begin.clone()]), vec![begin]);
    while let Some(Partial { done, state }) = open.pop() {
        let waiting = || calls.iter().enumerate().filter(|(place, _)| !done.has(*place));
        // Whatever was called after this was answered comes after it.
        let Some(first_answer) = waiting().filter_map(|(_, call)| call.answered).min() else { return true };
        for (place, call) in waiting().take_while(|(_, call)| call.called <= first_answer) {
            if let Some(state) = step(&state, &call.operation) {
                let next = Partial { done: done.and(place), state };
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    false
}

/// Some of the operations have had their moment.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Partial<S> {
    done: Done,
    state: S,
}

/// Which ones: all before `from`, and those after it whose bit is set.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Done {
    from: usize,
    bits: Vec<bool>,
}

impl Done {
    fn has(&self, place: usize) -> bool {
        place < self.from || self.bits.get(place - self.from).copied().unwrap_or(false)
    }

    fn and(&self, place: usize) -> Done {
        let mut next = self.clone();
        let offset = place - self.from;
        if next.bits.len() <= offset {
            next.bits.resize(offset + 1, false);
        }
        next.bits[offset] = true;
        let whole = next.bits.iter().take_while(|bit| **bit).count();
        next.bits.drain(..whole);
        next.from += whole;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done to a register, and what was read.
    #[derive(Clone, Copy, Debug)]
    enum Register {
        Write(u8),
        Read(u8),
    }
    use Register::{Read, Write};

    fn judge(calls: &[(Register, u64, u64)]) -> bool {
        let call = |(operation, called, answered): &(Register, u64, u64)| Call {
            operation: *operation,
            called: *called,
            answered: (*answered > 0).then_some(*answered),
        };
        let calls: Vec<_> = calls.iter().map(call).collect();
        is_linearizable(0, &calls, |state, operation| match operation {
            Write(value) => Some(*value),
            Read(value) => (value == state).then_some(*state),
        })
    }

    #[test]
    fn what_a_single_copy_would_have_answered_is_linearizable() {
        for history in [
            &[][..],
            &[(Write(1), 1, 2), (Read(1), 3, 4)],
            // Under way at once: either order.
            &[(Write(1), 1, 5), (Read(0), 2, 3), (Read(1), 4, 6)],
            &[(Write(1), 1, 5), (Write(2), 2, 4), (Read(1), 6, 7)],
            &[(Write(1), 1, 5), (Write(2), 2, 4), (Read(2), 6, 7)],
            // Never answered: done late, or not at all.
            &[(Write(1), 1, 0), (Read(0), 2, 3), (Read(1), 4, 5)],
            &[(Write(1), 1, 0), (Read(0), 2, 3), (Read(0), 4, 5)],
        ] {
            assert!(judge(history), "{history:?}");
        }
    }

    #[test]
    fn what_no_single_copy_would_have_answered_is_not() {
        for history in [
            &[(Read(1), 1, 2)][..],
            // An old value, after the new one was there.
            &[(Write(1), 1, 2), (Read(0), 3, 4)],
            &[(Write(1), 1, 9), (Read(1), 2, 3), (Read(0), 4, 5)],
            // A write that came undone.
            &[(Write(1), 1, 2), (Write(2), 3, 4), (Read(1), 5, 6)],
            &[(Write(1), 1, 0), (Read(1), 2, 3), (Read(0), 4, 5)],
            // Two readers who differ on the order of two writes.
            &[(Write(1), 1, 9), (Write(2), 1, 9), (Read(1), 2, 3), (Read(2), 4, 5), (Read(1), 6, 7)],
        ] {
            assert!(!judge(history), "{history:?}");
        }
    }

    #[test]
    fn long_histories_are_judged_quickly() {
        let history: Vec<_> = (0..500_u64)
            .flat_map(|turn| {
                let (at, value) = (turn * 10, (turn % 200) as u8);
                [(Write(value), at + 1, at + 8), (Read(value), at + 2, at + 9), (Read(value), at + 3, at + 9)]
            })
            .collect();
        assert!(judge(&history));
        let spoilt: Vec<_> = history.into_iter().chain([(Read(7), 30_000, 30_001)]).collect();
        assert!(!judge(&spoilt));
    }
}
