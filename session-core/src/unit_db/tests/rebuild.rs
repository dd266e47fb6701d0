//! What replicas make of a session that they do not know, and of its cursor.

use super::*;
use crate::edition::unopened;
use crate::message::Cursor;

const SESSION: SessionId = SessionId::new(1);

fn running(rebuild: Rebuild) -> Group {
    let mut group = Group::running(&["a", "b", "c"]);
    let change = PolicyChange { rebuild: Some(rebuild), ..PolicyChange::default() };
    group.say("a", ContentMessage::Adjust { change, ticket: 1 });
    group
}

fn cursor() -> Cursor {
    Cursor { responses: 41, requests: 3, context: unopened(Edition::ONLY) }
}

/// Gateway `from` brings the session's cursor.
fn bring(group: &mut Group, from: &str, cursor: Option<Cursor>) -> Vec<Effect> {
    let (session, secret, gateway) = (SESSION, Secret::new(1), gateway(from));
    group.say(from, ContentMessage::Rebuild { session, secret, gateway, cursor })
}

#[test]
fn a_session_goes_on_from_its_cursor_where_the_unit_allows_it() {
    let mut group = running(Rebuild::Allowed);
    assert_eq!(bring(&mut group, "g", Some(cursor())), [Effect::Assigned(SESSION)]);
    let session = group.session(1).clone();
    assert_eq!((session.responses, session.requests, session.context), (41, 3, cursor().context));
    assert!(session.rebuilt && session.secret == Secret::new(1));
}

#[test]
fn a_session_is_lost_where_the_unit_does_not_allow_it() {
    let mut group = running(Rebuild::Never);
    let (session, gateway, reason) = (SESSION, gateway("g"), AttachRefusal::Forgotten);
    assert_eq!(bring(&mut group, "g", Some(cursor())), [Effect::Refused { session, gateway, reason }]);
    assert!(group.replicas[0].1.sessions().is_empty());
}

#[test]
fn a_session_that_somebody_knows_stays_as_it_is() {
    let mut group = running(Rebuild::Allowed);
    group.start(1);
    let before = group.session(1).clone();
    for from in ["g", "h"] {
        assert_eq!(bring(&mut group, from, Some(cursor())), []);
        assert_eq!(*group.session(1), before);
    }
}

#[test]
fn an_ended_session_is_not_brought_back_by_its_cursor() {
    let mut group = running(Rebuild::Allowed);
    bring(&mut group, "g", Some(cursor()));
    let (session, secret) = (SESSION, Secret::new(1));
    group.say("g", ContentMessage::End { session, secret, gateway: None });
    let (gateway, reason) = (gateway("g"), AttachRefusal::Ended);
    assert_eq!(bring(&mut group, "g", Some(cursor())), [Effect::Refused { session, gateway, reason }]);
}

#[test]
fn who_is_alone_and_knows_nothing_is_outweighed_by_those_who_do() {
    let mut whole = running(Rebuild::Allowed);
    whole.start(1);
    let session = whole.session(1).clone();
    whole.propagate(session.primary.unwrap(), 1, session.fence, 50, "after 50");
    let secret = Secret::new(1);
    whole.say("i", ContentMessage::Attach { session: SESSION, secret, gateway: gateway("i") });
    let mut alone = Group::new(&["d"]);
    alone.view(2, &["d"], &[]);
    alone.settle();
    let change = PolicyChange { rebuild: Some(Rebuild::Allowed), ..PolicyChange::default() };
    alone.say("d", ContentMessage::Adjust { change, ticket: 1 });
    bring(&mut alone, "h", Some(cursor()));
    whole.replicas.extend(alone.replicas);
    whole.view(3, &["a", "b", "c", "d"], &["a", "b", "c"]);
    whole.settle();
    assert_eq!(whole.session(1).responses, 50);
    assert!(!whole.session(1).rebuilt);
    assert_eq!(whole.session(1).gateway, gateway("h"), "its client has come there since");
}
