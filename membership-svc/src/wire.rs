//! What daemons and people say and are told, between the generated types and those of the machine; what servers say to
//! each other is in `peers`. Everything is checked here once; behind these files there are no generated types.

pub mod peers;
pub mod wombat;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use detector::{Doubt, Doubted, Report};
use membership_core::{Arrival, Attachment, Departure, Leave, Notice, Standing, Term};
use model::{Address, Ballot, Ballots, ConfigurationId, DaemonId, Name, ServerId, StartId, Time};
use proto::membership::v1 as pb;
use svc_kit::status;
use tonic::Status;

use crate::history::{self, View};

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

/// What a daemon says first.
pub fn first(request: pb::RegisterRequest) -> Result<pb::RegisterHello, Malformed> {
    match request.request {
        Some(pb::register_request::Request::Hello(hello)) => Ok(hello),
        _ => Err(malformed("hello", "must be in the first request")),
    }
}

/// Which cluster a daemon belongs to, and what it says of itself.
pub fn hello(hello: pb::RegisterHello) -> Result<(Name, Arrival), Malformed> {
    let arrival = Arrival {
        daemon: parse(&hello.daemon, "hello.daemon")?,
        address: address(&hello.address, "hello.address")?,
        attempt: hello.attempt,
        last_start: parse_given(&hello.last_start, "hello.last_start")?,
        standing: standing(&hello.last_configuration, hello.last_members, "hello.last_configuration")?,
        is_changing: hello.changing,
        ballots: hello.ballots.map(|ballots| read_ballots(ballots, "hello.ballots")).transpose()?,
    };
    Ok((parse(&hello.cluster, "hello.cluster")?, arrival))
}

/// What a daemon remembers of primary components.
fn read_ballots(ballots: pb::Ballots, field: &str) -> Result<Ballots, Malformed> {
    let ballot = |ballot: pb::Ballot| {
        let member = |name: &String| parse(name, &format!("{field}.members"));
        let members = ballot.members.iter().map(member).collect::<Result<_, _>>()?;
        Ok(Ballot { id: parse(&ballot.configuration, &format!("{field}.configuration"))?, members })
    };
    let formed = ballots.formed.map(ballot).transpose()?;
    Ok(Ballots { formed, attempts: ballots.attempts.into_iter().map(ballot).collect::<Result<_, _>>()? })
}

fn write_ballots(ballots: &Ballots) -> pb::Ballots {
    let attempts = ballots.attempts.iter().map(write_ballot).collect();
    pb::Ballots { formed: ballots.formed.as_ref().map(write_ballot), attempts }
}

fn write_ballot(ballot: &Ballot) -> pb::Ballot {
    let members = ballot.members.iter().map(ToString::to_string).collect();
    pb::Ballot { configuration: ballot.id.to_string(), members }
}

/// Which configuration a daemon has been asked to agree to, and whether it does.
pub fn attempted(attempted: &pb::Attempted) -> Result<(ConfigurationId, bool), Malformed> {
    Ok((parse(&attempted.configuration, "attempted.configuration")?, attempted.agrees))
}

fn standing(configuration: &str, members: u32, field: &str) -> Result<Option<Standing>, Malformed> {
    let size = usize::try_from(members).map_err(|_| malformed(field, "has too many members"))?;
    Ok(parse_given::<ConfigurationId>(configuration, field)?.map(|id| Standing { id, size }))
}

/// Whom a daemon cannot reach.
pub fn report(unreachable: Vec<pb::Unreachable>, field: &str) -> Result<Report<DaemonId>, Malformed> {
    let doubted = |it: pb::Unreachable| {
        let doubt = match it.doubt() {
            pb::Doubt::Doubtful => Doubt::Doubtful,
            pb::Doubt::Cut => Doubt::Cut,
            pb::Doubt::Unspecified => return Err(malformed(format!("{field}.doubt"), "must be set")),
        };
        let silent = duration(it.silent, &format!("{field}.silent"))?;
        Ok((parse(&it.daemon, &format!("{field}.daemon"))?, Doubted { doubt, silent }))
    };
    unreachable.into_iter().map(doubted).collect()
}

/// The name of a daemon.
pub fn name(text: &str, field: &str) -> Result<Name, Malformed> {
    parse(text, field)
}

/// Nothing is no time.
pub fn duration(given: Option<prost_types::Duration>, field: &str) -> Result<Duration, Malformed> {
    Duration::try_from(given.unwrap_or_default()).map_err(|_| malformed(field, "must not be negative"))
}

fn write_duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(time).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

fn unreachable(report: &Report<DaemonId>) -> Vec<pb::Unreachable> {
    let unreachable = |(daemon, doubted): (&DaemonId, &Doubted)| pb::Unreachable {
        daemon: daemon.to_string(),
        doubt: match doubted.doubt {
            Doubt::Doubtful => pb::Doubt::Doubtful.into(),
            Doubt::Cut => pb::Doubt::Cut.into(),
        },
        silent: Some(write_duration(doubted.silent)),
    };
    report.iter().map(unreachable).collect()
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
        Notice::Attempt(ballot) => pb::register_response::Notice::Attempt(write_ballot(&ballot)),
        Notice::View(configuration) => pb::register_response::Notice::View(pb::Configuration {
            id: configuration.id.to_string(),
            members: members(&configuration.members),
            primary: configuration.primary,
        }),
    };
    pb::RegisterResponse { notice: Some(notice) }
}

/// This server is alive.
pub fn beat() -> pb::RegisterResponse {
    pb::RegisterResponse { notice: Some(pb::register_response::Notice::Beat(pb::Beat {})) }
}

fn members(starts: &BTreeMap<DaemonId, StartId>) -> Vec<pb::Member> {
    let member = |(daemon, start): (&DaemonId, &StartId)| pb::Member {
        daemon: daemon.to_string(),
        start: start.to_string(),
    };
    starts.iter().map(member).collect()
}

// People.

/// What servers agreed on, and how it came about.
pub fn view(view: &View) -> pb::View {
    let mut members = BTreeMap::new();
    for configuration in &view.agreed.configurations {
        for (daemon, start) in &configuration.members {
            let (address, server) = match view.agreed.seats.get(daemon) {
                Some((address, server)) => (address.to_string(), server.to_string()),
                None => Default::default(),
            };
            let member = pb::ViewMember {
                daemon: daemon.to_string(),
                start: start.to_string(),
                address,
                server,
                configuration: configuration.id.to_string(),
                primary: configuration.primary,
            };
            members.insert(*daemon, member);
        }
    }
    let departure = |departure: &Departure| pb::Departure {
        daemon: departure.daemon.to_string(),
        cause: history::cause(departure),
        goodbye: departure.leave == Some(Leave::Goodbye),
    };
    let pair = |(a, b): &(DaemonId, DaemonId)| pb::Pair { a: a.to_string(), b: b.to_string() };
    pb::View {
        configurations: view.agreed.configurations.iter().map(|it| it.id.to_string()).collect(),
        time: Some(timestamp(view.time)),
        members: members.into_values().collect(),
        joined: view.agreed.joined.iter().map(ToString::to_string).collect(),
        left: view.agreed.left.iter().map(departure).collect(),
        cuts: view.agreed.cuts.iter().map(pair).collect(),
    }
}

/// A daemon as it is attached now.
pub fn daemon_status((daemon, server, attachment): (DaemonId, ServerId, Attachment)) -> pb::DaemonStatus {
    let standing = attachment.standing.filter(|_| !attachment.is_changing);
    pb::DaemonStatus {
        daemon: daemon.to_string(),
        server: server.to_string(),
        address: attachment.address.to_string(),
        configuration: standing.map(|standing| standing.id.to_string()).unwrap_or_default(),
        lost: attachment.lost.map(history::of_leave).unwrap_or_default(),
        held: attachment.held,
        unreachable: unreachable(&attachment.report),
    }
}

/// The links of a server.
pub fn server_links((server, linked): (ServerId, BTreeSet<ServerId>)) -> pb::ServerLinks {
    let linked = linked.iter().map(ToString::to_string).collect();
    pb::ServerLinks { server: server.to_string(), linked }
}

/// A daemon that an operator keeps out.
pub fn barred((name, term): (Name, Term)) -> pb::BarredDaemon {
    let duration = match term {
        Term::For(time) => Some(write_duration(time)),
        Term::Maintenance => None,
    };
    pb::BarredDaemon { name: name.to_string(), duration }
}

fn timestamp(time: Time) -> prost_types::Timestamp {
    let micros = time.as_micros();
    prost_types::Timestamp {
        seconds: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(micros % 1_000_000 * 1000).unwrap_or_default(),
    }
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
            last_members: 3,
            changing: true,
            attempt: 2,
            version: 1,
            ballots: None,
        };
        pb::RegisterRequest { request: Some(pb::register_request::Request::Hello(hello)) }
    }

    fn changed(change: impl FnOnce(&mut pb::RegisterHello)) -> pb::RegisterRequest {
        let mut request = request();
        if let Some(pb::register_request::Request::Hello(hello)) = &mut request.request {
            change(hello);
        }
        request
    }

    #[test]
    fn a_hello_is_read_once() {
        let (cluster, arrival) = first(request()).and_then(hello).unwrap();
        assert_eq!(cluster.as_str(), "handover");
        assert_eq!(arrival.daemon.to_string(), "machine-1#7");
        assert_eq!(arrival.last_start, Some(StartId::new(Boot::new(7), 3)));
        assert_eq!(arrival.standing.map(|standing| (standing.id.counter(), standing.size)), Some((4, 3)));
    }

    #[test]
    fn a_malformed_hello_names_the_field() {
        for (request, field) in [
            (pb::RegisterRequest { request: None }, "hello"),
            (changed(|hello| hello.cluster.clear()), "hello.cluster"),
            (changed(|hello| hello.daemon = "machine-1".into()), "hello.daemon"),
            (changed(|hello| hello.address = "10.0.0.1".into()), "hello.address"),
            (changed(|hello| hello.address = "h:0".into()), "hello.address"),
            (changed(|hello| hello.address = "h".repeat(300) + ":1"), "hello.address"),
            (changed(|hello| hello.last_start = "7".into()), "hello.last_start"),
            (changed(|hello| hello.last_configuration = "4".into()), "hello.last_configuration"),
        ] {
            assert_eq!(first(request).and_then(hello).unwrap_err().field, field);
        }
    }

    #[test]
    fn corrupted_hellos_are_refused_or_read() {
        fuzz::messages(fuzz::target!(), &[request()], |request| first(request).and_then(hello).is_ok());
    }
}
