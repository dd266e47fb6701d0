//! The world of group communication: three daemons in one configuration, with a process each in one group, and what
//! may happen to them within a [`Bound`].
//!
//! The daemons are the cores of production. Below them is a network that is first in, first out on each connection
//! and otherwise free. A daemon that crashes has sent any prefix of what it sent on each connection. A partition
//! stops everything between two sides, at any moment; when it heals, things go on from there. Connections are opened
//! in one step, since to open one slowly is to deliver slowly on it.
//!
//! The membership service is abstract. The real one, with a single server, would tell start change and view in one
//! breath; with three it would bring a state space of its own. Here the service does, in every order, what its
//! interface allows [KK:membership-service] and what it must do in the end: see [`service`].
//!
//! Time is abstract too: a timer may fire at any time after it was set, at most [`Bound::ticks`] times in all. What
//! daemons do without any timer must be enough for them to come to rest.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use gcs_core::{Daemon, Input, Message, Output, Params};
use model::{Boot, DaemonId, GroupName, Name, Terms, Time};

use crate::fingerprint::Part;
use crate::search::World;

use network::{Frame, Link};
use node::Node;
use service::Service;
pub use set::Set;

mod choices;
mod network;
mod node;
mod service;
mod set;
mod verdict;

/// How many daemons there are.
const COUNT: usize = 3;

/// A daemon.
type Place = usize;

/// How much may happen, beyond what follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bound {
    /// Messages that processes multicast, each from any daemon.
    pub messages: u32,
    /// Daemons that crash.
    pub crashes: u32,
    /// Partitions of one daemon from the others.
    pub partitions: u32,
    /// Partitions that heal.
    pub merges: u32,
    /// Start changes and views that the membership service could do without.
    pub detours: u32,
    /// Timers that fire.
    pub ticks: u32,
}

/// What a test does to messages on their way, to see that it is found out.
pub type Tamper = fn(from: DaemonId, to: DaemonId, message: &Message) -> Option<Message>;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A process multicasts.
    Send(Place),
    /// A daemon hears the next notice of the membership service.
    Notice(Place),
    /// A daemon never hears the view that would be next, since a later start change is behind it.
    Skip(Place),
    /// A daemon does what is due now.
    Wake(Place),
    /// A daemon's timer fires.
    Tick(Place),
    /// A connection is made.
    Open(Place, Place),
    /// The next frame arrives.
    Frame(Place, Place),
    /// The next frame arrives that was sent on a connection that its sender has closed since.
    Late(Place, Place),
    /// The next acknowledgement arrives.
    Ack(Place, Place),
    /// A daemon crashes.
    Crash(Place),
    /// A daemon is cut off from the others.
    Cut(Place),
    /// The partition is over.
    Heal,
    /// The membership service begins a change.
    Start {
        /// Who is told.
        told: Set,
        /// Who may come to be in the view.
        proposed: Set,
    },
    /// The membership service decides.
    View(Set),
}

/// A state of this world.
#[derive(Clone)]
pub struct Daemons {
    ids: [DaemonId; COUNT],
    nodes: [Part<Node>; COUNT],
    /// By sender, then by receiver.
    links: [[Part<Link>; COUNT]; COUNT],
    /// Who is cut off.
    apart: Set,
    service: Service,
    left: Bound,
    /// Replaces some messages.
    tamper: Tamper,
}

impl Hash for Daemons {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.nodes, &self.links, self.apart, &self.service, self.left).hash(state);
    }
}

/// The group of all processes.
fn group() -> GroupName {
    #[expect(clippy::expect_used, reason = "a constant")]
    GroupName::new("g").expect("well spelt")
}

/// Timers fire only when the world lets them.
const NOW: Time = Time::from_micros(1_000_000);

impl Daemons {
    /// Three daemons at rest in their first configuration, each with a process in the same group.
    pub fn new(bound: Bound) -> Daemons {
        Daemons::tampered(bound, |_, _, _| None)
    }

    /// The same, on a network that replaces messages once they are at rest.
    pub fn tampered(bound: Bound, tamper: Tamper) -> Daemons {
        let params = Params { trace: true, ..Params::lan() };
        let ids = ["a", "b", "c"].map(|name| DaemonId::new(Name::literal(name), Boot::new(1)));
        let mut world = Daemons {
            ids,
            nodes: ids.map(|id| Part::new(Node::new(Daemon::new(id, params), NOW))),
            links: std::array::from_fn(|_| std::array::from_fn(|_| Part::new(Link::default()))),
            apart: Set::default(),
            service: Service::default(),
            left: Bound::default(),
            tamper: |_, _, _| None,
        };
        for (place, id) in ids.iter().enumerate() {
            world.input(place, Input::Attach { connection: 1, name: id.name() });
            world.input(place, Input::Join { connection: 1, groups: vec![group()] });
        }
        world.settle();
        Daemons { left: bound, tamper, ..world }
    }

    /// Lets everything happen that has to, and all timers.
    fn settle(&mut self) {
        loop {
            let mut next = self.due();
            next.extend((0..COUNT).filter(|place| self.has_timer(*place)).map(Action::Tick));
            match next.first() {
                Some(action) => self.act(action),
                None => return,
            }
        }
    }

    fn input(&mut self, place: Place, input: Input) {
        let orders = self.nodes[place].handle(input);
        self.obey(place, orders);
    }

    fn wake(&mut self, place: Place, now: Time) {
        let orders = self.nodes[place].wake(now);
        self.obey(place, orders);
    }

    fn obey(&mut self, place: Place, orders: Vec<Output>) {
        for order in orders {
            match order {
                Output::Connect { peer, epoch, .. } => {
                    self.link(place, peer).want(epoch);
                }
                Output::Disconnect { peer } => {
                    let lost = !self.connected(place, self.place(peer));
                    self.link(place, peer).close(lost);
                }
                // Nothing reaches the dead, and nothing comes back from them.
                Output::Send { peer, .. } | Output::Ack { peer, .. }
                    if !self.alive().has(self.place(peer)) => {}
                Output::Send { peer, epoch, number, message } => {
                    let message = (self.tamper)(self.ids[place], peer, &message).map_or(message, Arc::new);
                    let frame = Frame { epoch, number, message };
                    self.link(place, peer).frames.push_back(frame);
                }
                Output::Resume { to, epoch, received } => {
                    let sender = self.place(to);
                    self.input(sender, Input::LinkUp { peer: self.ids[place], epoch, received });
                }
                Output::Ack { peer, epoch, received } => {
                    let sender = self.place(peer);
                    self.links[sender][place].acks.push_back((epoch, received));
                }
                Output::Refuse { from, fault } => {
                    self.blame(place, format!("{} refuses what {from} says: {fault}", self.ids[place]));
                }
                Output::RefuseNotice(fault) => {
                    self.blame(place, format!("{} refuses a notice: {fault}", self.ids[place]));
                }
                Output::Rejected { reason, .. } => {
                    self.blame(place, format!("{} rejects a request: {reason}", self.ids[place]));
                }
                Output::Trace(event) => self.nodes[place].observe(event),
                Output::Deliver { .. } | Output::Throttle(_) | Output::Installed { .. } => {}
                // Connections tell of every loss here.
                Output::CatchUp | Output::Reset { .. } | Output::Reach(_) | Output::Probe { .. } => {}
            }
        }
    }

    fn blame(&mut self, place: Place, fault: String) {
        self.nodes[place].fault = Some(fault);
    }

    /// The service did something. If it did not have to, that was a detour.
    fn spend(&mut self, action: &Action) {
        let due = self.components().into_iter().filter_map(|side| self.service.due(side));
        if !due.into_iter().any(|due| due == *action) {
            self.left.detours -= 1;
        }
    }

    fn receive(&mut self, from: Place, to: Place, frame: Option<Frame>) {
        if let Some(Frame { epoch, number, message }) = frame {
            let message = Message::clone(&message);
            self.input(to, Input::Frame { from: self.ids[from], epoch, number, message });
        }
    }

    fn place(&self, id: DaemonId) -> Place {
        self.ids.iter().position(|other| *other == id).unwrap_or_default()
    }

    fn link(&mut self, from: Place, to: DaemonId) -> &mut Part<Link> {
        let to = self.place(to);
        &mut self.links[from][to]
    }
}

impl World for Daemons {
    type Action = Action;
    type History = ([u64; COUNT], [Option<String>; COUNT], bool, Set);

    fn actions(&self) -> Vec<Action> {
        if let Some(open) = self.openable() {
            return vec![open];
        }
        let mut actions = self.free();
        for action in self.due() {
            if !actions.contains(&action) {
                actions.push(action);
            }
        }
        actions
    }

    fn at_rest(&self) -> bool {
        self.due().is_empty()
    }

    fn history(&self) -> Self::History {
        let traces = std::array::from_fn(|place| self.nodes[place].history);
        let faults = std::array::from_fn(|place| self.nodes[place].fault.clone());
        (traces, faults, self.at_rest(), self.apart)
    }

    fn judge(&self) -> Result<(), String> {
        self.verdict()
    }

    fn tell(&self, action: &Action) -> String {
        self.in_words(action)
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Send(place) => {
                self.left.messages -= 1;
                let payload = Bytes::from(format!("{}", self.left.messages));
                self.input(
                    place,
                    Input::Multicast { connection: 1, group: group(), payload, terms: Terms::default() },
                );
            }
            Action::Notice(place) => {
                if let Some(notice) = self.nodes[place].notices.pop_front() {
                    self.input(place, Input::Membership(notice));
                }
            }
            Action::Skip(place) => drop(self.nodes[place].notices.pop_front()),
            Action::Wake(place) => self.wake(place, NOW),
            Action::Tick(place) => {
                self.left.ticks = self.left.ticks.saturating_sub(1);
                if let Some(due) = self.wake_at(place) {
                    self.wake(place, due);
                }
            }
            Action::Open(from, to) => {
                let epoch = self.links[from][to].wanted;
                self.links[from][to].open();
                if let Some(epoch) = epoch {
                    self.input(to, Input::Opened { from: self.ids[from], epoch });
                }
            }
            Action::Frame(from, to) => {
                let frame = self.links[from][to].frames.pop_front();
                self.receive(from, to, frame);
            }
            Action::Late(from, to) => {
                let frame = self.links[from][to].late.pop_front();
                self.receive(from, to, frame);
            }
            Action::Ack(from, to) => {
                if let Some((epoch, received)) = self.links[from][to].acks.pop_front() {
                    self.input(from, Input::Acked { peer: self.ids[to], epoch, received });
                }
            }
            Action::Crash(place) => {
                self.left.crashes -= 1;
                self.nodes[place].crash();
                for other in 0..COUNT {
                    let lost = !self.connected(place, other);
                    self.links[place][other].close(lost);
                    self.links[other][place] = Part::new(Link::default());
                }
            }
            Action::Cut(place) => {
                self.left.partitions -= 1;
                self.apart = Set::of([place]);
            }
            Action::Heal => {
                self.left.merges -= 1;
                self.apart = Set::default();
            }
            Action::Start { told, proposed } => {
                self.spend(action);
                for place in told.places() {
                    let notice = self.service.start(place, proposed, &self.ids);
                    self.nodes[place].notices.push_back(notice);
                }
            }
            Action::View(members) => {
                self.spend(action);
                let notice = self.service.view(members, &self.ids);
                for place in members.common(self.alive()).places() {
                    self.nodes[place].notices.push_back(notice.clone());
                }
            }
        }
    }
}
