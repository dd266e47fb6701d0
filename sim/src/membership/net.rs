//! The network of this world, and its time: connections with delays, barriers, processes that stand still.
//!
//! A connection is like one of TCP with heartbeats: what is sent on it arrives in order; behind a barrier it waits.
//! Each end notices by itself, after a time of its own, that nothing comes any more, and gives the connection up.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use membership_core::{Arrival, Message, Notice, Rejection};
use model::{ConfigurationId, DaemonId, ServerId, Time};

use crate::dice::Dice;
use crate::membership::faults::{Kind, Strike};

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Server(usize),
    Daemon(usize),
}

/// A connection. The one who opened it is at one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conn(usize);

/// What is sent on connections.
#[derive(Clone, Debug)]
pub enum Packet {
    /// A daemon attaches; the first packet of its stream, with its report.
    Register(Arrival, detector::Report<DaemonId>),
    Report(detector::Report<DaemonId>),
    /// A daemon has written down that it agrees to a primary component.
    Attempted(ConfigurationId),
    Goodbye,
    Notice(Notice),
    Rejected(Rejection),
    /// Servers say who they are, each of them first.
    Peer(ServerId),
    Agreement(Message),
}

/// What is going to happen.
#[derive(Clone, Debug)]
pub enum Event {
    Arrive {
        to: Node,
        conn: Conn,
        packet: Packet,
    },
    /// The other side closed the connection, or its process died.
    Closed {
        to: Node,
        conn: Conn,
    },
    /// If nothing can come on the connection, this side gives it up.
    Suspect {
        at: Node,
        conn: Conn,
    },
    /// A server dials a peer, or a daemon attaches.
    Dial {
        by: Node,
        life: u64,
        to: Node,
    },
    /// A daemon notices which of its peers it can talk to.
    Look {
        daemon: usize,
        life: u64,
    },
    /// A daemon tells its server what it has not told yet.
    Tell {
        daemon: usize,
        life: u64,
    },
    Wake {
        node: Node,
        life: u64,
    },
    // Of the run itself.
    Strike(Strike),
    Random(Kind, Option<Node>),
    Milestone(Milestone),
}

/// The phases of a run begin with these.
#[derive(Clone, Copy, Debug)]
pub enum Milestone {
    /// What must not disturb anybody begins.
    Formed,
    /// Faults are over.
    Calm,
    /// Nobody hears anything any more.
    Silence,
    End,
}

impl Event {
    /// The process that it happens to.
    fn at(&self) -> Option<Node> {
        match self {
            Event::Arrive { to, .. } | Event::Closed { to, .. } => Some(*to),
            Event::Suspect { at, .. } => Some(*at),
            Event::Dial { by, .. } => Some(*by),
            Event::Look { daemon, .. } | Event::Tell { daemon, .. } => Some(Node::Daemon(*daemon)),
            Event::Wake { node, .. } => Some(*node),
            Event::Strike(_) | Event::Random(..) | Event::Milestone(_) => None,
        }
    }
}

/// How fast things go.
#[derive(Clone, Debug)]
pub struct Pace {
    /// One way.
    pub delay: RangeInclusive<Duration>,
    /// From the last sign of life until it is missed.
    pub notice: RangeInclusive<Duration>,
    /// From a failed connection to the next one.
    pub redial: RangeInclusive<Duration>,
    /// From when a daemon knows something of its peers until it reports it.
    pub report: RangeInclusive<Duration>,
    /// In how many of a hundred crashes the others see connections closed at once.
    pub prompt: u64,
}

struct Way {
    open: bool,
    /// What is sent from here arrives no earlier than that.
    last: Time,
    /// What waits behind a barrier.
    stalled: Vec<Event>,
}

struct Pair {
    nodes: [Node; 2],
    ways: [Way; 2],
}

pub struct Net {
    pub now: Time,
    pub pace: Pace,
    pub dice: Dice,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    /// Counts what comes before everything else of its time.
    overdue: u64,
    pairs: BTreeMap<Conn, Pair>,
    opened: usize,
    barriers: BTreeMap<u64, Vec<(Node, Node)>>,
    blocked: BTreeSet<(Node, Node)>,
    /// Machines with different numbers do not reach each other.
    parts: Vec<u32>,
    /// What waits until they go on.
    paused: BTreeMap<Node, Vec<Event>>,
}

impl Net {
    pub fn new(dice: Dice, pace: Pace, machines: usize) -> Net {
        Net {
            now: Time::ZERO,
            pace,
            dice,
            queue: BTreeMap::new(),
            sequence: 1 << 32,
            overdue: 0,
            pairs: BTreeMap::new(),
            opened: 0,
            barriers: BTreeMap::new(),
            blocked: BTreeSet::new(),
            parts: vec![0; machines],
            paused: BTreeMap::new(),
        }
    }

    // Time.

    pub fn schedule(&mut self, after: Duration, event: Event) {
        self.at(self.now + after, event);
    }

    pub fn at(&mut self, time: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), event);
    }

    /// The next event, unless its process stands still.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            let ((time, _), event) = self.queue.pop_first()?;
            self.now = time;
            match event.at().and_then(|node| self.paused.get_mut(&node)) {
                Some(backlog) => backlog.push(event),
                None => return Some(event),
            }
        }
    }

    /// The next event, if it comes before `end`.
    pub fn next_before(&mut self, end: Time) -> Option<Event> {
        let is_due = self.queue.first_key_value().is_some_and(|((time, _), _)| *time < end);
        if is_due { self.next() } else { None }
    }

    pub fn soon(&mut self, range: RangeInclusive<Duration>, event: Event) {
        let after = self.dice.time(range);
        self.schedule(after, event);
    }

    // Reachability.

    /// Whether what `from` sends reaches `to`.
    pub fn reaches(&self, from: Node, to: Node) -> bool {
        let (Node::Server(a) | Node::Daemon(a)) = from;
        let (Node::Server(b) | Node::Daemon(b)) = to;
        self.parts[a] == self.parts[b] && (self.blocked.is_empty() || !self.blocked.contains(&(from, to)))
    }

    /// Whether they reach each other.
    pub fn is_whole(&self, a: Node, b: Node) -> bool {
        self.reaches(a, b) && self.reaches(b, a)
    }

    /// Puts up a barrier for each of `ways`.
    pub fn raise(&mut self, id: u64, ways: Vec<(Node, Node)>) {
        self.blocked.extend(&ways);
        self.barriers.insert(id, ways);
        self.look_again();
    }

    pub fn lower(&mut self, id: u64) {
        if self.barriers.remove(&id).is_some() {
            self.blocked = self.barriers.values().flatten().copied().collect();
            self.look_again();
        }
    }

    pub fn lower_all(&mut self) {
        self.barriers.clear();
        self.blocked.clear();
        self.parts.fill(0);
        self.look_again();
    }

    /// Machines with different numbers do not reach each other.
    pub fn part(&mut self, parts: Vec<u32>) {
        self.parts = parts;
        self.look_again();
    }

    /// What waited goes on where it can; where nothing can come any more, that will be noticed.
    fn look_again(&mut self) {
        let conns: Vec<Conn> = self.pairs.keys().copied().collect();
        for conn in conns {
            self.release(conn);
            let [a, b] = self.pairs[&conn].nodes;
            if !self.is_whole(a, b) {
                self.doubt(conn, a);
                self.doubt(conn, b);
            }
        }
    }

    fn release(&mut self, conn: Conn) {
        let Some(pair) = self.pairs.get_mut(&conn) else { return };
        let [a, b] = pair.nodes;
        for (side, from, to) in [(0, a, b), (1, b, a)] {
            let Some(pair) = self.pairs.get_mut(&conn) else { return };
            if pair.ways[side].stalled.is_empty() || !self.reaches(from, to) {
                continue;
            }
            let stalled = match self.pairs.get_mut(&conn) {
                Some(pair) => std::mem::take(&mut pair.ways[side].stalled),
                None => return,
            };
            for event in stalled {
                self.put(conn, side, event);
            }
        }
    }

    fn doubt(&mut self, conn: Conn, at: Node) {
        self.soon(self.pace.notice.clone(), Event::Suspect { at, conn });
    }

    // Processes.

    pub fn is_paused(&self, node: Node) -> bool {
        self.paused.contains_key(&node)
    }

    pub fn pause(&mut self, node: Node) {
        self.paused.entry(node).or_default();
        for (conn, other) in self.conns_of(node) {
            self.doubt(conn, other);
        }
    }

    pub fn resume(&mut self, node: Node) {
        for event in self.paused.remove(&node).unwrap_or_default() {
            self.overdue += 1;
            self.queue.insert((self.now, self.overdue), event);
        }
    }

    /// All connections of `node` die with it. Others see them closed, or nothing at all.
    pub fn kill(&mut self, node: Node, is_prompt: bool) {
        self.paused.remove(&node);
        for (conn, other) in self.conns_of(node) {
            if is_prompt {
                self.close(conn, node);
            } else {
                self.drop_end(conn, node, other);
            }
        }
    }

    /// The side of `at` is gone, and the other one has to notice by itself.
    pub fn drop_end(&mut self, conn: Conn, at: Node, other: Node) {
        self.hang_up(conn, at);
        self.doubt(conn, other);
    }

    fn conns_of(&self, node: Node) -> Vec<(Conn, Node)> {
        let of = |(conn, pair): (&Conn, &Pair)| {
            let [a, b] = pair.nodes;
            (a == node).then_some((*conn, b)).or((b == node).then_some((*conn, a)))
        };
        self.pairs.iter().filter_map(of).collect()
    }

    // Connections.

    /// A connection to `to`, if anybody is there. It takes both directions to make one.
    pub fn dial(&mut self, from: Node, to: Node, is_there: bool, first: Packet) -> Conn {
        self.opened += 1;
        let conn = Conn(self.opened);
        let way = |open| Way { open, last: self.now, stalled: Vec::new() };
        let is_whole = self.is_whole(from, to);
        let is_made = is_whole && is_there;
        self.pairs.insert(conn, Pair { nodes: [from, to], ways: [way(true), way(is_made)] });
        if is_made {
            self.send(conn, from, first);
        } else if is_whole {
            self.put(conn, 1, Event::Closed { to: from, conn });
        }
        if !is_whole || self.is_paused(to) {
            self.doubt(conn, from);
        }
        conn
    }

    /// The side of `node`.
    fn side(pair: &Pair, node: Node) -> usize {
        usize::from(pair.nodes[0] != node)
    }

    pub fn is_open(&self, conn: Conn, at: Node) -> bool {
        self.pairs.get(&conn).is_some_and(|pair| pair.ways[Net::side(pair, at)].open)
    }

    /// The nodes at both ends, if both hold on to it.
    pub fn living(&self) -> Vec<(Conn, [Node; 2])> {
        let open = self.pairs.iter().filter(|(_, pair)| pair.ways.iter().all(|way| way.open));
        open.map(|(conn, pair)| (*conn, pair.nodes)).collect()
    }

    /// Sends on a connection that is open at this side.
    pub fn send(&mut self, conn: Conn, from: Node, packet: Packet) {
        let Some(pair) = self.pairs.get(&conn) else { return };
        let side = Net::side(pair, from);
        if pair.ways[side].open {
            let to = pair.nodes[1 - side];
            self.put(conn, side, Event::Arrive { to, conn, packet });
        }
    }

    /// Puts `event` on its way from `side`.
    fn put(&mut self, conn: Conn, side: usize, event: Event) {
        let Some(pair) = self.pairs.get(&conn) else { return };
        let (from, to) = (pair.nodes[side], pair.nodes[1 - side]);
        let free = self.reaches(from, to);
        let due = self.now + self.dice.time(self.pace.delay.clone());
        let Some(pair) = self.pairs.get_mut(&conn) else { return };
        let way = &mut pair.ways[side];
        if free {
            way.last = way.last.max(due);
            let due = way.last;
            self.at(due, event);
        } else {
            way.stalled.push(event);
        }
    }

    /// `at` closes its side; the other one is told if it can be.
    pub fn close(&mut self, conn: Conn, at: Node) {
        let Some(pair) = self.pairs.get(&conn) else { return };
        let side = Net::side(pair, at);
        let (was_open, other) = (pair.ways[side].open, pair.nodes[1 - side]);
        if was_open {
            self.put(conn, side, Event::Closed { to: other, conn });
            self.hang_up(conn, at);
            if !self.is_whole(at, other) {
                self.doubt(conn, other);
            }
        }
    }

    /// The side of `at` is gone, and nobody is told.
    pub fn hang_up(&mut self, conn: Conn, at: Node) {
        let Some(pair) = self.pairs.get_mut(&conn) else { return };
        let side = Net::side(pair, at);
        pair.ways[side].open = false;
        if pair.ways.iter().all(|way| !way.open) {
            self.pairs.remove(&conn);
        }
    }

    /// Whether nothing can come to `at` on a connection that it holds on to.
    pub fn is_silent(&self, conn: Conn, at: Node) -> bool {
        let Some(pair) = self.pairs.get(&conn) else { return false };
        let side = Net::side(pair, at);
        let other = pair.nodes[1 - side];
        let is_dead = !pair.ways[1 - side].open;
        pair.ways[side].open && (is_dead || self.is_paused(other) || !self.is_whole(at, other))
    }
}
