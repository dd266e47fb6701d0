//! The end of a run: faults stop, everybody is there again, and everything must come to rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gcs_core::Daemon;
use model::trace::{Event, Record};
use model::{GroupName, Member, ProcessId};
use session_core::Rebuild;

use crate::coverage::Fact;
use crate::hosts::{DaemonHost, ProcessHost};
use crate::knobs::ms;
use crate::net::Reach;
use crate::packet::Node;
use crate::report::Outcome;
use crate::world::World;

/// How long nothing may happen for the world to be at rest.
const QUIET: Duration = ms(1500);

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

    /// A session that its client gave up must be unknown to all servers.
    pub(super) fn doubt_the_lost(&mut self) {
        for session in std::mem::take(&mut self.log.lost) {
            let servers = self.servers.iter().filter_map(|slot| slot.host.as_ref());
            let staying = servers.filter(|host| !host.is_draining());
            let knows = staying.flat_map(|host| host.server().sessions()).any(|known| known.id == session);
            if knows {
                self.log
                    .complaints
                    .push(format!("{session} was given up at {}, and some server has it", self.now));
            }
        }
    }

    /// Waits until nothing happens any more.
    pub fn calm_down(&mut self) {
        let deadline = self.now + PATIENCE;
        let (mut seen, mut since) = (self.log.records.len(), self.now);
        loop {
            self.pass(ms(50));
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
        self.note_quiescence();
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
        let mut daemons = self.daemons.iter().filter_map(|slot| slot.host.as_ref()).map(|host| host.daemon());
        let nothing_held = |daemon: &Daemon| {
            let windows = daemon.windows();
            windows.unstable + windows.waiting + windows.held + windows.unacknowledged == 0
        };
        busy.next().is_none() && daemons.all(|daemon| daemon.phase() == "steady" && nothing_held(daemon))
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
