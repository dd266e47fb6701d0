//! What a server does not accept, from daemons and from servers: it says why, and nothing else changes.

use std::collections::BTreeMap;

use membership_core::{
    Attachment, Fault, Input, Kind, Message, Output, Params, Proposal, Rejection, Row, Server,
};
use model::{Address, Boot, ConfigurationId, DaemonId, Machine, ServerId, StartId, Time};

fn daemon(name: &str, boot: u64) -> DaemonId {
    DaemonId::new(name.parse().unwrap(), Boot::new(boot))
}

fn server(name: &str, boot: u64) -> ServerId {
    ServerId::new(name.parse().unwrap(), Boot::new(boot))
}

fn attach(daemon: DaemonId, last_start: Option<StartId>, counter: u64) -> Input {
    Input::Attach {
        daemon,
        address: Address::new("machine:7000"),
        last_start,
        last_configuration: Some(ConfigurationId::new(counter, 0)),
    }
}

fn handle(server: &mut Server, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    server.handle(Time::ZERO, input, &mut out);
    out
}

/// A server that is linked with `q#1`, which announced one daemon, and where one daemon is attached.
fn linked() -> Server {
    let mut p = Server::new(server("p", 1), Params { daemons_max: 3, ..Params::sim() });
    handle(&mut p, attach(daemon("a", 5), None, 0));
    handle(&mut p, Input::PeerUp { server: server("q", 1) });
    handle(&mut p, Input::Peer { from: server("q", 1), message: Message::Row(row(1)) });
    p
}

fn row(version: u64) -> Row {
    let after = StartId::new(Boot::new(1), 0);
    let attachment = Attachment { address: Address::new("b:1"), after, since: 1 };
    Row { version, daemons: BTreeMap::from([(daemon("b", 1), attachment)]) }
}

fn proposal() -> Proposal {
    Proposal {
        number: 1,
        kind: Kind::Fast,
        target: BTreeMap::from([(server("p", 1), 1), (server("q", 1), 1)]),
        starts: BTreeMap::from([(daemon("b", 1), StartId::new(Boot::new(1), 1))]),
        counter: 0,
        used: BTreeMap::new(),
    }
}

#[test]
fn daemons_with_impossible_claims_are_rejected() {
    let a = daemon("a", 5);
    let other_life = Some(StartId::new(Boot::new(4), 1));
    let huge = Some(StartId::new(Boot::new(5), u64::MAX));
    for (input, reason) in [
        (attach(a, other_life, 0), Rejection::ForeignStart),
        (attach(a, huge, 0), Rejection::OutOfRange),
        (attach(a, None, u64::MAX), Rejection::OutOfRange),
    ] {
        let mut p = Server::new(server("p", 1), Params::sim());
        assert_eq!(handle(&mut p, input), [Output::Rejected { daemon: a, reason }]);
    }
}

#[test]
fn a_daemon_too_many_is_rejected() {
    let mut p = linked();
    assert!(!handle(&mut p, attach(daemon("c", 1), None, 0)).is_empty());
    let late = daemon("d", 1);
    let rejected = Output::Rejected { daemon: late, reason: Rejection::TooManyDaemons { max: 3 } };
    assert_eq!(handle(&mut p, attach(late, None, 0)), [rejected]);
}

#[test]
fn who_is_rejected_is_not_attached() {
    let mut p = Server::new(server("p", 1), Params::sim());
    let a = daemon("a", 5);
    handle(&mut p, attach(a, None, 0));
    let orders = handle(&mut p, attach(a, None, u64::MAX));
    assert_eq!(orders.first(), Some(&Output::Rejected { daemon: a, reason: Rejection::OutOfRange }));
    let Some(Output::Agreed { configuration, .. }) = orders.last() else { panic!("{orders:?}") };
    assert!(configuration.members.is_empty());
}

#[test]
fn servers_that_break_the_protocol_are_refused() {
    let (q, zombie) = (server("q", 1), server("q", 0));
    let foreign = StartId::new(Boot::new(9), 1);
    let crowd: BTreeMap<_, _> =
        (0..4).map(|boot| (daemon("b", boot), row(1).daemons[&daemon("b", 1)].clone())).collect();
    let cases = [
        (server("r", 1), Message::Row(row(2)), Fault::NotUp),
        (server("r", 1), Message::Proposal(proposal()), Fault::NotUp),
        (zombie, Message::Row(row(2)), Fault::NotUp),
        (q, Message::Row(Row { version: 2, daemons: crowd }), Fault::TooManyDaemons),
        (q, Message::Row(row(u64::MAX)), Fault::OutOfRange),
        (q, Message::Proposal(Proposal { number: u64::MAX, ..proposal() }), Fault::OutOfRange),
        (q, Message::Proposal(Proposal { counter: u64::MAX, ..proposal() }), Fault::OutOfRange),
        (
            q,
            Message::Proposal(Proposal { kind: Kind::Slow { round: u64::MAX }, ..proposal() }),
            Fault::OutOfRange,
        ),
        (
            q,
            Message::Proposal(Proposal { target: BTreeMap::from([(q, 1)]), ..proposal() }),
            Fault::NotAddressed,
        ),
        (
            q,
            Message::Proposal(Proposal {
                target: BTreeMap::from([(server("p", 1), 1), (q, 2)]),
                ..proposal()
            }),
            Fault::NotAnnounced,
        ),
        (
            q,
            Message::Proposal(Proposal { starts: BTreeMap::from([(daemon("x", 9), foreign)]), ..proposal() }),
            Fault::NotAnnounced,
        ),
        (
            q,
            Message::Proposal(Proposal { starts: BTreeMap::from([(daemon("b", 1), foreign)]), ..proposal() }),
            Fault::ForeignStart,
        ),
    ];
    for (from, message, fault) in cases {
        let mut p = linked();
        let input = Input::Peer { from, message };
        assert_eq!(handle(&mut p, input.clone()), [Output::Refuse { from, fault }], "{input:?}");
        // The same server still agrees with a peer that keeps to the protocol.
        let orders = handle(&mut p, Input::Peer { from: q, message: Message::Proposal(proposal()) });
        assert!(matches!(orders.first(), Some(Output::Agreed { .. })), "{orders:?}");
    }
}

#[test]
fn an_earlier_life_of_a_server_is_refused() {
    let mut p = linked();
    let zombie = server("q", 0);
    let refused = Output::Refuse { from: zombie, fault: Fault::NotUp };
    assert_eq!(handle(&mut p, Input::PeerUp { server: zombie }), [refused]);
}
