//! Moshe: every server announces to every other who is attached to it, and votes for what follows [Moshe].

use alloc::collections::BTreeSet;
use core::time::Duration;

use model::{ServerId, Time};

use crate::agreement::Agreement;
use crate::links::Links;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Moshe {
    pub(crate) links: Links,
    pub(crate) agreement: Agreement,
    /// Whose votes have come in and may ask for one of mine.
    pub(crate) unanswered: BTreeSet<ServerId>,
    patience: Duration,
}

impl Moshe {
    pub(crate) fn new(me: ServerId, patience: Duration) -> Moshe {
        let unanswered = BTreeSet::new();
        Moshe { links: Links::new(me), agreement: Agreement::new(me), unanswered, patience }
    }

    /// The servers that this one is to agree with.
    pub(crate) fn clique(&self, now: Time) -> BTreeSet<ServerId> {
        self.links.clique(now, self.patience)
    }

    /// Believes what has been missing for long enough.
    pub(crate) fn expire(&mut self, now: Time) {
        self.links.expire(now, self.patience);
    }

    pub(crate) fn next_expiry(&self) -> Option<Time> {
        self.links.next_expiry(self.patience)
    }
}
