//! Editions of a unit: who can serve which, and when new sessions go over to the next.

use super::*;

fn edition(number: u32) -> Edition {
    Edition { number, digest: Digest::of(&number.to_le_bytes()) }
}

/// A group of servers that hold these editions each.
fn group(holdings: &[(&'static str, &[Edition])]) -> Group {
    let replicas = holdings.iter().map(|(name, editions)| (*name, database_with(name, editions)));
    let mut group = Group { replicas: replicas.collect(), order: Vec::new(), told: 0 };
    let names: Vec<_> = holdings.iter().map(|(name, _)| *name).collect();
    group.view(1, &names, &[]);
    group.settle();
    group
}

fn hold(group: &mut Group, name: &str, editions: &[Edition]) -> Vec<Effect> {
    group.say(name, ContentMessage::Holds { editions: editions.iter().copied().collect(), ticket: 2 })
}

/// What becomes of it, as whoever ordered it is told.
fn publish(group: &mut Group, edition: u32) -> Option<Result<Ordered, OrderRefusal>> {
    let effects = group.say("a", ContentMessage::Publish { edition, ticket: 1 });
    effects.into_iter().find_map(|effect| {
        let Effect::Ordered { outcome, .. } = effect else { return None };
        Some(outcome)
    })
}

#[test]
fn new_sessions_go_over_and_those_that_are_there_stay() {
    let both = [edition(1), edition(2)];
    let mut group = group(&[("a", &both[..1]), ("b", &both[..1])]);
    group.start(1);
    hold(&mut group, "a", &both);
    assert_eq!(publish(&mut group, 2), Some(Err(OrderRefusal::NotHeldByAll)));
    hold(&mut group, "b", &both);
    group.start(2);
    assert_eq!(publish(&mut group, 2), Some(Ok(Ordered::Published(edition(2)))));
    group.start(3);
    let editions = [1, 2, 3].map(|id| group.session(id).edition().unwrap().number);
    assert_eq!(editions, [1, 1, 2]);
    for number in [1, 2] {
        assert_eq!(publish(&mut group, number), Some(Err(OrderRefusal::NotNewer)));
    }
}

#[test]
fn other_content_by_the_same_number_is_another_edition() {
    let other = Edition { digest: Digest::of(b"other"), ..edition(2) };
    let mut group = group(&[("a", &[edition(1), edition(2)]), ("b", &[edition(1), other])]);
    // Of servers that all come at once, the greater one counts.
    let present = group.replicas[0].1.edition();
    assert_eq!(present, edition(2).max(other));
    (1..5).for_each(|id| drop(group.start(id)));
    let holder = if present == other { "b" } else { "a" };
    assert_eq!(group.primaries().into_keys().collect::<Vec<_>>(), [server(holder)]);
    assert!(group.session(1).backups.is_empty());
}

#[test]
fn a_session_is_served_by_who_holds_its_edition_and_waits_if_nobody_does() {
    let mut group = group(&[("a", &[edition(1)]), ("b", &[edition(1)]), ("c", &[edition(1)])]);
    (1..10).for_each(|id| drop(group.start(id)));
    hold(&mut group, "c", &[]);
    assert_eq!(group.primaries().into_keys().collect::<Vec<_>>(), [server("a"), server("b")]);
    hold(&mut group, "b", &[edition(3)]);
    assert_eq!(group.primaries().into_keys().collect::<Vec<_>>(), [server("a")]);
    let to = Some(server("b"));
    let order = ContentMessage::Move { session: SessionId::new(1), to, ticket: 1 };
    let outcome = Err(OrderRefusal::NotAReplica);
    assert_eq!(group.say("a", order), [Effect::Ordered { by: server("a"), ticket: 1, outcome }]);
    hold(&mut group, "a", &[]);
    assert_eq!(group.session(1).primary, None);
    let fence = group.session(1).fence;
    hold(&mut group, "b", &[edition(1)]);
    assert_eq!(group.session(1).primary, Some(server("b")));
    assert!(group.session(1).fence > fence);
}

#[test]
fn a_newcomer_takes_over_the_edition_and_no_session_that_it_cannot_serve() {
    let both = [edition(1), edition(2)];
    let mut group = group(&[("a", &both), ("b", &both)]);
    assert_eq!(group.replicas[0].1.edition(), edition(2), "the latest that was there at the beginning");
    (1..7).for_each(|id| drop(group.start(id)));
    // One that is behind, and one that is ahead of what was published.
    group.replicas.push(("c", database_with("c", &[edition(1)])));
    group.replicas.push(("d", database_with("d", &[edition(1), edition(2), edition(3)])));
    group.view(2, &["a", "b", "c", "d"], &["a", "b"]);
    group.settle();
    assert!(group.replicas.iter().all(|(_, replica)| replica.edition() == edition(2)));
    assert!(!group.primaries().contains_key(&server("c")));
}

#[test]
fn contexts_are_merged_only_where_all_can_do_so() {
    struct Any;
    impl Contexts for Any {
        fn merge(&self, _: &[u8], _: &[u8]) -> Option<Bytes> {
            Some(context("merged"))
        }

        fn restore(&self, _: Edition, _: &[u8]) -> Option<Box<dyn SharedState>> {
            None
        }
    }
    for (held, merged) in [(&[Edition::ONLY][..], true), (&[edition(7)], false)] {
        let mut group = Group::running(&["a", "b"]);
        group.start(1);
        let (primary, fence) = (group.session(1).primary.unwrap(), group.session(1).fence);
        group.propagate(primary, 1, fence, 1, "both");
        let mut both = Group { replicas: Vec::new(), order: Vec::new(), told: 0 };
        for (counter, (name, replica)) in (2..).zip(group.replicas) {
            let mut side = Group { replicas: Vec::from([(name, replica)]), order: Vec::new(), told: 0 };
            side.view(counter, &[name], &[name]);
            let fence = side.session(1).fence;
            side.propagate(server(name), 1, fence, 2, name);
            both.replicas.extend(side.replicas);
        }
        both.replicas.push(("c", database_with("c", held)));
        both.view(9, &["a", "b", "c"], &[]);
        for (from, message) in core::mem::take(&mut both.order) {
            for (_, replica) in &mut both.replicas {
                replica.on_message(from, message.clone(), &Any);
            }
        }
        both.agree();
        assert_eq!(both.session(1).context == context("merged"), merged);
    }
}

#[test]
fn a_session_goes_to_who_holds_the_edition_that_its_client_is_on() {
    let mut group = group(&[("a", &[edition(1)]), ("b", &[edition(2)])]);
    group.start(1);
    let Session { primary, fence, .. } = group.session(1).clone();
    assert_eq!(primary, Some(server("b")), "the greater one counts");
    let update = Update {
        session: SessionId::new(1),
        version: Version { fence, number: 1 },
        context: unopened(edition(1)),
        requests: 0,
        responses: 3,
    };
    group.say("b", ContentMessage::Propagate { updates: Vec::from([update]) });
    assert_eq!((group.session(1).primary, group.session(1).responses), (Some(server("a")), 3));
    assert!(group.session(1).fence > fence);
}
