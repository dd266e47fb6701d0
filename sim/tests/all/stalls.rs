//! Primaries that hang: their connections are open, and nothing comes. Their gateways notice.

use std::time::Duration;

use sim::toy::Wish;
use sim::{Happens, Node, World};

use crate::{end, playing};

#[test]
fn a_session_whose_primary_hangs_goes_on_at_its_backup() {
    let (mut world, player) = playing(World::seeded(31));
    let (primary, backups) = (world.primary_of(player), world.backups_of(player));
    world.hang(primary).unwrap();
    world.play(player, 20);
    assert_eq!(world.primary_of(player), backups[0], "the backup serves, and the one that hangs is none");
    assert_ne!(world.backups_of(player), [primary]);
    assert_eq!(world.client(player).tally().stalled, 1, "the client is told why");
    // When it goes on, nobody hears of it.
    world.end_stop(primary);
    world.play(player, 20);
    assert_eq!(world.client(player).tally().takeovers, 1);
    end(world);
}

#[test]
fn a_request_is_applied_though_a_primary_at_rest_hangs() {
    let (mut world, player) = playing(World::seeded(32));
    world.request(player, Wish::Finish);
    world.await_acknowledgements(player);
    world.pass(Duration::from_secs(60));
    let primary = world.primary_of(player);
    assert_eq!(world.client(player).tally().takeovers, 0, "who has nothing to send hangs not");
    world.hang(primary).unwrap();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.client(player).tally().takeovers, 0, "nobody misses it");
    world.request(player, Wish::Seek(5));
    world.await_acknowledgements(player);
    world.play(player, 5);
    assert_ne!(world.primary_of(player), primary);
    end(world);
}

#[test]
fn a_backup_that_hangs_and_is_appointed_is_replaced() {
    let (mut world, player) = playing(World::seeded(33).machines(4));
    let (primary, backups) = (world.primary_of(player), world.backups_of(player));
    world.hang(backups[0]).unwrap();
    world.crash(primary);
    world.expect(|world| world.client(player).tally().stalled == 1);
    world.play(player, 20);
    assert!(![primary, backups[0]].contains(&world.primary_of(player)));
    end(world);
}

#[test]
fn a_session_can_be_opened_though_the_server_with_least_to_do_hangs() {
    let (mut world, player) = playing(World::seeded(34));
    let idle = (0..3).map(Node::Server).find(|node| *node != world.primary_of(player));
    world.hang(idle.unwrap()).unwrap();
    for _ in 0..3 {
        let other = world.open_session("film-1");
        world.play(other, 3);
    }
    world.play(player, 3);
    end(world);
}

#[test]
fn a_session_that_is_closed_in_the_middle_of_a_move_stays_closed() {
    for moment in [Happens::Takeover, Happens::Claim, Happens::Serve] {
        let (mut world, player) = playing(World::seeded(36));
        let primary = world.primary_of(player);
        let to = (0..3).find(|n| Node::Server(*n) != primary).unwrap();
        world.on(moment).pause(Node::Server(to));
        world.move_session(player, to);
        world.pass(Duration::from_millis(1));
        let session = world.client(player).session().unwrap();
        world.close(player);
        world.pass(Duration::from_secs(3));
        world.end_stop(Node::Server(to));
        world.pass(Duration::from_secs(20));
        assert_eq!(world.client(player).tally().closed, 1, "{moment:?}");
        assert!(!world.is_known(session), "{moment:?}");
        end(world);
    }
}
