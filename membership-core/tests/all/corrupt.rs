//! Corrupted servers: one server hears rows and votes of two others that are nearly right. What the three agree on then
//! is worth nothing; but the server must not panic, must tell its daemon greater start ids always, and once the others
//! are gone, must come to a configuration of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use detector::{Doubt, Doubted, Report};
use membership_core::{
    Arrival, Attachment, Bar, Beacon, Change, Decide, Input, Kind, Leave, Message, Neighbours, Notice,
    Outdone, Output, Params, Place, Prepare, Proposal, Protocol, Ready, Row, SeatedAt, Server, Standing,
    Started, Target, Term, Word,
};
use model::{Address, Boot, Configuration, ConfigurationId, DaemonId, Machine, ServerId, StartId, Time};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::world::sim;

/// Schedules, each of [`STEPS`] messages.
const SEEDS: u64 = 300;
const STEPS: usize = 300;

/// The server, its daemon, and what the daemon was told.
struct Bench {
    dice: ChaCha8Rng,
    me: ServerId,
    others: [ServerId; 2],
    now: Time,
    server: Server,
    daemon: DaemonId,
    attached: bool,
    attempts: u64,
    last_start: StartId,
    view: Option<Configuration>,
    views: usize,
    /// The server's last vote: the others mostly vote as it does.
    proposal: Option<Proposal>,
    /// The number of its last change.
    prepare: u64,
    /// The number of the last change of others.
    prepared: u64,
    speaks_wombat: bool,
    /// What the others announced last.
    rows: BTreeMap<ServerId, Row>,
    /// Counts what the others say.
    said: u64,
    refused: BTreeMap<String, usize>,
}

fn server(name: &str) -> ServerId {
    ServerId::new(name.parse().unwrap(), Boot::new(1))
}

fn daemon(name: &str) -> DaemonId {
    DaemonId::new(name.parse().unwrap(), Boot::new(1))
}

impl Bench {
    /// The server called `me`, and two others of p, q and r.
    fn new(seed: u64, protocol: Protocol, me: &str, others: [&str; 2]) -> Bench {
        Bench {
            dice: ChaCha8Rng::seed_from_u64(seed),
            me: server(me),
            others: others.map(server),
            now: Time::ZERO,
            server: Server::new(server(me), Params { daemons_max: 2, ..sim(protocol) }),
            daemon: daemon("a"),
            attached: false,
            attempts: 1 << 61,
            last_start: StartId::new(Boot::new(1), 0),
            view: None,
            views: 0,
            proposal: None,
            prepare: 0,
            prepared: 0,
            speaks_wombat: protocol == Protocol::Wombat,
            rows: BTreeMap::new(),
            said: 0,
            refused: BTreeMap::new(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.dice.next_u64() % bound
    }

    /// A number near `number`, or far from all. The greatest that is accepted leaves no room to count, so it is not there.
    fn odd(&mut self, number: u64) -> u64 {
        match self.below(600) {
            0 => u64::MAX,
            1 => 1 << 61,
            2..20 => number.wrapping_sub(1),
            20..40 => self.below(20),
            40..100 => number.wrapping_add(1),
            _ => number,
        }
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.server.handle(self.now, input, &mut out);
        self.server.wake(self.now, &mut out);
        self.obey(out);
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut out = Vec::new();
        self.server.wake(self.now, &mut out);
        self.obey(out);
    }

    fn obey(&mut self, out: Vec<Output>) {
        for order in out {
            match order {
                Output::Notify { daemon, notice } => {
                    assert_eq!(daemon, self.daemon, "nobody else is attached here");
                    match notice {
                        Notice::StartChange { start, proposed } => {
                            assert!(start > self.last_start, "{start} after {}", self.last_start);
                            assert!(proposed.contains_key(&daemon));
                            self.last_start = start;
                        }
                        Notice::Attempt(_) => unreachable!("nobody votes"),
                        Notice::View(view) => {
                            self.views += 1;
                            self.view = Some(view);
                        }
                    }
                }
                Output::Rejected { .. } => self.attached = false,
                Output::Send { message: Message::Proposal(proposal), .. } => self.proposal = Some(proposal),
                Output::Send { message: Message::Wombat(Word::Prepare(prepare)), .. } => {
                    self.prepare = prepare.number;
                }
                Output::Send { .. } => {}
                Output::Refuse { fault, .. } => *self.refused.entry(format!("{fault:?}")).or_default() += 1,
                Output::Beat { .. } | Output::HangUp { .. } | Output::HangUpOn { .. } | Output::Agreed(_) => {
                }
            }
        }
    }

    fn attach(&mut self) {
        self.attached = true;
        // Those who lie about their number of attempts do not get the better of the daemon.
        self.attempts += 1;
        let standing = |view: &Configuration| Standing { id: view.id, size: view.members.len() };
        let arrival = Arrival {
            daemon: self.daemon,
            address: Address::new("a:1"),
            attempt: self.attempts,
            last_start: Some(self.last_start),
            standing: self.view.as_ref().map(standing),
            is_changing: true,
            ballots: None,
        };
        self.tell(Input::Attach(arrival));
    }

    fn step(&mut self) {
        let from = self.others[self.below(2) as usize];
        match self.below(100) {
            0 => self.tell(Input::PeerDown { server: from }),
            1..6 => self.tell(Input::PeerUp { server: from }),
            6 => self.tell(Input::Detach { daemon: self.daemon, leave: Leave::Closed }),
            7..9 if !self.attached => self.attach(),
            9..20 => self.wait(Duration::from_secs(1)),
            20..26 => {
                let row = self.any_row();
                self.rows.insert(from, row.clone());
                self.tell(Input::Peer { from, message: Message::Row(row) });
            }
            26..30 => {
                let Row { version, daemons } = self.any_row();
                let place = |attachment| Place::Taken(attachment);
                let mut daemons: BTreeMap<_, _> =
                    daemons.into_iter().map(|(daemon, attachment)| (daemon, place(attachment))).collect();
                daemons.insert(daemon("b"), Place::Left(Leave::Closed));
                self.tell(Input::Peer { from, message: Message::Change(Change { version, daemons }) });
            }
            30..40 => {
                let links = self.any_links();
                self.tell(Input::Peer { from, message: Message::Links(links) });
            }
            40..42 => {
                let name = ["a", "b", "c"][1 + self.below(2) as usize].parse().unwrap();
                let out = [None, Some(Term::Maintenance), Some(Term::For(Duration::from_secs(1)))];
                let bar = Bar { version: self.odd(3), by: from.name(), out: out[self.below(3) as usize] };
                self.tell(Input::Peer { from, message: Message::Bars(BTreeMap::from([(name, bar)])) });
            }
            _ if self.speaks_wombat => {
                let message = Message::Wombat(self.any_word());
                self.tell(Input::Peer { from, message });
            }
            _ => {
                let message = Message::Proposal(self.any_proposal(from));
                self.tell(Input::Peer { from, message });
            }
        }
    }

    fn any_word(&mut self) -> Word {
        self.said += 1;
        let some = self.others[self.below(2) as usize];
        // Most are about the last change of whoever leads.
        let number = match self.below(3) {
            0 => self.odd(self.said),
            1 => self.prepare,
            _ => self.prepared,
        };
        let all = ["p", "q", "r", "s"].map(server);
        let mut servers: BTreeSet<_> = all.into_iter().filter(|_| self.below(3) > 0).collect();
        let daemons = ["a", "b", "c"].map(daemon);
        let crowd = if self.below(8) > 0 { &daemons[..2] } else { &daemons[..] };
        match self.below(16) {
            0..3 => Word::Beacon(Beacon { view: servers, next: Duration::from_micros(self.odd(50_000)) }),
            3 => Word::Ping,
            4 => Word::Pong,
            5 => Word::Missing(some),
            6 => Word::Away,
            7 => {
                let (daemon, by) = (daemon("b"), daemons[self.below(3) as usize]);
                Word::Outdone(Outdone { daemon, since: self.below(4), by, at: some })
            }
            8..12 => {
                self.prepared += 1;
                servers.insert(self.me);
                let mut cliques = vec![BTreeMap::new(), BTreeMap::new()];
                for it in crowd.iter().copied() {
                    let at = [self.me, some][self.below(2) as usize];
                    let (attempt, since) = (self.odd(2), self.odd(2));
                    let seated = SeatedAt { server: at, address: Address::new("x:1"), attempt, since };
                    if self.below(3) > 0 {
                        cliques[self.below(2) as usize].insert(it, seated.clone());
                    }
                    if self.below(60) == 0 {
                        cliques[0].insert(it, seated);
                    }
                }
                if self.below(20) == 0 {
                    servers.remove(&self.me);
                }
                let number = self.odd(self.prepared);
                Word::Prepare(Prepare { number, servers, cliques, cuts: vec![(daemons[0], daemons[1])] })
            }
            kind => {
                let mut starts = BTreeMap::new();
                for it in crowd.iter().copied() {
                    if self.below(2) > 0 {
                        let start = if it == self.daemon { self.last_start } else { self.start_of(it) };
                        starts.insert(it, Started { start, ballots: None });
                    }
                }
                // Whoever counts without measure leaves no room.
                let counter = self.odd(self.views as u64 + 3);
                if kind < 14 {
                    Word::Ready(Ready { number, counter, starts })
                } else {
                    Word::Decide(Decide { number, counter, starts, left: Vec::new() })
                }
            }
        }
    }

    fn any_row(&mut self) -> Row {
        let mut daemons = BTreeMap::new();
        for _ in 0..self.below(4) {
            let boot = Boot::new(self.below(2));
            let name = ["a", "b", "c", "d", "e", "f"][self.below(6) as usize];
            let id = ConfigurationId::new(self.odd(3), self.below(2));
            let attachment = Attachment {
                address: Address::new("x:1"),
                attempt: self.odd(3),
                since: self.odd(2),
                standing: (self.below(2) > 0).then_some(Standing { id, size: self.odd(2) as usize }),
                is_changing: self.below(2) > 0,
                lost: (self.below(5) == 0).then_some(Leave::Closed),
                held: self.below(9) == 0,
                report: if self.below(3) > 0 { Arc::default() } else { self.any_report().into() },
            };
            daemons.insert(DaemonId::new(name.parse().unwrap(), boot), attachment);
        }
        self.said += 1;
        Row { version: self.odd(self.said), daemons }
    }

    fn any_report(&mut self) -> Report<DaemonId> {
        let mut report = BTreeMap::new();
        for _ in 0..=self.below(2) {
            let name = ["a", "b", "c", "d"][self.below(4) as usize];
            let doubt = if self.below(2) > 0 { Doubt::Cut } else { Doubt::Doubtful };
            report.insert(daemon(name), Doubted { doubt, silent: Duration::ZERO });
        }
        report
    }

    fn any_links(&mut self) -> BTreeMap<ServerId, Neighbours> {
        self.said += 1;
        let mut links = BTreeMap::new();
        for name in ["p", "q", "r", "s"] {
            let all = ["p", "q", "r", "s"].map(server);
            let linked: BTreeSet<_> = all.into_iter().filter(|_| self.below(8) > 0).collect();
            links.insert(server(name), Neighbours { version: self.odd(self.said), linked });
        }
        links
    }

    fn any_proposal(&mut self, from: ServerId) -> Proposal {
        let mine = self.proposal.clone();
        let mut target: Target = mine.as_ref().map(|it| it.target.clone()).unwrap_or_default();
        target.digest = self.odd(target.digest);
        target.servers.insert(from);
        for name in ["p", "q", "r", "s"] {
            match self.below(60) {
                0 => drop(target.servers.remove(&server(name))),
                1 => drop(target.servers.insert(server(name))),
                _ => {}
            }
        }
        let row = self.rows.get(&from).cloned().unwrap_or_default();
        let absent = (self.below(8) == 0).then(|| daemon("b"));
        let started = |it| (it, Started { start: self.start_of(it), ballots: None });
        let starts = row.daemons.into_keys().chain(absent).map(started).collect();
        let used = target.servers.iter().map(|server| (*server, self.below(6))).collect();
        let kind = match self.below(3) {
            0 => Kind::Slow { round: self.odd(2) },
            _ => mine.as_ref().map_or(Kind::Fast, |it| it.kind),
        };
        let counter = mine.map_or(0, |it| it.counter);
        self.said += 1;
        Proposal { number: self.odd(self.said), kind, target, starts, counter: self.odd(counter), used }
    }

    fn start_of(&mut self, daemon: DaemonId) -> StartId {
        let boot = if self.below(30) > 0 { daemon.boot() } else { Boot::new(9) };
        StartId::new(boot, self.odd(4))
    }

    /// The others are gone, and time goes by.
    fn rest(&mut self) {
        for server in self.others {
            self.tell(Input::PeerDown { server });
        }
        self.tell(Input::Detach { daemon: self.daemon, leave: Leave::Goodbye });
        self.attach();
        assert!(self.attached, "nobody has a better claim to its name");
        (0..3).for_each(|_| self.wait(Duration::from_secs(60)));
    }
}

/// `FUZZ=100` runs a hundred times as many seeds.
fn times() -> u64 {
    std::env::var("FUZZ").map_or(1, |times| times.parse().unwrap())
}

/// Runs the schedules of `seeds`, and returns what was refused and how many views there were.
fn run(seeds: std::ops::Range<u64>, bench: impl Fn(u64) -> Bench) -> (BTreeMap<String, usize>, usize) {
    let (mut refused, mut views) = (BTreeMap::new(), 0);
    for seed in seeds {
        let mut bench = bench(seed);
        bench.attach();
        for _ in 0..STEPS {
            bench.step();
        }
        bench.rest();
        let Some(view) = bench.view else { panic!("seed {seed}: no view in the end") };
        assert_eq!(view.members, BTreeMap::from([(bench.daemon, bench.last_start)]), "seed {seed}");
        for (fault, count) in bench.refused {
            *refused.entry(fault).or_insert(0) += count;
        }
        views += bench.views;
    }
    (refused, views)
}

#[test]
fn corrupted_servers_are_refused_and_stop_nobody() {
    let (refused, views) = run(0..SEEDS * times(), |seed| Bench::new(seed, Protocol::Moshe, "p", ["q", "r"]));
    assert!(views > 2 * SEEDS as usize, "{refused:?}, {views} views");
    for fault in ["NotUp", "TooManyDaemons", "NotAddressed", "OldVersion", "ForeignStart", "OutOfRange"] {
        assert!(refused.contains_key(fault), "no {fault} in {refused:?}");
    }
}

#[test]
fn corrupted_leaders_and_followers_are_refused_and_stop_nobody() {
    // One that leads the others, one between them, and one that is led by them.
    let ranks = [("p", ["q", "r"]), ("q", ["p", "r"]), ("r", ["p", "q"])];
    for (me, others) in ranks {
        let (refused, views) = run(0..SEEDS * times(), |seed| Bench::new(seed, Protocol::Wombat, me, others));
        assert!(views > 2 * SEEDS as usize, "{me}: {refused:?}, {views} views");
        for fault in ["NotUp", "TooManyDaemons", "NotAddressed", "SeatedTwice", "ForeignStart", "OutOfRange"]
        {
            assert!(refused.contains_key(fault), "{me}: no {fault} in {refused:?}");
        }
        assert!(refused.contains_key("ForeignProtocol"), "{me}: {refused:?}");
    }
}
