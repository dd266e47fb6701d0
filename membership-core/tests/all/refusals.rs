//! What a server does not accept, from daemons and from servers: it says why, and nothing else changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use membership_core::{
    Agreed, Arrival, Attachment, Change, Fault, Input, Kind, Message, Neighbours, Output, Params, Proposal,
    Protocol, Rejection, Row, Server, Standing, Started, Target, Word,
};
use model::{Address, Boot, ConfigurationId, DaemonId, Machine, ServerId, StartId, Time};

use crate::world::sim;

fn daemon(name: &str, boot: u64) -> DaemonId {
    DaemonId::new(name.parse().unwrap(), Boot::new(boot))
}

fn server(name: &str, boot: u64) -> ServerId {
    ServerId::new(name.parse().unwrap(), Boot::new(boot))
}

fn attach(daemon: DaemonId, last_start: Option<StartId>, counter: u64) -> Input {
    Input::Attach(Arrival {
        daemon,
        address: Address::new("machine:7000"),
        attempt: 0,
        last_start,
        standing: Some(Standing { id: ConfigurationId::new(counter, 0), size: 1 }),
        is_changing: true,
        ballots: None,
    })
}

fn started(start: StartId) -> Started {
    Started { start, ballots: None }
}

fn handle(server: &mut Server, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    server.handle(Time::ZERO, input, &mut out);
    server.wake(Time::ZERO, &mut out);
    out
}

/// A server that is linked with `q#1`, which announced one daemon, and where one daemon is attached; and what q votes,
/// having seen the same.
fn linked() -> (Server, Proposal) {
    let mut p = Server::new(server("p", 1), Params { daemons_max: 3, ..Params::sim() });
    handle(&mut p, attach(daemon("a", 5), None, 0));
    handle(&mut p, Input::PeerUp { server: server("q", 1) });
    let q = server("q", 1);
    handle(&mut p, Input::Peer { from: q, message: Message::Row(row(1)) });
    let orders = handle(&mut p, Input::Peer { from: q, message: Message::Links(links(1)) });
    let vote = orders.into_iter().find_map(|order| {
        let Output::Send { message: Message::Proposal(proposal), .. } = order else { return None };
        Some(proposal)
    });
    let starts = BTreeMap::from([(daemon("b", 1), started(StartId::new(Boot::new(1), 1)))]);
    (p, Proposal { number: 1, starts, ..vote.unwrap() })
}

fn row(version: u64) -> Row {
    let attachment = Attachment {
        address: Address::new("b:1"),
        attempt: 0,
        since: 1,
        standing: None,
        is_changing: false,
        lost: None,
        held: false,
        report: Arc::default(),
    };
    Row { version, daemons: BTreeMap::from([(daemon("b", 1), attachment)]) }
}

fn links(version: u64) -> BTreeMap<ServerId, Neighbours> {
    let linked = BTreeSet::from([server("p", 1)]);
    BTreeMap::from([(server("q", 1), Neighbours { version, linked })])
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
    let (mut p, _) = linked();
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
    let Some(Output::Agreed(Agreed { configurations, .. })) = orders.last() else { panic!("{orders:?}") };
    assert_eq!(*configurations, []);
}

#[test]
fn who_comes_from_a_configuration_of_the_past_is_not_new_to_a_server_that_is() {
    let (a, b) = (daemon("a", 1), daemon("b", 1));
    let joined = |server: &mut Server, attach| {
        let orders = handle(server, attach);
        let Some(Output::Agreed(agreed)) = orders.iter().find(|it| matches!(it, Output::Agreed(_))) else {
            panic!("{orders:?}")
        };
        agreed.joined.iter().copied().collect::<Vec<_>>()
    };
    let comes = |daemon| {
        let Input::Attach(arrival) = attach(daemon, None, 0) else { unreachable!() };
        Input::Attach(Arrival { standing: None, ..arrival })
    };
    let mut first = Server::new(server("p", 1), Params::sim());
    assert_eq!(joined(&mut first, comes(a)), [a]);
    assert_eq!(joined(&mut first, comes(b)), [b]);
    let mut next = Server::new(server("p", 2), Params::sim());
    assert_eq!(joined(&mut next, attach(a, None, 2)), []);
    assert_eq!(joined(&mut next, comes(b)), [b]);
}

#[test]
fn servers_that_break_the_protocol_are_refused() {
    let (q, zombie) = (server("q", 1), server("q", 0));
    let foreign = StartId::new(Boot::new(9), 1);
    let (_, vote) = linked();
    let proposal = || vote.clone();
    let many = (0..4).map(|boot| (daemon("b", boot), started(StartId::new(Boot::new(boot), 1)))).collect();
    let only =
        |servers: &[ServerId]| Target { servers: servers.iter().copied().collect(), ..vote.target.clone() };
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
        (q, Message::Proposal(Proposal { target: only(&[q]), ..proposal() }), Fault::NotAddressed),
        (
            q,
            Message::Proposal(Proposal { target: only(&[server("p", 1)]), ..proposal() }),
            Fault::NotAddressed,
        ),
        (q, Message::Links(links(u64::MAX)), Fault::OutOfRange),
        (q, Message::Change(Change { version: 1, daemons: BTreeMap::new() }), Fault::OldVersion),
        (q, Message::Change(Change { version: u64::MAX, daemons: BTreeMap::new() }), Fault::OutOfRange),
        (q, Message::Proposal(Proposal { starts: many, ..proposal() }), Fault::TooManyDaemons),
        (
            q,
            Message::Proposal(Proposal {
                starts: BTreeMap::from([(daemon("b", 1), started(foreign))]),
                ..proposal()
            }),
            Fault::ForeignStart,
        ),
    ];
    for (from, message, fault) in cases {
        let (mut p, _) = linked();
        let input = Input::Peer { from, message };
        assert_eq!(handle(&mut p, input.clone()), [Output::Refuse { from, fault }], "{input:?}");
        // The same server still agrees with a peer that keeps to the protocol.
        let orders = handle(&mut p, Input::Peer { from: q, message: Message::Proposal(proposal()) });
        assert!(matches!(orders.first(), Some(Output::Agreed(_))), "{orders:?}");
    }
}

#[test]
fn an_earlier_life_of_a_server_is_refused() {
    let (mut p, _) = linked();
    let zombie = server("q", 0);
    let refused = Output::Refuse { from: zombie, fault: Fault::NotUp };
    assert_eq!(handle(&mut p, Input::PeerUp { server: zombie }), [refused]);
}

#[test]
fn servers_of_another_protocol_are_refused() {
    let q = server("q", 1);
    let (mut moshe, vote) = linked();
    let mut wombat = Server::new(server("p", 1), sim(Protocol::Wombat));
    handle(&mut wombat, Input::PeerUp { server: q });
    let refused = [Output::Refuse { from: q, fault: Fault::ForeignProtocol }];
    for message in [Message::Proposal(vote), Message::Links(links(1))] {
        assert_eq!(handle(&mut wombat, Input::Peer { from: q, message }), refused);
    }
    let message = Message::Wombat(Word::Away);
    assert_eq!(handle(&mut moshe, Input::Peer { from: q, message }), refused);
}
