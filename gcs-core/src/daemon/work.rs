//! The daemon inside a configuration: what it receives, casts, places and delivers.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use model::trace::Event;
use model::{DaemonId, GroupViewId, Level, Member, MessageId, ProcessId};

use super::Daemon;
use crate::exchange::Told;
use crate::fault::PeerFault;
use crate::groups::{Foreign, Views};
use crate::message::{Entry, Message, Payload, Rank, Row};
use crate::order::{Place, SEQUENCER};
use crate::port::Output;

impl Daemon {
    /// A peer's message. A refused one has no effect.
    pub(super) fn receive(&mut self, from: DaemonId, message: Message) -> Result<(), PeerFault> {
        match message {
            Message::Entries { configuration, first, stable, entries } => {
                if configuration == self.endpoint.configuration().id {
                    self.forget_stable(from, stable)?;
                }
                self.endpoint.entries(from, configuration, first, entries)
            }
            Message::Sync { start, sync } => self.endpoint.sync(from, start, sync),
            Message::Forward { configuration, origin, first, entries } => {
                self.endpoint.forwarded(from, configuration, origin, first, entries)
            }
            Message::Progress { configuration, delivered, position, stable } => {
                match configuration.cmp(&self.endpoint.configuration().id) {
                    Ordering::Equal => {}
                    Ordering::Less => return Ok(()),
                    Ordering::Greater => {
                        return self.endpoint.position_early(from, configuration, position);
                    }
                }
                let member = self.endpoint.rank_of(from).ok_or(PeerFault::NotAMember)?;
                let reached = match delivered.get(self.endpoint.rank().index()) {
                    Some(reached) if delivered.len() == self.endpoint.members().len() => *reached,
                    Some(_) | None => return Err(PeerFault::WrongProgress),
                };
                if reached > self.endpoint.sent() {
                    return Err(PeerFault::WrongProgress);
                }
                self.forget_stable(from, stable)?;
                self.stability.reached(member, reached);
                self.safe.reached(member, position);
                Ok(())
            }
        }
    }

    /// `from` says that its own stream is stable up to `stable`.
    fn forget_stable(&mut self, from: DaemonId, stable: u64) -> Result<(), PeerFault> {
        let member = self.endpoint.rank_of(from).ok_or(PeerFault::NotAMember)?;
        if stable > self.stability.told(member) {
            return Err(PeerFault::WrongProgress);
        }
        while self.endpoint.forget_first(member, stable).is_some() {}
        Ok(())
    }

    /// Whether we are the sequencer and have a payload to place.
    pub(super) fn may_place(&self) -> bool {
        self.endpoint.rank() == SEQUENCER
            && self.stability.admits_record()
            && self.order.unrecorded(self.endpoint.streams())
    }

    /// Places what has no place yet, if that is our part, and hands what we cast to the links.
    pub(super) fn place_and_send(&mut self, out: &mut Vec<Output>) {
        if !self.steady() {
            return;
        }
        if self.may_place() {
            let record = Entry::Order(self.order.record(self.endpoint.streams()));
            self.stability.cast(&record);
            self.endpoint.append(record);
        }
        if self.endpoint.unsent() {
            let stable = self.stability.announce();
            while let Some(batch) = self.endpoint.next_batch(stable, self.params.batch_bytes) {
                let batch = Arc::new(batch);
                for peer in self.endpoint.others() {
                    self.links.send(peer, Arc::clone(&batch), out);
                }
            }
        }
        self.deliver_ready(out);
    }

    /// Whether others may be waiting for news of us.
    pub(super) fn pressing(&self) -> bool {
        self.endpoint.members().len() > 1 && (self.stability.pressing() || self.safe.pressing())
    }

    /// Tells the other members what we have delivered.
    pub(super) fn tell_progress(&mut self, out: &mut Vec<Output>) {
        if !self.stability.news() && !self.safe.pressing() {
            return;
        }
        let stable = self.stability.announce();
        let configuration = self.endpoint.configuration().id;
        let position = self.safe.tell(self.endpoint.rank());
        let message = Message::Progress { configuration, delivered: self.stability.tell(), position, stable };
        let message = Arc::new(message);
        for peer in self.endpoint.others() {
            self.links.send(peer, Arc::clone(&message), out);
        }
    }

    /// Casts what waits, as far as the window goes. During an exchange of tables, only our table.
    pub(super) fn cast_waiting(&mut self, out: &mut Vec<Output>) {
        while self.stability.admits_payload() {
            let next = if self.classes.exchanging() {
                self.classes.next_part().map(Payload::Table)
            } else {
                self.next_uninformed().or_else(|| self.processes.pop())
            };
            let Some(payload) = next else { break };
            self.cast(payload, out);
        }
    }

    pub(super) fn cast(&mut self, payload: Payload, out: &mut Vec<Output>) {
        let index = self.stability.payloads_cast() + 1;
        let configuration = self.endpoint.configuration().id;
        self.trace(out, |daemon| Event::Cast { daemon, configuration, index, digest: payload.digest() });
        let entry = Entry::Payload(payload);
        self.stability.cast(&entry);
        self.endpoint.append(entry);
    }

    /// Delivers what has its place and is here, and forgets what everybody has delivered.
    pub(super) fn deliver_ready(&mut self, out: &mut Vec<Output>) {
        while let Some(place) = self.order.next(self.endpoint.streams()) {
            let payload = self.payload(place);
            self.stability.delivered(payload.cost());
            if let Some(payload) = self.safe.place(place, payload) {
                self.deliver(place, payload, Level::Agreed, out);
            }
        }
        for rank in Rank::all(self.endpoint.members().len()) {
            let delivered = self.order.delivered(rank, self.endpoint.streams());
            self.stability.have(rank, delivered);
        }
        let own = self.endpoint.rank();
        self.safe.reached(own, self.order.position());
        while let Some((place, payload)) = self.safe.next() {
            let level = payload.level();
            self.deliver(place, payload, level, out);
        }
        let stable = self.stability.stable(own);
        while let Some(entry) = self.endpoint.forget_first(own, stable) {
            self.stability.forgotten(&entry);
        }
    }

    /// The payload at `place`.
    pub(super) fn payload(&self, place: Place) -> Payload {
        match self.endpoint.streams()[place.origin.index()].get(place.index) {
            Some(Entry::Payload(payload)) => payload.clone(),
            Some(Entry::Order(_)) | None => unreachable!("the order places payloads that are held"),
        }
    }

    /// Delivers the payload at `place`, of which this much is known.
    pub(super) fn deliver(&mut self, place: Place, payload: Payload, level: Level, out: &mut Vec<Output>) {
        let origin = self.endpoint.members()[place.origin.index()];
        let configuration = self.endpoint.configuration().id;
        let index = place.payload;
        self.trace(out, |daemon| {
            let digest = payload.digest();
            Event::Deliver { daemon, configuration, origin, index, digest }
        });
        let id = GroupViewId { configuration, position: place.position };
        if let Err(fault) = self.apply(place.origin, payload, level, id, out) {
            out.push(Output::Refuse { from: origin, fault });
        }
    }

    /// What a delivered payload does to the groups.
    fn apply(
        &mut self,
        sender: Rank,
        payload: Payload,
        level: Level,
        id: GroupViewId,
        out: &mut Vec<Output>,
    ) -> Result<(), PeerFault> {
        let origin = self.endpoint.members()[sender.index()];
        let of = |connection| ProcessId::new(origin, connection);
        match payload {
            Payload::Table(table) => match self.classes.told(sender, table, self.endpoint.members())? {
                Told::Merge(rows) => {
                    let views = self.merge(&rows, id);
                    self.tell_views(views, out);
                }
                Told::Wait => {}
            },
            // Whoever sent it had not heard all tables, and was not to send it.
            Payload::Multicast { .. }
            | Payload::Join { .. }
            | Payload::Leave { .. }
            | Payload::Stopped { .. }
            | Payload::State { .. }
            | Payload::Uninformed { .. }
            | Payload::Gone { .. }
                if self.classes.exchanging() =>
            {
                return Err(PeerFault::WrongTable);
            }
            Payload::Multicast { connection, number, group, bytes, terms } => {
                let id = MessageId::new(of(connection), number);
                let outcome = self.give(id, group, bytes, level, terms.only_in, out);
                self.tell_outcome(id, terms.report, outcome, out);
            }
            Payload::Join { connection, name, groups } => {
                self.admit(Member { process: of(connection), name }, &groups, id, out);
            }
            Payload::Leave { connection, groups } => self.release(of(connection), &groups, id, out),
            Payload::Stopped { connection, groups } => self.stopped(of(connection), &groups, id, out),
            Payload::State { connection, group, view, part, class } => {
                self.tell_state(of(connection), &group, view, Some(part), class.as_deref(), out);
            }
            Payload::Uninformed { connection, groups } => {
                let class = [of(connection)];
                for (group, view) in groups.iter() {
                    self.tell_state(of(connection), group, *view, None, Some(&class), out);
                }
            }
            Payload::Gone { connection } => self.bury(of(connection), id, out),
        }
        Ok(())
    }

    /// Takes in what other classes know.
    fn merge(&mut self, parts: &[Arc<[Row]>], id: GroupViewId) -> Views {
        let members = self.endpoint.members();
        let in_words = |row: &Row| {
            let daemon = *members.get(row.daemon.index())?;
            let process = ProcessId::new(daemon, row.connection);
            let member = Member { process, name: row.name };
            Some((member, Arc::clone(&row.groups), Arc::clone(&row.views)))
        };
        let rows: Vec<Foreign> = parts.iter().flat_map(|part| part.iter()).filter_map(in_words).collect();
        self.groups.merge(&rows, id, &self.processes)
    }
}
