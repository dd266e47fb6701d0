//! About how many bytes things take on the wire, between services that encode them as the contract says. The names are
//! those of this world; boots count as the long numbers that they are where a clock makes them.

use detector::Report;
use membership_core::{
    Attachment, Decide, Departure, Message, Neighbours, Notice, Place, Prepare, Proposal, Ready, SeatedAt,
    Word,
};
use model::{DaemonId, Name};

/// A number, its tag included.
const NUMBER: usize = 3;
/// A boot in text: microseconds since 1970.
const BOOT: usize = 16;
const START: usize = field(BOOT + 3);
const CONFIGURATION: usize = field(20);
const ADDRESS: usize = field(16);
const TIME: usize = field(6);
/// Why a daemon is gone.
const LEAVE: usize = field(NUMBER);

/// Something of this length, with its tag and its length.
const fn field(length: usize) -> usize {
    2 + length
}

fn id(name: Name) -> usize {
    field(name.as_str().len() + 1 + BOOT)
}

fn daemons<'a>(those: impl Iterator<Item = &'a DaemonId>, each: usize) -> usize {
    those.map(|daemon| field(id(daemon.name()) + each)).sum()
}

/// What servers say to each other.
pub fn message(message: &Message) -> usize {
    field(match message {
        Message::Row(row) => {
            let attachments = row.daemons.iter();
            NUMBER + attachments.map(|(daemon, it)| attachment(*daemon, it)).sum::<usize>()
        }
        Message::Change(change) => {
            let places = change.daemons.iter().map(|(daemon, place)| match place {
                Place::Taken(it) => attachment(*daemon, it),
                Place::Left(_) => field(id(daemon.name()) + LEAVE),
            });
            NUMBER + places.sum::<usize>()
        }
        Message::Links(links) => {
            let linked = |it: &Neighbours| it.linked.iter().map(|peer| id(peer.name())).sum::<usize>();
            links.iter().map(|(server, it)| field(id(server.name()) + NUMBER + linked(it))).sum()
        }
        Message::Bars(bars) => {
            bars.iter().map(|(name, bar)| field(id(*name) + NUMBER + id(bar.by) + TIME)).sum()
        }
        Message::Proposal(Proposal { target, starts, .. }) => {
            let servers = target.servers.iter().map(|server| field(id(server.name()) + NUMBER));
            4 * NUMBER + 8 + servers.sum::<usize>() + daemons(starts.keys(), START)
        }
        Message::Attempted(attempts) => daemons(attempts.keys(), CONFIGURATION),
        Message::Beat => 0,
        Message::Wombat(said) => field(word(said)),
    })
}

fn word(word: &Word) -> usize {
    match word {
        Word::Beacon(beacon) => TIME + beacon.view.iter().map(|server| id(server.name())).sum::<usize>(),
        Word::Ping | Word::Pong | Word::Away => 0,
        Word::Missing(server) => id(server.name()),
        Word::Outdone(it) => id(it.daemon.name()) + NUMBER + id(it.by.name()) + id(it.at.name()),
        Word::Prepare(Prepare { servers, cliques, cuts, .. }) => {
            let seated = |(daemon, at): (&DaemonId, &SeatedAt)| {
                field(id(daemon.name()) + id(at.server.name()) + ADDRESS + 2 * NUMBER)
            };
            let servers = servers.iter().map(|server| id(server.name())).sum::<usize>();
            let cuts = cuts.iter().map(|(a, b)| field(id(a.name()) + id(b.name()))).sum::<usize>();
            NUMBER + servers + cuts + cliques.iter().flatten().map(seated).sum::<usize>()
        }
        Word::Ready(Ready { starts, .. }) => 2 * NUMBER + daemons(starts.keys(), START),
        Word::Decide(Decide { starts, left, .. }) => {
            let lost =
                |it: &Departure| field(id(it.daemon.name()) + LEAVE + daemons(it.doubted_by.keys(), TIME));
            2 * NUMBER + daemons(starts.keys(), START) + left.iter().map(lost).sum::<usize>()
        }
    }
}

fn attachment(daemon: DaemonId, it: &Attachment) -> usize {
    let standing = if it.standing.is_some() { CONFIGURATION + NUMBER } else { 0 };
    let lost = if it.lost.is_some() { LEAVE } else { 0 };
    field(id(daemon.name()) + ADDRESS + 4 * NUMBER + standing + lost + report(&it.report))
}

/// Whom a daemon cannot talk to.
pub fn report(report: &Report<DaemonId>) -> usize {
    daemons(report.keys(), NUMBER + TIME)
}

/// What a daemon is told.
pub fn notice(notice: &Notice) -> usize {
    field(match notice {
        Notice::StartChange { proposed, .. } => START + daemons(proposed.keys(), ADDRESS),
        Notice::Attempt(ballot) => {
            CONFIGURATION + ballot.members.iter().map(|name| field(name.as_str().len())).sum::<usize>()
        }
        Notice::View(configuration) => CONFIGURATION + daemons(configuration.members.keys(), START),
    })
}
