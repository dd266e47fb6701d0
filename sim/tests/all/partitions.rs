//! What group communication must survive when machines lose each other or stand still, told from the outside.

use std::time::Duration;

use sim::{Happens, Node, World};

/// Four machines, of which three run membership servers; the process on each is in group `g`.
fn four(seed: u64) -> World {
    let mut world = World::of_groups(seed, 4, 3);
    world.assemble();
    (0..4).for_each(|process| world.join(process, &["g"]));
    world.expect(|world| (0..4).all(|machine| world.members(machine, "g").len() == 4));
    world
}

/// Everybody multicasts.
fn talk(world: &mut World) {
    (0..4).for_each(|process| world.multicast(process, "g", 10));
}

/// Everything comes to rest, and everything was right.
fn end(mut world: World) {
    world.settle();
    world.check();
}

#[test]
fn both_sides_of_a_partition_go_on_and_are_one_again() {
    let mut world = four(1);
    world.divide(vec![0, 0, 1, 1]);
    talk(&mut world);
    world.expect_together(&[0, 1]);
    world.expect_together(&[2, 3]);
    assert_eq!((world.members(0, "g").len(), world.members(3, "g").len()), (2, 2));
    world.leave(0, &["g"]);
    talk(&mut world);
    world.pass(Duration::from_millis(100));
    world.heal();
    world.expect_together(&[0, 1, 2, 3]);
    assert_eq!(world.members(3, "g").len(), 3);
    end(world);
}

#[test]
fn a_part_without_a_membership_server_waits_for_the_others() {
    let mut world = four(2);
    world.divide(vec![0, 0, 0, 1]);
    world.expect_together(&[0, 1, 2]);
    talk(&mut world);
    world.pass(Duration::from_secs(1));
    world.heal();
    world.expect_together(&[0, 1, 2, 3]);
    end(world);
}

#[test]
fn parts_may_merge_and_fall_apart_at_every_moment_of_a_merge() {
    for moment in Happens::DAEMONS {
        let mut world = four(3);
        world.divide(vec![0, 0, 1, 1]);
        world.expect_together(&[2, 3]);
        talk(&mut world);
        world.on(moment).divide(&[0, 1, 1, 0]);
        world.heal();
        talk(&mut world);
        world.pass(Duration::from_millis(500));
        world.on(moment).divide(&[0, 1, 2, 2]);
        world.heal();
        world.pass(Duration::from_millis(500));
        end(world);
    }
}

#[test]
fn a_daemon_that_stood_still_learns_that_the_others_went_on() {
    let mut world = four(4);
    world.pause(Node::Daemon(0));
    world.expect_together(&[1, 2, 3]);
    talk(&mut world);
    world.pass(Duration::from_millis(200));
    world.let_go_on(Node::Daemon(0));
    world.expect_together(&[0, 1, 2, 3]);
    assert_eq!(world.members(0, "g"), world.members(1, "g"));
    end(world);
}

#[test]
fn two_daemons_that_stood_still_come_back_into_a_change() {
    for moment in [Happens::StartChange, Happens::BetweenViewAndInstall, Happens::TableSent] {
        let mut world = four(5);
        world.pause(Node::Daemon(0));
        world.on(moment).pause(Node::Daemon(1));
        talk(&mut world);
        world.pass(Duration::from_millis(150));
        world.let_go_on(Node::Daemon(0));
        world.pass(Duration::from_millis(50));
        world.let_go_on(Node::Daemon(1));
        end(world);
    }
}

#[test]
fn a_short_silence_costs_nothing() {
    let mut world = four(6);
    let before = world.configuration(0);
    world.pause(Node::Daemon(2));
    world.divide(vec![0, 1, 0, 1]);
    talk(&mut world);
    world.pass(Duration::from_millis(10));
    world.heal();
    world.let_go_on(Node::Daemon(2));
    world.pass(Duration::from_millis(300));
    assert!(before.is_some());
    assert_eq!(world.configuration(0), before, "no end of a connection had noticed");
    end(world);
}

#[test]
fn a_machine_that_restarts_faster_than_anybody_notices_is_somebody_else() {
    let mut world = four(7);
    world.crash(Node::Daemon(1));
    world.restart(Node::Daemon(1));
    world.pass(Duration::from_millis(500));
    let members = world.configuration(0).unwrap_or_default();
    assert!(members.iter().any(|daemon| daemon.boot().number() == 2), "{members:?}");
    end(world);
}
