//! Names that operators keep out: for a time, or for as long as their maintenance lasts. Servers tell each other, and
//! the newer word counts.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use model::{Name, Time};

use crate::message::{Bar, CLAIM_MAX, Term};

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Bars {
    known: BTreeMap<Name, Bar>,
    /// Until when, for those who are kept out for a time.
    until: BTreeMap<Name, Time>,
}

impl Bars {
    /// What is known.
    pub(crate) fn known(&self) -> &BTreeMap<Name, Bar> {
        &self.known
    }

    /// An operator says at the server called `by` that `name` is to stay out, or may come in again.
    pub(crate) fn set(&mut self, now: Time, name: Name, by: Name, out: Option<Term>) {
        let version = self.known.get(&name).map_or(0, |bar| bar.version) + 1;
        self.put(now, name, Bar { version, by, out });
    }

    /// Another server says so. False if that is no news.
    pub(crate) fn merge(&mut self, now: Time, theirs: &BTreeMap<Name, Bar>) -> bool {
        let mut is_news = false;
        for (name, bar) in theirs {
            let is_newer = match self.known.entry(*name) {
                Entry::Occupied(known) => known.get() < bar,
                Entry::Vacant(_) => true,
            };
            if is_newer && bar.version < CLAIM_MAX {
                self.put(now, *name, bar.clone());
                is_news = true;
            }
        }
        is_news
    }

    fn put(&mut self, now: Time, name: Name, bar: Bar) {
        match bar.out {
            Some(Term::For(duration)) => self.until.insert(name, now + duration),
            Some(Term::Maintenance) | None => self.until.remove(&name),
        };
        self.known.insert(name, bar);
    }

    /// Whether `name` is kept out, and until when if that is known.
    pub(crate) fn keeps_out(&self, now: Time, name: Name) -> Option<Option<Time>> {
        match self.known.get(&name)?.out? {
            Term::Maintenance => Some(None),
            Term::For(_) => self.until.get(&name).filter(|until| now < **until).map(|until| Some(*until)),
        }
    }
}
