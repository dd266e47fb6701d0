//! What operators are told of sessions: what happened, to whom, and why.

use super::*;

/// Of two idle servers, the tie for this session falls to `a`.
const ID: u128 = 4;

fn name(server: &str) -> Option<Name> {
    Some(server.parse().unwrap())
}

/// What a replica has to tell of [`ID`].
fn news(group: &mut Group, replica: usize) -> Vec<Happening> {
    let news = group.replicas[replica].1.news();
    news.into_iter().filter(|(id, _)| *id == SessionId::new(ID)).map(|(_, it)| it).collect()
}

/// [`ID`] at `a` and `b`, of which nothing is left to tell.
fn playing(servers: &[&'static str]) -> Group {
    let mut group = Group::running(servers);
    group.start(ID);
    assert_eq!(group.session(ID).primary, Some(server("a")), "where the tie falls");
    assert_eq!(group.session(ID).backups, [server("b")]);
    group.replicas.iter_mut().for_each(|(_, replica)| drop(replica.news()));
    group
}

/// Who serves instead of whom, and why.
fn appointed(news: &[Happening]) -> Option<(Option<Name>, Option<Name>, Why)> {
    news.iter().find_map(|it| {
        let Happening::Appointed { from, to, why, .. } = it else { return None };
        Some((*from, *to, *why))
    })
}

#[test]
fn a_session_is_opened_served_and_closed() {
    let mut group = Group::running(&["a", "b"]);
    group.start(ID);
    let fence = group.session(ID).fence;
    let expected = [
        Happening::Opened { gateway: "g".parse().unwrap() },
        Happening::Appointed { from: None, to: name("a"), fence, why: Why::Vacant },
        Happening::Backed { backups: name("b").into_iter().collect() },
    ];
    assert_eq!(news(&mut group, 0), expected);
    assert_eq!(news(&mut group, 1), expected, "all tell the same");
    assert_eq!(news(&mut group, 0), [], "once");
    group.start(ID);
    assert_eq!(news(&mut group, 0), [], "a repetition is no news");
    let (session, secret) = (SessionId::new(ID), Secret::new(ID));
    group.say("g", ContentMessage::Attach { session, secret, gateway: gateway("h") });
    let attached = Happening::Attached { from: "g".parse().unwrap(), to: "h".parse().unwrap() };
    assert_eq!(news(&mut group, 0), [attached]);
    group.say("g", ContentMessage::End { session, secret, gateway: None });
    assert_eq!(news(&mut group, 0), [Happening::Closed]);
}

#[test]
fn a_primary_is_replaced_for_a_reason() {
    let mut group = playing(&["a", "b"]);
    group.view(2, &["b"], &["b"]);
    let lost = news(&mut group, 0);
    assert_eq!(appointed(&lost), Some((name("a"), name("b"), Why::Lost)));
    assert_eq!(lost.last(), Some(&Happening::Backed { backups: Vec::new() }));

    let mut group = playing(&["a", "b"]);
    group.say("a", ContentMessage::Intend { intent: Intent::Leaving, ticket: 0 });
    group.view(2, &["b"], &["b"]);
    assert_eq!(appointed(&news(&mut group, 0)), Some((name("a"), name("b"), Why::Drained)));

    let mut group = playing(&["a", "b"]);
    let (session, secret) = (SessionId::new(ID), Secret::new(ID));
    group.say("a", ContentMessage::Move { session, to: None, ticket: 1 });
    assert_eq!(appointed(&news(&mut group, 0)), Some((name("a"), name("b"), Why::Ordered)));
    let fence = group.session(ID).fence;
    group.say("g", ContentMessage::Stalled { session, secret, gateway: gateway("g"), fence });
    assert_eq!(appointed(&news(&mut group, 0)), Some((name("b"), name("a"), Why::Stalled)));

    group.replicas[1].1.news();
    let editions = BTreeSet::new();
    group.say("a", ContentMessage::Holds { editions, ticket: 2 });
    assert_eq!(appointed(&news(&mut group, 1)), Some((name("a"), name("b"), Why::Unable)));
}

#[test]
fn a_newcomer_learns_of_sessions_and_gets_some_for_balance() {
    let mut group = playing(&["a", "b"]);
    (5..9).for_each(|id| drop(group.start(id)));
    group.replicas.iter_mut().for_each(|(_, replica)| drop(replica.news()));
    group.replicas.push(("c", database("c")));
    group.view(2, &["a", "b", "c"], &["a", "b"]);
    group.settle();
    assert!(news(&mut group, 2).contains(&Happening::Learned));
    let moves =
        group.replicas[1].1.sessions().clone().into_iter().filter(|(_, it)| it.primary == Some(server("c")));
    let moved: Vec<_> = moves.map(|(id, _)| id).collect();
    assert!(!moved.is_empty());
    let told = group.replicas[1].1.news();
    for id in moved {
        let of_it: Vec<_> = told.iter().filter(|(it, _)| *it == id).map(|(_, it)| it.clone()).collect();
        assert!(
            matches!(appointed(&of_it), Some((Some(_), to, Why::Balance)) if to == name("c")),
            "{of_it:?}"
        );
    }
}

#[test]
fn sides_that_meet_tell_of_the_merge_and_of_what_ended_elsewhere() {
    let whole = playing(&["a", "b"]);
    let mut sides = Vec::new();
    for (place, name) in ["a", "b"].into_iter().enumerate() {
        let mut side = Group::new(&[name]);
        side.replicas[0].1 = whole.replicas[place].1.clone();
        side.view(2 + place as u64, &[name], &[name]);
        side.replicas[0].1.news();
        sides.push(side);
    }
    let (first, fence) = (server("b"), sides[1].session(ID).fence);
    sides[1].propagate(first, ID, fence, 1, "more");
    let mut both = Group { replicas: Vec::new(), order: Vec::new(), told: 0 };
    both.replicas.extend(sides.into_iter().flat_map(|side| side.replicas));
    let ended = both.replicas.clone();
    both.view(9, &["a", "b"], &[]);
    both.settle();
    assert_eq!(appointed(&news(&mut both, 0)), Some((name("a"), name("b"), Why::Merged)));
    assert_eq!(appointed(&news(&mut both, 1)), None, "b serves as before");

    let mut both = Group { replicas: ended, order: Vec::new(), told: 0 };
    let expire = ContentMessage::Expire { session: SessionId::new(ID), gateway: gateway("g") };
    both.replicas[1].1.on_message(server("g"), expire, &Plain);
    both.view(9, &["a", "b"], &[]);
    both.settle();
    // What expired on one side is over on the other too, unless more was known there.
    assert_eq!(news(&mut both, 0), [Happening::Expired]);
}

#[test]
fn an_operator_closes_a_session_without_its_secret() {
    let mut group = playing(&["a", "b"]);
    let session = SessionId::new(ID);
    let dismiss = ContentMessage::Dismiss { session, ticket: 7 };
    let effects = group.say("b", dismiss.clone());
    assert!(matches!(effects[..], [Effect::Ended { .. }, Effect::Ordered { ticket: 7, outcome: Ok(_), .. }]));
    assert_eq!(news(&mut group, 0), [Happening::Dismissed]);
    let outcome = Err(OrderRefusal::UnknownSession);
    assert_eq!(group.say("b", dismiss), [Effect::Ordered { by: server("b"), ticket: 7, outcome }]);
    assert!(matches!(group.start(ID)[..], [Effect::Refused { reason: AttachRefusal::Ended, .. }]));
}
