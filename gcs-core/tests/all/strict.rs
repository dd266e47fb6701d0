//! Strict groups: members stop before a view changes.

use gcs_core::{Limit, Params, Rejection};
use model::{DaemonId, Terms};

use crate::checks::check;
use crate::world::{Action, World};

const GROUP: &str = "strict:g";

/// Daemons in one configuration, each with a process in the strict group.
fn members<const N: usize>(names: [&str; N]) -> (World, [DaemonId; N]) {
    let mut w = World::new(Params::lan());
    let d = names.map(|name| w.start(name));
    w.configure(1, &d);
    for daemon in d {
        w.attach(daemon, 1);
        w.join(daemon, 1, &[GROUP]);
        w.run();
    }
    w.settle();
    d.iter().for_each(|daemon| drop(w.told(*daemon, 1)));
    (w, d)
}

/// Three daemons in one configuration, with room for few messages that are not stable.
fn cramped() -> (World, [DaemonId; 3]) {
    let window = Limit { entries: 4, bytes: 1 << 20 };
    let mut w = World::new(Params { window, ..Params::lan() });
    let d = ["a", "b", "c"].map(|name| w.start(name));
    w.configure(1, &d);
    (w, d)
}

/// What happens until nothing more does, but no process answers.
fn run_unanswered(w: &mut World) {
    while let Some(action) = w.actions().into_iter().find(|action| !matches!(action, Action::Answer(_))) {
        w.act(action);
    }
}

#[test]
fn a_view_changes_once_every_member_has_stopped() {
    let (mut w, [a, b]) = members(["a", "b"]);
    w.attach(b, 2);
    w.join(b, 2, &[GROUP]);
    run_unanswered(&mut w);
    assert_eq!(w.told(a, 1), ["block strict:g"]);
    // Asked, and not yet stopped: this is still sent in the old view.
    w.multicast(a, 1, GROUP, "last");
    w.run();
    assert_eq!(w.told(a, 1), ["strict:g a1: last", "strict:g {a1 b1 b2} +b2", "unblock strict:g"]);
    assert_eq!(w.told(b, 2), ["strict:g {a1 b1 b2} +a1 +b1 +b2"]);
    w.multicast(a, 1, GROUP, "first");
    w.settle();
    check(&w, true);
}

#[test]
fn a_blocked_member_is_refused() {
    let (mut w, [a, b]) = members(["a", "b"]);
    w.hung.insert((b, 1));
    w.attach(b, 2);
    w.join(b, 2, &[GROUP]);
    w.run();
    w.multicast(a, 1, GROUP, "out of turn");
    assert_eq!(w.told(a, 1), ["block strict:g", "#1 for nobody: blocked"]);
    w.hung.clear();
    w.multicast_on(Terms { report: true, ..Terms::default() }, a, 1, "g", "elsewhere it may send");
    w.run();
    assert_eq!(w.told(a, 1)[0], "#2 for nobody: no members");
    w.settle();
    check(&w, true);
}

#[test]
fn a_hung_member_is_evicted_and_holds_up_nobody_for_long() {
    let (mut w, [a, b, c]) = members(["a", "b", "c"]);
    w.hung.insert((b, 1));
    w.crash(c);
    w.start_change(&[a, b], &[a, b]);
    let view = w.agree(2, &[a, b]);
    w.view(&[a, b], &view);
    w.run();
    assert_eq!(w.daemon(b).phase(), "blocking");
    assert_eq!(w.daemon(a).configuration().id, w.daemon(b).configuration().id);
    w.settle();
    assert_eq!(w.daemon(b).configuration(), &view);
    let after = Params::lan().block_timeout;
    assert_eq!(w.node(b).rejected, [(1, Rejection::BlockTimeout { after })]);
    let told = w.told(a, 1);
    assert_eq!(told.last().map(String::as_str), Some("unblock strict:g"), "{told:?}");
    assert!(told.contains(&"strict:g {a1} -b1".to_owned()), "{told:?}");
    check(&w, true);
}

#[test]
fn what_was_sent_before_a_change_is_delivered_before_it_whatever_the_window() {
    let (mut w, [a, b, c]) = cramped();
    for daemon in [a, b, c] {
        w.attach(daemon, 1);
        w.join(daemon, 1, &[GROUP]);
        w.settle();
    }
    w.told(a, 1);
    // c hears nothing, so that nothing becomes stable.
    w.hold(a, c);
    w.hold(b, c);
    let texts: Vec<String> = (0..9).map(|number| format!("message {number}")).collect();
    texts.iter().for_each(|text| w.multicast(b, 1, GROUP, text));
    w.run();
    assert!(w.daemon(b).windows().waiting > 0);
    w.crash(c);
    w.configure(2, &[a, b]);
    let told = w.told(a, 1);
    let messages = told.iter().filter(|line| line.contains("message"));
    assert_eq!(messages.count(), 9);
    assert_eq!(told[told.len() - 2..], ["strict:g {a1 b1} -c1", "unblock strict:g"]);
    w.settle();
    check(&w, true);
}

#[test]
fn what_a_member_sent_before_it_was_gone_is_delivered_before_a_change() {
    let (mut w, [a, b, c]) = cramped();
    for daemon in [a, b] {
        w.attach(daemon, 1);
        w.join(daemon, 1, &[GROUP]);
        w.settle();
    }
    w.told(a, 1);
    w.hold(a, c);
    w.hold(b, c);
    (0..9).for_each(|number| w.multicast(b, 1, GROUP, &format!("message {number}")));
    w.run();
    w.detach(b, 1);
    w.crash(c);
    w.configure(2, &[a, b]);
    let told = w.told(a, 1);
    assert_eq!(told.iter().filter(|line| line.contains("message")).count(), 9, "{told:?}");
    w.settle();
    check(&w, true);
}

#[test]
fn a_change_that_becomes_pending_while_a_daemon_stops_leaves_no_word_behind() {
    let (mut w, [a, b, c]) = cramped();
    w.attach(a, 1);
    w.attach(a, 2);
    w.join(a, 1, &[GROUP]);
    w.settle();
    w.told(a, 1);
    // Nothing becomes stable, so that messages wait, and a join behind them.
    w.hold(a, c);
    (0..6).for_each(|number| w.multicast(a, 1, GROUP, &format!("message {number}")));
    w.join(a, 2, &[GROUP]);
    w.run();
    w.crash(c);
    w.diagram.clear();
    // On the way out of the configuration a casts and places the join; its member has stopped already.
    w.configure(2, &[a, b]);
    w.settle();
    let words: Vec<&String> = w.diagram.iter().filter(|line| line.contains("stopped")).collect();
    assert!(words.is_empty(), "the install has settled it: {words:?}");
    assert_eq!(w.told(a, 2), ["block strict:g", "strict:g {a1 a2} +a1 +a2", "unblock strict:g"]);
    check(&w, true);
}

#[test]
fn members_stay_blocked_while_tables_are_exchanged() {
    let (mut w, [a, b]) = members(["a", "b"]);
    let c = w.start("c");
    w.configure(2, &[c]);
    w.attach(c, 1);
    w.join(c, 1, &[GROUP]);
    w.settle();
    w.told(c, 1);
    w.configure(3, &[a, b, c]);
    w.settle();
    let merged = |others| {
        let view = format!("strict:g {{a1 b1 c1}} {others}");
        ["block strict:g".to_owned(), view, "unblock strict:g".to_owned()]
    };
    assert_eq!(w.told(a, 1), merged("+c1"));
    assert_eq!(w.told(c, 1), merged("+a1 +b1"));
    check(&w, true);
}

#[test]
fn who_leaves_is_a_member_until_the_view_without_it_and_may_change_its_mind() {
    let (mut w, [a, b]) = members(["a", "b"]);
    w.leave(a, 1, &[GROUP]);
    run_unanswered(&mut w);
    w.multicast(b, 1, GROUP, "still with you");
    run_unanswered(&mut w);
    assert_eq!(w.told(a, 1), ["block strict:g", "strict:g b1: still with you"]);
    w.join(a, 1, &[GROUP]);
    w.run();
    assert_eq!(w.told(a, 1), ["unblock strict:g"], "nothing has changed");
    w.leave(a, 1, &[GROUP]);
    w.run();
    assert_eq!(w.told(a, 1), ["block strict:g"]);
    assert_eq!(w.told(b, 1).last().map(String::as_str), Some("unblock strict:g"));
    w.settle();
    check(&w, true);
}

#[test]
fn the_last_member_leaves_at_once() {
    let (mut w, [a]) = members(["a"]);
    w.leave(a, 1, &[GROUP]);
    w.run();
    assert_eq!(w.told(a, 1), [""; 0]);
    assert_eq!(w.daemon(a).groups().count(), 0);
}
