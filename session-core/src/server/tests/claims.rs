//! Claims that are not answered, or answered with what the claimant cannot serve.

use super::*;

#[test]
fn a_claim_is_repeated_until_it_is_granted() {
    let mut cluster = Cluster::playing();
    assert_eq!(cluster.wait(Duration::from_millis(1000)), ["a: claim 0", "a: claim 0"]);
    cluster.grant("a", 1, Resume::Beginning, 0);
    assert_eq!(cluster.wait(Duration::from_millis(1000)), NOTHING);
}

#[test]
fn who_was_not_there_himself_does_not_end_a_session_for_want_of_an_answer() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    cluster.tell("a", Input::GatewayDown(gateway("g")));
    // It stands still, and what came meanwhile waits behind its timer.
    cluster.now = cluster.now + 2 * TTL;
    cluster.wait(Duration::ZERO);
    assert_eq!(cluster.servers["b"].sessions().count(), 1);
    assert_eq!(cluster.tell("a", Input::GatewayUp(gateway("g"))), ["a: claim 0"]);
    cluster.wait(2 * TTL);
    assert_eq!(cluster.servers["b"].sessions().count(), 0, "it has asked all the time");
}

#[test]
fn a_session_whose_client_is_on_an_edition_that_is_not_held_here_waits_for_who_holds_it() {
    let mut cluster = Cluster::playing();
    let edition = Edition { number: 2, ..Edition::ONLY };
    let context = encode_context(Head::new(edition), &(7, Some(Time::ZERO)));
    let resume = Resume::After(Cursor { responses: 7, requests: 0, context });
    assert_eq!(cluster.grant("a", 1, resume, 1), ["a: None", "b: None"], "nothing is refused");
    let known = cluster.status("b").session;
    assert_eq!((known.edition(), known.primary, known.responses), (Some(edition), None, 7));
}

#[test]
fn servers_say_nothing_to_each_other_before_a_backup_that_takes_over_responds() {
    for names in [&["a", "b"][..], &["a", "b", "c"]] {
        let mut cluster = Cluster::playing_among(names, &counter());
        cluster.grant("a", 1, Resume::Beginning, 1);
        cluster.request(1, "70");
        cluster.wait(PERIOD);
        let said = cluster.said;
        cluster.kill("a");
        cluster.fence = cluster.status("b").session.fence;
        let responded = "b: response 3 is 72".into();
        assert!(cluster.grant("b", 2, after(1, 0, 1), 2).contains(&responded));
        assert_eq!(cluster.said, said, "its gateway's grant is all that it waits for");
        cluster.wait(PERIOD);
        assert!(cluster.said > said, "then it propagates");
    }
}

#[test]
fn a_cursor_that_counts_further_than_anybody_is_refused() {
    for (responses, requests) in [(u64::MAX, 0), (0, u64::MAX)] {
        let mut cluster = Cluster::playing();
        let resume = Resume::After(Cursor { responses, requests, context: context(1) });
        assert_eq!(cluster.grant("a", 1, resume, 2), ["a: BadCursor"]);
    }
}
