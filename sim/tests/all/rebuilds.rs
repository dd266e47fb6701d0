//! All servers start again, and have forgotten all sessions. Clients have their cursors.

use std::time::Duration;

use sim::toy::Wish;
use sim::{Node, World};

use crate::{end, playing};

#[test]
fn a_client_plays_on_when_all_servers_start_again() {
    let (mut world, player) = playing(World::seeded(41).made_anew());
    world.request(player, Wish::Seek(100));
    world.await_acknowledgements(player);
    world.play(player, 5);
    world.forget_all();
    world.play(player, 20);
    let tally = world.client(player).tally();
    assert_eq!((tally.rebuilt, tally.lost, tally.requests_lost), (1, 0, 0));
    end(world);
}

#[test]
fn a_client_plays_on_when_all_servers_and_its_gateway_start_again() {
    let (mut world, player) = playing(World::seeded(42).made_anew().gateways(2));
    let gateway = world.gateway_of(player);
    world.request(player, Wish::Note(7));
    world.await_acknowledgements(player);
    world.forget_all();
    world.crash(gateway);
    world.come_back(player, 1);
    world.play(player, 20);
    assert_eq!(world.client(player).tally().rebuilt, 1);
    end(world);
}

#[test]
fn a_client_plays_on_when_everything_but_its_gateway_starts_again_and_counts_from_the_beginning() {
    let (mut world, player) = playing(World::seeded(45).made_anew());
    // Views have a number that the next ones do not come to.
    for _ in 0..3 {
        let Node::Server(primary) = world.primary_of(player) else { unreachable!("a server is primary") };
        world.crash_machine(primary);
        world.play(player, 3);
        world.restart_machine(primary);
        world.play(player, 10);
    }
    world.crash(Node::Membership(0));
    (0..3).for_each(|n| world.crash_machine(n));
    world.pass(Duration::from_millis(100));
    world.restart(Node::Membership(0));
    (0..3).for_each(|n| world.restart_machine(n));
    world.play(player, 20);
    let tally = world.client(player).tally();
    assert_eq!((tally.rebuilt, tally.lost, tally.requests_lost), (1, 0, 0));
    end(world);
}

#[test]
fn a_session_is_lost_where_the_unit_does_not_make_it_anew() {
    let (mut world, player) = playing(World::seeded(43));
    world.forget_all();
    world.expect(|world| world.client(player).session().is_none());
    assert_eq!(world.client(player).tally().lost, 1);
}

#[test]
fn an_ended_session_is_not_made_anew_while_anybody_remembers_its_end() {
    let (mut world, player) = playing(World::seeded(44).made_anew());
    let session = world.client(player).session().unwrap();
    let primary = world.primary_of(player);
    world.close(player);
    world.crash(primary);
    world.restart(primary);
    world.pass(Duration::from_secs(10));
    assert!(!world.is_known(session));
    assert!((0..3).all(|n| world.is_alive(Node::Server(n))));
    end(world);
}
