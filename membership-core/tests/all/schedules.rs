//! Random schedules, each from one seed: connections break at one end or both, daemons come, go, restart and move,
//! servers restart, in every order. Nothing wrong may ever be told; and once it stops, all must agree.

use std::time::Duration;

use detector::Doubt;
use membership_core::{Params, Protocol};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::world::{Count, World, lan, sim};

struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// What a schedule may do besides breaking links.
#[derive(Clone, Copy)]
struct Faults {
    protocol: Protocol,
    daemons_move: bool,
    servers_restart: bool,
}

/// Plays the schedule of `seed` and returns what it cost, or what is wrong at its end.
fn play(seed: u64, faults: Faults) -> Result<Count, String> {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let servers = 2 + (seed % 4) as usize;
    let settle = if dice.one_in(2) { Duration::from_micros(20) } else { Duration::ZERO };
    let beacon = Duration::from_micros(if dice.one_in(2) { 200 } else { 2_000 });
    let params = Params { settle, regather: settle * 5, beacon, ..sim(faults.protocol) };
    let mut world = World::new(servers, params);
    world.gathers = dice.one_in(2);
    world.connect_all();
    for index in 0..1 + dice.below(4) {
        let daemon = world.daemon(&format!("daemon-{index}"));
        world.attach(daemon, dice.below(servers));
    }
    let calm = 1 << (1 + dice.below(6));
    let mut left = dice.below(12 * servers);
    while left > 0 {
        tick(&mut world, &mut dice);
        let pending = world.pending();
        if pending.is_empty() || dice.one_in(1 + calm) {
            left -= 1;
            strike(&mut world, &mut dice, faults);
        } else {
            world.perform(dice.pick(&pending));
        }
    }
    heal(&mut world, &mut dice);
    world.common_view().map_err(|wrong| format!("seed {seed}: {wrong}"))?;
    assert_eq!(world.count.refusals, 0, "seed {seed}");
    Ok(world.count)
}

/// Time goes on, unless a server is to be told more at this moment.
fn tick(world: &mut World, dice: &mut Dice) {
    if !world.gathers || dice.one_in(2) {
        world.pass(Duration::from_micros(1));
    }
}

/// Performs what is left to do, in any order.
fn drain(world: &mut World, dice: &mut Dice) {
    for _ in 0..100_000 {
        tick(world, dice);
        let pending = world.pending();
        if !pending.is_empty() {
            world.perform(dice.pick(&pending));
        } else if !world.advance() {
            return;
        }
    }
    panic!("no end: {:?}", world.count);
}

fn strike(world: &mut World, dice: &mut Dice, faults: Faults) {
    let a = dice.below(world.servers());
    let b = (a + 1 + dice.below(world.servers() - 1)) % world.servers();
    match dice.below(8) {
        0..4 if world.is_linked(a, b) => world.lose(a, b),
        0..4 => world.connect(a, b),
        4 if faults.servers_restart => world.restart_server(a),
        5 if faults.protocol == Protocol::Wombat => {
            // A leader that is not heard, though it is there, is as bad as none.
            if !world.deaf.remove(&(a, b)) {
                world.deaf.insert((a, b));
            }
        }
        _ if faults.daemons_move => {
            let daemon = dice.below(world.daemons.len());
            let old = world.daemons[daemon].id;
            let was_at = world.daemons[daemon].server;
            match dice.below(4) {
                0 => world.leave(daemon),
                1 => {
                    world.restart(daemon);
                    world.attach(daemon, a);
                }
                _ => world.attach(daemon, a),
            }
            // The old stream is seen closed now, or only at the end.
            if let Some(server) = was_at.filter(|server| *server != a && dice.one_in(2)) {
                world.detach(old, server);
            }
        }
        _ => {
            world.lose(a, b);
            world.lose(b, a);
        }
    }
}

/// Ends all faults: every link is up, every stream that is not in use is seen closed, every daemon is attached.
fn heal(world: &mut World, dice: &mut Dice) {
    world.deaf.clear();
    for (a, b) in world.pairs() {
        if !world.is_linked(a, b) {
            world.connect(a, b);
        }
    }
    // A daemon has had at most this many lives in one schedule.
    for daemon in 0..world.daemons.len() {
        let (id, home) = (world.daemons[daemon].id, world.daemons[daemon].server);
        for server in (0..world.servers()).filter(|server| home != Some(*server)) {
            for boot in 1..=id.boot().number() {
                world.detach(model::DaemonId::new(id.name(), model::Boot::new(boot)), server);
            }
        }
    }
    drain(world, dice);
    while let Some(daemon) = world.daemons.iter().position(|it| it.server.is_none()) {
        let server = dice.below(world.servers());
        world.attach(daemon, server);
        drain(world, dice);
    }
}

fn sweep(seeds: std::ops::Range<u64>, faults: Faults) -> usize {
    let mut slow = 0;
    let mut wrong = Vec::new();
    for seed in seeds.clone() {
        match play(seed, faults) {
            Ok(count) => slow += usize::from(count.slow_proposals > 0),
            Err(error) => wrong.push(error),
        }
    }
    let runs = seeds.end - seeds.start;
    assert!(wrong.is_empty(), "{} of {runs} schedules do not converge: {}", wrong.len(), wrong[0]);
    println!("{slow} of {runs} schedules took the slow path");
    slow
}

const SEEDS: u64 = 2_000;

fn links_flap(protocol: Protocol) -> usize {
    sweep(0..SEEDS, Faults { protocol, daemons_move: false, servers_restart: false })
}

fn all_happens(protocol: Protocol) -> usize {
    sweep(0..SEEDS, Faults { protocol, daemons_move: true, servers_restart: true })
}

mod moshe {
    use super::*;

    #[test]
    fn servers_converge_after_links_flapped() {
        let slow = links_flap(Protocol::Moshe);
        assert!(slow > SEEDS as usize / 4, "the slow path was taken in {slow} of {SEEDS} schedules only");
    }

    #[test]
    fn servers_converge_after_daemons_moved_and_servers_restarted() {
        let slow = all_happens(Protocol::Moshe);
        assert!(slow > SEEDS as usize / 10, "the slow path was taken in {slow} of {SEEDS} schedules only");
    }
}

mod wombat {
    use super::*;

    #[test]
    fn servers_converge_after_links_flapped() {
        links_flap(Protocol::Wombat);
    }

    #[test]
    fn servers_converge_after_daemons_moved_and_servers_restarted() {
        all_happens(Protocol::Wombat);
    }
}

/// [Moshe:fast]: one event that all see takes one proposal of each server to each other, whatever the order in which
/// messages arrive.
#[test]
fn an_event_that_all_see_takes_one_round() {
    for seed in 0..1_000 {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        let servers = 2 + (seed % 6) as usize;
        let mut world = World::connected(servers, Params::sim());
        let daemon = world.daemon("daemon-1");
        world.attach(daemon, dice.below(servers));
        drain(&mut world, &mut dice);
        assert_eq!(world.common_view().map(|view| view.members.len()), Ok(1), "seed {seed}");
        let one_round =
            Count { proposals: servers * (servers - 1), start_changes: 1, views: 1, ..Count::default() };
        assert_eq!(world.count, one_round, "seed {seed}");
    }
}

#[test]
fn a_seed_is_a_schedule() {
    for protocol in [Protocol::Moshe, Protocol::Wombat] {
        let faults = Faults { protocol, daemons_move: true, servers_restart: true };
        for seed in 0..20 {
            assert_eq!(play(seed, faults), play(seed, faults), "seed {seed}");
        }
    }
}

/// A daemon crashes: its server sees its stream break, and the others report that they miss it, each at its own time.
/// However these facts and what servers say of them are mixed, everybody is told one start change and one configuration.
#[test]
fn a_crash_is_one_change() {
    for seed in 0..150 {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        let mut world = World::connected(3, lan(Protocol::Moshe));
        world.settle();
        for index in 0..4 {
            let daemon = world.daemon(&format!("daemon-{index}"));
            world.attach(daemon, index % 3);
        }
        world.settle();
        world.gathers = dice.one_in(2);
        world.count = Count::default();
        let dead = dice.below(4);
        let home = dead % 3;
        let mut facts: Vec<usize> = (0..4).collect();
        world.leave(dead);
        while !facts.is_empty() {
            let pending = world.pending();
            if pending.is_empty() || dice.one_in(3) {
                let fact = facts.swap_remove(dice.below(facts.len()));
                if fact == dead {
                    let id = world.daemons[dead].id;
                    world.detach(id, home);
                } else {
                    world.report(fact, &[(dead, Doubt::Doubtful)]);
                }
            } else {
                world.perform(dice.pick(&pending));
            }
            if dice.one_in(3) {
                world.pass(Duration::from_micros(dice.below(500) as u64));
            }
        }
        world.settle();
        // Later they are sure of it.
        for daemon in (0..4).filter(|daemon| *daemon != dead) {
            world.report(daemon, &[(dead, Doubt::Cut)]);
            world.settle();
        }
        assert_eq!(world.common_view().map(|view| view.members.len()), Ok(3), "seed {seed}");
        assert_eq!((world.count.start_changes, world.count.views), (3, 3), "seed {seed}");
    }
}
