//! A membership server: turns connections into network events, agrees on them with the other servers, and tells the
//! daemons that are attached to it.
//!
//! Facts are taken in as they come, and what follows from them is seen to when the server is woken, which it wants to be
//! at once: however many came together, it looks around once.
//!
//! Invariant: a daemon is told a configuration only on the stream on which it was told the start change before it, and
//! only if this server has not acted on any change since [Moshe:no-obsolete].
//!
//! What only one protocol needs is in `server::moshe` and `server::wombat`.

mod moshe;
mod wombat;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use model::{
    Address, Ballot, Ballots, Configuration, ConfigurationId, DaemonId, Machine, Name, ServerId, Time,
};

use crate::attachments::{Arrival, Attachments};
use crate::attempts::Attempts;
use crate::bars::Bars;
use crate::census::{Census, Seat, Seats};
use crate::cliques::Cuts;
use crate::flaps::Flaps;
use crate::message::{
    Attachment, Bar, CLAIM_MAX, Change, Fault, Leave, Message, NAMES_MAX, Place, Row, Started, Target, Term,
    check_ballots,
};
use crate::network::Network;
use crate::params::Params;
use crate::port::{Agreed, Departure, Input, Notice, Output, Rejection};
use crate::primary::Verdict;
use crate::protocol::{Agreeing, Conclusion};
use crate::reports::Reports;
use crate::standings::Standings;
use crate::vitals::{Party, Vitals};

/// So many of those who doubted a daemon are remembered: that is for humans.
const DOUBTS_MAX: usize = 16;

/// A membership server.
#[derive(Clone, Debug, Hash)]
pub struct Server {
    id: ServerId,
    params: Params,
    attachments: Attachments,
    network: Network,
    bars: Bars,
    flaps: Flaps,
    vitals: Vitals,
    agreeing: Agreeing,
    standings: Standings,
    attempts: Attempts,
    /// What is said on the seats of this moment.
    reports: Reports,
    /// What the agreement is about.
    census: Census,
    /// Who was in a configuration when servers agreed last.
    members: BTreeSet<DaemonId>,
    /// Who is gone since then.
    departed: BTreeMap<DaemonId, Departure>,
    /// Since when the network differs from what the agreement is about, and until when it may.
    changed: Option<Wait>,
    /// Since when there are facts from which nothing has followed yet.
    unseen: Option<Time>,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Wait {
    since: Time,
    until: Time,
    reason: &'static str,
}

impl Machine for Server {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        let before = out.len();
        match input {
            Input::Attach(arrival) => self.attach(now, arrival, out),
            Input::Detach { daemon, leave } => self.lose(now, daemon, leave),
            Input::Report { daemon, mut report } => {
                self.vitals.heard(now, Party::Daemon(daemon));
                report.remove(&daemon);
                self.attachments.report(daemon, report);
            }
            // Nothing follows from that.
            Input::Beat { daemon } => return self.vitals.beat(now, daemon),
            Input::Peer { from, message: Message::Beat } if self.network.is_up(from) => {
                return self.vitals.heard(now, Party::Server(from));
            }
            Input::Attempted { daemon, id, agrees } => {
                self.vitals.heard(now, Party::Daemon(daemon));
                self.attempted(now, daemon, id, agrees, out);
            }
            Input::Bar { name, out: term } => self.bar(now, name, term, out),
            Input::PeerUp { server } => self.peer_up(now, server, out),
            Input::PeerDown { server } => self.peer_down(now, server, out),
            Input::Peer { from, message } => {
                self.vitals.heard(now, Party::Server(from));
                if let Err(fault) = self.hear(now, from, message, out) {
                    out.push(Output::Refuse { from, fault });
                }
            }
        }
        self.unseen.get_or_insert(now);
        self.vitals.sent(now, &out[before..]);
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.next_wake().is_none_or(|(due, _)| now < due) {
            return;
        }
        self.unseen = None;
        let before = out.len();
        for (party, time) in self.vitals.silent(now) {
            match party {
                Party::Daemon(daemon) => {
                    out.push(Output::HangUp { daemon });
                    self.lose(now, daemon, Leave::Silent(time));
                }
                Party::Server(server) => {
                    out.push(Output::HangUpOn { server });
                    self.peer_down(now, server, out);
                }
            }
        }
        self.follow(now, out);
        self.vitals.sent(now, &out[before..]);
        out.extend(self.vitals.due(now).into_iter().map(|party| match party {
            Party::Daemon(daemon) => Output::Beat { daemon },
            Party::Server(to) => Output::Send { to, message: Message::Beat },
        }));
    }

    fn next_wake(&self) -> Option<(Time, &'static str)> {
        if let Some(time) = self.unseen {
            return Some((time, "facts have come in"));
        }
        let grace = self.params.grace;
        let held = self.attachments.held().filter_map(|daemon| {
            // Whoever need not wait any more is released in the same step.
            self.flaps.held_until(Time::ZERO, daemon.name(), &self.params)
        });
        [
            self.changed.map(|wait| (wait.until, wait.reason)),
            self.unwritten().map(|(_, due)| (due, "a daemon has to write down its vote")).min(),
            self.attachments.first_grace(grace).map(|time| (time, "a daemon may come back")),
            self.network.next_expiry(grace).map(|time| (time, "daemons of a lost server may come back")),
            self.agreeing.next_wake(),
            held.min().map(|time| (time, "a daemon left too often")),
            self.vitals.next_wake().map(|time| (time, "signs of life")),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl Server {
    /// A server without links and daemons.
    pub fn new(id: ServerId, params: Params) -> Server {
        Server {
            id,
            agreeing: Agreeing::new(id, &params),
            attachments: Attachments::default(),
            network: Network::default(),
            bars: Bars::default(),
            flaps: Flaps::default(),
            vitals: Vitals::new(params.detection.as_ref()),
            standings: Standings::default(),
            attempts: Attempts::default(),
            reports: Reports::default(),
            census: Census::default(),
            members: BTreeSet::new(),
            departed: BTreeMap::new(),
            changed: None,
            unseen: None,
            params,
        }
    }

    /// The names that operators keep out, and for how much longer.
    pub fn barred(&self, now: Time) -> impl Iterator<Item = (Name, Term)> + '_ {
        self.bars.known().keys().filter_map(move |name| {
            let until = self.bars.keeps_out(now, *name)?;
            Some((*name, until.map_or(Term::Maintenance, |until| Term::For(until.since(now)))))
        })
    }

    /// Everybody who is attached, where, and how: also those who are in no configuration.
    pub fn daemons(&self, now: Time) -> Vec<(DaemonId, ServerId, Attachment)> {
        let seats = self.seats(now);
        let daemon = |(daemon, seat): (DaemonId, &Seat)| {
            let standing = self.standings.of(self.id, daemon, seat);
            let is_changing = standing.is_none() && seat.attachment.is_changing;
            (daemon, seat.server, Attachment { standing, is_changing, ..seat.attachment.clone() })
        };
        seats.iter().map(daemon).collect()
    }

    /// Which servers can talk to each other, as far as this one knows.
    pub fn links(&self) -> BTreeMap<ServerId, BTreeSet<ServerId>> {
        let mine = || BTreeMap::from([(self.id, self.network.servers().collect())]);
        self.agreeing.links().unwrap_or_else(mine)
    }

    /// The servers that this one agrees with, itself among them.
    pub fn agrees_with(&self, now: Time) -> BTreeSet<ServerId> {
        self.agreeing.servers(now)
    }

    // Daemons.

    fn attach(&mut self, now: Time, arrival: Arrival, out: &mut Vec<Output>) {
        let daemon = arrival.daemon;
        if let Err(reason) = self.admit(now, &arrival) {
            out.push(Output::Rejected { daemon, reason });
            self.detach(daemon, Leave::Rejected);
            return;
        }
        self.agreeing.raise_counter(arrival.counter());
        self.vitals.attach(now, daemon);
        let held = !self.members.contains(&daemon)
            && self.flaps.held_until(now, daemon.name(), &self.params).is_some();
        if let Some(old) = self.attachments.attach(arrival, held).filter(|old| *old != daemon) {
            self.depart(old, Leave::Superseded);
            let reason = Rejection::Superseded { by: daemon, at: self.id };
            out.push(Output::Rejected { daemon: old, reason });
        }
    }

    /// What speaks against attaching.
    fn admit(&self, now: Time, arrival: &Arrival) -> Result<(), Rejection> {
        let (daemon, after) = (arrival.daemon, arrival.after());
        if after.boot() != daemon.boot() {
            return Err(Rejection::ForeignStart);
        }
        let is_sound = |ballots| check_ballots(ballots, self.params.daemons_max).is_ok();
        if after.number().max(arrival.counter()).max(arrival.attempt) >= CLAIM_MAX
            || !arrival.ballots.as_ref().is_none_or(is_sound)
        {
            return Err(Rejection::OutOfRange);
        }
        if let Some(until) = self.bars.keeps_out(now, daemon.name()) {
            return Err(Rejection::Barred { until });
        }
        let seats = self.seats(now);
        let max = self.params.daemons_max;
        let Some((by, seat)) = seats.named(daemon.name()) else {
            let is_full = seats.len() >= max;
            return if is_full { Err(Rejection::TooManyDaemons { max }) } else { Ok(()) };
        };
        let is_late = if seat.server == self.id {
            by.boot() > daemon.boot()
        } else {
            seat.claim(by) > (daemon.boot(), arrival.attempt, self.id)
        };
        if is_late { Err(Rejection::Superseded { by, at: seat.server }) } else { Ok(()) }
    }

    fn lose(&mut self, now: Time, daemon: DaemonId, leave: Leave) {
        self.vitals.end(Party::Daemon(daemon));
        match leave {
            Leave::Closed | Leave::Silent(_) | Leave::ServerLost(_) => {
                self.attachments.lose(now, daemon, leave);
            }
            Leave::Goodbye | Leave::Barred | Leave::Superseded | Leave::Rejected => {
                self.detach(daemon, leave);
            }
        }
    }

    fn detach(&mut self, daemon: DaemonId, leave: Leave) {
        self.vitals.end(Party::Daemon(daemon));
        if self.attachments.detach(daemon, leave) {
            self.depart(daemon, leave);
        }
    }

    /// Remembers why `daemon` is about to leave the configuration.
    fn depart(&mut self, daemon: DaemonId, leave: Leave) {
        if self.members.contains(&daemon) {
            self.note_departure(daemon, core::iter::empty()).leave = Some(leave);
        }
    }

    /// `daemon` has written down that it agrees to `id`, or says that it cannot.
    fn attempted(
        &mut self,
        now: Time,
        daemon: DaemonId,
        id: ConfigurationId,
        agrees: bool,
        out: &mut Vec<Output>,
    ) {
        if agrees {
            self.attachments.wrote(daemon);
            self.note_attempts(now, None, &BTreeMap::from([(daemon, id)]), out);
        } else {
            self.attachments.abstain(daemon);
        }
    }

    /// Takes note of what daemons have written down, and tells the others.
    fn note_attempts(
        &mut self,
        now: Time,
        from: Option<ServerId>,
        written: &BTreeMap<DaemonId, ConfigurationId>,
        out: &mut Vec<Output>,
    ) {
        // Whoever has to write is in the newest change that I know of: it could not be agreed on without me.
        let asked = written.iter().filter(|(daemon, _)| self.census.seats.contains_key(daemon));
        let news = self.attempts.note(asked.map(|(daemon, id)| (*daemon, *id)));
        if !news.is_empty() {
            self.tell_all(from, &Message::Attempted(news), out);
            self.finish(now, out);
        }
    }

    /// The daemons of this server that are to write something down, and until when.
    fn unwritten(&self) -> impl Iterator<Item = (DaemonId, Time)> {
        let votes = self.attempts.missing().filter(|(daemon, _)| self.attachments.votes(*daemon));
        votes.map(|(daemon, since)| (daemon, since + self.attachments.patience(daemon, self.params.vote)))
    }

    fn bar(&mut self, now: Time, name: Name, term: Option<Term>, out: &mut Vec<Output>) {
        self.bars.set(now, name, self.id.name(), term);
        self.keep_out(now, name, out);
        self.tell_all(None, &Message::Bars(self.bars.known().clone()), out);
    }

    /// Sends away whoever is called `name`, if it is to stay out.
    fn keep_out(&mut self, now: Time, name: Name, out: &mut Vec<Output>) {
        let (Some(until), Some(daemon)) = (self.bars.keeps_out(now, name), self.attachments.named(name))
        else {
            return;
        };
        out.push(Output::Rejected { daemon, reason: Rejection::Barred { until } });
        self.detach(daemon, Leave::Barred);
    }

    // Servers.

    fn peer_down(&mut self, now: Time, server: ServerId, out: &mut Vec<Output>) {
        self.vitals.end(Party::Server(server));
        self.network.down(now, server);
        match &self.agreeing {
            Agreeing::Moshe(_) => self.moshe_down(now, server, out),
            Agreeing::Wombat(_) => self.wombat_down(now, server, out),
        }
    }

    fn peer_up(&mut self, now: Time, server: ServerId, out: &mut Vec<Output>) {
        if self.network.is_up(server) {
            self.peer_down(now, server, out);
        }
        // The row that it is sent has all news.
        self.tell_news(out);
        if !self.network.up(now, server) {
            out.push(Output::Refuse { from: server, fault: Fault::NotUp });
            return;
        }
        match &self.agreeing {
            Agreeing::Moshe(_) => self.moshe_up(now, server, out),
            Agreeing::Wombat(_) => self.wombat_up(now, server, out),
        }
        if !self.attempts.known().is_empty() {
            let message = Message::Attempted(self.attempts.known().clone());
            out.push(Output::Send { to: server, message });
        }
        if !self.bars.known().is_empty() {
            out.push(Output::Send { to: server, message: Message::Bars(self.bars.known().clone()) });
        }
    }

    fn hear(
        &mut self,
        now: Time,
        from: ServerId,
        message: Message,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        if !self.network.is_up(from) {
            return Err(Fault::NotUp);
        }
        match message {
            Message::Row(row) => self.hear_row(now, from, row, out),
            Message::Change(change) => self.hear_change(now, from, &change, out),
            Message::Links(links) => self.hear_links(now, from, &links, out),
            Message::Bars(bars) => self.hear_bars(now, from, &bars, out),
            Message::Proposal(proposal) => self.hear_proposal(from, proposal),
            Message::Attempted(written) => {
                self.note_attempts(now, Some(from), &written, out);
                Ok(())
            }
            Message::Beat => Ok(()),
            Message::Wombat(word) => self.hear_word(now, from, word, out),
        }
    }

    fn hear_row(&mut self, now: Time, from: ServerId, row: Row, out: &mut Vec<Output>) -> Result<(), Fault> {
        row.check(self.params.daemons_max)?;
        match &self.agreeing {
            Agreeing::Moshe(_) => self.moshe_row(now, from, row, out),
            Agreeing::Wombat(_) => self.wombat_row(now, from, row, out),
        }
        Ok(())
    }

    fn hear_change(
        &mut self,
        now: Time,
        from: ServerId,
        change: &Change,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        if !self.listens_to(from, out) {
            return Ok(());
        }
        let max = self.params.daemons_max;
        for (daemon, place) in &change.daemons {
            match place {
                Place::Taken(attachment) => attachment.check(max)?,
                Place::Left(leave) => self.depart(*daemon, *leave),
            }
        }
        self.network.change(now, from, change, max)
    }

    /// Whether what `from` says of its daemons is for this server.
    fn listens_to(&self, from: ServerId, out: &mut Vec<Output>) -> bool {
        match &self.agreeing {
            Agreeing::Moshe(_) => true,
            Agreeing::Wombat(wombat) => Server::is_led(wombat, from, out),
        }
    }

    /// Detaches daemons that another server has the better claim to.
    fn give_up_seats(&mut self, seats: &Seats, out: &mut Vec<Output>) {
        let own: Vec<DaemonId> = self.attachments.iter().map(|(daemon, _)| daemon).collect();
        for daemon in own {
            let Some((by, seat)) = seats.named(daemon.name()).filter(|(_, seat)| seat.server != self.id)
            else {
                continue;
            };
            let reason = Rejection::Superseded { by, at: seat.server };
            self.vitals.end(Party::Daemon(daemon));
            self.attachments.detach(daemon, Leave::Superseded);
            if by != daemon {
                self.depart(daemon, Leave::Superseded);
            }
            out.push(Output::Rejected { daemon, reason });
        }
    }

    fn hear_bars(
        &mut self,
        now: Time,
        from: ServerId,
        bars: &BTreeMap<Name, Bar>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        if bars.len() > NAMES_MAX {
            return Err(Fault::TooManyNames);
        }
        if self.bars.merge(now, bars) {
            for name in bars.keys() {
                self.keep_out(now, *name, out);
            }
            self.tell_all(Some(from), &Message::Bars(self.bars.known().clone()), out);
        }
        Ok(())
    }

    fn tell_all(&self, except: Option<ServerId>, message: &Message, out: &mut Vec<Output>) {
        let others = self.network.servers().filter(|server| Some(*server) != except);
        out.extend(others.map(|to| Output::Send { to, message: message.clone() }));
    }

    // Network events.

    /// Who is attached where, as far as this server knows.
    fn seats(&self, now: Time) -> Seats {
        let mut seats = Seats::default();
        if let Some(servers) = self.agreeing.sources(now) {
            let others = servers.iter().filter_map(|server| Some((*server, self.network.row(*server)?)));
            for (server, row) in others {
                for (daemon, attachment) in &row.daemons {
                    seats.claim(*daemon, Seat { server, attachment: attachment.clone() });
                }
            }
        } else {
            let others = self.census.seats.iter().filter(|(_, seat)| seat.server != self.id);
            others.for_each(|(daemon, seat)| seats.claim(*daemon, seat.clone()));
        }
        for (daemon, attachment) in self.attachments.iter() {
            let attachment = attachment.clone();
            seats.claim(daemon, Seat { server: self.id, attachment });
        }
        for (daemon, ghost) in self.network.ghosts() {
            let attachment = ghost.attachment.clone();
            seats.claim(daemon, Seat { server: ghost.server, attachment });
        }
        seats
    }

    /// Draws the consequences of what happened, and of the time that has passed.
    fn follow(&mut self, now: Time, out: &mut Vec<Output>) {
        self.expire(now);
        self.tell_news(out);
        if let Agreeing::Wombat(_) = self.agreeing {
            self.command_wakes(now, out);
        }
        if self.look_around(now, out) {
            return;
        }
        match self.agreeing {
            Agreeing::Moshe(_) => self.answer_votes(now, out),
            Agreeing::Wombat(_) => self.decide(now, out),
        }
    }

    /// Announces what has become of the daemons of this server.
    fn tell_news(&mut self, out: &mut Vec<Output>) {
        let Some(change) = self.attachments.take_news() else { return };
        match &self.agreeing {
            Agreeing::Moshe(_) => self.tell_all(None, &Message::Change(change), out),
            Agreeing::Wombat(wombat) => {
                let to = wombat.command.leader();
                out.extend(to.map(|to| Output::Send { to, message: Message::Change(change) }));
            }
        }
    }

    /// Gives up those whose time to come back is over, or who are doubted, and lets in those who have waited.
    fn expire(&mut self, now: Time) {
        if let Agreeing::Moshe(moshe) = &mut self.agreeing {
            moshe.expire(now);
        }
        if self.network.ghosts().next().is_some()
            && let Some(sources) = self.agreeing.sources(now)
        {
            let here = |daemon: DaemonId| self.attachments.named(daemon.name()) == Some(daemon);
            self.network.find(&sources, here);
        }
        let grace = self.params.grace;
        let lost: Vec<_> = self.attachments.lost().collect();
        if !lost.is_empty() || self.network.ghosts().next().is_some() {
            let seats = self.seats(now);
            self.reports.hear(&seats);
            for (daemon, leave, since) in lost {
                if now >= since + grace || self.reports.doubt(daemon) {
                    self.note_departure(daemon, seats.doubts(daemon));
                    self.detach(daemon, leave);
                }
            }
            self.network.expire(now, grace, |daemon| self.reports.doubt(daemon));
        }
        let overdue = self.unwritten().filter(|(_, due)| now >= *due);
        let overdue: Vec<DaemonId> = overdue.map(|(daemon, _)| daemon).collect();
        for daemon in overdue {
            self.attachments.give_up_vote(daemon);
        }
        let held: Vec<DaemonId> = self.attachments.held().collect();
        for daemon in held {
            if self.flaps.held_until(now, daemon.name(), &self.params).is_none() {
                self.attachments.release(daemon);
            }
        }
    }

    /// Looks whether the network differs from what the agreement is about, and if so, acts or waits for more.
    fn look_around(&mut self, now: Time, out: &mut Vec<Output>) -> bool {
        let Some(servers) = self.agreeing.decides_for(now) else {
            self.changed = None;
            return false;
        };
        let seats = self.seats(now);
        self.give_up_seats(&seats, out);
        self.outdo(&seats, out);
        self.tell_news(out);
        self.reports.hear(&seats);
        let (census, cuts) = Census::new(servers, &seats, &self.reports);
        let target = census.target();
        if target == *self.agreeing.target() {
            self.changed = None;
            return false;
        }
        let is_wanted = self.agreeing.is_wanted(&target);
        let all_left = census.seats.is_empty() && !self.members.is_empty();
        let is_news = is_wanted || all_left || self.agreeing.is_open() || self.attempts.is_pending();
        if !is_news && self.standings.hold_in(self.id, &census) {
            self.changed = None;
            self.agreeing.adopt(target);
            self.members = census.seats.keys().copied().collect();
            self.departed.clear();
            self.census = census;
            return false;
        }
        let since = self.changed.map_or(now, |wait| wait.since);
        if let Some(wait) =
            self.wait(&census, &seats, &cuts, since).filter(|wait| !is_wanted && now < wait.until)
        {
            self.changed = Some(wait);
            return false;
        }
        self.changed = None;
        self.note_departures(&census, &seats);
        self.census = census;
        self.begin(now, target, out);
        true
    }

    /// Until when a change that was first seen at `since` waits, and what for.
    fn wait(&self, census: &Census, seats: &Seats, cuts: &Cuts<DaemonId>, since: Time) -> Option<Wait> {
        let Params { settle, regather, grace, .. } = &self.params;
        [
            (self.standings.awaits_others(census, seats), regather, "the rest of a configuration comes back"),
            (census.has_questions(), grace, "a daemon may come back"),
            (census.keeps(&self.census, cuts), settle, "joins settle"),
        ]
        .into_iter()
        .filter(|(applies, ..)| *applies)
        .map(|(_, time, reason)| Wait { since, until: since + *time, reason })
        .max_by_key(|wait| wait.until)
    }

    /// Remembers who of the last configurations is missing in `census`, and who doubted that it is there.
    fn note_departures(&mut self, census: &Census, seats: &Seats) {
        let gone: Vec<_> =
            self.members.iter().filter(|daemon| !census.seats.contains_key(daemon)).copied().collect();
        for daemon in gone {
            let seat = self.census.seats.get(&daemon);
            let lost_with =
                seat.filter(|seat| !census.servers.contains(&seat.server)).map(|seat| seat.server);
            let stream = seats.named(daemon.name()).filter(|(it, _)| *it == daemon);
            let lost = stream.and_then(|(_, seat)| seat.attachment.lost);
            let departure = self.note_departure(daemon, seats.doubts(daemon));
            departure.leave = departure.leave.or(lost).or(lost_with.map(Leave::ServerLost));
        }
    }

    fn note_departure(
        &mut self,
        daemon: DaemonId,
        doubts: impl Iterator<Item = (DaemonId, Duration)>,
    ) -> &mut Departure {
        let departure = Departure { daemon, leave: None, doubted_by: BTreeMap::new() };
        let departure = self.departed.entry(daemon).or_insert(departure);
        departure.doubted_by.extend(doubts.take(DOUBTS_MAX.saturating_sub(departure.doubted_by.len())));
        departure
    }

    // Agreement.

    /// Begins a change to what the census says.
    fn begin(&mut self, now: Time, target: Target, out: &mut Vec<Output>) {
        match &mut self.agreeing {
            Agreeing::Moshe(moshe) => {
                let kind = moshe.agreement.aim(target);
                self.propose(now, kind, out);
            }
            Agreeing::Wombat(_) => self.prepare(now, target, out),
        }
    }

    /// Tells the daemons of this server a start change, and returns their start ids.
    fn start(&mut self, out: &mut Vec<Output>) -> BTreeMap<DaemonId, Started> {
        self.attempts.give_up();
        let own = self.census.seats.iter().filter(|(_, seat)| seat.server == self.id);
        let starts = self.attachments.start(&own.map(|(daemon, _)| *daemon).collect());
        for (daemon, Started { start, .. }) in &starts {
            let clique = self.census.clique(*daemon).into_iter().flatten();
            let proposed = clique.filter_map(|it| Some((*it, self.address(*it)?))).collect();
            let notice = Notice::StartChange { start: *start, proposed };
            out.push(Output::Notify { daemon: *daemon, notice });
        }
        starts
    }

    /// Takes what servers agreed on. Returns who is in no configuration any more.
    fn conclude(&mut self, now: Time, agreed: Conclusion, out: &mut Vec<Output>) -> Vec<Departure> {
        let Conclusion { counter, starts } = agreed;
        // A server speaks for its own daemons only.
        let started = |daemon: &DaemonId| starts.get(&self.census.seats.get(daemon)?.server)?.get(daemon);
        let start = |daemon: &DaemonId| Some((*daemon, started(daemon)?.start));
        let ballots = |daemon: &DaemonId| Some((*daemon, started(daemon)?.ballots.clone()?));
        let (mut configurations, mut awaited) = (Vec::new(), BTreeMap::new());
        for clique in &self.census.cliques {
            let members: BTreeMap<_, _> = clique.iter().filter_map(start).collect();
            if members.is_empty() {
                continue;
            }
            let voters: BTreeMap<DaemonId, Ballots> = clique.iter().filter_map(ballots).collect();
            let verdict = self.params.primary.judge(&members, &voters);
            let configuration =
                Configuration::new(counter, members).with_primary(verdict != Verdict::Secondary);
            if let Verdict::Attempt(members) = verdict {
                let ballot = Ballot { id: configuration.id, members };
                awaited.extend(voters.keys().map(|daemon| (*daemon, configuration.id)));
                for daemon in self.attachments.attempt(&configuration, &ballot) {
                    out.push(Output::Notify { daemon, notice: Notice::Attempt(ballot.clone()) });
                }
            }
            configurations.push(configuration);
        }
        let left = self.departures(&configurations);
        self.attempts.retain(|daemon| self.census.seats.contains_key(&daemon));
        self.attempts.begin(now, configurations, awaited);
        self.finish(now, out);
        left
    }

    /// Tells the daemons of this server what servers agreed on, in the moment in which all have written it down who
    /// have to.
    fn finish(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(configurations) = self.attempts.complete() else { return };
        for configuration in &configurations {
            self.standings.settle(configuration.id, &configuration.set(), &self.census);
        }
        let network = &self.network;
        self.standings.retain(&self.census, |daemon, server, since| network.knows(daemon, server, since));
        let joined = self.joined(&configurations);
        let left = self.departures(&configurations);
        self.members = configurations.iter().flat_map(|it| it.members.keys().copied()).collect();
        self.departed.clear();
        for departure in &left {
            match departure.leave {
                Some(Leave::Goodbye | Leave::Barred) => {}
                Some(_) | None => self.flaps.left(now, departure.daemon.name()),
            }
        }
        let seat =
            |(daemon, seat): (&DaemonId, &Seat)| (*daemon, (seat.attachment.address.clone(), seat.server));
        let seats = self.census.seats.iter().map(seat).collect();
        let cuts = self.census.cuts.clone();
        let agreed = Agreed { configurations: configurations.clone(), seats, joined, left, cuts };
        out.push(Output::Agreed(agreed));
        let mut told = Vec::new();
        for configuration in configurations {
            for daemon in self.attachments.settle(&configuration) {
                told.push(daemon);
                out.push(Output::Notify { daemon, notice: Notice::View(configuration.clone()) });
            }
        }
        if self.has_onlookers() {
            self.attachments.tell_standings(&told);
            self.tell_news(out);
        }
    }

    /// Whether a server is linked that has not agreed with the others, and so cannot conclude what daemons are told.
    fn has_onlookers(&self) -> bool {
        let is_onlooker = |server: ServerId| !self.census.servers.contains(&server);
        matches!(self.agreeing, Agreeing::Moshe(_)) && self.network.servers().any(is_onlooker)
    }

    /// Who is a member in `configurations` and was none before. A server that has just started knows no members, and
    /// takes the word of each.
    fn joined(&self, configurations: &[Configuration]) -> BTreeSet<DaemonId> {
        let has_stood = |daemon: &DaemonId| {
            let seat = self.census.seats.get(daemon);
            self.members.is_empty() && seat.is_some_and(|seat| seat.attachment.standing.is_some())
        };
        let members = configurations.iter().flat_map(|it| it.members.keys().copied());
        members.filter(|daemon| !self.members.contains(daemon) && !has_stood(daemon)).collect()
    }

    /// Who was a member and is none in `configurations`.
    fn departures(&self, configurations: &[Configuration]) -> Vec<Departure> {
        let stays = |daemon: &DaemonId| configurations.iter().any(|it| it.members.contains_key(daemon));
        let gone = self.members.iter().filter(|daemon| !stays(daemon));
        gone.map(|daemon| {
            let unknown = || Departure { daemon: *daemon, leave: None, doubted_by: BTreeMap::new() };
            self.departed.get(daemon).cloned().unwrap_or_else(unknown)
        })
        .collect()
    }

    fn address(&self, daemon: DaemonId) -> Option<Address> {
        self.census.seats.get(&daemon).map(|seat| seat.attachment.address.clone())
    }
}
