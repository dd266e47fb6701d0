//! Sessions while their servers are in a partitioned cluster. Gateways and clients reach all sides.

use std::time::Duration;

use session_core::{Components, PolicyChange};
use sim::toy::Wish;
use sim::{Node, Player, World};

/// A film plays, with a response each 10 ms, whose context is propagated once a period.
fn playing(seed: u64, components: Components, period: Duration) -> (World, Player) {
    let world = World::seeded(seed).membership_servers(3).period(period);
    let mut world = world.all_vote().served_in(components);
    world.assemble();
    let player = world.open_session("film-1");
    world.request(player, Wish::Pace(10));
    world.play(player, 20);
    (world, player)
}

fn machine(node: Node) -> usize {
    let Node::Server(n) = node else { panic!("{node} serves nobody") };
    n
}

/// The machine of the client's primary is on one side, and the others are on the other.
fn cut_off_the_primary(world: &mut World, player: Player) -> usize {
    let alone = machine(world.primary_of(player));
    world.divide((0..3).map(|n| usize::from(n == alone)).collect());
    alone
}

/// Everything comes to rest, and everything was right.
fn end(mut world: World) {
    world.settle();
    world.check();
}

#[test]
fn where_every_component_serves_a_client_that_reaches_both_is_shown_one_and_told_when_they_meet() {
    // Both tell what they serve, the one that is cut off until it knows that it is.
    let (mut world, player) = playing(41, Components::Any, Duration::from_millis(20));
    let alone = cut_off_the_primary(&mut world, player);
    world.expect(|world| machine(world.primary_of(player)) != alone);
    world.play(player, 20);
    assert!((0..3).all(|n| world.may_serve(player, n)));
    assert_eq!(world.client(player).tally().merged, 0);
    world.heal();
    world.expect(|world| world.client(player).tally().merged == 1);
    world.play(player, 20);
    end(world);
}

#[test]
fn where_only_the_primary_component_serves_the_other_side_is_silent_and_nothing_is_merged() {
    let (mut world, player) = playing(42, Components::Primary, Duration::from_secs(60));
    let alone = cut_off_the_primary(&mut world, player);
    world.expect(|world| machine(world.primary_of(player)) != alone);
    world.play(player, 20);
    let serve: Vec<usize> = (0..3).filter(|n| world.may_serve(player, *n)).collect();
    assert_eq!(serve, (0..3).filter(|n| *n != alone).collect::<Vec<_>>());
    world.heal();
    world.play(player, 40);
    assert_eq!(world.client(player).tally().merged, 0);
    end(world);
}

#[test]
fn without_a_primary_component_nobody_serves_until_there_is_one_or_an_operator_gives_up_on_it() {
    for gives_up in [false, true] {
        let (mut world, player) = playing(43, Components::Primary, Duration::from_secs(60));
        world.divide(vec![0, 1, 2]);
        world.expect(|world| (0..3).all(|n| !world.may_serve(player, n)));
        world.pass(Duration::from_millis(50));
        let before = world.client(player).responses();
        world.pass(Duration::from_secs(1));
        assert_eq!(world.client(player).responses(), before, "a hundred would have been due");
        if gives_up {
            let anywhere = PolicyChange { components: Some(Components::Any), ..PolicyChange::default() };
            world.change_policy(player, 0, anywhere);
            world.play(player, 10);
            assert_eq!((0..3).filter(|n| world.may_serve(player, *n)).collect::<Vec<_>>(), [0]);
        }
        world.heal();
        world.play(player, 20);
        assert!(!gives_up || (0..3).all(|n| world.may_serve(player, n)), "his word counts for all");
        end(world);
    }
}

#[test]
fn a_client_that_was_told_nothing_for_long_goes_on_looking_for_a_session_that_one_side_does_not_know() {
    let mut world = World::seeded(44).machines(2).membership_servers(3).all_vote().backups(0);
    world.assemble();
    let player = world.open_session("film-1");
    world.play(player, 3);
    if world.primary_of(player) == Node::Server(0) {
        world.move_session(player, 1);
        world.expect(|world| world.primary_of(player) == Node::Server(1));
        world.play(player, 3);
    }
    // Its gateway is on the side of a server that has just started, and knows nothing.
    world.divide(vec![0, 1]);
    world.crash(Node::Server(0));
    world.restart(Node::Server(0));
    world.hang(Node::Server(1)).unwrap();
    world.crash(Node::Gateway(0));
    world.restart(Node::Gateway(0));
    world.pass(Duration::from_secs(1));
    // Nobody says anything, for the one who knows it hangs. Then the sides part again.
    world.heal();
    world.pass(Duration::from_secs(5));
    world.divide(vec![0, 1]);
    world.pass(Duration::from_secs(3));
    world.end_stop(Node::Server(1));
    world.heal();
    world.play(player, 3);
    assert_eq!(world.client(player).tally().lost, 0);
    end(world);
}
