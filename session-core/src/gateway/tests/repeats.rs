//! What gateways repeat, and how often.

use super::*;

#[test]
fn what_nobody_answers_is_repeated_less_and_less_often() {
    let mut bench = Bench::playing();
    bench.request(None);
    for pause in [250, 500, 1000, 2000, 4000, 4000, 4000] {
        assert_eq!(requests(&bench.wait(pause - 1)), 0, "before {pause} ms");
        assert_eq!(requests(&bench.wait(1)), 1, "after {pause} ms");
    }
}

#[test]
fn an_answer_or_a_server_begins_it_anew() {
    let mut bench = Bench::playing();
    bench.request(None);
    bench.request(None);
    assert_eq!(requests(&bench.wait(750)), 4, "both of them twice");
    bench.applied(1, Ok(()));
    assert_eq!(requests(&bench.wait(750)), 2, "the other one twice");
    assert_eq!(requests(&bench.started(A, 2, 0)), 1, "the stream has begun again");
    assert_eq!(requests(&bench.wait(750)), 2);
    assert_eq!(requests(&bench.tell(Input::GroupsUp)), 1);
    assert_eq!(requests(&bench.wait(750)), 2);
}

#[test]
fn without_a_daemon_nothing_is_multicast_until_there_is_one() {
    let mut bench = Bench::new();
    bench.list();
    bench.tell(Input::GroupsDown);
    assert_eq!(bench.open(SESSION), NOTHING);
    assert_eq!(bench.tell(Input::GroupsUp), ["content/film: start"]);
}

/// How many requests there are among what a gateway says.
fn requests(said: &[String]) -> usize {
    said.iter().filter(|line| line.starts_with("session: request")).count()
}
