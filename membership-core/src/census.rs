//! Everybody who is attached, as one server knows it, and who of them is to be together in a configuration: the network
//! event that follows from the rows, the same at every server that has the same rows [Moshe:ne].
//!
//! Invariant: a census has one seat for each name. If a daemon that moved, or restarted, is announced twice, the seat
//! with the greater claim (life, number of attempts, server) is the right one at every server.
//!
//! A daemon whose stream broke, or whose server was lost, has a seat for a while. A broken stream is a question, which
//! the other daemons answer: if one of them doubts that the daemon is there, it is gone.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use model::{Boot, DaemonId, Digest, Name, ServerId};

use crate::cliques::Cuts;
use crate::message::{Attachment, Standing, Target};
use crate::reports::Reports;

/// So many pairs that are cut are named in what servers agreed on: that is for humans, and of halves, each pair is one.
const CUTS_MAX: usize = 64;

/// Where a daemon is attached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seat {
    pub(crate) server: ServerId,
    pub(crate) attachment: Attachment,
}

pub(crate) type Claim = (Boot, u64, ServerId);

impl Seat {
    /// Of two seats under one name, the one with the greater claim is right.
    pub(crate) fn claim(&self, daemon: DaemonId) -> Claim {
        (daemon.boot(), self.attachment.attempt, self.server)
    }

    /// What the daemon on it stands in, as its server said.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.attachment.standing.filter(|_| !self.attachment.is_changing)
    }

    /// Whether it is another attachment than `other`.
    pub(crate) fn is_of(&self, other: &Seat) -> bool {
        (self.server, self.attachment.since) == (other.server, other.attachment.since)
    }
}

/// Who is attached where: one seat for each name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats(BTreeMap<Name, (DaemonId, Seat)>);

impl Seats {
    /// Seats `daemon`, if nobody has the better claim to its name.
    pub(crate) fn claim(&mut self, daemon: DaemonId, seat: Seat) {
        let held = self.0.get(&daemon.name());
        if held.is_none_or(|(other, held)| seat.claim(daemon) > held.claim(*other)) {
            self.0.insert(daemon.name(), (daemon, seat));
        }
    }

    /// Who is called `name`.
    pub(crate) fn named(&self, name: Name) -> Option<(DaemonId, &Seat)> {
        self.0.get(&name).map(|(daemon, seat)| (*daemon, seat))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (DaemonId, &Seat)> {
        self.0.values().map(|(daemon, seat)| (*daemon, seat))
    }

    /// Those whose word counts.
    fn attached(&self) -> impl Iterator<Item = (DaemonId, &Seat)> {
        self.iter().filter(|(_, seat)| seat.attachment.lost.is_none())
    }

    /// Who doubts that `daemon` is there, and for how long it has heard nothing of it.
    pub(crate) fn doubts(&self, daemon: DaemonId) -> impl Iterator<Item = (DaemonId, Duration)> {
        self.attached().filter_map(move |(by, seat)| Some((by, seat.attachment.report.get(&daemon)?.silent)))
    }

    /// Whether so many are doubted, of those who are not in `census`.
    pub(crate) fn misses(&self, count: usize, census: &Census) -> bool {
        let mut missed: BTreeSet<DaemonId> = BTreeSet::new();
        self.attached().any(|(_, seat)| {
            let doubted = seat.attachment.report.keys();
            missed.extend(doubted.filter(|daemon| !census.seats.contains_key(daemon)));
            missed.len() >= count
        })
    }
}

/// A network event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Census {
    /// The servers that agree on it.
    pub(crate) servers: BTreeSet<ServerId>,
    /// Everybody who is to be in a configuration.
    pub(crate) seats: BTreeMap<DaemonId, Seat>,
    /// Who is to be together.
    pub(crate) cliques: Vec<BTreeSet<DaemonId>>,
    /// Some of the pairs that cannot talk to each other.
    pub(crate) cuts: Vec<(DaemonId, DaemonId)>,
}

impl Census {
    /// What follows from `seats`, and what is said on them, for `servers` to agree on; and who cannot talk to whom.
    pub(crate) fn new(
        servers: BTreeSet<ServerId>,
        seats: &Seats,
        reports: &Reports,
    ) -> (Census, Cuts<DaemonId>) {
        let is_there = |(daemon, seat): &(DaemonId, &Seat)| {
            let is_doubted = seat.attachment.lost.is_some() && reports.doubt(*daemon);
            !is_doubted && !seat.attachment.held
        };
        let seats: BTreeMap<_, _> =
            seats.iter().filter(is_there).map(|(daemon, seat)| (daemon, seat.clone())).collect();
        let cuts = reports.cuts(|daemon| seats.contains_key(&daemon));
        let named = cuts.pairs().take(CUTS_MAX).collect();
        (Census { servers, cliques: cuts.partition(), cuts: named, seats }, cuts)
    }

    /// What servers vote for that see this.
    pub(crate) fn target(&self) -> Target {
        let mut digest = Digest::EMPTY;
        for clique in &self.cliques {
            for daemon in clique {
                let Some(seat) = self.seats.get(daemon) else { continue };
                digest = digest
                    .and(daemon.name().as_str().as_bytes())
                    .and(&daemon.boot().number().to_le_bytes())
                    .and(seat.server.name().as_str().as_bytes())
                    .and(&seat.server.boot().number().to_le_bytes())
                    .and(&seat.attachment.since.to_le_bytes());
            }
            digest = digest.and(b"|");
        }
        Target { servers: self.servers.clone(), digest: digest.bits() }
    }

    /// The clique of `daemon`.
    pub(crate) fn clique(&self, daemon: DaemonId) -> Option<&BTreeSet<DaemonId>> {
        self.cliques.iter().find(|clique| clique.contains(&daemon))
    }

    /// Whether a broken stream is a question that nobody has answered.
    pub(crate) fn has_questions(&self) -> bool {
        self.seats.values().any(|seat| seat.attachment.lost.is_some())
    }

    /// Whether everybody who was in `before` is still there, attached as before, and can talk to all who were with it.
    pub(crate) fn keeps(&self, before: &Census, cuts: &Cuts<DaemonId>) -> bool {
        let keeps_seat =
            |(daemon, seat): (&DaemonId, &Seat)| self.seats.get(daemon).is_some_and(|now| now.is_of(seat));
        before.servers.is_subset(&self.servers)
            && before.seats.iter().all(keeps_seat)
            && before.cliques.iter().all(|old| cuts.allow(old))
    }
}
