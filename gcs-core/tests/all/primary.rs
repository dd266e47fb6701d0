//! What processes are told of the primary component.

use gcs_core::{Input, Notice, Params};

use crate::checks::check;
use crate::world::World;

/// a and b are the majority of three. A group whose members all stay has no new view when its daemon leaves the primary
/// component, so processes are told of that by itself, before the views of the change.
#[test]
fn processes_are_told_when_their_daemon_comes_into_the_primary_component_and_leaves_it() {
    let mut w = World::new(Params::lan());
    let [a, b, c] = ["a", "b", "c"].map(|name| w.start(name));
    let all = [a, b, c];
    w.configure(1, &all);
    for daemon in all {
        w.attach(daemon, 1);
        w.join(daemon, 1, &["g"]);
    }
    w.run();
    w.attach(c, 2);
    w.join(c, 2, &["h"]);
    w.run();
    w.start_change(&all, &all);
    let whole = w.agree(2, &all).with_primary(true);
    w.view(&all, &whole);
    w.run();
    for daemon in all {
        assert_eq!(w.told(daemon, 1).last().unwrap(), "primary: true");
    }
    assert_eq!(w.told(c, 2), ["h {c2} +c2", "primary: true"]);

    for (counter, part, primary) in [(3, &[a, b][..], true), (3, &[c], false)] {
        w.start_change(part, part);
        let view = w.agree(counter, part).with_primary(primary);
        w.view(part, &view);
    }
    w.run();
    assert_eq!(w.told(a, 1), ["g {a1 b1} -c1"]);
    assert_eq!(w.told(c, 1), ["primary: false", "g {c1} -a1 -b1"]);
    assert_eq!(w.told(c, 2), ["primary: false"]);

    // Whoever attaches is told where it is, unless that is where it begins.
    w.attach(a, 3);
    w.attach(c, 3);
    w.run();
    assert_eq!((w.told(a, 3), w.told(c, 3)), (vec!["primary: true".to_owned()], vec![]));
    w.settle();
    check(&w, false);
}

/// A daemon that may have been left behind: no configuration comes, and processes are told all the same; once.
#[test]
fn a_daemon_that_cannot_know_whether_it_is_primary_says_that_it_is_not() {
    let mut w = World::new(Params::lan());
    let [a, b] = ["a", "b"].map(|name| w.start(name));
    let both = [a, b];
    w.start_change(&both, &both);
    let whole = w.agree(1, &both).with_primary(true);
    w.view(&both, &whole);
    w.run();
    w.attach(b, 1);
    w.join(b, 1, &["g"]);
    w.run();
    assert_eq!(w.told(b, 1), ["primary: true", "g {b1} +b1"]);
    w.input(b, Input::Membership(Notice::Secondary));
    w.input(b, Input::Membership(Notice::Secondary));
    assert_eq!(w.told(b, 1), ["primary: false"]);
    w.start_change(&both, &both);
    let again = w.agree(2, &both).with_primary(true);
    w.view(&both, &again);
    w.run();
    assert_eq!(w.told(b, 1), ["primary: true"]);
    w.settle();
    check(&w, false);
}
