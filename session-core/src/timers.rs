//! Deadlines: at most one for each key, the earliest first.

use alloc::collections::{BTreeMap, BTreeSet};

use model::Time;

/// The deadlines of many keys.
#[derive(Clone, Debug)]
pub(crate) struct Timers<K> {
    by_time: BTreeSet<(Time, K)>,
    by_key: BTreeMap<K, Time>,
}

impl<K: Clone + Ord> Timers<K> {
    /// No deadline.
    pub(crate) fn new() -> Timers<K> {
        Timers { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Gives `key` this deadline in place of the one that it had.
    pub(crate) fn set(&mut self, key: &K, at: Option<Time>) {
        if self.by_key.get(key).copied() == at {
            return;
        }
        if let Some(before) = self.by_key.remove(key) {
            self.by_time.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.by_key.insert(key.clone(), at);
            self.by_time.insert((at, key.clone()));
        }
    }

    /// The earliest deadline.
    pub(crate) fn first(&self) -> Option<Time> {
        self.by_time.first().map(|(time, _)| *time)
    }

    /// A key whose deadline has come; it has none from here on.
    pub(crate) fn pop(&mut self, now: Time) -> Option<K> {
        let (time, _) = self.by_time.first()?;
        if *time > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.by_time.clear();
        self.by_key.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_deadline_and_the_earliest_comes_first() {
        let at = Time::from_micros;
        let mut timers = Timers::new();
        timers.set(&'a', Some(at(5)));
        timers.set(&'b', Some(at(3)));
        timers.set(&'a', Some(at(1)));
        timers.set(&'c', Some(at(2)));
        timers.set(&'c', None);
        assert_eq!(timers.first(), Some(at(1)));
        assert_eq!(timers.pop(at(0)), None);
        assert_eq!(timers.pop(at(3)), Some('a'));
        assert_eq!(timers.pop(at(3)), Some('b'));
        assert_eq!((timers.pop(at(9)), timers.first()), (None, None));
    }
}
