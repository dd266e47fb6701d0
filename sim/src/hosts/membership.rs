//! The host of a membership server.

use std::collections::BTreeMap;

use membership_core::{Input, Kind, Leave, Message, Output, Params, Proposal, Server};
use model::{DaemonId, Machine, ServerId, Time};

use crate::coverage::Fact;
use crate::hosts::Manners;
use crate::net::{Conn, Timer};
use crate::packet::{Node, Packet};
use crate::scene::{Host, Scene};

/// A membership server, the streams of its daemons, and the connections with its peers.
pub struct MembershipHost {
    id: ServerId,
    index: usize,
    machine: Server,
    manners: Manners,
    daemons: BTreeMap<DaemonId, Conn>,
    peers: BTreeMap<ServerId, Conn>,
    /// Connections to peers that have not answered yet, by the peer's place.
    dialled: BTreeMap<Conn, usize>,
}

impl MembershipHost {
    /// A server that knows nothing.
    pub fn new(id: ServerId, index: usize, params: Params, manners: Manners) -> MembershipHost {
        MembershipHost {
            id,
            index,
            machine: Server::new(id, params),
            manners,
            daemons: BTreeMap::new(),
            peers: BTreeMap::new(),
            dialled: BTreeMap::new(),
        }
    }

    /// Which daemons are attached here.
    pub fn attached(&self) -> impl Iterator<Item = &DaemonId> {
        self.daemons.keys()
    }

    fn tell(&mut self, input: Input, scene: &mut Scene<'_>) {
        let (now, mut out) = (scene.clock(), Vec::new());
        self.machine.handle(now, input, &mut out);
        if self.machine.next_wake().is_some_and(|(due, _)| due <= now) {
            self.machine.wake(now, &mut out);
        }
        self.perform(out, scene);
    }

    fn perform(&mut self, orders: Vec<Output>, scene: &mut Scene<'_>) {
        for order in orders {
            match order {
                Output::Notify { daemon, notice } => {
                    if let Some(conn) = self.daemons.get(&daemon) {
                        scene.send(*conn, Packet::Notice(notice));
                    }
                }
                Output::Rejected { daemon, .. } => {
                    if let Some(conn) = self.daemons.remove(&daemon) {
                        scene.close(conn);
                    }
                }
                Output::Send { to, message } => {
                    if let Message::Proposal(Proposal { kind: Kind::Slow { .. }, .. }) = &message {
                        scene.count(Fact::SlowRound, 1);
                    }
                    if let Some(conn) = self.peers.get(&to) {
                        scene.send(*conn, Packet::Agreement(message));
                    }
                }
                Output::Refuse { from, fault } => scene.complain(|| format!("refused {from}: {fault:?}")),
                Output::HangUpOn { server } => {
                    if let Some(conn) = self.peers.remove(&server) {
                        scene.close(conn);
                        self.redial_server(server, scene);
                    }
                }
                // Connections of this world tell all that there is to tell.
                Output::Beat { .. } | Output::HangUp { .. } | Output::Agreed(_) => {}
            }
        }
    }

    fn dial(&mut self, peer: usize, scene: &mut Scene<'_>) {
        let conn = scene.dial(Node::Membership(peer), Packet::Peer(self.id));
        self.dialled.insert(conn, peer);
    }

    /// A peer greets, or answers a greeting. Its later life takes the place of an earlier one.
    fn greet(&mut self, conn: Conn, peer: ServerId, scene: &mut Scene<'_>) {
        if self.dialled.remove(&conn).is_none() {
            scene.send(conn, Packet::Peer(self.id));
        }
        let same_name = self.peers.keys().find(|known| known.name() == peer.name()).copied();
        if let Some(known) = same_name
            && let Some(old) = self.peers.remove(&known)
        {
            scene.close(old);
            self.tell(Input::PeerDown { server: known }, scene);
        }
        self.peers.insert(peer, conn);
        self.tell(Input::PeerUp { server: peer }, scene);
    }

    fn redial(&self, peer: usize, scene: &mut Scene<'_>) {
        let after = scene.dice.time(self.manners.redial.clone());
        scene.remind(after, Timer::Peer(peer));
    }

    /// Dials `server` again, if that is up to this one.
    fn redial_server(&self, server: ServerId, scene: &mut Scene<'_>) {
        let place = |name: &str| name.rsplit_once('-').and_then(|(_, n)| n.parse::<usize>().ok());
        if let Some(peer) = place(server.name().as_str()).map(|n| n - 1).filter(|peer| *peer > self.index) {
            self.redial(peer, scene);
        }
    }

    fn daemon_on(&self, conn: Conn) -> Option<DaemonId> {
        self.daemons.iter().find(|(_, other)| **other == conn).map(|(daemon, _)| *daemon)
    }

    fn peer_on(&self, conn: Conn) -> Option<ServerId> {
        self.peers.iter().find(|(_, other)| **other == conn).map(|(peer, _)| *peer)
    }
}

impl Host for MembershipHost {
    fn start(&mut self, scene: &mut Scene<'_>) {
        for peer in self.index + 1..self.manners.membership_servers {
            self.dial(peer, scene);
        }
    }

    fn hear(&mut self, conn: Conn, packet: Packet, scene: &mut Scene<'_>) {
        match packet {
            Packet::Register(arrival) => {
                if let Some(old) = self.daemons.insert(arrival.daemon, conn) {
                    scene.close(old);
                }
                self.tell(Input::Attach(arrival), scene);
            }
            Packet::Peer(peer) => self.greet(conn, peer, scene),
            Packet::Agreement(message) => {
                if let Some(from) = self.peer_on(conn) {
                    self.tell(Input::Peer { from, message }, scene);
                }
            }
            Packet::Reach(report) => {
                if let Some(daemon) = self.daemon_on(conn) {
                    self.tell(Input::Report { daemon, report }, scene);
                }
            }
            other => unreachable!("{other:?} at a membership server"),
        }
    }

    fn lose(&mut self, conn: Conn, scene: &mut Scene<'_>) {
        if let Some(daemon) = self.daemon_on(conn) {
            self.daemons.remove(&daemon);
            self.tell(Input::Detach { daemon, leave: Leave::Closed }, scene);
        }
        if let Some(peer) = self.dialled.remove(&conn) {
            self.redial(peer, scene);
        }
        if let Some(server) = self.peer_on(conn) {
            self.peers.remove(&server);
            self.tell(Input::PeerDown { server }, scene);
            self.redial_server(server, scene);
        }
    }

    fn remember(&mut self, timer: Timer, scene: &mut Scene<'_>) {
        if let Timer::Peer(peer) = timer {
            self.dial(peer, scene);
        }
    }

    fn wake(&mut self, scene: &mut Scene<'_>) {
        let mut out = Vec::new();
        self.machine.wake(scene.clock(), &mut out);
        self.perform(out, scene);
    }

    fn next_wake(&self) -> Option<Time> {
        self.machine.next_wake().map(|(time, _)| time)
    }
}
