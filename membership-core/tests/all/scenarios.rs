//! Scenarios that have a name.

use std::time::Duration;

use membership_core::{Params, Rejection};
use model::Boot;

use crate::world::{Count, DaemonIndex, World};

/// As many daemons as servers, one at each, in one configuration.
fn one_each(servers: usize) -> (World, Vec<DaemonIndex>) {
    let mut world = World::connected(servers, Params::sim());
    let daemons: Vec<_> = (0..servers).map(|index| world.daemon(&format!("daemon-{index}"))).collect();
    for (server, daemon) in daemons.iter().enumerate() {
        world.attach(*daemon, server);
    }
    world.settle();
    world.common_view().unwrap();
    world.count = Count::default();
    (world, daemons)
}

fn counter(world: &World, daemon: DaemonIndex) -> u64 {
    world.daemons[daemon].view.as_ref().map_or(0, |view| view.id.counter())
}

#[test]
fn a_single_server_agrees_at_once() {
    let mut world = World::new(1, Params::sim());
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        let daemon = world.daemon(name);
        world.count = Count::default();
        world.attach(daemon, 0);
        let told = index + 1;
        assert_eq!((world.count.start_changes, world.count.views), (told, told));
        assert_eq!(world.next_wake(), None);
    }
    let gone = world.daemons[0].id;
    world.leave(0);
    world.detach(gone, 0);
    world.settle();
    assert_eq!(world.common_view().unwrap().set(), world.attached());
}

#[test]
fn daemons_that_start_together_become_one_configuration() {
    let mut world = World::new(1, Params::lan());
    for name in ["a", "b", "c", "d"] {
        let daemon = world.daemon(name);
        world.attach(daemon, 0);
        world.pass(Duration::from_millis(4));
    }
    assert_eq!(world.count, Count::default(), "joins wait for each other");
    world.settle();
    assert_eq!((world.count.start_changes, world.count.views), (4, 4));
    assert_eq!(world.common_view().unwrap().members.len(), 4);
}

#[test]
fn a_leave_does_not_wait_and_takes_waiting_joins_along() {
    let mut world = World::new(1, Params::lan());
    let (a, b, c) = (world.daemon("a"), world.daemon("b"), world.daemon("c"));
    world.attach(a, 0);
    world.attach(b, 0);
    world.settle();
    world.attach(c, 0);
    world.quit(b);
    assert_eq!(world.next_wake(), None, "nothing is left to wait for");
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 2);
    assert_eq!(counter(&world, a), 2);
}

/// [Moshe:fail-over] If the first daemon to come back were told a configuration at once, it would be alone in it.
#[test]
fn nobody_is_taken_for_gone_because_the_only_server_restarted() {
    let mut world = World::new(1, Params::lan());
    let daemons = ["a", "b", "c"].map(|name| world.daemon(name));
    for daemon in daemons {
        world.attach(daemon, 0);
    }
    world.settle();
    let before = world.common_view().unwrap();
    world.restart_server(0);
    for daemon in daemons {
        world.attach(daemon, 0);
        world.pass(Duration::from_millis(300));
    }
    world.settle();
    assert_eq!(world.common_view().unwrap(), before, "they are told nothing at all");
}

#[test]
fn daemons_fail_over_to_another_server() {
    let (mut world, daemons) = one_each(3);
    let before = world.common_view().unwrap();
    world.restart_server(0);
    assert_eq!(world.daemons[daemons[0]].server, None);
    world.attach(daemons[0], 1);
    world.settle();
    let after = world.common_view().unwrap();
    assert_eq!(after.set(), before.set());
    // The new life of the server joins in, too.
    world.connect(0, 1);
    world.connect(0, 2);
    world.settle();
    world.attach(daemons[0], 0);
    world.settle();
    assert_eq!(world.common_view().unwrap().set(), before.set());
}

#[test]
fn a_daemon_that_moved_on_is_gone_when_it_leaves() {
    let (mut world, daemons) = one_each(2);
    let mover = daemons[0];
    world.attach(mover, 1);
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 2);
    // Its first server has not seen the old stream closed: that seat must not come back.
    world.leave(mover);
    world.detach(world.daemons[mover].id, 1);
    world.settle();
    assert_eq!(world.common_view().unwrap().set(), world.attached());
}

#[test]
fn a_new_life_takes_the_place_of_the_old_one() {
    for home in [0, 1] {
        let (mut world, daemons) = one_each(2);
        let old = world.daemons[daemons[0]].id;
        world.restart(daemons[0]);
        world.attach(daemons[0], home);
        world.settle();
        let view = world.common_view().unwrap();
        assert!(!view.members.contains_key(&old), "restarted at server {home}: {view:?}");

        // What is left of the old life tries again.
        let new = world.daemons[daemons[0]].id;
        let late = world.daemon(old.name().as_str());
        for server in [0, 1] {
            world.attach(late, server);
            let Some(Rejection::Superseded { by, .. }) = world.daemons[late].rejected else {
                panic!("rejected with {:?}", world.daemons[late].rejected);
            };
            assert_eq!((by, by.boot()), (new, Boot::new(2)));
        }
    }
}

#[test]
fn a_flap_that_one_end_saw_is_mended() {
    let (mut world, daemons) = one_each(2);
    world.lose(1, 0);
    world.connect(0, 1);
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 2);
    assert!(counter(&world, daemons[0]) > 0);
}

/// [Moshe:fast] Numbers of proposals do not have to match, nor do counters.
#[test]
fn components_with_different_histories_merge_in_one_round() {
    let mut world = World::new(2, Params::sim());
    let (a, b) = (world.daemon("a"), world.daemon("b"));
    world.attach(b, 1);
    for _ in 0..5 {
        world.restart(a);
        world.attach(a, 0);
        world.settle();
    }
    assert_eq!((counter(&world, a), counter(&world, b)), (5, 1));
    world.count = Count::default();
    world.connect(0, 1);
    world.settle();
    assert_eq!(world.common_view().unwrap().id.counter(), 6);
    let one_round = Count { proposals: 2, start_changes: 2, views: 2, ..Count::default() };
    assert_eq!(world.count, one_round);
}

#[test]
fn a_server_does_not_keep_others_waiting() {
    let slow = Params { settle: Duration::from_secs(9), ..Params::lan() };
    let mut world = World::new(2, slow);
    world.connect(0, 1);
    world.settle();
    let start = world.now;
    let a = world.daemon("a");
    world.attach(a, 0);
    world.pass(Duration::from_secs(1));
    // The other server has heard of the daemon a second later, and would wait a second longer.
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 1);
    assert_eq!(world.now.since(start), Duration::from_secs(9));
}
