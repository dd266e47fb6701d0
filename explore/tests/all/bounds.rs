//! Everything within a bound is sound. `docs/testing.md` has the greater bounds, which take longer.

use explore::daemons::{Bound, Daemons};
use explore::search::{Outcome, Tally, search};

fn sound(bound: Bound) -> Tally {
    match search(Daemons::new(bound), 1_000_000, |_| ()) {
        Outcome::Sound(tally) => tally,
        Outcome::Found(_, finding) => panic!("{finding}"),
        Outcome::Unfinished(tally) => panic!("more than {} states", tally.states),
    }
}

#[test]
fn two_messages() {
    let tally = sound(Bound { messages: 2, ..Bound::default() });
    assert!(tally.ends > 10 && tally.paths > 1e5, "{tally:?}");
}

#[test]
fn a_message_and_a_crash() {
    let tally = sound(Bound { messages: 1, crashes: 1, ..Bound::default() });
    assert!(tally.ends > 100 && tally.paths > 1e6, "{tally:?}");
}

#[test]
fn a_message_and_a_partition() {
    let tally = sound(Bound { messages: 1, partitions: 1, ..Bound::default() });
    assert!(tally.ends > 100 && tally.paths > 1e8, "{tally:?}");
}

#[test]
fn a_change_that_need_not_be() {
    let tally = sound(Bound { detours: 1, ..Bound::default() });
    assert!(tally.paths > 1e12, "{tally:?}");
}

#[test]
fn a_message_and_timers() {
    let tally = sound(Bound { messages: 1, ticks: 2, ..Bound::default() });
    assert!(tally.ends > 10, "{tally:?}");
}
