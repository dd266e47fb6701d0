//! Who serves whom: the deterministic choice of primaries and backups [FK:selection].
//!
//! Pure functions of (sessions, members, policy): replicas with equal databases come to equal choices without a word.
//! Sessions are visited in the order of their ids, and every tie is broken by a fingerprint of (session, server), so
//! that different sessions break it differently.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;

use model::{Digest, Fence, GroupViewId, ProcessId, SessionId};

use crate::unit_db::{Holdings, Intents, Policy, Replaced, Session};

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
    pub(crate) fn of(members: &BTreeSet<ProcessId>, sessions: &BTreeMap<SessionId, Box<Session>>) -> Loads {
        let mut loads = Loads(members.iter().map(|member| (*member, Load::default())).collect());
        for session in sessions.values() {
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

    /// Who does least of those who `can`.
    fn lightest_primary(&self, id: SessionId, can: impl Fn(ProcessId) -> bool) -> Option<ProcessId> {
        let weight = |(server, load): &(&ProcessId, &Load)| {
            (load.primaries, load.primaries + load.backups, tie(id, **server), **server)
        };
        self.0.iter().filter(|(server, _)| can(**server)).min_by_key(weight).map(|(server, _)| *server)
    }

    /// The best further backup of those who `can`: on another daemon than the primary if possible, then the one that does
    /// least.
    fn lightest_backup(
        &self,
        id: SessionId,
        session: &Session,
        can: impl Fn(ProcessId) -> bool,
    ) -> Option<ProcessId> {
        let primary = session.primary?;
        let free =
            |server: &ProcessId| *server != primary && !session.backups.contains(server) && can(*server);
        let weight = |(server, load): &(&ProcessId, &Load)| {
            let beside_primary = server.daemon() == primary.daemon();
            (beside_primary, load.primaries + load.backups, tie(id, **server), **server)
        };
        self.0.iter().filter(|(server, _)| free(server)).min_by_key(weight).map(|(server, _)| *server)
    }

    /// The servers with the most and the least sessions to serve, if a move from one to the other helps. Only
    /// `givers` have a session that may be moved, and only `takers` take one.
    fn imbalance(
        &self,
        givers: &BTreeSet<ProcessId>,
        takers: impl Fn(ProcessId) -> bool,
    ) -> Option<(ProcessId, ProcessId)> {
        let giving = self.0.iter().filter(|(id, _)| givers.contains(id));
        let (busiest, most) = giving.max_by_key(|(id, load)| (load.primaries, Reverse(**id)))?;
        let taking = self.0.iter().filter(|(id, _)| takers(**id));
        let (idlest, least) = taking.min_by_key(|(id, load)| (load.primaries, **id))?;
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
    /// Which editions each of them holds.
    pub(crate) holdings: &'a Holdings,
    /// What each of them means to take on.
    pub(crate) intents: &'a Intents,
    pub(crate) policy: Policy,
    /// The view in which fences are given out.
    pub(crate) view: GroupViewId,
    /// The last fence counter given out.
    pub(crate) fences: &'a mut u64,
    pub(crate) loads: &'a mut Loads,
}

impl Assignment<'_> {
    /// Whether `server` is a member and holds the content of the session.
    pub(crate) fn can_serve(&self, server: ProcessId, session: &Session) -> bool {
        let holds = |edition| self.holdings.has(server, edition);
        self.members.contains(&server) && session.edition().is_some_and(holds)
    }

    /// Gives the session a primary among the members that hold its edition, and as many backups as the policy asks for. A
    /// primary that is still there stays; else the first backup that is still there takes over; else whoever has least to
    /// do. If nobody can serve it, it has no primary for now. Returns whether anything changed.
    pub(crate) fn assign(&mut self, id: SessionId, session: &mut Session) -> bool {
        let before = (session.primary, session.backups.clone());
        self.loads.remove(session);
        let able = self.able(session);
        session.backups.retain(|backup| able.contains(backup));
        let is_lost = !session.primary.is_some_and(|primary| able.contains(&primary));
        if is_lost && session.is_given_up() {
            (session.primary, session.backups) = (None, Vec::new());
            return before != (None, Vec::new());
        }
        if is_lost {
            let lightest = || self.best_primary(id, |server| able.contains(&server));
            let heir = session.backups.first().copied().or_else(lightest);
            if heir != session.primary {
                self.appoint(session, heir);
            }
        }
        session.backups.truncate(usize::from(self.policy.backups));
        while session.backups.len() < usize::from(self.policy.backups) {
            let Some(backup) = self.best_backup(id, session, |it| able.contains(&it)) else {
                break;
            };
            session.backups.push(backup);
        }
        self.loads.add(session);
        before != (session.primary, session.backups.clone())
    }

    /// Who does least of those who `can`: of those who take their share, or else of all.
    fn best_primary(&self, id: SessionId, can: impl Fn(ProcessId) -> bool) -> Option<ProcessId> {
        let takes = |server| self.intents.is_open(server) && can(server);
        self.loads.lightest_primary(id, takes).or_else(|| self.loads.lightest_primary(id, &can))
    }

    /// As [`Assignment::best_primary`], the best further backup.
    fn best_backup(
        &self,
        id: SessionId,
        session: &Session,
        can: impl Fn(ProcessId) -> bool,
    ) -> Option<ProcessId> {
        let takes = |server| self.intents.is_open(server) && can(server);
        let best = self.loads.lightest_backup(id, session, takes);
        best.or_else(|| self.loads.lightest_backup(id, session, &can))
    }

    /// The members that can serve the session.
    fn able(&self, session: &Session) -> BTreeSet<ProcessId> {
        self.members.iter().copied().filter(|member| self.can_serve(*member, session)).collect()
    }

    /// Makes `heir` the primary, under a new fence.
    fn appoint(&mut self, session: &mut Session, heir: Option<ProcessId>) {
        session.replaced = session.primary.map(|server| Replaced { server, fence: session.fence });
        session.backups.retain(|backup| Some(*backup) != heir);
        session.placed = false;
        session.primary = heir;
        self.refence(session);
    }

    /// Gives the session a fence above all that this database gave out.
    pub(crate) fn refence(&mut self, session: &mut Session) {
        *self.fences += 1;
        session.fence = Fence::new(self.view, *self.fences);
    }

    /// Moves sessions from the busiest to the idlest server until that helps no more, at most `moves_max` of them
    /// [FK:balance]. Those that an operator put somewhere stay there. Returns which are moved.
    pub(crate) fn balance(
        &mut self,
        sessions: &mut BTreeMap<SessionId, Box<Session>>,
        moves_max: usize,
    ) -> Vec<SessionId> {
        let mut moved = Vec::new();
        while moved.len() < moves_max {
            let movable = sessions.values().filter(|session| !session.placed);
            let givers = movable.filter_map(|session| session.primary).collect();
            let Some((busiest, idlest)) = self.loads.imbalance(&givers, |it| self.intents.is_open(it)) else {
                break;
            };
            let Some((id, session)) = self.candidate(sessions, busiest, idlest) else { break };
            self.hand_over(session, idlest);
            moved.push(id);
        }
        moved
    }

    /// The session to move: one whose backup is the target already, if there is one.
    fn candidate<'b>(
        &self,
        sessions: &'b mut BTreeMap<SessionId, Box<Session>>,
        from: ProcessId,
        to: ProcessId,
    ) -> Option<(SessionId, &'b mut Session)> {
        let movable = |session: &Session| {
            session.primary == Some(from) && !session.placed && self.can_serve(to, session)
        };
        let served = || sessions.iter().filter(|(_, session)| movable(session));
        let prepared = served().find(|(_, session)| session.backups.contains(&to));
        let id = *prepared.or_else(|| served().next())?.0;
        Some((id, sessions.get_mut(&id)?))
    }

    /// Who could serve the session in place of its primary: the member that does least.
    pub(crate) fn elsewhere(&self, id: SessionId, session: &Session) -> Option<ProcessId> {
        let can = |server| Some(server) != session.primary && self.can_serve(server, session);
        self.best_primary(id, can)
    }

    /// Replaces a primary of which nothing comes, if anybody else is there: by the first backup, or whoever has least to
    /// do, and by who was replaced for the same reason only if there is nobody else. The one before is the last choice for a
    /// backup. Returns whether it is replaced.
    pub(crate) fn relieve(&mut self, id: SessionId, session: &mut Session) -> bool {
        let backup = session.backups.first().copied();
        let is_suspect = |server| Some(server) == session.stalls.suspect();
        let unsuspected = |server| {
            Some(server) != session.primary && !is_suspect(server) && self.can_serve(server, session)
        };
        let heir = backup
            .filter(|backup| !is_suspect(*backup))
            .or_else(|| self.best_primary(id, unsuspected))
            .or(backup)
            .or_else(|| self.elsewhere(id, session));
        let Some(heir) = heir else { return false };
        self.loads.remove(session);
        let before = session.primary;
        self.appoint(session, Some(heir));
        let wanted = usize::from(self.policy.backups);
        while session.backups.len() < wanted {
            let can = |server| Some(server) != before && self.can_serve(server, session);
            let Some(backup) = self.best_backup(id, session, can) else { break };
            session.backups.push(backup);
        }
        session.backups.extend(before.filter(|_| session.backups.len() < wanted));
        self.loads.add(session);
        true
    }

    /// Makes `heir`, a member, the primary in place of one that lives. The old one stays as first backup: it has the
    /// context at its freshest.
    pub(crate) fn hand_over(&mut self, session: &mut Session, heir: ProcessId) {
        self.loads.remove(session);
        let before = session.primary;
        self.appoint(session, Some(heir));
        session.backups.splice(..0, before);
        session.backups.truncate(usize::from(self.policy.backups));
        self.loads.add(session);
    }
}

#[cfg(test)]
mod tests {
    use model::{Address, Boot, DaemonId};

    use super::*;
    use crate::edition::{Edition, unopened};
    use crate::message::{GatewayId, Secret};
    use crate::unit_db::{Stalls, Version};

    /// The process `connection` on a machine.
    fn server(machine: &str, connection: u32) -> ProcessId {
        ProcessId::new(DaemonId::new(machine.parse().unwrap(), Boot::new(1)), connection)
    }

    fn servers(machines: &[&str]) -> BTreeSet<ProcessId> {
        machines.iter().map(|machine| server(machine, 1)).collect()
    }

    /// All of them hold the only edition.
    fn holdings(members: &BTreeSet<ProcessId>) -> Holdings {
        let mut holdings = Holdings::default();
        members.iter().for_each(|member| holdings.set(*member, [Edition::ONLY].into()));
        holdings
    }

    fn session() -> Session {
        Session {
            secret: Secret::new(1),
            gateway: GatewayId {
                name: "g".parse().unwrap(),
                boot: Boot::new(1),
                address: Address::new("localhost:1"),
            },
            hops: 0,
            primary: None,
            backups: Vec::new(),
            fence: Fence::NONE,
            replaced: None,
            placed: false,
            stalls: Stalls::NONE,
            merged: false,
            rebuilt: false,
            version: Version { fence: Fence::NONE, number: 0 },
            past: Vec::new(),
            context: unopened(Edition::ONLY),
            requests: 0,
            responses: 0,
        }
    }

    /// Sessions of one unit, and the fences given out.
    struct Sessions {
        all: BTreeMap<SessionId, Box<Session>>,
        fences: u64,
        backups: u8,
        intents: Intents,
    }

    impl Sessions {
        fn new(count: u128, backups: u8) -> Sessions {
            Sessions {
                all: (1..=count).map(|id| (SessionId::new(id), Box::new(session()))).collect(),
                fences: 0,
                backups,
                intents: Intents::default(),
            }
        }

        /// Assigns all of them among `members`, and then moves up to `moves_max`.
        fn assign(&mut self, members: &BTreeSet<ProcessId>, moves_max: usize) -> &mut Sessions {
            let mut loads = Loads::of(members, &self.all);
            let policy = Policy { backups: self.backups, ..Policy::default() };
            let mut assignment = Assignment {
                members,
                holdings: &holdings(members),
                intents: &self.intents,
                policy,
                view: GroupViewId::NONE,
                fences: &mut self.fences,
                loads: &mut loads,
            };
            for (id, session) in &mut self.all {
                assignment.assign(*id, session);
            }
            assignment.balance(&mut self.all, moves_max);
            assert_eq!(loads, Loads::of(members, &self.all), "loads are what the sessions say");
            self
        }

        fn primaries(&self) -> Vec<ProcessId> {
            self.all.values().filter_map(|session| session.primary).collect()
        }

        fn most_and_least(&self, members: &BTreeSet<ProcessId>) -> (usize, usize) {
            let count = |member| self.primaries().into_iter().filter(|primary| primary == member).count();
            let counts: Vec<_> = members.iter().map(count).collect();
            (counts.iter().copied().max().unwrap_or(0), counts.into_iter().min().unwrap_or(0))
        }
    }

    #[test]
    fn equal_databases_make_equal_choices_that_are_even() {
        for (machines, backups) in
            [(&["a"][..], 1), (&["a", "b"], 1), (&["a", "b", "c"], 2), (&["a", "b", "c"], 0)]
        {
            let members = servers(machines);
            let (mut one, mut other) = (Sessions::new(20, backups), Sessions::new(20, backups));
            one.assign(&members, 0);
            other.assign(&members, 0);
            assert_eq!(one.all, other.all);
            let (most, least) = one.most_and_least(&members);
            assert!(most <= least + 1, "{most} and {least} of {machines:?}");
            for session in one.all.values() {
                let wanted = usize::from(backups).min(members.len() - 1);
                let chosen: BTreeSet<_> = session.backups.iter().chain(&session.primary).collect();
                assert_eq!((session.backups.len(), chosen.len()), (wanted, wanted + 1));
            }
        }
    }

    #[test]
    fn different_sessions_break_ties_differently() {
        let members = servers(&["a", "b", "c"]);
        let firsts = (1..=20).map(|id| {
            let mut alone = session();
            let mut loads = Loads::of(&members, &BTreeMap::new());
            let policy = Policy { backups: 0, ..Policy::default() };
            let (view, fences) = (GroupViewId::NONE, &mut 0);
            let (holdings, loads) = (&holdings(&members), &mut loads);
            let (members, intents) = (&members, &Intents::default());
            let mut assignment = Assignment { members, holdings, intents, policy, view, fences, loads };
            assignment.assign(SessionId::new(id), &mut alone);
            alone.primary
        });
        assert_eq!(firsts.collect::<BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn who_is_still_there_stays_and_the_first_backup_inherits() {
        let mut sessions = Sessions::new(12, 2);
        sessions.assign(&servers(&["a", "b", "c", "d"]), 0);
        let before = sessions.all.clone();
        sessions.assign(&servers(&["b", "c", "d"]), 0);
        for (id, session) in &sessions.all {
            let old = &before[id];
            let lost_primary = old.primary == Some(server("a", 1));
            if lost_primary {
                assert_eq!(session.primary, old.backups.first().copied());
                assert!(session.fence > old.fence);
                assert_eq!(session.replaced, Some(Replaced { server: server("a", 1), fence: old.fence }));
            } else {
                assert_eq!((session.primary, session.fence), (old.primary, old.fence));
            }
            let heirs = old.backups.iter().skip(usize::from(lost_primary));
            let survivors: Vec<_> = heirs.filter(|backup| **backup != server("a", 1)).copied().collect();
            assert!(session.backups.starts_with(&survivors), "{:?} from {:?}", session.backups, old.backups);
            assert_eq!(session.backups.len(), 2);
        }
        let unchanged = sessions.all.clone();
        sessions.assign(&servers(&["b", "c", "d"]), 0);
        assert_eq!(sessions.all, unchanged);
    }

    #[test]
    fn a_backup_is_on_another_machine_if_there_is_one() {
        let members = BTreeSet::from([server("a", 1), server("a", 2), server("b", 1)]);
        let mut sessions = Sessions::new(8, 1);
        sessions.assign(&members, 0);
        for session in sessions.all.values() {
            let machines = session.primary.iter().chain(&session.backups).map(|it| it.daemon());
            assert_eq!(machines.collect::<BTreeSet<_>>().len(), 2);
        }
    }

    #[test]
    fn balance_moves_as_much_as_it_may_and_stops_when_it_helps_no_more() {
        let (two, three) = (servers(&["a", "b"]), servers(&["a", "b", "c"]));
        for (moves_max, moved) in [(0, 0), (1, 1), (3, 3), (100, 4)] {
            let mut sessions = Sessions::new(12, 1);
            sessions.assign(&two, 0);
            let before = sessions.all.clone();
            sessions.assign(&three, moves_max);
            let changed: Vec<_> =
                sessions.all.iter().filter(|(id, session)| session.primary != before[id].primary).collect();
            assert_eq!(changed.len(), moved, "of at most {moves_max}");
            for (id, session) in changed {
                assert_eq!(session.primary, Some(server("c", 1)));
                assert_eq!(session.backups.first().copied(), before[id].primary, "it has the context");
            }
            let settled = sessions.all.clone();
            if moves_max == 100 {
                assert_eq!(sessions.assign(&three, moves_max).all, settled);
            }
        }
    }
}
