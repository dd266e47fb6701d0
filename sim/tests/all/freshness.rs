//! What each level of freshness promises to a client whose server dies, and where its promise ends: with the gateway's
//! cursor, and without it, as in the paper [FK:levels].

use std::time::Duration;

use session_core::{PolicyChange, Uncertain};
use sim::client::Tally;
use sim::toy::Wish;
use sim::{Node, Player, World};

/// A response each 5 ms.
const PACE: u16 = 5;
/// So many responses come between the last propagation and the death of the primary.
const UNCERTAIN: u64 = 30;

/// Four machines. The context was propagated after the request for the pace, and is not again before the primary dies.
fn playing(seed: u64, uncertain: Uncertain) -> (World, Player) {
    let mut world = World::seeded(seed).machines(4).period(Duration::from_millis(100)).uncertain(uncertain);
    world.assemble();
    let player = world.open_session("film-1");
    world.request(player, Wish::Pace(PACE));
    world.play(player, 20);
    let rarely = PolicyChange { period: Some(Duration::from_secs(60)), ..PolicyChange::default() };
    world.change_policy(player, 0, rarely);
    world.play(player, UNCERTAIN);
    (world, player)
}

/// What the client sees if its primary dies, alone or with the backup, after it has acknowledged one more request.
fn after_the_death(uncertain: Uncertain, with_backup: bool) -> Tally {
    let (mut world, player) = playing(31, uncertain);
    world.request(player, Wish::Note(7));
    world.await_acknowledgements(player);
    let mut dead = vec![world.primary_of(player)];
    if with_backup {
        dead.extend(world.backups_of(player));
    }
    dead.into_iter().for_each(|node: Node| world.crash(node));
    world.play(player, 2 * UNCERTAIN);
    world.client(player).tally()
}

#[test]
fn with_the_cursor_nothing_depends_on_how_fresh_a_context_is() {
    for with_backup in [false, true] {
        let tally = after_the_death(Uncertain::Ask, with_backup);
        assert_eq!((tally.repeated, tally.skipped, tally.requests_lost), (0, 0, 0), "{with_backup}");
        assert_eq!(tally.takeovers, 1);
    }
}

#[test]
fn a_backup_knows_every_request_and_not_which_responses_were_sent() {
    let again = after_the_death(Uncertain::Resend, false);
    assert!((UNCERTAIN / 2..2 * UNCERTAIN).contains(&again.repeated), "of the period: {again:?}");
    assert_eq!((again.skipped, again.requests_lost), (0, 0), "{again:?}");
    let left_out = after_the_death(Uncertain::Skip, false);
    assert_eq!((left_out.repeated, left_out.requests_lost), (0, 0), "{left_out:?}");
    assert!(left_out.skipped > 0, "due while nobody served: {left_out:?}");
}

#[test]
fn the_unit_database_knows_of_requests_what_was_propagated() {
    for uncertain in [Uncertain::Resend, Uncertain::Skip] {
        let tally = after_the_death(uncertain, true);
        assert_eq!(tally.requests_lost, 1, "acknowledged by the dead, and the client is told: {tally:?}");
    }
}

#[test]
fn a_shorter_period_leaves_less_uncertain() {
    let (mut world, player) = playing(32, Uncertain::Resend);
    let often = PolicyChange { period: Some(Duration::from_millis(30)), ..PolicyChange::default() };
    world.change_policy(player, 1, often);
    world.play(player, UNCERTAIN);
    world.crash(world.primary_of(player));
    world.play(player, UNCERTAIN);
    let tally = world.client(player).tally();
    assert!(
        tally.repeated <= 10 && tally.skipped == 0,
        "30 ms are six responses, and some are on their way: {tally:?}"
    );
}
