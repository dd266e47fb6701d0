//! Daemons, their hosts and an in-memory network: first in, first out on each connection, everything else in any
//! order. The membership service is whoever writes the test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use gcs_core::{Daemon, Epoch, Input, Message, Notice, Output, Params, PeerFault, ProcessEvent, Rejection};
use model::trace::Event;
use model::{Address, Boot, Configuration, DaemonId, GroupName, Machine, StartId, Terms, Time};

use crate::diagram;

/// A frame on its way, or what the receiver sends back on the same connection.
enum Back {
    Resumed(u64),
    Acked(u64),
}

/// A connection from one daemon to another.
struct Connection {
    epoch: Epoch,
    frames: VecDeque<(u64, Message)>,
    back: VecDeque<Back>,
}

/// What the host of a daemon does for one peer: keep a connection.
struct Dialler {
    epoch: Epoch,
    connection: Option<Connection>,
}

pub struct Node {
    pub daemon: Daemon,
    alive: bool,
    notices: VecDeque<Notice>,
    diallers: BTreeMap<DaemonId, Dialler>,
    /// What processes were told, by connection.
    told: BTreeMap<u32, Vec<ProcessEvent>>,
    /// Processes that were asked to stop in these groups.
    asked: VecDeque<(u32, Vec<GroupName>)>,
    pub trace: Vec<Event>,
    pub refused: Vec<(DaemonId, PeerFault)>,
    pub rejected: Vec<(u32, Rejection)>,
    pub starts: u64,
}

/// Something that can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Notice(DaemonId),
    Open(DaemonId, DaemonId),
    Frame(DaemonId, DaemonId),
    Back(DaemonId, DaemonId),
    Wake(DaemonId),
    Answer(DaemonId),
}

pub struct World {
    params: Params,
    pub now: Time,
    pub nodes: BTreeMap<DaemonId, Node>,
    /// Processes that answer nothing.
    pub hung: BTreeSet<(DaemonId, u32)>,
    /// Links on which nothing moves.
    held: BTreeSet<(DaemonId, DaemonId)>,
    orphans: Vec<Orphan>,
    /// What happened, in the words of the protocol.
    pub diagram: Vec<String>,
}

/// What was under way when its sender closed the connection or died: it may still arrive, up to some frame.
struct Orphan {
    from: DaemonId,
    to: DaemonId,
    epoch: Epoch,
    frames: VecDeque<(u64, Message)>,
}

pub fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

impl World {
    pub fn new(params: Params) -> World {
        World {
            params: Params { trace: true, ..params },
            now: Time::from_micros(1_000_000),
            nodes: BTreeMap::new(),
            hung: BTreeSet::new(),
            held: BTreeSet::new(),
            orphans: Vec::new(),
            diagram: Vec::new(),
        }
    }

    /// Starts a daemon, in its first life or the one after its last.
    pub fn start(&mut self, name: &str) -> DaemonId {
        let name = name.parse().unwrap();
        let lives = self.nodes.keys().filter(|id| id.name() == name).count() as u64;
        let id = DaemonId::new(name, Boot::new(lives + 1));
        let node = Node {
            daemon: Daemon::new(id, self.params),
            alive: true,
            notices: VecDeque::new(),
            diallers: BTreeMap::new(),
            told: BTreeMap::new(),
            asked: VecDeque::new(),
            trace: Vec::new(),
            refused: Vec::new(),
            rejected: Vec::new(),
            starts: 0,
        };
        self.nodes.insert(id, node);
        id
    }

    pub fn crash(&mut self, id: DaemonId) {
        let node = self.node(id);
        node.alive = false;
        node.notices.clear();
        for (peer, dialler) in std::mem::take(&mut node.diallers) {
            self.orphan(id, peer, dialler);
        }
        for peer in self.alive() {
            self.reset(peer, id);
        }
    }

    fn orphan(&mut self, from: DaemonId, to: DaemonId, dialler: Dialler) {
        if let Some(Connection { epoch, frames, .. }) = dialler.connection {
            self.orphans.push(Orphan { from, to, epoch, frames });
        }
    }

    /// The next frame of some closed connection arrives, or nothing of it ever does.
    pub fn stir_orphans(&mut self, mut choose: impl FnMut(usize) -> usize) {
        if self.orphans.is_empty() {
            return;
        }
        let place = choose(self.orphans.len());
        let Orphan { from, to, epoch, frames } = &mut self.orphans[place];
        let (from, to, epoch) = (*from, *to, *epoch);
        let frame = if choose(5) == 0 { None } else { frames.pop_front() };
        match frame {
            Some((number, message)) => self.input(to, Input::Frame { from, epoch, number, message }),
            None => drop(self.orphans.swap_remove(place)),
        }
    }

    pub fn drop_orphans(&mut self) {
        self.orphans.clear();
    }

    pub fn alive(&self) -> Vec<DaemonId> {
        self.nodes.iter().filter(|(_, node)| node.alive).map(|(id, _)| *id).collect()
    }

    pub fn node(&mut self, id: DaemonId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub fn daemon(&self, id: DaemonId) -> &Daemon {
        &self.nodes[&id].daemon
    }

    /// Gives a daemon a fact and performs its orders.
    pub fn input(&mut self, id: DaemonId, input: Input) {
        let (now, node) = (self.now, self.node(id));
        if !node.alive {
            return;
        }
        let mut out = Vec::new();
        node.daemon.handle(now, input, &mut out);
        self.perform(id, out);
    }

    fn perform(&mut self, id: DaemonId, out: Vec<Output>) {
        for order in out {
            match order {
                Output::Connect { peer, epoch, .. } => {
                    let previous = self.node(id).diallers.insert(peer, Dialler { epoch, connection: None });
                    assert!(previous.is_none(), "{id} connects to {peer} twice");
                }
                Output::Disconnect { peer } => {
                    let dialler = self.node(id).diallers.remove(&peer).expect("connected before");
                    self.orphan(id, peer, dialler);
                }
                Output::Send { peer, epoch, number, message } => {
                    let dialler = self.node(id).diallers.get_mut(&peer).expect("in the reliable set");
                    assert_eq!(dialler.epoch, epoch);
                    let connection = dialler.connection.as_mut().expect("sends only while the link is up");
                    connection.frames.push_back((number, Message::clone(&message)));
                }
                Output::Resume { to, epoch, received } => self.back(to, id, epoch, Back::Resumed(received)),
                Output::Ack { peer, epoch, received } => self.back(peer, id, epoch, Back::Acked(received)),
                Output::Refuse { from, fault } => self.node(id).refused.push((from, fault)),
                Output::RefuseNotice(fault) => panic!("{id} refused a notice: {fault:?}"),
                Output::Deliver { connections, event } => {
                    self.diagram.extend(diagram::delivery(id, &connections, &event));
                    let node = self.node(id);
                    for connection in connections.iter() {
                        if let ProcessEvent::Block(groups) = &event {
                            node.asked.push_back((*connection, groups.clone()));
                        }
                        node.told.get_mut(connection).expect("attached").push(event.clone());
                    }
                }
                Output::Rejected { connection, reason } => self.node(id).rejected.push((connection, reason)),
                Output::Installed { configuration, transitional, .. } => {
                    self.diagram.push(diagram::install(id, &configuration, &transitional));
                }
                Output::Throttle(_) => {}
                // Only with parameters of detection.
                Output::CatchUp | Output::Reset { .. } | Output::Reach(_) | Output::Probe { .. } => {}
                Output::Trace(event) => self.node(id).trace.push(event),
            }
        }
    }

    fn back(&mut self, to: DaemonId, from: DaemonId, epoch: Epoch, back: Back) {
        if let Some(node) = self.nodes.get_mut(&to)
            && let Some(dialler) = node.diallers.get_mut(&from)
            && let Some(connection) = dialler.connection.as_mut()
            && connection.epoch == epoch
        {
            connection.back.push_back(back);
        }
    }

    /// What may happen next, timers apart.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (id, node) in self.nodes.iter().filter(|(_, node)| node.alive) {
            if !node.notices.is_empty() {
                actions.push(Action::Notice(*id));
            }
            if node.asked.front().is_some_and(|(connection, _)| !self.hung.contains(&(*id, *connection))) {
                actions.push(Action::Answer(*id));
            }
            if node.daemon.next_wake().is_some_and(|(due, _)| due <= self.now) {
                actions.push(Action::Wake(*id));
            }
            for (peer, dialler) in &node.diallers {
                if self.held.contains(&(*id, *peer)) {
                    continue;
                }
                match &dialler.connection {
                    None if self.nodes[peer].alive => actions.push(Action::Open(*id, *peer)),
                    None => {}
                    Some(connection) => {
                        if !connection.frames.is_empty() {
                            actions.push(Action::Frame(*id, *peer));
                        }
                        if !connection.back.is_empty() {
                            actions.push(Action::Back(*id, *peer));
                        }
                    }
                }
            }
        }
        actions
    }

    pub fn act(&mut self, action: Action) {
        match action {
            Action::Notice(id) => {
                if let Some(notice) = self.node(id).notices.pop_front() {
                    self.diagram.push(diagram::notice(id, &notice));
                    self.input(id, Input::Membership(notice));
                }
            }
            Action::Answer(id) => {
                if let Some((connection, groups)) = self.node(id).asked.pop_front() {
                    self.input(id, Input::Blocked { connection, groups });
                }
            }
            Action::Wake(id) => {
                let (now, node, mut out) = (self.now, self.nodes.get_mut(&id).unwrap(), Vec::new());
                node.daemon.wake(now, &mut out);
                self.perform(id, out);
            }
            Action::Open(id, peer) => {
                let dialler = self.node(id).diallers.get_mut(&peer).unwrap();
                let epoch = dialler.epoch;
                let (frames, back) = (VecDeque::new(), VecDeque::new());
                dialler.connection = Some(Connection { epoch, frames, back });
                self.input(peer, Input::Opened { from: id, epoch });
            }
            Action::Frame(id, peer) => {
                let connection = self.connection(id, peer).unwrap();
                let epoch = connection.epoch;
                let (number, message) = connection.frames.pop_front().unwrap();
                self.diagram.extend(diagram::message(id, peer, &message));
                self.input(peer, Input::Frame { from: id, epoch, number, message });
            }
            Action::Back(id, peer) => {
                let connection = self.connection(id, peer).unwrap();
                let epoch = connection.epoch;
                let input = match connection.back.pop_front().unwrap() {
                    Back::Resumed(received) => Input::LinkUp { peer, epoch, received },
                    Back::Acked(received) => Input::Acked { peer, epoch, received },
                };
                self.input(id, input);
            }
        }
    }

    /// Takes the next frame from `id` to `peer` off its connection, for whoever delivers something in its place.
    pub fn intercept(&mut self, id: DaemonId, peer: DaemonId) -> Option<(Epoch, u64, Message)> {
        let connection = self.connection(id, peer)?;
        let (number, message) = connection.frames.pop_front()?;
        Some((connection.epoch, number, message))
    }

    fn connection(&mut self, id: DaemonId, peer: DaemonId) -> Option<&mut Connection> {
        self.node(id).diallers.get_mut(&peer)?.connection.as_mut()
    }

    /// Breaks the connection from `id` to `peer`: what is on it is gone.
    pub fn reset(&mut self, id: DaemonId, peer: DaemonId) {
        if let Some(dialler) = self.node(id).diallers.get_mut(&peer)
            && let Some(connection) = dialler.connection.take()
        {
            self.input(id, Input::LinkDown { peer, epoch: connection.epoch });
        }
    }

    /// Nothing moves from `id` to `peer` until released.
    pub fn hold(&mut self, id: DaemonId, peer: DaemonId) {
        self.held.insert((id, peer));
    }

    pub fn release(&mut self, id: DaemonId, peer: DaemonId) {
        self.held.remove(&(id, peer));
    }

    pub fn release_all(&mut self) {
        self.held.clear();
    }

    /// Lets everything happen that can, in a fixed order, but no timer.
    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            match self.actions().first() {
                Some(action) => self.act(*action),
                None => return,
            }
        }
        panic!("it never ends");
    }

    /// Lets arrive what is under way now, and daemons do what follows at once. What they send is under way next.
    pub fn round(&mut self) {
        self.follow_up();
        let under_way: Vec<Action> =
            self.actions().into_iter().flat_map(|action| self.copies(action)).collect();
        under_way.into_iter().for_each(|action| self.act(action));
        self.follow_up();
    }

    /// Everything that takes no message to a daemon.
    pub fn follow_up(&mut self) {
        let takes_none = |action: &Action| !matches!(action, Action::Notice(_) | Action::Frame(..));
        while let Some(action) = self.actions().into_iter().find(takes_none) {
            self.act(action);
        }
    }

    /// The action as often as there is something for it to act on.
    fn copies(&self, action: Action) -> Vec<Action> {
        let count = match action {
            Action::Notice(id) => self.nodes[&id].notices.len(),
            Action::Frame(from, to) => self.under_way(from, to),
            Action::Open(..) | Action::Back(..) | Action::Wake(_) | Action::Answer(_) => 0,
        };
        vec![action; count]
    }

    /// How many frames are on the connection from `from` to `to`.
    pub fn under_way(&self, from: DaemonId, to: DaemonId) -> usize {
        let dialler = self.nodes[&from].diallers.get(&to);
        dialler
            .and_then(|dialler| dialler.connection.as_ref())
            .map_or(0, |connection| connection.frames.len())
    }

    /// Lets everything happen that can, timers included.
    pub fn settle(&mut self) {
        self.run();
        for _ in 0..1000 {
            let alive = self.nodes.values().filter(|node| node.alive);
            let Some((due, _)) = alive.filter_map(|node| node.daemon.next_wake()).min() else { return };
            self.now = self.now.max(due);
            self.run();
        }
        panic!("timers never end");
    }

    /// Begins a change: tells each of `told` its next start change, with `proposed`.
    pub fn start_change(&mut self, told: &[DaemonId], proposed: &[DaemonId]) {
        for id in told {
            let proposed = proposed.iter().map(|id| (*id, Address::new("memory"))).collect();
            let node = self.node(*id);
            node.starts += 1;
            let start = StartId::new(id.boot(), node.starts);
            node.notices.push_back(Notice::StartChange { start, proposed });
        }
    }

    /// The view of `members` that their last start changes lead to.
    pub fn agree(&self, counter: u64, members: &[DaemonId]) -> Configuration {
        let named = |id: &DaemonId| (*id, StartId::new(id.boot(), self.nodes[id].starts));
        Configuration::new(counter, members.iter().map(named).collect())
    }

    /// Tells a daemon a view.
    pub fn view(&mut self, told: &[DaemonId], view: &Configuration) {
        for id in told {
            self.node(*id).notices.push_back(Notice::View(view.clone()));
        }
    }

    /// Moves `members` into a configuration of theirs, with no fault in between.
    pub fn configure(&mut self, counter: u64, members: &[DaemonId]) -> Configuration {
        self.start_change(members, members);
        let view = self.agree(counter, members);
        self.view(members, &view);
        self.run();
        view
    }

    pub fn attach(&mut self, id: DaemonId, connection: u32) {
        self.node(id).told.insert(connection, Vec::new());
        self.input(id, Input::Attach { connection, name: "process".parse().unwrap() });
    }

    pub fn detach(&mut self, id: DaemonId, connection: u32) {
        self.node(id).asked.retain(|(other, _)| *other != connection);
        self.input(id, Input::Detach { connection });
    }

    pub fn join(&mut self, id: DaemonId, connection: u32, groups: &[&str]) {
        let groups = groups.iter().map(|name| group(name)).collect();
        self.input(id, Input::Join { connection, groups });
    }

    pub fn leave(&mut self, id: DaemonId, connection: u32, groups: &[&str]) {
        let groups = groups.iter().map(|name| group(name)).collect();
        self.input(id, Input::Leave { connection, groups });
    }

    /// A process tells a part of its state in the view of `of` that it was told last.
    pub fn state(&mut self, id: DaemonId, connection: u32, of: &str, text: &str, last: bool) {
        let view = self.daemon(id).view_of(&group(of)).unwrap();
        let (group, part) = (group(of), Bytes::copy_from_slice(text.as_bytes()));
        self.input(id, Input::State { connection, group, view, part, last });
    }

    pub fn watch(&mut self, id: DaemonId, connection: u32, prefix: &str) {
        self.node(id).told.insert(connection, Vec::new());
        self.input(id, Input::Watch { connection, prefix: prefix.into() });
    }

    pub fn multicast(&mut self, id: DaemonId, connection: u32, to: &str, text: &str) {
        self.multicast_on(Terms::default(), id, connection, to, text);
    }

    pub fn multicast_on(&mut self, terms: Terms, id: DaemonId, connection: u32, to: &str, text: &str) {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        self.input(id, Input::Multicast { connection, group: group(to), payload, terms });
    }

    /// What a process was told since the last time, a line for each view and each message:
    /// `g {a1 b1} +b1 -c1`, and `g a1: text`.
    pub fn told(&mut self, id: DaemonId, connection: u32) -> Vec<String> {
        let events = std::mem::take(self.node(id).told.get_mut(&connection).unwrap());
        events.iter().flat_map(diagram::event).collect()
    }
}
