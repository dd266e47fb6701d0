//! State transfer: members that come from different views bring each other up to date. And those who only watch.

use gcs_core::Params;
use model::DaemonId;

use crate::checks::check;
use crate::world::World;

const GROUP: &str = "state:g";

/// Daemons in one configuration, each with a process attached.
fn daemons<const N: usize>(names: [&str; N]) -> (World, [DaemonId; N]) {
    let mut w = World::new(Params::lan());
    let d = names.map(|name| w.start(name));
    w.configure(1, &d);
    d.iter().for_each(|daemon| w.attach(*daemon, 1));
    (w, d)
}

fn join(w: &mut World, daemon: DaemonId) {
    w.join(daemon, 1, &[GROUP]);
    w.settle();
}

#[test]
fn a_newcomer_is_told_the_state_by_one_member() {
    let (mut w, [a, b, c]) = daemons(["a", "b", "c"]);
    join(&mut w, a);
    assert_eq!(w.told(a, 1), ["state:g {a1} +a1"], "the first member has the state");
    join(&mut w, b);
    assert_eq!(w.told(a, 1), ["state:g {a1 b1} +b1", "state:g: tell your state"]);
    w.state(a, 1, GROUP, "one", false);
    w.multicast(b, 1, GROUP, "meanwhile");
    w.state(a, 1, GROUP, "two", true);
    w.settle();
    let told = w.told(b, 1);
    assert_eq!(told[0], "state:g {a1 b1} +a1 +b1");
    let state: Vec<&String> = told.iter().filter(|line| line.contains("state of")).collect();
    assert_eq!(state, ["state:g state of a1: one", "state:g state of a1: two, the end"]);
    for told in [told, w.told(a, 1)] {
        assert!(told.contains(&"state:g b1: meanwhile".to_owned()));
        assert!(told.contains(&"state:g: up to date".to_owned()));
    }
    join(&mut w, c);
    w.state(a, 1, GROUP, "three", true);
    w.settle();
    assert!(w.told(c, 1).contains(&"state:g state of a1: three, the end".to_owned()));
    assert!(!w.told(b, 1).iter().any(|line| line.contains("state of")), "b is up to date");
    check(&w, true);
}

#[test]
fn another_member_tells_when_the_first_one_dies() {
    let (mut w, [a, b, c]) = daemons(["a", "b", "c"]);
    join(&mut w, a);
    join(&mut w, b);
    w.state(a, 1, GROUP, "all", true);
    w.settle();
    join(&mut w, c);
    w.state(a, 1, GROUP, "one", false);
    w.settle();
    w.told(b, 1);
    w.told(c, 1);
    w.crash(a);
    w.configure(2, &[b, c]);
    assert_eq!(w.told(b, 1), ["state:g {b1 c1} -a1", "state:g: tell your state"]);
    w.state(b, 1, GROUP, "anew", true);
    w.settle();
    let expected = ["state:g {b1 c1} -a1", "state:g state of b1: anew, the end", "state:g: up to date"];
    assert_eq!(w.told(c, 1), expected);
    check(&w, true);
}

#[test]
fn both_sides_of_a_healed_partition_tell_their_state() {
    let (mut w, [a, b, c]) = daemons(["a", "b", "c"]);
    for daemon in [a, b, c] {
        join(&mut w, daemon);
        w.state(a, 1, GROUP, "start", true);
        w.settle();
    }
    w.configure(2, &[a, b]);
    w.configure(3, &[c]);
    w.settle();
    [a, b, c].iter().for_each(|daemon| drop(w.told(*daemon, 1)));
    w.configure(4, &[a, b, c]);
    w.settle();
    let wanted = "state:g: tell your state".to_owned();
    let asked = [a, b, c].map(|daemon| w.told(daemon, 1).contains(&wanted));
    assert_eq!(asked, [true, false, true]);
    w.state(c, 1, GROUP, "ours", true);
    w.settle();
    assert_eq!(w.told(a, 1), ["state:g state of c1: ours, the end"]);
    assert_eq!(w.told(b, 1), ["state:g state of c1: ours, the end"]);
    w.state(a, 1, GROUP, "theirs", true);
    w.state(b, 1, GROUP, "nobody asked", true);
    w.settle();
    assert_eq!(w.told(b, 1), ["state:g: up to date"]);
    assert_eq!(w.told(c, 1), ["state:g state of a1: theirs, the end", "state:g: up to date"]);
    check(&w, true);
}

#[test]
fn a_change_of_configuration_that_spares_the_group_spares_the_transfer() {
    let (mut w, [a, b, c]) = daemons(["a", "b", "c"]);
    join(&mut w, a);
    join(&mut w, b);
    w.state(a, 1, GROUP, "one", false);
    w.crash(c);
    w.configure(2, &[a, b]);
    w.state(a, 1, GROUP, "two", true);
    w.settle();
    let state = w.told(b, 1).into_iter().filter(|line| line.contains("state of")).count();
    assert_eq!(state, 2);
    assert_eq!(w.told(a, 1).last().unwrap(), "state:g: up to date");
}

#[test]
fn who_watches_sees_what_there_is_and_what_comes() {
    let (mut w, [a, b]) = daemons(["a", "b"]);
    w.join(a, 1, &["film/1", "other"]);
    w.settle();
    w.watch(b, 7, "film/");
    assert_eq!(w.told(b, 7), ["<1, {a,b}, [1,1]>", "film/1 {a1}"]);
    w.join(b, 1, &["film/1", "other"]);
    w.join(b, 1, &["film/2"]);
    w.settle();
    assert_eq!(w.told(b, 7), ["film/1 {a1 b1} +b1", "film/2 {b1} +b1"]);
    w.crash(a);
    w.configure(2, &[b]);
    assert_eq!(w.told(b, 7), ["<2, {b}, [2]>", "film/1 {b1} -a1"]);
    w.leave(b, 1, &["film/1"]);
    w.settle();
    assert_eq!(w.told(b, 7), ["film/1 {} -b1"], "the last view has no members");
    w.detach(b, 7);
    w.leave(b, 1, &["film/2"]);
    w.settle();
    assert_eq!(w.told(b, 7), [""; 0]);
}
