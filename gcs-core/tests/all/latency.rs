//! How long a change takes, in virtual time: as long as the longer of the membership's own work and one way of a sync, for
//! both go on at once; and one way more where a departed sender left something ragged. [KK:end-point] [KK:forward]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gcs_core::Params;
use model::{Configuration, DaemonId, Time};

use crate::world::{Action, World};

/// A world in which every message takes as long, and the membership service has a time of its own.
struct Timed {
    world: World,
    latency: Duration,
    arrivals: BTreeMap<(DaemonId, DaemonId), VecDeque<Time>>,
}

impl Timed {
    fn new(world: World, latency: Duration) -> Timed {
        Timed { world, latency, arrivals: BTreeMap::new() }
    }

    /// Lets things happen up to `until`, each message at its time.
    fn run(&mut self, until: Time) {
        loop {
            self.world.follow_up();
            self.stamp();
            let heads = self.arrivals.iter().filter_map(|(link, times)| Some((*times.front()?, *link)));
            match heads.min() {
                Some((due, (from, to))) if due <= until => {
                    self.world.now = due;
                    self.arrivals.get_mut(&(from, to)).unwrap().pop_front();
                    self.world.act(Action::Frame(from, to));
                }
                Some(_) | None => break,
            }
        }
        self.world.now = until;
    }

    /// Says of each message that has just been sent when it arrives.
    fn stamp(&mut self) {
        let alive = self.world.alive();
        for (from, to) in alive.iter().flat_map(|from| alive.iter().map(move |to| (*from, *to))) {
            let times = self.arrivals.entry((from, to)).or_default();
            times.resize(self.world.under_way(from, to), self.world.now + self.latency);
        }
    }

    /// Tells daemons at once what the membership service has for them.
    fn notify(&mut self, daemons: &[DaemonId]) {
        daemons.iter().for_each(|daemon| self.world.act(Action::Notice(*daemon)));
    }
}

/// How long after the start change all of a, b and c are in the configuration without d, whose last message has or has
/// not reached all of them.
fn change(latency: Duration, membership: Duration, ragged: bool) -> Duration {
    let mut world = World::new(Params::lan());
    let all = ["a", "b", "c", "d"].map(|name| world.start(name));
    world.configure(1, &all);
    world.attach(all[3], 1);
    world.settle();
    if ragged {
        world.hold(all[3], all[1]);
        world.multicast(all[3], 1, "g", "ragged");
        world.run();
    }
    world.crash(all[3]);
    let rest = &all[..3];
    let mut timed = Timed::new(world, latency);
    let began = timed.world.now;
    timed.world.start_change(rest, rest);
    timed.notify(rest);
    timed.run(began + membership);
    let view: Configuration = timed.world.agree(2, rest);
    timed.world.view(rest, &view);
    timed.notify(rest);
    let installed = |world: &World| rest.iter().all(|daemon| *world.daemon(*daemon).configuration() == view);
    for _ in 0..1000 {
        if installed(&timed.world) {
            return timed.world.now.since(began);
        }
        let next = timed.world.now + Duration::from_millis(1);
        timed.run(next);
    }
    panic!("the view is never installed");
}

#[test]
fn a_change_takes_as_long_as_the_longer_of_membership_and_sync() {
    let ms = Duration::from_millis;
    for (latency, membership) in [(10, 0), (10, 2), (10, 10), (10, 35), (50, 35), (1, 200)] {
        let longer = latency.max(membership);
        assert_eq!(change(ms(latency), ms(membership), false), ms(longer), "{latency} {membership}");
        // Who has what is missing knows that once view and syncs are there.
        assert_eq!(change(ms(latency), ms(membership), true), ms(longer + latency), "{latency} {membership}");
    }
}
