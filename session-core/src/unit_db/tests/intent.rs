//! Servers that are cordoned, and what becomes of sessions meanwhile.

use super::*;

fn cordon(group: &mut Group, server: &str, intent: Intent) {
    let effects = group.say(server, ContentMessage::Intend { intent, ticket: 1 });
    assert!(matches!(effects[..], [Effect::Ordered { ticket: 1, outcome: Ok(Ordered::Intended), .. }]));
}

fn parts_of(group: &Group, name: &str) -> (usize, usize) {
    let sessions = || group.replicas[0].1.sessions().values();
    let primaries = sessions().filter(|it| it.primary == Some(server(name))).count();
    (primaries, sessions().filter(|it| it.backups.contains(&server(name))).count())
}

#[test]
fn a_cordoned_server_keeps_what_it_has_and_is_given_nothing_more() {
    let mut group = Group::running(&["a", "b", "c"]);
    (0..6).for_each(|id| drop(group.start(id)));
    let before = parts_of(&group, "a");
    assert_eq!(before.0, 2);
    cordon(&mut group, "a", Intent::Cordoned);
    (6..20).for_each(|id| drop(group.start(id)));
    assert_eq!(parts_of(&group, "a"), before);

    // c goes: what it served goes to its backups, a among them, who have the requests; new backups are elsewhere.
    let heir_of = |it: &Session| it.primary == Some(server("c")) && it.backups.first() == Some(&server("a"));
    let inherited = group.replicas[0].1.sessions().values().filter(|it| heir_of(it)).count();
    group.view(2, &["a", "b"], &["a", "b"]);
    assert_eq!(parts_of(&group, "a").0, before.0 + inherited);
    cordon(&mut group, "a", Intent::Open);
    (20..24).for_each(|id| drop(group.start(id)));
    assert!(parts_of(&group, "a").0 > before.0 + inherited);
}

#[test]
fn a_cordoned_server_gets_no_session_for_balance_and_newcomers_are_told() {
    let mut group = Group::running(&["a", "b"]);
    (0..9).for_each(|id| drop(group.start(id)));
    cordon(&mut group, "a", Intent::Cordoned);
    let mut side = Group::running(&["c"]);
    cordon(&mut side, "c", Intent::Cordoned);
    group.replicas.extend(side.replicas);
    group.view(5, &["a", "b", "c"], &["a", "b"]);
    group.settle();
    assert_eq!(parts_of(&group, "c").0, 0, "it was cordoned before it came");
    for (_, replica) in &group.replicas {
        let intents = ["a", "b", "c"].map(|name| replica.intent(server(name)));
        assert_eq!(intents, [Intent::Cordoned, Intent::Open, Intent::Cordoned]);
    }
    let (session, before) = (SessionId::new(0), group.session(0).primary);
    group.say("a", ContentMessage::Move { session, to: None, ticket: 2 });
    let expected = if before == Some(server("b")) { ["a", "c"].map(server) } else { ["b", "b"].map(server) };
    assert!(
        group.session(0).primary.is_some_and(|it| expected.contains(&it)),
        "away, and open if there is one"
    );
    group.replicas.push(("d", database("d")));
    group.view(6, &["a", "b", "c", "d"], &["a", "b", "c"]);
    group.settle();
    assert!(parts_of(&group, "d").0 > 0 && parts_of(&group, "c").0 <= 1, "who is open takes load");
}

#[test]
fn where_all_are_cordoned_sessions_are_served_nevertheless() {
    let mut group = Group::running(&["a", "b"]);
    cordon(&mut group, "a", Intent::Cordoned);
    cordon(&mut group, "b", Intent::Cordoned);
    group.start(1);
    assert!(group.session(1).primary.is_some() && group.session(1).backups.len() == 1);
}

#[test]
fn what_a_server_said_elsewhere_counts_for_those_who_missed_it() {
    let mut group = Group::running(&["a", "b"]);
    cordon(&mut group, "a", Intent::Cordoned);
    let sides = [("a", &["a"][..]), ("b", &["b", "d"][..])];
    let mut sides = sides.map(|(name, members)| {
        let mut side = Group::new(members);
        side.replicas[0].1 = group.replicas[usize::from(name == "b")].1.clone();
        side.view(2, members, &[name]);
        side
    });
    cordon(&mut sides[0], "a", Intent::Open);
    // On the other side nobody is told anything before they meet.
    let replicas = sides.into_iter().flat_map(|side| side.replicas).collect();
    let mut both = Group { replicas, order: Vec::new(), told: 0 };
    both.view(9, &["a", "b"], &[]);
    both.settle();
    assert!(both.replicas.iter().all(|(_, replica)| replica.intent(server("a")) == Intent::Open));
}
