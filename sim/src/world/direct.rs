//! A world of group communication that somebody directs: who reaches whom, who stands still, and what processes do.

use std::time::Duration;

use model::{DaemonId, GroupName, ProcessId, Terms};

use crate::hosts::ProcessHost;
use crate::knobs::Knobs;
use crate::net::Reach;
use crate::packet::Node;
use crate::scene::Scene;
use crate::world::World;

impl World {
    /// A quiet world of so many machines with a process on each, the first of which run membership servers.
    pub fn of_groups(seed: u64, machines: usize, membership_servers: usize) -> World {
        World::new(Knobs::quiet_multicast(seed, machines, membership_servers))
    }

    /// Everybody reaches everybody again.
    pub fn heal(&mut self) {
        self.reshape(Reach::heal);
    }

    /// Lets a process that stands still or is slow go on as before.
    pub fn let_go_on(&mut self, node: Node) {
        self.end_stop(node);
    }

    /// A process joins groups.
    pub fn join(&mut self, process: usize, groups: &[&str]) {
        let groups = groups.iter().map(|group| named(group)).collect();
        self.with_process(process, |host, scene| host.join(groups, scene));
    }

    /// A process leaves groups.
    pub fn leave(&mut self, process: usize, groups: &[&str]) {
        let groups = groups.iter().map(|group| named(group)).collect();
        self.with_process(process, |host, scene| host.leave(groups, scene));
    }

    /// A process multicasts so many bytes to a group.
    pub fn multicast(&mut self, process: usize, group: &str, bytes: usize) {
        self.with_process(process, |host, scene| {
            host.multicast(named(group), bytes, Terms::default(), scene)
        });
    }

    /// The members of a group, as the daemon of a machine has them.
    pub fn members(&self, machine: usize, group: &str) -> Vec<ProcessId> {
        let daemon = self.daemons[machine].host.as_ref().map(|host| host.daemon());
        let mut groups = daemon.into_iter().flat_map(|daemon| daemon.groups());
        let found = groups.find(|(name, _)| name.as_str() == group);
        found.map_or(Vec::new(), |(_, members)| members.iter().map(|member| member.process).collect())
    }

    /// The daemons in the configuration of a machine's daemon, if it is not on its way to another one.
    pub fn configuration(&self, machine: usize) -> Option<Vec<DaemonId>> {
        let daemon = self.daemons[machine].host.as_ref()?.daemon();
        (daemon.phase() == "steady").then(|| daemon.configuration().members.keys().copied().collect())
    }

    /// Waits until the daemons of these machines are in one configuration without others.
    pub fn expect_together(&mut self, machines: &[usize]) {
        self.expect(|world| {
            let sets: Vec<_> = machines.iter().map(|machine| world.configuration(*machine)).collect();
            sets.iter().all(|set| set.as_ref().is_some_and(|set| set.len() == machines.len()))
                && sets.windows(2).all(|pair| pair[0] == pair[1])
        });
        self.pass(Duration::from_millis(20));
    }

    fn with_process(&mut self, process: usize, act: impl FnOnce(&mut ProcessHost, &mut Scene<'_>)) {
        let node = Node::Process(process);
        let Some(mut host) = self.locals[process].host.take() else { return };
        act(&mut host, &mut self.scene(node));
        self.locals[process].host = Some(host);
    }
}

fn named(group: &str) -> GroupName {
    GroupName::new(group).expect("groups in stories are well spelt")
}
