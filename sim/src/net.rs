//! Connections between hosts, and the one queue of everything that is going to happen.
//!
//! A connection is a pair of streams, each first in, first out; every packet takes a random time. It ends at each of
//! its ends on its own: what arrives at an end that has closed is lost. So a crash loses a ragged tail, different at
//! each peer, and a reset loses what is under way. All that hosts say to each other passes through [`Net::dial`] and
//! [`Net::send`]; what comes between two machines is [`Reach`]. What cannot pass waits, and each end gives its connection
//! up on its own once it has heard nothing for some time, or the machine there does; if the way is free again before
//! that, nothing is lost.

mod reach;

pub use reach::{Barrier, Reach};

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::RangeInclusive;
use std::time::Duration;

use gcs_core::Epoch;
use model::{DaemonId, Time};
use session_core::gateway::Attachment;
use session_core::message::GatewayId;

use crate::dice::Dice;
use crate::packet::{Node, Packet};

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conn(u64);

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who opened it.
    Dialer,
    /// Whom it was opened to.
    Listener,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Dialer => Side::Listener,
            Side::Listener => Side::Dialer,
        }
    }
}

/// Something that a host has to do later on its own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Dial a membership server.
    Membership,
    /// Dial this membership server, one's peer.
    Peer(usize),
    /// Dial a daemon, for the stream of this epoch.
    Link(DaemonId, Epoch),
    /// Dial the daemon that one is to be attached to.
    Attach,
    /// Dial a gateway.
    Door(GatewayId),
    /// A client acts.
    Act,
    /// A client tries again what failed.
    Retry,
    /// A client is through with a response, and with so many bytes of them.
    Taken(Attachment, u64, u64),
}

/// Why an end of a connection hears nothing from the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The way is cut since this change of [`Reach`].
    Cut(u64),
    /// The process at the other end stands still, for the so-manieth time.
    Pause(Node, u64),
}

/// Something that is going to happen.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are named for what they are")]
pub enum Event {
    /// A packet arrives at an end of a connection.
    Arrive { conn: Conn, side: Side, packet: Packet },
    /// An end of a connection closes.
    Close { conn: Conn, side: Side },
    /// An end of a connection has heard nothing for so long that it gives up, if it still hears nothing.
    Silence { conn: Conn, side: Side, why: Silence },
    /// A machine has something due.
    Wake { node: Node, life: u64, due: Time },
    /// A host has something due.
    Timer { node: Node, life: u64, timer: Timer },
    /// A dead process starts again.
    Restart { node: Node },
    /// A slow process gets round to the next thing, if it is still slow.
    Turn { node: Node, stop: u64 },
    /// The next fault at random is due.
    Trouble,
    /// A fault that waited for its moment strikes.
    Strike(crate::fault::Strike),
}

/// What is going to happen, in the order of time; what is due at one time happens in the order in which it was
/// planned.
#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<Planned>>,
    planned: u64,
}

struct Planned {
    at: Time,
    number: u64,
    event: Event,
}

impl Planned {
    fn key(&self) -> (Time, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Queue {
    /// Plans `event` for `at`.
    pub fn plan(&mut self, at: Time, event: Event) {
        self.planned += 1;
        self.heap.push(Reverse(Planned { at, number: self.planned, event }));
    }

    /// The next event, if it happens by `until`.
    pub fn next(&mut self, until: Time) -> Option<(Time, Event)> {
        self.heap.peek().filter(|Reverse(next)| next.at <= until)?;
        self.heap.pop().map(|Reverse(next)| (next.at, next.event))
    }
}

/// How long things take on the network.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The latency of a connection.
    pub latency: RangeInclusive<Duration>,
    /// What comes on top for each packet.
    pub jitter: RangeInclusive<Duration>,
    /// Until an end sees that the other one is gone.
    pub detection: RangeInclusive<Duration>,
    /// Until an end that hears nothing gives up.
    pub silence: RangeInclusive<Duration>,
    /// Whether that is so with streams between daemons too. If not, daemons have to find out for themselves.
    pub links_give_up: bool,
}

/// What waits until the way is free.
enum Held {
    Packet(Box<Packet>),
    /// The other end closed.
    Close,
}

struct End {
    node: Node,
    open: bool,
    /// Nothing arrives before what was sent before.
    last_arrival: Time,
    /// What is to arrive here and cannot.
    held: Vec<Held>,
}

struct Connection {
    dialer: End,
    listener: End,
    latency: Duration,
    /// The change of [`Reach`] that cut it, while it is cut.
    cut: Option<u64>,
    /// Whether its ends give up by themselves when they hear nothing.
    gives_up: bool,
}

impl Connection {
    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Dialer => &mut self.dialer,
            Side::Listener => &mut self.listener,
        }
    }
}

/// All connections.
pub struct Net {
    connections: BTreeMap<Conn, Connection>,
    last: u64,
    pace: Pace,
    dice: Dice,
    reach: Reach,
    /// How often the reach has changed.
    changes: u64,
}

impl Net {
    /// A network of so many machines without connections.
    pub fn new(machines: usize, pace: Pace, dice: Dice) -> Net {
        Net { connections: BTreeMap::new(), last: 0, pace, dice, reach: Reach::new(machines), changes: 0 }
    }

    /// What stands between machines.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Changes what stands between machines: connections on ways that are cut will break, and what waited for ways that
    /// are free again goes on.
    pub fn reshape(&mut self, now: Time, queue: &mut Queue, change: impl FnOnce(&mut Reach)) {
        change(&mut self.reach);
        self.changes += 1;
        let conns: Vec<Conn> = self.connections.keys().copied().collect();
        for conn in conns {
            self.look_at_cuts(now, conn, queue);
            self.release(now, conn, queue);
        }
    }

    /// Lets both ends of a connection give up, each after its time, if it is cut and was not before.
    fn look_at_cuts(&mut self, now: Time, conn: Conn, queue: &mut Queue) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if !self.reach.breaks(connection.dialer.node, connection.listener.node) {
            connection.cut = None;
        } else if connection.cut.is_none() {
            connection.cut = Some(self.changes);
            if !connection.gives_up {
                return;
            }
            for side in [Side::Dialer, Side::Listener] {
                let at = now + self.dice.time(self.pace.silence.clone());
                queue.plan(at, Event::Silence { conn, side, why: Silence::Cut(self.changes) });
            }
        }
    }

    /// Sends what waited on its way, as far as the way is free.
    fn release(&mut self, now: Time, conn: Conn, queue: &mut Queue) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let latency = connection.latency;
        for side in [Side::Dialer, Side::Listener] {
            let from = connection.end(side.other()).node;
            let to = connection.end(side);
            if !self.reach.passes(from, to.node) || to.held.is_empty() {
                continue;
            }
            to.last_arrival = to.last_arrival.max(now + latency);
            for held in std::mem::take(&mut to.held) {
                let event = match held {
                    Held::Packet(packet) => Event::Arrive { conn, side, packet: *packet },
                    Held::Close => Event::Close { conn, side },
                };
                queue.plan(to.last_arrival, event);
            }
        }
    }

    /// The ends of open connections that hear nothing while `node` stands still: they give up, each after its time.
    pub fn fall_silent(&mut self, now: Time, node: Node, stop: u64, queue: &mut Queue) {
        for (conn, connection) in self.connections.iter().filter(|(_, it)| it.gives_up) {
            let Some(side) = side_of(connection, node) else { continue };
            let at = now + self.dice.time(self.pace.silence.clone());
            let why = Silence::Pause(node, stop);
            queue.plan(at, Event::Silence { conn: *conn, side: side.other(), why });
        }
    }

    /// Whether the connection is still cut by that change of the reach.
    pub fn is_cut_since(&self, conn: Conn, change: u64) -> bool {
        self.connections.get(&conn).is_some_and(|connection| connection.cut == Some(change))
    }

    /// Opens a connection and sends the greeting on it. It may lead nowhere; then it closes.
    pub fn dial(&mut self, now: Time, from: Node, to: Node, greeting: Packet, queue: &mut Queue) -> Conn {
        self.last += 1;
        let conn = Conn(self.last);
        let end = |node| End { node, open: true, last_arrival: now, held: Vec::new() };
        let latency = self.dice.time(self.pace.latency.clone());
        let gives_up = self.pace.links_give_up || !matches!(greeting, Packet::Link { .. });
        let connection = Connection { dialer: end(from), listener: end(to), latency, cut: None, gives_up };
        self.connections.insert(conn, connection);
        self.look_at_cuts(now, conn, queue);
        self.send(now, conn, from, greeting, queue);
        conn
    }

    /// Sends a packet from one end to the other.
    pub fn send(&mut self, now: Time, conn: Conn, from: Node, packet: Packet, queue: &mut Queue) {
        let jitter = self.dice.time(self.pace.jitter.clone());
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let Some(side) = side_of(connection, from) else { return };
        let latency = connection.latency;
        let to = connection.end(side.other());
        if !self.reach.passes(from, to.node) {
            to.held.push(Held::Packet(Box::new(packet)));
            return;
        }
        to.last_arrival = to.last_arrival.max(now + latency + jitter);
        if to.open {
            queue.plan(to.last_arrival, Event::Arrive { conn, side: side.other(), packet });
        }
    }

    /// One end closes; the other sees it after all that was sent before.
    pub fn close(&mut self, now: Time, conn: Conn, from: Node, queue: &mut Queue) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let Some(side) = side_of(connection, from) else { return };
        connection.end(side).open = false;
        let latency = connection.latency;
        let to = connection.end(side.other());
        if self.reach.passes(from, to.node) {
            to.last_arrival = to.last_arrival.max(now + latency);
            queue.plan(to.last_arrival, Event::Close { conn, side: side.other() });
        } else {
            to.held.push(Held::Close);
        }
        self.forget_if_closed(conn);
    }

    /// A connection breaks: each end sees it at its own time.
    pub fn reset(&mut self, now: Time, conn: Conn, queue: &mut Queue) {
        for side in [Side::Dialer, Side::Listener] {
            let at = now + self.dice.time(self.pace.detection.clone());
            queue.plan(at, Event::Close { conn, side });
        }
    }

    /// A process at `node` ends in order: it closes its connections.
    pub fn leave(&mut self, now: Time, node: Node, queue: &mut Queue) {
        let its = |(_, it): &(&Conn, &Connection)| side_of(it, node).is_some();
        for conn in self.connections.iter().filter(its).map(|(conn, _)| *conn).collect::<Vec<_>>() {
            self.close(now, conn, node, queue);
        }
    }

    /// Nobody is at `node` any more. Its peers see that one by one, and lose what arrives after it.
    pub fn vanish(&mut self, now: Time, node: Node, queue: &mut Queue) {
        let mut affected = Vec::new();
        for (conn, connection) in &mut self.connections {
            if let Some(side) = side_of(connection, node) {
                connection.end(side).open = false;
                let to = connection.end(side.other());
                if self.reach.passes(node, to.node) {
                    affected.push((*conn, side.other()));
                } else {
                    to.held.push(Held::Close);
                }
            }
        }
        for (conn, side) in affected {
            let at = now + self.dice.time(self.pace.detection.clone());
            queue.plan(at, Event::Close { conn, side });
            self.forget_if_closed(conn);
        }
    }

    /// Whose end this is, if it is open.
    pub fn owner(&mut self, conn: Conn, side: Side) -> Option<Node> {
        let end = self.connections.get_mut(&conn)?.end(side);
        end.open.then_some(end.node)
    }

    /// An end sees its connection closed. Says whose end it is, if it was open until now.
    pub fn closed(&mut self, conn: Conn, side: Side) -> Option<Node> {
        let owner = self.owner(conn, side);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.end(side).open = false;
        }
        self.forget_if_closed(conn);
        owner
    }

    /// The other end of an open connection.
    pub fn peer(&self, conn: Conn, of: Node) -> Option<Node> {
        let connection = self.connections.get(&conn)?;
        let is_dialer = connection.dialer.node == of;
        Some(if is_dialer { connection.listener.node } else { connection.dialer.node })
    }

    /// Whether the end at `node` is open.
    pub fn is_open(&self, conn: Conn, node: Node) -> bool {
        self.connections.get(&conn).is_some_and(|connection| side_of(connection, node).is_some())
    }

    /// Connections that are open at both ends.
    pub fn open(&self) -> impl Iterator<Item = (Conn, Node, Node)> {
        let open = self.connections.iter().filter(|(_, it)| it.dialer.open && it.listener.open);
        open.map(|(conn, it)| (*conn, it.dialer.node, it.listener.node))
    }

    fn forget_if_closed(&mut self, conn: Conn) {
        if self.connections.get(&conn).is_some_and(|it| !it.dialer.open && !it.listener.open) {
            self.connections.remove(&conn);
        }
    }
}

/// Which open end of `connection` is at `node`.
fn side_of(connection: &Connection, node: Node) -> Option<Side> {
    let sides = [(Side::Dialer, &connection.dialer), (Side::Listener, &connection.listener)];
    sides.into_iter().find(|(_, end)| end.node == node && end.open).map(|(side, _)| side)
}
