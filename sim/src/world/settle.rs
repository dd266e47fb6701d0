//! The end of a run: faults stop, everybody is there again, and everything must come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gcs_core::Daemon;
use model::trace::{Event, Record};
use model::{GroupName, Member, ProcessId, SessionId, UnitId};
use session_core::Rebuild;
use session_core::names::Purpose;
use session_core::server::SessionStatus;

use crate::coverage::Fact;
use crate::hosts::{DaemonHost, ProcessHost, ServerHost};
use crate::knobs::ms;
use crate::net::Reach;
use crate::packet::Node;
use crate::report::Outcome;
use crate::world::World;

/// How long nothing may happen for the world to be at rest.
const QUIET: Duration = ms(1500);

/// After this time in which no fault happens an operator looks at what is left alone.
const OPERATOR_COMES: Duration = Duration::from_secs(5);

/// How long it may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// The whole run of a seed.
    pub fn run(&mut self) -> Outcome {
        self.start();
        self.pass(ms(200));
        self.begin_trouble();
        self.pass(self.knobs.weather.lasts);
        self.settle();
        self.outcome()
    }

    /// Ends all faults, lets every client finish, and waits until nothing happens any more.
    pub fn settle(&mut self) {
        self.start();
        self.troubled = false;
        self.at_rest = true;
        self.ambushes.clear();
        self.planned.clear();
        self.net.reshape(self.now, &mut self.queue, Reach::heal);
        self.all_go_on();
        self.bring_everything_back();
        self.lift_cordons();
        for local in &mut self.locals {
            local.host.iter_mut().for_each(ProcessHost::rest);
        }
        for node in self.processes() {
            self.restart(node);
        }
        for client in 0..self.clients.len() {
            self.with_client(client, |client, scene| client.wind_down(scene));
        }
        self.calm_down();
    }

    /// A session that its client gave up must be unknown to all servers of its unit: those in its content group. Who
    /// hangs, and has been parted from his daemon meanwhile, still has what he knew, and is to forget it.
    pub(super) fn doubt_the_lost(&mut self) {
        for session in std::mem::take(&mut self.log.lost) {
            let servers = self.servers.iter().filter_map(|slot| slot.host.as_ref());
            let staying = servers.filter(|host| !host.is_draining());
            let knows =
                staying.flat_map(|host| host.server().sessions().map(|known| (host.server().me(), known)));
            let mut knows = knows.filter(|(_, known)| known.id == session);
            if knows.any(|(me, known)| me.is_some_and(|me| self.is_replica(me, known.unit))) {
                self.log
                    .complaints
                    .push(format!("{session} was given up at {}, and some server has it", self.now));
            }
        }
    }

    /// Whether its daemon has a process in the content group of a unit.
    fn is_replica(&self, process: ProcessId, unit: &UnitId) -> bool {
        let content = Purpose::Content(unit.clone()).group();
        let daemons = self.daemons.iter().filter_map(|slot| slot.host.as_ref()).map(DaemonHost::daemon);
        let mut groups = daemons.filter(|daemon| daemon.id() == process.daemon()).flat_map(Daemon::groups);
        groups.any(|(group, members)| {
            *group == content && members.iter().any(|member| member.process == process)
        })
    }

    /// Waits until nothing happens any more.
    pub fn calm_down(&mut self) {
        let (begin, deadline) = (self.now, self.now + PATIENCE);
        let (mut seen, mut since) = (self.log.records.len(), self.now);
        let mut moved = BTreeSet::new();
        loop {
            self.pass(ms(50));
            if self.now.since(begin) >= OPERATOR_COMES {
                self.move_the_abandoned(&mut moved);
            }
            if self.log.records.len() != seen || !self.is_at_rest() {
                (seen, since) = (self.log.records.len(), self.now);
            }
            if self.now.since(since) >= QUIET {
                break;
            }
            if self.now >= deadline {
                let table = self.table();
                self.log.complaints.push(format!("does not come to rest:\n{table}"));
                return;
            }
        }
        self.compare_tables();
        self.compare_intents();
        self.note_quiescence();
    }

    /// An operator moves the sessions that nobody is appointed for, since they were moved too often without any progress: each
    /// of them once.
    fn move_the_abandoned(&mut self, moved: &mut BTreeSet<SessionId>) {
        for machine in 0..self.servers.len() {
            let Some(host) = &self.servers[machine].host else { continue };
            let is_abandoned = |known: &SessionStatus<'_>| {
                known.session.primary.is_none()
                    && known.session.stalls.is_over()
                    && !moved.contains(&known.id)
            };
            let abandoned = host.server().sessions().filter(is_abandoned);
            let abandoned: Vec<_> = abandoned.map(|known| (known.unit.clone(), known.id)).collect();
            for (unit, session) in abandoned {
                moved.insert(session);
                self.remark(|| format!("an operator has {session} moved"));
                self.order_move_away(machine, unit, session);
            }
        }
    }

    /// All daemons hold one group table, and it has every process in the groups that it wants to be in.
    fn compare_tables(&mut self) {
        let daemons = || self.daemons.iter().filter_map(|slot| slot.host.as_ref()).map(DaemonHost::daemon);
        let table = |daemon: &Daemon| -> BTreeMap<GroupName, Vec<ProcessId>> {
            let ids = |members: &[Arc<Member>]| members.iter().map(|member| member.process).collect();
            daemon.groups().map(|(group, members)| (group.clone(), ids(members))).collect()
        };
        let Some(first) = daemons().next().map(table) else { return };
        let mut complaints = Vec::new();
        for daemon in daemons().filter(|daemon| table(daemon) != first) {
            complaints.push(format!("{} holds another group table than the first daemon", daemon.id()));
        }
        let mut wanted: BTreeMap<GroupName, Vec<ProcessId>> = BTreeMap::new();
        for local in self.locals.iter().filter_map(|slot| slot.host.as_ref()) {
            match local.me() {
                Some(me) => local.wanted().iter().for_each(|group| {
                    wanted.entry(group.clone()).or_default().push(me);
                }),
                None => complaints.push("some process is not attached in the end".into()),
            }
            if local.is_waiting() {
                complaints.push("some process waits to hear what became of a message".into());
            }
        }
        wanted.values_mut().for_each(|members| members.sort_unstable());
        if !self.locals.is_empty() && wanted != first {
            complaints.push("the group table is not what the processes asked for".into());
        }
        self.log.complaints.extend(complaints);
    }

    fn is_at_rest(&self) -> bool {
        let clients = self.clients.iter().filter_map(|slot| slot.host.as_ref());
        let mut busy = clients.filter(|client| client.is_winding_down() && !client.is_at_rest());
        let mut daemons = self.daemons.iter().filter_map(|slot| slot.host.as_ref());
        let nothing_held = |daemon: &Daemon| {
            let windows = daemon.windows();
            windows.unstable + windows.waiting + windows.held + windows.unacknowledged == 0
        };
        // Who drains is gone soon, whether or not he could hand over what he serves.
        let drains = self.servers.iter().filter_map(|slot| slot.host.as_ref()).any(ServerHost::is_draining);
        // A link that has come and gone has to be up for a while before it counts again.
        let living: Vec<_> = daemons.clone().map(|host| host.daemon().id()).collect();
        let is_trusting = |host: &DaemonHost| !living.iter().any(|peer| host.doubts(*peer));
        let is_steady = |daemon: &Daemon| daemon.phase() == "steady" && nothing_held(daemon);
        // What nobody acknowledges is repeated less and less often, until it is given up.
        let gateways = self.gateways.iter().filter_map(|slot| slot.host.as_ref());
        let mut waiting =
            gateways.flat_map(|host| host.gateway().sessions()).map(|known| known.requests_pending);
        let all_is_acknowledged = waiting.all(|requests| requests == 0);
        !drains
            && all_is_acknowledged
            && busy.next().is_none()
            && daemons.all(|host| is_steady(host.daemon()) && is_trusting(host))
    }

    fn note_quiescence(&mut self) {
        let daemons: Vec<_> = self
            .daemons
            .iter()
            .filter_map(|slot| slot.host.as_ref())
            .map(|host| host.daemon().id())
            .collect();
        let clients = self.clients.iter().filter_map(|slot| slot.host.as_ref());
        let sessions: Vec<_> =
            clients.filter(|client| client.is_attached()).filter_map(|client| client.session()).collect();
        let event = Event::Quiescent { daemons, sessions };
        self.log.records.push(Record { at: self.now, event });
    }

    /// What came of the run.
    pub fn outcome(&mut self) -> Outcome {
        let mut complaints = std::mem::take(&mut self.log.complaints);
        let clients: Vec<_> = self.clients.iter().filter_map(|slot| slot.host.as_ref()).collect();
        for (n, client) in clients.iter().enumerate() {
            let (tally, node) = (client.tally(), Node::Client(n));
            if tally.requests_lost > 0 {
                complaints.push(format!("{node} sends again what is not reflected, and still: {tally:?}"));
            }
            if self.knobs.sessions.policy.rebuild == Rebuild::Allowed && tally.lost > 0 {
                complaints
                    .push(format!("{node} lost a session that is made anew from its cursor: {tally:?}"));
            }
            if self.knobs.weather.gentle && tally.lost + tally.expired > 0 {
                complaints.push(format!("{node} lost a session in gentle weather: {tally:?}"));
            }
        }
        let report = check::judge(&self.log.records);
        let mut coverage = std::mem::take(&mut self.log.coverage);
        coverage.read(&self.log.records);
        coverage.count(Fact::Parting, report.tally.partings);
        coverage.count(Fact::Reordering, report.tally.reorderings);
        let tallies = clients.iter().map(|client| client.tally()).collect();
        Outcome {
            seed: self.knobs.seed,
            events: self.events,
            complaints,
            report,
            coverage,
            membership: Default::default(),
            tallies,
        }
    }
}
