//! Random schedules: traffic, resets, partitions, crashes, restarts and cascaded changes, from one seed each; then
//! faults stop, everybody must come to rest in one configuration, and everything must have held.

use std::collections::BTreeMap;

use ::check::Tally;
use gcs_core::{Limit, Params};
use model::{Configuration, DaemonId, Level, Terms};

use crate::checks::check;
use crate::rng::Rng;
use crate::world::{Action, World, group as group_name};

const SEEDS: u64 = 240;

/// A membership service: each change goes to all of a set; its view goes to whoever has not begun another change.
struct Membership {
    counter: u64,
    /// Views not told yet to these.
    pending: Vec<(Configuration, Vec<DaemonId>)>,
}

impl Membership {
    fn change(&mut self, world: &mut World, set: &[DaemonId]) {
        world.start_change(set, set);
        self.counter += 1;
        self.pending.push((world.agree(self.counter, set), set.to_vec()));
    }

    /// Tells one daemon one view, unless it has been told of a later change.
    fn step(&mut self, world: &mut World, rng: &mut Rng) {
        if self.pending.is_empty() {
            return;
        }
        let place = rng.below(self.pending.len());
        let (view, set) = &mut self.pending[place];
        let daemon = set.swap_remove(rng.below(set.len()));
        if view.members[&daemon].number() == world.nodes[&daemon].starts && world.alive().contains(&daemon) {
            world.view(&[daemon], view);
        }
        if set.is_empty() {
            self.pending.swap_remove(place);
        }
    }
}

pub struct Run {
    pub world: World,
    pub rng: Rng,
    membership: Membership,
    /// The next connection of each daemon, and those that are attached.
    connections: BTreeMap<DaemonId, (u32, Vec<u32>)>,
    sent: u64,
}

impl Run {
    pub fn new(seed: u64) -> Run {
        let mut rng = Rng::new(seed);
        let tight = rng.chance(50);
        let window = if tight { Limit { entries: 4, bytes: 400 } } else { Params::lan().window };
        let batch_bytes = if rng.chance(50) { 100 } else { 1 << 16 };
        let syncs_per_peer_max = if rng.chance(30) { 2 } else { 16 };
        let params = Params { window, batch_bytes, syncs_per_peer_max, frames_per_ack: 3, ..Params::lan() };
        let mut run = Run {
            world: World::new(params),
            rng,
            membership: Membership { counter: 0, pending: Vec::new() },
            connections: BTreeMap::new(),
            sent: 0,
        };
        for name in &["a", "b", "c", "d", "e"][..3 + (seed % 3) as usize] {
            run.start(name);
        }
        let all = run.world.alive();
        run.membership.change(&mut run.world, &all);
        run
    }

    fn start(&mut self, name: &str) {
        let id = self.world.start(name);
        self.connections.insert(id, (0, Vec::new()));
        self.attach(id);
    }

    fn attach(&mut self, id: DaemonId) {
        let (last, attached) = self.connections.get_mut(&id).unwrap();
        *last += 1;
        attached.push(*last);
        let connection = *last;
        self.world.attach(id, connection);
        self.world.join(id, connection, &["g0"]);
    }

    pub fn step(&mut self, hostile: bool) {
        let dice = self.rng.below(100);
        match dice {
            0..15 => self.traffic(),
            15..18 if hostile => self.fault(),
            18..24 => self.membership.step(&mut self.world, &mut self.rng),
            24 => {
                let later = self.rng.below(60_000) as u64;
                self.world.now = self.world.now + std::time::Duration::from_micros(later);
            }
            25..30 => self.orphan(),
            _ => self.act(),
        }
    }

    fn traffic(&mut self) {
        let alive = self.world.alive();
        let id = alive[self.rng.below(alive.len())];
        let attached = self.connections[&id].1.clone();
        if attached.is_empty() || self.rng.chance(3) {
            return self.attach(id);
        }
        let connection = attached[self.rng.below(attached.len())];
        let group = ["g0", "g1", "g2", "strict:g"][self.rng.below(4)];
        match self.rng.below(20) {
            0 => self.world.leave(id, connection, &[group]),
            1..4 => self.world.join(id, connection, &[group, "g1"]),
            4 => {
                self.world.detach(id, connection);
                self.connections.get_mut(&id).unwrap().1.retain(|other| *other != connection);
            }
            _ => {
                self.sent += 1;
                let level = if self.rng.chance(15) { Level::Safe } else { Level::Agreed };
                let view = self.world.daemon(id).view_of(&group_name(group));
                let only_in = if self.rng.chance(10) { view } else { None };
                let terms = Terms { level, only_in, report: self.rng.chance(10) };
                self.world.multicast_on(terms, id, connection, group, &format!("message {}", self.sent));
            }
        }
    }

    fn fault(&mut self) {
        let alive = self.world.alive();
        let one = alive[self.rng.below(alive.len())];
        let other = alive[self.rng.below(alive.len())];
        match self.rng.below(12) {
            0..5 => self.world.reset(one, other),
            5 if alive.len() > 2 => {
                self.world.crash(one);
                if self.rng.chance(60) {
                    self.start(one.name().as_str());
                }
                self.change();
            }
            5..8 => self.partition(&alive),
            _ => self.change(),
        }
    }

    /// Tells the daemons that they are cut in two, and mostly they are.
    fn partition(&mut self, alive: &[DaemonId]) {
        self.world.release_all();
        let sides: Vec<bool> = alive.iter().map(|_| self.rng.chance(35)).collect();
        let real = self.rng.chance(60);
        for (a, left) in alive.iter().zip(&sides) {
            for (b, right) in alive.iter().zip(&sides) {
                if real && left != right {
                    self.world.hold(*a, *b);
                }
            }
        }
        for side in [true, false] {
            let set: Vec<DaemonId> =
                alive.iter().zip(&sides).filter(|(_, s)| **s == side).map(|(id, _)| *id).collect();
            if !set.is_empty() {
                self.membership.change(&mut self.world, &set);
            }
        }
    }

    fn change(&mut self) {
        let set = self.world.alive();
        self.membership.change(&mut self.world, &set);
    }

    /// Faults stop: one last change, and everything comes to rest.
    fn rest(&mut self) {
        self.world.release_all();
        self.change();
        while !self.membership.pending.is_empty() {
            self.membership.step(&mut self.world, &mut self.rng);
            for _ in 0..self.rng.below(20) {
                self.act();
                self.orphan();
            }
        }
        self.world.drop_orphans();
        self.world.settle();
    }

    fn act(&mut self) {
        let actions: Vec<Action> = self.world.actions();
        if !actions.is_empty() {
            let action = actions[self.rng.below(actions.len())];
            self.world.act(action);
        }
    }

    fn orphan(&mut self) {
        let rng = &mut self.rng;
        self.world.stir_orphans(|bound| rng.below(bound));
    }
}

fn run(seed: u64) -> (Run, Tally) {
    let mut run = Run::new(seed);
    let steps = 300 + run.rng.below(1200);
    for _ in 0..steps {
        run.step(true);
    }
    check(&run.world, false);
    run.rest();
    let alive = run.world.alive();
    for id in &alive {
        let daemon = run.world.daemon(*id);
        assert_eq!(daemon.phase(), "steady", "liveness at {id}");
        assert_eq!(daemon.configuration().set(), alive.iter().copied().collect(), "liveness at {id}");
        let windows = daemon.windows();
        assert_eq!((windows.unstable, windows.waiting, windows.held, windows.unacknowledged), (0, 0, 0, 0));
    }
    for (id, node) in &run.world.nodes {
        assert!(node.refused.is_empty(), "{id} refused {:?}", node.refused);
        assert!(node.rejected.is_empty(), "{id} rejected {:?}", node.rejected);
    }
    let tally = check(&run.world, true);
    (run, tally)
}

#[test]
fn random_schedules_keep_every_promise() {
    let mut sum = Tally::default();
    for seed in 0..SEEDS {
        match std::panic::catch_unwind(|| run(seed).1) {
            Ok(tally) => {
                sum.views += tally.views;
                sum.messages += tally.messages;
                sum.partings += tally.partings;
                sum.reorderings += tally.reorderings;
            }
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(sum.messages > 100 * SEEDS / 2 && sum.views > 1000, "the schedules do something: {sum:?}");
    // Schedules that never bring about what is not promised would be too kind.
    assert!(sum.partings > SEEDS / 2 && sum.reorderings > 0, "the faults do something: {sum:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let trace = |seed| {
        let (run, _) = run(seed);
        run.world.nodes.into_values().map(|node| node.trace).collect::<Vec<_>>()
    };
    assert_eq!(trace(7), trace(7));
}
