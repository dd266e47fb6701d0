//! What happens to sessions, and why, for operators. No transition depends on it, and none of it is exchanged: each server
//! tells what it saw, in the words of those who were there.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use model::{Fence, GroupView, Name, ProcessId, SessionId};

use super::{Database, Intent, Session};

/// Something that happened to a session. Servers and gateways are told by their names; a server that this one never met
/// has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A client opened it.
    Opened {
        /// Where the client is.
        gateway: Name,
    },
    /// All servers had forgotten it, and it was made anew from its client's cursor.
    Rebuilt {
        /// Where the client is.
        gateway: Name,
    },
    /// Others told this server of it, as it came to them.
    Learned,
    /// It has another primary.
    Appointed {
        /// The one before, if there was any.
        from: Option<Name>,
        /// The new one, if anybody can serve it.
        to: Option<Name>,
        /// The right to serve.
        fence: Fence,
        /// What for.
        why: Why,
    },
    /// It has other backups: these, the first in line first.
    Backed {
        /// All of them that are known by name.
        backups: Vec<Name>,
    },
    /// Its client came to another gateway.
    Attached {
        /// Where it was.
        from: Name,
        /// Where it is.
        to: Name,
    },
    /// Its client closed it.
    Closed,
    /// An operator closed it.
    Dismissed,
    /// Nobody came for it in time.
    Expired,
    /// The service could not go on with it.
    Failed,
    /// This server, its primary, serves it from here on.
    Served {
        /// How many responses the client has.
        responses: u64,
        /// Whether the client is there.
        attached: bool,
    },
    /// Its client is there again, at the gateway where it was.
    ClientCame,
    /// Its client is gone, and may come back.
    ClientLeft,
}

/// Why a session has another primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody served it.
    Vacant,
    /// The one before is gone: it crashed, or was cut off.
    Lost,
    /// The one before left, as it was asked to: it had said so.
    Drained,
    /// The one before cannot serve it any more: it does not hold the content.
    Unable,
    /// An operator wanted it elsewhere.
    Ordered,
    /// Another server had less to do.
    Balance,
    /// Its gateway heard nothing from the one before.
    Stalled,
    /// Sides of a partition met, and both had one.
    Merged,
}

/// What is to be told, and the names to tell it with.
#[derive(Clone, Debug, Default)]
pub(super) struct Chronicle {
    /// Of all members, and of those who are gone and have a part in some session still.
    names: BTreeMap<ProcessId, Name>,
    news: Vec<(SessionId, Happening)>,
}

/// Who had which part in a session.
pub(super) type Cast = (Option<ProcessId>, Vec<ProcessId>);

impl Database {
    /// What a server calls itself, if it is a member, or was when it had a part in a session that is not settled since.
    pub fn name_of(&self, server: ProcessId) -> Option<Name> {
        self.chronicle.names.get(&server).copied()
    }

    /// What happened since this was asked last.
    pub(crate) fn news(&mut self) -> Vec<(SessionId, Happening)> {
        core::mem::take(&mut self.chronicle.news)
    }

    /// Learns the names of the members.
    pub(super) fn meet(&mut self, view: &GroupView) {
        let sessions = self.sessions.values();
        let parts = sessions.flat_map(|it| it.primary.into_iter().chain(it.backups.iter().copied()));
        let parts: BTreeSet<ProcessId> = parts.collect();
        self.chronicle.names.retain(|server, _| parts.contains(server));
        self.chronicle.names.extend(view.members.iter().map(|member| (member.process, member.name)));
    }

    pub(super) fn tell_of(&mut self, id: SessionId, happening: Happening) {
        self.chronicle.news.push((id, happening));
    }

    /// Who has which part in a session; nobody, if there is none.
    pub(super) fn cast_of(&self, id: SessionId) -> Cast {
        self.sessions.get(&id).map(|it| (it.primary, it.backups.clone())).unwrap_or_default()
    }

    /// Tells what is different with a session since it had this cast: for the given reason, if that does not follow from
    /// the cast itself.
    pub(super) fn tell_changes(&mut self, id: SessionId, (from, before): Cast, why: Option<Why>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let name = |server: ProcessId| self.name_of(server);
        let appointed = (session.primary != from).then(|| Happening::Appointed {
            from: from.and_then(name),
            to: session.primary.and_then(name),
            fence: session.fence,
            why: self.why(from, why),
        });
        let backups = || session.backups.iter().filter_map(|it| name(*it)).collect();
        let backed = (session.backups != before).then(|| Happening::Backed { backups: backups() });
        let news = appointed.into_iter().chain(backed).map(|happening| (id, happening));
        self.chronicle.news.extend(news.collect::<Vec<_>>());
    }

    /// Tells what an exchange did to the sessions that were known before: some were disputed between sides of a partition,
    /// and some `moved` for balance.
    pub(super) fn tell_differences(
        &mut self,
        before: &BTreeMap<SessionId, Box<Session>>,
        disputed: &BTreeSet<SessionId>,
        moved: &[SessionId],
    ) {
        for id in before.keys().filter(|id| !self.sessions.contains_key(id)).copied().collect::<Vec<_>>() {
            let has_expired = self.tombs.get(&id).is_some_and(|tomb| tomb.expired_at.is_some());
            self.tell_of(id, if has_expired { Happening::Expired } else { Happening::Closed });
        }
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let Some(last) = before.get(&id) else {
                self.tell_of(id, Happening::Learned);
                continue;
            };
            let (from, to) = (last.gateway.name, self.sessions.get(&id).map(|it| it.gateway.name));
            if let Some(to) =
                to.filter(|_| self.sessions.get(&id).is_some_and(|it| it.gateway != last.gateway))
            {
                self.tell_of(id, Happening::Attached { from, to });
            }
            let is_merged = disputed.contains(&id).then_some(Why::Merged);
            let why = if moved.contains(&id) { Some(Why::Balance) } else { is_merged };
            self.tell_changes(id, (last.primary, last.backups.clone()), why);
        }
    }

    fn why(&self, from: Option<ProcessId>, given: Option<Why>) -> Why {
        match (from, given) {
            (None, _) => Why::Vacant,
            (Some(from), _) if !self.members.contains(&from) => match self.intents.of(from) {
                Intent::Leaving => Why::Drained,
                Intent::Open | Intent::Cordoned => Why::Lost,
            },
            (Some(_), Some(why)) => why,
            (Some(_), None) => Why::Unable,
        }
    }
}
