//! Which servers can talk to each other. Each tells all others what it knows of all links, so those that are connected
//! at all come to know the same links, and with that the same cliques: a target is a clique of servers.
//!
//! When a link breaks, who is at its other end has most likely crashed, and the others are about to see that too: for
//! the time of [`Params::patience`](crate::Params::patience), it counts as gone whatever others say, and a link that
//! only others miss counts as whole. After that, what is said counts.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use model::{ServerId, Time};

use crate::cliques::Cuts;
use crate::message::Neighbours;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Links {
    me: ServerId,
    known: BTreeMap<ServerId, Neighbours>,
    /// Since when a link of mine is missing whose other end is not known to be gone.
    broken: BTreeMap<ServerId, Time>,
    /// When servers were first heard of, or came to be connected again, whose links may still be under way.
    joined: BTreeMap<ServerId, Time>,
    /// Those with whom the link broke, and who have said nothing since: what they said before is of the old link.
    stale: BTreeSet<ServerId>,
    /// Since when a link of others is missing, though both have been linked.
    missing: BTreeMap<(ServerId, ServerId), Time>,
}

impl Links {
    pub(crate) fn new(me: ServerId) -> Links {
        let known = BTreeMap::from([(me, Neighbours::default())]);
        let (broken, joined, missing) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Links { me, known, broken, joined, stale: BTreeSet::new(), missing }
    }

    /// What is known of all links.
    pub(crate) fn known(&self) -> &BTreeMap<ServerId, Neighbours> {
        &self.known
    }

    fn change_mine(&mut self, change: impl FnOnce(&mut BTreeSet<ServerId>) -> bool) -> bool {
        let mine = self.known.entry(self.me).or_default();
        let is_changed = change(&mut mine.linked);
        mine.version += u64::from(is_changed);
        is_changed
    }

    /// There is a link to `server`, and a row of it. False if that is no news.
    pub(crate) fn up(&mut self, now: Time, server: ServerId) -> bool {
        let before = self.connected();
        let is_news = self.change_mine(|linked| linked.insert(server));
        self.meet(now, &before);
        is_news
    }

    /// Those who are connected with this server, by whichever links.
    fn connected(&self) -> BTreeSet<ServerId> {
        let mut all = BTreeSet::from([self.me]);
        loop {
            let reached = |it: &&ServerId| {
                !all.contains(*it) && all.iter().any(|other| is_linked(&self.known, *other, **it))
            };
            let more: Vec<ServerId> = self.known.keys().filter(reached).copied().collect();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// Parts that come together make one link after the other: to those who were connected `before`, whoever is now
    /// joins.
    fn meet(&mut self, now: Time, before: &BTreeSet<ServerId>) {
        let new = self.connected().into_iter().filter(|server| !before.contains(server));
        self.joined.extend(new.map(|server| (server, now)));
    }

    /// The link to `server` broke. False if it did not count.
    pub(crate) fn down(&mut self, now: Time, server: ServerId) -> bool {
        self.stale.insert(server);
        self.missing.remove(&pair(self.me, server));
        let was_up = self.change_mine(|linked| linked.remove(&server));
        if was_up {
            self.broken.insert(server, now);
        }
        was_up
    }

    /// Forgets the earlier lives of `server`, and whatever others may still say of them. False if there were none.
    pub(crate) fn forget_before(&mut self, now: Time, server: ServerId) -> bool {
        let is_earlier = |other: &ServerId| other.name() == server.name() && other.boot() < server.boot();
        self.known.retain(|other, _| !is_earlier(other));
        self.broken.retain(|other, _| !is_earlier(other));
        self.stale.retain(|other| !is_earlier(other));
        self.joined.retain(|other, _| !is_earlier(other));
        self.missing.retain(|(a, b), _| !is_earlier(a) && !is_earlier(b));
        self.known.entry(server).or_insert_with(|| {
            self.joined.insert(server, now);
            Neighbours::default()
        });
        self.change_mine(|linked| {
            let before = linked.len();
            linked.retain(|other| !is_earlier(other));
            linked.len() != before
        })
    }

    /// What `from` knows. False if that is no news.
    pub(crate) fn merge(
        &mut self,
        now: Time,
        from: ServerId,
        theirs: &BTreeMap<ServerId, Neighbours>,
    ) -> bool {
        self.stale.remove(&from);
        let before = self.connected();
        let mut is_news = false;
        let me = self.me;
        for (server, neighbours) in theirs.iter().filter(|(server, _)| **server != me) {
            let known = self.known.get(server);
            if known.is_some_and(|known| known.version >= neighbours.version) || self.is_of_the_past(*server)
            {
                continue;
            }
            let lost: Option<BTreeSet<_>> =
                known.map(|known| known.linked.difference(&neighbours.linked).copied().collect());
            for other in lost.unwrap_or_default() {
                self.missing.entry(pair(*server, other)).or_insert(now);
            }
            self.forget_before(now, *server);
            self.known.insert(*server, neighbours.clone());
            is_news = true;
        }
        // Until its other end has said so too, a link is as missing as it was.
        let Links { known, missing, .. } = self;
        missing.retain(|(a, b), _| !is_linked(known, *a, *b));
        self.meet(now, &before);
        is_news
    }

    /// Whether this server has a link to `server`.
    fn is_mine(&self, server: ServerId) -> bool {
        self.known.get(&self.me).is_some_and(|mine| mine.linked.contains(&server))
    }

    /// Whether a later life of this server is known.
    fn is_of_the_past(&self, server: ServerId) -> bool {
        self.known.keys().any(|known| known.name() == server.name() && known.boot() > server.boot())
    }

    /// The servers that this one is to agree with, itself among them.
    pub(crate) fn clique(&self, now: Time, patience: Duration) -> BTreeSet<ServerId> {
        let waits = |since: &Time| now < *since + patience;
        let joins = |server: &ServerId| self.joined.get(server).is_some_and(waits);
        let counts = |a: &ServerId, b: &ServerId| {
            let is_linked = is_linked(&self.known, *a, *b);
            let is_missing = self.missing.get(&pair(*a, *b)).is_some_and(waits);
            if *a == self.me || *b == self.me {
                let other = if *a == self.me { *b } else { *a };
                // If its other end says that it broke, mine is about to see that.
                return !self.stale.contains(&other) && (is_linked || is_missing && self.is_mine(other));
            }
            // Somebody with whom I have no link either is not about to be seen again.
            let are_mine = || self.is_mine(*a) && self.is_mine(*b);
            is_linked || (is_missing || joins(a) || joins(b)) && are_mine()
        };
        // A link that is made again is still broken until both ends have said so.
        let is_gone = |server: &ServerId| {
            let may_come = self.broken.get(server).is_some_and(waits) || joins(server);
            may_come && !counts(&self.me, server)
        };
        // Who is connected with me at all.
        let mut all = BTreeSet::from([self.me]);
        loop {
            let reached = |server: &&ServerId| {
                !all.contains(*server) && !is_gone(server) && all.iter().any(|it| counts(it, server))
            };
            let more: BTreeSet<ServerId> = self.known.keys().filter(reached).copied().collect();
            if more.is_empty() {
                break;
            }
            all.extend(more);
        }
        let mut cuts = Cuts::none(all.iter().copied());
        for a in &all {
            for b in all.range(*a..).skip(1).filter(|b| !counts(a, b)) {
                cuts.insert(*a, *b);
            }
        }
        let mine = cuts.partition().into_iter().find(|clique| clique.contains(&self.me));
        mine.unwrap_or_else(|| BTreeSet::from([self.me]))
    }

    /// Forgets what has been missing for long enough to be believed. Whether there was any.
    pub(crate) fn expire(&mut self, now: Time, patience: Duration) -> bool {
        let before = self.broken.len() + self.missing.len() + self.joined.len();
        self.broken.retain(|_, since| now < *since + patience);
        self.joined.retain(|_, since| now < *since + patience);
        self.missing.retain(|_, since| now < *since + patience);
        before != self.broken.len() + self.missing.len() + self.joined.len()
    }

    /// When the next link has been missing for long enough.
    pub(crate) fn next_expiry(&self, patience: Duration) -> Option<Time> {
        self.broken
            .values()
            .chain(self.joined.values())
            .chain(self.missing.values())
            .map(|since| *since + patience)
            .min()
    }
}

/// Whether both say so.
fn is_linked(known: &BTreeMap<ServerId, Neighbours>, a: ServerId, b: ServerId) -> bool {
    let says = |x, y| known.get(x).is_some_and(|known: &Neighbours| known.linked.contains(y));
    says(&a, &b) && says(&b, &a)
}

fn pair(a: ServerId, b: ServerId) -> (ServerId, ServerId) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Boot;

    const PATIENCE: Duration = Duration::from_millis(500);

    fn server(name: &str) -> ServerId {
        ServerId::new(name.parse().unwrap(), Boot::new(1))
    }

    fn says(who: &str, version: u64, linked: &[&str]) -> BTreeMap<ServerId, Neighbours> {
        let linked = linked.iter().map(|name| server(name)).collect();
        BTreeMap::from([(server(who), Neighbours { version, linked })])
    }

    /// c and d have long been without a and b, and a link comes after the other. Whoever is linked with c already is
    /// together with d, though the link between the two is still to come.
    #[test]
    fn parts_that_come_together_do_not_fall_apart_on_the_way() {
        let (a, b, c, d) = (server("a"), server("b"), server("c"), server("d"));
        let mut links = Links::new(c);
        links.forget_before(Time::ZERO, d);
        links.up(Time::ZERO, d);
        links.merge(Time::ZERO, d, &says("d", 1, &["c"]));
        for (other, linked) in [("a", ["b"]), ("b", ["a"])] {
            links.merge(Time::ZERO, d, &says(other, 1, &linked));
        }
        let now = Time::ZERO + 10 * PATIENCE;
        links.expire(now, PATIENCE);
        assert_eq!(links.clique(now, PATIENCE), BTreeSet::from([c, d]));
        for (other, linked) in [("a", ["b", "c"]), ("b", ["a", "c"])] {
            links.up(now, server(other));
            links.merge(now, server(other), &says(other, 2, &linked));
        }
        assert_eq!(links.clique(now, PATIENCE), BTreeSet::from([a, b, c, d]));
        let late = now + PATIENCE;
        links.expire(late, PATIENCE);
        assert_eq!(links.clique(late, PATIENCE), BTreeSet::from([a, b, c]), "those links do not come");
    }

    /// Both see that a is gone, b a little later. While that is waited for, and in the time between the two ends of that
    /// wait, a is not somebody whom only b can reach.
    #[test]
    fn a_server_that_all_have_lost_is_not_counted_on_by_way_of_others() {
        let (a, b) = (server("a"), server("b"));
        let mut links = Links::new(server("c"));
        for (other, linked) in [("a", ["b", "c"]), ("b", ["a", "c"])] {
            links.forget_before(Time::ZERO, server(other));
            links.up(Time::ZERO, server(other));
            links.merge(Time::ZERO, server(other), &says(other, 1, &linked));
        }
        let all = BTreeSet::from([a, b, server("c")]);
        assert_eq!(links.clique(Time::ZERO, PATIENCE), all);
        links.down(Time::ZERO, a);
        let late = Time::ZERO + Duration::from_millis(10);
        links.merge(late, b, &says("b", 2, &["c"]));
        for millis in 10..1200 {
            let now = Time::ZERO + Duration::from_millis(millis);
            links.expire(now, PATIENCE);
            assert_eq!(links.clique(now, PATIENCE), BTreeSet::from([b, server("c")]), "after {millis} ms");
        }
    }
}
