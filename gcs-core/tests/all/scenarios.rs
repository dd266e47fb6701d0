//! Written scenarios, each with the moment it is about.

use gcs_core::{
    Daemon, Entry, Epoch, Input, Limit, Message, Notice, NoticeFault, Output, Params, Payload, PeerFault,
    Rejection, Table,
};
use model::{Address, Boot, Configuration, ConfigurationId, DaemonId, Machine, StartId, Time};

use crate::checks::check;
use crate::world::{Action, World};

fn world(names: &str) -> (World, Vec<DaemonId>) {
    let mut world = World::new(Params::lan());
    let daemons = names.split_whitespace().map(|name| world.start(name)).collect();
    (world, daemons)
}

/// Daemons in configuration 1, each with a process on connection 1 in group `g`.
fn group_of(names: &str) -> (World, Vec<DaemonId>) {
    let (mut world, daemons) = world(names);
    world.configure(1, &daemons);
    for daemon in &daemons {
        world.attach(*daemon, 1);
        world.join(*daemon, 1, &["g"]);
        world.run();
    }
    for daemon in &daemons {
        world.told(*daemon, 1);
    }
    (world, daemons)
}

fn installed(world: &World, daemons: &[DaemonId], view: &Configuration) {
    for daemon in daemons {
        assert_eq!(world.daemon(*daemon).configuration(), view, "at {daemon}");
        assert_eq!(world.daemon(*daemon).phase(), "steady", "at {daemon}");
    }
}

#[test]
fn processes_see_views_and_messages_in_one_order() {
    let (mut w, d) = world("a b");
    w.configure(1, &d);
    w.attach(d[0], 1);
    w.attach(d[1], 1);
    w.join(d[0], 1, &["g"]);
    w.run();
    w.multicast(d[1], 1, "g", "from outside");
    w.run();
    w.join(d[1], 1, &["g"]);
    w.multicast(d[1], 1, "g", "from inside");
    w.run();
    w.leave(d[0], 1, &["g"]);
    w.run();
    assert_eq!(w.told(d[0], 1), ["g {a1} +a1", "g b1: from outside", "g {a1 b1} +b1", "g b1: from inside"]);
    assert_eq!(w.told(d[1], 1), ["g {a1 b1} +a1 +b1", "g b1: from inside", "g {b1} -a1"]);
    w.settle();
    check(&w, true);
}

#[test]
fn the_crash_of_a_process_is_an_ordered_leave() {
    let (mut w, d) = group_of("a b");
    w.multicast(d[0], 1, "g", "last words");
    w.detach(d[0], 1);
    w.run();
    assert_eq!(w.told(d[1], 1), ["g a1: last words", "g {b1} -a1"]);
    assert_eq!(w.told(d[0], 1), [""; 0], "nothing comes to who is gone");
    check(&w, true);
}

#[test]
fn a_crash_needs_no_exchange_and_tells_all_groups_at_once() {
    let (mut w, d) = group_of("a b c");
    w.join(d[1], 1, &["h", "i"]);
    w.join(d[2], 1, &["h", "i"]);
    w.run();
    w.told(d[1], 1);
    w.crash(d[2]);
    let rest = [d[0], d[1]];
    w.start_change(&rest, &rest);
    let view = w.agree(2, &rest);
    w.view(&rest, &view);
    // Not even a wake is needed: syncs are sent at once, and the tables follow from the view.
    while let Some(action) = w.actions().into_iter().find(|a| !matches!(a, Action::Wake(_))) {
        w.act(action);
    }
    installed(&w, &rest, &view);
    assert_eq!(w.told(d[1], 1), ["g {a1 b1} -c1", "h {b1} -c1", "i {b1} -c1"]);
    w.settle();
    check(&w, true);
}

#[test]
fn syncs_that_come_before_the_own_start_change_are_kept() {
    let (mut w, d) = group_of("p q");
    w.start_change(&d, &d);
    let view = w.agree(2, &d);
    w.view(&d, &view);
    // q is told nothing until p has done all it can.
    while let Some(action) = w.actions().into_iter().find(|action| *action != Action::Notice(d[1])) {
        w.act(action);
    }
    assert_eq!(w.daemon(d[0]).phase(), "viewed");
    w.run();
    installed(&w, &d, &view);
    check(&w, true);
}

#[test]
fn what_is_cast_in_a_configuration_not_installed_here_yet_waits() {
    let (mut w, d) = group_of("p q");
    let [p, q] = d[..] else { unreachable!() };
    w.start_change(&d, &d);
    let view = w.agree(2, &d);
    w.view(&[p], &view);
    w.run();
    w.multicast(p, 1, "g", "early");
    w.run();
    assert_eq!((w.daemon(p).phase(), w.daemon(q).phase()), ("steady", "changing"));
    assert_eq!(w.told(q, 1), [""; 0]);
    w.view(&[q], &view);
    w.run();
    assert_eq!(w.told(q, 1), ["g p1: early"]);
    w.settle();
    check(&w, true);
}

#[test]
fn a_departed_senders_ragged_tail_is_forwarded() {
    let (mut w, d) = group_of("p q r s");
    let [p, q, r, s] = d[..] else { unreachable!() };
    w.hold(p, r);
    w.hold(p, s);
    w.multicast(p, 1, "g", "half-way");
    w.run();
    assert_eq!(w.told(q, 1), ["g p1: half-way"]);
    w.crash(p);
    let rest = [q, r, s];
    let view = w.configure(2, &rest);
    installed(&w, &rest, &view);
    assert_eq!(w.told(q, 1), ["g {q1 r1 s1} -p1"]);
    for daemon in [r, s] {
        assert_eq!(w.told(daemon, 1), ["g p1: half-way", "g {q1 r1 s1} -p1"]);
    }
    w.settle();
    check(&w, true);
}

#[test]
fn what_comes_after_the_syncs_is_delivered_by_nobody() {
    let (mut w, d) = group_of("a b c");
    let [a, b, c] = d[..] else { unreachable!() };
    w.hold(a, b);
    w.hold(a, c);
    w.multicast(a, 1, "g", "too late");
    w.run();
    let two = [b, c];
    w.start_change(&two, &two);
    w.run();
    w.release(a, b);
    w.run();
    let view = w.agree(2, &two);
    w.view(&two, &view);
    w.run();
    for daemon in two {
        assert_eq!(w.told(daemon, 1), ["g {b1 c1} -a1"]);
    }
    check(&w, false);
}

#[test]
fn payloads_that_lost_their_sequencer_follow_by_rank() {
    let (mut w, d) = group_of("a b c d");
    let [a, b, c, e] = d[..] else { unreachable!() };
    for daemon in [b, c, e] {
        w.hold(a, daemon);
    }
    w.multicast(c, 1, "g", "of c");
    w.run();
    w.multicast(b, 1, "g", "of b");
    w.multicast(e, 1, "g", "of d");
    w.run();
    assert_eq!(w.told(b, 1), [""; 0]);
    // Both a, which had placed them, and d, whose payload others hold, are gone.
    w.crash(a);
    w.crash(e);
    let rest = [b, c];
    let view = w.configure(2, &rest);
    installed(&w, &rest, &view);
    for daemon in rest {
        assert_eq!(w.told(daemon, 1), ["g b1: of b", "g c1: of c", "g {b1 c1} -a1 -d1"]);
    }
    w.settle();
    check(&w, true);
}

#[test]
fn what_is_undecided_stays_so_when_another_change_comes_before_the_install() {
    // c has a payload without a place; the change in which c would be gone is overtaken by one in which it is not.
    let (mut w, d) = group_of("a b c");
    let [a, b, c] = d[..] else { unreachable!() };
    w.hold(a, b);
    w.multicast(c, 1, "g", "still here");
    w.run();
    let two = [a, b];
    w.start_change(&two, &two);
    let view = w.agree(2, &two);
    w.view(&two, &view);
    w.run();
    assert_eq!(w.daemon(b).phase(), "viewed", "a's sync is held");
    w.start_change(&d, &d);
    let view = w.agree(3, &d);
    w.view(&d, &view);
    w.release_all();
    w.run();
    installed(&w, &[b, c], &view);
    w.settle();
    check(&w, true);
}

#[test]
fn a_broken_link_resumes_without_loss_or_repetition() {
    let (mut w, d) = group_of("p q");
    let [p, q] = d[..] else { unreachable!() };
    let mut expected = Vec::new();
    for round in 0..20 {
        let text = format!("{round}");
        w.multicast(q, 1, "g", &text);
        expected.push(format!("g q1: {text}"));
        for action in w.actions().into_iter().take(round % 3) {
            w.act(action);
        }
        w.reset(p, q);
        if round % 2 == 0 {
            w.reset(q, p);
            w.run();
        }
    }
    w.settle();
    assert_eq!(w.told(p, 1), expected);
    assert_eq!(w.told(q, 1), expected);
    assert!(w.node(p).refused.is_empty() && w.node(q).refused.is_empty());
    check(&w, true);
}

#[test]
fn groups_on_two_sides_of_a_merge_become_one() {
    let (mut w, d) = world("p q r");
    let [p, q, r] = d[..] else { unreachable!() };
    w.configure(1, &[p, q]);
    w.configure(1, &[r]);
    for daemon in &d {
        w.attach(*daemon, 1);
        w.join(*daemon, 1, &["g", daemon.name().as_str()]);
        w.run();
        w.told(*daemon, 1);
    }
    w.told(p, 1);
    w.configure(2, &d);
    assert_eq!(w.told(p, 1), ["g {p1 q1 r1} +r1"], "its own group has not changed");
    assert_eq!(w.told(r, 1), ["g {p1 q1 r1} +p1 +q1"]);
    w.settle();
    check(&w, true);
    assert_eq!(w.daemon(r).groups().count(), 4);
}

#[test]
fn a_restarted_daemon_is_somebody_else() {
    let (mut w, d) = group_of("p q");
    let [p, q] = d[..] else { unreachable!() };
    w.crash(q);
    let again = w.start("q");
    assert_ne!(q, again);
    let view = w.configure(2, &[p, again]);
    installed(&w, &[p, again], &view);
    w.attach(again, 1);
    w.join(again, 1, &["g"]);
    w.run();
    assert_eq!(w.told(p, 1), ["g {p1} -q1", "g {p1 q1} +q1"]);
    w.settle();
    check(&w, true);
    let epoch = Epoch::new(9);
    w.input(p, Input::Opened { from: q, epoch });
    assert_eq!(w.node(p).refused, [(q, PeerFault::OutOfDateIncarnation)]);
}

#[test]
fn requests_wait_while_a_configuration_is_left() {
    let (mut w, d) = group_of("p q");
    w.start_change(&d, &d);
    w.run();
    w.multicast(d[0], 1, "g", "meanwhile");
    w.run();
    assert_eq!(w.daemon(d[0]).windows().waiting, 1);
    let view = w.agree(2, &d);
    w.view(&d, &view);
    w.run();
    assert_eq!(w.told(d[1], 1), ["g p1: meanwhile"]);
    assert_eq!(w.told(d[0], 1), ["g p1: meanwhile"]);
}

#[test]
fn a_silent_member_stops_its_peers_at_the_window_and_nothing_is_lost() {
    let window = Limit { entries: 4, bytes: 1 << 20 };
    let queue = Limit { entries: 64, bytes: 1 << 20 };
    let mut w = World::new(Params { window, queue, ..Params::lan() });
    let (p, q) = (w.start("p"), w.start("q"));
    w.configure(1, &[p, q]);
    w.attach(p, 1);
    w.join(p, 1, &["g"]);
    w.settle();
    w.told(p, 1);
    w.hold(q, p);
    for n in 0..80 {
        w.multicast(p, 1, "g", &format!("{n}"));
        w.run();
    }
    let windows = w.daemon(p).windows();
    assert_eq!((windows.unstable, windows.waiting), (4, 64));
    assert_eq!(w.node(p).rejected.len(), 12);
    assert_eq!(w.node(p).rejected[0], (1, Rejection::Overloaded));
    w.release_all();
    w.settle();
    let windows = w.daemon(p).windows();
    assert_eq!((windows.unstable, windows.waiting, windows.held, windows.unacknowledged), (0, 0, 0, 0));
    assert_eq!(w.told(p, 1).len(), 68);
    assert_eq!(w.daemon(q).windows().held, 0);
    check(&w, true);
}

#[test]
fn a_window_is_open_again_after_each_of_many_changes() {
    // Whatever p may not send for want of news from q, it may send in the next configuration, with q or without.
    let window = Limit { entries: 4, bytes: 1 << 20 };
    let mut w = World::new(Params { window, ..Params::lan() });
    let (p, q) = (w.start("p"), w.start("q"));
    w.configure(1, &[p, q]);
    w.attach(p, 1);
    w.join(p, 1, &["g"]);
    w.settle();
    w.told(p, 1);
    let mut sent = Vec::new();
    for counter in 1..=25 {
        w.hold(q, p);
        for n in 1..=6 {
            let text = format!("{counter}.{n}");
            w.multicast(p, 1, "g", &text);
            sent.push(format!("g p1: {text}"));
        }
        w.run();
        let windows = w.daemon(p).windows();
        assert_eq!((windows.unstable, windows.waiting), (4, 2), "{counter}: no credit is lost, none is won");
        w.configure(2 * counter, &[p]);
        w.release_all();
        w.configure(2 * counter + 1, &[p, q]);
        w.settle();
        let windows = w.daemon(p).windows();
        assert_eq!((windows.unstable, windows.waiting), (0, 0), "{counter}: everything is out");
    }
    assert_eq!(w.told(p, 1), sent);
    check(&w, true);
}

#[test]
fn a_table_larger_than_the_window_is_exchanged_in_parts() {
    let window = Limit { entries: 4, bytes: 1 << 20 };
    let mut w = World::new(Params { window, batch_bytes: 200, ..Params::lan() });
    let (p, q) = (w.start("p"), w.start("q"));
    w.configure(1, &[p]);
    w.attach(p, 1);
    let names: Vec<String> = (0..100).map(|n| format!("group-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    w.join(p, 1, &names);
    w.configure(2, &[p, q]);
    w.settle();
    assert_eq!(w.daemon(q).groups().count(), 100);
    check(&w, true);
}

#[test]
fn what_a_peer_may_not_say_is_refused_and_nothing_else_happens() {
    let (mut w, d) = group_of("p q");
    let [p, q] = d[..] else { unreachable!() };
    w.settle();
    let here = w.daemon(p).configuration().id;
    let elsewhere = ConfigurationId::new(99, 0);
    let table = || Entry::Payload(Payload::Table(Table::Rows([].into())));
    let entries =
        |configuration, first, stable, entries| Message::Entries { configuration, first, stable, entries };
    let progress = |delivered: &[u64], stable| Message::Progress {
        configuration: here,
        delivered: delivered.into(),
        position: 0,
        stable,
    };
    let forward = Message::Forward {
        configuration: elsewhere,
        origin: gcs_core::Rank::new(0),
        first: 1,
        entries: [table()].into(),
    };
    // q has cast two payloads: the end of its table, and a join.
    let cases = [
        (entries(here, 9, 0, [table()].into()), PeerFault::IndexGap { expected: 3, found: 9 }),
        (entries(here, 3, 77, [table()].into()), PeerFault::WrongProgress),
        (entries(here, 3, 0, [Entry::Order([].into())].into()), PeerFault::WrongOrder),
        (forward, PeerFault::ForeignConfiguration),
        (progress(&[0], 0), PeerFault::WrongProgress),
        (progress(&[999, 0], 0), PeerFault::WrongProgress),
        (progress(&[0, 0], 999), PeerFault::WrongProgress),
    ];
    w.reset(q, p);
    w.hold(q, p);
    let (epoch, mut number) = (Epoch::new(1_000), 0);
    w.input(p, Input::Opened { from: q, epoch });
    for (message, fault) in cases {
        number += 1;
        w.input(p, Input::Frame { from: q, epoch, number, message });
        assert_eq!(w.node(p).refused.pop(), Some((q, fault)));
        assert!(!fault.breaks_link());
    }
    // A table outside an exchange is placed like anything else, and then refused wherever it is delivered.
    let message = entries(here, 3, 0, [table()].into());
    w.input(p, Input::Frame { from: q, epoch, number: number + 1, message });
    w.run();
    assert_eq!(w.node(p).refused.pop(), Some((q, PeerFault::WrongTable)));
    w.multicast(p, 1, "g", "all is well");
    w.run();
    assert_eq!(w.told(p, 1).last().map(String::as_str), Some("g p1: all is well"));
}

#[test]
fn notices_that_make_no_sense_are_refused() {
    let id = |name: &str, boot| DaemonId::new(name.parse().unwrap(), Boot::new(boot));
    let (p, q, r) = (id("p", 5), id("q", 1), id("r", 1));
    let mut daemon = Daemon::new(p, Params::lan());
    let mut tell = |notice| {
        let mut out = Vec::new();
        daemon.handle(Time::ZERO, Input::Membership(notice), &mut out);
        out.into_iter().find_map(|order| match order {
            Output::RefuseNotice(fault) => Some(fault),
            _ => None,
        })
    };
    let start = |boot, number| StartId::new(Boot::new(boot), number);
    let change = |start, proposed: &[DaemonId]| Notice::StartChange {
        start,
        proposed: proposed.iter().map(|id| (*id, Address::new("memory"))).collect(),
    };
    let view = |counter, members: &[(DaemonId, StartId)]| {
        Notice::View(Configuration::new(counter, members.iter().copied().collect()))
    };
    let (mine, other) = (start(5, 2), start(1, 1));
    assert_eq!(tell(view(1, &[(p, start(5, 1))])), Some(NoticeFault::OutOfDateView), "no start change yet");
    let old = start(4, 7);
    assert_eq!(tell(change(old, &[p])), Some(NoticeFault::OutOfDateStart { start: old }), "of a former life");
    assert_eq!(tell(change(mine, &[q])), Some(NoticeFault::Excluded));
    assert_eq!(tell(change(mine, &[p, q])), None);
    assert_eq!(tell(change(mine, &[p, q])), Some(NoticeFault::OutOfDateStart { start: mine }));
    assert_eq!(tell(view(1, &[(q, other)])), Some(NoticeFault::Excluded));
    assert_eq!(tell(view(1, &[(p, start(5, 1)), (q, other)])), Some(NoticeFault::OutOfDateView));
    assert_eq!(tell(view(1, &[(p, mine), (r, other)])), Some(NoticeFault::UnproposedMember));
    assert_eq!(tell(view(1, &[(p, mine), (q, other)])), None);
    assert_eq!(tell(view(2, &[(p, mine)])), Some(NoticeFault::OutOfDateView), "one view for a start change");
    // q's sync is missing, so the daemon is where it was; alone it goes on at once, and then not back.
    assert_eq!(tell(change(start(5, 3), &[p])), None);
    assert_eq!(tell(view(7, &[(p, start(5, 3))])), None);
    assert_eq!(tell(change(start(5, 4), &[p])), None);
    assert_eq!(tell(view(6, &[(p, start(5, 4))])), Some(NoticeFault::OutOfDateView), "below where it is");
}
