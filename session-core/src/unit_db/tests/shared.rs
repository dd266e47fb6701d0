//! The shared state of a unit: a log, in which every request is written down.

use alloc::format;
use alloc::string::{String, ToString};

use model::Level;

use super::*;
use crate::unit_db::shared::Carried;

/// What came of a request: all that is written so far.
#[derive(Clone, Debug)]
pub(in crate::unit_db) struct Log(pub(in crate::unit_db) Vec<u8>);

impl SharedState for Log {
    fn update(&mut self, request: &[u8]) -> Bytes {
        self.0.extend_from_slice(request);
        self.snapshot()
    }

    fn snapshot(&self) -> Bytes {
        Bytes::from(self.0.clone())
    }
}

const SESSION: SessionId = SessionId::new(1);

/// A replica of a unit with a shared state, at a server in this life.
pub(super) fn sharing(name: &str, boot: u64) -> Database {
    let me = ProcessId::new(DaemonId::new(name.parse().unwrap(), Boot::new(boot)), 1);
    let log = Box::new(Log(Vec::new()));
    Database::new(me, Policy::default(), [Edition::ONLY].into(), Some(log), LIMITS)
}

/// Replicas, each in its own life, and the groups that they are in.
struct Servers {
    replicas: BTreeMap<(&'static str, u64), Database>,
    views: u64,
}

/// Replicas by name, and which life of each.
type Lives<'a> = &'a [(&'static str, u64)];

const A: (&str, u64) = ("a", 1);
const B: (&str, u64) = ("b", 1);
const C: (&str, u64) = ("c", 1);

fn process((name, boot): (&str, u64)) -> ProcessId {
    ProcessId::new(DaemonId::new(name.parse().unwrap(), Boot::new(boot)), 1)
}

impl Servers {
    /// `a`, `b` and `c`, among whom the state was founded, and a session is there.
    fn founded() -> Servers {
        let mut servers = Servers { replicas: BTreeMap::new(), views: 0 };
        servers.meet(&[A, B, C]);
        let found = ContentMessage::Found { anew: false, ticket: 1 };
        servers.safe(&[A, B, C], process(A), found);
        let (session, secret) = (SESSION, Secret::new(1));
        servers.safe(
            &[A, B, C],
            process(A),
            ContentMessage::Start { session, secret, gateway: gateway("g") },
        );
        servers
    }

    fn get(&mut self, life: (&'static str, u64)) -> &mut Database {
        self.replicas.entry(life).or_insert_with(|| sharing(life.0, life.1))
    }

    /// These are in a view, and make their databases one; nobody knows yet that the others have.
    fn gather(&mut self, lives: Lives<'_>) -> Vec<ContentMessage> {
        self.views += 1;
        let views = self.views;
        let members: Vec<_> = lives.iter().map(|(name, _)| *name).collect();
        let mut told = Vec::new();
        let before: Vec<_> = lives.iter().map(|life| (process(*life), self.get(*life).view())).collect();
        for &life in lives {
            let replica = self.get(life);
            let came_along = |(_, view): &&(ProcessId, GroupViewId)| *view == replica.view();
            let along: Vec<_> = before.iter().filter(came_along).map(|(member, _)| *member).collect();
            let mut view = view(views, &members, &[]);
            view.transitional = along;
            for (member, life) in view.members.iter_mut().zip(lives) {
                member.process = process(*life);
            }
            let effects = replica.on_view(&view);
            told.extend(messages(effects).into_iter().map(|message| (process(life), message)));
        }
        let mut follows = Vec::new();
        while !told.is_empty() {
            for (from, message) in core::mem::take(&mut told) {
                if message.level() == Level::Safe {
                    follows.push(message);
                    continue;
                }
                for &life in lives {
                    let more = messages(self.get(life).on_message(from, message.clone(), &Plain));
                    told.extend(more.into_iter().map(|message| (process(life), message)));
                }
            }
        }
        follows
    }

    /// These are in a view, and know that all are.
    fn meet(&mut self, lives: Lives<'_>) {
        for message in self.gather(lives) {
            self.safe(lives, process(lives[0]), message);
        }
    }

    /// A message that all of these have.
    fn safe(&mut self, lives: Lives<'_>, from: ProcessId, message: ContentMessage) {
        let mut follows = self.agreed(lives, from, &message);
        if let Some((view, opening)) = message.settles() {
            for life in lives {
                follows.extend(messages(self.get(*life).settle(view, opening)));
            }
        }
        follows.drain(..).for_each(|message| self.safe(lives, from, message));
    }

    /// A message that these have, and of others nothing is known.
    fn agreed(&mut self, lives: Lives<'_>, from: ProcessId, message: &ContentMessage) -> Vec<ContentMessage> {
        let each =
            |life: &(&'static str, u64)| messages(self.get(*life).on_message(from, message.clone(), &Plain));
        lives.iter().flat_map(each).collect()
    }

    fn request(&mut self, at: (&'static str, u64), number: u64, text: &'static str) -> ContentMessage {
        let view = self.get(at).view();
        ContentMessage::Update {
            view,
            session: SESSION,
            number,
            operation: Bytes::from_static(text.as_bytes()),
        }
    }

    /// A request that all of these have.
    fn carry_out(&mut self, lives: Lives<'_>, number: u64, text: &'static str) {
        let request = self.request(lives[0], number, text);
        self.safe(lives, process(lives[0]), request);
    }

    /// What came of a request.
    fn carried(&mut self, life: (&'static str, u64), number: u64, text: &str) -> String {
        match self.get(life).shared().unwrap().carried(SESSION, number, text.as_bytes()) {
            Carried::Out { result, .. } => String::from_utf8(result.to_vec()).unwrap(),
            not @ (Carried::Forgotten | Carried::Otherwise | Carried::NotYet) => format!("{not:?}"),
        }
    }

    fn live(&mut self, lives: Lives<'_>) -> bool {
        let live: BTreeSet<_> = lives.iter().map(|life| self.get(*life).is_live()).collect();
        let digests: BTreeSet<_> = lives.iter().map(|life| self.get(*life).digest()).collect();
        assert_eq!((live.len(), digests.len()), (1, 1), "replicas differ");
        live.contains(&true)
    }
}

fn messages(effects: Vec<Effect>) -> Vec<ContentMessage> {
    let told = |effect| if let Effect::Tell(message) = effect { Some(message) } else { None };
    effects.into_iter().filter_map(told).collect()
}

#[test]
fn a_shared_state_rests_on_whose_departure_leaves_too_few() {
    let mut servers = Servers::founded();
    assert!([A, B, C].iter().all(|life| !servers.get(*life).rests_on_me()), "two of three are left");
    let leaving = ContentMessage::Intend { intent: Intent::Leaving, ticket: 1 };
    servers.safe(&[A, B, C], process(C), leaving);
    assert!(servers.get(A).rests_on_me() && servers.get(B).rests_on_me());
    servers.meet(&[A, B]);
    assert!(servers.get(A).rests_on_me());
    servers.meet(&[A, B, ("c", 2)]);
    assert!(!servers.get(A).rests_on_me(), "it was given the state");
    servers.meet(&[A]);
    assert!(!servers.get(A).rests_on_me(), "it waits for voters as it is");
}

#[test]
fn nothing_is_carried_out_before_an_operator_has_founded_the_state() {
    let mut servers = Servers { replicas: BTreeMap::new(), views: 0 };
    servers.meet(&[A, B, C]);
    assert!(!servers.live(&[A, B, C]));
    let found = |anew| ContentMessage::Found { anew, ticket: 1 };
    let order = |servers: &mut Servers, message| servers.get(A).on_message(process(A), message, &Plain);
    assert!(order(&mut servers, found(false)).contains(&Effect::Live));
    let refused = Effect::Ordered { by: process(A), ticket: 1, outcome: Err(OrderRefusal::FoundedBefore) };
    assert_eq!(order(&mut servers, found(false)), [refused]);
}

#[test]
fn a_request_is_carried_out_once_and_the_last_results_are_remembered() {
    let mut servers = Servers::founded();
    let all = [A, B, C];
    for (number, text) in [(1, "1"), (2, "2"), (2, "x"), (1, "x"), (3, "3"), (4, "4"), (2, "x")] {
        servers.carry_out(&all, number, text);
    }
    let results: Vec<_> = (1..=5).map(|number| servers.carried(B, number, &number.to_string())).collect();
    assert_eq!(results, ["Forgotten", "12", "123", "1234", "NotYet"]);
    assert_eq!(servers.carried(B, 4, "x"), "Otherwise");
    assert!(servers.live(&all));
}

#[test]
fn most_voters_go_on_and_the_others_do_not() {
    let mut servers = Servers::founded();
    servers.carry_out(&[A, B, C], 1, "1");
    servers.meet(&[C]);
    servers.meet(&[A, B]);
    assert!(servers.live(&[A, B]) && !servers.live(&[C]));
    servers.carry_out(&[C], 2, "c");
    servers.carry_out(&[A, B], 2, "2");
    assert_eq!([servers.carried(A, 2, "2"), servers.carried(C, 2, "2")], ["12", "NotYet"]);
    servers.meet(&[A, B, C]);
    assert!(servers.live(&[A, B, C]));
    assert_eq!(servers.carried(C, 2, "2"), "12");
}

#[test]
fn who_has_lost_its_memory_has_no_vote_until_it_was_given_the_state() {
    let mut servers = Servers::founded();
    let (b2, c) = (("b", 2), C);
    servers.meet(&[C]);
    servers.meet(&[A, B]);
    servers.carry_out(&[A, B], 1, "1");
    // `b` is started again, and all that `c` knows is what was before.
    servers.meet(&[b2, c]);
    assert!(!servers.live(&[b2, c]));
    servers.meet(&[A]);
    // Not even beside `a`, who knows all: `c` might have gone on with `b` as it was before.
    servers.meet(&[A, b2]);
    assert!(!servers.live(&[A, b2]));
    servers.meet(&[A, b2, c]);
    assert!(servers.live(&[A, b2, c]));
    assert_eq!(servers.carried(c, 1, "1"), "1");
    // It was given the state now.
    servers.meet(&[A]);
    servers.meet(&[b2, c]);
    assert!(servers.live(&[b2, c]));
}

#[test]
fn servers_that_came_later_have_the_state_and_no_vote() {
    let mut servers = Servers::founded();
    let (d, e) = (("d", 1), ("e", 1));
    servers.meet(&[A, B, C, d, e]);
    servers.carry_out(&[A, B, C, d, e], 1, "1");
    servers.meet(&[A, d, e]);
    assert!(!servers.live(&[A, d, e]));
    assert_eq!(servers.carried(d, 1, "1"), "1");
    servers.meet(&[B, C]);
    assert!(servers.live(&[B, C]));
}

#[test]
fn what_others_may_not_have_is_not_used() {
    let mut servers = Servers::founded();
    let request = servers.request(A, 1, "1");
    servers.agreed(&[A, B, C], process(A), &request);
    assert_eq!(servers.carried(A, 1, "1"), "NotYet");
    // The next view finds that all had it.
    servers.meet(&[A, B]);
    assert_eq!(servers.carried(A, 1, "1"), "1");
}

#[test]
fn what_only_the_others_had_is_undone() {
    let mut servers = Servers::founded();
    let request = servers.request(A, 1, "a");
    servers.agreed(&[A], process(A), &request);
    servers.meet(&[A]);
    servers.meet(&[B, C]);
    servers.carry_out(&[B, C], 2, "b");
    servers.meet(&[A, B, C]);
    assert!(servers.live(&[A, B, C]));
    assert_eq!([servers.carried(A, 1, "a"), servers.carried(A, 2, "b")], ["Forgotten", "b"]);
}

#[test]
fn what_was_used_in_a_later_view_wins_over_what_others_had_in_its_place() {
    for order in [[A, B, C], [C, B, A]] {
        let mut servers = Servers::founded();
        let (one, other) = (servers.request(A, 1, "one"), servers.request(C, 1, "other"));
        servers.agreed(&[A, B], process(A), &one);
        servers.agreed(&[C], process(C), &other);
        servers.meet(&[C]);
        servers.meet(&[A, B]);
        assert_eq!(servers.carried(A, 1, "one"), "one");
        servers.meet(&order);
        assert_eq!(servers.carried(A, 1, "one"), "one");
        assert!(servers.live(&order));
    }
}

#[test]
fn what_all_have_come_to_the_view_with_is_not_used_before_it_counts_as_changed_there() {
    let mut servers = Servers::founded();
    let request = servers.request(A, 1, "1");
    servers.agreed(&[A, B, C], process(A), &request);
    let settle = servers.gather(&[A, B]).pop().unwrap();
    assert!(servers.agreed(&[A, B], process(A), &settle).is_empty());
    let (view, opening) = settle.settles().unwrap();
    let adopt = messages(servers.get(A).settle(view, opening));
    assert_eq!(adopt, [ContentMessage::Adopt { view }]);
    assert!(messages(servers.get(B).settle(view, opening)).is_empty(), "one of them says so");
    assert_eq!(servers.carried(A, 1, "1"), "NotYet");
    adopt.into_iter().for_each(|message| servers.safe(&[A, B], process(A), message));
    assert_eq!([servers.carried(A, 1, "1"), servers.carried(B, 1, "1")], ["1", "1"]);
}

#[test]
fn nothing_is_asked_for_before_all_are_known_to_have_come_to_the_view() {
    let mut servers = Servers::founded();
    let follows = servers.gather(&[A, B]);
    assert!(servers.live(&[A, B]));
    assert!(!servers.get(A).shared().unwrap().is_open());
    assert_eq!(follows, [ContentMessage::Settle { view: servers.get(A).view() }]);
    // A request of the view before is not carried out in this one, and neither does that view's opening count.
    let view = GroupViewId { configuration: ConfigurationId::new(1, 0), position: 0 };
    let late =
        ContentMessage::Update { view, session: SESSION, number: 1, operation: Bytes::from_static(b"late") };
    servers.safe(&[A, B], process(A), late);
    servers.safe(&[A, B], process(A), ContentMessage::Settle { view });
    assert!(!servers.get(A).shared().unwrap().is_open());
    follows.into_iter().for_each(|message| servers.safe(&[A, B], process(A), message));
    assert!(servers.get(A).shared().unwrap().is_open());
    assert_eq!(servers.carried(A, 1, "1"), "NotYet");
}

#[test]
fn the_results_of_a_session_go_with_it() {
    let mut servers = Servers::founded();
    servers.carry_out(&[A, B, C], 1, "1");
    let end = ContentMessage::End { session: SESSION, secret: Secret::new(1), gateway: None };
    servers.safe(&[A, B, C], process(A), end);
    assert_eq!(servers.carried(A, 1, "1"), "NotYet");
    servers.carry_out(&[A, B, C], 1, "2");
    assert_eq!(servers.carried(A, 1, "1"), "NotYet");
}

#[test]
fn founded_anew_the_state_goes_on_with_those_who_are_there() {
    let mut servers = Servers::founded();
    servers.carry_out(&[A, B, C], 1, "1");
    servers.meet(&[A, B]);
    servers.meet(&[B]);
    assert!(!servers.live(&[B]));
    servers.safe(&[B], process(B), ContentMessage::Found { anew: true, ticket: 2 });
    assert!(servers.live(&[B]));
    servers.carry_out(&[B], 2, "2");
    // The others belong to what was before.
    servers.meet(&[A, C]);
    servers.carry_out(&[A, C], 2, "x");
    servers.meet(&[A, B, C]);
    assert_eq!(servers.carried(C, 2, "2"), "12");
    servers.meet(&[A, C]);
    assert!(!servers.live(&[A, C]));
}

#[test]
fn a_large_state_is_told_in_pieces() {
    let mut servers = Servers::founded();
    let text: &'static str = "0123456789".repeat(1000).leak();
    servers.carry_out(&[A, B, C], 1, text);
    let d = ("d", 1);
    servers.meet(&[A, B, C, d]);
    assert!(servers.live(&[A, B, C, d]));
    assert_eq!(servers.carried(d, 1, text), text);
}

#[test]
fn when_daemons_change_and_servers_do_not_they_are_asked_again() {
    let mut servers = Servers::founded();
    let request = servers.request(A, 1, "1");
    servers.agreed(&[A, B, C], process(A), &request);
    let view = servers.get(A).view();
    let again = messages(servers.get(A).settle_later(view));
    assert_eq!(again, [ContentMessage::Settle { view }]);
    assert!(servers.get(B).settle_later(view).is_empty(), "one of them asks");
    again.into_iter().for_each(|message| servers.safe(&[A, B, C], process(A), message));
    assert_eq!(servers.carried(A, 1, "1"), "1");
}

#[test]
fn half_of_the_voters_are_not_enough() {
    let mut servers = Servers { replicas: BTreeMap::new(), views: 0 };
    servers.meet(&[A, B]);
    servers.safe(&[A, B], process(A), ContentMessage::Found { anew: false, ticket: 1 });
    servers.meet(&[B]);
    servers.meet(&[A]);
    assert!(!servers.live(&[A]) && !servers.live(&[B]));
}

#[test]
fn who_has_missed_a_founding_has_no_vote_in_it() {
    let mut servers = Servers::founded();
    servers.meet(&[A, B]);
    let anew = ContentMessage::Found { anew: true, ticket: 2 };
    servers.agreed(&[A], process(A), &anew);
    servers.meet(&[A]);
    // What `b` has is of the first founding, though it is among the voters of the second.
    servers.meet(&[A, B]);
    assert!(!servers.live(&[A, B]));
}
