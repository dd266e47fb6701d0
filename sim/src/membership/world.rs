//! All servers and daemons of a run, and its phases: everything starts; faults strike; the network comes to rest, whole
//! or not; everything comes to an end, which is judged.

use std::collections::{BTreeMap, BTreeSet};

use membership_core::{Leave, Rule};
use model::trace::Record;
use model::{Ballots, DaemonId, Name};

use crate::dice::Dice;
use crate::knobs::ms;
use crate::membership::daemon::DaemonHost;
use crate::membership::faults::{Ambush, Strike};
use crate::membership::knobs::{Knobs, Purpose};
use crate::membership::log::{Log, Moment, Seen};
use crate::membership::net::{Conn, Event, Milestone, Net, Node, Packet};
use crate::membership::server::{ServerHost, index_of};
use crate::report::Outcome;

/// A world that plays the run of one seed.
pub struct World {
    pub(super) knobs: Knobs,
    pub(super) net: Net,
    pub(super) log: Log,
    /// For faults alone.
    pub(super) dice: Dice,
    pub(super) servers: Vec<ServerHost>,
    pub(super) daemons: Vec<DaemonHost>,
    ambushes: Vec<Ambush>,
    /// The last number that was given to a fault that ends.
    pub(super) token: u64,
    /// The partition that stands.
    pub(super) parted: u64,
    /// Who stands still, and by which fault.
    pub(super) pauses: BTreeMap<Node, u64>,
    /// Whom operators keep out for good.
    pub(super) barred: BTreeSet<Name>,
    /// Faults are over.
    pub(super) is_calm: bool,
    /// How many views a daemon had been told before a link began to flap.
    pub(super) views_before: u64,
    events: u64,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(knobs: Knobs) -> World {
        let Knobs { seed, servers, daemons, .. } = knobs;
        // What servers agree on waits for daemons to write it down, and longer for those who have been late.
        let writing = if let Rule::Dynamic(_) = knobs.params.primary { 8 * knobs.params.vote } else { ms(0) };
        let patience = *knobs.pace.delay.end() * 4 + ms(1) + writing;
        let is_dynamic = matches!(knobs.params.primary, Rule::Dynamic(_));
        let daemon = |index: usize| {
            let mut host = DaemonHost::new(index, servers, knobs.reach);
            // In one world of ten, somebody has no disk.
            host.ballots = (is_dynamic && (seed % 10 > 0 || index > 0)).then(Ballots::default);
            host
        };
        World {
            net: Net::new(Dice::new(seed, 1), knobs.pace.clone(), servers.max(daemons)),
            log: Log::new(patience),
            dice: Dice::new(seed, 2),
            servers: (0..servers).map(|n| ServerHost::new(n, servers, knobs.params.clone())).collect(),
            daemons: (0..daemons).map(daemon).collect(),
            ambushes: Vec::new(),
            token: 0,
            parted: 0,
            pauses: BTreeMap::new(),
            barred: BTreeSet::new(),
            is_calm: false,
            views_before: 0,
            events: 0,
            knobs,
        }
    }

    /// Prints everything on the way.
    pub fn tell_all(&mut self) {
        self.log.is_verbose = true;
        println!("{:#?}", self.knobs);
    }

    /// Plays the run, and judges it.
    pub fn run(&mut self) -> Outcome {
        self.begin();
        while let Some(event) = self.net.next() {
            self.events += 1;
            if let Event::Milestone(Milestone::End) = event {
                break;
            }
            self.handle(event);
            self.spring();
        }
        self.finish();
        self.outcome()
    }

    fn outcome(&mut self) -> Outcome {
        let report = check::judge(&self.log.records);
        self.log.coverage.count("machine steps", self.log.steps);
        Outcome {
            seed: self.knobs.seed,
            events: self.events,
            complaints: std::mem::take(&mut self.log.complaints),
            report,
            coverage: crate::coverage::Coverage::default(),
            membership: std::mem::take(&mut self.log.coverage),
            tallies: Vec::new(),
        }
    }

    /// The trace so far.
    pub fn records(&self) -> &[Record] {
        &self.log.records
    }

    pub(super) fn narrate(&self, text: impl FnOnce() -> String) {
        if self.log.is_verbose {
            println!("{} {}", self.net.now, text());
        }
    }

    pub(super) fn machines(&self) -> usize {
        self.servers.len().max(self.daemons.len())
    }

    // Phases.

    /// Everything starts within a moment, and what will happen is drawn.
    fn begin(&mut self) {
        let waits = !self.knobs.params.grace.is_zero();
        let fact =
            if waits { "runs under parameters of a local network" } else { "runs in which nothing waits" };
        self.log.coverage.count(fact, 1);
        let nodes =
            (0..self.servers.len()).map(Node::Server).chain((0..self.daemons.len()).map(Node::Daemon));
        for node in nodes.collect::<Vec<_>>() {
            let after = self.net.dice.time(ms(0)..=*self.knobs.pace.redial.end());
            self.net.schedule(after, Event::Strike(Strike::Start(node)));
        }
        let storm = self.knobs.storm;
        let calm_at = match self.knobs.purpose {
            Purpose::Storm => {
                for _ in 0..self.knobs.strikes {
                    let (kind, at) = (self.some_kind(), self.dice.time(ms(0)..=storm));
                    self.net.schedule(at, Event::Random(kind, None));
                }
                for _ in 0..self.knobs.ambushes {
                    let moment = self.dice.pick(&Moment::ALL);
                    let left = self.dice.below(if moment == Moment::Link { 6 } else { 14 });
                    let kind = self.some_kind();
                    self.ambushes.push(Ambush { moment, left, kind });
                }
                storm
            }
            Purpose::Stillness | Purpose::Flapping => {
                self.net.schedule(ms(5_000), Event::Milestone(Milestone::Formed));
                ms(5_000) + self.flapping_time() + storm
            }
        };
        let times = [Milestone::Calm, Milestone::Silence, Milestone::End];
        let at = [calm_at, calm_at + self.knobs.aftermath, calm_at + self.knobs.aftermath * 3 / 2];
        for (milestone, at) in times.into_iter().zip(at) {
            self.net.schedule(at, Event::Milestone(milestone));
        }
    }

    fn reach(&mut self, milestone: Milestone) {
        self.narrate(|| format!("--- {milestone:?}"));
        match milestone {
            Milestone::Formed => self.formed(),
            Milestone::Calm => self.calm(),
            Milestone::Silence => {
                let took = self.log.last_notice.since(self.log.calm_since);
                self.log.coverage.took(took.as_millis() as u64);
                self.log.saw(self.net.now, &Seen::StillnessBegins { why: "everything should have ended" });
            }
            Milestone::End => {}
        }
    }

    /// A fault that waits for this moment strikes now.
    fn spring(&mut self) {
        for (moment, actor) in self.log.take_moments() {
            self.log.coverage.came(moment);
            if self.is_calm {
                continue;
            }
            let mut due = Vec::new();
            self.ambushes.retain_mut(|ambush| {
                let strikes = ambush.moment == moment && ambush.left == 0;
                if strikes {
                    due.push(ambush.kind);
                } else if ambush.moment == moment {
                    ambush.left -= 1;
                }
                !strikes
            });
            for kind in due {
                self.log.coverage.hit(moment);
                let after = if self.dice.percent(50) { ms(0) } else { *self.knobs.pace.delay.end() / 2 };
                self.net.schedule(after, Event::Random(kind, Some(actor)));
            }
        }
    }

    // What happens.

    pub(super) fn handle(&mut self, event: Event) {
        if self.log.is_verbose
            && !matches!(event, Event::Look { .. } | Event::Tell { .. } | Event::Wake { .. })
        {
            println!("{} {event:?}", self.net.now);
        }
        match event {
            Event::Arrive { to, conn, packet } => {
                if self.net.is_open(conn, to) {
                    self.arrive(to, conn, packet);
                }
            }
            Event::Closed { to, conn } => {
                if self.net.is_open(conn, to) {
                    self.lose(to, conn, Leave::Closed);
                }
            }
            Event::Suspect { at, conn } => {
                if self.net.is_silent(conn, at) {
                    self.lose(at, conn, Leave::Silent(*self.knobs.pace.notice.start()));
                }
            }
            Event::Dial { by, life, to } => self.dial(by, life, to),
            Event::Look { daemon, life } => self.look(daemon, life),
            Event::Tell { daemon, life } => {
                let host = &mut self.daemons[daemon];
                if host.alive && host.life() == life {
                    host.tell(&mut self.net);
                }
            }
            Event::Wake { node, life } => self.wake(node, life),
            Event::Strike(strike) => self.strike(strike),
            Event::Random(kind, actor) => {
                if !self.is_calm {
                    self.happen(kind, actor);
                }
            }
            Event::Milestone(milestone) => self.reach(milestone),
        }
    }

    fn arrive(&mut self, to: Node, conn: Conn, packet: Packet) {
        match to {
            Node::Server(index) => self.servers[index].hear(conn, packet, &mut self.net, &mut self.log),
            Node::Daemon(index) => self.daemons[index].hear(conn, packet, &mut self.net, &mut self.log),
        }
    }

    /// `at` sees that a connection is gone.
    pub(super) fn lose(&mut self, at: Node, conn: Conn, leave: Leave) {
        match at {
            Node::Server(index) => self.servers[index].lose(conn, leave, &mut self.net, &mut self.log),
            Node::Daemon(index) => self.daemons[index].lose(conn, &mut self.net),
        }
    }

    fn dial(&mut self, by: Node, life: u64, to: Node) {
        if !self.is_alive(by) || self.life(by) != life {
            return;
        }
        let is_there = self.is_alive(to);
        match (by, to) {
            (Node::Server(index), Node::Server(peer)) => {
                let host = &mut self.servers[index];
                let conn = self.net.dial(by, to, is_there, Packet::Peer(host.id));
                host.dialled(conn, peer);
            }
            (Node::Daemon(index), _) => {
                let host = &mut self.daemons[index];
                let first = host.register(self.net.now);
                self.log.coverage.count("attachments", 1);
                let conn = self.net.dial(by, to, is_there, first);
                host.dialled(conn, self.net.now);
            }
            (Node::Server(_), Node::Daemon(_)) => {}
        }
    }

    fn wake(&mut self, node: Node, life: u64) {
        if !self.is_alive(node) || self.life(node) != life {
            return;
        }
        match node {
            Node::Server(index) => self.servers[index].wake(&mut self.net, &mut self.log),
            Node::Daemon(index) => self.daemons[index].wake(&mut self.net),
        }
    }

    // Who is there.

    pub(super) fn is_alive(&self, node: Node) -> bool {
        match node {
            Node::Server(index) => self.servers.get(index).is_some_and(|host| host.alive),
            Node::Daemon(index) => self.daemons.get(index).is_some_and(|host| host.alive),
        }
    }

    fn life(&self, node: Node) -> u64 {
        match node {
            Node::Server(index) => self.servers[index].life(),
            Node::Daemon(index) => self.daemons[index].life(),
        }
    }

    pub(super) fn start(&mut self, node: Node) {
        if self.is_alive(node) {
            return;
        }
        match node {
            Node::Server(index) => self.servers[index].start(&mut self.net),
            Node::Daemon(index) => self.daemons[index].start(&mut self.net, &mut self.log),
        }
    }

    pub(super) fn kill(&mut self, node: Node, is_prompt: bool) {
        self.narrate(|| format!("*** {node:?} dies"));
        self.pauses.remove(&node);
        self.net.kill(node, is_prompt);
        match node {
            Node::Server(index) => {
                for daemon in self.servers[index].attached().collect::<Vec<_>>() {
                    self.log.saw(self.net.now, &Seen::Detached { daemon });
                }
                self.servers[index].die();
            }
            Node::Daemon(index) => {
                self.daemons[index].die(&self.net, &mut self.log);
                self.look_around();
            }
        }
    }

    // Links between daemons.

    /// Whether two daemons can talk to each other now.
    pub(super) fn can_talk(&self, a: usize, b: DaemonId) -> bool {
        let other = index_of(b.name());
        if self.daemons.get(other).is_none_or(|host| host.id != b) {
            return false;
        }
        let (from, to) = (Node::Daemon(a), Node::Daemon(other));
        self.daemons[other].alive && !self.net.is_paused(to) && self.net.is_whole(from, to)
    }

    fn look(&mut self, daemon: usize, life: u64) {
        let host = &self.daemons[daemon];
        if !host.alive || host.life() != life {
            return;
        }
        let watched = self.daemons[daemon].watched();
        let truth = watched.into_iter().map(|peer| (peer, self.can_talk(daemon, peer))).collect();
        self.daemons[daemon].look(&truth, &mut self.net);
    }

    /// All daemons are about to notice, each in its time, what has become of their links.
    pub(super) fn look_around(&mut self) {
        for index in 0..self.daemons.len() {
            if self.daemons[index].alive {
                let look = Event::Look { daemon: index, life: self.daemons[index].life() };
                // Some links close at once; silence takes longer.
                let range = self.knobs.pace.notice.clone();
                if self.net.dice.percent(30) {
                    self.net.soon(self.knobs.pace.delay.clone(), look.clone());
                }
                self.net.soon(range, look);
            }
        }
    }
}
