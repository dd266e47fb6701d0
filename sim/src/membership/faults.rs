//! Faults: what they are, whom they hit, and how they end.

use std::collections::BTreeSet;
use std::time::Duration;

use membership_core::{Input, Leave, Term};
use model::Name;

use crate::membership::knobs::Purpose;
use crate::membership::log::Seen;
use crate::membership::net::{Conn, Event, Node};
use crate::membership::world::World;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    DaemonCrash,
    DaemonGoodbye,
    ServerCrash,
    AllServers,
    MachineCrash,
    StreamBreak,
    LinkBreak,
    Partition,
    ServersOneWay,
    ServersCut,
    DaemonsOneWay,
    DaemonsCut,
    StreamCut,
    OffMesh,
    OffMembership,
    Isolation,
    Flapping,
    ServerPause,
    DaemonPause,
    Bar,
}

impl Kind {
    /// Each with its weight and its name.
    pub const ALL: [(Kind, usize, &'static str); 20] = [
        (Kind::DaemonCrash, 3, "daemon killed"),
        (Kind::DaemonGoodbye, 1, "daemon stopped"),
        (Kind::ServerCrash, 3, "server killed"),
        (Kind::AllServers, 1, "all servers killed"),
        (Kind::MachineCrash, 1, "machine gone"),
        (Kind::StreamBreak, 2, "stream broken"),
        (Kind::LinkBreak, 3, "link between servers broken"),
        (Kind::Partition, 3, "partition"),
        (Kind::ServersOneWay, 2, "cut between servers in one direction"),
        (Kind::ServersCut, 3, "cut between servers"),
        (Kind::DaemonsOneWay, 1, "cut between daemons in one direction"),
        (Kind::DaemonsCut, 3, "cut between daemons"),
        (Kind::StreamCut, 2, "cut between a daemon and a server"),
        (Kind::OffMesh, 1, "daemon reaches servers but no peers"),
        (Kind::OffMembership, 1, "daemon reaches peers but no servers"),
        (Kind::Isolation, 1, "machine cut off"),
        (Kind::Flapping, 1, "way that comes and goes"),
        (Kind::ServerPause, 1, "server stands still"),
        (Kind::DaemonPause, 1, "daemon stands still"),
        (Kind::Bar, 1, "daemon barred"),
    ];
}

/// A step of a fault, mostly its end.
#[derive(Clone, Debug)]
pub enum Strike {
    Start(Node),
    Resume(Node, u64),
    Lower(u64),
    /// Parts become one again.
    Join(u64),
    LetIn(Name),
    /// Something that nobody may hear of.
    Unheard,
    /// A way comes and goes so often, for so long each time.
    Flap {
        a: Node,
        b: Node,
        off: Duration,
        on: Duration,
        left: u32,
    },
}

/// A fault that waits for a moment.
pub struct Ambush {
    pub moment: crate::membership::log::Moment,
    /// How often the moment may pass before.
    pub left: usize,
    pub kind: Kind,
}

impl World {
    /// How long something lasts, from hardly to far beyond what can be missed.
    pub(super) fn span(&mut self) -> Duration {
        let unit = *self.knobs.pace.notice.end();
        let (from, to) = match self.dice.below(20) {
            0..5 => (Duration::ZERO, unit / 20),
            5..10 => (unit / 20, unit / 2),
            10..16 => (unit / 2, unit * 4),
            _ => (unit * 4, unit * 16),
        };
        self.dice.time(from..=to)
    }

    pub(super) fn some_kind(&mut self) -> Kind {
        let mut throw = self.dice.below(Kind::ALL.iter().map(|(_, weight, _)| weight).sum());
        for (kind, weight, _) in Kind::ALL {
            match throw.checked_sub(weight) {
                Some(rest) => throw = rest,
                None => return kind,
            }
        }
        Kind::DaemonCrash
    }

    /// A server, preferably the one that something happens to.
    fn a_server(&mut self, actor: Option<Node>) -> Node {
        match actor {
            Some(Node::Server(index)) if self.dice.percent(70) => Node::Server(index),
            _ => Node::Server(self.dice.below(self.servers.len())),
        }
    }

    fn a_daemon(&mut self, actor: Option<Node>) -> Node {
        match actor {
            Some(Node::Daemon(index)) if self.dice.percent(70) => Node::Daemon(index),
            _ => Node::Daemon(self.dice.below(self.daemons.len())),
        }
    }

    /// Another one of its sort, if there is one.
    fn another(&mut self, than: Node) -> Option<Node> {
        let pick = |world: &mut World, all: usize, index: usize| {
            (all > 1).then(|| (index + 1 + world.dice.below(all - 1)) % all)
        };
        match than {
            Node::Server(index) => pick(self, self.servers.len(), index).map(Node::Server),
            Node::Daemon(index) => pick(self, self.daemons.len(), index).map(Node::Daemon),
        }
    }

    /// Something of this kind happens, if it can.
    pub(super) fn happen(&mut self, kind: Kind, actor: Option<Node>) {
        let struck = match kind {
            Kind::DaemonCrash => {
                let node = self.a_daemon(actor);
                self.crash(node)
            }
            Kind::ServerCrash => {
                let node = self.a_server(actor);
                self.crash(node)
            }
            Kind::DaemonGoodbye => self.goodbye(actor),
            Kind::AllServers => self.crash_all_servers(),
            Kind::MachineCrash => self.crash_machine(actor),
            Kind::StreamBreak | Kind::LinkBreak => self.break_some(kind == Kind::LinkBreak, actor),
            Kind::Partition => self.partition(),
            Kind::ServersOneWay | Kind::ServersCut => {
                let node = self.a_server(actor);
                self.cut_from_another(node, kind == Kind::ServersOneWay)
            }
            Kind::DaemonsOneWay | Kind::DaemonsCut => {
                let node = self.a_daemon(actor);
                self.cut_from_another(node, kind == Kind::DaemonsOneWay)
            }
            Kind::StreamCut => {
                let (a, b) = (self.a_daemon(actor), self.a_server(actor));
                let one_way = self.dice.percent(30);
                self.cut(&[(a, b)], one_way)
            }
            Kind::OffMesh => {
                let node = self.a_daemon(actor);
                let ways = self.ways_to(node, false);
                self.cut(&ways, false)
            }
            Kind::OffMembership => {
                let node = self.a_daemon(actor);
                let ways = self.ways_to(node, true);
                self.cut(&ways, false)
            }
            Kind::Isolation => self.isolate(),
            Kind::Flapping => self.flap(actor),
            Kind::ServerPause => {
                let node = self.a_server(actor);
                self.pause(node)
            }
            Kind::DaemonPause => {
                let node = self.a_daemon(actor);
                self.pause(node)
            }
            Kind::Bar => self.bar(actor),
        };
        if struck {
            self.log.coverage.struck(kind);
            self.narrate(|| format!("*** {kind:?}"));
        }
    }

    fn crash(&mut self, node: Node) -> bool {
        let was_alive = self.is_alive(node);
        if was_alive {
            let is_prompt = self.dice.percent(self.knobs.pace.prompt);
            self.kill(node, is_prompt);
            self.later(Strike::Start(node));
        }
        was_alive
    }

    pub(super) fn later(&mut self, strike: Strike) {
        let after = self.span();
        self.net.schedule(after, Event::Strike(strike));
    }

    fn goodbye(&mut self, actor: Option<Node>) -> bool {
        let node = self.a_daemon(actor);
        let Node::Daemon(index) = node else { return false };
        let can = self.daemons[index].alive && !self.net.is_paused(node);
        if can {
            self.daemons[index].say_goodbye(&mut self.net);
            self.kill(node, true);
            self.later(Strike::Start(node));
        }
        can
    }

    fn crash_all_servers(&mut self) -> bool {
        let common = self.span();
        let is_common = self.dice.percent(50);
        for index in 0..self.servers.len() {
            let node = Node::Server(index);
            if self.is_alive(node) {
                let is_prompt = self.dice.percent(self.knobs.pace.prompt);
                self.kill(node, is_prompt);
                let after = if is_common { common } else { self.span() };
                self.net.schedule(after, Event::Strike(Strike::Start(node)));
            }
        }
        true
    }

    fn crash_machine(&mut self, actor: Option<Node>) -> bool {
        let Node::Daemon(index) = self.a_daemon(actor) else { return false };
        let after = self.span();
        for node in [Node::Daemon(index), Node::Server(index)] {
            if self.is_alive(node) {
                self.kill(node, false);
                self.net.schedule(after, Event::Strike(Strike::Start(node)));
            }
        }
        true
    }

    /// A connection breaks: both ends see it at once, or one after the other.
    pub(super) fn break_some(&mut self, between_servers: bool, actor: Option<Node>) -> bool {
        let is_of = |(_, [a, b]): &(Conn, [Node; 2])| {
            let both = matches!((a, b), (Node::Server(_), Node::Server(_)));
            both == between_servers
        };
        let mut conns: Vec<_> = self.net.living().into_iter().filter(is_of).collect();
        let of_actor = |(_, ends): &(Conn, [Node; 2])| actor.is_some_and(|actor| ends.contains(&actor));
        if conns.iter().any(of_actor) {
            conns.retain(of_actor);
        }
        if conns.is_empty() {
            return false;
        }
        let (conn, [a, b]) = self.dice.pick(&conns);
        let (first, other) = if self.dice.percent(50) { (a, b) } else { (b, a) };
        if self.net.is_paused(first) {
            return false;
        }
        let is_told = self.dice.percent(60) || self.knobs.purpose == Purpose::Stillness;
        if !is_told {
            self.net.drop_end(conn, first, other);
        }
        self.lose(first, conn, Leave::Closed);
        true
    }

    fn partition(&mut self) -> bool {
        let machines = self.machines();
        let count = if machines > 2 && self.dice.percent(25) { 3 } else { 2 };
        let parts: Vec<u32> = (0..machines).map(|_| self.dice.below(count) as u32).collect();
        self.part(parts);
        self.later(Strike::Join(self.parted));
        true
    }

    pub(super) fn cut_from_another(&mut self, node: Node, one_way: bool) -> bool {
        let Some(other) = self.another(node) else { return false };
        self.cut(&[(node, other)], one_way)
    }

    /// Puts up barriers, and takes them down later.
    fn cut(&mut self, pairs: &[(Node, Node)], one_way: bool) -> bool {
        if pairs.is_empty() {
            return false;
        }
        let id = self.raise(pairs, one_way);
        self.later(Strike::Lower(id));
        true
    }

    pub(super) fn raise(&mut self, pairs: &[(Node, Node)], one_way: bool) -> u64 {
        self.token += 1;
        let mut ways = pairs.to_vec();
        if !one_way {
            ways.extend(pairs.iter().map(|(a, b)| (*b, *a)));
        }
        self.narrate(|| format!("*** barrier {ways:?}"));
        self.net.raise(self.token, ways);
        self.look_around();
        self.token
    }

    /// All pairs of `node` and a server, or a daemon.
    pub(super) fn ways_to(&self, node: Node, servers: bool) -> Vec<(Node, Node)> {
        let all = if servers { self.servers.len() } else { self.daemons.len() };
        let make = |index| if servers { Node::Server(index) } else { Node::Daemon(index) };
        (0..all).map(make).filter(|other| *other != node).map(|other| (node, other)).collect()
    }

    fn isolate(&mut self) -> bool {
        let machine = self.dice.below(self.machines());
        let mut pairs = Vec::new();
        for node in [Node::Server(machine), Node::Daemon(machine)] {
            let others = [self.ways_to(node, true), self.ways_to(node, false)].concat();
            let is_elsewhere =
                |(_, Node::Server(other) | Node::Daemon(other)): &(Node, Node)| *other != machine;
            pairs.extend(others.into_iter().filter(is_elsewhere));
        }
        self.cut(&pairs, false)
    }

    fn flap(&mut self, actor: Option<Node>) -> bool {
        let a = if self.dice.percent(50) { self.a_daemon(actor) } else { self.a_server(actor) };
        let b = if self.dice.percent(30) { Some(self.a_server(None)) } else { self.another(a) };
        let Some(b) = b.filter(|b| *b != a) else { return false };
        let unit = *self.knobs.pace.notice.end();
        let (off, on) = (self.dice.time(unit / 8..=unit * 3), self.dice.time(unit / 8..=unit * 3));
        let left = 2 + self.dice.below(5) as u32;
        self.net.schedule(Duration::ZERO, Event::Strike(Strike::Flap { a, b, off, on, left }));
        true
    }

    fn pause(&mut self, node: Node) -> bool {
        let can = self.is_alive(node) && !self.net.is_paused(node);
        if can {
            self.net.pause(node);
            self.look_around();
            self.token += 1;
            self.later(Strike::Resume(node, self.token));
            self.pauses.insert(node, self.token);
        }
        can
    }

    fn bar(&mut self, actor: Option<Node>) -> bool {
        let (server, Node::Daemon(index)) = (self.a_server(None), self.a_daemon(actor)) else { return false };
        let name = self.daemons[index].id.name();
        let out = if self.dice.percent(50) { Term::For(self.span()) } else { Term::Maintenance };
        let can = self.operate(server, name, Some(out));
        if can && out == Term::Maintenance {
            self.barred.insert(name);
            self.later(Strike::LetIn(name));
        }
        can
    }

    /// An operator says so, if the server listens.
    pub(super) fn operate(&mut self, server: Node, name: Name, out: Option<Term>) -> bool {
        let Node::Server(index) = server else { return false };
        let can = self.is_alive(server) && !self.net.is_paused(server);
        if can {
            self.servers[index].tell(Input::Bar { name, out }, &mut self.net, &mut self.log);
        }
        can
    }

    /// A step of a fault.
    pub(super) fn strike(&mut self, strike: Strike) {
        self.narrate(|| format!("*** {strike:?}"));
        match strike {
            Strike::Start(node) => self.start(node),
            Strike::Resume(node, token) => {
                if self.pauses.get(&node) == Some(&token) {
                    self.resume(node);
                }
            }
            Strike::Lower(id) => {
                self.net.lower(id);
                self.look_around();
                self.log.saw(self.net.now, &Seen::Released);
            }
            Strike::Join(token) => {
                if self.parted == token {
                    self.part(vec![0; self.machines()]);
                }
            }
            Strike::LetIn(name) => {
                let server = self.a_server(None);
                if self.operate(server, name, None) {
                    self.barred.remove(&name);
                }
            }
            Strike::Unheard => self.fail_unheard(),
            Strike::Flap { a, b, off, on, left } => {
                if left > 0 && !self.is_calm {
                    let id = self.raise(&[(a, b)], false);
                    self.net.schedule(off, Event::Strike(Strike::Lower(id)));
                    let again = Strike::Flap { a, b, off, on, left: left - 1 };
                    self.net.schedule(off + on, Event::Strike(again));
                }
            }
        }
    }

    pub(super) fn part(&mut self, parts: Vec<u32>) {
        self.narrate(|| format!("*** parts {parts:?}"));
        self.net.part(parts);
        self.token += 1;
        self.parted = self.token;
        self.look_around();
        self.log.saw(self.net.now, &Seen::Released);
    }

    pub(super) fn resume(&mut self, node: Node) {
        self.pauses.remove(&node);
        self.net.resume(node);
        self.look_around();
        self.log.saw(self.net.now, &Seen::Released);
    }

    /// Servers fail for a moment, or what connects them, and nobody is to hear of it.
    pub(super) fn fail_unheard(&mut self) {
        match self.dice.below(4) {
            0 => {
                self.break_some(false, None);
            }
            1 => {
                self.break_some(true, None);
            }
            _ => {
                let all: Vec<usize> = (0..self.servers.len()).collect();
                let some = 1 + self.dice.below(all.len());
                let mut failing = BTreeSet::new();
                while failing.len() < some {
                    failing.insert(self.dice.pick(&all));
                }
                for index in failing {
                    let is_prompt = self.dice.percent(70);
                    self.kill(Node::Server(index), is_prompt);
                    let after = self.dice.time(Duration::from_millis(5)..=Duration::from_millis(400));
                    self.net.schedule(after, Event::Strike(Strike::Start(Node::Server(index))));
                }
            }
        }
        self.log.coverage.count("  server outages in them that nobody heard of", 1);
    }
}
