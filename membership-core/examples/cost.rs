//! What a change costs: messages between membership servers, and the time until the last daemon knows, in a world in
//! which every message takes a millisecond and nothing else takes time. Prints comma-separated values:
//! `docs/membership-cost.csv` is its output, and `docs/membership-cost.py` draws it.
#![allow(clippy::unwrap_used, reason = "a wrong world is no measurement")]

use std::collections::BTreeMap;
use std::time::Duration;

use detector::{Doubt, Doubted};
use membership_core::{
    Arrival, Input, Leave, Message, Notice, Output, Params, Protocol, Server, Standing, Word,
};
use model::{Address, Boot, Configuration, DaemonId, Machine, ServerId, StartId, Time};

const DELAY: Duration = Duration::from_millis(1);
const PROTOCOLS: [Protocol; 2] = [Protocol::Moshe, Protocol::Wombat];

/// What is on its way.
enum Event {
    Fact { to: usize, input: Input },
    Notice { to: DaemonId, notice: Notice },
}

struct World {
    now: Time,
    servers: Vec<(ServerId, Server)>,
    daemons: BTreeMap<DaemonId, Daemon>,
    /// In the order in which they arrive.
    events: BTreeMap<(Time, u64), Event>,
    sent: u64,
    /// Between servers: what is said of changes, and signs of life.
    messages: u64,
    signs: u64,
    views: u64,
    /// When a daemon was told something last.
    told: Time,
}

struct Daemon {
    home: usize,
    start: Option<StartId>,
    view: Option<Configuration>,
}

fn is_sign_of_life(message: &Message) -> bool {
    let word = matches!(message, Message::Wombat(Word::Beacon(_) | Word::Ping | Word::Pong));
    word || matches!(message, Message::Beat)
}

impl World {
    /// Servers that are linked, and daemons that are in one configuration.
    fn new(protocol: Protocol, servers: usize, daemons: usize, detection: bool) -> World {
        let detection = Params::lan().detection.filter(|_| detection);
        let params = Params { protocol, settle: Duration::ZERO, detection, ..Params::lan() };
        let server = |index: usize| {
            let id = ServerId::new(format!("membership-{index}").parse().unwrap(), Boot::new(1));
            (id, Server::new(id, params.clone()))
        };
        let mut world = World {
            now: Time::ZERO,
            servers: (0..servers).map(server).collect(),
            daemons: BTreeMap::new(),
            events: BTreeMap::new(),
            sent: 0,
            messages: 0,
            signs: 0,
            views: 0,
            told: Time::ZERO,
        };
        for from in 0..servers {
            for to in (0..servers).filter(|to| *to != from) {
                let server = world.servers[to].0;
                world.tell(from, Input::PeerUp { server });
            }
        }
        world.run(Duration::from_secs(3));
        for number in 0..daemons {
            world.join(number);
        }
        world.run(Duration::from_secs(3));
        world.common();
        world
    }

    fn id(number: usize) -> DaemonId {
        DaemonId::new(format!("machine-{number}").parse().unwrap(), Boot::new(1))
    }

    fn send(&mut self, event: Event) {
        self.sent += 1;
        self.events.insert((self.now + DELAY, self.sent), event);
    }

    fn join(&mut self, number: usize) {
        let (daemon, home) = (World::id(number), number % self.servers.len());
        self.daemons.insert(daemon, Daemon { home, start: None, view: None });
        let arrival = Arrival {
            daemon,
            address: Address::new("10.0.0.1:7410"),
            attempt: 0,
            last_start: None,
            standing: None::<Standing>,
            is_changing: false,
            ballots: None,
        };
        self.send(Event::Fact { to: home, input: Input::Attach(arrival) });
    }

    fn leave(&mut self, number: usize) {
        let daemon = World::id(number);
        let home = self.daemons.remove(&daemon).unwrap().home;
        self.send(Event::Fact { to: home, input: Input::Detach { daemon, leave: Leave::Goodbye } });
    }

    /// All streams of a machine close: its server sees that, and every other daemon, which says so.
    fn crash(&mut self, number: usize) {
        let daemon = World::id(number);
        let home = self.daemons.remove(&daemon).unwrap().home;
        self.send(Event::Fact { to: home, input: Input::Detach { daemon, leave: Leave::Closed } });
        let doubted = Doubted { doubt: Doubt::Doubtful, silent: Duration::ZERO };
        let others: Vec<_> = self.daemons.iter().map(|(other, it)| (*other, it.home)).collect();
        for (other, to) in others {
            let report = BTreeMap::from([(daemon, doubted)]);
            self.send(Event::Fact { to, input: Input::Report { daemon: other, report } });
        }
    }

    fn tell(&mut self, server: usize, input: Input) {
        let mut out = Vec::new();
        let machine = &mut self.servers[server].1;
        machine.handle(self.now, input, &mut out);
        if machine.next_wake().is_some_and(|(due, _)| due <= self.now) {
            machine.wake(self.now, &mut out);
        }
        self.obey(server, out);
    }

    fn obey(&mut self, server: usize, out: Vec<Output>) {
        let from = self.servers[server].0;
        for order in out {
            match order {
                Output::Send { to, message } => {
                    let count = if is_sign_of_life(&message) { &mut self.signs } else { &mut self.messages };
                    *count += 1;
                    let to = self.servers.iter().position(|(id, _)| *id == to).unwrap();
                    self.send(Event::Fact { to, input: Input::Peer { from, message } });
                }
                Output::Notify { daemon, notice } => self.send(Event::Notice { to: daemon, notice }),
                Output::Refuse { .. } | Output::Rejected { .. } => panic!("{order:?}"),
                Output::Beat { .. } | Output::HangUp { .. } | Output::HangUpOn { .. } | Output::Agreed(_) => {
                }
            }
        }
    }

    fn hear(&mut self, daemon: DaemonId, notice: Notice) {
        let Some(it) = self.daemons.get_mut(&daemon) else { return };
        self.told = self.now;
        match notice {
            Notice::StartChange { start, .. } => it.start = Some(start),
            Notice::Attempt(_) => unreachable!("nobody votes"),
            Notice::View(view) => {
                assert_eq!(view.members.get(&daemon), it.start.as_ref());
                it.view = Some(view);
                self.views += 1;
            }
        }
    }

    /// Lets `time` pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let event = self.events.keys().next().map(|(time, _)| *time);
            let wake = self.servers.iter().filter_map(|(_, server)| Some(server.next_wake()?.0)).min();
            let Some(next) = event.into_iter().chain(wake).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if event == Some(next) {
                match self.events.pop_first().unwrap().1 {
                    Event::Fact { to, input } => self.tell(to, input),
                    Event::Notice { to, notice } => self.hear(to, notice),
                }
            } else {
                for server in 0..self.servers.len() {
                    let mut out = Vec::new();
                    self.servers[server].1.wake(self.now, &mut out);
                    self.obey(server, out);
                }
            }
        }
        self.now = end;
    }

    /// Everybody has to be in one configuration of all.
    fn common(&self) {
        let first = self.daemons.values().next().unwrap().view.as_ref().unwrap();
        assert!(first.members.keys().eq(self.daemons.keys()));
        assert!(self.daemons.values().all(|it| it.view.as_ref() == Some(first)));
    }

    /// What `change` costs, which happens from now on.
    fn measure(&mut self, change: impl FnOnce(&mut World)) -> Cost {
        (self.messages, self.signs, self.views) = (0, 0, 0);
        let start = self.now;
        change(self);
        self.run(Duration::from_secs(5));
        self.common();
        let time = self.told.since(start);
        Cost { messages: self.messages, time, views: self.views as f64 / self.daemons.len() as f64 }
    }
}

struct Cost {
    messages: u64,
    time: Duration,
    /// That each daemon was told.
    views: f64,
}

fn print(what: &str, protocol: Protocol, servers: usize, daemons: usize, changes: usize, cost: &Cost) {
    let (messages, millis, views) = (cost.messages, cost.time.as_secs_f64() * 1e3, cost.views);
    println!("{what},{protocol},{servers},{daemons},{changes},{messages},{millis},{views:.2}");
}

fn main() {
    println!("what,protocol,servers,daemons,changes,messages,milliseconds,views");
    for protocol in PROTOCOLS {
        for servers in 1..=7 {
            for daemons in [3, 4, 8, 16, 32, 64] {
                let mut world = World::new(protocol, servers, daemons, false);
                // The newcomer is at the last server, which leads nobody.
                let last = daemons.div_ceil(servers) * servers + servers - 1;
                let join = world.measure(|world| world.join(last));
                print("join", protocol, servers, daemons, 1, &join);
                print("goodbye", protocol, servers, daemons, 1, &world.measure(|world| world.leave(last)));
                world.measure(|world| world.join(last));
                print("crash", protocol, servers, daemons, 1, &world.measure(|world| world.crash(last)));
            }
            for changes in 1..=16 {
                let spread = |gap: Duration| {
                    move |world: &mut World| {
                        for number in 0..changes {
                            world.join(16 + number);
                            world.run(gap);
                        }
                    }
                };
                let mut world = World::new(protocol, servers, 16, false);
                let at_once = world.measure(spread(Duration::ZERO));
                print("joins at once", protocol, servers, 16, changes, &at_once);
                let mut world = World::new(protocol, servers, 16, false);
                let in_a_row = world.measure(spread(Duration::from_micros(1_500)));
                print("joins in a row", protocol, servers, 16, changes, &in_a_row);
            }
            let mut world = World::new(protocol, servers, 3, true);
            let before = world.signs;
            world.run(Duration::from_secs(10));
            let cost = Cost { messages: (world.signs - before) / 10, time: Duration::ZERO, views: 0.0 };
            print("idle second", protocol, servers, 3, 0, &cost);
        }
    }
}
