//! What replicas make of gateways that hear nothing from a primary.

use super::*;

const SESSION: SessionId = SessionId::new(1);

/// Three replicas and a session.
fn playing() -> Group {
    playing_at(&["a", "b", "c"])
}

fn playing_at(names: &[&'static str]) -> Group {
    let mut group = Group::running(names);
    group.start(1);
    group
}

/// The session's gateway has not heard from the primary with this fence, or from nobody above it.
fn complain(group: &mut Group, fence: Fence) -> Vec<Effect> {
    let (session, secret) = (SESSION, Secret::new(1));
    group.say("g", ContentMessage::Stalled { session, secret, gateway: gateway("g"), fence })
}

#[test]
fn a_session_is_moved_to_its_backup_and_the_silent_one_is_the_last_choice() {
    let mut group = playing();
    let before = group.session(1).clone();
    let (from, backup) = (before.primary, before.backups[0]);
    let moved = Effect::Stalled { session: SESSION, from, to: Some(backup) };
    assert_eq!(complain(&mut group, before.fence), [Effect::Assigned(SESSION), moved]);
    let after = group.session(1).clone();
    assert!(after.fence > before.fence);
    assert_eq!((after.primary, after.stalls.moves), (Some(backup), 1));
    assert!(!after.backups.contains(&from.unwrap()), "there is somebody else: {:?}", after.backups);
    assert_eq!(after.replaced, Some(Replaced { server: from.unwrap(), fence: before.fence }));
}

#[test]
fn a_primary_that_its_gateway_has_never_heard_of_is_missed_twice() {
    let mut group = playing();
    let old = group.session(1).fence;
    complain(&mut group, old);
    let fence = group.session(1).fence;
    assert_eq!(complain(&mut group, old), [Effect::Missed(SESSION)], "it may be on its way");
    assert_eq!(group.session(1).fence, fence);
    complain(&mut group, old);
    assert!(group.session(1).fence > fence);
}

#[test]
fn without_progress_a_session_is_moved_twice_and_then_left_where_it_is() {
    let mut group = playing();
    for moves in [1, 2, 2, 2] {
        let fence = group.session(1).fence;
        complain(&mut group, fence);
        assert_eq!(group.session(1).stalls.moves, moves);
    }
    let Session { primary, fence, .. } = group.session(1).clone();
    let stays = Effect::Stalled { session: SESSION, from: primary, to: None };
    assert_eq!(complain(&mut group, fence), [Effect::Missed(SESSION), stays]);
    // It begins somewhere, which is no progress; then it goes on.
    group.propagate(primary.unwrap(), 1, fence, 1, "1");
    assert_eq!(complain(&mut group, fence).len(), 2);
    assert_eq!(group.session(1).primary, primary);
    group.propagate(primary.unwrap(), 1, fence, 2, "2");
    complain(&mut group, fence);
    assert_ne!(group.session(1).primary, primary);
    assert_eq!(group.session(1).stalls.moves, 3);
}

#[test]
fn a_session_whose_servers_all_hung_is_left_alone_when_the_last_one_is_lost_until_an_operator_moves_it() {
    let mut group = playing();
    for _ in 0..2 {
        let fence = group.session(1).fence;
        complain(&mut group, fence);
    }
    let lost = name(group.session(1).primary.unwrap());
    let rest: Vec<&str> = ["a", "b", "c"].into_iter().filter(|it| *it != lost).collect();
    group.view(2, &rest, &rest);
    group.agree();
    assert_eq!((group.session(1).primary, group.session(1).backups.len()), (None, 0));
    let to = Some(server(rest[0]));
    group.say(rest[1], ContentMessage::Move { session: SESSION, to, ticket: 1 });
    assert_eq!(group.session(1).primary, to);
    assert!(!group.session(1).is_given_up());
}

#[test]
fn of_two_servers_the_one_that_is_left_is_given_the_session_that_was_moved_back_and_nobody_after_it() {
    let mut group = playing_at(&["a", "b"]);
    let first = group.session(1).primary.unwrap();
    for _ in 0..2 {
        let fence = group.session(1).fence;
        complain(&mut group, fence);
    }
    assert_eq!((group.session(1).primary, group.session(1).stalls.moves), (Some(first), 2));
    // It hung, and is gone: the other one may have waited for it.
    let left = if name(first) == "a" { "b" } else { "a" };
    group.view(2, &[left], &[left]);
    group.agree();
    assert_eq!(group.session(1).primary, Some(server(left)));
    assert!(group.session(1).is_given_up(), "should that be lost too");
}

#[test]
fn who_was_replaced_is_not_asked_again_while_there_is_somebody_else() {
    for backups in [0, 1] {
        let mut group = playing();
        let change = PolicyChange { backups: Some(backups), ..PolicyChange::default() };
        group.say("a", ContentMessage::Adjust { change, ticket: 1 });
        let mut primaries = BTreeSet::from([group.session(1).primary]);
        for _ in 0..2 {
            let fence = group.session(1).fence;
            complain(&mut group, fence);
            primaries.insert(group.session(1).primary);
        }
        assert_eq!(primaries.len(), 3, "with {backups} backups");
    }
}

#[test]
fn nobody_but_the_sessions_gateway_is_heard() {
    let mut group = playing();
    let (session, fence) = (SESSION, group.session(1).fence);
    for (secret, from, reason) in
        [(Secret::new(2), "g", AttachRefusal::WrongSecret), (Secret::new(1), "h", AttachRefusal::Elsewhere)]
    {
        let gateway = gateway(from);
        let complaint = ContentMessage::Stalled { session, secret, gateway: gateway.clone(), fence };
        assert_eq!(group.say(from, complaint), [Effect::Refused { session, gateway, reason }]);
    }
    assert_eq!(group.session(1).fence, fence);
}

#[test]
fn who_is_alone_goes_on() {
    let mut group = Group::running(&["a"]);
    group.start(1);
    let Session { primary, fence, .. } = group.session(1).clone();
    complain(&mut group, fence);
    assert_eq!((group.session(1).primary, group.session(1).fence), (primary, fence));
}
