//! What daemons and servers say and are told, between the generated types and those of the machine. Everything is
//! checked here once; behind this file there are no generated types.

use std::collections::BTreeMap;
use std::str::FromStr;

use membership_core::{Attachment, Kind, Message, Notice, Proposal, Row};
use model::{Address, Configuration, DaemonId, Name, ServerId, StartId, Time};
use proto::membership::v1 as pb;
use svc_kit::status;
use tonic::Status;

use crate::history::View;
use crate::switchboard::{Hello, Presence};

/// A host name has at most 253 characters, a port 5.
const ADDRESS_BYTES_MAX: usize = 260;

/// A field of a request that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct Malformed {
    field: String,
    rule: String,
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Status {
        status::bad_field(malformed.field, malformed.rule)
    }
}

/// `field` breaks `rule`.
pub fn malformed(field: impl Into<String>, rule: impl Into<String>) -> Malformed {
    Malformed { field: field.into(), rule: rule.into() }
}

fn parse<T: FromStr>(text: &str, field: &str) -> Result<T, Malformed>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| malformed(field, error.to_string()))
}

/// Nothing, if the text is empty.
fn parse_given<T: FromStr>(text: &str, field: &str) -> Result<Option<T>, Malformed>
where
    T::Err: std::fmt::Display,
{
    if text.is_empty() { Ok(None) } else { parse(text, field).map(Some) }
}

fn address(text: &str, field: &str) -> Result<Address, Malformed> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    let fits = (1..=ADDRESS_BYTES_MAX).contains(&text.len()) && !host.is_empty();
    if fits && port.parse::<u16>().is_ok_and(|port| port > 0) {
        Ok(Address::new(text))
    } else {
        Err(malformed(field, "must be host:port"))
    }
}

// Daemons.

/// Which cluster a daemon belongs to, and what it says of itself.
pub fn hello(request: pb::RegisterRequest) -> Result<(Name, Hello), Malformed> {
    let hello = request.hello.ok_or_else(|| malformed("hello", "must be in the first request"))?;
    let read = Hello {
        daemon: parse(&hello.daemon, "hello.daemon")?,
        address: address(&hello.address, "hello.address")?,
        last_start: parse_given(&hello.last_start, "hello.last_start")?,
        last_configuration: parse_given(&hello.last_configuration, "hello.last_configuration")?,
    };
    Ok((parse(&hello.cluster, "hello.cluster")?, read))
}

/// What a daemon is told.
pub fn notice(notice: Notice) -> pb::RegisterResponse {
    let notice = match notice {
        Notice::StartChange { start, proposed } => {
            let endpoints = proposed.into_iter().map(|(daemon, address)| pb::Endpoint {
                daemon: daemon.to_string(),
                address: address.to_string(),
            });
            let change = pb::StartChange { start: start.to_string(), proposed: endpoints.collect() };
            pb::register_response::Notice::StartChange(change)
        }
        Notice::View(configuration) => pb::register_response::Notice::View(pb::Configuration {
            id: configuration.id.to_string(),
            members: members(&configuration.members),
        }),
    };
    pb::RegisterResponse { notice: Some(notice) }
}

fn members(starts: &BTreeMap<DaemonId, StartId>) -> Vec<pb::Member> {
    let member = |(daemon, start): (&DaemonId, &StartId)| pb::Member {
        daemon: daemon.to_string(),
        start: start.to_string(),
    };
    starts.iter().map(member).collect()
}

// People.

/// A configuration, and how it came about.
pub fn view(view: &View) -> pb::View {
    let Configuration { id, members } = &view.configuration;
    let member = |(daemon, start): (&DaemonId, &StartId)| {
        let seat = view.members.get(daemon);
        pb::ViewMember {
            daemon: daemon.to_string(),
            start: start.to_string(),
            address: seat.map(|(address, _)| address.to_string()).unwrap_or_default(),
            attached: seat.is_some_and(|(_, presence)| *presence == Presence::Here),
        }
    };
    let departure = |(daemon, cause): &(DaemonId, String)| pb::Departure {
        daemon: daemon.to_string(),
        cause: cause.clone(),
    };
    pb::View {
        configuration: id.to_string(),
        time: Some(timestamp(view.time)),
        members: members.iter().map(member).collect(),
        joined: view.joined.iter().map(ToString::to_string).collect(),
        left: view.left.iter().map(departure).collect(),
    }
}

fn timestamp(time: Time) -> prost_types::Timestamp {
    let micros = time.as_micros();
    prost_types::Timestamp {
        seconds: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(micros % 1_000_000 * 1000).unwrap_or_default(),
    }
}

// Servers.

/// What a server says of itself.
pub fn link_hello(cluster: Name, server: ServerId) -> pb::LinkHello {
    pb::LinkHello { cluster: cluster.to_string(), server: server.to_string() }
}

/// Which cluster a server belongs to, and who it is.
pub fn read_link_hello(hello: Option<pb::LinkHello>) -> Result<(Name, ServerId), Malformed> {
    let hello = hello.ok_or_else(|| malformed("hello", "must be in the first message"))?;
    Ok((parse(&hello.cluster, "hello.cluster")?, parse(&hello.server, "hello.server")?))
}

/// What is said to a server.
pub fn peer_message(message: Message) -> pb::PeerMessage {
    let message = match message {
        Message::Row(row) => {
            let attachment = |(daemon, it): (DaemonId, Attachment)| pb::Attachment {
                daemon: daemon.to_string(),
                address: it.address.to_string(),
                after: it.after.to_string(),
                since: it.since,
            };
            let attachments = row.daemons.into_iter().map(attachment).collect();
            pb::peer_message::Message::Row(pb::Row { version: row.version, attachments })
        }
        Message::Proposal(proposal) => {
            let target = |(server, version): (&ServerId, &u64)| pb::TargetServer {
                server: server.to_string(),
                version: *version,
                used: proposal.used.get(server).copied().unwrap_or(0),
            };
            pb::peer_message::Message::Proposal(pb::Proposal {
                number: proposal.number,
                round: match proposal.kind {
                    Kind::Fast => 0,
                    Kind::Slow { round } => round,
                },
                target: proposal.target.iter().map(target).collect(),
                starts: members(&proposal.starts),
                counter: proposal.counter,
            })
        }
    };
    pb::PeerMessage { message: Some(message) }
}

/// What a server says.
pub fn read_peer_message(message: Option<pb::PeerMessage>) -> Result<Message, Malformed> {
    let message = message.and_then(|message| message.message);
    match message.ok_or_else(|| malformed("message", "must be in every message but the first"))? {
        pb::peer_message::Message::Row(row) => read_row(row).map(Message::Row),
        pb::peer_message::Message::Proposal(proposal) => read_proposal(proposal).map(Message::Proposal),
    }
}

fn read_row(row: pb::Row) -> Result<Row, Malformed> {
    let mut daemons = BTreeMap::new();
    for it in row.attachments {
        let daemon = parse(&it.daemon, "message.row.attachments.daemon")?;
        let address = address(&it.address, "message.row.attachments.address")?;
        let after = parse(&it.after, "message.row.attachments.after")?;
        daemons.insert(daemon, Attachment { address, after, since: it.since });
    }
    Ok(Row { version: row.version, daemons })
}

fn read_proposal(proposal: pb::Proposal) -> Result<Proposal, Malformed> {
    let mut target = BTreeMap::new();
    let mut used = BTreeMap::new();
    for it in proposal.target {
        let server = parse(&it.server, "message.proposal.target.server")?;
        target.insert(server, it.version);
        used.insert(server, it.used);
    }
    let mut starts = BTreeMap::new();
    for it in proposal.starts {
        let daemon = parse(&it.daemon, "message.proposal.starts.daemon")?;
        starts.insert(daemon, parse(&it.start, "message.proposal.starts.start")?);
    }
    let kind = match proposal.round {
        0 => Kind::Fast,
        round => Kind::Slow { round },
    };
    Ok(Proposal { number: proposal.number, kind, target, starts, counter: proposal.counter, used })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Boot;

    fn request() -> pb::RegisterRequest {
        let hello = pb::RegisterHello {
            cluster: "handover".into(),
            daemon: "machine-1#7".into(),
            address: "10.0.0.1:7410".into(),
            last_start: "7:3".into(),
            last_configuration: "v4.beef".into(),
        };
        pb::RegisterRequest { hello: Some(hello) }
    }

    fn changed(change: impl FnOnce(&mut pb::RegisterHello)) -> pb::RegisterRequest {
        let mut request = request();
        request.hello.as_mut().map(change);
        request
    }

    #[test]
    fn a_hello_is_read_once() {
        let (cluster, hello) = hello(request()).unwrap();
        assert_eq!(cluster.as_str(), "handover");
        assert_eq!(hello.daemon.to_string(), "machine-1#7");
        assert_eq!(hello.last_start, Some(StartId::new(Boot::new(7), 3)));
    }

    #[test]
    fn a_malformed_hello_names_the_field() {
        for (request, field) in [
            (pb::RegisterRequest { hello: None }, "hello"),
            (changed(|hello| hello.cluster.clear()), "hello.cluster"),
            (changed(|hello| hello.daemon = "machine-1".into()), "hello.daemon"),
            (changed(|hello| hello.address = "10.0.0.1".into()), "hello.address"),
            (changed(|hello| hello.address = "h:0".into()), "hello.address"),
            (changed(|hello| hello.address = "h".repeat(300) + ":1"), "hello.address"),
            (changed(|hello| hello.last_start = "7".into()), "hello.last_start"),
            (changed(|hello| hello.last_configuration = "4".into()), "hello.last_configuration"),
        ] {
            assert_eq!(hello(request).unwrap_err().field, field);
        }
    }

    fn every_peer_message() -> Vec<Message> {
        let server = |name: &str| ServerId::new(name.parse().unwrap(), Boot::new(1));
        let daemon = DaemonId::new("machine-1".parse().unwrap(), Boot::new(7));
        let start = StartId::new(Boot::new(7), 3);
        let attachment = Attachment { address: Address::new("a:1"), after: start, since: 2 };
        let row = Row { version: 2, daemons: BTreeMap::from([(daemon, attachment)]) };
        let proposal = |kind| Proposal {
            number: 5,
            kind,
            target: BTreeMap::from([(server("m-1"), 2), (server("m-2"), 0)]),
            starts: BTreeMap::from([(daemon, start)]),
            counter: 9,
            used: BTreeMap::from([(server("m-1"), 4), (server("m-2"), 0)]),
        };
        vec![
            Message::Row(row),
            Message::Proposal(proposal(Kind::Fast)),
            Message::Proposal(proposal(Kind::Slow { round: 6 })),
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

    #[test]
    fn corrupted_hellos_are_refused_or_read() {
        fuzz::messages(fuzz::target!(), &[request()], |request| hello(request).is_ok());
    }
}
