//! Units that come and go at a server.

use super::*;

#[test]
fn the_sessions_of_a_unit_that_goes_away_go_to_others() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    let nothing = Counter { units: Vec::new(), ..counter() };
    let seen = cluster.tell("a", Input::Content { ticket: 1, service: nothing });
    assert_eq!(seen, ["a: None", "b: Primary", "b: claim 0", "a: order 1: Ok(\"held\")"]);
    assert_eq!(cluster.status("b").responses, 2, "what it said when it left");
    let groups_of_a = cluster.groups.iter().filter(|(_, members)| members.contains("a"));
    assert_eq!(groups_of_a.map(|(group, _)| group.as_str()).collect::<Vec<_>>(), ["service"]);
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
