//! How sessions end that somebody gives up.

use super::*;

#[test]
fn a_session_is_closed_from_every_phase() {
    // Opening.
    let mut bench = Bench::new();
    bench.list();
    bench.open(SESSION);
    assert_eq!(bench.close(), ["reply 2: Ended", "content/film: end"]);
    // Attaching.
    let mut bench = Bench::new();
    bench.attach(Resume::Anywhere);
    assert_eq!(bench.close(), ["reply 1: Ended", "content/film: end"]);
    // Open, and twice.
    let mut bench = Bench::playing();
    bench.request(None);
    assert_eq!(bench.close(), ["content/film: end"]);
    assert_eq!(bench.close(), ["content/film: end"]);
    assert_eq!(bench.request(None), ["reply 7: Ended"]);
    assert_eq!(bench.attach(Resume::Anywhere), ["reply 8: Ended"]);
    assert_eq!(
        bench.server(A, ToGateway::Ended { session: SESSION }),
        ["reply 4: Ended", "reply 5: closed", "reply 6: closed", "client 1: over, Ended"]
    );
    // Never heard of here; and over already, or forgotten, as far as the servers know.
    for reason in [AttachRefusal::Ended, AttachRefusal::Unknown] {
        let mut bench = Bench::new();
        assert_eq!(bench.close(), ["content/film: end"]);
        assert_eq!(bench.refused(A, reason), ["reply 1: closed"]);
    }
    // Nobody answers.
    let mut bench = Bench::new();
    bench.close();
    assert_eq!(bench.wait(10_000).last().unwrap(), "reply 1: NoReplica");
}

#[test]
fn a_session_that_nobody_opens_in_time_is_ended_for_servers_that_come_too_late() {
    let mut bench = Bench::new();
    bench.list();
    bench.open(SESSION);
    let seen = bench.wait(10_000);
    assert_eq!(seen[seen.len() - 2..], ["content/film: end", "reply 2: NoReplica"]);
}
