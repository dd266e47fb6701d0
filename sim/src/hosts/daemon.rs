//! The host of a daemon: its membership server, its links with other daemons, and its processes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use detector::Report;
use gcs_core::{
    Answer, Daemon, Entry, Epoch, Input, Message, Notice, NoticeFault, Output, Params, Payload, Rejection,
    Rest, Throttle,
};
use membership_core::{Arrival, Standing};
use model::{Address, DaemonId, Machine, ProcessId, StartId, Time};

use crate::coverage::Fact;
use crate::happens::Happens;
use crate::hosts::Manners;
use crate::net::{Conn, Timer};
use crate::packet::{Node, Packet};
use crate::scene::{Host, Scene};

/// Our stream to a peer.
struct Outbound {
    address: Address,
    epoch: Epoch,
    conn: Option<Conn>,
    /// It was up before.
    used: bool,
    /// The greatest number sent.
    sent: u64,
}

/// A peer's stream to us.
struct Inbound {
    conn: Conn,
    epoch: Epoch,
}

/// A daemon and all that is connected to it.
pub struct DaemonHost {
    machine: Daemon,
    manners: Manners,
    /// Which membership server comes next.
    turn: usize,
    membership: Option<Conn>,
    last_start: Option<StartId>,
    standing: Option<Standing>,
    /// Whether the start change came after the configuration.
    is_changing: bool,
    /// How often it has greeted a membership server.
    attempts: u64,
    outbound: BTreeMap<DaemonId, Outbound>,
    inbound: BTreeMap<DaemonId, Inbound>,
    /// Who is being probed.
    probes: BTreeMap<Conn, DaemonId>,
    /// Which peers cannot be reached.
    reach: Report<DaemonId>,
    processes: BTreeMap<Conn, u32>,
    connections: BTreeMap<u32, Conn>,
    connections_used: u32,
    throttle: Throttle,
    /// What processes said and is not read yet.
    unread: VecDeque<(Conn, Packet)>,
    installed: bool,
}

impl DaemonHost {
    /// A daemon that knows nobody.
    pub fn new(id: DaemonId, place: usize, params: Params, manners: Manners) -> DaemonHost {
        DaemonHost {
            machine: Daemon::new(id, params),
            turn: place,
            manners,
            membership: None,
            last_start: None,
            standing: None,
            is_changing: false,
            attempts: 0,
            outbound: BTreeMap::new(),
            inbound: BTreeMap::new(),
            probes: BTreeMap::new(),
            reach: Report::new(),
            processes: BTreeMap::new(),
            connections: BTreeMap::new(),
            connections_used: 0,
            throttle: Throttle::Go,
            unread: VecDeque::new(),
            installed: false,
        }
    }

    /// Whether it has said, and not taken back, that it cannot reach this one.
    pub fn doubts(&self, peer: DaemonId) -> bool {
        self.reach.contains_key(&peer)
    }

    /// The machine.
    pub fn daemon(&self) -> &Daemon {
        &self.machine
    }

    fn tell(&mut self, input: Input, scene: &mut Scene<'_>) {
        self.tell_on(None, input, scene);
    }

    /// Tells the machine what came on `conn`.
    fn tell_on(&mut self, conn: Option<Conn>, input: Input, scene: &mut Scene<'_>) {
        let mut out = Vec::new();
        let phase = self.machine.phase();
        self.machine.handle(scene.clock(), input, &mut out);
        self.perform(conn, out, scene);
        self.note_exchange(phase, scene);
    }

    /// Notes what became of an exchange of tables, if it goes on no longer.
    fn note_exchange(&self, phase_before: &str, scene: &mut Scene<'_>) {
        match (phase_before, self.machine.phase()) {
            ("exchanging", "steady") => {
                scene.happens(Happens::TablesMerged);
                scene.count(Fact::ExchangeCompleted, 1);
            }
            ("exchanging", "changing") => {
                scene.happens(Happens::BrokenExchange);
                scene.count(Fact::ExchangeInterrupted, 1);
            }
            _ => {}
        }
    }

    fn perform(&mut self, conn: Option<Conn>, orders: Vec<Output>, scene: &mut Scene<'_>) {
        let (mut go, mut catch_up) = (false, false);
        let mut evicted = Vec::new();
        for order in orders {
            match order {
                Output::Connect { peer, address, epoch } => {
                    self.outbound.insert(peer, Outbound { address, epoch, conn: None, used: false, sent: 0 });
                    self.dial_link(peer, scene);
                }
                Output::Disconnect { peer } => {
                    if let Some(conn) = self.outbound.remove(&peer).and_then(|link| link.conn) {
                        scene.close(conn);
                    }
                }
                Output::Send { peer, number, message, .. } => self.send(peer, number, message, scene),
                Output::Resume { to, received, .. } => {
                    self.answer(to, Packet::Resume { received }, scene);
                }
                Output::Ack { peer, received, .. } => self.answer(peer, Packet::Ack { received }, scene),
                Output::Refuse { fault, .. } if fault.breaks_link() => {
                    if let Some(conn) = conn {
                        scene.close(conn);
                        self.inbound_lost(conn, scene);
                        self.link_lost(conn, scene);
                    }
                }
                // Nothing waits unread here.
                Output::CatchUp => catch_up = true,
                Output::Reset { peer, .. } => {
                    let conn = self.outbound.get(&peer).and_then(|link| link.conn);
                    if let Some(conn) = conn {
                        scene.count(Fact::LinkSilent, 1);
                        scene.close(conn);
                        self.link_lost(conn, scene);
                    }
                }
                Output::Reach(report) => {
                    scene.count(Fact::ReachReport, 1);
                    self.reach = report;
                    self.report(scene);
                }
                Output::Probe { peer, address } => self.probe(peer, &address, scene),
                Output::Refuse { from, fault } => scene.complain(|| format!("refused {from}: {fault:?}")),
                Output::RefuseNotice(NoticeFault::OutOfDateView) => scene.count(Fact::ViewRefused, 1),
                Output::RefuseNotice(fault) => scene.complain(|| format!("refused a notice: {fault:?}")),
                Output::Deliver { connections, event } => {
                    for connection in connections.iter() {
                        if let Some(conn) = self.connections.get(connection) {
                            scene.send(*conn, Packet::Event(event.clone()));
                        }
                    }
                }
                Output::Rejected { connection, reason: Rejection::BlockTimeout { .. } } => {
                    scene.count(Fact::ProcessHung, 1);
                    evicted.extend(self.connections.get(&connection).copied());
                }
                // An answer of a process that was evicted.
                Output::Rejected { reason: Rejection::NotAttached, .. } => {}
                Output::Rejected { connection, reason } => {
                    scene.complain(|| format!("rejected process {connection}: {reason:?}"));
                    evicted.extend(self.connections.get(&connection).copied());
                }
                Output::Throttle(throttle) => {
                    self.throttle = throttle;
                    scene.count(Fact::ProcessHeld, u64::from(throttle == Throttle::Hold));
                    go |= throttle == Throttle::Go;
                }
                Output::Installed { rest, .. } => self.note_install(rest, scene),
                Output::Trace(event) => scene.trace(event),
            }
        }
        for conn in evicted {
            scene.close(conn);
            self.process_gone(conn, scene);
        }
        if go {
            self.read_on(scene);
        }
        if catch_up {
            self.tell(Input::CaughtUp, scene);
        }
    }

    fn note_install(&mut self, rest: Rest, scene: &mut Scene<'_>) {
        self.installed = true;
        scene.happens(Happens::Install);
        if self.machine.phase() == "exchanging" {
            scene.happens(Happens::Merge);
            scene.count(Fact::ExchangeBegun, 1);
        }
        scene.count(Fact::Hole, rest.holes);
        scene.count(Fact::Orphan, rest.orphans);
        scene.count(Fact::Residue, rest.residue);
        scene.count(Fact::ResidueDropped, rest.dropped);
    }

    fn send(&mut self, peer: DaemonId, number: u64, message: Arc<Message>, scene: &mut Scene<'_>) {
        match &*message {
            Message::Sync { .. } => scene.happens(Happens::SyncSent),
            Message::Forward { .. } => {
                scene.happens(Happens::Forward);
                scene.count(Fact::Forward, 1);
            }
            Message::Entries { entries, .. } => {
                if entries.iter().any(|entry| matches!(entry, Entry::Payload(Payload::Table(_)))) {
                    scene.happens(Happens::TableSent);
                }
            }
            Message::Progress { .. } => {}
        }
        let Some(link) = self.outbound.get_mut(&peer) else { return };
        scene.count(Fact::FrameAgain, u64::from(number <= link.sent));
        link.sent = link.sent.max(number);
        if let Some(conn) = link.conn {
            scene.send(conn, Packet::Frame { number, message });
        }
    }

    /// Answers on the stream that `peer` opened to us.
    fn answer(&mut self, peer: DaemonId, packet: Packet, scene: &mut Scene<'_>) {
        if let Some(link) = self.inbound.get(&peer) {
            scene.send(link.conn, packet);
        }
    }

    fn dial_membership(&mut self, scene: &mut Scene<'_>) {
        let server = Node::Membership(self.turn % self.manners.membership_servers);
        let arrival = Arrival {
            daemon: self.machine.id(),
            address: scene.node.address(),
            attempt: self.attempts,
            last_start: self.last_start,
            standing: self.standing,
            is_changing: self.is_changing,
            ballots: None,
        };
        self.attempts += 1;
        self.membership = Some(scene.dial(server, Packet::Register(arrival)));
        if !self.reach.is_empty() {
            self.report(scene);
        }
    }

    fn report(&self, scene: &mut Scene<'_>) {
        if let Some(conn) = self.membership {
            scene.send(conn, Packet::Reach(self.reach.clone()));
        }
    }

    /// Asks who is at the address of `peer`, unless the answer to the question before is still to come.
    fn probe(&mut self, peer: DaemonId, address: &Address, scene: &mut Scene<'_>) {
        let Some(node) = Node::at(address) else { return };
        if !self.probes.values().any(|probed| *probed == peer) {
            self.probes.insert(scene.dial(node, Packet::Probe { to: peer }), peer);
        }
    }

    fn hear_answer(&mut self, conn: Conn, answer: Answer, scene: &mut Scene<'_>) {
        if let Some(peer) = self.probes.remove(&conn) {
            scene.close(conn);
            self.tell(Input::Probed { peer, answer }, scene);
        }
    }

    fn inbound_lost(&mut self, conn: Conn, scene: &mut Scene<'_>) {
        let lost = self.inbound.iter().find(|(_, link)| link.conn == conn);
        if let Some((from, epoch)) = lost.map(|(from, link)| (*from, link.epoch)) {
            self.inbound.remove(&from);
            self.tell(Input::Closed { from, epoch }, scene);
        }
    }

    fn dial_link(&mut self, peer: DaemonId, scene: &mut Scene<'_>) {
        let from = self.machine.id();
        let Some(link) = self.outbound.get_mut(&peer) else { return };
        let Some(node) = Node::at(&link.address) else { return };
        link.conn = Some(scene.dial(node, Packet::Link { from, to: peer, epoch: link.epoch }));
    }

    fn link_lost(&mut self, conn: Conn, scene: &mut Scene<'_>) {
        let Some((peer, link)) = self.outbound.iter_mut().find(|(_, link)| link.conn == Some(conn)) else {
            return;
        };
        let (peer, epoch) = (*peer, link.epoch);
        link.conn = None;
        let again = scene.dice.time(self.manners.redial.clone());
        scene.remind(again, Timer::Link(peer, epoch));
        self.tell(Input::LinkDown { peer, epoch }, scene);
    }

    fn process_gone(&mut self, conn: Conn, scene: &mut Scene<'_>) {
        if let Some(connection) = self.processes.remove(&conn) {
            self.connections.remove(&connection);
            self.unread.retain(|(other, _)| *other != conn);
            self.tell(Input::Detach { connection }, scene);
        }
    }

    fn greeted_by_process(&mut self, conn: Conn, name: model::Name, scene: &mut Scene<'_>) {
        if !self.installed {
            scene.close(conn);
            return;
        }
        self.connections_used += 1;
        let connection = self.connections_used;
        self.processes.insert(conn, connection);
        self.connections.insert(connection, conn);
        scene.send(conn, Packet::Attached(ProcessId::new(self.machine.id(), connection)));
        self.tell(Input::Attach { connection, name }, scene);
    }

    /// A process says something, which is read unless enough waits already.
    fn hear_process(&mut self, conn: Conn, packet: Packet, scene: &mut Scene<'_>) {
        self.unread.push_back((conn, packet));
        self.read_on(scene);
    }

    fn read_on(&mut self, scene: &mut Scene<'_>) {
        while self.throttle == Throttle::Go
            && let Some((conn, packet)) = self.unread.pop_front()
        {
            let Some(connection) = self.processes.get(&conn).copied() else { continue };
            let input = match packet {
                Packet::Join(groups) => Input::Join { connection, groups },
                Packet::Leave(groups) => Input::Leave { connection, groups },
                Packet::Blocked(groups) => Input::Blocked { connection, groups },
                Packet::TellState { group, view, part, last } => {
                    Input::State { connection, group, view, part, last }
                }
                Packet::Multicast { group, payload, terms } => {
                    Input::Multicast { connection, group, payload, terms }
                }
                other => unreachable!("{other:?} from a process"),
            };
            self.tell(input, scene);
            let waits = self.machine.phase() == "steady" && self.machine.windows().waiting > 0;
            scene.count(Fact::WindowFull, u64::from(waits));
        }
    }

    fn hear_notice(&mut self, notice: membership_core::Notice, scene: &mut Scene<'_>) {
        let (notice, moment) = match notice {
            membership_core::Notice::StartChange { start, proposed } => {
                self.last_start = Some(start);
                self.is_changing = true;
                if matches!(self.machine.phase(), "viewed" | "agreed") {
                    scene.count(Fact::ViewAbandoned, 1);
                }
                (Notice::StartChange { start, proposed }, Happens::StartChange)
            }
            membership_core::Notice::Attempt(_) => unreachable!("no daemon of this world votes"),
            membership_core::Notice::View(configuration) => {
                self.standing = Some(Standing { id: configuration.id, size: configuration.members.len() });
                self.is_changing = false;
                (Notice::View(configuration), Happens::BetweenViewAndInstall)
            }
        };
        self.tell(Input::Membership(notice), scene);
        if moment == Happens::StartChange || self.machine.phase() != "steady" {
            scene.happens(moment);
        }
        if moment == Happens::StartChange && self.machine.holds_unplaced() {
            scene.happens(Happens::Residue);
        }
    }

    fn hear_frame(&mut self, conn: Conn, number: u64, message: &Arc<Message>, scene: &mut Scene<'_>) {
        let Some((from, link)) = self.inbound.iter().find(|(_, link)| link.conn == conn) else { return };
        let (from, epoch) = (*from, link.epoch);
        let is_sync = matches!(**message, Message::Sync { .. });
        if let Message::Entries { configuration, .. } = &**message {
            match configuration.cmp(&self.machine.configuration().id) {
                Ordering::Greater => {
                    scene.happens(Happens::Early);
                    scene.count(Fact::EarlyMessage, 1);
                }
                Ordering::Less => scene.count(Fact::LateMessage, 1),
                Ordering::Equal => {}
            }
        }
        let message = (**message).clone();
        self.tell_on(Some(conn), Input::Frame { from, epoch, number, message }, scene);
        if is_sync && self.machine.phase() == "changing" {
            scene.happens(Happens::BetweenSyncAndView);
        }
    }

    fn hear_about_link(&mut self, conn: Conn, packet: Packet, scene: &mut Scene<'_>) {
        let Some((peer, link)) = self.outbound.iter_mut().find(|(_, link)| link.conn == Some(conn)) else {
            return;
        };
        let (peer, epoch) = (*peer, link.epoch);
        let input = match packet {
            Packet::Resume { received } => {
                if std::mem::replace(&mut link.used, true) {
                    scene.happens(Happens::Resume);
                    scene.count(Fact::LinkResumed, 1);
                }
                Input::LinkUp { peer, epoch, received }
            }
            Packet::Ack { received } => Input::Acked { peer, epoch, received },
            other => unreachable!("{other:?} about a link"),
        };
        self.tell_on(Some(conn), input, scene);
    }

    fn greeted_by_peer(
        &mut self,
        conn: Conn,
        from: DaemonId,
        to: DaemonId,
        epoch: Epoch,
        scene: &mut Scene<'_>,
    ) {
        if to != self.machine.id() {
            scene.close(conn);
            return;
        }
        if let Some(old) = self.inbound.insert(from, Inbound { conn, epoch }) {
            scene.close(old.conn);
        }
        self.tell_on(Some(conn), Input::Opened { from, epoch }, scene);
    }
}

impl Host for DaemonHost {
    fn start(&mut self, scene: &mut Scene<'_>) {
        let daemon = self.machine.id();
        scene.trace(model::trace::Event::DaemonStart { daemon });
        self.dial_membership(scene);
    }

    fn hear(&mut self, conn: Conn, packet: Packet, scene: &mut Scene<'_>) {
        match packet {
            Packet::Notice(notice) => {
                if self.membership == Some(conn) {
                    self.hear_notice(notice, scene);
                }
            }
            Packet::Link { from, to, epoch } => self.greeted_by_peer(conn, from, to, epoch, scene),
            Packet::Frame { number, message } => self.hear_frame(conn, number, &message, scene),
            packet @ (Packet::Resume { .. } | Packet::Ack { .. }) => {
                self.hear_about_link(conn, packet, scene);
            }
            Packet::Probe { to } => {
                let is_me = to == self.machine.id();
                let answer = if is_me { Answer::Present } else { Answer::Other };
                scene.send(conn, Packet::Answered(answer));
            }
            Packet::Answered(answer) => self.hear_answer(conn, answer, scene),
            Packet::Attach { name } => self.greeted_by_process(conn, name, scene),
            packet @ (Packet::Join(_)
            | Packet::Leave(_)
            | Packet::Blocked(_)
            | Packet::TellState { .. }
            | Packet::Multicast { .. }) => {
                self.hear_process(conn, packet, scene);
            }
            other => unreachable!("{other:?} at a daemon"),
        }
    }

    fn lose(&mut self, conn: Conn, scene: &mut Scene<'_>) {
        if self.membership == Some(conn) {
            self.membership = None;
            self.turn += 1;
            scene.count(Fact::MembershipFailover, u64::from(self.manners.membership_servers > 1));
            let again = scene.dice.time(self.manners.redial.clone());
            scene.remind(again, Timer::Membership);
            return;
        }
        if let Some(peer) = self.probes.remove(&conn) {
            self.tell(Input::Probed { peer, answer: Answer::None }, scene);
        }
        self.inbound_lost(conn, scene);
        self.link_lost(conn, scene);
        self.process_gone(conn, scene);
    }

    fn remember(&mut self, timer: Timer, scene: &mut Scene<'_>) {
        match timer {
            Timer::Membership => self.dial_membership(scene),
            Timer::Link(peer, epoch) => {
                let waits =
                    self.outbound.get(&peer).is_some_and(|link| link.epoch == epoch && link.conn.is_none());
                if waits {
                    self.dial_link(peer, scene);
                }
            }
            other => unreachable!("{other:?} at a daemon"),
        }
    }

    fn wake(&mut self, scene: &mut Scene<'_>) {
        let mut out = Vec::new();
        let phase = self.machine.phase();
        self.machine.wake(scene.clock(), &mut out);
        self.perform(None, out, scene);
        self.note_exchange(phase, scene);
    }

    fn next_wake(&self) -> Option<Time> {
        self.machine.next_wake().map(|(time, _)| time)
    }
}
