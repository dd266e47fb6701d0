//! What must go well, told from the outside. Faults strike at moments that have a name.

use std::time::Duration;

use sim::toy::Wish;
use sim::{Happens, Node, World};

use crate::{end, playing};

/// No client is to wait longer than this for a response, when one process dies and its death is seen at once. The
/// film itself has one each 100 ms.
const GAP_MAX: Duration = Duration::from_millis(250);

fn machine(node: Node) -> usize {
    match node {
        Node::Daemon(n) | Node::Server(n) => n,
        Node::Membership(_) | Node::Gateway(_) | Node::Client(_) | Node::Process(_) => {
            panic!("{node} is no machine")
        }
    }
}

#[test]
fn a_session_survives_its_primary() {
    let (mut world, player) = playing(World::seeded(1));
    let (primary, backups) = (world.primary_of(player), world.backups_of(player));
    world.crash(primary);
    world.play(player, 20);
    assert_eq!(world.primary_of(player), backups[0], "the backup took over");
    assert!(world.gap_seen_by(player) <= GAP_MAX, "{:?}", world.gap_seen_by(player));
    end(world);
}

#[test]
fn a_session_survives_its_machine_which_starts_again() {
    let (mut world, player) = playing(World::seeded(2));
    let lost = machine(world.primary_of(player));
    world.crash_machine(lost);
    world.play(player, 20);
    assert_ne!(machine(world.primary_of(player)), lost);
    world.restart_machine(lost);
    world.play(player, 20);
    end(world);
}

#[test]
fn a_session_survives_its_primary_during_a_view_change() {
    for moment in
        [Happens::StartChange, Happens::BetweenSyncAndView, Happens::BetweenViewAndInstall, Happens::Install]
    {
        let (mut world, player) = playing(World::seeded(0x5e55).membership_servers(3).machines(4));
        let primary = world.primary_of(player);
        let other = (0..4).find(|n| *n != machine(primary)).unwrap();
        world.on(moment).crash_all(&[Node::Daemon(machine(primary)), primary]);
        world.crash_machine(other);
        world.play(player, 20);
        assert_ne!(world.primary_of(player), primary, "{moment:?}");
        end(world);
    }
}

#[test]
fn a_session_survives_primary_and_backup_within_one_period() {
    let (mut world, player) = playing(World::seeded(3).machines(4).period(Duration::from_secs(5)));
    world.request(player, Wish::Note(7));
    world.await_acknowledgements(player);
    let mut lost = world.backups_of(player);
    lost.push(world.primary_of(player));
    lost.iter().for_each(|node| world.crash(*node));
    world.play(player, 20);
    assert!(!lost.contains(&world.primary_of(player)));
    end(world);
}

#[test]
fn a_client_comes_back_with_its_cursor_when_its_gateway_dies() {
    let (mut world, player) = playing(World::seeded(4).gateways(2));
    let gateway = world.gateway_of(player);
    world.on(Happens::Response).crash(gateway);
    world.expect(|world| !world.is_alive(gateway));
    world.come_back(player, 1);
    world.play(player, 20);
    end(world);
}

#[test]
fn a_client_comes_back_when_its_gateway_and_its_primary_die_together() {
    let (mut world, player) = playing(World::seeded(5).gateways(2));
    let both = [world.gateway_of(player), world.primary_of(player)];
    both.iter().for_each(|node| world.crash(*node));
    world.come_back(player, 1);
    world.play(player, 20);
    end(world);
}

#[test]
fn a_client_that_goes_away_finds_its_session_where_it_left_it() {
    let (mut world, player) = playing(World::seeded(6));
    let seen = world.client(player).responses();
    world.vanish(player);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.client(player).responses(), seen);
    world.come_back(player, 0);
    world.play(player, 5);
    end(world);
}

#[test]
fn a_request_in_flight_is_applied_by_the_next_primary() {
    for moment in [Happens::RequestSubmitted, Happens::RequestApplied] {
        let (mut world, player) = playing(World::seeded(7));
        let primary = world.primary_of(player);
        world.on(moment).crash(primary);
        world.request(player, Wish::Note(42));
        world.await_acknowledgements(player);
        assert!(!world.is_alive(primary), "{moment:?}");
        world.play(player, 5);
        end(world);
    }
}

#[test]
fn a_seek_during_a_takeover_is_the_position_from_then_on() {
    for moment in [Happens::Takeover, Happens::Claim, Happens::Serve] {
        let (mut world, player) = playing(World::seeded(8).machines(4));
        let (primary, backup) = (world.primary_of(player), world.backups_of(player)[0]);
        world.on(moment).crash(backup);
        world.crash(primary);
        world.request(player, Wish::Seek(300));
        world.await_acknowledgements(player);
        world.play(player, 3);
        assert!(world.client(player).position() >= Some(300), "{moment:?}");
        assert!(!world.is_alive(backup), "{moment:?}");
        end(world);
    }
}

#[test]
fn a_change_in_the_middle_of_an_exchange_of_databases_loses_nothing() {
    for victim in 0..3 {
        let (mut world, player) = playing(World::seeded(9).machines(4));
        let newcomer = (0..4).find(|n| Node::Server(*n) != world.primary_of(player)).unwrap();
        world.crash(Node::Server(newcomer));
        world.play(player, 3);
        let others: Vec<usize> = (0..4).filter(|n| *n != newcomer).collect();
        world.on(Happens::StateSent).crash(Node::Server(others[victim]));
        world.restart(Node::Server(newcomer));
        world.expect(|world| !world.is_alive(Node::Server(others[victim])));
        world.play(player, 20);
        end(world);
    }
}

#[test]
fn a_change_in_the_middle_of_an_exchange_of_group_tables_loses_nothing() {
    for victim in 0..3 {
        let (mut world, player) = playing(World::seeded(10).machines(4));
        let newcomer = (0..4).find(|n| Node::Server(*n) != world.primary_of(player)).unwrap();
        world.crash_machine(newcomer);
        world.play(player, 3);
        let others: Vec<usize> = (0..4).filter(|n| *n != newcomer).collect();
        let dies = others[victim];
        world.on(Happens::TableSent).crash_all(&[Node::Daemon(dies), Node::Server(dies)]);
        world.restart_machine(newcomer);
        world.expect(|world| !world.is_alive(Node::Daemon(dies)));
        world.play(player, 20);
        end(world);
    }
}

#[test]
fn a_server_that_drains_hands_over_and_nobody_notices() {
    let (mut world, player) = playing(World::seeded(11));
    let primary = world.primary_of(player);
    world.drain_server(machine(primary));
    world.play(player, 20);
    assert_ne!(world.primary_of(player), primary);
    assert!(world.gap_seen_by(player) <= GAP_MAX, "{:?}", world.gap_seen_by(player));
    end(world);
}

#[test]
fn sessions_go_on_while_the_membership_server_is_away() {
    let (mut world, player) = playing(World::seeded(12));
    world.crash(Node::Membership(0));
    world.play(player, 20);
    world.restart(Node::Membership(0));
    world.play(player, 20);
    assert!(world.gap_seen_by(player) <= GAP_MAX, "{:?}", world.gap_seen_by(player));
    end(world);
}

#[test]
fn a_session_of_a_unit_that_nobody_holds_any_more_is_given_up() {
    let mut world = World::seeded(13).film("rare", &[2], 100);
    world.assemble();
    let player = world.open_session("rare");
    world.play(player, 3);
    world.crash_machine(2);
    world.pass(Duration::from_secs(1));
    world.restart_machine(2);
    world.expect(|world| world.client(player).session().is_none());
    assert_eq!(world.client(player).tally().lost, 1);
}
