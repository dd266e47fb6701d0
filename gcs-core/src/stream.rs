//! One member's stream inside a configuration: a gap-free run of entries, of which the front is forgotten once every
//! member has delivered it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::fault::PeerFault;
use crate::message::Entry;

/// The entries of one member that are held, by index from 1.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Stream {
    /// Entries up to here are forgotten.
    base: u64,
    entries: VecDeque<Entry>,
    last_payload: u64,
}

impl Stream {
    /// The index of the last entry, 0 before the first: everything up to it has been held, so this is the longest
    /// gap-free prefix.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// How many entries are held.
    pub(crate) fn held(&self) -> usize {
        self.entries.len()
    }

    /// The index of the last entry that is a payload.
    pub(crate) fn last_payload(&self) -> u64 {
        self.last_payload
    }

    /// The entry at `index`, if it is held.
    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.base + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The entries that are held, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Appends an entry and returns its index.
    pub(crate) fn push(&mut self, entry: Entry) -> u64 {
        self.entries.push_back(entry);
        let index = self.end();
        match self.entries.back() {
            Some(Entry::Payload(_)) => self.last_payload = index,
            Some(Entry::Order(_)) | None => {}
        }
        index
    }

    /// Stores entries that begin at index `first`; those that are there already are skipped, since every copy of an
    /// entry is the same [KK:same-messages].
    pub(crate) fn store(&mut self, first: u64, entries: Vec<Entry>) -> Result<(), PeerFault> {
        let expected = self.end() + 1;
        let Some(known) = expected.checked_sub(first).filter(|_| first > 0) else {
            return Err(PeerFault::IndexGap { expected, found: first });
        };
        for entry in entries.into_iter().skip(usize::try_from(known).unwrap_or(usize::MAX)) {
            self.push(entry);
        }
        Ok(())
    }

    /// Forgets the first entry if its index is not above `upto`, and returns it.
    pub(crate) fn forget_first(&mut self, upto: u64) -> Option<Entry> {
        if self.base >= upto {
            return None;
        }
        let entry = self.entries.pop_front()?;
        self.base += 1;
        Some(entry)
    }

    /// Drops the entries above `end`.
    pub(crate) fn truncate(&mut self, end: u64) {
        let keep = end.saturating_sub(self.base);
        self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    /// The entries after index `after` up to index `upto`, as many as make a message of about `bytes`, at least one
    /// if there is one.
    pub(crate) fn batch(&self, after: u64, upto: u64, bytes: usize) -> Vec<Entry> {
        let mut cost = 0;
        (after + 1..=upto)
            .map_while(|index| self.get(index))
            .take_while(|entry| {
                let admitted = cost < bytes;
                cost += entry.cost();
                admitted
            })
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    fn gone(connection: u32) -> Entry {
        Entry::Payload(Payload::Gone { connection })
    }

    fn stream(count: u32) -> Stream {
        let mut stream = Stream::default();
        (1..=count).for_each(|n| {
            stream.push(gone(n));
        });
        stream
    }

    #[test]
    fn copies_are_absorbed_and_gaps_refused() {
        let mut stream = stream(2);
        stream.store(1, [1, 2, 3].map(gone).into()).unwrap();
        stream.store(2, [2].map(gone).into()).unwrap();
        assert_eq!(stream.end(), 3);
        assert_eq!(stream.get(3), Some(&gone(3)));
        let gap = Err(PeerFault::IndexGap { expected: 4, found: 5 });
        assert_eq!(stream.store(5, [5].map(gone).into()), gap);
        assert!(stream.store(0, [9].map(gone).into()).is_err());
    }

    #[test]
    fn the_front_is_forgotten_and_the_tail_dropped_without_renumbering() {
        let mut stream = stream(5);
        assert_eq!(stream.forget_first(2), Some(gone(1)));
        assert_eq!(stream.forget_first(2), Some(gone(2)));
        assert_eq!(stream.forget_first(2), None);
        assert_eq!((stream.get(2), stream.get(3), stream.end()), (None, Some(&gone(3)), 5));
        stream.truncate(4);
        assert_eq!((stream.get(5), stream.end(), stream.held()), (None, 4, 2));
    }

    #[test]
    fn batches_close_once_they_are_large_enough() {
        let stream = stream(5);
        let cost = gone(1).cost();
        assert_eq!(stream.batch(1, 5, cost + 1), [gone(2), gone(3)]);
        assert_eq!(stream.batch(1, 5, 1), [gone(2)]);
        assert_eq!(stream.batch(3, 4, 1000), [gone(4)]);
        assert_eq!(stream.batch(5, 5, 1000), []);
    }

    #[test]
    fn order_records_are_not_payloads() {
        let mut stream = stream(1);
        stream.push(Entry::Order([].into()));
        assert_eq!((stream.last_payload(), stream.end()), (1, 2));
    }
}
