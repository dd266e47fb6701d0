//! Faults strike the world.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use model::{SessionId, UnitId};
use session_core::PolicyChange;

use crate::fault::{Fence, Kind, Strike, Victim};
use crate::hosts::ServerHost;
use crate::knobs::ms;
use crate::net::{Barrier, Event, Reach};
use crate::packet::Node;
use crate::world::World;

/// How long a process may take to hand over what it does.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

/// How long a content server hangs: long enough for gateways to notice, or not.
const HANGS: RangeInclusive<Duration> = ms(300)..=ms(8000);

impl World {
    /// Faults happen from now on, until [`World::settle`].
    pub(super) fn begin_trouble(&mut self) {
        self.troubled = true;
        self.ambushes = self.knobs.weather.ambushes.clone();
        self.plan_trouble();
    }

    fn plan_trouble(&mut self) {
        let at = self.now + self.fate.time(self.knobs.weather.every.clone());
        self.queue.plan(at, Event::Trouble);
    }

    /// A fault at random.
    pub(super) fn trouble(&mut self) {
        if !self.troubled || self.knobs.weather.strikes.is_empty() {
            return;
        }
        let machine = self.fate.below(self.daemons.len());
        let strike = match self.fate.pick(&self.knobs.weather.strikes) {
            Kind::Server => Strike::Kill(Node::Server(machine)),
            Kind::Daemon => Strike::Kill(Node::Daemon(machine)),
            Kind::Machine => Strike::Machine(machine),
            Kind::Gateway => Strike::Kill(Node::Gateway(self.fate.below(self.gateways.len()))),
            Kind::Membership => Strike::Kill(Node::Membership(self.fate.below(self.memberships.len()))),
            Kind::Drain => Strike::Drain(machine),
            Kind::Reset => Strike::Reset,
            Kind::AllServers => Strike::AllServers,
            Kind::PrimaryAndBackup => Strike::PrimaryAndBackup,
            Kind::Adjust => Strike::Adjust(machine),
            Kind::Publish => Strike::Stage(machine),
            Kind::Cordon => Strike::Cordon(machine),
            Kind::TakeAway => Strike::TakeAway(machine),
            Kind::Process => Strike::Kill(Node::Process(self.fate.below(self.locals.len()))),
            Kind::Partition => Strike::Partition,
            Kind::Merge => Strike::Merge,
            Kind::CutOff => Strike::CutOff(machine),
            Kind::Hang => Strike::Hang(machine),
            Kind::Raise(fence) => self.fence(fence, machine),
            Kind::Pause | Kind::Slow if self.processes().is_empty() => Strike::Reset,
            kind @ (Kind::Pause | Kind::Slow) => {
                let node = self.somebody();
                if kind == Kind::Pause { Strike::Pause(node) } else { Strike::Slow(node) }
            }
        };
        self.strike(&strike);
        self.plan_trouble();
    }

    /// Faults that waited for what has just happened.
    pub(super) fn look_for_moments(&mut self) {
        for moment in std::mem::take(&mut self.log.moments) {
            self.log.coverage.came(moment.what);
            self.spring_planned(moment);
            if !self.troubled {
                continue;
            }
            let mut ambushes = std::mem::take(&mut self.ambushes);
            for ambush in &mut ambushes {
                if ambush.springs(moment, &mut self.fate) {
                    let at = self.now + self.fate.time(ambush.after.clone());
                    let strike = self.aim(ambush.victim, moment.at);
                    self.log.coverage.hit(moment.what);
                    self.queue.plan(at, Event::Strike(strike));
                }
            }
            self.ambushes = ambushes;
        }
    }

    fn aim(&mut self, victim: Victim, actor: Node) -> Strike {
        let machine = self.fate.below(self.daemons.len());
        match (victim, actor) {
            (Victim::ActorsMachine, Node::Daemon(n) | Node::Server(n)) => Strike::Machine(n),
            (Victim::Actor | Victim::ActorsMachine, Node::Client(_)) => Strike::Reset,
            (Victim::Actor | Victim::ActorsMachine, actor) => Strike::Kill(actor),
            (Victim::Sequencer, _) => {
                let lowest = (0..self.daemons.len()).find(|n| self.is_alive(Node::Daemon(*n)));
                Strike::Machine(lowest.unwrap_or(machine))
            }
            (Victim::Machine, _) => Strike::Machine(machine),
            (Victim::Server, _) => Strike::Kill(Node::Server(machine)),
            (Victim::Gateway, _) => Strike::Kill(Node::Gateway(self.fate.below(self.gateways.len()))),
            (Victim::Membership, _) => {
                Strike::Kill(Node::Membership(self.fate.below(self.memberships.len())))
            }
            (Victim::Connection, _) => Strike::Reset,
            (Victim::ActorPaused, actor) => Strike::Pause(actor),
            (Victim::ActorSlow, actor) => Strike::Slow(actor),
            (Victim::ActorCutOff, actor) => Strike::CutOff(self.net.reach().place(actor).unwrap_or(machine)),
            (Victim::Parts, _) => Strike::Partition,
            (Victim::Merge, _) => Strike::Merge,
            (Victim::Way(fence), actor) => {
                self.fence(fence, self.net.reach().place(actor).unwrap_or(machine))
            }
        }
    }

    /// Some process, most likely a daemon.
    fn somebody(&mut self) -> Node {
        if self.fate.percent(60) {
            return Node::Daemon(self.fate.below(self.daemons.len()));
        }
        let processes = self.processes();
        self.fate.pick(&processes)
    }

    /// A fence between `machine` and some other one, in one direction or the other.
    fn fence(&mut self, fence: Fence, machine: usize) -> Strike {
        let machines = self.daemons.len();
        let other = (machine + 1 + self.fate.below(machines.max(2) - 1)) % machines;
        let (from, to) = if self.fate.percent(50) { (machine, other) } else { (other, machine) };
        let barriers = match fence {
            Fence::OneWay => vec![Barrier::Cut(from, to)],
            Fence::BothWays => vec![Barrier::Cut(from, to), Barrier::Cut(to, from)],
            Fence::Stall => vec![Barrier::Stall(from, to)],
        };
        Strike::Raise(fence, barriers)
    }

    /// A fault happens.
    pub(super) fn strike(&mut self, strike: &Strike) {
        self.log.coverage.struck(strike);
        match strike {
            Strike::Kill(node) => self.kill(*node),
            Strike::Machine(machine) => {
                for node in self.on_machine(*machine) {
                    self.kill(node);
                }
            }
            Strike::Overdue(node, life) => {
                if self.life(*node) == *life && self.is_alive(*node) {
                    self.crash(*node);
                    self.plan_restart(*node);
                }
            }
            Strike::Drain(machine) => self.drain(*machine),
            Strike::Reset => self.reset_some_connection(),
            Strike::AllServers => self.forget_all(),
            Strike::PrimaryAndBackup => self.kill_primary_and_backup(),
            Strike::Adjust(machine) => self.adjust_some_policy(*machine),
            Strike::Stage(machine) => self.stage_some_edition(*machine),
            Strike::Publish(machine, unit, edition) => self.publish(*machine, unit.clone(), *edition),
            Strike::Uncordon(machine) => self.uncordon(*machine),
            Strike::BringBack(machine, unit) => self.bring_back(*machine, unit),
            Strike::Look => self.look_after_shared_states(),
            Strike::GoOn(node, stop) => self.go_on(*node, *stop),
            Strike::Lower(barriers) => {
                self.remark(|| format!("down: {barriers:?}"));
                self.reshape(|reach| barriers.iter().for_each(|barrier| reach.lower(*barrier)));
            }
            // What was planned before faults stopped does not happen after it.
            _ if !self.troubled => {}
            Strike::Cordon(machine) => self.cordon(*machine),
            Strike::TakeAway(machine) => self.take_some_unit_away(*machine),
            Strike::Partition => self.fall_into_parts(),
            Strike::Merge => self.merge_parts(),
            Strike::CutOff(machine) => self.cut_off(*machine),
            Strike::Raise(fence, barriers) => {
                self.remark(|| format!("{fence:?}: {barriers:?}"));
                self.reshape(|reach| barriers.iter().for_each(|barrier| reach.raise(*barrier)));
                self.plan_end_of_spell(Strike::Lower(barriers.clone()));
            }
            Strike::Pause(node) => {
                if let Some(stop) = self.pause(*node) {
                    self.plan_end_of_spell(Strike::GoOn(*node, stop));
                }
            }
            Strike::Hang(machine) => {
                if let Some(stop) = self.hang(Node::Server(*machine)) {
                    let at = self.now + self.fate.time(HANGS);
                    self.queue.plan(at, Event::Strike(Strike::GoOn(Node::Server(*machine), stop)));
                }
            }
            Strike::Slow(node) => {
                let takes = self.fate.time(self.knobs.weather.drag.clone());
                if let Some(stop) = self.slow_down(*node, takes) {
                    self.plan_end_of_spell(Strike::GoOn(*node, stop));
                }
            }
        }
    }

    fn plan_end_of_spell(&mut self, end: Strike) {
        let at = self.now + self.fate.time(self.knobs.weather.spell.clone());
        self.queue.plan(at, Event::Strike(end));
    }

    /// Changes who reaches whom.
    pub(super) fn reshape(&mut self, change: impl FnOnce(&mut Reach)) {
        self.net.reshape(self.now, &mut self.queue, change);
    }

    fn fall_into_parts(&mut self) {
        let machines = self.daemons.len();
        let count = 2 + self.fate.below(machines.max(2) - 1);
        let parts: Vec<usize> = (0..machines).map(|_| self.fate.below(count)).collect();
        self.divide(parts);
    }

    /// The machines are in these parts from now on.
    pub fn divide(&mut self, parts: Vec<usize>) {
        self.remark(|| format!("the machines are in parts {parts:?}"));
        self.reshape(|reach| reach.divide(parts));
    }

    fn merge_parts(&mut self) {
        let mut parts = self.net.reach().parts().to_vec();
        let distinct: Vec<usize> = parts.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        if distinct.len() < 2 {
            return;
        }
        let (one, other) = (self.fate.pick(&distinct), self.fate.pick(&distinct));
        // Most merges are of two parts, some of all at once.
        let all = self.fate.percent(30);
        parts.iter_mut().filter(|part| all || **part == other).for_each(|part| *part = one);
        self.divide(parts);
    }

    fn cut_off(&mut self, machine: usize) {
        let mut parts = self.net.reach().parts().to_vec();
        let alone = parts.iter().max().map_or(0, |last| last + 1);
        if let Some(part) = parts.get_mut(machine) {
            *part = alone;
        }
        self.divide(parts);
    }

    /// Who lives on a machine. Where nothing comes between machines, membership servers have their own.
    fn on_machine(&self, machine: usize) -> Vec<Node> {
        let all = self.processes().into_iter();
        let elsewhere = |node: &Node| matches!(node, Node::Membership(_)) && self.knobs.servers;
        all.filter(|node| self.net.reach().place(*node) == Some(machine) && !elsewhere(node)).collect()
    }

    /// Kills a process, which starts again by itself.
    fn kill(&mut self, node: Node) {
        if self.is_alive(node) && !self.is_spared(node) {
            self.crash(node);
            self.plan_restart(node);
        }
    }

    /// Whether so many machines are down already that this one has to stay.
    fn is_spared(&self, node: Node) -> bool {
        let (Node::Daemon(machine) | Node::Server(machine)) = node else { return false };
        let is_up = |n: usize| {
            self.is_alive(Node::Daemon(n)) && (!self.knobs.servers || self.is_alive(Node::Server(n)))
        };
        let down = (0..self.daemons.len()).filter(|n| !is_up(*n)).count();
        is_up(machine) && (down + 1) * 100 > self.knobs.weather.down_max * self.daemons.len()
    }

    fn plan_restart(&mut self, node: Node) {
        let at = self.now + self.fate.time(self.knobs.weather.down.clone());
        self.queue.plan(at, Event::Restart { node });
    }

    pub(super) fn drain(&mut self, machine: usize) {
        let node = Node::Server(machine);
        let Some(host) = &self.servers[machine].host else { return };
        if !host.is_draining() {
            self.remark(|| format!("{node} drains"));
            self.with_server(machine, ServerHost::drain);
        }
        let overdue = Strike::Overdue(node, self.life(node));
        self.queue.plan(self.now + DRAIN_PATIENCE, Event::Strike(overdue));
    }

    /// Processes that have ended in order. They start again like the dead, and also in the end, when everybody is there.
    pub(super) fn bury_the_ended(&mut self) {
        for node in std::mem::take(&mut self.log.ended) {
            self.remark(|| format!("{node} ends"));
            self.net.leave(self.now, node, &mut self.queue);
            self.end_life(node);
            if self.troubled || self.at_rest {
                self.plan_restart(node);
            }
        }
    }

    fn reset_some_connection(&mut self) {
        let open: Vec<_> = self.net.open().collect();
        if open.is_empty() {
            return;
        }
        let (conn, from, to) = self.fate.pick(&open);
        self.remark(|| format!("the connection from {from} to {to} breaks"));
        self.net.reset(self.now, conn, &mut self.queue);
    }

    /// Some policy of a unit on a machine is changed, if its server lives and holds one. It may refuse.
    fn adjust_some_policy(&mut self, machine: usize) {
        let Some(host) = self.servers[machine].host.as_ref() else { return };
        let units: Vec<UnitId> = host.server().databases().map(|(unit, _)| unit.clone()).collect();
        if units.is_empty() {
            return;
        }
        let (unit, fate) = (self.fate.pick(&units), &mut self.fate);
        let change = PolicyChange {
            backups: fate.percent(70).then(|| fate.pick(&[0, 1, 2, 3])),
            period: fate.percent(70).then(|| fate.pick(&[ms(20), ms(300), ms(3000)])),
            ..PolicyChange::default()
        };
        self.order_adjustment(machine, unit, change);
    }

    /// An operator has the policy of a unit changed, by the server of a machine.
    pub(super) fn order_adjustment(&mut self, machine: usize, unit: UnitId, change: PolicyChange) {
        self.remark(|| format!("an operator changes the policy of {unit}: {change:?}"));
        self.with_server(machine, |host, scene| host.order_adjustment(unit, change, scene));
    }

    /// An operator has a session moved to whoever can serve it, by the server of a machine.
    pub(super) fn order_move_away(&mut self, machine: usize, unit: UnitId, session: SessionId) {
        self.with_server(machine, |host, scene| host.order_move(unit, session, None, scene));
    }

    /// All content servers lose what they know.
    pub fn forget_all(&mut self) {
        for node in (0..self.servers.len()).map(Node::Server) {
            if self.is_alive(node) {
                self.crash(node);
                self.plan_restart(node);
            }
        }
    }

    fn kill_primary_and_backup(&mut self) {
        let sessions: Vec<SessionId> =
            self.clients.iter().filter_map(|slot| slot.host.as_ref()?.session()).collect();
        if sessions.is_empty() {
            return;
        }
        let session = self.fate.pick(&sessions);
        let Some((primary, backups)) = self.assigned(session) else { return };
        self.kill(primary);
        if let Some(backup) = backups.first() {
            let at = self.now + self.fate.time(Duration::ZERO..=self.knobs.sessions.policy.period);
            self.queue.plan(at, Event::Strike(Strike::Kill(*backup)));
        }
    }
}
