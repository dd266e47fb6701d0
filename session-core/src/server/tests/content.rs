//! Units that come and go at a server.

use model::Digest;

use super::*;
use crate::unit_db::Intent;

const SECOND: Edition = Edition { number: 2, digest: Digest::EMPTY };

/// [`SESSION`] is on the second edition.
fn playing_the_second_edition() -> Cluster {
    Cluster::playing_with(&Counter { editions: Vec::from([Edition::ONLY, SECOND]), ..counter() })
}

/// A server holds the first edition only.
fn without_the_second(cluster: &mut Cluster, name: &'static str, ticket: u64) -> Vec<String> {
    cluster.tell(name, Input::Content { ticket, service: Counter { step: 10, ..counter() } })
}

/// `a` holds the unit no more, and what is left of its groups.
fn without_the_unit(cluster: &mut Cluster) -> Vec<String> {
    let nothing = Counter { units: Vec::new(), step: 10, ..counter() };
    cluster.tell("a", Input::Content { ticket: 1, service: nothing })
}

fn groups_of_a(cluster: &Cluster) -> Vec<&str> {
    let groups = cluster.groups.iter().filter(|(_, members)| members.contains("a"));
    groups.map(|(group, _)| group.as_str()).collect()
}

#[test]
fn the_sessions_of_a_unit_that_goes_away_go_to_others_and_are_served_until_those_have_them() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    let seen = without_the_unit(&mut cluster);
    assert_eq!(seen, ["b: Primary", "b: claim 0", "a: order 1: Ok(\"held\")"]);
    assert_eq!(cluster.status("b").responses, 2, "what it said when it left");
    assert_eq!(cluster.credit("a", 1, 3), ["a: response 3 is 3"], "with the content of before");
    assert_eq!(cluster.request(1, "7"), ["a: applied 1"]);
    assert_eq!(cluster.fenced("a"), ["a: None"]);
    assert_eq!(groups_of_a(&cluster), ["service"]);
}

#[test]
fn a_unit_that_went_away_is_not_served_for_ever_to_those_for_whom_nobody_comes() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    without_the_unit(&mut cluster);
    assert!(!cluster.wait(Duration::from_millis(9_900)).contains(&"a: None".into()));
    assert_eq!(groups_of_a(&cluster).len(), 2);
    let seen = cluster.wait(Duration::from_millis(200));
    assert!(
        seen.starts_with(&["a: suspended".into(), "a: None".into()]),
        "its gateway waits for others: {seen:?}"
    );
    assert_eq!(groups_of_a(&cluster), ["service"]);
}

#[test]
fn a_unit_that_went_away_is_none_that_operators_can_order_anything_for() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    without_the_unit(&mut cluster);
    let change = PolicyChange { backups: Some(0), ..PolicyChange::default() };
    let refused = cluster.tell("a", Input::Adjust { ticket: 2, unit: unit(), change });
    assert_eq!(refused, ["a: order 2: Err(UnknownUnit)"]);
    assert_eq!(cluster.tell("a", Input::Cordon { ticket: 3, on: true }), ["a: order 3: Ok(\"done\")"]);
}

#[test]
fn what_is_said_in_the_group_of_a_unit_before_its_server_is_back_in_it_does_not_count() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    let nothing = Counter { units: Vec::new(), ..counter() };
    let leaves = cluster.handle("a", Input::Content { ticket: 1, service: nothing });
    let joins = cluster.handle("a", Input::Content { ticket: 2, service: counter() });
    let database = |cluster: &Cluster| cluster.servers["a"].databases().next().unwrap().1.clone();
    // For the group it is still a member, the only one left; what it said last is under way.
    cluster.kill("b");
    cluster.perform("a", leaves);
    assert_eq!(database(&cluster).members(), &BTreeSet::new());
    cluster.perform("a", joins);
    cluster.run();
    assert_eq!(database(&cluster).members(), &BTreeSet::from([process("a")]));
    assert_eq!(database(&cluster).intent(process("a")), Intent::Open);
}

#[test]
fn a_unit_that_goes_away_where_nobody_is_served_is_left_at_once() {
    let mut cluster = Cluster::playing();
    let seen = without_the_unit(&mut cluster);
    assert_eq!(seen, ["a: None", "b: Primary", "b: claim 0", "a: order 1: Ok(\"held\")"]);
    assert_eq!(groups_of_a(&cluster), ["service"]);
}

#[test]
fn a_unit_that_appears_is_joined_and_told() {
    let mut cluster = Cluster::playing();
    let both = Counter { units: Vec::from([unit(), UnitId::new("v").unwrap()]), ..counter() };
    cluster.tell("b", Input::Content { ticket: 2, service: both });
    let message = ServiceMessage::List { gateway: gateway("g"), query: 2 };
    cluster.multicasts.push_back((process("g"), Purpose::Service.group(), encode(&message)));
    assert_eq!(cluster.run(), ["a: answer 2: 2 units"]);
    assert_eq!(cluster.servers["b"].databases().count(), 2);
}

#[test]
fn sessions_on_an_edition_that_goes_away_are_served_until_others_have_them() {
    let mut cluster = playing_the_second_edition();
    cluster.grant("a", 1, Resume::Beginning, 2);
    let seen = without_the_second(&mut cluster, "a", 1);
    assert_eq!(seen, ["a: order 1: Ok(\"held\")", "b: Primary", "b: claim 0"]);
    assert_eq!(cluster.servers["a"].editions(&unit()).collect::<Vec<_>>(), [Edition::ONLY]);
    assert_eq!(cluster.status("b").responses, 2, "what it said when the edition went");
    assert_eq!(cluster.credit("a", 1, 3), ["a: response 3 is 3"], "with the content of before");
    assert_eq!(cluster.request(1, "7"), ["a: applied 1"]);
    let here = Cursor {
        responses: 3,
        requests: 1,
        context: encode_context(Head::new(SECOND), &(7_u32, None::<Time>)),
    };
    let again = cluster.grant("a", 2, Resume::After(here), 1);
    assert_eq!(
        again,
        ["a: start 2 after 3/1", "a: response 4 is 8"],
        "the client is back before others are there"
    );
    assert_eq!(cluster.fenced("a"), ["a: None"]);
    assert_eq!(groups_of_a(&cluster), ["content/u", "service"]);
}

#[test]
fn an_edition_that_went_away_is_not_served_for_ever_to_those_for_whom_nobody_comes() {
    let mut cluster = playing_the_second_edition();
    cluster.grant("a", 1, Resume::Beginning, 2);
    without_the_second(&mut cluster, "a", 1);
    assert!(!cluster.wait(Duration::from_millis(9_900)).contains(&"a: None".into()));
    let seen = cluster.wait(Duration::from_millis(200));
    assert!(seen.starts_with(&["a: suspended".into(), "a: None".into()]), "{seen:?}");
    assert_eq!(groups_of_a(&cluster), ["content/u", "service"]);
}

#[test]
fn sessions_on_an_edition_that_nobody_holds_any_more_are_given_up_and_their_gateway_is_told() {
    let mut cluster = playing_the_second_edition();
    cluster.grant("a", 1, Resume::Beginning, 2);
    without_the_second(&mut cluster, "b", 1);
    let seen = without_the_second(&mut cluster, "a", 2);
    assert_eq!(seen, ["a: suspended", "a: None", "a: order 2: Ok(\"held\")"]);
    assert_eq!((cluster.status("a").primary, cluster.status("a").responses), (None, 2));
    let both = Counter { editions: Vec::from([Edition::ONLY, SECOND]), ..counter() };
    let seen = cluster.tell("b", Input::Content { ticket: 3, service: both });
    assert_eq!(seen, ["b: Primary", "b: order 3: Ok(\"held\")", "b: claim 0"], "it waited for who has it");
}

#[test]
fn an_edition_that_goes_away_where_nobody_is_served_is_left_at_once() {
    let mut cluster = playing_the_second_edition();
    let seen = without_the_second(&mut cluster, "a", 1);
    assert_eq!(seen, ["a: None", "a: order 1: Ok(\"held\")", "b: Primary", "b: claim 0"]);
}
