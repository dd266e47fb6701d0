//! A membership server: the machine, the streams of its daemons, and the connections with its peers. Of two servers,
//! the lesser dials.

use std::collections::BTreeMap;

use membership_core::{Input, Leave, Message, Output, Params, Rejection, Server};
use model::{Boot, DaemonId, Machine, Name, ServerId, Time};

use crate::membership::log::{Log, Moment, Seen};
use crate::membership::net::{Conn, Event, Net, Node, Packet};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
enum Party {
    /// Nobody has said so yet.
    Dialled(usize),
    Daemon(DaemonId),
    Peer(ServerId),
}

pub struct ServerHost {
    pub id: ServerId,
    pub alive: bool,
    index: usize,
    /// How many servers there are.
    all: usize,
    params: Params,
    machine: Server,
    parties: BTreeMap<Conn, Party>,
    streams: BTreeMap<DaemonId, Conn>,
    peers: BTreeMap<ServerId, Conn>,
    wake: Option<Time>,
}

impl ServerHost {
    /// A server that is not running.
    pub fn new(index: usize, all: usize, params: Params) -> ServerHost {
        let name = format!("server-{index}").parse().expect("a name");
        let id = ServerId::new(name, Boot::new(0));
        ServerHost {
            id,
            alive: false,
            index,
            all,
            machine: Server::new(id, params.clone()),
            params,
            parties: BTreeMap::new(),
            streams: BTreeMap::new(),
            peers: BTreeMap::new(),
            wake: None,
        }
    }

    fn node(&self) -> Node {
        Node::Server(self.index)
    }

    pub fn life(&self) -> u64 {
        self.id.boot().number()
    }

    pub fn attached(&self) -> impl Iterator<Item = DaemonId> {
        self.streams.keys().copied()
    }

    pub fn linked(&self) -> impl Iterator<Item = ServerId> {
        self.peers.keys().copied()
    }

    pub fn machine(&self) -> &Server {
        &self.machine
    }

    pub fn start(&mut self, net: &mut Net) {
        self.id = ServerId::new(self.id.name(), Boot::new(self.life() + 1));
        self.alive = true;
        self.machine = Server::new(self.id, self.params.clone());
        self.wake = None;
        for peer in self.index + 1..self.all {
            net.soon(net.pace.delay.clone(), self.dial(peer));
        }
    }

    pub fn die(&mut self) {
        self.alive = false;
        self.parties.clear();
        self.streams.clear();
        self.peers.clear();
    }

    fn dial(&self, peer: usize) -> Event {
        Event::Dial { by: self.node(), life: self.life(), to: Node::Server(peer) }
    }

    pub fn dialled(&mut self, conn: Conn, peer: usize) {
        self.parties.insert(conn, Party::Dialled(peer));
    }

    pub fn hear(&mut self, conn: Conn, packet: Packet, net: &mut Net, log: &mut Log) {
        match packet {
            Packet::Register(arrival, report) => {
                let daemon = arrival.daemon;
                if let Some(old) = self.streams.insert(daemon, conn) {
                    self.parties.remove(&old);
                    net.close(old, self.node());
                }
                self.parties.insert(conn, Party::Daemon(daemon));
                log.moment(Moment::Attach, self.node());
                self.tell(Input::Attach(arrival), net, log);
                if self.streams.contains_key(&daemon) {
                    self.report(daemon, report, net, log);
                }
            }
            Packet::Report(report) => {
                log.reported(&report);
                if let Some(Party::Daemon(daemon)) = self.parties.get(&conn).copied() {
                    self.report(daemon, report, net, log);
                }
            }
            Packet::Attempted(id) => {
                if let Some(Party::Daemon(daemon)) = self.parties.get(&conn).copied() {
                    self.tell(Input::Attempted { daemon, id, agrees: true }, net, log);
                }
            }
            Packet::Goodbye => {
                if let Some(Party::Daemon(daemon)) = self.parties.remove(&conn) {
                    self.streams.remove(&daemon);
                    net.hang_up(conn, self.node());
                    log.saw(net.now, &Seen::Detached { daemon });
                    self.tell(Input::Detach { daemon, leave: Leave::Goodbye }, net, log);
                }
            }
            Packet::Peer(peer) => self.greet(conn, peer, net, log),
            Packet::Agreement(message) => {
                if let Some(Party::Peer(from)) = self.parties.get(&conn).copied() {
                    self.tell(Input::Peer { from, message }, net, log);
                }
            }
            Packet::Notice(_) | Packet::Rejected(_) => unreachable!("{packet:?} at a server"),
        }
    }

    fn report(&mut self, daemon: DaemonId, report: detector::Report<DaemonId>, net: &mut Net, log: &mut Log) {
        let cut = report.iter().filter(|(_, doubted)| doubted.doubt == detector::Doubt::Cut);
        let cut = cut.map(|(other, _)| *other).collect::<std::collections::BTreeSet<_>>();
        if !cut.is_empty() {
            log.moment(Moment::Cut, self.node());
        }
        log.saw(net.now, &Seen::Reported { daemon, cut });
        self.tell(Input::Report { daemon, report }, net, log);
    }

    /// A peer greets, or answers a greeting. Its newest connection takes the place of an earlier one.
    fn greet(&mut self, conn: Conn, peer: ServerId, net: &mut Net, log: &mut Log) {
        if !self.parties.contains_key(&conn) {
            net.send(conn, self.node(), Packet::Peer(self.id));
        }
        let same_name = self.peers.keys().find(|known| known.name() == peer.name()).copied();
        if let Some(known) = same_name
            && let Some(old) = self.peers.remove(&known)
        {
            self.parties.remove(&old);
            net.close(old, self.node());
            self.tell(Input::PeerDown { server: known }, net, log);
        }
        self.parties.insert(conn, Party::Peer(peer));
        self.peers.insert(peer, conn);
        log.moment(Moment::Link, self.node());
        self.tell(Input::PeerUp { server: peer }, net, log);
    }

    /// The connection is gone: `leave` says what became of it.
    pub fn lose(&mut self, conn: Conn, leave: Leave, net: &mut Net, log: &mut Log) {
        net.close(conn, self.node());
        match self.parties.remove(&conn) {
            None => {}
            Some(Party::Dialled(peer)) => net.soon(net.pace.redial.clone(), self.dial(peer)),
            Some(Party::Daemon(daemon)) => {
                self.streams.remove(&daemon);
                log.saw(net.now, &Seen::Detached { daemon });
                self.tell(Input::Detach { daemon, leave }, net, log);
            }
            Some(Party::Peer(server)) => {
                self.peers.remove(&server);
                self.tell(Input::PeerDown { server }, net, log);
                self.redial(server, net);
            }
        }
    }

    fn redial(&self, server: ServerId, net: &mut Net) {
        let peer = index_of(server.name());
        if peer > self.index {
            net.soon(net.pace.redial.clone(), self.dial(peer));
        }
    }

    pub fn wake(&mut self, net: &mut Net, log: &mut Log) {
        if self.wake.is_none_or(|due| net.now < due) {
            return;
        }
        self.wake = None;
        let mut out = Vec::new();
        self.machine.wake(net.now, &mut out);
        self.perform(out, net, log);
    }

    pub fn tell(&mut self, input: Input, net: &mut Net, log: &mut Log) {
        let mut out = Vec::new();
        self.machine.handle(net.now, input, &mut out);
        log.steps += 1;
        self.perform(out, net, log);
    }

    fn perform(&mut self, orders: Vec<Output>, net: &mut Net, log: &mut Log) {
        for order in orders {
            match order {
                Output::Notify { daemon, notice } => {
                    if let Some(conn) = self.streams.get(&daemon) {
                        log.notified(&notice);
                        net.send(*conn, self.node(), Packet::Notice(notice));
                    }
                }
                Output::Rejected { daemon, reason } => self.reject(daemon, reason, net, log),
                Output::Send { to, message } => {
                    if let Message::Proposal(proposal) = &message {
                        log.vote(self.node(), proposal.kind);
                    }
                    log.sent(&message);
                    if let Some(conn) = self.peers.get(&to) {
                        net.send(*conn, self.node(), Packet::Agreement(message));
                    }
                }
                Output::HangUpOn { server } => {
                    if let Some(conn) = self.peers.remove(&server) {
                        self.parties.remove(&conn);
                        net.close(conn, self.node());
                        self.redial(server, net);
                    }
                }
                Output::Beat { .. } | Output::HangUp { .. } => {
                    unreachable!("connections of this world know silence by themselves")
                }
                Output::Refuse { from, fault } => {
                    log.complain(format!("{} refused {from}: {fault:?}", self.id));
                }
                Output::Agreed(agreed) => {
                    if log.is_verbose {
                        println!("{} {} agreed: {:?}", net.now, self.id, agreed.configurations);
                    }
                    log.moment(Moment::Agreed, self.node());
                    for configuration in &agreed.configurations {
                        log.saw(
                            net.now,
                            &Seen::Agreed { server: self.id, configuration: configuration.clone() },
                        );
                    }
                }
            }
        }
        self.schedule_wake(net);
    }

    fn reject(&mut self, daemon: DaemonId, reason: Rejection, net: &mut Net, log: &mut Log) {
        log.rejected(&reason);
        if let Some(conn) = self.streams.remove(&daemon) {
            self.parties.remove(&conn);
            net.send(conn, self.node(), Packet::Rejected(reason));
            net.close(conn, self.node());
            log.saw(net.now, &Seen::Detached { daemon });
        }
    }

    fn schedule_wake(&mut self, net: &mut Net) {
        let Some((due, _)) = self.machine.next_wake() else { return };
        let due = due.max(net.now);
        if self.wake.is_none_or(|wake| due < wake) {
            self.wake = Some(due);
            net.at(due, Event::Wake { node: self.node(), life: self.life() });
        }
    }
}

/// The place of a server or a daemon, which is in its name.
pub fn index_of(name: Name) -> usize {
    name.as_str().rsplit('-').next().and_then(|digits| digits.parse().ok()).expect("a number")
}
