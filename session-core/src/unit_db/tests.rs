//! Replicas of one unit database, told the same things in the same order.

use core::time::Duration;

use super::*;
use model::{Address, Boot, ConfigurationId, DaemonId, Member};

mod corrupt;
mod editions;
mod happening;
mod intent;
mod merge;
mod policy;
mod rebuild;
mod shared;
mod stalls;

const LIMITS: Limits = Limits { moves_max: 64, state_bytes_max: 2000, results_kept: 3 };

fn server(name: &str) -> ProcessId {
    ProcessId::new(DaemonId::new(name.parse().unwrap(), Boot::new(1)), 1)
}

fn database(name: &str) -> Database {
    database_with(name, &[Edition::ONLY])
}

fn database_with(name: &str, editions: &[Edition]) -> Database {
    Database::new(server(name), Policy::default(), editions.iter().copied().collect(), None, LIMITS)
}

fn gateway(name: &str) -> GatewayId {
    GatewayId { name: name.parse().unwrap(), boot: Boot::new(1), address: Address::new("localhost:1") }
}

/// As contexts are where a service has no more to say: the one that reflects more wins.
pub(super) struct Plain;

impl Contexts for Plain {
    fn merge(&self, _: &[u8], _: &[u8]) -> Option<Bytes> {
        None
    }

    fn restore(&self, _: Edition, snapshot: &[u8]) -> Option<Box<dyn SharedState>> {
        Some(Box::new(shared::Log(snapshot.to_vec())))
    }
}

/// A context of the only edition.
fn context(text: &str) -> Bytes {
    [&unopened(Edition::ONLY), text.as_bytes()].concat().into()
}

/// View number `counter` with these members, of whom `along` came along.
fn view(counter: u64, members: &[&str], along: &[&str]) -> GroupView {
    let servers = |names: &[&str]| names.iter().map(|name| server(name)).collect::<Vec<_>>();
    let member = |name: &&str| Member { process: server(name), name: name.parse().unwrap() };
    GroupView {
        group: model::GroupName::new("content/u").unwrap(),
        id: GroupViewId { configuration: ConfigurationId::new(counter, 0), position: 0 },
        members: members.iter().map(member).collect(),
        joined: Vec::new(),
        left: Vec::new(),
        transitional: servers(along),
        primary: false,
    }
}

/// Replicas of one database, and the total order in which they are told things.
struct Group {
    replicas: Vec<(&'static str, Database)>,
    order: Vec<(ProcessId, ContentMessage)>,
    /// How many messages replicas told by themselves.
    told: usize,
}

impl Group {
    fn new(names: &[&'static str]) -> Group {
        let replicas = names.iter().map(|name| (*name, database(name))).collect();
        Group { replicas, order: Vec::new(), told: 0 }
    }

    /// A running group with these members.
    fn running(names: &[&'static str]) -> Group {
        let mut group = Group::new(names);
        group.view(1, names, &[]);
        group.settle();
        group
    }

    /// Tells a view to its members; those not among `along` come from elsewhere.
    fn view(&mut self, counter: u64, members: &[&str], along: &[&str]) {
        self.replicas.retain(|(name, _)| members.contains(name));
        for (name, replica) in &mut self.replicas {
            let transitional = if along.contains(name) { along } else { &[*name] };
            let effects = replica.on_view(&view(counter, members, transitional));
            for effect in effects {
                if let Effect::Tell(message) = effect {
                    self.told += 1;
                    self.order.push((server(name), message));
                }
            }
        }
    }

    fn say(&mut self, from: &str, message: ContentMessage) -> Vec<Effect> {
        self.order.push((server(from), message));
        self.settle()
    }

    /// Delivers what was multicast, to all in one order. Returns the first replica's effects.
    fn settle(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (from, message) in core::mem::take(&mut self.order) {
            for (place, (_, replica)) in self.replicas.iter_mut().enumerate() {
                let mut theirs = replica.on_message(from, message.clone(), &Plain);
                if let Some((view, opening)) = message.settles() {
                    theirs.extend(replica.settle(view, opening));
                }
                if place == 0 {
                    effects.extend(theirs);
                }
            }
        }
        self.agree();
        effects
    }

    fn agree(&self) {
        let digests: BTreeSet<_> = self
            .replicas
            .iter()
            .filter(|(_, replica)| replica.is_agreed())
            .map(|(_, r)| r.digest())
            .collect();
        assert!(digests.len() <= 1, "replicas differ");
    }

    fn start(&mut self, id: u128) -> Vec<Effect> {
        let (session, secret) = (SessionId::new(id), Secret::new(id));
        self.say("g", ContentMessage::Start { session, secret, gateway: gateway("g") })
    }

    fn session(&self, id: u128) -> &Session {
        &self.replicas[0].1.sessions()[&SessionId::new(id)]
    }

    fn propagate(&mut self, from: ProcessId, id: u128, fence: Fence, number: u64, context: &'static str) {
        let update = Update {
            session: SessionId::new(id),
            version: Version { fence, number },
            context: self::context(context),
            requests: number,
            responses: number,
        };
        self.order.push((from, ContentMessage::Propagate { updates: Vec::from([update]) }));
        self.settle();
    }

    fn primaries(&self) -> BTreeMap<ProcessId, usize> {
        let mut count = BTreeMap::new();
        for session in self.replicas[0].1.sessions().values() {
            *count.entry(session.primary.unwrap()).or_default() += 1;
        }
        count
    }
}

fn name(server: ProcessId) -> alloc::string::String {
    alloc::string::ToString::to_string(&server.daemon().name())
}

#[test]
fn sessions_are_spread_evenly_each_with_a_backup_elsewhere() {
    let mut group = Group::running(&["a", "b", "c"]);
    (0..9).for_each(|id| drop(group.start(id)));
    assert_eq!(group.primaries().into_values().collect::<Vec<_>>(), [3, 3, 3]);
    for session in group.replicas[0].1.sessions().values() {
        assert_eq!(session.backups.len(), 1);
        assert_ne!(session.primary, session.backups.first().copied());
    }
}

#[test]
fn a_repeated_start_is_the_same_start() {
    let mut group = Group::running(&["a", "b"]);
    assert_eq!(group.start(1), [Effect::Assigned(SessionId::new(1))]);
    let fence = group.session(1).fence;
    assert_eq!(group.start(1), [Effect::Repeated(SessionId::new(1))]);
    assert_eq!(group.session(1).fence, fence);
}

#[test]
fn a_failure_moves_sessions_to_their_backups_without_a_message() {
    let mut group = Group::running(&["a", "b", "c"]);
    (0..9).for_each(|id| drop(group.start(id)));
    let before = group.replicas[0].1.sessions().clone();
    let told = group.told;
    group.view(2, &["a", "b"], &["a", "b"]);
    group.agree();
    assert_eq!(group.told, told, "no message");
    for (id, session) in group.replicas[0].1.sessions() {
        let old = &before[id];
        if old.primary == Some(server("c")) {
            assert_eq!(session.primary, old.backups.first().copied());
            assert!(session.fence > old.fence);
        } else {
            assert_eq!((session.primary, session.fence), (old.primary, old.fence));
        }
        assert_eq!(session.backups.len(), 1);
    }
}

#[test]
fn a_newcomer_is_told_the_database_and_takes_its_share() {
    let mut group = Group::running(&["a", "b"]);
    (0..9).for_each(|id| drop(group.start(id)));
    group.replicas.push(("c", database("c")));
    group.view(2, &["a", "b", "c"], &["a", "b"]);
    assert!(group.order.len() > 3, "the database takes several messages, the newcomer's one");
    assert!(!group.replicas[0].1.is_agreed());
    group.settle();
    assert_eq!(group.primaries().into_values().collect::<Vec<_>>(), [3, 3, 3]);
    assert!(group.replicas.iter().all(|(_, replica)| replica.is_agreed()));
}

#[test]
fn what_comes_during_an_exchange_waits_for_its_end() {
    let mut group = Group::running(&["a", "b"]);
    group.replicas.push(("c", database("c")));
    group.view(2, &["a", "b", "c"], &["a", "b"]);
    let states = core::mem::take(&mut group.order);
    group.start(1);
    assert!(group.replicas[0].1.sessions().is_empty());
    group.order = states;
    group.settle();
    assert!(group.session(1).primary.is_some());
}

#[test]
fn a_change_during_an_exchange_leaves_nobody_behind() {
    let mut group = Group::running(&["a", "b"]);
    group.start(1);
    group.replicas.push(("c", database("c")));
    group.view(2, &["a", "b", "c"], &["a", "b"]);
    group.order.clear();
    group.start(2);
    // b fails before anybody's state was delivered: a and c still differ, although no one joins.
    group.view(3, &["a", "c"], &["a", "c"]);
    assert!(group.replicas.iter().all(|(_, replica)| !replica.is_agreed()));
    assert_eq!(group.session(2).primary, None);
    group.settle();
    assert!(group.session(1).primary.is_some() && group.session(2).primary.is_some());
    assert_eq!(group.replicas[1].1.sessions().len(), 2);
}

#[test]
fn only_the_primary_propagates_and_the_one_before_it_has_a_last_word() {
    let mut group = Group::running(&["a", "b", "c"]);
    group.start(1);
    let (first, fence) = (group.session(1).primary.unwrap(), group.session(1).fence);
    let other = group.session(1).backups[0];
    group.propagate(other, 1, fence, 1, "not the primary");
    assert_eq!(group.session(1).context, context(""));
    group.propagate(first, 1, fence, 2, "second");
    group.propagate(first, 1, fence, 1, "first");
    assert_eq!(group.session(1).context, context("second"));

    let (first_name, other_name) = (name(first), name(other));
    let rest: Vec<&str> = ["a", "b", "c"].into_iter().filter(|name| *name != first_name).collect();
    group.view(2, &rest, &rest);
    assert_eq!(group.session(1).primary, Some(other), "{other_name}");
    group.propagate(first, 1, fence, 3, "last word");
    assert_eq!(group.session(1).context, context("last word"));
    let new = group.session(1).fence;
    group.propagate(other, 1, new, 1, "other's");
    group.propagate(first, 1, fence, 4, "too late");
    assert_eq!(group.session(1).context, context("other's"));
}

#[test]
fn an_ended_session_stays_ended() {
    let mut group = Group::running(&["a", "b"]);
    group.start(1);
    let session = SessionId::new(1);
    let end =
        |secret| ContentMessage::End { session, secret: Secret::new(secret), gateway: Some(gateway("h")) };
    let refused = |reason| [Effect::Refused { session, gateway: gateway("h"), reason }];
    assert_eq!(group.say("g", end(2)), refused(AttachRefusal::WrongSecret));
    assert!(matches!(group.say("g", end(1))[..], [Effect::Ended { .. }]));
    assert_eq!(group.say("g", end(1)), refused(AttachRefusal::Ended));
    assert!(matches!(group.start(1)[..], [Effect::Refused { reason: AttachRefusal::Ended, .. }]));
    // A replica that did not hear of the end comes back with the session.
    let mut stale = database("c");
    stale.on_view(&view(1, &["c"], &[]));
    stale.insert(session, Secret::new(1), gateway("g"));
    group.replicas.push(("c", stale));
    group.view(2, &["a", "b", "c"], &["a", "b"]);
    group.settle();
    assert!(group.replicas.iter().all(|(_, replica)| replica.sessions().is_empty()));
}

#[test]
fn a_session_expires_only_where_its_client_is() {
    let mut group = Group::running(&["a", "b"]);
    group.start(1);
    let (session, secret) = (SessionId::new(1), Secret::new(1));
    let attached = group.say("g", ContentMessage::Attach { session, secret, gateway: gateway("h") });
    assert_eq!(attached, [Effect::Attached { session, before: gateway("g") }]);
    let expired = group.say("g", ContentMessage::Expire { session, gateway: gateway("g") });
    let reason = AttachRefusal::Elsewhere;
    assert_eq!(expired, [Effect::Refused { session, gateway: gateway("g"), reason }]);
    let expired = group.say("h", ContentMessage::Expire { session, gateway: gateway("h") });
    assert!(matches!(expired[..], [Effect::Ended { .. }]));
}

#[test]
fn of_two_copies_the_one_that_reflects_more_wins_under_a_new_fence() {
    let (mut left, mut right) = (Group::running(&["a"]), Group::running(&["b"]));
    left.start(1);
    right.start(1);
    let (left_fence, right_fence) = (left.session(1).fence, right.session(1).fence);
    left.propagate(server("a"), 1, left_fence, 1, "less");
    right.propagate(server("b"), 1, right_fence, 2, "more");
    let mut both = Group { replicas: left.replicas, order: Vec::new(), told: 0 };
    both.replicas.extend(right.replicas);
    both.view(5, &["a", "b"], &[]);
    both.settle();
    let session = both.session(1);
    assert_eq!(session.context, context("more"));
    assert!(session.fence > left_fence && session.fence > right_fence);
}

#[test]
fn tombs_are_bounded() {
    let mut database = database("a");
    database.on_view(&view(1, &["a"], &[]));
    for id in 0..TOMBS_MAX as u128 + 10 {
        database.insert(SessionId::new(id), Secret::new(0), gateway("g"));
        database.bury(SessionId::new(id), Happening::Closed, None);
    }
    let known = database.tombs.keys().copied().collect::<Vec<_>>();
    assert_eq!(known, (10..TOMBS_MAX as u128 + 10).map(SessionId::new).collect::<Vec<_>>(), "the latest");
}

#[test]
fn what_waits_for_the_end_of_an_exchange_is_bounded_but_for_what_nobody_says_again() {
    let mut group = Group::running(&["a"]);
    group.replicas.push(("b", database("b")));
    group.view(2, &["a", "b"], &["a"]);
    group.order.clear();
    let session = SessionId::new(1);
    let start = ContentMessage::Start { session, secret: Secret::new(1), gateway: gateway("g") };
    let end = ContentMessage::Expire { session, gateway: gateway("g") };
    let replica = &mut group.replicas[0].1;
    for message in core::iter::repeat_n(start, WAITING_MAX + 1).chain([end]) {
        replica.on_message(server("b"), message, &Plain);
    }
    let Phase::Exchanging { waiting, .. } = &replica.phase else { panic!("nobody has told anything") };
    assert_eq!(waiting.len(), WAITING_MAX + 1);
    assert!(matches!(waiting.last(), Some((_, ContentMessage::Expire { .. }))));
}

#[test]
fn nobody_tells_the_database_of_others() {
    let mut group = Group::running(&["a"]);
    group.replicas.push(("b", database("b")));
    group.view(2, &["a", "b"], &["a"]);
    for (from, _) in &mut group.order {
        *from = server("c");
    }
    group.settle();
    assert!(group.replicas.iter().all(|(_, replica)| !replica.is_agreed()));
}

#[test]
fn nobody_is_refused_while_another_class_may_know_better() {
    let mut group = Group::running(&["b", "c"]);
    group.start(1);
    let (session, secret) = (SessionId::new(1), Secret::new(1));
    group.replicas.insert(0, ("a", database("a")));
    group.view(2, &["a", "b", "c"], &["b", "c"]);
    group.order.clear();
    let attach = ContentMessage::Attach { session, secret, gateway: gateway("h") };
    assert_eq!(group.say("g", attach), []);
    // The exchange is broken off. The newcomer, which would speak for all, does not know the session.
    for (name, replica) in &mut group.replicas {
        let along = if *name == "a" { &["a"][..] } else { &["b"] };
        let effects = replica.on_view(&view(3, &["a", "b"], along));
        assert!(
            !effects.iter().any(|effect| matches!(effect, Effect::Refused { .. })),
            "{name}: {effects:?}"
        );
    }
}

#[test]
fn a_merge_tells_who_serves_where_the_client_is_and_what_is_known() {
    let mut group = Group::running(&["a", "b"]);
    group.start(1);
    let session = SessionId::new(1);
    let mut other = Group::new(&["b"]);
    other.replicas[0].1 = group.replicas[1].1.clone();
    group.view(2, &["a"], &["a"]);
    other.view(2, &["b"], &["b"]);
    let attach = ContentMessage::Attach { session, secret: Secret::new(1), gateway: gateway("h") };
    other.say("h", attach);
    let fence = other.session(1).fence;
    other.propagate(server("b"), 1, fence, 1, "on");
    group.replicas.append(&mut other.replicas);
    group.view(3, &["a", "b"], &[]);
    let effects = group.settle();
    for effect in [
        Effect::Assigned(session),
        Effect::Attached { session, before: gateway("g") },
        Effect::Updated(session),
    ] {
        assert!(effects.contains(&effect), "{effects:?}");
    }
    assert_eq!(group.session(1).context, context("on"));
    assert!(group.session(1).fence > fence);
}

#[test]
fn a_session_that_expires_on_one_side_lives_on_where_its_client_went() {
    for (came, lives) in [("h", 1), ("g", 0)] {
        let mut group = Group::running(&["a", "b"]);
        group.start(1);
        let session = SessionId::new(1);
        let mut other = Group::new(&["b"]);
        other.replicas[0].1 = group.replicas[1].1.clone();
        group.view(2, &["a"], &["a"]);
        other.view(2, &["b"], &["b"]);
        other.say("b", ContentMessage::Attach { session, secret: Secret::new(1), gateway: gateway(came) });
        group.say("a", ContentMessage::Expire { session, gateway: gateway("g") });
        group.replicas.append(&mut other.replicas);
        group.view(3, &["a", "b"], &[]);
        group.settle();
        assert!(group.replicas.iter().all(|(_, replica)| replica.sessions().len() == lives), "{came}");
    }
}

#[test]
fn a_gateway_that_saw_a_greater_fence_gets_one_above_it_once_all_agree() {
    let mut group = Group::running(&["a", "b"]);
    group.start(1);
    let (session, secret, before) = (SessionId::new(1), Secret::new(1), group.session(1).fence);
    let inquire = |fence| ContentMessage::Inquire { session, secret, gateway: gateway("g"), fence };
    assert_eq!(group.say("g", inquire(before)), [Effect::Missed(session)]);
    let lost = Fence::new(view(5, &[], &[]).id, 9);
    assert_eq!(group.say("g", inquire(lost)), [], "a later view will come");
    group.view(6, &["a", "b"], &["a", "b"]);
    assert_eq!(group.say("g", inquire(lost)), [Effect::Assigned(session)]);
    assert!(group.session(1).fence > lost);
}

#[test]
fn a_gateway_that_saw_a_greater_fence_has_the_client() {
    let mut group = Group::running(&["a", "b"]);
    group.start(1);
    let (session, secret) = (SessionId::new(1), Secret::new(1));
    let inquire = |fence| ContentMessage::Inquire { session, secret, gateway: gateway("other"), fence };
    let elsewhere = AttachRefusal::Elsewhere;
    let refused = Effect::Refused { session, gateway: gateway("other"), reason: elsewhere };
    assert_eq!(group.say("other", inquire(group.session(1).fence)), [refused]);
    // The client went there on the other side of a separation, whose servers are gone.
    let lost = Fence::new(view(5, &[], &[]).id, 9);
    group.view(6, &["a", "b"], &["a", "b"]);
    let before = gateway("g");
    let effects = [Effect::Attached { session, before }, Effect::Assigned(session)];
    assert_eq!(group.say("other", inquire(lost)), effects);
    assert_eq!(group.session(1).gateway, gateway("other"));
}

/// What becomes of order 7 of this server.
fn answer(effect: &Effect, by: &str) -> Option<Result<Relocation, OrderRefusal>> {
    let Effect::Ordered { by: from, ticket: 7, outcome } = effect else { return None };
    let moved = |done| match done {
        Ordered::Moved(moved) => moved,
        Ordered::Adjusted(_)
        | Ordered::Published(_)
        | Ordered::Held
        | Ordered::Founded
        | Ordered::Intended
        | Ordered::Dismissed => panic!("nobody ordered this"),
    };
    (*from == server(by)).then_some(outcome.map(moved))
}

/// What every replica says of an order, given by `a`.
fn order_move(group: &mut Group, id: u128, to: Option<&str>) -> Result<Relocation, OrderRefusal> {
    let session = SessionId::new(id);
    let order = ContentMessage::Move { session, to: to.map(server), ticket: 7 };
    let effects = group.say("a", order);
    let answers: Vec<_> = effects.iter().filter_map(|effect| answer(effect, "a")).collect();
    let [answer] = answers[..] else { panic!("one answer: {effects:?}") };
    assert_eq!(answer.is_ok(), effects.contains(&Effect::Assigned(session)));
    answer
}

#[test]
fn an_operator_moves_a_session_and_the_primary_before_is_its_backup() {
    let mut group = Group::running(&["a", "b", "c"]);
    group.start(1);
    for to in ["b", "c", "a", "b"] {
        let before = group.session(1).clone();
        if before.primary == Some(server(to)) {
            continue;
        }
        let moved = order_move(&mut group, 1, Some(to)).unwrap();
        let session = group.session(1);
        assert_eq!((moved.from, moved.to, moved.fence), (before.primary, server(to), session.fence));
        assert_eq!(session.primary, Some(server(to)));
        assert_eq!(Some(&session.backups[..]), before.primary.as_ref().map(core::slice::from_ref));
        assert!(session.fence > before.fence && session.placed);
        assert_eq!(
            session.replaced.map(|it| (it.server, it.fence)),
            before.primary.map(|it| (it, before.fence))
        );
    }
}

#[test]
fn away_is_to_whoever_has_least_to_do() {
    let mut group = Group::running(&["a", "b", "c"]);
    (0..9).for_each(|id| drop(group.start(id)));
    let (first, second) =
        (order_move(&mut group, 1, None).unwrap(), order_move(&mut group, 2, None).unwrap());
    assert!(first.from != Some(first.to) && second.from != Some(second.to));
    assert!(group.primaries().into_values().all(|count| (2..=4).contains(&count)));
    assert!(!group.session(1).placed);
}

#[test]
fn moves_that_make_no_sense_are_refused_and_change_nothing() {
    let mut group = Group::running(&["a", "b"]);
    group.start(1);
    let before = group.session(1).clone();
    let primary = name(before.primary.unwrap());
    for (id, to, refusal) in [
        (9, Some("a"), OrderRefusal::UnknownSession),
        (1, Some("z"), OrderRefusal::NotAReplica),
        (1, Some(primary.as_str()), OrderRefusal::AlreadyPrimary),
    ] {
        assert_eq!(order_move(&mut group, id, to), Err(refusal), "{id} to {to:?}");
    }
    let secret = Secret::new(1);
    group.view(2, &["a"], &["a"]);
    assert_eq!(order_move(&mut group, 1, None), Err(OrderRefusal::NobodyElse));
    group.say("g", ContentMessage::End { session: SessionId::new(1), secret, gateway: None });
    assert_eq!(order_move(&mut group, 1, None), Err(OrderRefusal::UnknownSession));
}

#[test]
fn balance_leaves_a_session_where_an_operator_put_it_until_that_server_is_gone() {
    let mut group = Group::running(&["a", "b"]);
    (0..6).for_each(|id| drop(group.start(id)));
    for id in 0..6 {
        if group.session(id).primary == Some(server("b")) {
            order_move(&mut group, id, Some("a")).unwrap();
        }
    }
    let placed: Vec<_> = (0..6).filter(|id| group.session(*id).placed).collect();
    assert_eq!(placed.len(), 3);
    group.replicas.push(("c", database("c")));
    group.view(2, &["a", "b", "c"], &["a", "b"]);
    group.settle();
    let here = |group: &Group, id| group.session(id).primary == Some(server("a"));
    assert!(placed.iter().all(|id| here(&group, *id)), "{:?}", group.primaries());
    assert_eq!(group.primaries().len(), 3, "the others are shared out");
    group.view(3, &["b", "c"], &["b", "c"]);
    group.settle();
    assert!((0..6).all(|id| !here(&group, id) && !group.session(id).placed));
    assert_eq!(order_move(&mut group, 0, None).map(|_| ()), Ok(()));
}

#[test]
fn an_order_in_an_exchange_waits_for_it_and_one_in_a_broken_off_exchange_is_refused() {
    let mut group = Group::running(&["b", "c"]);
    group.start(1);
    let session = SessionId::new(1);
    let to = group.session(1).backups[0];
    let order = ContentMessage::Move { session, to: Some(to), ticket: 7 };
    for breaks in [false, true] {
        let mut group = Group {
            replicas: group.replicas.iter().map(|(name, replica)| (*name, replica.clone())).collect(),
            order: Vec::new(),
            told: 0,
        };
        group.replicas.push(("a", database("a")));
        group.view(2, &["a", "b", "c"], &["b", "c"]);
        let shares = core::mem::take(&mut group.order);
        assert_eq!(group.say("b", order.clone()), [], "it waits");
        let effects = if breaks {
            group.replicas[0].1.on_view(&view(3, &["b", "c"], &["b", "c"]))
        } else {
            group.order = shares;
            group.settle()
        };
        let answered = effects.iter().find_map(|effect| answer(effect, "b"));
        let answered = answered.map(|outcome| outcome.map(|moved| moved.to));
        assert_eq!(answered, Some(if breaks { Err(OrderRefusal::Unsettled) } else { Ok(to) }));
    }
}
