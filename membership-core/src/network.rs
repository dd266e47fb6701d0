//! The servers that are up, what each of them announced, and whom lost servers leave behind: the source of network
//! events.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use core::time::Duration;

use model::{DaemonId, ServerId, Time};

use crate::message::{Attachment, CLAIM_MAX, Change, Fault, Leave, Place, Row};

/// The other servers that are up. One that has not announced itself yet is nobody's member.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Network {
    rows: BTreeMap<ServerId, Option<Row>>,
    ghosts: BTreeMap<DaemonId, Ghost>,
}

/// A daemon whose server was lost: it may be about to attach elsewhere.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Ghost {
    pub(crate) server: ServerId,
    pub(crate) attachment: Attachment,
    since: Time,
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

    /// The link to `server` broke. Its daemons are ghosts from now on.
    pub(crate) fn down(&mut self, now: Time, server: ServerId) {
        let row = self.rows.remove(&server).flatten().unwrap_or_default();
        for (daemon, mut attachment) in row.daemons {
            attachment.lost = Some(Leave::ServerLost(server));
            self.ghosts.insert(daemon, Ghost { server, attachment, since: now });
        }
    }

    /// `server` announced `row`. False if it is no news.
    pub(crate) fn announce(&mut self, server: ServerId, row: Row) -> bool {
        match self.rows.entry(server) {
            Entry::Occupied(mut known)
                if known.get().as_ref().is_none_or(|old| old.version < row.version) =>
            {
                self.ghosts.retain(|_, ghost| ghost.server != server);
                known.insert(Some(row));
                true
            }
            Entry::Occupied(_) | Entry::Vacant(_) => false,
        }
    }

    /// `server` announced a change of its row.
    pub(crate) fn change(&mut self, server: ServerId, change: &Change, max: usize) -> Result<(), Fault> {
        let row = self.rows.get_mut(&server).and_then(Option::as_mut).ok_or(Fault::NotUp)?;
        if change.version <= row.version {
            return Err(Fault::OldVersion);
        }
        if change.version >= CLAIM_MAX {
            return Err(Fault::OutOfRange);
        }
        if row.daemons.len() + change.daemons.len() > 2 * max {
            return Err(Fault::TooManyDaemons);
        }
        row.version = change.version;
        for (daemon, place) in &change.daemons {
            match place {
                Place::Taken(attachment) => row.daemons.insert(*daemon, attachment.clone()),
                Place::Left(_) => row.daemons.remove(daemon),
            };
        }
        Ok(())
    }

    pub(crate) fn is_up(&self, server: ServerId) -> bool {
        self.rows.contains_key(&server)
    }

    /// The other servers that are up.
    pub(crate) fn servers(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.rows.keys().copied()
    }

    /// What `server` announced last.
    pub(crate) fn row(&self, server: ServerId) -> Option<&Row> {
        self.rows.get(&server)?.as_ref()
    }

    /// The daemons of lost servers.
    pub(crate) fn ghosts(&self) -> impl Iterator<Item = (DaemonId, &Ghost)> {
        self.ghosts.iter().map(|(daemon, ghost)| (*daemon, ghost))
    }

    /// Forgets ghosts that have had their time, or are among those who are `gone`.
    pub(crate) fn expire(&mut self, now: Time, grace: Duration, gone: impl Fn(DaemonId) -> bool) {
        self.ghosts.retain(|daemon, ghost| now < ghost.since + grace && !gone(*daemon));
    }

    /// When the next ghost has had its time.
    pub(crate) fn next_expiry(&self, grace: Duration) -> Option<Time> {
        self.ghosts.values().map(|ghost| ghost.since + grace).min()
    }
}
