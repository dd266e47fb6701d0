//! The world: all hosts, one queue of what is going to happen, and virtual time.
//!
//! Everything follows from the seed: hosts act one at a time, in the order of the queue, and every delay and every
//! fault is a throw of the dice. The same seed gives the same trace, to the byte.

mod absences;
mod cordons;
mod describe;
mod direct;
mod editions;
mod faults;
mod foundings;
mod settle;
mod stops;
mod story;

use std::collections::BTreeMap;
use std::time::Duration;

use model::trace::{self, Record};
use model::{Boot, DaemonId, Name, ServerId, Time, UnitId};
use session_core::message::GatewayId;

use crate::client::{Client, Settings};
use crate::diagram::{Detail, Diagram};
use crate::dice::Dice;
use crate::fault::Ambush;
use crate::hosts::{DaemonHost, GatewayHost, Manners, MembershipHost, ProcessHost, ServerHost};
use crate::knobs::{Knobs, name, us};
use crate::net::{Event, Net, Queue};
use crate::packet::Node;
use crate::scene::{Host, Log, Scene};

pub use story::{Ambusher, Player};

/// A run that takes more events than this is going round in circles.
const EVENTS_MAX: u64 = 3_000_000;

/// One process in all its lives.
struct Slot<H> {
    host: Option<H>,
    life: u64,
    /// When the machine is woken next.
    wake: Option<Time>,
}

impl<H> Slot<H> {
    fn unborn() -> Slot<H> {
        Slot { host: None, life: 0, wake: None }
    }
}

/// The world.
pub struct World {
    knobs: Knobs,
    now: Time,
    queue: Queue,
    net: Net,
    /// For hosts.
    dice: Dice,
    /// For faults.
    fate: Dice,
    log: Log,
    memberships: Vec<Slot<MembershipHost>>,
    daemons: Vec<Slot<DaemonHost>>,
    servers: Vec<Slot<ServerHost>>,
    gateways: Vec<Slot<GatewayHost>>,
    clients: Vec<Slot<Client>>,
    locals: Vec<Slot<ProcessHost>>,
    /// Who stands still or is slow.
    stops: BTreeMap<Node, stops::Stop>,
    stops_used: u64,
    /// How far the clock of each machine is ahead.
    skews: Vec<Duration>,
    ambushes: Vec<Ambush>,
    /// Faults of stories: at this moment, these.
    planned: Vec<story::Planned>,
    started: bool,
    troubled: bool,
    /// Nobody does anything of its own any more.
    at_rest: bool,
    events: u64,
    /// How often servers loaded what is on their machines.
    loads: u64,
    /// The editions of units that were taken away from machines, and come back.
    absent: BTreeMap<(usize, UnitId), Vec<u32>>,
}

impl World {
    /// A world with these parameters, in which nobody lives yet.
    pub fn new(knobs: Knobs) -> World {
        let seed = knobs.seed;
        World {
            now: Time::from_micros(1_000_000),
            queue: Queue::default(),
            net: Net::new(knobs.machines.len(), knobs.pace.clone(), Dice::new(seed, 2)),
            dice: Dice::new(seed, 3),
            fate: Dice::new(seed, 4),
            log: Log::default(),
            memberships: Vec::new(),
            daemons: Vec::new(),
            servers: Vec::new(),
            gateways: Vec::new(),
            clients: Vec::new(),
            locals: Vec::new(),
            stops: BTreeMap::new(),
            stops_used: 0,
            skews: Vec::new(),
            ambushes: Vec::new(),
            planned: Vec::new(),
            started: false,
            troubled: false,
            at_rest: false,
            events: 0,
            loads: 0,
            absent: BTreeMap::new(),
            knobs,
        }
    }

    /// The parameters.
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The trace so far.
    pub fn records(&self) -> &[Record] {
        &self.log.records
    }

    /// Draws a diagram from now on.
    pub fn draw(&mut self, detail: Detail) {
        self.log.diagram = Some(Diagram::new(detail));
    }

    /// The diagram, if it is drawn.
    pub fn diagram(&mut self) -> Option<&mut Diagram> {
        self.log.diagram.as_mut()
    }

    /// Brings everybody to life, once.
    pub fn start(&mut self) {
        if self.started {
            return;
        }
        self.started = true;
        let mut clocks = Dice::new(self.knobs.seed, 5);
        let skew = self.knobs.skew;
        self.skews = (0..self.knobs.machines.len() + self.knobs.gateways)
            .map(|_| clocks.time(Duration::ZERO..=skew))
            .collect();
        self.memberships = (0..self.knobs.membership_servers).map(|_| Slot::unborn()).collect();
        self.daemons = (0..self.knobs.machines.len()).map(|_| Slot::unborn()).collect();
        self.servers = (0..self.knobs.machines.len()).map(|_| Slot::unborn()).collect();
        self.gateways = (0..self.knobs.gateways).map(|_| Slot::unborn()).collect();
        self.locals = (0..self.knobs.processes).map(|_| Slot::unborn()).collect();
        for node in self.processes() {
            self.restart(node);
        }
        self.begin_to_look();
        for _ in 0..self.knobs.clients {
            let habits = Some(self.knobs.habits.clone());
            self.add_client(habits, None);
        }
    }

    /// Every process but the clients.
    pub fn processes(&self) -> Vec<Node> {
        let memberships = (0..self.memberships.len()).map(Node::Membership);
        let daemons = (0..self.daemons.len()).map(Node::Daemon);
        let servers = (0..self.servers.len()).filter(|_| self.knobs.servers).map(Node::Server);
        let gateways = (0..self.gateways.len()).map(Node::Gateway);
        let locals = (0..self.locals.len()).map(Node::Process);
        memberships.chain(daemons).chain(servers).chain(gateways).chain(locals).collect()
    }

    fn add_client(&mut self, habits: Option<crate::knobs::Habits>, unit: Option<UnitId>) -> usize {
        let index = self.clients.len();
        let committing = self.knobs.units.iter().filter(|unit| unit.commit.is_some());
        let settings = Settings {
            units: match unit {
                Some(unit) => vec![unit],
                None => self.knobs.units.iter().map(|unit| unit.id.clone()).collect(),
            },
            committing: committing.map(|unit| unit.id.clone()).collect(),
            gateways: self.knobs.gateways,
            habits,
            patience: self.knobs.patience,
            detach_ttl: self.knobs.gateway.detach_ttl,
        };
        let client = Client::new(settings, index % self.knobs.gateways.max(1));
        self.clients.push(Slot { host: Some(client), life: 1, wake: None });
        self.with(Node::Client(index), |host, scene| host.start(scene));
        index
    }

    fn manners(&self) -> Manners {
        Manners {
            redial: self.knobs.redial.clone(),
            membership_servers: self.knobs.membership_servers,
            machines: self.knobs.machines.len(),
        }
    }

    fn server_name(&self, machine: usize) -> Name {
        match self.knobs.machines[machine].as_str().rsplit_once('-') {
            Some((_, number)) => name(&format!("server-{number}")),
            None => self.knobs.machines[machine],
        }
    }

    // Lives.

    /// Whether somebody is there.
    pub fn is_alive(&self, node: Node) -> bool {
        match node {
            Node::Membership(n) => self.memberships[n].host.is_some(),
            Node::Daemon(n) => self.daemons[n].host.is_some(),
            Node::Server(n) => self.servers[n].host.is_some(),
            Node::Gateway(n) => self.gateways[n].host.is_some(),
            Node::Client(n) => self.clients[n].host.is_some(),
            Node::Process(n) => self.locals[n].host.is_some(),
        }
    }

    /// Begins the next life of a process, unless it lives.
    pub fn restart(&mut self, node: Node) {
        if self.is_alive(node) {
            return;
        }
        let manners = self.manners();
        let life = self.life(node) + 1;
        let boot = Boot::new(life);
        match node {
            Node::Membership(n) => {
                let id = ServerId::new(name(&format!("membership-{}", n + 1)), boot);
                let host = MembershipHost::new(id, n, self.knobs.membership.clone(), manners);
                self.memberships[n].host = Some(host);
            }
            Node::Daemon(n) => {
                let id = DaemonId::new(self.knobs.machines[n], boot);
                self.daemons[n].host = Some(DaemonHost::new(id, n, self.knobs.gcs, manners));
            }
            Node::Server(n) => {
                let (name, toy) = (self.server_name(n), self.toy(n));
                let host = ServerHost::new(name, n, toy, self.knobs.sessions.clone(), manners);
                self.servers[n].host = Some(host);
            }
            Node::Gateway(n) => {
                let id =
                    GatewayId { name: name(&format!("gateway-{}", n + 1)), boot, address: node.address() };
                self.gateways[n].host = Some(GatewayHost::new(id, n, self.knobs.gateway.clone(), manners));
            }
            Node::Process(n) => {
                let (name, machine) = (name(&node.to_string()), n % self.knobs.machines.len());
                let leanings = self.knobs.leanings.clone().filter(|_| !self.at_rest);
                self.locals[n].host = Some(ProcessHost::new(name, machine, leanings, manners.redial));
            }
            Node::Client(_) => unreachable!("clients do not die"),
        }
        *self.life_mut(node) = life;
        self.remark(|| format!("{node} starts"));
        self.with(node, |host, scene| host.start(scene));
    }

    /// Ends a life, without a word.
    pub fn crash(&mut self, node: Node) {
        if self.is_alive(node) {
            self.remark(|| format!("{node} crashes"));
            self.end_life(node);
        }
    }

    fn end_life(&mut self, node: Node) {
        let event = match node {
            Node::Daemon(n) => {
                let daemon = self.daemons[n].host.as_ref().map(|host| host.daemon().id());
                daemon.map(|daemon| trace::Event::DaemonCrash { daemon })
            }
            Node::Gateway(n) => {
                let gateway = self.gateways[n].host.as_ref().map(|host| host.id().name);
                gateway.map(|gateway| trace::Event::GatewayCrash { gateway })
            }
            Node::Membership(_) | Node::Server(_) | Node::Client(_) | Node::Process(_) => None,
        };
        let at = self.now + self.skew(node);
        self.log.records.extend(event.map(|event| Record { at, event }));
        match node {
            Node::Membership(n) => self.memberships[n].host = None,
            Node::Daemon(n) => self.daemons[n].host = None,
            Node::Server(n) => self.servers[n].host = None,
            Node::Gateway(n) => self.gateways[n].host = None,
            Node::Client(n) => self.clients[n].host = None,
            Node::Process(n) => self.locals[n].host = None,
        }
        self.stops.remove(&node);
        *self.wake_mut(node) = None;
        self.net.vanish(self.now, node, &mut self.queue);
    }

    fn life(&self, node: Node) -> u64 {
        match node {
            Node::Membership(n) => self.memberships[n].life,
            Node::Daemon(n) => self.daemons[n].life,
            Node::Server(n) => self.servers[n].life,
            Node::Gateway(n) => self.gateways[n].life,
            Node::Client(n) => self.clients[n].life,
            Node::Process(n) => self.locals[n].life,
        }
    }

    fn life_mut(&mut self, node: Node) -> &mut u64 {
        match node {
            Node::Membership(n) => &mut self.memberships[n].life,
            Node::Daemon(n) => &mut self.daemons[n].life,
            Node::Server(n) => &mut self.servers[n].life,
            Node::Gateway(n) => &mut self.gateways[n].life,
            Node::Client(n) => &mut self.clients[n].life,
            Node::Process(n) => &mut self.locals[n].life,
        }
    }

    fn wake_mut(&mut self, node: Node) -> &mut Option<Time> {
        match node {
            Node::Membership(n) => &mut self.memberships[n].wake,
            Node::Daemon(n) => &mut self.daemons[n].wake,
            Node::Server(n) => &mut self.servers[n].wake,
            Node::Gateway(n) => &mut self.gateways[n].wake,
            Node::Client(n) => &mut self.clients[n].wake,
            Node::Process(n) => &mut self.locals[n].wake,
        }
    }

    /// How far the clock of a process is ahead: machines and gateways have their own.
    fn skew(&self, node: Node) -> Duration {
        match node {
            Node::Daemon(n) | Node::Server(n) => self.skews[n],
            Node::Gateway(n) => self.skews[self.knobs.machines.len() + n],
            Node::Membership(_) | Node::Client(_) | Node::Process(_) => Duration::ZERO,
        }
    }

    fn remark(&mut self, text: impl FnOnce() -> String) {
        if let Some(diagram) = &mut self.log.diagram {
            diagram.note(self.now, &text());
        }
    }

    // Steps.

    /// Does the next thing, if it happens by `until`. Otherwise it is `until` now.
    pub fn step(&mut self, until: Time) -> bool {
        let Some((at, event)) = self.queue.next(until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = at;
        self.events += 1;
        assert!(self.events < EVENTS_MAX, "seed {}: no end of events", self.knobs.seed);
        if let Some(event) = self.set_aside(event) {
            self.happen(event);
        }
        self.look_for_moments();
        self.bury_the_ended();
        self.doubt_the_lost();
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { conn, side, packet } => {
                if let Some(node) = self.net.owner(conn, side) {
                    if self.is_alive(node) {
                        self.with(node, |host, scene| host.hear(conn, packet, scene));
                    } else {
                        self.net.close(self.now, conn, node, &mut self.queue);
                    }
                }
            }
            Event::Close { conn, side } => {
                if let Some(node) = self.net.closed(conn, side)
                    && self.is_alive(node)
                {
                    self.with(node, |host, scene| host.lose(conn, scene));
                }
            }
            Event::Silence { conn, side, why } => {
                if self.lasts(conn, why)
                    && let Some(node) = self.net.owner(conn, side)
                {
                    self.net.close(self.now, conn, node, &mut self.queue);
                    if self.is_alive(node) {
                        self.with(node, |host, scene| host.lose(conn, scene));
                    }
                }
            }
            Event::Wake { node, life, due } => self.wake(node, life, due),
            Event::Timer { node, life, timer } => {
                if self.is_alive(node) && self.life(node) == life {
                    self.with(node, |host, scene| host.remember(timer, scene));
                }
            }
            Event::Restart { node } => self.restart(node),
            Event::Trouble => self.trouble(),
            Event::Turn { node, stop } => self.turn(node, stop),
            Event::Strike(strike) => self.strike(&strike),
        }
    }

    fn wake(&mut self, node: Node, life: u64, due: Time) {
        if !self.is_alive(node) || self.life(node) != life || *self.wake_mut(node) != Some(due) {
            return;
        }
        *self.wake_mut(node) = None;
        self.with(node, |host, scene| {
            if host.next_wake().is_some_and(|due| due <= scene.clock()) {
                host.wake(scene);
            }
        });
    }

    /// Lets a living host act, and sees to it that it is woken when it wants to be.
    fn with<R>(&mut self, node: Node, act: impl FnOnce(&mut dyn Host, &mut Scene<'_>) -> R) -> R {
        let (skew, life) = (self.skew(node), self.life(node));
        let mut scene = Scene {
            now: self.now,
            skew,
            node,
            life,
            net: &mut self.net,
            queue: &mut self.queue,
            dice: &mut self.dice,
            log: &mut self.log,
        };
        let host: &mut dyn Host = match node {
            Node::Membership(n) => self.memberships[n].host.as_mut().expect("a living host"),
            Node::Daemon(n) => self.daemons[n].host.as_mut().expect("a living host"),
            Node::Server(n) => self.servers[n].host.as_mut().expect("a living host"),
            Node::Gateway(n) => self.gateways[n].host.as_mut().expect("a living host"),
            Node::Client(n) => self.clients[n].host.as_mut().expect("a living host"),
            Node::Process(n) => self.locals[n].host.as_mut().expect("a living host"),
        };
        let result = act(host, &mut scene);
        if let Some(due) = host.next_wake() {
            self.plan_wake(node, due - skew);
        }
        result
    }

    /// Has the server of a machine do something, if it lives.
    fn with_server(&mut self, machine: usize, act: impl FnOnce(&mut ServerHost, &mut Scene<'_>)) {
        let node = Node::Server(machine);
        let Some(mut host) = self.servers[machine].host.take() else { return };
        act(&mut host, &mut self.scene(node));
        let due = host.next_wake();
        self.servers[machine].host = Some(host);
        if let Some(due) = due {
            self.plan_wake(node, due - self.skew(node));
        }
    }

    /// What `node` sees of the world.
    fn scene(&mut self, node: Node) -> Scene<'_> {
        let (skew, life) = (self.skew(node), self.life(node));
        Scene {
            now: self.now,
            skew,
            node,
            life,
            net: &mut self.net,
            queue: &mut self.queue,
            dice: &mut self.dice,
            log: &mut self.log,
        }
    }

    fn plan_wake(&mut self, node: Node, due: Time) {
        // What is overdue is done when the inbox is empty, which takes a moment to find out.
        let planned = *self.wake_mut(node);
        let at = if due > self.now {
            due
        } else if planned.is_some_and(|at| at <= self.now + *self.knobs.idle.end()) {
            return;
        } else {
            self.now + self.dice.time(self.knobs.idle.clone()).max(us(1))
        };
        if planned.is_none_or(|planned| at < planned) {
            *self.wake_mut(node) = Some(at);
            let life = self.life(node);
            self.queue.plan(at, Event::Wake { node, life, due: at });
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.start();
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Lets time pass until `done`, at most for `limit`. Says whether it is done.
    pub fn await_that(&mut self, limit: Duration, mut done: impl FnMut(&World) -> bool) -> bool {
        self.start();
        let until = self.now + limit;
        while !done(self) {
            if !self.step(until) {
                return done(self);
            }
        }
        true
    }
}
