//! How fresh the context is at the primary, at a backup and in the unit database, and what each level promises: what
//! the client gets when another server takes over, with the gateway's cursor and without it.

use super::*;
use crate::unit_db::Uncertain;

/// `a` serves, `b` mirrors, and `c` has no part. Contexts are propagated once a minute, so that all but what the primary
/// propagates at its start is known to nobody but itself.
fn playing(uncertain: Uncertain) -> Cluster {
    let service = Counter { paced: true, ..counter() };
    let mut cluster = Cluster::playing_with(&service);
    let params = cluster.servers["a"].params.clone();
    cluster.servers.insert("c", Server::new(service, params));
    cluster.tell("c", Input::Attached(process("c")));
    let change = PolicyChange {
        period: Some(Duration::from_secs(60)),
        uncertain: Some(uncertain),
        ..PolicyChange::default()
    };
    cluster.tell("c", Input::Adjust { ticket: 1, unit: unit(), change });
    assert_eq!(
        cluster.grant_and_repeat("a", 1, Resume::Beginning, 9, 1).len(),
        2,
        "it starts with the first"
    );
    // Responses 2, 3 and 4 are uncertain from here on.
    assert_eq!(cluster.wait(Duration::from_secs(3)).len(), 3);
    cluster
}

/// The servers die, and the next one is told that its client has four responses. What does the client get?
fn takeover(cluster: &mut Cluster, dead: &[&'static str], credit: u64, requests: u64) -> Vec<String> {
    takeover_with(cluster, dead, (credit > 0).then(|| Credit::responses(credit)), requests)
}

fn takeover_with(
    cluster: &mut Cluster,
    dead: &[&'static str],
    credit: Option<Credit>,
    requests: u64,
) -> Vec<String> {
    for name in dead {
        cluster.kill(name);
    }
    let heir = if dead.len() == 1 { "b" } else { "c" };
    cluster.tell(heir, Input::GatewayUp(gateway("g")));
    cluster.fence = cluster.status(heir).session.fence;
    let last = Time::ZERO + Duration::from_secs(3);
    let number: u32 = if requests == 0 { 4 } else { 70 };
    let context = encode_context(Head::new(Edition::ONLY), &(number, Some(last)));
    let cursor = Resume::After(Cursor { responses: 4, requests, context });
    let seen = cluster.grant_with(heir, 2, cursor, credit, requests + 1);
    seen.into_iter().map(|line| line[3..].into()).collect()
}

#[test]
fn uncertain_responses_are_asked_for_sent_again_or_left_out() {
    let again = ["uncertain 2 after 1/0", "response 2 is 2", "response 3 is 3", "response 4 is 4"];
    let essential = ["uncertain 2 after 1/0", "response 2 is 2", "uncertain 2 after 3/0", "response 4 is 4"];
    for (uncertain, sent) in [
        (Uncertain::Ask, &["start 2 after 4/0"][..]),
        (Uncertain::Resend, &again),
        (Uncertain::Skip, &["uncertain 2 after 4/0"]),
        (Uncertain::Essential, &essential),
    ] {
        // A backup and one of the other replicas know as much of responses: what was propagated.
        for dead in [&["a"][..], &["a", "b"]] {
            let mut cluster = playing(uncertain);
            assert_eq!(takeover(&mut cluster, dead, 9, 0), sent, "{uncertain:?} after {dead:?}");
            let next = cluster.wait(Duration::from_secs(1));
            assert_eq!(next[0][3..], *"response 5 is 5", "{uncertain:?}");
        }
    }
}

#[test]
fn what_was_due_is_uncertain_however_small_the_window_is_now() {
    let mut cluster = playing(Uncertain::Skip);
    assert_eq!(takeover(&mut cluster, &["a"], 2, 0), ["uncertain 2 after 4/0"]);
    let next = ["b: response 5 is 5", "b: response 6 is 6"];
    assert_eq!(cluster.wait(Duration::from_secs(9)), next, "two fit into the window");
    let mut cluster = playing(Uncertain::Essential);
    let sent = takeover(&mut cluster, &["a"], 1, 0);
    let left_out = "uncertain 2 after 3/0";
    assert_eq!(
        sent,
        ["uncertain 2 after 1/0", "response 2 is 2", left_out],
        "the fourth waits for the client"
    );
    let mut cluster = playing(Uncertain::Skip);
    assert_eq!(
        takeover(&mut cluster, &["a"], 0, 0),
        ["uncertain 2 after 1/0"],
        "nobody was there to get any"
    );
}

#[test]
fn what_was_due_is_uncertain_though_the_client_has_no_room_for_more() {
    for credit in [Credit { responses: 9, bytes: 0 }, Credit { responses: 0, bytes: 9 }, Credit::NONE] {
        for (uncertain, begins, responses) in [
            (Uncertain::Skip, "uncertain 2 after 4/0", 5),
            (Uncertain::Essential, "uncertain 2 after 1/0", 2),
        ] {
            let mut cluster = playing(uncertain);
            assert_eq!(takeover_with(&mut cluster, &["a"], Some(credit), 0), [begins], "{credit:?}");
            cluster.wait(Duration::from_secs(1));
            let next = cluster.credit("b", 2, responses);
            assert_eq!(next[0], format!("b: response {responses} is {responses}"), "{credit:?}");
        }
    }
}

#[test]
fn a_service_that_does_not_go_by_the_clock_leaves_out_a_window() {
    let service = counter();
    let mut cluster = Cluster::playing_with(&service);
    let change = PolicyChange { uncertain: Some(Uncertain::Skip), ..PolicyChange::default() };
    cluster.tell("a", Input::Adjust { ticket: 1, unit: unit(), change });
    assert_eq!(cluster.grant_and_repeat("a", 1, Resume::Beginning, 1, 1).len(), 2);
    cluster.wait(PERIOD);
    let sent = takeover(&mut cluster, &["a"], 2, 0);
    assert_eq!(sent, ["uncertain 2 after 3/0", "response 4 is 4", "response 5 is 5"]);
}

#[test]
fn a_primary_that_has_served_knows_what_it_sent() {
    let mut cluster = playing(Uncertain::Resend);
    let cursor = Resume::After(Cursor { responses: 3, requests: 0, context: context(3) });
    let seen = cluster.grant_and_repeat("a", 2, cursor, 1, 1);
    assert_eq!(seen, ["a: start 2 after 3/0", "a: response 4 is 4"], "the client has come back, and says it");
}

#[test]
fn a_backup_has_every_request_and_the_database_those_that_were_propagated() {
    for (uncertain, dead, begins) in [
        // With the cursor, nothing depends on who takes over.
        (Uncertain::Ask, &["a"][..], "start 2 after 4/1"),
        (Uncertain::Ask, &["a", "b"], "start 2 after 4/1"),
        // A backup knows the request, and not that its responses were sent.
        (Uncertain::Resend, &["a"], "uncertain 2 after 1/1"),
        // With primary and backup, the request is gone, and the client is told so.
        (Uncertain::Resend, &["a", "b"], "start 2, 1 lost"),
    ] {
        let mut cluster = playing(uncertain);
        assert_eq!(cluster.request(1, "70"), ["a: applied 1"]);
        let sent = takeover(&mut cluster, dead, 9, 1);
        assert_eq!(sent[0], begins, "{uncertain:?} after {dead:?}: {sent:?}");
        let knows = uncertain == Uncertain::Ask || dead.len() == 1;
        let next = cluster.wait(Duration::from_secs(1));
        let number: u32 = next[0].rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(number > 70, knows, "{uncertain:?} after {dead:?}: {next:?}");
    }
}

#[test]
fn a_request_that_waits_at_the_gateway_is_lost_with_nobody() {
    let mut cluster = playing(Uncertain::Resend);
    for name in ["a", "b"] {
        cluster.kill(name);
    }
    cluster.tell("c", Input::GatewayUp(gateway("g")));
    cluster.fence = cluster.status("c").session.fence;
    let seen = cluster.grant_and_repeat("c", 2, after(4, 0, 4), 9, 1);
    assert_eq!(seen[0], "c: uncertain 2 after 1/0");
    assert_eq!(cluster.request(1, "70")[0], "c: applied 1", "the gateway repeats it");
}

#[test]
fn what_was_propagated_is_not_uncertain() {
    for uncertain in [Uncertain::Resend, Uncertain::Skip] {
        let mut cluster = playing(uncertain);
        let change = PolicyChange { period: Some(PERIOD), ..PolicyChange::default() };
        cluster.tell("b", Input::Adjust { ticket: 2, unit: unit(), change });
        cluster.wait(PERIOD);
        assert_eq!(cluster.status("c").session.responses, 4);
        assert_eq!(takeover(&mut cluster, &["a", "b"], 9, 0), ["uncertain 2 after 4/0"]);
    }
}
