//! What each daemon was told last, as far as this server can know: a network event that leaves everybody in the company
//! that it was told of needs no agreement, and no daemon hears of it. So servers come and go, and daemons move between
//! them, without a change of configuration.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{ConfigurationId, DaemonId, ServerId};

use crate::census::{Census, Seat, Seats};
use crate::message::Standing;

/// How many configurations are remembered, to tell those that came into being elsewhere.
const PAST_MAX: usize = 64;

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Standings {
    /// What daemons of other servers have been told since they attached, in the attachments that they had then:
    /// nothing, if they wait for a configuration.
    told: BTreeMap<DaemonId, (ServerId, u64, Option<Standing>)>,
    /// The configurations that were agreed on here.
    past: VecDeque<ConfigurationId>,
}

impl Standings {
    /// Another server has told `daemon` a start change.
    pub(crate) fn change(&mut self, daemon: DaemonId, server: ServerId, since: u64) {
        self.told.insert(daemon, (server, since, None));
    }

    /// There is a configuration of `members`, as they are seated in `census`.
    pub(crate) fn settle(&mut self, id: ConfigurationId, members: &BTreeSet<DaemonId>, census: &Census) {
        let standing = Some(Standing { id, size: members.len() });
        for daemon in members {
            if let Some(seat) = census.seats.get(daemon) {
                self.told.insert(*daemon, (seat.server, seat.attachment.since, standing));
            }
        }
        self.past.push_front(id);
        self.past.truncate(PAST_MAX);
    }

    /// Forgets what the daemons of `server` have been told: it knows better.
    pub(crate) fn forget(&mut self, server: ServerId) {
        self.told.retain(|_, (at, ..)| *at != server);
    }

    /// Forgets those who are neither in `census` nor attached as they were. Others are only somewhere else for now.
    pub(crate) fn retain(&mut self, census: &Census, is_attached: impl Fn(DaemonId, ServerId, u64) -> bool) {
        self.told.retain(|daemon, (server, since, _)| {
            census.seats.contains_key(daemon) || is_attached(*daemon, *server, *since)
        });
    }

    /// What `daemon` stands in, unless it waits for a configuration.
    pub(crate) fn of(&self, me: ServerId, daemon: DaemonId, seat: &Seat) -> Option<Standing> {
        // What its own server says of it, and only that, is always the last.
        if seat.server == me { seat.standing() } else { self.last(daemon, seat) }
    }

    /// What `daemon` stood in when it was last heard of on this seat.
    pub(crate) fn last(&self, daemon: DaemonId, seat: &Seat) -> Option<Standing> {
        match self.told.get(&daemon) {
            Some((server, since, standing)) if (*server, *since) == (seat.server, seat.attachment.since) => {
                *standing
            }
            _ => seat.standing(),
        }
    }

    /// Whether everybody in `census` has been told of exactly those who are with it.
    pub(crate) fn hold_in(&self, me: ServerId, census: &Census) -> bool {
        census.cliques.iter().all(|clique| {
            let mut standings =
                clique.iter().filter_map(|daemon| Some(self.of(me, *daemon, census.seats.get(daemon)?)));
            let Some(Some(first)) = standings.next() else { return clique.is_empty() };
            first.size == clique.len() && standings.all(|standing| standing == Some(first))
        })
    }

    /// Whether somebody comes from a configuration of elsewhere whose other members have not all come, and might: of
    /// those who do not, nobody doubts that they are there.
    pub(crate) fn awaits_others(&self, census: &Census, seats: &Seats) -> bool {
        let mut come: BTreeMap<ConfigurationId, (usize, usize)> = BTreeMap::new();
        for seat in census.seats.values() {
            let Some(standing) = seat.attachment.standing else { continue };
            if !self.past.contains(&standing.id) {
                let (size, present) = come.entry(standing.id).or_insert((standing.size, 0));
                *size = standing.size.max(*size);
                *present += 1;
            }
        }
        let missing = come.values().map(|(size, present)| size.saturating_sub(*present)).max();
        missing.is_some_and(|missing| missing > 0 && !seats.misses(missing, census))
    }
}
