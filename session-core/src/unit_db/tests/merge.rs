//! Sessions that both sides of a partition served, and what becomes of their contexts when the sides meet.

use super::*;

/// A service whose contexts are sets of letters.
struct Letters;

impl Contexts for Letters {
    fn merge(&self, one: &[u8], other: &[u8]) -> Option<Bytes> {
        let letters: BTreeSet<u8> = letters(one).iter().chain(letters(other)).copied().collect();
        let edition = unopened(Edition::ONLY).to_vec();
        Some(edition.into_iter().chain(letters).collect::<Vec<_>>().into())
    }

    fn restore(&self, _: Edition, _: &[u8]) -> Option<Box<dyn SharedState>> {
        None
    }
}

/// What follows the edition.
fn letters(context: &[u8]) -> &[u8] {
    &context[unopened(Edition::ONLY).len()..]
}

/// Three sides, each of which has the session that began on `a`, and has been told of what the others do not know.
fn sides(contexts: [Option<&'static str>; 3]) -> Vec<Group> {
    let mut whole = Group::running(&["a", "b", "c"]);
    whole.start(1);
    let first = whole.session(1).clone();
    whole.propagate(first.primary.unwrap(), 1, first.fence, 1, "s");
    let mut sides = Vec::new();
    for (place, name) in ["a", "b", "c"].into_iter().enumerate() {
        let mut side = Group::new(&[name]);
        side.replicas[0].1 = whole.replicas[place].1.clone();
        side.view(2 + place as u64, &[name], &[name]);
        let (primary, fence) = (side.session(1).primary.unwrap(), side.session(1).fence);
        if let Some(context) = contexts[place] {
            side.propagate(primary, 1, fence, 2, context);
        }
        sides.push(side);
    }
    sides
}

fn meet(sides: Vec<Group>, contexts: &dyn Contexts) -> Group {
    let replicas = sides.into_iter().flat_map(|side| side.replicas).collect();
    let mut both = Group { replicas, order: Vec::new(), told: 0 };
    both.view(9, &["a", "b", "c"], &[]);
    for (from, message) in core::mem::take(&mut both.order) {
        for (_, replica) in &mut both.replicas {
            replica.on_message(from, message.clone(), contexts);
        }
    }
    both.agree();
    both
}

#[test]
fn a_session_is_merged_if_two_sides_served_it() {
    for (contexts, merged) in [
        ([Some("sa"), Some("sb"), Some("sc")], true),
        ([Some("sa"), Some("sb"), None], true),
        ([None, None, None], false),
    ] {
        let both = meet(sides(contexts), &Plain);
        assert_eq!(both.session(1).merged, merged, "{contexts:?}");
    }
}

#[test]
fn a_client_is_where_it_went_last_whichever_side_has_more_of_its_session() {
    for (contexts, goes) in [([Some("sa"), None, None], 1), ([None, Some("sb"), None], 0)] {
        let mut sides = sides(contexts);
        let (session, secret) = (SessionId::new(1), Secret::new(1));
        sides[goes].say("h", ContentMessage::Attach { session, secret, gateway: gateway("h") });
        let mut both = meet(sides, &Plain);
        assert_eq!((&both.session(1).gateway, both.session(1).responses), (&gateway("h"), 2), "{contexts:?}");
        // Nobody came back to the gateway that it left.
        let reason = AttachRefusal::Elsewhere;
        assert_eq!(
            both.say("g", ContentMessage::Expire { session, gateway: gateway("g") }),
            [Effect::Refused { session, gateway: gateway("g"), reason }]
        );
    }
}

#[test]
fn who_serves_next_takes_the_mark_away() {
    let mut both = meet(sides([Some("sa"), Some("sb"), None]), &Plain);
    let session = both.session(1).clone();
    assert!(session.version.fence < session.fence, "the fence is above those of both sides");
    let before = session.replaced.map_or(session.fence, |it| it.fence);
    both.propagate(server("b"), 1, before, 7, "late");
    assert!(both.session(1).merged);
    both.propagate(session.primary.unwrap(), 1, session.fence, 1, "on");
    assert!(!both.session(1).merged);
}

#[test]
fn a_service_makes_one_context_of_those_of_all_sides() {
    for (contexts, one) in [
        ([Some("sa"), Some("sb"), Some("sc")], "abcs"),
        ([Some("sa"), None, Some("sc")], "acs"),
        ([Some("sa"), None, None], "as"),
    ] {
        let both = meet(sides(contexts), &Letters);
        let mut letters = letters(&both.session(1).context).to_vec();
        letters.sort_unstable();
        assert_eq!(letters, one.as_bytes(), "{contexts:?}");
    }
}

#[test]
fn replicas_are_told_of_a_context_that_was_made_of_two() {
    let mut sides = sides([Some("sa"), Some("sb"), None]);
    sides.truncate(2);
    let replicas = sides.into_iter().flat_map(|side| side.replicas).collect();
    let mut both = Group { replicas, order: Vec::new(), told: 0 };
    both.view(9, &["a", "b"], &[]);
    let mut updated = 0;
    for (from, message) in core::mem::take(&mut both.order) {
        for (_, replica) in &mut both.replicas {
            let effects = replica.on_message(from, message.clone(), &Letters);
            updated += effects.iter().filter(|it| **it == Effect::Updated(SessionId::new(1))).count();
        }
    }
    assert_eq!(updated, 2, "the one whose copy won as well");
}
