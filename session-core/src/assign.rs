//! Who serves whom: the deterministic choice of primaries and backups [FK:selection].
//!
//! Pure functions of (sessions, members, policy): replicas with equal databases come to equal choices without a word.
//! Sessions are visited in the order of their ids, and every tie is broken by a fingerprint of (session, server), so
//! that different sessions break it differently.

use alloc::collections::{BTreeMap, BTreeSet};
use core::cmp::Reverse;

use model::{Digest, Fence, GroupViewId, ProcessId, SessionId};

use crate::unit_db::{Policy, Replaced, Session};

/// How much each member does for the sessions of one unit. Counted from the database, never measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loads(BTreeMap<ProcessId, Load>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    primaries: usize,
    backups: usize,
}

impl Loads {
    /// The loads that `sessions` put on `members`.
    pub(crate) fn of<'a>(
        members: &BTreeSet<ProcessId>,
        sessions: impl Iterator<Item = &'a Session>,
    ) -> Loads {
        let mut loads = Loads(members.iter().map(|member| (*member, Load::default())).collect());
        for session in sessions {
            loads.add(session);
        }
        loads
    }

    /// Counts a session in.
    pub(crate) fn add(&mut self, session: &Session) {
        self.each_role(session, |count| *count += 1);
    }

    /// Counts a session out.
    pub(crate) fn remove(&mut self, session: &Session) {
        self.each_role(session, |count| *count -= 1);
    }

    fn each_role(&mut self, session: &Session, mut change: impl FnMut(&mut usize)) {
        if let Some(load) = session.primary.and_then(|primary| self.0.get_mut(&primary)) {
            change(&mut load.primaries);
        }
        for backup in &session.backups {
            if let Some(load) = self.0.get_mut(backup) {
                change(&mut load.backups);
            }
        }
    }

    fn lightest_primary(&self, id: SessionId) -> Option<ProcessId> {
        let weight = |(server, load): &(&ProcessId, &Load)| {
            (load.primaries, load.primaries + load.backups, tie(id, **server), **server)
        };
        self.0.iter().min_by_key(weight).map(|(server, _)| *server)
    }

    /// The best further backup: on another daemon than the primary if possible, then the one that does least.
    fn lightest_backup(&self, id: SessionId, session: &Session) -> Option<ProcessId> {
        let primary = session.primary?;
        let free = |server: &ProcessId| *server != primary && !session.backups.contains(server);
        let weight = |(server, load): &(&ProcessId, &Load)| {
            let beside_primary = server.daemon() == primary.daemon();
            (beside_primary, load.primaries + load.backups, tie(id, **server), **server)
        };
        self.0.iter().filter(|(server, _)| free(server)).min_by_key(weight).map(|(server, _)| *server)
    }

    /// The servers with the most and the least sessions to serve, if a move from one to the other helps.
    fn imbalance(&self) -> Option<(ProcessId, ProcessId)> {
        let (busiest, most) = self.0.iter().max_by_key(|(id, load)| (load.primaries, Reverse(**id)))?;
        let (idlest, least) = self.0.iter().min_by_key(|(id, load)| (load.primaries, **id))?;
        (most.primaries > least.primaries + 1).then_some((*busiest, *idlest))
    }
}

fn tie(session: SessionId, server: ProcessId) -> Digest {
    Digest::of(&session.bits().to_le_bytes())
        .and(server.daemon().name().as_str().as_bytes())
        .and(&server.daemon().boot().number().to_le_bytes())
        .and(&server.connection().to_le_bytes())
}

/// What the choices are made from, and what they change beside the session itself.
pub(crate) struct Assignment<'a> {
    pub(crate) members: &'a BTreeSet<ProcessId>,
    pub(crate) policy: Policy,
    /// The view in which fences are given out.
    pub(crate) view: GroupViewId,
    /// The last fence counter given out.
    pub(crate) fences: &'a mut u64,
    pub(crate) loads: &'a mut Loads,
}

impl Assignment<'_> {
    /// Gives the session a primary among the members, and as many backups as the policy asks for. A primary that is
    /// still there stays; else the first backup that is still there takes over; else whoever has least to do.
    /// Returns whether anything changed.
    pub(crate) fn assign(&mut self, id: SessionId, session: &mut Session) -> bool {
        let before = (session.primary, session.backups.clone());
        self.loads.remove(session);
        session.backups.retain(|backup| self.members.contains(backup));
        if !session.primary.is_some_and(|primary| self.members.contains(&primary)) {
            let heir = session.backups.first().copied().or_else(|| self.loads.lightest_primary(id));
            self.appoint(session, heir);
        }
        session.backups.truncate(usize::from(self.policy.backups));
        while session.backups.len() < usize::from(self.policy.backups) {
            let Some(backup) = self.loads.lightest_backup(id, session) else { break };
            session.backups.push(backup);
        }
        self.loads.add(session);
        before != (session.primary, session.backups.clone())
    }

    /// Makes `heir` the primary, under a new fence.
    fn appoint(&mut self, session: &mut Session, heir: Option<ProcessId>) {
        session.replaced = session.primary.map(|server| Replaced { server, fence: session.fence });
        session.backups.retain(|backup| Some(*backup) != heir);
        session.primary = heir;
        self.refence(session);
    }

    /// Gives the session a fence above all that this database gave out.
    pub(crate) fn refence(&mut self, session: &mut Session) {
        *self.fences += 1;
        session.fence = Fence::new(self.view, *self.fences);
    }

    /// Moves sessions from the busiest to the idlest server until that helps no more, at most `moves_max` of them
    /// [FK:balance]. The old primary stays as first backup: it has the context at its freshest.
    pub(crate) fn balance(&mut self, sessions: &mut BTreeMap<SessionId, Session>, moves_max: usize) {
        for _ in 0..moves_max {
            let Some((busiest, idlest)) = self.loads.imbalance() else { break };
            let Some(session) = candidate(sessions, busiest, idlest) else { break };
            self.loads.remove(session);
            self.appoint(session, Some(idlest));
            session.backups.insert(0, busiest);
            session.backups.truncate(usize::from(self.policy.backups));
            self.loads.add(session);
        }
    }
}

/// The session to move: one whose backup is the target already, if there is one.
fn candidate(
    sessions: &mut BTreeMap<SessionId, Session>,
    from: ProcessId,
    to: ProcessId,
) -> Option<&mut Session> {
    let served = || sessions.iter().filter(|(_, session)| session.primary == Some(from));
    let prepared = served().find(|(_, session)| session.backups.contains(&to));
    let id = *prepared.or_else(|| served().next())?.0;
    sessions.get_mut(&id)
}
