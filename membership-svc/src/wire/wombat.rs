//! What servers of Wombat say to each other.

use std::collections::BTreeMap;

use membership_core::{Beacon, Decide, Departure, Outdone, Prepare, Ready, SeatedAt, Word};
use model::DaemonId;
use proto::membership::v1 as pb;

use crate::wire::peers::{read_leave, read_starts, write_leave, write_starts};
use crate::wire::{Malformed, address, duration, malformed, parse, write_duration};

/// What is said.
pub fn write(word: Word) -> pb::Word {
    use pb::word::Word as Wire;
    let word = match word {
        Word::Beacon(Beacon { view, next }) => Wire::Beacon(pb::Beacon {
            view: view.iter().map(ToString::to_string).collect(),
            next: Some(write_duration(next)),
        }),
        Word::Ping => Wire::Ping(pb::Ping {}),
        Word::Pong => Wire::Pong(pb::Pong {}),
        Word::Missing(server) => Wire::Missing(server.to_string()),
        Word::Away => Wire::Away(pb::Away {}),
        Word::Outdone(Outdone { daemon, since, by, at }) => Wire::Outdone(pb::Outdone {
            daemon: daemon.to_string(),
            since,
            by: by.to_string(),
            at: at.to_string(),
        }),
        Word::Prepare(prepare) => Wire::Prepare(write_prepare(prepare)),
        Word::Ready(Ready { number, counter, starts }) => {
            Wire::Ready(pb::Ready { number, counter, starts: write_starts(&starts) })
        }
        Word::Decide(Decide { number, counter, starts, left }) => Wire::Decide(pb::Decide {
            number,
            counter,
            starts: write_starts(&starts),
            left: left.into_iter().map(write_loss).collect(),
        }),
    };
    pb::Word { word: Some(word) }
}

fn write_prepare(prepare: Prepare) -> pb::Prepare {
    let clique = |clique: BTreeMap<DaemonId, SeatedAt>| pb::Clique {
        daemons: clique.into_iter().map(write_seated).collect(),
    };
    let cut = |(a, b): (DaemonId, DaemonId)| pb::Pair { a: a.to_string(), b: b.to_string() };
    pb::Prepare {
        number: prepare.number,
        servers: prepare.servers.iter().map(ToString::to_string).collect(),
        cliques: prepare.cliques.into_iter().map(clique).collect(),
        cuts: prepare.cuts.into_iter().map(cut).collect(),
    }
}

fn write_seated((daemon, seated): (DaemonId, SeatedAt)) -> pb::Seated {
    let SeatedAt { server, address, attempt, since } = seated;
    let (daemon, server, address) = (daemon.to_string(), server.to_string(), address.to_string());
    pb::Seated { daemon, server, address, attempt, since }
}

fn write_loss(departure: Departure) -> pb::Loss {
    let doubter = |(daemon, silent): (DaemonId, _)| pb::Doubter {
        daemon: daemon.to_string(),
        silent: Some(write_duration(silent)),
    };
    pb::Loss {
        daemon: departure.daemon.to_string(),
        leave: departure.leave.map(write_leave),
        doubted_by: departure.doubted_by.into_iter().map(doubter).collect(),
    }
}

/// What is said.
pub fn read(word: pb::Word) -> Result<Word, Malformed> {
    use pb::word::Word as Wire;
    let word = word.word.ok_or_else(|| malformed("message.word", "must be set"))?;
    Ok(match word {
        Wire::Beacon(beacon) => {
            let view = beacon.view.iter().map(|server| parse(server, "message.word.beacon.view"));
            let view = view.collect::<Result<_, _>>()?;
            Word::Beacon(Beacon { view, next: duration(beacon.next, "message.word.beacon.next")? })
        }
        Wire::Ping(pb::Ping {}) => Word::Ping,
        Wire::Pong(pb::Pong {}) => Word::Pong,
        Wire::Missing(server) => Word::Missing(parse(&server, "message.word.missing")?),
        Wire::Away(pb::Away {}) => Word::Away,
        Wire::Outdone(it) => Word::Outdone(Outdone {
            daemon: parse(&it.daemon, "message.word.outdone.daemon")?,
            since: it.since,
            by: parse(&it.by, "message.word.outdone.by")?,
            at: parse(&it.at, "message.word.outdone.at")?,
        }),
        Wire::Prepare(prepare) => Word::Prepare(read_prepare(prepare)?),
        Wire::Ready(pb::Ready { number, counter, starts }) => {
            let starts = read_starts(starts, "message.word.ready.starts")?;
            Word::Ready(Ready { number, counter, starts })
        }
        Wire::Decide(pb::Decide { number, counter, starts, left }) => {
            let starts = read_starts(starts, "message.word.decide.starts")?;
            let left = left.into_iter().map(read_loss).collect::<Result<_, _>>()?;
            Word::Decide(Decide { number, counter, starts, left })
        }
    })
}

fn read_prepare(prepare: pb::Prepare) -> Result<Prepare, Malformed> {
    let servers = prepare.servers.iter().map(|server| parse(server, "message.word.prepare.servers"));
    let clique = |clique: pb::Clique| clique.daemons.into_iter().map(read_seated).collect();
    let cut = |pair: pb::Pair| {
        let daemon = |text: &str| parse(text, "message.word.prepare.cuts");
        Ok((daemon(&pair.a)?, daemon(&pair.b)?))
    };
    Ok(Prepare {
        number: prepare.number,
        servers: servers.collect::<Result<_, _>>()?,
        cliques: prepare.cliques.into_iter().map(clique).collect::<Result<_, _>>()?,
        cuts: prepare.cuts.into_iter().map(cut).collect::<Result<_, Malformed>>()?,
    })
}

fn read_seated(it: pb::Seated) -> Result<(DaemonId, SeatedAt), Malformed> {
    let field = |name: &str| format!("message.word.prepare.cliques.daemons.{name}");
    let seated = SeatedAt {
        server: parse(&it.server, &field("server"))?,
        address: address(&it.address, &field("address"))?,
        attempt: it.attempt,
        since: it.since,
    };
    Ok((parse(&it.daemon, &field("daemon"))?, seated))
}

fn read_loss(it: pb::Loss) -> Result<Departure, Malformed> {
    let field = |name: &str| format!("message.word.decide.left.{name}");
    let doubter = |it: pb::Doubter| {
        Ok((parse(&it.daemon, &field("doubted_by"))?, duration(it.silent, &field("doubted_by"))?))
    };
    Ok(Departure {
        daemon: parse(&it.daemon, &field("daemon"))?,
        leave: it.leave.map(|leave| read_leave(&leave, &field("leave"))).transpose()?,
        doubted_by: it.doubted_by.into_iter().map(doubter).collect::<Result<_, Malformed>>()?,
    })
}
