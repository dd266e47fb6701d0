//! Output commit: what is sent when, and what a server that takes over makes of it.

use super::sides::alone;
use super::*;
use crate::edition::{encode_committed, encode_context, history_of};
use crate::message::{Committed, Remembered, Standing};

fn counting_by(step: u32) -> Counter {
    Counter { step, commit: Some(Level::Agreed), ..counter() }
}

/// As [`Cluster::playing`], with numbers that go up by one at `a`, and by ten at `b`.
fn playing() -> Cluster {
    let mut cluster = Cluster::playing_with(&counting_by(1));
    cluster.tell("b", Input::Content { ticket: 1, service: counting_by(10) });
    cluster
}

/// Tells a server, and delivers nothing of what it multicasts. Returns what it did else.
fn tell_alone(cluster: &mut Cluster, name: &'static str, input: Input<Counter>) -> Vec<String> {
    cluster.step(name, input);
    core::mem::take(&mut cluster.seen)
}

fn more_credit(up_to: u64) -> Input<Counter> {
    let up_to = Credit::responses(up_to);
    Input::Gateway(gateway("g"), ToServer::Credit { session: SESSION, stream: 1, up_to })
}

/// `a` is gone, and the gateway grants the session to `b`, for a client that has this much.
fn taken_over_by_b(cluster: &mut Cluster, resume: Resume, credit: u64) -> Vec<String> {
    cluster.kill("a");
    cluster.fence = cluster.status("b").session.fence;
    cluster.grant("b", 2, resume, credit)
}

#[test]
fn a_response_is_sent_when_the_group_has_it_and_the_next_ones_go_together() {
    let mut cluster = playing();
    assert_eq!(cluster.grant("a", 1, Resume::Beginning, 1), ["a: start 1 after 0/0", "a: response 1 is 1"]);
    assert_eq!(tell_alone(&mut cluster, "a", more_credit(2)), NOTHING);
    assert_eq!(tell_alone(&mut cluster, "a", more_credit(5)), NOTHING);
    assert_eq!(cluster.multicasts.len(), 1, "one commit at a time");
    let numbers = [2, 3, 4, 5].map(|number| format!("a: response {number} is {number}"));
    assert_eq!(cluster.run(), numbers);
    assert_eq!((cluster.status("a").responses, cluster.status("b").responses), (5, 5));
}

#[test]
fn a_new_primary_sends_what_was_committed_and_computes_only_what_follows() {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    tell_alone(&mut cluster, "a", more_credit(3));
    // The third was committed, and nobody was sent it.
    assert_eq!(
        taken_over_by_b(&mut cluster, Resume::After(having(&[1])), 3),
        ["b: start 2 after 1/0", "b: response 2 is 2", "b: response 3 is 3", "b: response 4 is 13"]
    );
    // A client that goes back further is told the same.
    let again = cluster.grant("b", 3, Resume::Beginning, 2);
    assert_eq!(again, ["b: start 3 after 0/0", "b: response 1 is 1", "b: response 2 is 2"]);
    assert_eq!(cluster.credit("b", 3, 4), ["b: response 3 is 3", "b: response 4 is 13"]);
}

#[test]
fn a_request_during_a_commit_is_applied_after_it_and_acknowledged_then() {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    let group = Purpose::Session(unit(), SESSION).group();
    let request = SessionMessage::Request { number: 1, operation: Bytes::from_static(b"100") };
    cluster.multicasts.push_back((process("g"), group, encode(&request)));
    assert_eq!(tell_alone(&mut cluster, "a", more_credit(3)), NOTHING);
    assert_eq!(cluster.run(), ["a: response 2 is 2", "a: response 3 is 3", "a: applied 1"]);
    assert_eq!(cluster.status("b").requests, 1);
    assert_eq!(cluster.credit("a", 1, 4), ["a: response 4 is 101"]);
}

#[test]
fn what_a_replaced_primary_commits_nobody_takes() {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    cluster.order("a", Some("b"));
    cluster.fence = cluster.status("b").session.fence;
    cluster.step(
        "b",
        Input::Gateway(
            gateway("g"),
            ToServer::Serve {
                session: SESSION,
                fence: cluster.fence,
                stream: 2,
                resume: Resume::After(having(&[1])),
                credit: Some(Credit::responses(1)),
                repeats_from: u64::MAX,
            },
        ),
    );
    // It has not heard of that.
    assert_eq!(tell_alone(&mut cluster, "a", more_credit(2)), NOTHING);
    assert_eq!(cluster.run(), ["b: start 2 after 1/0", "b: response 2 is 11"]);
    assert_eq!((cluster.status("a").responses, cluster.status("b").responses), (2, 2));
}

#[test]
fn a_server_that_is_new_serves_when_it_knows_what_was_committed() {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 3);
    let service = Counter { step: 100, commit: Some(Level::Agreed), ..counter() };
    let params = Params { policy: Policy { period: PERIOD, ..Policy::default() }, ..Params::default() };
    cluster.servers.insert("c", Server::new(service, params));
    cluster.tell("c", Input::Attached(process("c")));
    cluster.tell("c", Input::GatewayUp(gateway("g")));
    cluster.order("a", Some("c"));
    cluster.fence = cluster.status("c").session.fence;
    let taken_over = cluster.grant("c", 2, Resume::After(having(&[1])), 3);
    let sent: Vec<_> = taken_over.iter().filter(|it| it.starts_with("c: ")).collect();
    assert_eq!(
        sent,
        ["c: start 2 after 1/0", "c: response 2 is 2", "c: response 3 is 3", "c: response 4 is 103"]
    );
}

#[test]
fn at_the_safe_level_nothing_is_sent_on_the_strength_of_less() {
    let service = Counter { commit: Some(Level::Safe), ..counter() };
    let mut cluster = Cluster::playing_with(&service);
    let serve = ToServer::Serve {
        session: SESSION,
        fence: cluster.fence,
        stream: 1,
        resume: Resume::Beginning,
        credit: Some(Credit::responses(1)),
        repeats_from: u64::MAX,
    };
    cluster.step("a", Input::Gateway(gateway("g"), serve));
    // The first commit says who reigns, the second has the response, and the third says that the group has it.
    for (level, seen) in [
        (Level::Safe, &["a: start 1 after 0/0"][..]),
        (Level::Agreed, &[]),
        (Level::Safe, &["a: response 1 is 1"]),
    ] {
        let in_session = |group: &GroupName| matches!(Purpose::of(group), Some(Purpose::Session(..)));
        cluster.multicasts.retain(|(_, group, _)| in_session(group));
        let (sender, group, payload) = cluster.multicasts.pop_front().unwrap();
        cluster.step("a", Input::Message { group, sender, payload, level });
        assert_eq!(core::mem::take(&mut cluster.seen), seen);
    }
}

#[test]
fn a_client_that_is_elsewhere_is_served_after_what_is_under_way_and_not_before() {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    assert_eq!(tell_alone(&mut cluster, "a", more_credit(2)), NOTHING);
    let serve = ToServer::Serve {
        session: SESSION,
        fence: cluster.fence,
        stream: 2,
        resume: after(5, 0, 500),
        credit: Some(Credit::responses(1)),
        repeats_from: u64::MAX,
    };
    assert_eq!(tell_alone(&mut cluster, "a", Input::Gateway(gateway("g"), serve)), NOTHING);
    assert_eq!(cluster.run(), ["a: start 2 after 5/0", "a: response 6 is 501"]);
    assert_eq!((cluster.status("a").responses, cluster.status("b").responses), (6, 6));
}

/// These responses from the beginning on, each with the context after it.
fn history(numbers: &[u32]) -> Vec<Committed> {
    let mut head = Head::new(Edition::ONLY);
    let response = |number: &u32| {
        let payload = Bytes::from(number.to_string());
        let context = encode_committed(head, &(number, Some(Time::ZERO)), 0, &payload);
        head.history = history_of(&context);
        Committed { requests: 0, context, payload, last: false }
    };
    numbers.iter().map(response).collect()
}

/// The position of a client that has these responses.
fn having(numbers: &[u32]) -> Cursor {
    let context = history(numbers).pop().map_or(context(0), |last| last.context);
    Cursor { responses: numbers.len() as u64, requests: 0, context }
}

/// The same after so many requests, by which the number has become this one.
fn having_asked(numbers: &[u32], requests: u64, number: u32) -> Cursor {
    let having = having(numbers);
    let head = Head { edition: Edition::ONLY, history: history_of(&having.context) };
    Cursor { requests, context: encode_context(head, &(number, Some(Time::ZERO))), ..having }
}

/// `c` comes to `b` from the other side of a separation, where it has been primary. Returns its fence.
fn joined_by_c(cluster: &mut Cluster) -> Fence {
    cluster.views += 1;
    let id = last_view(cluster);
    let members = ["b", "c"].map(|it| Member { process: process(it), name: it.parse().unwrap() });
    let view = GroupView {
        group: Purpose::Session(unit(), SESSION).group(),
        id,
        members: members.into(),
        joined: Vec::from([process("c")]),
        left: Vec::from([process("a")]),
        transitional: Vec::from([process("b")]),
        primary: false,
    };
    cluster.step("b", Input::Views(Vec::from([view])));
    Fence::new(id, 9)
}

/// The responses that `c` committed.
const C: [u32; 3] = [101, 102, 103];

/// It has these, committed under its fence.
fn standing_of_c(fence: Fence) -> SessionMessage {
    standing(fence, &C)
}

/// Somebody has these responses, committed under this fence, and no others.
fn standing(fence: Fence, numbers: &[u32]) -> SessionMessage {
    SessionMessage::Standing(Standing {
        answers: None,
        knows: true,
        reign: fence,
        fence,
        cursor: having(numbers),
        kept: (1..).zip(history(numbers)).collect(),
        forgotten: 0,
        requests: Vec::new(),
    })
}

/// The last view of a group.
fn last_view(cluster: &Cluster) -> GroupViewId {
    GroupViewId { configuration: ConfigurationId::new(1, 0), position: cluster.views }
}

/// A message in the session's group, for one server alone: who asked, if it is an answer.
fn tell_in_session(cluster: &mut Cluster, name: &'static str, from: &str, message: &SessionMessage) {
    let (group, sender) = (Purpose::Session(unit(), SESSION).group(), process(from));
    let payload = if let SessionMessage::Standing(standing) = message {
        let answers = Some((process(name), last_view(cluster)));
        encode(&SessionMessage::Standing(Standing { answers, ..standing.clone() }))
    } else {
        encode(message)
    };
    cluster.step(name, Input::Message { group, sender, payload, level: Level::Agreed });
}

#[test]
fn what_a_primary_from_elsewhere_commits_does_not_go_on_from_what_was_committed_here() {
    for (is_told_first, first) in [(false, 4), (true, 4), (false, 3)] {
        let mut cluster = playing();
        // Committed are 1, 2 and 3; where `c` was, 101 to 104.
        cluster.grant("a", 1, Resume::Beginning, 3);
        let fence = joined_by_c(&mut cluster);
        let responses = history(&[101, 102, 103, 104]).split_off(first - 1);
        let commit = SessionMessage::Commit { fence, first: first as u64, responses };
        let in_turn =
            if is_told_first { [standing_of_c(fence), commit] } else { [commit, standing_of_c(fence)] };
        for message in in_turn {
            tell_in_session(&mut cluster, "b", "c", &message);
        }
        cluster.multicasts.clear();
        assert_eq!(
            taken_over_by_b(&mut cluster, Resume::Beginning, 4),
            [
                "start 2 after 0/0",
                "response 1 is 101",
                "response 2 is 102",
                "response 3 is 103",
                "response 4 is 104"
            ]
            .map(|it| format!("b: {it}")),
            "{is_told_first} {first}"
        );
    }
}

#[test]
fn what_a_primary_from_elsewhere_commits_goes_on_from_the_part_that_both_sides_have() {
    let mut cluster = playing();
    // Committed are 1, 2 and 3; what `c` had of that when the sides parted is 1.
    cluster.grant("a", 1, Resume::Beginning, 3);
    let fence = joined_by_c(&mut cluster);
    let responses = history(&[1, 102, 103]).split_off(1);
    tell_in_session(&mut cluster, "b", "c", &SessionMessage::Commit { fence, first: 2, responses });
    tell_in_session(&mut cluster, "b", "c", &standing(fence, &[]));
    cluster.multicasts.clear();
    assert_eq!(
        taken_over_by_b(&mut cluster, Resume::Beginning, 3),
        ["start 2 after 0/0", "response 1 is 1", "response 2 is 102", "response 3 is 103"]
            .map(|it| format!("b: {it}"))
    );
}

#[test]
fn a_client_goes_on_from_where_it_is_though_servers_have_another_response_of_that_number() {
    // With and without a request after the response, applied on both sides.
    for requests in [0, 1] {
        let mut cluster = playing();
        cluster.grant("a", 1, Resume::Beginning, 3);
        if requests == 1 {
            cluster.request(1, "50");
        }
        let elsewhere = if requests == 1 { 60 } else { 103 };
        let client = Resume::After(having_asked(&C, requests, elsewhere));
        let sent = taken_over_by_b(&mut cluster, client.clone(), 1);
        let next = format!("b: response 4 is {}", elsewhere + 10);
        assert_eq!(sent, [format!("b: start 2 after 3/{requests}"), next.clone()]);
        // What there was of the other history is gone.
        let again = cluster.grant("b", 3, client.clone(), 1);
        assert_eq!(again, [format!("b: start 3 after 3/{requests}"), next]);
    }
}

#[test]
fn who_has_what_was_committed_later_does_not_go_over_to_an_older_history() {
    for (resume, sent) in [
        (Resume::After(having(&[101, 102])), ["start 2 after 2/0", "response 3 is 103", "response 4 is 113"]),
        (Resume::Anywhere, ["start 2 after 3/0", "response 4 is 113", "response 5 is 123"]),
    ] {
        let mut cluster = playing();
        cluster.grant("a", 1, Resume::Beginning, 3);
        let fence = joined_by_c(&mut cluster);
        tell_in_session(&mut cluster, "b", "c", &standing_of_c(fence));
        // The database knows of as many responses at `a`, and of a request that did not come here.
        let request = SessionMessage::Request { number: 1, operation: Bytes::from_static(b"50") };
        tell_in_session(&mut cluster, "a", "g", &request);
        cluster.multicasts.clear();
        cluster.wait(PERIOD);
        assert_eq!((cluster.status("b").session.requests, cluster.status("b").requests), (1, 0));
        assert_eq!(taken_over_by_b(&mut cluster, resume, 2), sent.map(|it| format!("b: {it}")));
    }
}

/// `a` and `b` have committed 1, 2 and 3, and have heard from `c` that on its side there are five. It is gone.
fn met_and_lost() -> Cluster {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 3);
    let (group, mut other) = (Purpose::Content(unit()).group(), alone("c", &counting_by(100)));
    other.grant("c", 1, Resume::Beginning, 5);
    other.wait(PERIOD);
    cluster.views = 200;
    cluster.servers.extend(other.servers);
    cluster.change(group, "c", true);
    cluster.run();
    assert_eq!(cluster.status("b").session.responses, 5);
    cluster.kill("c");
    cluster
}

#[test]
fn what_was_propagated_elsewhere_does_not_take_the_place_of_what_was_committed_here() {
    for (resume, sent) in [
        // Who went elsewhere with its client is gone, and the client is back where it was here.
        (Resume::After(having(&[1])), ["start 2 after 1/0", "response 2 is 2", "response 3 is 3"]),
        // It has what was said last there, or says nothing, and somebody knows better.
        (Resume::After(having(&[100])), ["start 2 after 1/0", "response 2 is 110", "response 3 is 120"]),
        (Resume::Anywhere, ["start 2 after 5/0", "response 6 is 510", "response 7 is 520"]),
    ] {
        let mut cluster = met_and_lost();
        assert_eq!(taken_over_by_b(&mut cluster, resume, 2), sent.map(|it| format!("b: {it}")));
    }
}

#[test]
fn what_follows_on_one_position_does_not_follow_on_another_of_that_number() {
    let mut cluster = playing();
    // It begins where a client is that had something from somebody else.
    assert_eq!(
        taken_over_by_b(&mut cluster, Resume::After(having(&[101])), 1),
        ["b: start 2 after 1/0", "b: response 2 is 111"]
    );
    let again = cluster.grant("b", 3, Resume::After(having(&[101])), 1);
    assert_eq!(again, ["b: start 3 after 1/0", "b: response 2 is 111"]);
    let other = cluster.grant("b", 4, Resume::After(having(&[1])), 1);
    assert_eq!(other, ["b: start 4 after 1/0", "b: response 2 is 11"]);
}

#[test]
fn what_was_committed_here_after_a_reign_began_elsewhere_does_not_go_on_from_what_was_committed_there() {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 3);
    let old = cluster.fence;
    let fence = joined_by_c(&mut cluster);
    // On its way before `c` came, and nothing to `c`.
    let commit =
        SessionMessage::Commit { fence: old, first: 4, responses: history(&[1, 2, 3, 4]).split_off(3) };
    tell_in_session(&mut cluster, "b", "a", &commit);
    assert_eq!(cluster.status("b").responses, 4);
    tell_in_session(&mut cluster, "b", "c", &standing_of_c(fence));
    cluster.multicasts.clear();
    assert_eq!(
        taken_over_by_b(&mut cluster, Resume::After(having(&[101, 102])), 2),
        ["b: start 2 after 2/0", "b: response 3 is 103", "b: response 4 is 113"]
    );
}

#[test]
fn what_was_said_before_a_later_primary_committed_is_asked_again() {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 3);
    let old = cluster.fence;
    let fence = joined_by_c(&mut cluster);
    let commit =
        SessionMessage::Commit { fence, first: 4, responses: history(&[101, 102, 103, 104]).split_off(3) };
    tell_in_session(&mut cluster, "b", "c", &commit);
    cluster.multicasts.clear();
    tell_in_session(&mut cluster, "b", "d", &standing(old, &[1, 2, 3]));
    assert_eq!(
        cluster.multicasts.pop_front().map(|it| it.2),
        Some(encode(&SessionMessage::Ask { view: last_view(&cluster) }))
    );
    tell_in_session(&mut cluster, "b", "c", &standing_of_c(fence));
    cluster.multicasts.clear();
    assert_eq!(
        taken_over_by_b(&mut cluster, Resume::After(having(&[101, 102])), 2),
        ["b: start 2 after 2/0", "b: response 3 is 103", "b: response 4 is 104"]
    );
}

#[test]
fn what_somebody_else_was_answered_before_is_no_answer() {
    let mut cluster = playing();
    let before = cluster.fence;
    cluster.kill("a");
    cluster.fence = cluster.status("b").session.fence;
    joined_by_c(&mut cluster);
    // On its way since before `c` was given what `a` committed: its answer to `d`.
    let SessionMessage::Standing(early) = standing(before, &[]) else { unreachable!("it is one") };
    let answers = Some((process("d"), last_view(&cluster)));
    let (group, sender) = (Purpose::Session(unit(), SESSION).group(), process("c"));
    let payload = encode(&SessionMessage::Standing(Standing { answers, ..early }));
    cluster.step("b", Input::Message { group, sender, payload, level: Level::Agreed });
    cluster.multicasts.clear();
    assert_eq!(cluster.grant("b", 2, Resume::Beginning, 3), NOTHING, "it waits for its own");
    tell_in_session(&mut cluster, "b", "c", &standing_of_c(before));
    assert_eq!(
        cluster.run(),
        ["start 2 after 0/0", "response 1 is 101", "response 2 is 102", "response 3 is 103"]
            .map(|it| format!("b: {it}"))
    );
}

/// b has three responses in common with its client, and has applied a request since that nobody remembers.
fn served_by_b_alone() -> Cluster {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 3);
    let fence = joined_by_c(&mut cluster);
    let SessionMessage::Standing(standing) = standing_of_c(fence) else { unreachable!("it is one") };
    let cursor = having_asked(&C, 1, 150);
    let standing = SessionMessage::Standing(Standing { cursor, ..standing });
    tell_in_session(&mut cluster, "b", "c", &standing);
    cluster.multicasts.clear();
    cluster.kill("a");
    cluster.fence = cluster.status("b").session.fence;
    cluster
}

#[test]
fn a_client_that_sends_again_is_right_where_requests_are_not_remembered() {
    for (repeats_from, next) in [(1, 113), (2, 160)] {
        let mut cluster = served_by_b_alone();
        let sent = cluster.grant_and_repeat("b", 2, Resume::After(having(&C)), 1, repeats_from);
        assert_eq!(sent, ["b: start 2 after 3/0".into(), format!("b: response 4 is {next}")]);
    }
}

#[test]
fn a_client_of_another_history_is_right_where_requests_are_not_remembered() {
    let mut cluster = served_by_b_alone();
    let sent = cluster.grant_and_repeat("b", 2, Resume::After(having(&[1, 2, 3])), 1, 2);
    assert_eq!(sent, ["b: start 2, 1 lost", "b: response 4 is 13"]);
}

#[test]
fn a_client_that_is_right_may_go_back_to_what_was_committed_before() {
    let mut cluster = served_by_b_alone();
    cluster.grant_and_repeat("b", 2, Resume::After(having(&C)), 0, 1);
    let sent = cluster.grant("b", 3, Resume::After(having(&[101])), 2);
    assert_eq!(sent, ["b: start 3 after 1/0", "b: response 2 is 102", "b: response 3 is 103"]);
}

#[test]
fn a_client_that_goes_back_beyond_what_is_lost_is_told_what_is_not() {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 3);
    // Nobody but its client has the fourth response.
    let sent = taken_over_by_b(&mut cluster, Resume::After(having(&[1, 2, 3, 4])), 1);
    assert_eq!(sent, ["b: start 2 after 4/0", "b: response 5 is 14"]);
    let sent = cluster.grant("b", 3, Resume::After(having(&[1])), 4);
    assert_eq!(sent[..3], ["b: start 3 after 1/0", "b: response 2 is 2", "b: response 3 is 3"]);
    assert_eq!(
        sent[3..],
        ["b: response 4 is 13", "b: response 5 is 23"],
        "what comes after that is lost with it"
    );
}

#[test]
fn who_goes_over_to_what_another_has_computes_from_that_and_not_from_where_it_was() {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    cluster.tell("a", Input::GatewayDown(gateway("g")));
    // Its backup was given a request that did not come here.
    let SessionMessage::Standing(standing) = standing(cluster.fence, &[1]) else { unreachable!("it is one") };
    let cursor = having_asked(&[1], 1, 50);
    let requests = Vec::from([Remembered { number: 1, operation: Bytes::from_static(b"50"), outcome: None }]);
    let standing = SessionMessage::Standing(Standing { cursor, requests, ..standing });
    tell_in_session(&mut cluster, "a", "b", &standing);
    cluster.multicasts.clear();
    cluster.tell("a", Input::GatewayUp(gateway("g")));
    assert_eq!(
        cluster.grant("a", 2, Resume::After(having(&[1])), 1),
        ["a: start 2 after 1/0", "a: response 2 is 51"],
        "and not 2"
    );
}

#[test]
fn a_request_has_the_outcome_that_it_had_where_the_context_comes_from() {
    let mut cluster = playing();
    let fence = joined_by_c(&mut cluster);
    let cursor = having_asked(&C, 1, 150);
    // Where `c` has been, it was refused at first.
    let refusal = Refusal { kind: RefusalKind::Precondition, message: "not there".into() };
    for (outcome, fence) in [(Err(refusal), fence), (Ok(()), Fence::new(last_view(&cluster), 10))] {
        let SessionMessage::Standing(standing) = standing_of_c(fence) else { unreachable!("it is one") };
        let operation = Bytes::from_static(b"150");
        let requests = Vec::from([Remembered { number: 1, operation, outcome: Some(outcome) }]);
        let standing = Standing { cursor: cursor.clone(), requests, ..standing };
        tell_in_session(&mut cluster, "b", "c", &SessionMessage::Standing(standing));
    }
    cluster.multicasts.clear();
    assert_eq!(taken_over_by_b(&mut cluster, Resume::After(cursor), 0), ["b: start 2 after 3/1"]);
    assert_eq!(cluster.request(1, "150"), ["b: applied 1"]);
}

#[test]
fn a_backup_that_is_told_of_a_request_that_it_missed_still_has_what_was_committed_before() {
    let mut cluster = playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    let request = SessionMessage::Request { number: 1, operation: Bytes::from_static(b"50") };
    tell_in_session(&mut cluster, "a", "g", &request);
    cluster.wait(PERIOD);
    assert_eq!((cluster.status("b").responses, cluster.status("b").requests), (1, 1), "it was propagated");
    let sent = taken_over_by_b(&mut cluster, Resume::Beginning, 2);
    assert_eq!(sent, ["b: start 2 after 0/0", "b: response 1 is 1", "b: response 2 is 60"]);
}

#[test]
fn a_backup_that_is_told_of_another_history_keeps_its_own_for_who_comes_from_there() {
    let mut cluster = playing();
    for (name, stream, resume) in
        [("b", 2, Resume::Beginning), ("a", 3, Resume::After(having_asked(&C, 1, 103)))]
    {
        cluster.order("a", Some(name));
        cluster.fence = cluster.status("b").session.fence;
        cluster.grant(name, stream, resume, 0);
        if name == "b" {
            cluster.request(1, "500");
            cluster.credit("b", 2, 3);
            assert_eq!((cluster.status("a").responses, cluster.status("a").requests), (3, 1));
        }
    }
    let request = SessionMessage::Request { number: 2, operation: Bytes::from_static(b"50") };
    tell_in_session(&mut cluster, "a", "g", &request);
    cluster.wait(PERIOD);
    assert_eq!((cluster.status("b").responses, cluster.status("b").requests), (3, 2), "it was propagated");
    let sent = taken_over_by_b(&mut cluster, Resume::Beginning, 4);
    assert_eq!(sent[..2], ["b: start 2, 1 lost", "b: response 1 is 510"]);
    assert_eq!(sent[3..], ["b: response 3 is 530", "b: response 4 is 540"], "and not 104");
}
