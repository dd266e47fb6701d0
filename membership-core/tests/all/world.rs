//! Servers, links between them, and daemons that judge what they are told: every claim in the documentation of
//! `membership_core` is asserted at the moment in which it could break.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use detector::{Doubt, Doubted};
use membership_core::{
    Arrival, Input, Kind, Leave, Message, Notice, Output, Params, Protocol, Rejection, Server, Standing, Word,
};
use model::{
    Address, Ballot, Ballots, Boot, Configuration, ConfigurationId, DaemonId, Machine, ServerId, StartId,
    Time,
};

pub type ServerIndex = usize;
pub type DaemonIndex = usize;

pub struct World {
    pub now: Time,
    params: Params,
    servers: Vec<Peer>,
    pub daemons: Vec<Daemon>,
    /// What was sent on the link from one server to another and is still on its way.
    frames: BTreeMap<(ServerIndex, ServerIndex), VecDeque<Frame>>,
    /// The number of the newest connection between two servers.
    connections: u64,
    configurations: BTreeMap<ConfigurationId, Configuration>,
    frozen: BTreeSet<ServerIndex>,
    /// Links on which leaders' beacons and pings are lost.
    pub deaf: BTreeSet<(ServerIndex, ServerIndex)>,
    /// Whether servers are told further facts before they are woken for the first.
    pub gathers: bool,
    /// When something happened that was more than a sign of life.
    busy: Time,
    /// When a daemon was told something last.
    pub told: Time,
    pub count: Count,
}

/// What happened, for claims about cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// What servers said to agree.
    pub proposals: usize,
    pub slow_proposals: usize,
    pub start_changes: usize,
    pub views: usize,
    pub refusals: usize,
}

struct Peer {
    id: ServerId,
    machine: Server,
    /// The connection to each other server, as this one sees it.
    links: BTreeMap<ServerIndex, u64>,
}

struct Frame {
    connection: u64,
    /// Nothing for the opening of the connection.
    message: Option<Message>,
}

/// A daemon, and what it was told.
pub struct Daemon {
    pub id: DaemonId,
    /// Where it is attached, and what is still in its stream.
    pub server: Option<ServerIndex>,
    stream: VecDeque<Notice>,
    /// How often it has attached.
    attempts: u64,
    /// The last rejection that it was told.
    pub rejected: Option<Rejection>,
    last_start: Option<(StartId, BTreeSet<DaemonId>)>,
    is_changing: bool,
    pub view: Option<Configuration>,
    /// What it has written down, if it votes.
    pub ballots: Option<Ballots>,
    /// What it was asked to write down, and has not.
    pub asked: Option<Ballot>,
}

impl Daemon {
    fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::StartChange { start, proposed } => {
                assert!(proposed.contains_key(&self.id), "{} is in what {start} proposes", self.id);
                assert_eq!(start.boot(), self.id.boot());
                let last = self.last_start.as_ref().map(|(last, _)| *last);
                assert!(last < Some(start), "{}: {start} after {last:?}", self.id);
                self.last_start = Some((start, proposed.into_keys().collect()));
                self.is_changing = true;
                self.asked = None;
            }
            Notice::Attempt(ballot) => {
                assert!(self.is_changing && self.ballots.is_some(), "{} is asked to vote", self.id);
                self.asked = Some(ballot);
            }
            Notice::View(configuration) => {
                assert!(self.is_changing, "{}: a start change comes before {}", self.id, configuration.id);
                let (start, proposed) = self.last_start.as_ref().unwrap();
                assert_eq!(configuration.members.get(&self.id), Some(start), "{}", self.id);
                assert!(configuration.set().is_subset(proposed), "{}: {configuration:?}", self.id);
                let last = self.view.as_ref().map(|view| view.id.counter());
                assert!(
                    last < Some(configuration.id.counter()),
                    "{}: {} after {last:?}",
                    self.id,
                    configuration.id
                );
                self.is_changing = false;
                if let Some(ballots) = &mut self.ballots {
                    assert!(!ballots.form(configuration.id) || configuration.primary, "{}", self.id);
                }
                self.view = Some(configuration);
            }
        }
    }
}

impl World {
    /// Servers that are not connected with each other.
    pub fn new(servers: usize, params: Params) -> World {
        let mut world = World {
            now: Time::ZERO,
            params,
            servers: Vec::new(),
            daemons: Vec::new(),
            frames: BTreeMap::new(),
            connections: 0,
            configurations: BTreeMap::new(),
            frozen: BTreeSet::new(),
            deaf: BTreeSet::new(),
            gathers: false,
            busy: Time::ZERO,
            told: Time::ZERO,
            count: Count::default(),
        };
        for index in 0..servers {
            let peer = world.newborn(index, 1);
            world.servers.push(peer);
        }
        world
    }

    /// Servers that are connected and idle, with nobody attached.
    pub fn connected(servers: usize, params: Params) -> World {
        let mut world = World::new(servers, params);
        world.connect_all();
        world.settle();
        world.count = Count::default();
        world
    }

    fn newborn(&self, index: ServerIndex, boot: u64) -> Peer {
        let id = ServerId::new(format!("server-{index}").parse().unwrap(), Boot::new(boot));
        Peer { id, machine: Server::new(id, self.params.clone()), links: BTreeMap::new() }
    }

    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    /// How many servers agree with this one, itself among them.
    pub fn agrees(&self, server: ServerIndex) -> usize {
        self.servers[server].machine.agrees_with(self.now).len()
    }

    // Daemons.

    /// A new daemon, attached nowhere.
    pub fn daemon(&mut self, name: &str) -> DaemonIndex {
        let id = DaemonId::new(name.parse().unwrap(), Boot::new(1));
        self.daemons.push(Daemon {
            id,
            server: None,
            stream: VecDeque::new(),
            attempts: 0,
            rejected: None,
            last_start: None,
            is_changing: false,
            view: None,
            ballots: None,
            asked: None,
        });
        self.daemons.len() - 1
    }

    /// The daemon opens a stream to `server`. What is left in its old stream is lost; its old server does not know.
    pub fn attach(&mut self, daemon: DaemonIndex, server: ServerIndex) {
        let it = &mut self.daemons[daemon];
        it.stream.clear();
        it.server = Some(server);
        it.rejected = None;
        let arrival = Arrival {
            daemon: it.id,
            address: Address::new(&format!("{}:1", it.id.name())),
            attempt: it.attempts,
            last_start: it.last_start.as_ref().map(|(start, _)| *start),
            standing: it.view.as_ref().map(|view| Standing { id: view.id, size: view.members.len() }),
            is_changing: it.is_changing,
            ballots: it.ballots.clone(),
        };
        it.attempts += 1;
        self.tell(server, Input::Attach(arrival));
    }

    /// The daemon has nothing to say.
    pub fn beat(&mut self, daemon: DaemonIndex) {
        let Daemon { id, server: Some(server), .. } = self.daemons[daemon] else { return };
        self.tell(server, Input::Beat { daemon: id });
    }

    /// `server` stands still from now on, and nobody sees that.
    pub fn freeze(&mut self, server: ServerIndex) {
        self.frozen.insert(server);
    }

    /// The daemon goes away, and its server does not know.
    pub fn leave(&mut self, daemon: DaemonIndex) {
        self.daemons[daemon].server = None;
        self.daemons[daemon].stream.clear();
    }

    /// `server` sees a stream of `daemon` closed.
    pub fn detach(&mut self, daemon: DaemonId, server: ServerIndex) {
        self.tell(server, Input::Detach { daemon, leave: Leave::Closed });
    }

    /// `daemon` says goodbye.
    pub fn quit(&mut self, daemon: DaemonIndex) {
        let it = &mut self.daemons[daemon];
        it.stream.clear();
        if let Some(server) = it.server.take() {
            let daemon = it.id;
            self.tell(server, Input::Detach { daemon, leave: Leave::Goodbye });
        }
    }

    /// `daemon` says whom it cannot talk to.
    pub fn report(&mut self, daemon: DaemonIndex, doubts: &[(DaemonIndex, Doubt)]) {
        let report = doubts
            .iter()
            .map(|(other, doubt)| (self.daemons[*other].id, *doubt))
            .map(|(other, doubt)| (other, Doubted { doubt, silent: Duration::ZERO }))
            .collect();
        let Daemon { id, server: Some(server), .. } = self.daemons[daemon] else { return };
        self.tell(server, Input::Report { daemon: id, report });
    }

    /// The daemon starts again, attached nowhere, as somebody else.
    pub fn restart(&mut self, daemon: DaemonIndex) {
        self.leave(daemon);
        let it = &mut self.daemons[daemon];
        it.id = DaemonId::new(it.id.name(), Boot::new(it.id.boot().number() + 1));
        it.attempts = 0;
        it.last_start = None;
        it.is_changing = false;
        it.view = None;
    }

    /// The daemon writes down what it was asked to, and says so.
    pub fn write(&mut self, daemon: DaemonIndex) {
        let it = &mut self.daemons[daemon];
        let (Some(ballot), Some(ballots), Some(server)) = (it.asked.take(), &mut it.ballots, it.server)
        else {
            panic!("{} was not asked", it.id);
        };
        let (daemon, id) = (it.id, ballot.id);
        ballots.attempt(ballot);
        self.tell(server, Input::Attempted { daemon, id, agrees: true });
    }

    /// The daemon says that it cannot write down what it was asked to.
    pub fn abstain(&mut self, daemon: DaemonIndex) {
        let it = &mut self.daemons[daemon];
        let (Some(ballot), Some(server)) = (it.asked.take(), it.server) else {
            panic!("{} was not asked", it.id);
        };
        let daemon = it.id;
        self.tell(server, Input::Attempted { daemon, id: ballot.id, agrees: false });
    }

    /// The daemons that are attached somewhere.
    pub fn attached(&self) -> BTreeSet<DaemonId> {
        self.daemons.iter().filter(|it| it.server.is_some()).map(|it| it.id).collect()
    }

    // Links.

    /// A new connection between two servers, in the place of the old one. Neither has seen it yet.
    pub fn connect(&mut self, a: ServerIndex, b: ServerIndex) {
        self.connections += 1;
        for (from, to) in [(a, b), (b, a)] {
            let opening = Frame { connection: self.connections, message: None };
            self.frames.insert((from, to), VecDeque::from([opening]));
        }
    }

    pub fn connect_all(&mut self) {
        for (a, b) in self.pairs() {
            self.connect(a, b);
        }
    }

    pub fn pairs(&self) -> Vec<(ServerIndex, ServerIndex)> {
        let all = self.servers.len();
        (0..all).flat_map(|a| (a + 1..all).map(move |b| (a, b))).collect()
    }

    /// `at` sees its connection to `peer` broken, whether or not `peer` does.
    pub fn lose(&mut self, at: ServerIndex, peer: ServerIndex) {
        if self.servers[at].links.remove(&peer).is_some() {
            let server = self.servers[peer].id;
            self.tell(at, Input::PeerDown { server });
        }
    }

    /// Whether both ends see one connection, and nothing is on its way to be lost.
    pub fn is_linked(&self, a: ServerIndex, b: ServerIndex) -> bool {
        let seen = |at: ServerIndex, peer: ServerIndex| self.servers[at].links.get(&peer);
        seen(a, b).is_some() && seen(a, b) == seen(b, a)
    }

    /// The server starts again, all others lose it, and its daemons are attached nowhere.
    pub fn restart_server(&mut self, server: ServerIndex) {
        self.restart_server_unseen(server, &[]);
    }

    /// The server starts again, and those to whom that is `unseen` still hold their links with it.
    pub fn restart_server_unseen(&mut self, server: ServerIndex, unseen: &[ServerIndex]) {
        let boot = self.servers[server].id.boot().number() + 1;
        for other in 0..self.servers.len() {
            self.frames.remove(&(server, other));
            self.frames.remove(&(other, server));
        }
        // The others have to be told of the life that they were linked with.
        for other in 0..self.servers.len() {
            if other != server && !unseen.contains(&other) {
                self.lose(other, server);
            }
        }
        self.servers[server] = self.newborn(server, boot);
        for daemon in &mut self.daemons {
            if daemon.server == Some(server) {
                daemon.server = None;
                daemon.stream.clear();
            }
        }
    }

    // Time.

    /// What could happen next by itself: frames that arrive, and notices.
    pub fn pending(&self) -> Vec<Pending> {
        let frames = self.frames.iter().filter(|(_, frames)| !frames.is_empty());
        let streams = self.daemons.iter().enumerate().filter(|(_, it)| !it.stream.is_empty());
        let frames = frames.map(|((from, to), _)| Pending::Frame { from: *from, to: *to });
        frames.chain(streams.map(|(daemon, _)| Pending::Notice { daemon })).collect()
    }

    pub fn perform(&mut self, pending: Pending) {
        match pending {
            Pending::Frame { from, to } => {
                if let Some(frame) = self.frames.get_mut(&(from, to)).and_then(VecDeque::pop_front) {
                    self.arrive(from, to, frame);
                }
            }
            Pending::Notice { daemon } => {
                let it = &mut self.daemons[daemon];
                if let Some(notice) = it.stream.pop_front() {
                    it.hear(notice);
                }
            }
        }
    }

    /// All that is on its way from one server to another arrives.
    pub fn deliver_all(&mut self, from: ServerIndex, to: ServerIndex) {
        while self.frames.get(&(from, to)).is_some_and(|frames| !frames.is_empty()) {
            self.perform(Pending::Frame { from, to });
        }
    }

    /// All that is on its way from one server to another is lost.
    pub fn lose_all(&mut self, from: ServerIndex, to: ServerIndex) {
        self.frames.remove(&(from, to));
    }

    fn arrive(&mut self, from: ServerIndex, to: ServerIndex, frame: Frame) {
        let sender = self.servers[from].id;
        match frame.message {
            None => {
                self.servers[to].links.insert(from, frame.connection);
                self.tell(to, Input::PeerUp { server: sender });
            }
            Some(message) if self.servers[to].links.get(&from) == Some(&frame.connection) => {
                self.tell(to, Input::Peer { from: sender, message });
            }
            // Of a connection that this end has given up.
            Some(_) => {}
        }
    }

    /// Lets time pass until nothing is left to do.
    pub fn settle(&mut self) {
        self.busy = self.now;
        for _ in 0..100_000 {
            if let Some(next) = self.pending().first().copied() {
                self.perform(next);
            } else if !self.advance() {
                return;
            }
        }
        panic!("no end: {:?}", self.count);
    }

    /// Lets time pass until something is due. False if nothing is, but signs of life.
    pub fn advance(&mut self) -> bool {
        let Some(due) = self.next_wake() else { return false };
        let Params { grace, regather, settle, hold_down, beacon, vote, .. } = self.params;
        let votes =
            if self.daemons.iter().any(|it| it.ballots.is_some()) { 8 * vote } else { Duration::ZERO };
        let calm = self.busy + 2 * (grace + regather + settle + hold_down) + 30 * beacon + votes;
        if self.params.protocol == Protocol::Wombat && due > calm {
            return false;
        }
        self.now = self.now.max(due);
        self.wake();
        true
    }

    fn awake(&self) -> impl Iterator<Item = (ServerIndex, &Peer)> {
        self.servers.iter().enumerate().filter(|(server, _)| !self.frozen.contains(server))
    }

    pub fn next_wake(&self) -> Option<Time> {
        self.awake().filter_map(|(_, it)| Some(it.machine.next_wake()?.0)).min()
    }

    /// Lets `time` pass for the servers' deadlines alone.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.wake();
    }

    pub fn wake(&mut self) {
        let awake: Vec<_> = self.awake().map(|(server, _)| server).collect();
        for server in awake {
            self.wake_one(server);
        }
    }

    pub fn wake_one(&mut self, server: ServerIndex) {
        let mut out = Vec::new();
        self.servers[server].machine.wake(self.now, &mut out);
        self.obey(server, out);
    }

    /// Tells a server a fact, and does what it orders.
    pub fn tell(&mut self, server: ServerIndex, input: Input) {
        if self.frozen.contains(&server) {
            return;
        }
        if !matches!(input, Input::Peer { .. }) {
            self.busy = self.now;
        }
        let mut out = Vec::new();
        let machine = &mut self.servers[server].machine;
        machine.handle(self.now, input, &mut out);
        if !self.gathers && machine.next_wake().is_some_and(|(due, _)| due <= self.now) {
            machine.wake(self.now, &mut out);
        }
        self.obey(server, out);
    }

    fn obey(&mut self, server: ServerIndex, orders: Vec<Output>) {
        for order in orders {
            if !is_sign_of_life(&order) {
                self.busy = self.now;
            }
            match order {
                Output::Notify { daemon, notice } => self.notify(server, daemon, notice),
                Output::Rejected { daemon, reason } => self.reject(server, daemon, reason),
                Output::Send { to, message } => self.send(server, to, message),
                Output::Beat { .. } => {}
                Output::HangUp { daemon } => self.hang_up(server, daemon),
                Output::HangUpOn { server: peer } => self.hang_up_on(server, peer),
                Output::Refuse { .. } => self.count.refusals += 1,
                Output::Agreed(agreed) => {
                    let primaries = agreed.configurations.iter().filter(|it| it.primary).count();
                    assert!(primaries <= 1, "two primary components");
                    for configuration in agreed.configurations {
                        assert!(configuration.members.keys().all(|daemon| agreed.seats.contains_key(daemon)));
                        let known = self.configurations.entry(configuration.id);
                        let known = known.or_insert(configuration.clone());
                        assert_eq!(*known, configuration, "an id means one configuration");
                    }
                }
            }
        }
    }

    fn notify(&mut self, server: ServerIndex, daemon: DaemonId, notice: Notice) {
        self.told = self.now;
        match &notice {
            Notice::StartChange { .. } => self.count.start_changes += 1,
            Notice::Attempt(_) => {}
            Notice::View(_) => self.count.views += 1,
        }
        let attached = self.daemons.iter_mut().find(|it| it.id == daemon && it.server == Some(server));
        // The stream of a daemon that is gone takes notices until its server sees that.
        if let Some(it) = attached {
            it.stream.push_back(notice);
        }
    }

    fn hang_up(&mut self, server: ServerIndex, daemon: DaemonId) {
        let attached = self.daemons.iter_mut().find(|it| it.id == daemon && it.server == Some(server));
        if let Some(it) = attached {
            it.server = None;
            it.stream.clear();
        }
    }

    /// `server` gives up its link to `peer`, which sees that later or not at all.
    fn hang_up_on(&mut self, server: ServerIndex, peer: ServerId) {
        if let Some(index) = self.servers.iter().position(|it| it.id == peer) {
            self.servers[server].links.remove(&index);
        }
    }

    fn reject(&mut self, server: ServerIndex, daemon: DaemonId, reason: Rejection) {
        let attached = self.daemons.iter_mut().find(|it| it.id == daemon && it.server == Some(server));
        if let Some(it) = attached {
            it.server = None;
            it.stream.clear();
            it.rejected = Some(reason);
        }
    }

    fn send(&mut self, from: ServerIndex, to: ServerId, message: Message) {
        if let Message::Proposal(proposal) = &message {
            self.count.proposals += 1;
            self.count.slow_proposals += usize::from(matches!(proposal.kind, Kind::Slow { .. }));
        }
        if let Message::Wombat(Word::Prepare(_) | Word::Ready(_) | Word::Decide(_)) = &message {
            self.count.proposals += 1;
        }
        let Some(index) = self.servers.iter().position(|it| it.id == to) else { return };
        let is_lost = matches!(message, Message::Wombat(Word::Beacon(_) | Word::Ping | Word::Pong));
        if is_lost && self.deaf.contains(&(from, index)) {
            return;
        }
        let connection = self.servers[from].links[&index];
        let is_newest = self.frames.get(&(from, index)).and_then(|frames| frames.back());
        // A frame on a connection that the other end has replaced is lost.
        if is_newest.is_none_or(|newest| newest.connection <= connection) {
            let frame = Frame { connection, message: Some(message) };
            self.frames.entry((from, index)).or_default().push_back(frame);
        }
    }

    /// The configuration that all attached daemons are in, which has them all.
    pub fn common_view(&self) -> Result<Configuration, String> {
        let everyone = self.attached();
        let mut common = None;
        for daemon in self.daemons.iter().filter(|it| it.server.is_some()) {
            let view = daemon.view.as_ref().ok_or_else(|| format!("{} has no view", daemon.id))?;
            let common = common.get_or_insert(view);
            if *common != view || view.set() != everyone || daemon.is_changing {
                let changing = daemon.is_changing;
                return Err(format!("{} (changing: {changing}) is in {view:?}, not {common:?}", daemon.id));
            }
        }
        common.cloned().ok_or_else(|| "nobody is attached".into())
    }
}

/// What goes on for ever.
fn is_sign_of_life(order: &Output) -> bool {
    matches!(
        order,
        Output::Send {
            message: Message::Wombat(Word::Beacon(_) | Word::Ping | Word::Pong | Word::Missing(_)),
            ..
        }
    )
}

#[derive(Clone, Copy, Debug)]
pub enum Pending {
    Frame { from: ServerIndex, to: ServerIndex },
    Notice { daemon: DaemonIndex },
}

/// Defines a module of tests for each protocol, from functions that take one.
macro_rules! for_each_protocol {
    ($($test:ident),* $(,)?) => {
        mod moshe {
            $(#[test] fn $test() { super::$test(membership_core::Protocol::Moshe); })*
        }
        mod wombat {
            $(#[test] fn $test() { super::$test(membership_core::Protocol::Wombat); })*
        }
    };
}
pub(crate) use for_each_protocol;

/// No change waits.
pub fn sim(protocol: Protocol) -> Params {
    Params { protocol, ..Params::sim() }
}

/// A local network on which connections tell all that there is to tell.
pub fn lan(protocol: Protocol) -> Params {
    Params { protocol, detection: None, ..Params::lan() }
}
