//! The servers that are up, what each of them announced, and whom lost servers leave behind: the source of network
//! events.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use model::{DaemonId, ServerId, Time};

use crate::message::{Attachment, CLAIM_MAX, Change, Fault, Leave, Place, Row};

/// The other servers that are up. One that has not announced itself yet is nobody's member.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Network {
    rows: BTreeMap<ServerId, Option<Row>>,
    ghosts: BTreeMap<DaemonId, Ghost>,
}

/// A daemon whose server was lost, or says that it is elsewhere: it may be about to attach to another.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Ghost {
    pub(crate) server: ServerId,
    pub(crate) attachment: Attachment,
    since: Time,
}

impl Network {
    /// A link to `server` came up. False if a later life of it is up already.
    pub(crate) fn up(&mut self, now: Time, server: ServerId) -> bool {
        if self.rows.keys().any(|other| other.name() == server.name() && other.boot() > server.boot()) {
            return false;
        }
        if let Some(earlier) = self.earlier_life(server) {
            self.down(now, earlier);
        }
        self.rows.entry(server).or_insert(None);
        true
    }

    /// An earlier life of `server` that is up.
    pub(crate) fn earlier_life(&self, server: ServerId) -> Option<ServerId> {
        let is_earlier = |other: &ServerId| other.name() == server.name() && other.boot() < server.boot();
        self.rows.keys().copied().find(is_earlier)
    }

    /// The link to `server` broke. Its daemons are ghosts from now on.
    pub(crate) fn down(&mut self, now: Time, server: ServerId) {
        self.orphan(now, server);
        self.rows.remove(&server);
    }

    /// `server` does not announce its daemons to this one any more. They are ghosts from now on.
    pub(crate) fn orphan(&mut self, now: Time, server: ServerId) {
        let row = self.rows.get_mut(&server).and_then(Option::take).unwrap_or_default();
        let lost = |(daemon, attachment): (DaemonId, Attachment)| {
            (daemon, Attachment { lost: Some(Leave::ServerLost(server)), ..attachment })
        };
        self.seat_ghosts(now, server, row.daemons.into_iter().map(lost).collect());
    }

    /// Nobody knows where these daemons are, since `server` was lost.
    pub(crate) fn seat_ghosts(
        &mut self,
        now: Time,
        server: ServerId,
        daemons: BTreeMap<DaemonId, Attachment>,
    ) {
        for (daemon, attachment) in daemons {
            self.ghosts.insert(daemon, Ghost { server, attachment, since: now });
        }
    }

    /// What `server` announced does not count any more.
    pub(crate) fn withdraw(&mut self, server: ServerId) {
        if let Some(row) = self.rows.get_mut(&server) {
            *row = None;
        }
    }

    /// What anybody announced does not count any more, and it is for others to ask where daemons are.
    pub(crate) fn withdraw_all(&mut self) {
        self.rows.values_mut().for_each(|row| *row = None);
        self.ghosts.clear();
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

    /// `server` announced a change of its row.
    pub(crate) fn change(
        &mut self,
        now: Time,
        server: ServerId,
        change: &Change,
        max: usize,
    ) -> Result<(), Fault> {
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
            let before = match place {
                Place::Taken(attachment) => row.daemons.insert(*daemon, attachment.clone()),
                Place::Left(_) => row.daemons.remove(daemon),
            };
            // It is somewhere else, and that news may still be under way.
            if let (Place::Left(Leave::Superseded), Some(mut attachment)) = (place, before) {
                attachment.lost = Some(Leave::Superseded);
                self.ghosts.insert(*daemon, Ghost { server, attachment, since: now });
            }
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

    /// Whether `daemon` is attached to another server since that version of its row, or was until that was lost.
    pub(crate) fn knows(&self, daemon: DaemonId, server: ServerId, since: u64) -> bool {
        let is_in_row = |row: &Row| row.daemons.get(&daemon).is_some_and(|it| it.since == since);
        let is = |ghost: &Ghost| (ghost.server, ghost.attachment.since) == (server, since);
        self.row(server).is_some_and(is_in_row) || self.ghosts.get(&daemon).is_some_and(is)
    }

    /// Forgets ghosts that are attached to one of `servers`, or `here`.
    pub(crate) fn find(&mut self, servers: &BTreeSet<ServerId>, here: impl Fn(DaemonId) -> bool) {
        let Network { rows, ghosts } = self;
        let has = |server: &ServerId, daemon: &DaemonId| {
            rows.get(server).and_then(Option::as_ref).is_some_and(|row| row.daemons.contains_key(daemon))
        };
        ghosts.retain(|daemon, _| !here(*daemon) && !servers.iter().any(|server| has(server, daemon)));
    }

    /// Daemons that may be about to attach again.
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
