//! Messages on terms: safe ones, and ones for one view of their group.

use gcs_core::Params;
use model::trace::Event;
use model::{DaemonId, GroupViewId, Level, Terms};

use crate::checks::check;
use crate::world::{World, group};

const SAFE: Terms = Terms { level: Level::Safe, only_in: None, report: false };
const REPORTED: Terms = Terms { level: Level::Agreed, only_in: None, report: true };

/// Three daemons in one configuration, each with a process in group `g`.
fn three() -> (World, [DaemonId; 3]) {
    let mut w = World::new(Params::lan());
    let d = ["a", "b", "c"].map(|name| w.start(name));
    w.configure(1, &d);
    for daemon in d {
        w.attach(daemon, 1);
        w.join(daemon, 1, &["g"]);
        w.run();
    }
    w.settle();
    d.iter().for_each(|daemon| drop(w.told(*daemon, 1)));
    (w, d)
}

fn view(w: &World, daemon: DaemonId) -> GroupViewId {
    w.daemon(daemon).view_of(&group("g")).unwrap()
}

#[test]
fn a_safe_message_waits_until_the_slowest_daemon_has_it() {
    let (mut w, [a, b, c]) = three();
    w.hold(a, c);
    w.multicast_on(SAFE, b, 1, "g", "surely");
    w.multicast(b, 1, "g", "after it");
    w.run();
    // c lacks a's record: it has the message, but not its place.
    for daemon in [a, b, c] {
        assert_eq!(w.told(daemon, 1), [""; 0]);
    }
    w.release(a, c);
    w.run();
    for daemon in [a, b, c] {
        assert_eq!(w.told(daemon, 1), ["g b1: surely (safe)", "g b1: after it"]);
    }
    w.settle();
    check(&w, true);
}

#[test]
fn safe_messages_wait_for_no_timer() {
    let (mut w, [a, b, c]) = three();
    let before = w.now;
    w.multicast_on(SAFE, c, 1, "g", "one");
    w.run();
    assert_eq!(w.now, before);
    for daemon in [a, b, c] {
        assert_eq!(w.told(daemon, 1), ["g c1: one (safe)"]);
    }
}

#[test]
fn a_safe_message_that_a_change_overtakes_is_delivered_and_not_called_safe() {
    let (mut w, [a, b, c]) = three();
    w.hold(c, a);
    w.hold(c, b);
    w.multicast_on(Terms { report: true, ..SAFE }, b, 1, "g", "perhaps");
    w.run();
    // c has told nobody that it has the message.
    w.crash(c);
    w.configure(2, &[a, b]);
    assert_eq!(w.told(a, 1), ["g b1: perhaps", "g {a1 b1} -c1"]);
    assert_eq!(w.told(b, 1), ["g b1: perhaps", "#1 delivered", "g {a1 b1} -c1"]);
    w.settle();
    check(&w, true);
}

#[test]
fn what_is_known_safe_is_delivered_by_a_daemon_that_goes_another_way() {
    let (mut w, [a, b, c]) = three();
    w.hold(a, c);
    w.hold(b, c);
    w.multicast_on(SAFE, c, 1, "g", "surely");
    w.release(a, c);
    w.run();
    // c has placed it and said so; a has heard of b and c; c has not heard of b.
    assert_eq!(w.told(a, 1), ["g c1: surely (safe)"]);
    assert_eq!(w.told(c, 1), [""; 0]);
    w.start_change(&[c], &[c]);
    let alone = w.agree(2, &[c]);
    w.view(&[c], &alone);
    w.run();
    assert_eq!(w.told(c, 1), ["g c1: surely", "g {c1} -a1 -b1"]);
    w.release_all();
    w.configure(3, &[a, b, c]);
    w.settle();
    check(&w, true);
}

#[test]
fn news_of_a_position_that_comes_before_the_configuration_is_kept() {
    let mut w = World::new(Params::lan());
    let d = ["a", "b", "c"].map(|name| w.start(name));
    let [a, b, c] = d;
    w.configure(1, &d);
    w.attach(a, 1);
    w.attach(c, 1);
    w.join(a, 1, &["g"]);
    w.join(c, 1, &["g"]);
    w.settle();
    w.start_change(&d, &d);
    let next = w.agree(2, &d);
    w.view(&[a, b], &next);
    w.run();
    // a and b are in configuration 2 and c is not; a's safe message reaches c, and so does what b says of it.
    w.multicast_on(SAFE, a, 1, "g", "early");
    w.run();
    w.told(a, 1);
    w.told(c, 1);
    w.view(&[c], &next);
    w.run();
    assert_eq!(w.told(a, 1), ["g a1: early (safe)"]);
    assert_eq!(w.told(c, 1), ["g a1: early (safe)"]);
    w.settle();
    check(&w, true);
}

#[test]
fn a_message_for_one_view_is_delivered_in_it_or_nowhere() {
    let (mut w, [a, b, c]) = three();
    let terms = Terms { only_in: Some(view(&w, a)), ..Terms::default() };
    w.multicast_on(terms, a, 1, "g", "in time");
    w.run();
    w.leave(b, 1, &["g"]);
    w.multicast_on(terms, c, 1, "g", "who is first?");
    w.run();
    w.multicast_on(terms, c, 1, "g", "too late");
    w.run();
    // The sequencer placed b's leave before c's message.
    assert_eq!(w.told(a, 1), ["g a1: in time", "g {a1 c1} -b1"]);
    let refusals = ["#1 for nobody: another view", "#2 for nobody: another view"];
    assert_eq!(w.told(c, 1), ["g a1: in time", "g {a1 c1} -b1", refusals[0], refusals[1]]);
    let refused = |event: &&Event| matches!(event, Event::GroupRefuse { .. });
    assert_eq!(w.node(c).trace.iter().filter(refused).count(), 2);
    w.settle();
    check(&w, true);
}

#[test]
fn a_sender_that_asks_is_told_what_became_of_its_message() {
    let (mut w, [a, b, _]) = three();
    w.attach(b, 2);
    w.multicast_on(REPORTED, b, 2, "g", "from outside");
    w.multicast_on(REPORTED, b, 2, "empty", "is anybody there?");
    w.multicast_on(Terms { level: Level::Safe, ..REPORTED }, b, 2, "g", "surely");
    w.run();
    assert_eq!(w.told(a, 1), ["g b2: from outside", "g b2: surely (safe)"]);
    assert_eq!(w.told(b, 2), ["#1 delivered", "#2 for nobody: no members", "#3 delivered, and safe"]);
}

#[test]
fn all_daemons_agree_which_view_a_group_is_in_after_a_merge() {
    let mut w = World::new(Params::lan());
    let d = ["a", "b", "c"].map(|name| w.start(name));
    let [a, b, c] = d;
    w.configure(1, &[a, b]);
    w.configure(2, &[c]);
    w.attach(a, 1);
    w.attach(b, 1);
    w.attach(c, 1);
    w.join(a, 1, &["theirs", "both"]);
    w.settle();
    w.join(b, 1, &["theirs"]);
    w.join(c, 1, &["ours", "both"]);
    w.settle();
    let before = w.daemon(a).view_of(&group("theirs"));
    w.configure(3, &d);
    w.settle();
    for name in ["theirs", "ours", "both"] {
        let views = d.map(|daemon| w.daemon(daemon).view_of(&group(name)).unwrap());
        assert_eq!(views, [views[0]; 3], "{name}");
    }
    assert_eq!(w.daemon(c).view_of(&group("theirs")), before, "nothing has changed for its members");
    w.multicast_on(Terms { only_in: before, ..REPORTED }, c, 1, "theirs", "for this view");
    w.settle();
    assert_eq!(w.told(c, 1).last().map(String::as_str), Some("#1 delivered"));
    check(&w, true);
}
