//! Scenarios that have a name.

use std::time::Duration;

use detector::Doubt;
use membership_core::{Input, Params, Protocol, Rejection, Rule, Term};
use model::{Ballots, Boot};

use crate::world::{Count, DaemonIndex, Pending, ServerIndex, World, for_each_protocol, lan, sim};

for_each_protocol! {
    a_single_server_agrees_at_once,
    daemons_that_start_together_become_one_configuration,
    a_leave_does_not_wait_and_takes_waiting_joins_along,
    nobody_is_taken_for_gone_because_the_only_server_restarted,
    daemons_fail_over_to_another_server,
    a_daemon_that_moved_on_is_gone_when_it_leaves,
    a_new_life_takes_the_place_of_the_old_one,
    who_moves_is_where_it_attached_last,
    a_flap_that_one_end_saw_is_mended,
    components_with_different_histories_merge_in_one_round,
    a_server_does_not_keep_others_waiting,
    a_broken_stream_is_a_question_that_peers_answer,
    a_broken_stream_that_nobody_explains_is_believed_in_the_end,
    a_daemon_that_comes_back_in_time_is_not_missed,
    the_daemons_of_a_lost_server_are_asked_for_one_by_one,
    daemons_that_cannot_talk_to_each_other_are_never_together,
    servers_that_cannot_talk_to_each_other_do_not_wait_for_each_other,
    who_leaves_again_and_again_waits,
    who_is_barred_stays_out_at_every_server_until_it_is_let_in,
    a_silent_daemon_is_lost_and_a_beating_one_is_not,
    who_never_beats_is_left_to_its_connection,
    a_silent_server_is_given_up,
    who_failed_over_and_says_goodbye_is_gone_at_once,
    an_even_split_has_one_primary_component,
    the_primary_component_may_shrink,
    what_one_has_written_down_binds_the_others,
    who_cannot_write_keeps_nobody_waiting_for_long,
    who_has_written_late_is_asked_again_and_given_more_time,
    a_new_link_brings_who_has_written,
    who_comes_from_a_lost_server_is_not_late,
}

/// As many daemons as servers, one at each, in one configuration.
fn one_each(protocol: Protocol, servers: usize) -> (World, Vec<DaemonIndex>) {
    let mut world = World::connected(servers, sim(protocol));
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

fn a_single_server_agrees_at_once(protocol: Protocol) {
    let mut world = World::new(1, sim(protocol));
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

fn daemons_that_start_together_become_one_configuration(protocol: Protocol) {
    let mut world = World::new(1, lan(protocol));
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

fn a_leave_does_not_wait_and_takes_waiting_joins_along(protocol: Protocol) {
    let mut world = World::new(1, lan(protocol));
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
fn nobody_is_taken_for_gone_because_the_only_server_restarted(protocol: Protocol) {
    let mut world = World::new(1, lan(protocol));
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

fn daemons_fail_over_to_another_server(protocol: Protocol) {
    let (mut world, daemons) = one_each(protocol, 3);
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

fn a_daemon_that_moved_on_is_gone_when_it_leaves(protocol: Protocol) {
    for (from, to) in [(0, 1), (1, 0)] {
        let (mut world, daemons) = one_each(protocol, 2);
        let mover = daemons[from];
        world.attach(mover, to);
        world.settle();
        assert_eq!(world.common_view().unwrap().members.len(), 2);
        // Its first server has not seen the old stream closed: that seat must not come back.
        world.leave(mover);
        world.detach(world.daemons[mover].id, to);
        world.settle();
        assert_eq!(world.common_view().unwrap().set(), world.attached());
    }
}

fn a_new_life_takes_the_place_of_the_old_one(protocol: Protocol) {
    for home in [0, 1] {
        let (mut world, daemons) = one_each(protocol, 2);
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
            world.settle();
            let Some(Rejection::Superseded { by, .. }) = world.daemons[late].rejected else {
                panic!("rejected with {:?}", world.daemons[late].rejected);
            };
            assert_eq!((by, by.boot()), (new, Boot::new(2)));
        }
    }
}

fn a_flap_that_one_end_saw_is_mended(protocol: Protocol) {
    let (mut world, daemons) = one_each(protocol, 2);
    world.lose(1, 0);
    world.connect(0, 1);
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 2);
    assert!(counter(&world, daemons[0]) > 0);
}

/// Rule D1: q is done with p's vote, and begins again with the same servers; the vote that p waits for is lost.
#[test]
fn who_waits_for_a_vote_that_is_lost_hears_from_the_next_one_that_his_own_was_used() {
    let mut world = World::connected(2, sim(Protocol::Moshe));
    let (a, b) = (world.daemon("a"), world.daemon("b"));
    world.attach(a, 0);
    world.settle();
    world.attach(b, 1);
    // q tells p that b is there, and votes. p hears the first and votes. q has both votes, and its own is lost.
    world.perform(Pending::Frame { from: 1, to: 0 });
    world.deliver_all(0, 1);
    world.lose_all(1, 0);
    world.gathers = true;
    world.lose(1, 0);
    world.wake_one(1);
    // The link is back before p looks, to whom nothing has changed.
    world.connect(0, 1);
    world.perform(Pending::Frame { from: 1, to: 0 });
    world.deliver_all(0, 1);
    world.wake_one(1);
    world.deliver_all(1, 0);
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 2);
}

/// Both votes are lost with the link, which is back before anybody looks: nothing has changed that would make a new vote.
#[test]
fn a_vote_that_is_lost_with_its_link_is_sent_again_on_the_next_one() {
    let mut world = World::connected(2, sim(Protocol::Moshe));
    let (a, b) = (world.daemon("a"), world.daemon("b"));
    world.attach(a, 0);
    world.settle();
    world.gathers = true;
    world.attach(b, 1);
    world.wake_one(1);
    // q tells p that b is there, and votes. p hears the first and votes.
    world.perform(Pending::Frame { from: 1, to: 0 });
    world.wake_one(0);
    world.lose_all(1, 0);
    world.lose_all(0, 1);
    world.connect(0, 1);
    for _ in 0..3 {
        world.deliver_all(1, 0);
        world.deliver_all(0, 1);
    }
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 2);
}

/// Its old server has not seen that its stream broke. Where it attached last counts, whichever server is the greater.
fn who_moves_is_where_it_attached_last(protocol: Protocol) {
    for (from, to) in [(0, 1), (1, 0)] {
        let mut world = World::connected(2, sim(protocol));
        let a = world.daemon("a");
        world.attach(a, from);
        world.settle();
        world.leave(a);
        world.attach(a, to);
        world.settle();
        assert_eq!((world.daemons[a].server, world.daemons[a].rejected), (Some(to), None));
    }
}

/// [Moshe:fast] Numbers of proposals do not have to match, nor do counters.
fn components_with_different_histories_merge_in_one_round(protocol: Protocol) {
    let mut world = World::new(2, sim(protocol));
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
    let proposals = match protocol {
        Protocol::Moshe => 2,
        // There and back and there.
        Protocol::Wombat => 3,
    };
    let one_round = Count { proposals, start_changes: 2, views: 2, ..Count::default() };
    assert_eq!(world.count, one_round);
}

fn a_server_does_not_keep_others_waiting(protocol: Protocol) {
    let slow = Params { settle: Duration::from_secs(9), ..lan(protocol) };
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
    assert_eq!(world.told.since(start), Duration::from_secs(9));
}

/// Servers and daemons that take time: three daemons at one server each.
fn three_at_lan(protocol: Protocol) -> (World, Vec<DaemonIndex>) {
    let mut world = World::connected(3, lan(protocol));
    let daemons: Vec<_> = (0..3).map(|index| world.daemon(&format!("daemon-{index}"))).collect();
    for (server, daemon) in daemons.iter().enumerate() {
        world.attach(*daemon, server);
    }
    world.settle();
    world.common_view().unwrap();
    world.count = Count::default();
    (world, daemons)
}

/// The stream of `daemon` to its server breaks.
fn break_stream(world: &mut World, daemon: DaemonIndex) {
    let (id, server) = (world.daemons[daemon].id, world.daemons[daemon].server.unwrap());
    world.leave(daemon);
    world.detach(id, server);
    arrive(world);
}

/// All that is on its way arrives, and no time passes.
fn arrive(world: &mut World) {
    while let Some(next) = world.pending().first().copied() {
        world.perform(next);
    }
}

fn a_broken_stream_is_a_question_that_peers_answer(protocol: Protocol) {
    let (mut world, daemons) = three_at_lan(protocol);
    let start = world.now;
    break_stream(&mut world, daemons[2]);
    assert_eq!(world.count, Count::default(), "nobody knows yet");
    world.report(daemons[0], &[(daemons[2], Doubt::Doubtful)]);
    world.settle();
    assert_eq!(world.told, start, "at once");
    assert_eq!(world.common_view().unwrap().members.len(), 2);
}

fn a_broken_stream_that_nobody_explains_is_believed_in_the_end(protocol: Protocol) {
    let (mut world, daemons) = three_at_lan(protocol);
    let start = world.now;
    break_stream(&mut world, daemons[2]);
    world.settle();
    assert_eq!(world.told, start + lan(protocol).grace);
    assert_eq!(world.common_view().unwrap().members.len(), 2);
}

fn a_daemon_that_comes_back_in_time_is_not_missed(protocol: Protocol) {
    for home in 0..3 {
        let (mut world, daemons) = three_at_lan(protocol);
        let before = world.common_view().unwrap();
        break_stream(&mut world, daemons[2]);
        world.pass(lan(protocol).grace / 2);
        world.attach(daemons[2], home);
        world.settle();
        assert_eq!(world.common_view().unwrap(), before);
        assert_eq!(world.count, Count::default(), "nobody is told anything");
    }
}

/// Not even in the moment in which servers begin to believe what each of them says of the one that is gone.
#[test]
fn a_server_that_is_gone_for_good_is_not_missed() {
    for gone in 0..3 {
        let (mut world, daemons) = three_at_lan(Protocol::Moshe);
        let before = world.common_view().unwrap();
        world.restart_server(gone);
        arrive(&mut world);
        world.pass(Duration::from_millis(1));
        world.attach(daemons[gone], (gone + 1) % 3);
        world.settle();
        assert_eq!(world.common_view().unwrap(), before);
        assert_eq!(world.count.start_changes, 0, "nobody is told anything");
    }
}

/// The link between two servers breaks and is made again, and one end hears of that before the other.
#[test]
fn a_link_between_servers_that_is_made_again_is_not_missed() {
    let (mut world, _) = three_at_lan(Protocol::Moshe);
    for (a, b) in world.pairs() {
        world.lose(a, b);
        lose_and_mend(&mut world, b, a);
    }
}

/// The other end sees that the link broke as well, and it is made again.
fn lose_and_mend(world: &mut World, at: ServerIndex, peer: ServerIndex) {
    world.lose(at, peer);
    arrive(world);
    world.connect(at, peer);
    world.settle();
    world.common_view().unwrap();
    assert_eq!(world.count.start_changes, 0, "nobody is told anything");
}

/// One end of a link sees that it broke, and the third server tells the other end before that sees it itself.
#[test]
fn a_link_of_which_others_say_that_it_broke_is_not_missed() {
    let (mut world, _) = three_at_lan(Protocol::Moshe);
    for (a, b) in world.pairs() {
        world.lose(a, b);
        arrive(&mut world);
        lose_and_mend(&mut world, b, a);
    }
}

/// One server hears from another that there is a later life of the third before its link to the earlier one breaks.
#[test]
fn a_server_that_restarts_faster_than_its_links_break_is_not_missed() {
    let (mut world, daemons) = three_at_lan(Protocol::Moshe);
    let before = world.common_view().unwrap();
    world.restart_server_unseen(0, &[2]);
    world.connect(0, 1);
    arrive(&mut world);
    world.connect(0, 2);
    world.attach(daemons[0], 1);
    world.settle();
    assert_eq!(world.common_view().unwrap(), before);
    assert_eq!(world.count.start_changes, 0, "nobody is told anything");
}

/// A server crashes, and with it one of its two daemons: the other one fails over.
fn the_daemons_of_a_lost_server_are_asked_for_one_by_one(protocol: Protocol) {
    let (mut world, daemons) = three_at_lan(protocol);
    let fourth = world.daemon("daemon-3");
    world.attach(fourth, 2);
    world.settle();
    world.restart_server(2);
    world.attach(daemons[2], 0);
    world.report(daemons[0], &[(fourth, Doubt::Doubtful)]);
    arrive(&mut world);
    assert_eq!(world.common_view().unwrap().members.len(), 3);
}

fn daemons_that_cannot_talk_to_each_other_are_never_together(protocol: Protocol) {
    let (mut world, daemons) = three_at_lan(protocol);
    world.report(daemons[0], &[(daemons[2], Doubt::Doubtful)]);
    world.settle();
    assert_eq!(world.count, Count::default(), "a link that is lost for a moment is nobody's business");
    world.report(daemons[0], &[(daemons[2], Doubt::Cut)]);
    world.settle();
    let set = |daemon: DaemonIndex| world.daemons[daemon].view.as_ref().unwrap().set();
    assert_eq!(set(daemons[0]), set(daemons[1]));
    assert_eq!((set(daemons[0]).len(), set(daemons[2]).len()), (2, 1));
    assert_eq!(world.count.slow_proposals, 0, "{:?}", world.count);
    world.report(daemons[0], &[]);
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 3);
}

/// The first and the last cannot talk to each other, both talk to the one in the middle.
fn servers_that_cannot_talk_to_each_other_do_not_wait_for_each_other(protocol: Protocol) {
    let (mut world, daemons) = three_at_lan(protocol);
    world.lose(0, 2);
    world.lose(2, 0);
    world.settle();
    let set = |daemon: DaemonIndex| world.daemons[daemon].view.as_ref().unwrap().set();
    assert_eq!(set(daemons[0]), set(daemons[1]));
    assert_eq!((set(daemons[0]).len(), set(daemons[2]).len()), (2, 1));
    world.connect(0, 2);
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 3);
}

fn who_leaves_again_and_again_waits(protocol: Protocol) {
    let (mut world, daemons) = three_at_lan(protocol);
    for _ in 0..=lan(protocol).flaps {
        world.restart(daemons[2]);
        world.attach(daemons[2], 2);
        world.settle();
        break_stream(&mut world, daemons[2]);
        world.report(daemons[0], &[(daemons[2], Doubt::Doubtful)]);
        arrive(&mut world);
        world.report(daemons[0], &[]);
    }
    world.restart(daemons[2]);
    let start = world.now;
    world.attach(daemons[2], 2);
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 3);
    let waited = world.told.since(start);
    assert!(waited >= lan(protocol).hold_down / 2, "{waited:?}");
}

fn who_is_barred_stays_out_at_every_server_until_it_is_let_in(protocol: Protocol) {
    let (mut world, daemons) = three_at_lan(protocol);
    let name = world.daemons[daemons[2]].id.name();
    world.tell(0, Input::Bar { name, out: Some(Term::Maintenance) });
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 2);
    for server in 0..3 {
        world.attach(daemons[2], server);
        assert_eq!(world.daemons[daemons[2]].rejected, Some(Rejection::Barred { until: None }));
    }
    world.tell(1, Input::Bar { name, out: None });
    world.settle();
    world.attach(daemons[2], 2);
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 3);
    world.tell(2, Input::Bar { name, out: Some(Term::For(Duration::from_secs(5))) });
    world.pass(Duration::from_secs(5));
    world.attach(daemons[2], 2);
    world.settle();
    assert_eq!(world.common_view().unwrap().members.len(), 3);
}

/// Two servers that beat, with a daemon at each.
fn two_that_beat(protocol: Protocol) -> (World, Vec<DaemonIndex>) {
    let mut world = World::new(2, Params { protocol, ..Params::lan() });
    world.connect_all();
    let daemons: Vec<_> = (0..2).map(|index| world.daemon(&format!("daemon-{index}"))).collect();
    for (server, daemon) in daemons.iter().enumerate() {
        world.attach(*daemon, server);
    }
    (world, daemons)
}

/// Lets `time` pass, in which the daemons of `beating` beat.
fn live(world: &mut World, time: Duration, beating: &[DaemonIndex]) {
    let end = world.now + time;
    while world.now < end {
        world.pass(Duration::from_millis(20));
        for daemon in beating {
            world.beat(*daemon);
        }
        arrive(world);
    }
}

fn a_silent_daemon_is_lost_and_a_beating_one_is_not(protocol: Protocol) {
    let (mut world, daemons) = two_that_beat(protocol);
    live(&mut world, Duration::from_secs(5), &daemons);
    assert_eq!(world.common_view().unwrap().members.len(), 2);
    live(&mut world, Duration::from_millis(900), &daemons[..1]);
    assert_eq!(world.daemons[daemons[1]].server, None, "its server has hung up");
    world.report(daemons[0], &[(daemons[1], Doubt::Doubtful)]);
    live(&mut world, Duration::from_millis(20), &daemons[..1]);
    assert_eq!(world.common_view().unwrap().members.len(), 1);
}

fn who_never_beats_is_left_to_its_connection(protocol: Protocol) {
    let (mut world, daemons) = two_that_beat(protocol);
    live(&mut world, Duration::from_secs(60), &daemons[..1]);
    assert_eq!(world.common_view().unwrap().members.len(), 2);
}

/// Its daemons are on their own from there on, until they attach elsewhere.
fn a_silent_server_is_given_up(protocol: Protocol) {
    let (mut world, daemons) = two_that_beat(protocol);
    live(&mut world, Duration::from_secs(2), &daemons);
    let before = world.common_view().unwrap();
    world.freeze(1);
    live(&mut world, Duration::from_secs(1), &daemons[..1]);
    assert_eq!(world.agrees(0), 1, "it is alone");
    world.attach(daemons[1], 0);
    live(&mut world, Duration::from_secs(10), &daemons);
    assert_eq!(world.common_view().unwrap(), before);
}

/// That it might come back from its lost server is no question any more.
fn who_failed_over_and_says_goodbye_is_gone_at_once(protocol: Protocol) {
    for home in 0..2 {
        let (mut world, daemons) = three_at_lan(protocol);
        world.restart_server(2);
        world.attach(daemons[2], home);
        arrive(&mut world);
        assert_eq!(world.count, Count::default(), "nobody is told anything");
        let start = world.now;
        world.quit(daemons[2]);
        arrive(&mut world);
        assert_eq!(world.common_view().unwrap().members.len(), 2);
        assert_eq!(world.told, start, "at once");
    }
}

/// Four voters in two halves, whichever way the servers and the links fall apart.
fn an_even_split_has_one_primary_component(protocol: Protocol) {
    let voters = (0..4).map(|index| format!("daemon-{index}").parse().unwrap()).collect();
    let mut world = World::connected(2, Params { primary: Rule::Majority(voters), ..lan(protocol) });
    let daemons: Vec<_> = (0..4).map(|index| world.daemon(&format!("daemon-{index}"))).collect();
    for daemon in &daemons {
        world.attach(*daemon, daemon % 2);
    }
    world.settle();
    assert!(world.common_view().unwrap().primary);
    let is_primary = |world: &World| {
        [0, 1, 2, 3].map(|daemon: DaemonIndex| world.daemons[daemon].view.as_ref().unwrap().primary)
    };
    world.lose(0, 1);
    world.lose(1, 0);
    world.settle();
    assert_eq!(is_primary(&world), [true, false, true, false]);
    world.connect(0, 1);
    world.settle();
    assert!(world.common_view().unwrap().primary);
    for daemon in [0, 3] {
        world.report(daemon, &[(1, Doubt::Cut), (2, Doubt::Cut)]);
    }
    world.settle();
    assert_eq!(is_primary(&world), [true, false, false, true]);
}

/// Daemons 0 to 3 on two servers, who vote, and have written down and been told a first primary component.
fn four_that_vote(protocol: Protocol) -> World {
    let voters = (0..4).map(|index| format!("daemon-{index}").parse().unwrap()).collect();
    let mut world = World::connected(2, Params { primary: Rule::Dynamic(voters), ..lan(protocol) });
    world.settle();
    for index in 0..4 {
        let daemon = world.daemon(&format!("daemon-{index}"));
        world.daemons[daemon].ballots = Some(Ballots::default());
        world.attach(daemon, daemon % 2);
    }
    assert_eq!(await_votes(&mut world), [0, 1, 2, 3]);
    for daemon in 0..4 {
        assert!(world.daemons[daemon].view.is_none(), "nobody is told before all have written");
        world.write(daemon);
        arrive(&mut world);
    }
    assert_eq!(primary(&world), [0, 1, 2, 3]);
    world
}

/// Lets time pass until daemons are asked to write something down, and says which.
fn await_votes(world: &mut World) -> Vec<DaemonIndex> {
    let asked = |world: &World| -> Vec<DaemonIndex> {
        (0..world.daemons.len()).filter(|daemon| world.daemons[*daemon].asked.is_some()).collect()
    };
    arrive(world);
    for _ in 0..10_000 {
        if !asked(world).is_empty() {
            return asked(world);
        }
        assert!(world.advance(), "nobody is asked");
        arrive(world);
    }
    panic!("nobody is ever asked");
}

/// Lets time pass until nothing is left to do. Whoever is asked to write something down does.
fn settle_with_votes(world: &mut World) {
    let deadline = world.now + Duration::from_secs(60);
    arrive(world);
    while world.advance() {
        assert!(world.now < deadline, "no end");
        arrive(world);
        for daemon in 0..world.daemons.len() {
            if world.daemons[daemon].asked.is_some() {
                world.write(daemon);
            }
        }
        arrive(world);
    }
}

fn primary(world: &World) -> Vec<DaemonIndex> {
    let is_primary = |daemon: &DaemonIndex| world.daemons[*daemon].view.as_ref().is_some_and(|it| it.primary);
    (0..world.daemons.len()).filter(is_primary).collect()
}

/// Each is a majority of the one before: in the end one daemon of four is enough, and the three others are not.
fn the_primary_component_may_shrink(protocol: Protocol) {
    let mut world = four_that_vote(protocol);
    for gone in [3, 2, 1] {
        world.quit(gone);
        for daemon in await_votes(&mut world) {
            world.write(daemon);
        }
        arrive(&mut world);
        assert!(primary(&world).contains(&0), "without {gone}");
    }
    world.quit(0);
    for back in [1, 2, 3] {
        world.restart(back);
        world.attach(back, 1);
        world.settle();
        let secondary = world.daemons[back].view.as_ref().is_some_and(|view| !view.primary);
        assert!(secondary, "{back} does not know what became of the last one");
    }
}

/// Two of three were asked, and one of them wrote it down, when they lost each other. Nobody knows whether the other did,
/// so the third does not make a primary component with whoever is not the first of them.
fn what_one_has_written_down_binds_the_others(protocol: Protocol) {
    for (writer, other) in [(0, 1), (1, 0)] {
        let mut world = four_that_vote(protocol);
        world.quit(3);
        for daemon in await_votes(&mut world) {
            world.write(daemon);
        }
        arrive(&mut world);
        world.quit(2);
        assert_eq!(await_votes(&mut world), [0, 1]);
        world.write(writer);
        world.daemons[other].asked = None;
        world.report(0, &[(1, Doubt::Cut)]);
        world.settle();
        world.attach(2, 0);
        world.report(2, &[(0, Doubt::Cut)]);
        settle_with_votes(&mut world);
        let view = world.daemons[1].view.as_ref().unwrap();
        assert_eq!((view.members.len(), view.primary), (2, false));
        world.report(2, &[(1, Doubt::Cut)]);
        assert_eq!(await_votes(&mut world), [0, 2]);
    }
}

/// The last one was 0 alone: with 1 and without the vote of 0 there is none, and nothing else will happen.
fn who_has_written_late_is_asked_again_and_given_more_time(protocol: Protocol) {
    let mut world = four_that_vote(protocol);
    for gone in [3, 2, 1] {
        world.quit(gone);
        for daemon in await_votes(&mut world) {
            world.write(daemon);
        }
        arrive(&mut world);
    }
    world.restart(1);
    world.attach(1, 1);
    let vote = lan(protocol).vote;
    for given in [1, 2, 4, 8].map(|times| times * vote) {
        assert_eq!(await_votes(&mut world), [0, 1]);
        world.write(1);
        let (since, asked) = (world.now, world.daemons[0].asked.take());
        world.settle();
        assert_eq!(world.common_view().map(|view| view.primary), Ok(false));
        assert!(world.told >= since + given && world.told < since + given + vote, "given {given:?}");
        world.daemons[0].asked = asked;
        world.write(0);
    }
    world.settle();
    assert!(world.daemons.iter().all(|it| it.asked.is_none()), "but not for ever");
}

/// A daemon was to vote at a server that is lost, and comes to another one, which has waited for its vote as long as it
/// waits. It has not asked the daemon, and asks it now.
fn who_comes_from_a_lost_server_is_not_late(protocol: Protocol) {
    let mut world = four_that_vote(protocol);
    world.quit(3);
    assert_eq!(await_votes(&mut world), [0, 1, 2]);
    world.write(1);
    world.freeze(0);
    world.pass(lan(protocol).vote);
    for daemon in [0, 2] {
        world.daemons[daemon].asked = None;
        world.attach(daemon, 1);
    }
    world.lose(1, 0);
    assert_eq!(await_votes(&mut world), [0, 1, 2]);
}

/// The link between the two servers broke, and is there again, before anybody was missed.
fn a_new_link_brings_who_has_written(protocol: Protocol) {
    let mut world = four_that_vote(protocol);
    world.quit(3);
    assert_eq!(await_votes(&mut world), [0, 1, 2]);
    world.write(0);
    world.write(2);
    world.connect(0, 1);
    world.write(1);
    world.settle();
    assert_eq!(world.common_view().map(|view| (view.members.len(), view.primary)), Ok((3, true)));
}

fn who_cannot_write_keeps_nobody_waiting_for_long(protocol: Protocol) {
    for is_silent in [false, true] {
        let mut world = four_that_vote(protocol);
        world.quit(3);
        assert_eq!(await_votes(&mut world), [0, 1, 2]);
        world.write(0);
        world.write(1);
        if is_silent {
            world.daemons[2].asked = None;
        } else {
            world.abstain(2);
        }
        assert_eq!(await_votes(&mut world), [0, 1]);
        world.write(0);
        world.write(1);
        arrive(&mut world);
        let view = world.common_view().unwrap();
        assert_eq!((view.primary, view.members.len()), (true, 3));
        world.quit(1);
        assert_eq!(await_votes(&mut world), [0, 2], "in the next change, all are asked");
    }
}
