//! Scenarios of command: who takes over from whom, and what daemons hear of it.

use std::time::Duration;

use detector::Doubt;
use membership_core::{Params, Protocol};

use crate::world::{Count, DaemonIndex, Pending, ServerIndex, World, lan, sim};

/// So many servers, one daemon at each, in one configuration.
fn one_each(servers: usize, params: Params) -> (World, Vec<DaemonIndex>) {
    let mut world = World::connected(servers, params);
    let daemons: Vec<_> = (0..servers).map(|index| world.daemon(&format!("daemon-{index}"))).collect();
    for (server, daemon) in daemons.iter().enumerate() {
        world.attach(*daemon, server);
    }
    world.settle();
    world.common_view().unwrap();
    world.count = Count::default();
    (world, daemons)
}

/// The machine of `server` dies with its daemon; links do not say so.
fn die_silently(world: &mut World, server: ServerIndex, daemon: DaemonIndex) {
    world.freeze(server);
    world.leave(daemon);
}

/// Lets `time` pass, in small steps.
fn live(world: &mut World, time: Duration) {
    let end = world.now + time;
    while world.now < end {
        world.pass(Duration::from_millis(5));
        arrive(world);
    }
}

fn arrive(world: &mut World) {
    while let Some(next) = world.pending().first().copied() {
        world.perform(next);
    }
}

#[test]
fn the_successor_of_a_leader_whose_links_break_takes_over_at_once() {
    let (mut world, daemons) = one_each(4, sim(Protocol::Wombat));
    let start = world.now;
    world.leave(daemons[0]);
    world.restart_server(0);
    arrive(&mut world);
    assert_eq!(world.agrees(1), 3);
    assert_eq!(world.common_view().unwrap().members.len(), 3);
    assert_eq!(world.told, start);
}

#[test]
fn a_leader_and_its_successors_that_die_together_are_followed_by_the_next() {
    for dead in 1..5 {
        let (mut world, daemons) = one_each(5, sim(Protocol::Wombat));
        let start = world.now;
        for (server, daemon) in daemons.iter().enumerate().take(dead) {
            die_silently(&mut world, server, *daemon);
        }
        world.settle();
        assert_eq!(world.common_view().unwrap().members.len(), 5 - dead);
        assert_eq!(world.agrees(4), 5 - dead);
        // Three beacons are missing, each dead successor lets one more pass, and three more are waited for answers.
        let beacons = 3 + dead as u32 + 4;
        let took = world.told.since(start);
        assert!(took <= lan(Protocol::Wombat).beacon * beacons, "{dead} dead: {took:?}");
    }
}

#[test]
fn any_server_that_falls_silent_is_missed() {
    for dead in 0..4 {
        let (mut world, daemons) = one_each(4, sim(Protocol::Wombat));
        let start = world.now;
        die_silently(&mut world, dead, daemons[dead]);
        world.settle();
        assert_eq!(world.common_view().unwrap().members.len(), 3, "{dead}");
        let took = world.told.since(start);
        assert!(took <= lan(Protocol::Wombat).beacon * 9, "{dead}: {took:?}");
    }
}

/// Its successor and another one do not hear it, though it is there; and its daemon can talk to all others.
#[test]
fn a_usurper_is_corrected_before_any_daemon_hears_of_it() {
    let (mut world, _) = one_each(3, lan(Protocol::Wombat));
    let before = world.common_view().unwrap();
    world.deaf.extend([(0, 1), (0, 2)]);
    live(&mut world, Duration::from_millis(900));
    assert_eq!((world.agrees(1), world.agrees(2)), (2, 2), "they have another leader");
    world.deaf.clear();
    live(&mut world, Duration::from_millis(200));
    assert_eq!((world.agrees(0), world.agrees(1), world.agrees(2)), (3, 3, 3));
    world.settle();
    assert_eq!(world.common_view().unwrap(), before);
    assert_eq!(world.count, Count::default(), "nobody was told anything");
}

/// Its predecessor does not hear it, but its leader does.
#[test]
fn a_link_that_only_some_miss_is_nobodys_end() {
    let (mut world, _) = one_each(4, lan(Protocol::Wombat));
    world.lose(2, 1);
    world.lose(1, 2);
    world.settle();
    assert_eq!(world.agrees(0), 4);
    assert_eq!(world.count, Count::default(), "nobody was told anything");
}

/// Its link to the leader is made again before it has seen the old one break.
#[test]
fn a_leader_that_is_linked_anew_is_followed_anew() {
    let (mut world, _) = one_each(3, lan(Protocol::Wombat));
    world.connect(0, 1);
    arrive(&mut world);
    assert_eq!((world.agrees(0), world.agrees(1), world.agrees(2)), (3, 3, 3));
    world.settle();
    assert_eq!(world.count, Count::default(), "nobody was told anything");
}

#[test]
fn parts_have_leaders_of_their_own_and_come_together_whoever_speaks_first() {
    for first in [(0, 2), (2, 0)] {
        let (mut world, daemons) = one_each(5, sim(Protocol::Wombat));
        for (a, b) in [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)] {
            world.lose(a, b);
            world.lose(b, a);
        }
        world.settle();
        let sizes = daemons.iter().map(|it| world.daemons[*it].view.as_ref().unwrap().members.len());
        assert_eq!(sizes.collect::<Vec<_>>(), [2, 2, 3, 3, 3]);
        assert_eq!((world.agrees(1), world.agrees(4)), (2, 3));
        world.count = Count::default();
        world.connect(0, 2);
        let (from, to) = first;
        // The link is up at one end, and that end is heard, before the other end says a word.
        world.perform(Pending::Frame { from: to, to: from });
        world.perform(Pending::Frame { from, to });
        world.perform(Pending::Frame { from, to });
        for (a, b) in [(0, 3), (0, 4), (1, 2), (1, 3), (1, 4)] {
            world.connect(a, b);
        }
        world.settle();
        assert_eq!(world.common_view().unwrap().members.len(), 5);
        assert_eq!((world.agrees(0), world.agrees(4)), (5, 5));
    }
}

#[test]
fn a_better_server_that_comes_back_commands_again_and_no_daemon_hears_of_it() {
    let (mut world, daemons) = one_each(3, lan(Protocol::Wombat));
    let before = world.common_view().unwrap();
    world.restart_server(0);
    world.attach(daemons[0], 1);
    arrive(&mut world);
    assert_eq!(world.agrees(1), 2);
    world.connect(0, 1);
    world.connect(0, 2);
    arrive(&mut world);
    assert_eq!((world.agrees(0), world.agrees(2)), (3, 3));
    world.settle();
    assert_eq!(world.common_view().unwrap(), before);
    assert_eq!(world.count, Count::default(), "nobody was told anything");
}

/// Nobody but the leader was told where its daemon is attached.
#[test]
fn the_daemon_of_a_lost_leader_has_time_to_come_back() {
    for home in 1..3 {
        let (mut world, daemons) = one_each(3, lan(Protocol::Wombat));
        let before = world.common_view().unwrap();
        world.leave(daemons[0]);
        world.restart_server(0);
        live(&mut world, lan(Protocol::Wombat).grace / 2);
        world.attach(daemons[0], home);
        world.settle();
        assert_eq!(world.common_view().unwrap(), before);
        assert_eq!(world.count, Count::default(), "nobody was told anything");
    }
}

/// It went from a follower to the leader, and no other server had to hear of it; then these two lose each other.
#[test]
fn a_daemon_that_moved_to_the_leader_is_asked_for_by_the_server_that_it_left() {
    let (mut world, daemons) = one_each(2, lan(Protocol::Wombat));
    let before = world.common_view().unwrap();
    world.attach(daemons[1], 0);
    world.settle();
    assert_eq!(world.common_view().unwrap(), before);
    world.attach(daemons[0], 1);
    world.settle();
    world.lose(0, 1);
    world.lose(1, 0);
    live(&mut world, lan(Protocol::Wombat).grace / 2);
    world.connect(0, 1);
    world.settle();
    assert_eq!(world.common_view().unwrap(), before);
    assert_eq!(world.count, Count::default(), "nobody was told anything");
}

/// The leader dies with its daemon in the middle of a change: its successor ends it.
#[test]
fn a_change_whose_leader_dies_is_begun_again() {
    for delivered in 0..12 {
        let (mut world, daemons) = one_each(3, sim(Protocol::Wombat));
        let late = world.daemon("late");
        world.attach(late, 2);
        for _ in 0..delivered {
            let Some(next) = world.pending().first().copied() else { break };
            world.perform(next);
        }
        world.leave(daemons[0]);
        world.restart_server(0);
        world.settle();
        assert_eq!(world.common_view().unwrap().members.len(), 3, "after {delivered}");
    }
}

/// Not only is the leader gone, but a daemon with it, which its peers miss: there is no question.
#[test]
fn a_machine_that_dies_with_leader_and_daemon_costs_one_change() {
    let (mut world, daemons) = one_each(3, lan(Protocol::Wombat));
    let start = world.now;
    world.leave(daemons[0]);
    world.restart_server(0);
    world.report(daemons[1], &[(daemons[0], Doubt::Doubtful)]);
    arrive(&mut world);
    assert_eq!(world.common_view().unwrap().members.len(), 2);
    assert_eq!((world.told, world.count.views), (start, 2));
}
