//! A membership server with Wombat: it follows a leader, to which alone its row goes, or is the leader.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::{DaemonId, ServerId, Time};

use crate::census::{Census, Seat, Seats};
use crate::message::{Attachment, Fault, Leave, Message, Row, Target};
use crate::port::{Output, Rejection};
use crate::protocol::{Agreeing, Conclusion};
use crate::server::Server;
use crate::wombat::Wombat;
use crate::wombat::command::{Command, Step};
use crate::wombat::word::{Decide, Outdone, Prepare, Ready, SeatedAt, Word};

impl Server {
    // Who is in command.

    pub(super) fn wombat_up(&mut self, now: Time, server: ServerId, out: &mut Vec<Output>) {
        self.command(now, out, |command, steps| command.link_up(now, server, steps));
    }

    pub(super) fn wombat_down(&mut self, now: Time, server: ServerId, out: &mut Vec<Output>) {
        self.command(now, out, |command, steps| command.link_down(now, server, steps));
    }

    pub(super) fn command_wakes(&mut self, now: Time, out: &mut Vec<Output>) {
        self.command(now, out, |command, steps| command.wake(now, steps));
    }

    /// Tells those who see to the command a fact, and does what follows.
    fn command<T: Default>(
        &mut self,
        now: Time,
        out: &mut Vec<Output>,
        fact: impl FnOnce(&mut Command, &mut Vec<Step>) -> T,
    ) -> T {
        let mut steps = Vec::new();
        let Agreeing::Wombat(wombat) = &mut self.agreeing else { return T::default() };
        let answer = fact(&mut wombat.command, &mut steps);
        for step in steps {
            self.take_step(now, step, out);
        }
        answer
    }

    fn take_step(&mut self, now: Time, step: Step, out: &mut Vec<Output>) {
        let Agreeing::Wombat(wombat) = &mut self.agreeing else { return };
        match step {
            Step::Say(to, word) => self.say(to, word, out),
            Step::Follow(leader) => {
                wombat.round.take_no_part();
                // The row has all news.
                self.attachments.take_news();
                let message = Message::Row(self.attachments.row());
                out.push(Output::Send { to: leader, message });
            }
            Step::Lead(lost) => {
                wombat.round.take_no_part();
                self.seat_ghosts(now, lost);
            }
            Step::Resign => {
                wombat.round.resign();
                self.network.withdraw_all();
                self.changed = None;
            }
            Step::Lost(server) => self.network.orphan(now, server),
        }
    }

    fn say(&self, to: ServerId, word: Word, out: &mut Vec<Output>) {
        if self.network.is_up(to) {
            out.push(Output::Send { to, message: Message::Wombat(word) });
        }
    }

    /// All that this server knows of the daemons of others is what it was told last. They may have moved since, also
    /// from here, and some were attached to the leader that is gone: until their servers announce them, all might come
    /// back but those who said goodbye.
    fn seat_ghosts(&mut self, now: Time, lost: ServerId) {
        let own: BTreeSet<_> = self.attachments.iter().map(|(daemon, _)| daemon).collect();
        let mut ghosts = BTreeMap::new();
        for (daemon, seat) in self.census.seats.iter().filter(|(daemon, _)| !own.contains(daemon)) {
            let departure = self.departed.get(daemon).and_then(|departure| departure.leave);
            if let Some(Leave::Goodbye | Leave::Barred) = departure {
                continue;
            }
            let standing = self.standings.last(*daemon, seat);
            let attachment = Attachment {
                standing,
                is_changing: standing.is_none(),
                lost: Some(Leave::ServerLost(lost)),
                ..seat.attachment.clone()
            };
            ghosts.insert(*daemon, attachment);
        }
        self.network.seat_ghosts(now, lost, ghosts);
    }

    pub(super) fn wombat_row(&mut self, now: Time, from: ServerId, row: Row, out: &mut Vec<Output>) {
        if !self.command(now, out, |command, steps| command.row(now, from, steps)) {
            return;
        }
        if let Agreeing::Wombat(wombat) = &mut self.agreeing {
            wombat.round.followed_by(from);
        }
        // It knows best what its daemons were told; some of what I told it may be lost.
        self.standings.forget(from);
        self.network.withdraw(from);
        self.network.announce(from, row);
    }

    /// Whether `from` follows this server. If it only believes to, it is told.
    pub(super) fn is_led(wombat: &Wombat, from: ServerId, out: &mut Vec<Output>) -> bool {
        if wombat.command.followers().is_none() {
            out.push(Output::Send { to: from, message: Message::Wombat(Word::Away) });
        }
        wombat.command.is_followed_by(from)
    }

    pub(super) fn hear_word(
        &mut self,
        now: Time,
        from: ServerId,
        word: Word,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        self.agreeing.wombat()?;
        word.check(self.id, self.params.daemons_max)?;
        match word {
            Word::Beacon(beacon) => {
                self.command(now, out, |command, steps| command.beacon(now, from, beacon, steps));
            }
            Word::Ping => self.say(from, Word::Pong, out),
            Word::Pong => self.command(now, out, |command, _| command.pong(now, from)),
            Word::Missing(server) => {
                self.command(now, out, |command, steps| command.missing(now, server, steps));
            }
            Word::Away => self.command(now, out, |command, steps| command.away(now, from, steps)),
            Word::Outdone(outdone) => self.hear_outdone(from, outdone, out),
            Word::Prepare(prepare) => self.hear_prepare(from, prepare, out),
            Word::Ready(ready) => self.hear_ready(from, ready),
            Word::Decide(decide) => self.hear_decide(now, from, decide, out),
        }
        Ok(())
    }

    fn leader(&self) -> Option<ServerId> {
        match &self.agreeing {
            Agreeing::Wombat(wombat) => wombat.command.leader(),
            Agreeing::Moshe(_) => None,
        }
    }

    // Who is attached twice.

    /// Has other servers give up daemons to which somebody has the better claim.
    pub(super) fn outdo(&self, seats: &Seats, out: &mut Vec<Output>) {
        let Agreeing::Wombat(wombat) = &self.agreeing else { return };
        for server in wombat.command.followers().into_iter().flatten() {
            let daemons = self.network.row(server).into_iter().flat_map(|row| &row.daemons);
            for (daemon, attachment) in daemons {
                let better = seats.named(daemon.name()).filter(|(_, seat)| seat.server != server);
                if let Some((by, seat)) = better {
                    let outdone = Outdone { daemon: *daemon, since: attachment.since, by, at: seat.server };
                    self.say(server, Word::Outdone(outdone), out);
                }
            }
        }
    }

    fn hear_outdone(&mut self, from: ServerId, outdone: Outdone, out: &mut Vec<Output>) {
        let Outdone { daemon, since, by, at } = outdone;
        let is_mine = self.attachments.iter().any(|(it, seat)| it == daemon && seat.since == since);
        if is_mine && self.leader() == Some(from) {
            self.attachments.detach(daemon, Leave::Superseded);
            out.push(Output::Rejected { daemon, reason: Rejection::Superseded { by, at } });
        }
    }

    // Changes.

    /// As the leader, begins a change to what the census says.
    pub(super) fn prepare(&mut self, now: Time, target: Target, out: &mut Vec<Output>) {
        let starts = self.start(out);
        let Agreeing::Wombat(wombat) = &mut self.agreeing else { return };
        wombat.round.begin(target, starts);
        let number = wombat.round.number();
        let seated = |daemon: &DaemonId| {
            let Seat { server, attachment, .. } = self.census.seats.get(daemon)?;
            let (attempt, since) = (attachment.attempt, attachment.since);
            Some((*daemon, SeatedAt { server: *server, address: attachment.address.clone(), attempt, since }))
        };
        let prepare = Prepare {
            number,
            servers: self.census.servers.clone(),
            cliques: self.census.cliques.iter().map(|it| it.iter().filter_map(seated).collect()).collect(),
            cuts: self.census.cuts.clone(),
        };
        for server in self.census.servers.iter().filter(|server| **server != self.id) {
            self.say(*server, Word::Prepare(prepare.clone()), out);
        }
        self.decide(now, out);
    }

    fn hear_prepare(&mut self, from: ServerId, prepare: Prepare, out: &mut Vec<Output>) {
        if self.leader() != Some(from) {
            return;
        }
        // The leader is not to take what follows for an answer to this.
        self.tell_news(out);
        let Prepare { number, servers, cliques, cuts } = prepare;
        let sets = cliques.iter().map(|clique| clique.keys().copied().collect()).collect();
        let seats: BTreeMap<_, _> =
            cliques.into_iter().flatten().map(|(daemon, seat)| (daemon, seat.into_seat())).collect();
        for (daemon, seat) in &seats {
            self.standings.change(*daemon, seat.server, seat.attachment.since);
        }
        self.census = Census { servers, seats, cliques: sets, cuts };
        let starts = self.start(out);
        let Agreeing::Wombat(wombat) = &mut self.agreeing else { return };
        wombat.round.take_part(from, number);
        let ready = Ready { number, counter: wombat.round.counter(), starts };
        self.say(from, Word::Ready(ready), out);
    }

    fn hear_ready(&mut self, from: ServerId, ready: Ready) {
        let told: Vec<_> = ready.starts.keys().copied().collect();
        let Agreeing::Wombat(wombat) = &mut self.agreeing else { return };
        if !wombat.round.ready(from, ready) {
            return;
        }
        for daemon in told {
            if let Some(seat) = self.census.seats.get(&daemon).filter(|seat| seat.server == from) {
                self.standings.change(daemon, from, seat.attachment.since);
            }
        }
    }

    /// As the leader, says what follows if everybody is ready.
    pub(super) fn decide(&mut self, now: Time, out: &mut Vec<Output>) {
        let Agreeing::Wombat(wombat) = &mut self.agreeing else { return };
        let number = wombat.round.number();
        let Some(agreed) = wombat.round.conclude() else { return };
        let counter = agreed.counter;
        let seated = |server: &ServerId, daemon: &DaemonId| {
            self.census.seats.get(daemon).is_some_and(|seat| seat.server == *server)
        };
        let mut starts = BTreeMap::new();
        for (server, of_server) in &agreed.starts {
            let own = of_server.iter().filter(|(daemon, _)| seated(server, daemon));
            starts.extend(own.map(|(daemon, started)| (*daemon, started.clone())));
        }
        let left = self.conclude(now, agreed, out);
        let decide = Decide { number, counter, starts, left };
        for server in self.census.servers.iter().filter(|server| **server != self.id) {
            self.say(*server, Word::Decide(decide.clone()), out);
        }
    }

    fn hear_decide(&mut self, now: Time, from: ServerId, decide: Decide, out: &mut Vec<Output>) {
        let Decide { number, counter, starts: all, left } = decide;
        let Agreeing::Wombat(wombat) = &mut self.agreeing else { return };
        if !wombat.round.decided(from, number, counter) {
            return;
        }
        let mut starts: BTreeMap<ServerId, BTreeMap<_, _>> = BTreeMap::new();
        for (daemon, start) in all {
            if let Some(seat) = self.census.seats.get(&daemon) {
                starts.entry(seat.server).or_default().insert(daemon, start);
            }
        }
        self.departed.extend(left.into_iter().map(|departure| (departure.daemon, departure)));
        self.conclude(now, Conclusion { counter, starts }, out);
    }
}

impl SeatedAt {
    fn into_seat(self) -> Seat {
        let SeatedAt { server, address, attempt, since } = self;
        let attachment = Attachment {
            address,
            attempt,
            since,
            standing: None,
            is_changing: true,
            lost: None,
            held: false,
            report: Arc::default(),
        };
        Seat { server, attachment }
    }
}
