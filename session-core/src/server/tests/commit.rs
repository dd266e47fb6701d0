//! Output commit: what is sent when, and what a server that takes over makes of it.

use super::*;

/// As [`Cluster::playing`], with numbers that go up by one at `a`, and by ten at `b`.
fn playing() -> Cluster {
    let service = Counter { commit: Some(Level::Agreed), ..counter() };
    let mut cluster = Cluster::playing_with(&service);
    cluster.tell("b", Input::Content { ticket: 1, service: Counter { step: 10, ..service } });
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
        taken_over_by_b(&mut cluster, after(1, 0, 1), 3),
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
                resume: after(1, 0, 1),
                credit: Credit::responses(1),
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
    let taken_over = cluster.grant("c", 2, after(1, 0, 1), 3);
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
        credit: Credit::responses(1),
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
