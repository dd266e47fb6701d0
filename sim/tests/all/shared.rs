//! A state that sessions share, while servers are cut off from each other and lose their memory. Gateways and clients reach
//! all sides, so what would be split brain shows.

use std::time::Duration;

use sim::toy::Wish;
use sim::{Node, Player, World};

use crate::end;

const FILM: &str = "film-1";

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn machine(node: Node) -> usize {
    let Node::Server(n) = node else { panic!("{node} serves nobody") };
    n
}

/// Three servers vote, and a client has had a request carried out.
fn founded(seed: u64) -> (World, Player) {
    let mut world = World::seeded(seed).membership_servers(3).backups(2).shared();
    world.assemble();
    world.found_state(0, FILM);
    let player = world.open_session(FILM);
    world.request(player, Wish::Note(0));
    world.await_acknowledgements(player);
    (world, player)
}

/// The client's primary is on one side, and the others are on the other.
fn cut_off_the_primary(world: &mut World, player: Player) -> usize {
    let alone = machine(world.primary_of(player));
    world.divide((0..3).map(|n| usize::from(n == alone)).collect());
    alone
}

/// The slides: the primary is cut off while an operation is on its way, and its backup is in the old view, or in the new
/// one already [PB:forward]. Wherever it is caught, it is carried out once, and the one who is alone answers nobody.
#[test]
fn a_request_whose_primary_is_cut_off_is_carried_out_once_by_the_others() {
    for delay in 0..24 {
        let (mut world, player) = founded(61);
        world.request(player, Wish::Note(1));
        world.pass(Duration::from_micros(500 * delay));
        let alone = cut_off_the_primary(&mut world, player);
        world.request(player, Wish::Note(2));
        world.await_acknowledgements(player);
        world.expect(|world| !world.may_serve(player, alone));
        assert!((0..3).all(|n| n == alone || world.may_serve(player, n)));
        world.heal();
        world.request(player, Wish::Note(3));
        world.await_acknowledgements(player);
        end(world);
    }
}

#[test]
fn where_no_side_has_most_voters_clients_wait() {
    let (mut world, player) = founded(62);
    world.divide(vec![0, 1, 2]);
    world.expect(|world| (0..3).all(|n| !world.may_serve(player, n)));
    world.request(player, Wish::Note(1));
    world.pass(Duration::from_secs(2));
    assert!(!world.client(player).is_acknowledged());
    world.divide(vec![0, 0, 1]);
    world.await_acknowledgements(player);
    assert!((0..3).all(|n| world.may_serve(player, n) == (n < 2)));
    world.heal();
    end(world);
}

/// The first rule of the slides: an idle server is never promoted [PB:promotion].
#[test]
fn servers_that_were_started_again_do_not_vote_before_they_were_given_the_state() {
    let (mut world, player) = founded(63);
    // One at a time, all of them are started again, and nothing is lost.
    for n in 0..3 {
        world.crash(Node::Server(n));
        world.expect(|world| (0..3).all(|other| other == n || world.may_serve(player, other)));
        world.restart(Node::Server(n));
        world.expect(|world| (0..3).all(|other| world.may_serve(player, other)));
        world.request(player, Wish::Note(1 + n as u64));
        world.await_acknowledgements(player);
    }
    // Two at once have forgotten it, and it waits for an operator.
    (1..3).for_each(|n| world.crash(Node::Server(n)));
    world.expect(|world| !world.may_serve(player, 0));
    (1..3).for_each(|n| world.restart(Node::Server(n)));
    world.pass(ms(500));
    assert!((0..3).all(|n| !world.may_serve(player, n)));
    world.found_state(1, FILM);
    world.request(player, Wish::Note(9));
    world.await_acknowledgements(player);
    end(world);
}
