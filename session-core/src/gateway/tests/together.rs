//! Responses that come together.

use super::*;

impl Bench {
    pub(super) fn respond_all(&mut self, link: LinkId, stream: u64, numbers: &[u64]) -> Vec<String> {
        let response =
            |number: &u64| Response { cursor: cursor(*number, 0), payload: Bytes::new(), last: false };
        let responses = numbers.iter().map(response).collect();
        self.server(link, ToGateway::Responses { session: SESSION, stream, responses })
    }
}

#[test]
fn of_responses_that_come_together_those_pass_whose_turn_it_is() {
    let mut bench = Bench::playing();
    assert_eq!(bench.respond_all(A, 2, &[1, 2]), ["client 1: response 1, 2"]);
    assert_eq!(bench.respond_all(A, 2, &[2, 3, 5]), ["stale 1", "stale 1", "client 1: response 3"]);
    assert_eq!(bench.respond_all(A, 2, &[1, 2]), ["stale 1", "stale 1"]);
    assert_eq!(bench.respond_all(A, 1, &[4, 5]), ["stale 1"], "a stream that was cut");
    assert_eq!(bench.consume(3), ["to 1: stream 2 up to 7"]);
}
