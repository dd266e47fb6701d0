//! How long clients wait when their server changes.

use super::*;

#[test]
fn how_long_a_client_was_not_served_counts_from_the_last_that_was_heard_while_something_was_due() {
    let mut bench = Bench::playing();
    bench.wait(1000);
    bench.respond(A, 2, 1);
    bench.wait(400);
    bench.tell(Input::LinkDown(A));
    bench.wait(200);
    bench.claim(B, 2, 0);
    assert_eq!(bench.started(B, 4, 1)[0], "taken over: Lost, after 600 ms");
    bench.server(B, ToGateway::Rests { session: SESSION, stream: 4, time: None });
    bench.wait(60_000);
    assert_eq!(bench.server(B, ToGateway::Suspended { session: SESSION }), NOTHING);
    bench.wait(100);
    bench.tell(Input::LinkUp { link: A, server: "a".parse().unwrap() });
    bench.claim(A, 3, 0);
    assert_eq!(
        bench.started(A, 6, 1)[0],
        "taken over: Suspended, after 100 ms",
        "nothing was due for a minute"
    );
}

#[test]
fn a_client_that_comes_back_waits_from_then_on() {
    let mut bench = Bench::playing();
    bench.tell(Input::LinkDown(A));
    bench.wait(2000);
    bench.attach(Resume::Beginning);
    bench.wait(100);
    bench.claim(B, 2, 0);
    assert_eq!(bench.started(B, 5, 0)[0], "taken over: Lost, after 100 ms");
}

#[test]
fn a_client_whose_server_may_serve_no_more_waits_for_another_and_is_told_if_none_comes() {
    let mut bench = Bench::playing();
    assert_eq!(bench.server(B, ToGateway::Suspended { session: SESSION }), NOTHING, "it is not B's to say");
    assert!(bench.gateway.sessions().all(|session| session.server.is_some()));
    assert_eq!(bench.server(A, ToGateway::Suspended { session: SESSION }), NOTHING);
    assert!(bench.gateway.sessions().all(|session| session.server.is_none()));
    assert_eq!(bench.wait(250), ["content/film: inquire"]);
    assert_eq!(bench.wait(10_000).last().unwrap(), "client 1: over, NoReplica");
}
