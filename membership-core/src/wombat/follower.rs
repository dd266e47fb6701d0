//! What a server knows that does not command: whom it follows, how long it bears that one's silence, and whether its
//! predecessor answers.
//!
//! How long depends on its rank: the next in command acts first, and whoever comes after it hears its beacon in time
//! to be silent. Beacons say when the next one is to be expected, so all are quicker while things change.

use alloc::collections::BTreeSet;
use core::time::Duration;

use model::{ServerId, Time};

/// So many beacons in a row have to be missing, or answers of a predecessor.
const MISSING_MAX: u32 = 3;

/// Of two servers, the one whose name is the lesser leads. A server has its rank in all its lives.
pub(crate) fn is_better(a: ServerId, b: ServerId) -> bool {
    a.name() < b.name()
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Follower {
    pub(crate) leader: ServerId,
    pub(crate) view: BTreeSet<ServerId>,
    /// When there was a beacon, and when the next one was to be expected after it.
    heard: Time,
    next: Duration,
    /// When I said that I am here.
    pub(crate) reported: Time,
    pub(crate) watch: Option<Watch>,
}

/// On the predecessor.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Watch {
    pub(crate) of: ServerId,
    heard: Time,
    pub(crate) next_ping: Time,
}

impl Follower {
    pub(crate) fn new(me: ServerId, now: Time, leader: ServerId) -> Follower {
        let mut view = BTreeSet::from([leader]);
        view.insert(me);
        Follower { leader, view, heard: now, next: Duration::ZERO, reported: now, watch: None }
    }

    /// There is a beacon of my leader.
    pub(crate) fn heard(&mut self, me: ServerId, now: Time, view: BTreeSet<ServerId>, next: Duration) {
        self.heard = now;
        self.next = next;
        self.view = view;
        let predecessor =
            self.view.iter().copied().filter(|it| is_better(*it, me)).max_by_key(|server| server.name());
        if self.watch.map(|watch| watch.of) != predecessor {
            self.watch = predecessor.map(|of| Watch { of, heard: now, next_ping: now });
        }
    }

    /// The time between two beacons.
    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    /// My predecessor answers.
    pub(crate) fn pong(&mut self, now: Time, from: ServerId) {
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.of == from) {
            watch.heard = now;
        }
    }

    /// Whether the leader has not told me for too long that I follow it.
    pub(crate) fn is_missed(&self, me: ServerId, now: Time) -> bool {
        !self.view.contains(&me) && now >= self.reported + self.next
    }

    /// From when on I listen to others.
    pub(crate) fn silent_from(&self) -> Time {
        self.heard + self.next * MISSING_MAX
    }

    /// When I take command, if nobody else has: `before` of those who are linked come before me.
    pub(crate) fn deadline(&self, before: u32) -> Time {
        self.silent_from() + self.next * before
    }

    /// I have not been awake myself: the next beacon has its time.
    pub(crate) fn excuse(&mut self, now: Time, before: u32) {
        // As if all but one of them had been missing.
        self.heard = now - self.next * (MISSING_MAX + before).saturating_sub(1);
        if let Some(watch) = &mut self.watch {
            watch.heard = now;
        }
    }
}

impl Watch {
    /// When the predecessor has not answered for too long.
    pub(crate) fn deadline(&self, pace: Duration) -> Time {
        self.heard + pace * (MISSING_MAX + 1)
    }

    /// It is asked once more before that is said again.
    pub(crate) fn again(&mut self, pace: Duration) {
        self.heard = self.heard + pace;
    }
}
