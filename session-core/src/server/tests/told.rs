//! What operators are told of sessions, beside what is in the unit database.

use super::*;
use crate::unit_db::{Happening, Intent};

#[test]
fn operators_are_told_what_only_the_primary_knows() {
    let mut cluster = Cluster::playing();
    let mut serve = |stream, credit| {
        let (fence, resume) = (cluster.fence, Resume::Beginning);
        let message =
            ToServer::Serve { session: SESSION, fence, stream, resume, credit, repeats_from: u64::MAX };
        let out = cluster.handle("a", Input::Gateway(gateway("g"), message));
        let told = out.into_iter().filter_map(|it| {
            let Output::Happened { session: SESSION, happening, .. } = it else { return None };
            Some(happening)
        });
        told.collect::<Vec<_>>()
    };
    let served = Happening::Served { responses: 0, attached: false };
    assert_eq!(serve(1, None), [served]);
    assert_eq!(serve(2, Some(Credit::responses(2))), [Happening::ClientCame]);
    assert_eq!(serve(3, Some(Credit::NONE)), [], "it has no room, and is there");
    assert_eq!(serve(4, None), [Happening::ClientLeft]);
    assert_eq!(cluster.status("a").client, Some(false));
    assert_eq!(cluster.status("b").client, None, "a backup does not know");
    assert_eq!(cluster.status("b").primary, Some("a".parse().unwrap()));
}

#[test]
fn a_cordoned_server_says_so_in_the_groups_of_its_units_and_again_when_it_is_attached_anew() {
    let mut cluster = Cluster::playing();
    let intents = |cluster: &Cluster| {
        let database = |name: &str| cluster.servers[name].databases().next().unwrap().1.clone();
        ["a", "b"].map(|name| database(name).intent(process("a")))
    };
    assert_eq!(cluster.tell("a", Input::Cordon { ticket: 7, on: true }), ["a: order 7: Ok(\"done\")"]);
    assert_eq!(intents(&cluster), [Intent::Cordoned; 2]);
    cluster.tell("a", Input::Detached);
    for group in cluster.groups.keys().cloned().collect::<Vec<_>>() {
        cluster.change(group, "a", false);
    }
    cluster.tell("a", Input::Attached(process("a")));
    assert_eq!(intents(&cluster), [Intent::Cordoned; 2], "it is told to the others in the exchange");
    cluster.tell("a", Input::Cordon { ticket: 8, on: false });
    assert_eq!(intents(&cluster), [Intent::Open; 2]);
    let dismissed = cluster.tell("b", Input::Dismiss { ticket: 9, unit: unit(), session: SESSION });
    assert!(dismissed.contains(&"b: order 9: Ok(\"done\")".into()), "{dismissed:?}");
    cluster.tell("a", Input::Drain);
    let refused = cluster.tell("a", Input::Cordon { ticket: 10, on: true });
    assert_eq!(refused, ["a: order 10: Err(Unsettled)"]);
}
