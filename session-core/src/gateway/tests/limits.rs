//! What gateways have no more of than they may.

use super::*;

#[test]
fn a_full_gateway_takes_no_more() {
    let mut bench = Bench::new();
    bench.list();
    bench.open(SessionId::new(1));
    bench.open(SessionId::new(2));
    assert_eq!(bench.open(SessionId::new(3)), ["reply 4: TooManySessions { limit: 2 }"]);
    assert_eq!(bench.attach(Resume::Anywhere), ["reply 5: TooManySessions { limit: 2 }"]);
    assert_eq!(bench.close(), ["reply 6: TooManySessions { limit: 2 }"]);
}

#[test]
fn no_more_calls_wait_for_the_units_than_there_may_be_sessions() {
    let mut bench = Bench::new();
    let mut list = || {
        let ticket = bench.ticket();
        bench.tell(Input::List(ticket))
    };
    assert_eq!(list(), ["service: list 1"]);
    assert_eq!(list(), NOTHING);
    assert_eq!(list(), ["reply 3: TooManySessions { limit: 2 }"]);
    assert_eq!(bench.open(SessionId::new(1)), ["reply 4: TooManySessions { limit: 2 }"], "it would wait too");
}
