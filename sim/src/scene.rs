//! What a host sees of the world while it acts, and what the world notes down about it.

use std::time::Duration;

use model::trace::{self, Record};
use model::{SessionId, Time};

use crate::coverage::{Coverage, Fact};
use crate::diagram::Diagram;
use crate::dice::Dice;
use crate::happens::{Happens, Moment};
use crate::net::{Conn, Event, Net, Queue, Timer};
use crate::packet::{Node, Packet};

/// What observers note down.
#[derive(Default)]
pub struct Log {
    /// The trace.
    pub records: Vec<Record>,
    /// Moments that have come since the world last looked.
    pub moments: Vec<Moment>,
    /// What must not happen between honest hosts, or to a client.
    pub complaints: Vec<String>,
    /// Processes that have nothing left to do, and end.
    pub ended: Vec<Node>,
    /// Sessions that their clients gave up, since nobody knows them.
    pub lost: Vec<SessionId>,
    /// What struck and what happened.
    pub coverage: Coverage,
    /// The run as a diagram, if somebody wants to see it.
    pub diagram: Option<Diagram>,
}

/// One step of one host.
pub struct Scene<'a> {
    /// The time, which no host knows exactly.
    pub now: Time,
    /// How far this host's clock is ahead.
    pub skew: Duration,
    /// Who acts.
    pub node: Node,
    /// In which of its lives.
    pub life: u64,
    /// The connections.
    pub net: &'a mut Net,
    /// What is going to happen.
    pub queue: &'a mut Queue,
    /// The hosts' own randomness.
    pub dice: &'a mut Dice,
    /// What observers note down.
    pub log: &'a mut Log,
}

impl Scene<'_> {
    /// The time by this host's clock.
    pub fn clock(&self) -> Time {
        self.now + self.skew
    }

    /// Opens a connection.
    pub fn dial(&mut self, to: Node, greeting: Packet) -> Conn {
        self.sees(to, &greeting);
        self.net.dial(self.now, self.node, to, greeting, self.queue)
    }

    /// Sends on a connection.
    pub fn send(&mut self, conn: Conn, packet: Packet) {
        if self.log.diagram.is_some()
            && let Some(to) = self.net.peer(conn, self.node)
        {
            self.sees(to, &packet);
        }
        self.net.send(self.now, conn, self.node, packet, self.queue);
    }

    fn sees(&mut self, to: Node, packet: &Packet) {
        if let Some(diagram) = &mut self.log.diagram {
            diagram.sent(self.now, self.node, to, packet);
        }
    }

    /// Closes a connection.
    pub fn close(&mut self, conn: Conn) {
        self.net.close(self.now, conn, self.node, self.queue);
    }

    /// Asks to be reminded.
    pub fn remind(&mut self, after: Duration, timer: Timer) {
        let (node, life) = (self.node, self.life);
        self.queue.plan(self.now + after, Event::Timer { node, life, timer });
    }

    /// Notes down what an observer may see.
    pub fn trace(&mut self, event: trace::Event) {
        let at = self.clock();
        if let Some(diagram) = &mut self.log.diagram {
            diagram.seen(self.now, self.node, &event);
        }
        self.log.records.push(Record { at, event });
    }

    /// Something worth counting happened so often.
    pub fn count(&mut self, fact: Fact, times: u64) {
        self.log.coverage.count(fact, times);
    }

    /// A moment has come.
    pub fn happens(&mut self, what: Happens) {
        self.log.moments.push(Moment { what, at: self.node });
    }

    /// Something is wrong that no property sees.
    pub fn complain(&mut self, what: impl FnOnce() -> String) {
        let complaint = format!("{} at {}: {}", self.node, self.now, what());
        self.log.complaints.push(complaint);
    }
}

/// What every host does.
pub trait Host {
    /// It has just started.
    fn start(&mut self, scene: &mut Scene<'_>);

    /// A packet arrived.
    fn hear(&mut self, conn: Conn, packet: Packet, scene: &mut Scene<'_>);

    /// A connection closed.
    fn lose(&mut self, conn: Conn, scene: &mut Scene<'_>);

    /// What it wanted to be reminded of.
    fn remember(&mut self, timer: Timer, scene: &mut Scene<'_>);

    /// The machine has something due.
    fn wake(&mut self, scene: &mut Scene<'_>);

    /// When the machine has something due, by this host's clock.
    fn next_wake(&self) -> Option<Time>;
}
