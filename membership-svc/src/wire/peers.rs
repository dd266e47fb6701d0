//! What servers say to each other.

use std::collections::{BTreeMap, BTreeSet};

use membership_core::{
    Attachment, Bar, Change, Kind, Leave, Message, Neighbours, Place, Proposal, Protocol, Row, Rule, Started,
    Target, Term,
};
use model::{Boot, ConfigurationId, DaemonId, Name, ServerId};
use proto::membership::v1 as pb;

use crate::wire::{
    Malformed, address, duration, malformed, parse, parse_given, read_ballots, report, standing, unreachable,
    wombat, write_ballots, write_duration,
};

/// Boots have to stay below this, so that there is always a greater one.
const BOOT_MAX: u64 = 1 << 62;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkHello {
    /// Which cluster it belongs to.
    pub cluster: Name,
    /// Who it is.
    pub server: ServerId,
    /// How it agrees with others.
    pub protocol: Protocol,
    /// By which rule it says which configuration is primary, as text.
    pub rule: String,
    /// Whom it means to speak to.
    pub to: Name,
    /// The latest life of that server that it knows of.
    pub latest: Boot,
}

/// What a server says of itself.
pub fn link_hello(hello: LinkHello) -> pb::LinkHello {
    pb::LinkHello {
        cluster: hello.cluster.to_string(),
        server: hello.server.to_string(),
        protocol: hello.protocol.to_string(),
        rule: hello.rule,
        version: proto::MEMBERSHIP_VERSION,
        to: hello.to.to_string(),
        latest: hello.latest.number(),
    }
}

/// What a server says of itself.
pub fn read_link_hello(hello: &pb::LinkHello) -> Result<LinkHello, Malformed> {
    if hello.latest >= BOOT_MAX {
        return Err(malformed("hello.latest", "is too great for a start time"));
    }
    Ok(LinkHello {
        cluster: parse(&hello.cluster, "hello.cluster")?,
        server: parse(&hello.server, "hello.server")?,
        protocol: parse_given(&hello.protocol, "hello.protocol")?.unwrap_or_default(),
        rule: if hello.rule.is_empty() { Rule::None.to_string() } else { hello.rule.clone() },
        to: parse(&hello.to, "hello.to")?,
        latest: Boot::new(hello.latest),
    })
}

/// What is said to a server.
pub fn peer_message(message: Message) -> pb::PeerMessage {
    use pb::peer_message::Message as Wire;
    let message = match message {
        Message::Row(row) => {
            let attachments = row.daemons.into_iter().map(write_attachment).collect();
            Wire::Row(pb::Row { version: row.version, attachments })
        }
        Message::Change(change) => Wire::Change(write_change(change)),
        Message::Links(links) => {
            let neighbours = links.into_iter().map(|(server, neighbours)| pb::Neighbours {
                server: server.to_string(),
                version: neighbours.version,
                linked: neighbours.linked.iter().map(ToString::to_string).collect(),
            });
            Wire::Links(pb::Links { neighbours: neighbours.collect() })
        }
        Message::Bars(bars) => Wire::Bars(pb::Bars { bars: bars.into_iter().map(write_bar).collect() }),
        Message::Proposal(proposal) => Wire::Proposal(write_proposal(&proposal)),
        Message::Attempted(attempts) => {
            Wire::Attempts(pb::Attempts { attempts: attempts.into_iter().map(write_attempt).collect() })
        }
        Message::Beat => Wire::Beat(pb::Beat {}),
        Message::Wombat(word) => Wire::Word(wombat::write(word)),
    };
    pb::PeerMessage { message: Some(message) }
}

fn write_attachment((daemon, it): (DaemonId, Attachment)) -> pb::Attachment {
    pb::Attachment {
        daemon: daemon.to_string(),
        address: it.address.to_string(),
        attempt: it.attempt,
        since: it.since,
        configuration: it.standing.map(|standing| standing.id.to_string()).unwrap_or_default(),
        members: it.standing.map_or(0, |standing| u32::try_from(standing.size).unwrap_or(u32::MAX)),
        changing: it.is_changing,
        lost: it.lost.map(write_leave),
        held: it.held,
        unreachable: unreachable(&it.report),
    }
}

fn write_change(change: Change) -> pb::Change {
    let mut written = pb::Change { version: change.version, attached: Vec::new(), left: Vec::new() };
    for (daemon, place) in change.daemons {
        match place {
            Place::Taken(attachment) => written.attached.push(write_attachment((daemon, attachment))),
            Place::Left(leave) => {
                let (daemon, leave) = (daemon.to_string(), Some(write_leave(leave)));
                written.left.push(pb::Left { daemon, leave });
            }
        }
    }
    written
}

pub fn write_leave(leave: Leave) -> pb::Leave {
    use pb::LeaveReason as Reason;
    let (mut silent, mut server) = (None, String::new());
    let reason = match leave {
        Leave::Goodbye => Reason::Goodbye,
        Leave::Closed => Reason::Closed,
        Leave::Silent(time) => {
            silent = Some(write_duration(time));
            Reason::Silent
        }
        Leave::Barred => Reason::Barred,
        Leave::Superseded => Reason::Superseded,
        Leave::Rejected => Reason::Rejected,
        Leave::ServerLost(lost) => {
            server = lost.to_string();
            Reason::ServerLost
        }
    };
    pb::Leave { reason: reason.into(), silent, server }
}

fn write_bar((name, bar): (Name, Bar)) -> pb::Bar {
    use pb::bar::Decision;
    let decision = match bar.out {
        Some(Term::For(time)) => Decision::Duration(write_duration(time)),
        Some(Term::Maintenance) => Decision::Maintenance(true),
        None => Decision::Free(true),
    };
    let (name, by) = (name.to_string(), bar.by.to_string());
    pb::Bar { name, version: bar.version, by, decision: Some(decision) }
}

fn write_proposal(proposal: &Proposal) -> pb::Proposal {
    let target = |server: &ServerId| pb::TargetServer {
        server: server.to_string(),
        used: proposal.used.get(server).copied().unwrap_or(0),
    };
    pb::Proposal {
        number: proposal.number,
        round: match proposal.kind {
            Kind::Fast => 0,
            Kind::Slow { round } => round,
        },
        target: proposal.target.servers.iter().map(target).collect(),
        starts: write_starts(&proposal.starts),
        counter: proposal.counter,
        digest: proposal.target.digest,
    }
}

/// What a server says.
pub fn read_peer_message(message: Option<pb::PeerMessage>) -> Result<Message, Malformed> {
    use pb::peer_message::Message as Wire;
    let message = message.and_then(|message| message.message);
    let message = message.ok_or_else(|| malformed("message", "must be in every message but the first"))?;
    Ok(match message {
        Wire::Row(row) => {
            let daemons =
                row.attachments.into_iter().map(|it| read_attachment(it, "message.row.attachments"));
            Message::Row(Row { version: row.version, daemons: daemons.collect::<Result<_, _>>()? })
        }
        Wire::Change(change) => Message::Change(read_change(change)?),
        Wire::Links(links) => {
            let neighbours = links.neighbours.into_iter().map(read_neighbours);
            Message::Links(neighbours.collect::<Result<_, _>>()?)
        }
        Wire::Bars(bars) => Message::Bars(bars.bars.into_iter().map(read_bar).collect::<Result<_, _>>()?),
        Wire::Proposal(proposal) => Message::Proposal(read_proposal(proposal)?),
        Wire::Attempts(attempts) => {
            let attempts = attempts.attempts.iter().map(read_attempt);
            Message::Attempted(attempts.collect::<Result<_, _>>()?)
        }
        Wire::Beat(pb::Beat {}) => Message::Beat,
        Wire::Word(word) => Message::Wombat(wombat::read(word)?),
    })
}

fn read_attachment(it: pb::Attachment, field: &str) -> Result<(DaemonId, Attachment), Malformed> {
    let attachment = Attachment {
        address: address(&it.address, &format!("{field}.address"))?,
        attempt: it.attempt,
        since: it.since,
        standing: standing(&it.configuration, it.members, &format!("{field}.configuration"))?,
        is_changing: it.changing,
        lost: it.lost.map(|leave| read_leave(&leave, &format!("{field}.lost"))).transpose()?,
        held: it.held,
        report: report(it.unreachable, &format!("{field}.unreachable"))?.into(),
    };
    Ok((parse(&it.daemon, &format!("{field}.daemon"))?, attachment))
}

fn read_change(change: pb::Change) -> Result<Change, Malformed> {
    let mut daemons = BTreeMap::new();
    for it in change.attached {
        let (daemon, attachment) = read_attachment(it, "message.change.attached")?;
        daemons.insert(daemon, Place::Taken(attachment));
    }
    for it in change.left {
        let leave = it.leave.ok_or_else(|| malformed("message.change.left.leave", "must be set"))?;
        let leave = read_leave(&leave, "message.change.left.leave")?;
        daemons.insert(parse(&it.daemon, "message.change.left.daemon")?, Place::Left(leave));
    }
    Ok(Change { version: change.version, daemons })
}

pub fn read_leave(leave: &pb::Leave, field: &str) -> Result<Leave, Malformed> {
    use pb::LeaveReason as Reason;
    Ok(match leave.reason() {
        Reason::Goodbye => Leave::Goodbye,
        Reason::Closed => Leave::Closed,
        Reason::Silent => Leave::Silent(duration(leave.silent, &format!("{field}.silent"))?),
        Reason::Barred => Leave::Barred,
        Reason::Superseded => Leave::Superseded,
        Reason::Rejected => Leave::Rejected,
        Reason::ServerLost => Leave::ServerLost(parse(&leave.server, &format!("{field}.server"))?),
        Reason::Unspecified => return Err(malformed(format!("{field}.reason"), "must be set")),
    })
}

fn read_neighbours(it: pb::Neighbours) -> Result<(ServerId, Neighbours), Malformed> {
    let linked = it.linked.iter().map(|server| parse(server, "message.links.neighbours.linked"));
    let neighbours = Neighbours { version: it.version, linked: linked.collect::<Result<_, _>>()? };
    Ok((parse(&it.server, "message.links.neighbours.server")?, neighbours))
}

fn read_bar(it: pb::Bar) -> Result<(Name, Bar), Malformed> {
    use pb::bar::Decision;
    let out = match it.decision {
        Some(Decision::Duration(time)) => {
            Some(Term::For(duration(Some(time), "message.bars.bars.duration")?))
        }
        Some(Decision::Maintenance(true)) => Some(Term::Maintenance),
        Some(Decision::Free(true)) => None,
        Some(Decision::Maintenance(false) | Decision::Free(false)) | None => {
            return Err(malformed("message.bars.bars", "must say what was decided"));
        }
    };
    let by = parse(&it.by, "message.bars.bars.by")?;
    Ok((parse(&it.name, "message.bars.bars.name")?, Bar { version: it.version, by, out }))
}

fn read_proposal(proposal: pb::Proposal) -> Result<Proposal, Malformed> {
    let mut servers = BTreeSet::new();
    let mut used = BTreeMap::new();
    for it in proposal.target {
        let server = parse(&it.server, "message.proposal.target.server")?;
        servers.insert(server);
        used.insert(server, it.used);
    }
    let starts = read_starts(proposal.starts, "message.proposal.starts")?;
    let kind = match proposal.round {
        0 => Kind::Fast,
        round => Kind::Slow { round },
    };
    let target = Target { servers, digest: proposal.digest };
    Ok(Proposal { number: proposal.number, kind, target, starts, counter: proposal.counter, used })
}

fn write_attempt((daemon, id): (DaemonId, ConfigurationId)) -> pb::Attempt {
    pb::Attempt { daemon: daemon.to_string(), configuration: id.to_string() }
}

fn read_attempt(it: &pb::Attempt) -> Result<(DaemonId, ConfigurationId), Malformed> {
    let daemon = parse(&it.daemon, "message.attempts.attempts.daemon")?;
    Ok((daemon, parse(&it.configuration, "message.attempts.attempts.configuration")?))
}

/// What daemons were told.
pub fn write_starts(starts: &BTreeMap<DaemonId, Started>) -> Vec<pb::Started> {
    let write = |(daemon, Started { start, ballots }): (&DaemonId, &Started)| pb::Started {
        daemon: daemon.to_string(),
        start: start.to_string(),
        ballots: ballots.as_ref().map(write_ballots),
    };
    starts.iter().map(write).collect()
}

/// What daemons were told.
pub fn read_starts(given: Vec<pb::Started>, field: &str) -> Result<BTreeMap<DaemonId, Started>, Malformed> {
    let read = |it: pb::Started| {
        let daemon = parse(&it.daemon, &format!("{field}.daemon"))?;
        let ballots = it.ballots.map(|ballots| read_ballots(ballots, &format!("{field}.ballots")));
        let start = parse(&it.start, &format!("{field}.start"))?;
        Ok((daemon, Started { start, ballots: ballots.transpose()? }))
    };
    given.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use detector::{Doubt, Doubted};
    use membership_core::Standing;
    use membership_core::{Beacon, Decide, Departure, Outdone, Prepare, Ready, SeatedAt, Word};
    use model::{Address, Ballot, Ballots, StartId};

    fn server(name: &str) -> ServerId {
        ServerId::new(name.parse().unwrap(), Boot::new(1))
    }

    fn daemon(name: &str) -> DaemonId {
        DaemonId::new(name.parse().unwrap(), Boot::new(7))
    }

    fn started() -> Started {
        let id: ConfigurationId = "v4.beef".parse().unwrap();
        let ballot = |name: &str| Ballot { id, members: [name.parse().unwrap()].into() };
        let ballots = Ballots { formed: Some(ballot("a")), attempts: vec![ballot("b")] };
        Started { start: StartId::new(Boot::new(7), 3), ballots: Some(ballots) }
    }

    fn attachment(lost: Option<Leave>) -> Attachment {
        let doubted = Doubted { doubt: Doubt::Cut, silent: Duration::from_millis(1500) };
        Attachment {
            address: Address::new("a:1"),
            attempt: 3,
            since: 2,
            standing: Some(Standing { id: ConfigurationId::new(4, 0xbeef), size: 3 }),
            is_changing: true,
            lost,
            held: true,
            report: BTreeMap::from([(daemon("machine-2"), doubted)]).into(),
        }
    }

    fn every_leave() -> [Leave; 7] {
        [
            Leave::Goodbye,
            Leave::Closed,
            Leave::Silent(Duration::from_millis(1500)),
            Leave::Barred,
            Leave::Superseded,
            Leave::Rejected,
            Leave::ServerLost(server("m-1")),
        ]
    }

    fn every_peer_message() -> Vec<Message> {
        let row = Row { version: 2, daemons: BTreeMap::from([(daemon("machine-1"), attachment(None))]) };
        let proposal = |kind| Proposal {
            number: 5,
            kind,
            target: Target { servers: BTreeSet::from([server("m-1"), server("m-2")]), digest: u64::MAX },
            starts: BTreeMap::from([(daemon("machine-1"), started())]),
            counter: 9,
            used: BTreeMap::from([(server("m-1"), 4), (server("m-2"), 0)]),
        };
        let neighbours = Neighbours { version: 6, linked: BTreeSet::from([server("m-2")]) };
        let bars = [Some(Term::For(Duration::from_secs(60))), Some(Term::Maintenance), None];
        let mut messages = vec![
            Message::Row(row),
            Message::Links(BTreeMap::from([(server("m-1"), neighbours)])),
            Message::Proposal(proposal(Kind::Fast)),
            Message::Proposal(proposal(Kind::Slow { round: 6 })),
            Message::Beat,
        ];
        for out in bars {
            let (name, by) = ("machine-1".parse().unwrap(), "m-1".parse().unwrap());
            messages.push(Message::Bars(BTreeMap::from([(name, Bar { version: 2, by, out })])));
        }
        for leave in every_leave() {
            let taken = Place::Taken(attachment(Some(leave)));
            let left = Place::Left(leave);
            let daemons = BTreeMap::from([(daemon("machine-1"), taken), (daemon("machine-2"), left)]);
            messages.push(Message::Change(Change { version: 8, daemons }));
        }
        messages.extend(every_word().into_iter().map(Message::Wombat));
        messages
    }

    fn every_word() -> Vec<Word> {
        let (a, b) = (daemon("machine-1"), daemon("machine-2"));
        let servers = BTreeSet::from([server("m-1"), server("m-2")]);
        let seated = |server| SeatedAt { server, address: Address::new("a:1"), attempt: 3, since: 2 };
        let alone = |daemon, at| BTreeMap::from([(daemon, seated(server(at)))]);
        let starts = BTreeMap::from([(a, started())]);
        let doubted_by = BTreeMap::from([(a, Duration::from_millis(400))]);
        let left = [None, Some(Leave::Closed)];
        let left = left.map(|leave| Departure { daemon: b, leave, doubted_by: doubted_by.clone() });
        let cliques = vec![alone(a, "m-1"), alone(b, "m-2")];
        vec![
            Word::Beacon(Beacon { view: servers.clone(), next: Duration::from_millis(25) }),
            Word::Ping,
            Word::Pong,
            Word::Missing(server("m-2")),
            Word::Away,
            Word::Outdone(Outdone { daemon: a, since: 2, by: b, at: server("m-2") }),
            Word::Prepare(Prepare { number: 4, servers, cliques, cuts: vec![(a, b)] }),
            Word::Ready(Ready { number: 4, counter: 8, starts: starts.clone() }),
            Word::Decide(Decide { number: 4, counter: 9, starts, left: left.to_vec() }),
        ]
    }

    #[test]
    fn servers_understand_each_other() {
        for message in every_peer_message() {
            assert_eq!(read_peer_message(Some(peer_message(message.clone()))), Ok(message));
        }
        assert!(read_peer_message(None).is_err());
    }

    #[test]
    fn corrupted_messages_of_servers_are_refused_or_read_back() {
        let samples: Vec<_> = every_peer_message().into_iter().map(peer_message).collect();
        fuzz::messages(fuzz::target!(), &samples, |message| match read_peer_message(Some(message)) {
            Ok(read) => {
                assert_eq!(read_peer_message(Some(peer_message(read.clone()))), Ok(read));
                true
            }
            Err(_) => false,
        });
    }
}
