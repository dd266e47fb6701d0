//! The servers that are up, and what each of them announced: the source of network events. An event is the census
//! that follows from the rows, so that servers with the same rows see the same event [Moshe:ne].
//!
//! Invariant: a census has one seat for each name. If a daemon that moved, or restarted, is announced twice, the seat
//! with the greater claim (life, last start id at the time of attaching, server) is the right one at every server.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use model::{Boot, DaemonId, Name, ServerId, StartId};

use crate::message::{Attachment, Row};

/// The other servers that are up. One that has not announced itself yet is nobody's member.
#[derive(Clone, Default, Hash)]
pub(crate) struct Network {
    rows: BTreeMap<ServerId, Option<Row>>,
}

/// Everybody, as the rows of the servers that are up have it.
pub(crate) struct Census {
    /// The servers, with the versions of their rows.
    pub(crate) target: BTreeMap<ServerId, u64>,
    /// The daemons.
    pub(crate) seats: BTreeMap<DaemonId, Seat>,
}

pub(crate) type Claim = (Boot, StartId, ServerId);

/// Where a daemon is attached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seat {
    pub(crate) server: ServerId,
    pub(crate) attachment: Attachment,
}

impl Seat {
    /// Of two seats under one name, the one with the greater claim is right.
    pub(crate) fn claim(&self, daemon: DaemonId) -> Claim {
        (daemon.boot(), self.attachment.after, self.server)
    }
}

impl Network {
    /// A link to `server` came up. False if a later life of it is up already.
    pub(crate) fn up(&mut self, server: ServerId) -> bool {
        if self.rows.keys().any(|other| other.name() == server.name() && other.boot() > server.boot()) {
            return false;
        }
        self.rows.retain(|other, _| other.name() != server.name() || *other == server);
        self.rows.entry(server).or_insert(None);
        true
    }

    /// The link to `server` broke.
    pub(crate) fn down(&mut self, server: ServerId) {
        self.rows.remove(&server);
    }

    /// `server` announced `row`. False if it is no news.
    pub(crate) fn announce(&mut self, server: ServerId, row: Row) -> bool {
        match self.rows.entry(server) {
            Entry::Occupied(mut known)
                if known.get().as_ref().is_none_or(|old| old.version < row.version) =>
            {
                known.insert(Some(row));
                true
            }
            Entry::Occupied(_) | Entry::Vacant(_) => false,
        }
    }

    pub(crate) fn is_up(&self, server: ServerId) -> bool {
        self.rows.contains_key(&server)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The other servers that are up.
    pub(crate) fn servers(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.rows.keys().copied()
    }

    /// What `server` announced last.
    pub(crate) fn row(&self, server: ServerId) -> Option<&Row> {
        self.rows.get(&server)?.as_ref()
    }

    /// Everybody, where `me` announces `own`.
    pub(crate) fn census(&self, me: ServerId, own: Row) -> Census {
        let others = self.rows.iter().filter_map(|(server, row)| Some((*server, row.clone()?)));
        let mut census = Census { target: BTreeMap::new(), seats: BTreeMap::new() };
        let mut names: BTreeMap<Name, (DaemonId, Seat)> = BTreeMap::new();
        for (server, row) in others.chain([(me, own)]) {
            census.target.insert(server, row.version);
            for (daemon, attachment) in row.daemons {
                let seat = Seat { server, attachment };
                let known = names.get(&daemon.name());
                if known.is_none_or(|(other, held)| seat.claim(daemon) > held.claim(*other)) {
                    names.insert(daemon.name(), (daemon, seat));
                }
            }
        }
        census.seats = names.into_values().collect();
        census
    }
}

impl Census {
    /// Who is called `name`.
    pub(crate) fn named(&self, name: Name) -> Option<(DaemonId, &Seat)> {
        self.seats.iter().find(|(daemon, _)| daemon.name() == name).map(|(daemon, seat)| (*daemon, seat))
    }
}
