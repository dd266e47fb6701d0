//! Who is in command. The first by rank of those who hear each other, in the end; until then, whoever believes to be.
//!
//! - A leader sends beacons to all servers that it is linked with: at once when its view changes, and then for a while
//!   more often than usual. Whoever has not heard of a better one follows, and answers with its row: "I'm here".
//! - Each follower pings its predecessor, and the leader pings the last. If one is gone, the leader is told, and asks
//!   itself: links that only some miss are nobody's end. If it was the leader, its successor takes over at once.
//! - If nobody does, followers take over on their own, the better the sooner.
//! - A leader that hears a better one's beacon shuts up and follows. One that hears a worse one's sends its own, for
//!   the union of both views.
//!
//! Invariant: a server leads, or follows one leader, or seeks one; what that means for changes is the business of
//! `round`. Which links are there is a fact of the host, and nothing here takes time but silence.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use model::{ServerId, Time};

use crate::wombat::follower::{Follower, is_better};
use crate::wombat::word::{Beacon, Word};

/// How many beacons in a row are sent in a hurry, and how much faster.
const HURRY: u32 = 8;
const HASTE: u32 = 4;
/// For how many periods a leader waits for a server to show that it is there.
const PATIENCE: u32 = 3;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Command {
    me: ServerId,
    /// The time between two beacons when nothing changes.
    pace: Duration,
    /// The servers that there is a link to.
    linked: BTreeSet<ServerId>,
    role: Role,
}

#[derive(Clone, Debug, Hash)]
enum Role {
    Leads(Leader),
    Follows(Follower),
    Seeks(Seeker),
}

#[derive(Clone, Debug, Hash)]
struct Leader {
    members: BTreeMap<ServerId, Member>,
    next_beacon: Time,
    /// When to ping the last.
    next_ping: Time,
    /// How many more beacons are sent in a hurry.
    hurry: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Member {
    /// It follows me.
    Here,
    /// It does, and has until then to answer.
    Asked(Time),
    /// It has until then to say so.
    Awaited(Time),
    /// It has not. It may come at any time, but nobody waits for it.
    Silent,
}

/// Whose leader is gone.
#[derive(Clone, Debug, Hash)]
struct Seeker {
    lost: ServerId,
    view: BTreeSet<ServerId>,
    since: Time,
    next: Duration,
}

/// What has to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send this.
    Say(ServerId, Word),
    /// Announce my row to the leader that I follow from now on.
    Follow(ServerId),
    /// I am in command from now on, in the place of another.
    Lead(ServerId),
    /// I am not any more.
    Resign,
    /// This server does not follow me any more, and its daemons may attach elsewhere.
    Lost(ServerId),
}

impl Leader {
    fn new(now: Time) -> Leader {
        Leader { members: BTreeMap::new(), next_beacon: now, next_ping: now, hurry: HURRY }
    }

    fn has(&self, server: ServerId) -> bool {
        self.members.get(&server).is_some_and(|member| *member != Member::Silent)
    }

    /// Waits for those who neither follow nor have been waited for in vain. Whether there are any.
    fn await_all(&mut self, servers: impl Iterator<Item = ServerId>, until: Time) -> bool {
        let mut is_changed = false;
        for server in servers.filter(|server| !self.members.contains_key(server)).collect::<Vec<_>>() {
            self.members.insert(server, Member::Awaited(until));
            is_changed = true;
        }
        is_changed
    }

    /// The last by rank of those who follow.
    fn last(&self) -> Option<ServerId> {
        let here = self.members.iter().filter(|(_, it)| matches!(it, Member::Here | Member::Asked(_)));
        here.map(|(server, _)| *server).max_by_key(|server| server.name())
    }

    /// Asks `server` whether it is there.
    fn ask(&mut self, server: ServerId, until: Time, steps: &mut Vec<Step>) {
        if let Some(member @ Member::Here) = self.members.get_mut(&server) {
            *member = Member::Asked(until);
        }
        steps.push(Step::Say(server, Word::Ping));
    }

    /// I have not been awake myself for that long: nobody could show that it is there.
    fn excuse(&mut self, late: Duration) {
        for member in self.members.values_mut() {
            if let Member::Asked(until) | Member::Awaited(until) = member {
                *until = *until + late;
            }
        }
    }

    /// Gives up on those whose time is over.
    fn expire(&mut self, now: Time) -> Vec<ServerId> {
        let mut lost = Vec::new();
        for (server, member) in &mut self.members {
            if let Member::Asked(until) | Member::Awaited(until) = *member
                && until <= now
            {
                *member = Member::Silent;
                lost.push(*server);
            }
        }
        lost
    }
}

impl Command {
    /// Whoever starts leads itself, until there is a link to a better one.
    pub(crate) fn new(me: ServerId, pace: Duration) -> Command {
        let leader = Leader { hurry: 0, ..Leader::new(Time::ZERO) };
        Command { me, pace, linked: BTreeSet::new(), role: Role::Leads(leader) }
    }

    /// Whom I follow.
    pub(crate) fn leader(&self) -> Option<ServerId> {
        match &self.role {
            Role::Follows(follower) => Some(follower.leader),
            Role::Leads(_) | Role::Seeks(_) => None,
        }
    }

    /// Those who follow me and myself, if I am in command.
    pub(crate) fn followers(&self) -> Option<BTreeSet<ServerId>> {
        let Role::Leads(leader) = &self.role else { return None };
        let is_here = |member: &Member| matches!(member, Member::Here | Member::Asked(_));
        let here = leader.members.iter().filter(|(_, member)| is_here(member)).map(|(server, _)| *server);
        Some(here.chain([self.me]).collect())
    }

    /// Whether I am in command, and know of nobody who is about to follow.
    pub(crate) fn decides(&self) -> bool {
        match &self.role {
            Role::Leads(leader) => !leader.members.values().any(|it| matches!(it, Member::Awaited(_))),
            Role::Follows(_) | Role::Seeks(_) => false,
        }
    }

    /// Whom I know of that is together with me.
    pub(crate) fn view(&self) -> BTreeSet<ServerId> {
        match &self.role {
            Role::Leads(leader) => {
                let members = leader.members.keys().filter(|server| leader.has(**server));
                members.copied().chain([self.me]).collect()
            }
            Role::Follows(follower) => follower.view.clone(),
            Role::Seeks(_) => BTreeSet::from([self.me]),
        }
    }

    // Links.

    pub(crate) fn link_up(&mut self, now: Time, server: ServerId, steps: &mut Vec<Step>) {
        let earlier = |other: &ServerId| other.name() == server.name() && other.boot() < server.boot();
        let earlier: Vec<_> = self.linked.iter().copied().filter(earlier).collect();
        for other in earlier {
            self.link_down(now, other, steps);
        }
        let is_first = self.linked.is_empty();
        self.linked.insert(server);
        let next = self.interval();
        match &mut self.role {
            // What was said on an earlier link may be lost: it begins again.
            Role::Leads(leader) => {
                if let Some(member) = leader.members.get_mut(&server) {
                    *member = Member::Awaited(now + self.pace * PATIENCE);
                }
                // Nothing was due as long as there was nobody.
                if is_first {
                    leader.next_beacon = now + next;
                }
                steps.push(Step::Say(server, Word::Beacon(Beacon { view: self.view(), next })));
            }
            Role::Follows(follower) if follower.leader == server => {
                follower.reported = now;
                steps.push(Step::Follow(server));
            }
            // It was not gone.
            Role::Seeks(seeker) if seeker.lost == server => {
                let (view, next) = (core::mem::take(&mut seeker.view), seeker.next);
                let mut follower = Follower::new(self.me, now, server);
                follower.heard(self.me, now, view, next);
                self.role = Role::Follows(follower);
                steps.push(Step::Follow(server));
            }
            Role::Follows(_) | Role::Seeks(_) => {}
        }
    }

    pub(crate) fn link_down(&mut self, now: Time, server: ServerId, steps: &mut Vec<Step>) {
        self.linked.remove(&server);
        match &mut self.role {
            Role::Leads(leader) => {
                let was_announced = leader.has(server);
                leader.members.remove(&server);
                if was_announced {
                    steps.push(Step::Lost(server));
                    self.hurry(now, steps);
                }
            }
            Role::Follows(follower) if follower.leader == server => self.seek(now),
            Role::Follows(follower) => {
                if follower.watch.is_some_and(|watch| watch.of == server) {
                    steps.push(Step::Say(follower.leader, Word::Missing(server)));
                }
            }
            Role::Seeks(_) => {}
        }
    }

    // What others say.

    pub(crate) fn beacon(&mut self, now: Time, from: ServerId, beacon: Beacon, steps: &mut Vec<Step>) {
        if !self.linked.contains(&from) {
            return;
        }
        let next = beacon.next.max(self.pace / HASTE).min(self.pace);
        let me = self.me;
        let is_worse = is_better(me, from);
        match &mut self.role {
            Role::Follows(follower) if follower.leader == from => {
                follower.heard(me, now, beacon.view, next);
                if follower.is_missed(me, now) {
                    follower.reported = now;
                    steps.push(Step::Follow(from));
                }
            }
            Role::Follows(follower) => {
                let is_silent = now >= follower.silent_from();
                // One that is worse than a leader that is there is a usurper, and hears of that from the leader.
                if is_better(from, follower.leader) || (is_silent && !is_worse) {
                    self.follow(now, from, beacon.view, next, steps);
                }
            }
            Role::Leads(_) | Role::Seeks(_) if is_worse => self.overrule(now, from, &beacon.view, steps),
            Role::Leads(_) | Role::Seeks(_) => self.follow(now, from, beacon.view, next, steps),
        }
    }

    /// A server announced its row: it follows me. False if I do not lead.
    pub(crate) fn row(&mut self, now: Time, from: ServerId, steps: &mut Vec<Step>) -> bool {
        let Role::Leads(leader) = &mut self.role else {
            steps.push(Step::Say(from, Word::Away));
            return false;
        };
        let was_announced = leader.has(from);
        leader.members.insert(from, Member::Here);
        if !was_announced {
            self.hurry(now, steps);
        }
        true
    }

    /// Whether `from` follows me.
    pub(crate) fn is_followed_by(&self, from: ServerId) -> bool {
        let Role::Leads(leader) = &self.role else { return false };
        matches!(leader.members.get(&from), Some(Member::Here | Member::Asked(_)))
    }

    pub(crate) fn away(&mut self, now: Time, from: ServerId, steps: &mut Vec<Step>) {
        match &mut self.role {
            Role::Leads(leader) => {
                let was_announced = leader.has(from);
                leader.members.remove(&from);
                if was_announced {
                    steps.push(Step::Lost(from));
                    self.hurry(now, steps);
                }
            }
            Role::Follows(follower) if follower.leader == from => self.seek(now),
            Role::Follows(_) | Role::Seeks(_) => {}
        }
    }

    pub(crate) fn missing(&mut self, now: Time, server: ServerId, steps: &mut Vec<Step>) {
        let until = now + self.pace * PATIENCE;
        if self.is_followed_by(server)
            && let Role::Leads(leader) = &mut self.role
        {
            leader.ask(server, until, steps);
        }
    }

    pub(crate) fn pong(&mut self, now: Time, from: ServerId) {
        match &mut self.role {
            Role::Leads(leader) => {
                if let Some(member @ Member::Asked(_)) = leader.members.get_mut(&from) {
                    *member = Member::Here;
                }
            }
            Role::Follows(follower) => follower.pong(now, from),
            Role::Seeks(_) => {}
        }
    }

    // Changes of command.

    /// There is a leader that is better than I and than all I know of.
    fn follow(
        &mut self,
        now: Time,
        from: ServerId,
        view: BTreeSet<ServerId>,
        next: Duration,
        steps: &mut Vec<Step>,
    ) {
        let mut follower = Follower::new(self.me, now, from);
        follower.heard(self.me, now, view, next);
        match core::mem::replace(&mut self.role, Role::Follows(follower)) {
            Role::Leads(leader) => {
                steps.push(Step::Resign);
                let others = leader.members.keys().filter(|server| **server != from && leader.has(**server));
                steps.extend(others.map(|server| Step::Say(*server, Word::Away)));
            }
            // A worse one is followed for want of a beacon: if the better one is there, it is followed again.
            Role::Follows(old) if is_better(from, old.leader) => {
                steps.push(Step::Say(old.leader, Word::Away));
            }
            Role::Follows(_) | Role::Seeks(_) => {}
        }
        steps.push(Step::Follow(from));
    }

    /// A worse one believes to be in command.
    fn overrule(&mut self, now: Time, from: ServerId, view: &BTreeSet<ServerId>, steps: &mut Vec<Step>) {
        if let Role::Seeks(_) = self.role {
            self.lead(now, steps);
        }
        let until = now + self.pace * PATIENCE;
        let beacon = Word::Beacon(Beacon { view: self.view(), next: self.interval() });
        let Role::Leads(leader) = &mut self.role else { return };
        if let Some(member @ Member::Here) = leader.members.get_mut(&from) {
            *member = Member::Awaited(until);
        }
        let union = view.iter().chain([&from]).filter(|server| self.linked.contains(*server));
        if leader.await_all(union.copied(), until) {
            self.hurry(now, steps);
        } else {
            steps.push(Step::Say(from, beacon));
        }
    }

    /// There is nobody to follow, for now.
    fn seek(&mut self, now: Time) {
        if let Role::Follows(follower) = &self.role {
            let seeker = Seeker {
                lost: follower.leader,
                view: follower.view.clone(),
                since: now,
                next: follower.next(),
            };
            self.role = Role::Seeks(seeker);
        }
    }

    /// Takes command.
    fn lead(&mut self, now: Time, steps: &mut Vec<Step>) {
        let (lost, view) = match &self.role {
            Role::Leads(_) => return,
            Role::Follows(follower) => (follower.leader, &follower.view),
            Role::Seeks(seeker) => (seeker.lost, &seeker.view),
        };
        let mut leader = Leader::new(now);
        let others = view.iter().filter(|server| self.linked.contains(*server) && **server != lost);
        leader.await_all(others.copied(), now + self.pace * PATIENCE);
        self.role = Role::Leads(leader);
        steps.push(Step::Lead(lost));
        self.hurry(now, steps);
    }

    /// How many of those who are linked come before me, if the leader is gone.
    fn before(&self) -> u32 {
        let (lost, view) = match &self.role {
            Role::Leads(_) => return 0,
            Role::Follows(follower) => (follower.leader, &follower.view),
            Role::Seeks(seeker) => (seeker.lost, &seeker.view),
        };
        let comes_before =
            |it: &&ServerId| **it != lost && is_better(**it, self.me) && self.linked.contains(*it);
        view.iter().filter(comes_before).count() as u32
    }

    // Time.

    fn interval(&self) -> Duration {
        match &self.role {
            Role::Leads(leader) if leader.hurry > 0 => self.pace / HASTE,
            Role::Leads(_) | Role::Follows(_) | Role::Seeks(_) => self.pace,
        }
    }

    /// The view has changed: beacons from now on, and faster for a while.
    fn hurry(&mut self, now: Time, steps: &mut Vec<Step>) {
        if let Role::Leads(leader) = &mut self.role {
            leader.hurry = HURRY;
        }
        self.send_beacons(now, steps);
    }

    fn send_beacons(&mut self, now: Time, steps: &mut Vec<Step>) {
        let next = self.interval();
        let beacon = Beacon { view: self.view(), next };
        steps.extend(self.linked.iter().map(|server| Step::Say(*server, Word::Beacon(beacon.clone()))));
        if let Role::Leads(leader) = &mut self.role {
            leader.hurry = leader.hurry.saturating_sub(1);
            leader.next_beacon = now + next;
        }
    }

    /// Does what is due.
    pub(crate) fn wake(&mut self, now: Time, steps: &mut Vec<Step>) {
        let Some((due, _)) = self.next_wake().filter(|(due, _)| *due <= now) else { return };
        let before = self.before();
        match &mut self.role {
            Role::Leads(leader) => {
                if now > due + self.pace {
                    leader.excuse(now.since(due));
                }
                if let Some(last) = leader.last().filter(|_| leader.next_ping <= now) {
                    leader.next_ping = now + self.pace;
                    leader.ask(last, now + self.pace * PATIENCE, steps);
                }
                let lost = leader.expire(now);
                if !lost.is_empty() {
                    steps.extend(lost.into_iter().map(Step::Lost));
                    self.hurry(now, steps);
                } else if leader.next_beacon <= now {
                    self.send_beacons(now, steps);
                }
            }
            Role::Follows(follower) => {
                if now > due + self.pace {
                    follower.excuse(now, before);
                }
                let is_leader_gone = follower.deadline(before) <= now;
                let Some(watch) = &mut follower.watch else {
                    if is_leader_gone {
                        self.lead(now, steps);
                    }
                    return;
                };
                let is_predecessor_gone = watch.deadline(self.pace) <= now;
                if is_leader_gone || (is_predecessor_gone && watch.of == follower.leader) {
                    return self.lead(now, steps);
                }
                if is_predecessor_gone {
                    watch.again(self.pace);
                    steps.push(Step::Say(follower.leader, Word::Missing(watch.of)));
                }
                if watch.next_ping <= now {
                    watch.next_ping = now + self.pace;
                    steps.push(Step::Say(watch.of, Word::Ping));
                }
            }
            Role::Seeks(_) => self.lead(now, steps),
        }
    }

    pub(crate) fn next_wake(&self) -> Option<(Time, &'static str)> {
        match &self.role {
            Role::Leads(leader) => {
                let times = leader.members.values().filter_map(|member| match member {
                    Member::Asked(until) => Some((*until, "a server is asked whether it is there")),
                    Member::Awaited(until) => Some((*until, "a server is to follow")),
                    Member::Here | Member::Silent => None,
                });
                let beacon = (!self.linked.is_empty()).then_some((leader.next_beacon, "the next beacon"));
                let ping = leader.last().map(|_| (leader.next_ping, "the next ping"));
                times.chain(beacon).chain(ping).min()
            }
            Role::Follows(follower) => {
                let leader = (follower.deadline(self.before()), "no beacon has come");
                let watch = follower.watch.iter().flat_map(|watch| {
                    [
                        (watch.next_ping, "the next ping"),
                        (watch.deadline(self.pace), "the predecessor does not answer"),
                    ]
                });
                watch.chain([leader]).min()
            }
            Role::Seeks(seeker) => Some((seeker.since + seeker.next * self.before(), "nobody leads")),
        }
    }
}
