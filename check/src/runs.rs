//! Sets of sequence numbers. Numbers come nearly in order and nearly without gaps, so a set is kept as its runs: a
//! million deliveries in order cost as much as one.

use std::collections::BTreeMap;

/// A set of numbers, as inclusive runs that are sorted and neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// Adds `number`; false if it was there already.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let next = self.0.partition_point(|run| run.0 <= number);
        let follows = next.checked_sub(1).map(|previous| self.0[previous].1);
        if follows.is_some_and(|end| end >= number) {
            return false;
        }
        let extends = follows.is_some_and(|end| end + 1 == number);
        let precedes = self.0.get(next).is_some_and(|run| number + 1 == run.0);
        match (extends, precedes) {
            (true, true) => {
                self.0[next - 1].1 = self.0[next].1;
                self.0.remove(next);
            }
            (true, false) => self.0[next - 1].1 = number,
            (false, true) => self.0[next].0 = number,
            (false, false) => self.0.insert(next, (number, number)),
        }
        true
    }

    /// The least number of this set that `other` lacks.
    pub(crate) fn first_not_in(&self, other: &Runs) -> Option<u64> {
        self.0.iter().find_map(|&(first, last)| {
            let next = other.0.partition_point(|run| run.0 <= first);
            let covered_to = next.checked_sub(1).map(|previous| other.0[previous].1);
            match covered_to {
                Some(end) if end >= last => None,
                Some(end) if end >= first => Some(end + 1),
                _ => Some(first),
            }
        })
    }
}

/// Sets of messages, each known by its sender and a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Messages<S>(BTreeMap<S, Runs>);

impl<S> Default for Messages<S> {
    fn default() -> Messages<S> {
        Messages(BTreeMap::new())
    }
}

impl<S: Ord + Copy> Messages<S> {
    /// Adds message `number` of `sender`; false if it was there already.
    pub(crate) fn insert(&mut self, sender: S, number: u64) -> bool {
        self.0.entry(sender).or_default().insert(number)
    }

    /// The first message of this set, by sender and number, that `other` lacks.
    pub(crate) fn first_not_in(&self, other: &Messages<S>) -> Option<(S, u64)> {
        let nothing = Runs::default();
        self.0.iter().find_map(|(sender, runs)| {
            let number = runs.first_not_in(other.0.get(sender).unwrap_or(&nothing))?;
            Some((*sender, number))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(numbers: &[u64]) -> Runs {
        let mut runs = Runs::default();
        for number in numbers {
            runs.insert(*number);
        }
        runs
    }

    #[test]
    fn numbers_gather_into_runs_in_any_order() {
        assert_eq!(runs(&[1, 2, 3]).0, [(1, 3)]);
        assert_eq!(runs(&[3, 1, 2]).0, [(1, 3)]);
        assert_eq!(runs(&[5, 1, 7, 6, 9]).0, [(1, 1), (5, 7), (9, 9)]);
    }

    #[test]
    fn a_number_is_new_once() {
        let mut set = runs(&[1, 2, 4]);
        assert!(!set.insert(2));
        assert!(set.insert(3));
        assert!(!set.insert(4));
        assert_eq!(set.0, [(1, 4)]);
    }

    #[test]
    fn the_first_difference_is_found() {
        for (mine, theirs, missing) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], None),
            (&[1, 2, 3], &[1, 2], Some(3)),
            (&[1, 2, 3], &[2, 3], Some(1)),
            (&[1, 4, 5], &[1, 2, 3, 4], Some(5)),
            (&[1, 4], &[1, 5], Some(4)),
            (&[], &[1], None),
        ] {
            assert_eq!(runs(mine).first_not_in(&runs(theirs)), missing, "{mine:?} {theirs:?}");
        }
    }
}
