//! The daemon: one machine, in which the layers meet. This file holds the control flow; what a layer knows and may do
//! is in its own file.
//!
//! A daemon's life is a walk from configuration to configuration [KK:end-point]:
//!
//! ```text
//! Starting ──start change──┐          ┌──────────start change──────────┐
//!                          ▼          ▼                                │
//! Steady ───start change─► Changing ──view──► Viewed ──syncs──► Agreed ┤
//!   ▲                                                                  │
//!   └─────────── install: deliver the rest, move, tell views ◄─entries─┘
//! ```
//!
//! Only in `Steady` are payloads cast, placed and delivered. On a start change the daemon hands everything that it
//! cast to its links, then its sync, so that the cut covers it and the peers have it first. Requests of processes
//! wait until the next configuration.
//!
//! Invariants: a daemon delivers what it cast itself [KK:self-delivery]; what is cast in a configuration is delivered
//! in it or nowhere [KK:sending-view]; daemons that go together from one configuration to the next deliver the same
//! payloads in the first, in the same order [KK:virtual-synchrony].

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;
use model::trace::Event;
use model::{
    Configuration, DaemonId, Digest, GroupName, GroupViewId, Machine, Member, MessageId, Name, ProcessId,
    StartId, Time,
};

use crate::endpoint::{Agreement, Endpoint};
use crate::exchange::{Classes, Told};
use crate::groups::{Groups, Views};
use crate::link::{Frame, Links};
use crate::message::{Entry, Message, Payload, Rank, Row};
use crate::order::{Order, Place, SEQUENCER};
use crate::params::Params;
use crate::port::{Input, Notice, NoticeFault, Output, PeerFault, ProcessEvent, Rejection};
use crate::processes::Processes;
use crate::stability::Stability;

/// Where the daemon is on its way through configurations.
#[derive(Debug)]
enum Phase {
    /// Before the first configuration.
    Starting,
    /// At work.
    Steady,
    /// Stopped for the start change `start`; its view is still to come.
    Changing { start: StartId, proposed: BTreeSet<DaemonId> },
    /// The view is here; some of the syncs that it names are not.
    Viewed { view: Configuration },
    /// It is known what everybody delivers before `view`; some of it is not here.
    Agreed { view: Configuration, agreement: Agreement },
}

/// One member of configurations: the group communication end-point of a machine and its processes.
#[derive(Debug)]
pub struct Daemon {
    id: DaemonId,
    params: Params,
    phase: Phase,
    last_start: StartId,
    links: Links,
    endpoint: Endpoint,
    order: Order,
    stability: Stability,
    classes: Classes,
    groups: Groups,
    processes: Processes,
    /// When to tell peers what was delivered and received, if there is news.
    news_due: Option<Time>,
}

/// How full the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Own payloads that some member has not delivered.
    pub unstable: usize,
    /// Their bytes, roughly.
    pub unstable_bytes: usize,
    /// Requests of processes that are not cast yet.
    pub waiting: usize,
    /// Entries held, of all members.
    pub held: usize,
    /// Frames that peers have not acknowledged.
    pub unacknowledged: usize,
    /// Entries that came after their configuration was over here, since the start.
    pub late: u64,
}

impl Daemon {
    /// The daemon `id`, before its first configuration.
    ///
    /// # Panics
    /// If `params` do not pass [`Params::check`].
    pub fn new(id: DaemonId, params: Params) -> Daemon {
        if let Err(error) = params.check() {
            panic!("{error}");
        }
        Daemon {
            id,
            params,
            phase: Phase::Starting,
            last_start: StartId::new(id.boot(), 0),
            links: Links::new(id.name(), params.peers_max),
            endpoint: Endpoint::new(id, &params),
            order: Order::new(1),
            stability: Stability::new(1, &params),
            classes: Classes::new(id),
            groups: Groups::new(id),
            processes: Processes::new(&params),
            news_due: None,
        }
    }

    /// Who this is.
    pub fn id(&self) -> DaemonId {
        self.id
    }

    /// The configuration that the daemon is in.
    pub fn configuration(&self) -> &Configuration {
        self.endpoint.configuration()
    }

    /// Where the daemon is on its way to the next configuration, in a word.
    pub fn phase(&self) -> &'static str {
        match &self.phase {
            Phase::Starting => "starting",
            Phase::Steady if self.classes.exchanging() => "exchanging",
            Phase::Steady => "steady",
            Phase::Changing { .. } => "changing",
            Phase::Viewed { .. } => "viewed",
            Phase::Agreed { .. } => "agreed",
        }
    }

    /// The group table: every group with its members.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, &[Arc<Member>])> {
        self.groups.iter()
    }

    /// How full the daemon is.
    pub fn windows(&self) -> Windows {
        let (unstable, unstable_bytes) = self.stability.in_window();
        Windows {
            unstable,
            unstable_bytes,
            waiting: self.processes.waiting(),
            held: self.endpoint.streams().iter().map(|stream| stream.held()).sum(),
            unacknowledged: self.links.kept(),
            late: self.endpoint.late(),
        }
    }
}

impl Machine for Daemon {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Membership(Notice::StartChange { start, proposed }) => {
                let set: BTreeSet<DaemonId> = proposed.keys().copied().collect();
                match self.check_start_change(start, &set) {
                    Ok(()) => {
                        self.place_and_send(out);
                        let mut reliable: BTreeSet<DaemonId> = self.endpoint.others().collect();
                        reliable.extend(set.iter().filter(|daemon| **daemon != self.id));
                        self.links.follow(&reliable, &proposed, out);
                        self.stop(start, set, out);
                    }
                    Err(fault) => out.push(Output::RefuseNotice(fault)),
                }
            }
            Input::Membership(Notice::View(view)) => match self.check_view(&view) {
                Ok(()) => {
                    let configuration = view.clone();
                    self.trace(out, |daemon| Event::MembershipView { daemon, configuration });
                    self.phase = Phase::Viewed { view };
                }
                Err(fault) => out.push(Output::RefuseNotice(fault)),
            },

            Input::LinkUp { peer, epoch, received } => {
                let result = self.links.up(peer, epoch, received, out);
                refuse(peer, result, out);
            }
            Input::LinkDown { peer, epoch } => self.links.down(peer, epoch),
            Input::Acked { peer, epoch, received } => {
                refuse(peer, self.links.acknowledged(peer, epoch, received), out);
            }
            Input::Opened { from, epoch } => match self.links.opened(from, epoch, out) {
                Ok(Some(dead)) => self.endpoint.forget(dead),
                Ok(None) => {}
                Err(fault) => out.push(Output::Refuse { from, fault }),
            },
            Input::Frame { from, epoch, number, message } => match self.links.accept(from, epoch, number) {
                Ok(Frame::Next) => refuse(from, self.receive(from, message), out),
                Ok(Frame::Stale) => {}
                Err(fault) => out.push(Output::Refuse { from, fault }),
            },

            Input::Attach { connection, name } => reject(connection, self.attach(connection, name, out), out),
            Input::Detach { connection } => reject(connection, self.detach(connection, out), out),
            Input::Join { connection, groups } => reject(connection, self.join(connection, groups), out),
            Input::Leave { connection, groups } => {
                reject(connection, self.processes.leave(connection, groups), out);
            }
            Input::Multicast { connection, group, payload } => {
                reject(connection, self.multicast(connection, group, payload, out), out);
            }
        }
        self.advance(now, out);
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        self.place_and_send(out);
        if self.news_due.is_some_and(|due| due <= now) {
            self.news_due = None;
            self.tell_progress(out);
            self.links.acknowledge(1, out);
        } else {
            if self.stability.pressing() {
                self.tell_progress(out);
            }
            self.links.acknowledge(self.params.frames_per_ack, out);
        }
        self.advance(now, out);
    }

    fn next_wake(&self) -> Option<(Time, &'static str)> {
        if self.steady() && (self.endpoint.unsent() || self.may_place()) {
            return Some((Time::ZERO, "send"));
        }
        if self.stability.pressing() || self.links.unacknowledged() >= self.params.frames_per_ack {
            return Some((Time::ZERO, "acknowledge"));
        }
        self.news_due.map(|due| (due, "tell progress"))
    }
}

/// The way from configuration to configuration.
impl Daemon {
    fn steady(&self) -> bool {
        matches!(self.phase, Phase::Steady)
    }

    fn check_start_change(&self, start: StartId, proposed: &BTreeSet<DaemonId>) -> Result<(), NoticeFault> {
        if start.boot() != self.id.boot() || start <= self.last_start {
            return Err(NoticeFault::OutOfDateStart { start });
        }
        if !proposed.contains(&self.id) {
            return Err(NoticeFault::Excluded);
        }
        Ok(())
    }

    fn check_view(&self, view: &Configuration) -> Result<(), NoticeFault> {
        let Phase::Changing { start, proposed } = &self.phase else {
            return Err(NoticeFault::OutOfDateView);
        };
        match view.members.get(&self.id) {
            None => return Err(NoticeFault::Excluded),
            Some(named) if named != start => return Err(NoticeFault::OutOfDateView),
            Some(_) => {}
        }
        if view.id <= self.endpoint.configuration().id {
            return Err(NoticeFault::OutOfDateView);
        }
        if !view.members.keys().all(|member| proposed.contains(member)) {
            return Err(NoticeFault::UnproposedMember);
        }
        Ok(())
    }

    /// Stops, and tells the proposed what we have.
    fn stop(&mut self, start: StartId, proposed: BTreeSet<DaemonId>, out: &mut Vec<Output>) {
        let set = &proposed;
        self.trace(out, |daemon| Event::StartChange { daemon, start, proposed: set.clone() });
        for (peer, message) in self.endpoint.stop(start, &proposed) {
            self.links.send(peer, message, out);
        }
        self.last_start = start;
        self.phase = Phase::Changing { start, proposed };
    }

    /// Goes as far as what is here allows.
    fn advance(&mut self, now: Time, out: &mut Vec<Output>) {
        if let Phase::Viewed { view } = &self.phase
            && let Some(agreement) = self.endpoint.agree(view)
        {
            for (peer, message) in self.endpoint.forwards(&agreement, self.params.batch_bytes) {
                self.links.send(peer, Arc::new(message), out);
            }
            self.phase = Phase::Agreed { view: view.clone(), agreement };
        }
        if let Phase::Agreed { agreement, .. } = &self.phase
            && self.endpoint.complete(agreement)
            && let Phase::Agreed { view, agreement } = mem::replace(&mut self.phase, Phase::Steady)
        {
            self.install(view, &agreement, out);
        }
        if self.steady() {
            self.deliver_ready(out);
            self.cast_waiting(out);
        }
        out.extend(self.processes.throttle().map(Output::Throttle));
        let news = self.endpoint.members().len() > 1 && self.stability.news();
        if self.news_due.is_none() && (news || self.links.unacknowledged() > 0) {
            self.news_due = Some(now + self.params.progress_period);
        }
    }

    /// Delivers what is left of the configuration and moves into `view`: one indivisible step [KK:install].
    fn install(&mut self, view: Configuration, agreement: &Agreement, out: &mut Vec<Output>) {
        let ranks = agreement.transitional();
        self.endpoint.cut(agreement);
        let order = mem::replace(&mut self.order, Order::new(view.members.len()));
        for place in order.close(self.endpoint.streams(), &ranks, fingerprint(&view)) {
            self.deliver(place, out);
        }

        let came_along = |rank: &Rank| self.endpoint.members().get(rank.index()).copied();
        let transitional: BTreeSet<DaemonId> = ranks.iter().filter_map(came_along).collect();
        let previous = self.endpoint.configuration().id;
        for (from, fault) in self.endpoint.install(view.clone()) {
            out.push(Output::Refuse { from, fault });
        }
        self.stability = Stability::new(view.members.len(), &self.params);
        let mut reliable = view.set();
        reliable.remove(&self.id);
        self.links.follow(&reliable, &[].into(), out);
        let (configuration, set) = (&view, &transitional);
        self.trace(out, |daemon| Event::Install {
            daemon,
            configuration: configuration.clone(),
            previous,
            transitional: set.clone(),
        });
        out.push(Output::Installed { configuration: view.clone(), transitional: transitional.clone() });
        self.install_tables(&view, &transitional, out);
    }

    /// Takes out of the tables who did not come along, and begins an exchange if others have other tables.
    fn install_tables(
        &mut self,
        view: &Configuration,
        transitional: &BTreeSet<DaemonId>,
        out: &mut Vec<Output>,
    ) {
        let class = self.classes.install(self.endpoint.members(), transitional);
        let Some(speaker) = class.first().copied() else { return };
        // Another class of this configuration may change the same group in this step: each has its own position.
        let id = GroupViewId { configuration: view.id, position: u64::from(speaker.place()) };
        let views = self.groups.keep_only(self.classes.class(), id, &self.processes);
        self.tell_views(views, out);
        if self.classes.exchanging() && speaker == self.endpoint.rank() {
            let parts = self.groups.parts(class, self.endpoint.members(), self.params.batch_bytes);
            self.classes.say(parts);
        }
    }
}

/// Inside a configuration.
impl Daemon {
    /// A peer's message. A refused one has no effect.
    fn receive(&mut self, from: DaemonId, message: Message) -> Result<(), PeerFault> {
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
            Message::Progress { configuration, delivered, stable } => {
                // Before we are in a configuration nobody can have delivered anything of ours in it, so nothing is
                // lost by passing over what comes early.
                if configuration != self.endpoint.configuration().id {
                    return Ok(());
                }
                let member = self.endpoint.rank_of(from).ok_or(PeerFault::NotAMember)?;
                let reached = match delivered.get(self.endpoint.rank().index()) {
                    Some(reached) if delivered.len() == self.endpoint.members().len() => *reached,
                    Some(_) | None => return Err(PeerFault::WrongProgress),
                };
                if reached > self.endpoint.own().end() {
                    return Err(PeerFault::WrongProgress);
                }
                self.forget_stable(from, stable)?;
                self.stability.reached(member, reached);
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
    fn may_place(&self) -> bool {
        self.endpoint.rank() == SEQUENCER
            && self.stability.admits_record()
            && self.order.unrecorded(self.endpoint.streams())
    }

    /// Places what has no place yet, if that is our part, and hands what we cast to the links.
    fn place_and_send(&mut self, out: &mut Vec<Output>) {
        if !self.steady() {
            return;
        }
        if self.may_place() {
            let record = Entry::Order(self.order.record(self.endpoint.streams()));
            self.stability.cast(&record);
            self.endpoint.append(record);
        }
        let others: Vec<DaemonId> = self.endpoint.others().collect();
        while self.endpoint.unsent() {
            let stable = self.stability.announce();
            let Some(batch) = self.endpoint.next_batch(stable, self.params.batch_bytes) else { break };
            let batch = Arc::new(batch);
            for peer in &others {
                self.links.send(*peer, Arc::clone(&batch), out);
            }
        }
        self.deliver_ready(out);
    }

    /// Tells the other members what we have delivered.
    fn tell_progress(&mut self, out: &mut Vec<Output>) {
        if !self.stability.news() {
            return;
        }
        let stable = self.stability.announce();
        let configuration = self.endpoint.configuration().id;
        let message = Message::Progress { configuration, delivered: self.stability.tell(), stable };
        let message = Arc::new(message);
        for peer in self.endpoint.others() {
            self.links.send(peer, Arc::clone(&message), out);
        }
    }

    /// Casts what waits, as far as the window goes. During an exchange of tables, only our table.
    fn cast_waiting(&mut self, out: &mut Vec<Output>) {
        while self.stability.admits_payload() {
            let next = if self.classes.exchanging() {
                self.classes.next_part().map(Payload::Table)
            } else {
                self.processes.pop()
            };
            let Some(payload) = next else { break };
            self.cast(payload, out);
        }
    }

    fn cast(&mut self, payload: Payload, out: &mut Vec<Output>) {
        let index = self.stability.payloads_cast() + 1;
        let configuration = self.endpoint.configuration().id;
        self.trace(out, |daemon| Event::Cast { daemon, configuration, index, digest: payload.digest() });
        let entry = Entry::Payload(payload);
        self.stability.cast(&entry);
        self.endpoint.append(entry);
    }

    /// Delivers what has its place and is here, and forgets what everybody has delivered.
    fn deliver_ready(&mut self, out: &mut Vec<Output>) {
        while let Some(place) = self.order.next(self.endpoint.streams()) {
            self.deliver(place, out);
        }
        for rank in Rank::all(self.endpoint.members().len()) {
            let delivered = self.order.delivered(rank, self.endpoint.streams());
            self.stability.have(rank, delivered);
        }
        let own = self.endpoint.rank();
        let stable = self.stability.stable(own);
        while let Some(entry) = self.endpoint.forget_first(own, stable) {
            self.stability.forgotten(&entry);
        }
    }

    /// Delivers the payload at `place`.
    fn deliver(&mut self, place: Place, out: &mut Vec<Output>) {
        let Some(Entry::Payload(payload)) = self.endpoint.streams()[place.origin.index()].get(place.index)
        else {
            unreachable!("the order places payloads that are held");
        };
        let payload = payload.clone();
        let origin = self.endpoint.members()[place.origin.index()];
        let configuration = self.endpoint.configuration().id;
        self.stability.delivered(payload.cost());
        let index = place.payload;
        self.trace(out, |daemon| {
            let digest = payload.digest();
            Event::Deliver { daemon, configuration, origin, index, digest }
        });
        let id = GroupViewId { configuration, position: place.position };
        if let Err(fault) = self.apply(place.origin, payload, id, out) {
            out.push(Output::Refuse { from: origin, fault });
        }
    }

    /// What a delivered payload does to the groups.
    fn apply(
        &mut self,
        sender: Rank,
        payload: Payload,
        id: GroupViewId,
        out: &mut Vec<Output>,
    ) -> Result<(), PeerFault> {
        let origin = self.endpoint.members()[sender.index()];
        let of = |connection| ProcessId::new(origin, connection);
        let views = match payload {
            Payload::Table(table) => match self.classes.told(sender, table, self.endpoint.members())? {
                Told::Merge(rows) => self.merge(&rows, id),
                Told::Wait => return Ok(()),
            },
            // Whoever sent it had not heard all tables, and was not to send it.
            Payload::Multicast { .. }
            | Payload::Join { .. }
            | Payload::Leave { .. }
            | Payload::Gone { .. }
                if self.classes.exchanging() =>
            {
                return Err(PeerFault::WrongTable);
            }
            Payload::Multicast { connection, number, group, bytes } => {
                self.give(MessageId::new(of(connection), number), group, bytes, out);
                return Ok(());
            }
            Payload::Join { connection, name, groups } => {
                let member = Member { process: of(connection), name };
                self.groups.join(member, &groups, id, &self.processes)
            }
            Payload::Leave { connection, groups } => {
                self.groups.leave(of(connection), &groups, id, &self.processes)
            }
            Payload::Gone { connection } => self.groups.gone(of(connection), id, &self.processes),
        };
        self.tell_views(views, out);
        Ok(())
    }

    /// Takes in what other classes know.
    fn merge(&mut self, parts: &[Arc<[Row]>], id: GroupViewId) -> Views {
        let members = self.endpoint.members();
        let in_words = |row: &Row| {
            let daemon = *members.get(row.daemon.index())?;
            let process = ProcessId::new(daemon, row.connection);
            Some((Member { process, name: row.name }, Arc::clone(&row.groups)))
        };
        let rows = parts.iter().flat_map(|part| part.iter()).filter_map(in_words);
        self.groups.merge(rows, id, &self.processes)
    }
}

/// Towards the processes.
impl Daemon {
    fn attach(&mut self, connection: u32, name: Name, out: &mut Vec<Output>) -> Result<(), Rejection> {
        self.processes.attach(connection, name)?;
        self.trace(out, |daemon| Event::Attach { process: ProcessId::new(daemon, connection), name });
        Ok(())
    }

    fn detach(&mut self, connection: u32, out: &mut Vec<Output>) -> Result<(), Rejection> {
        self.processes.detach(connection)?;
        self.groups.detach(connection);
        self.trace(out, |daemon| Event::Detach { process: ProcessId::new(daemon, connection) });
        Ok(())
    }

    fn join(&mut self, connection: u32, groups: Vec<GroupName>) -> Result<(), Rejection> {
        let max = self.params.groups_per_process_max;
        if self.groups.count_of(ProcessId::new(self.id, connection)) + groups.len() > max {
            return Err(Rejection::TooManyGroups { max });
        }
        self.processes.join(connection, groups)
    }

    fn multicast(
        &mut self,
        connection: u32,
        group: GroupName,
        payload: Bytes,
        out: &mut Vec<Output>,
    ) -> Result<(), Rejection> {
        let traced = self.params.trace.then(|| (group.clone(), Digest::of(&payload)));
        let number = self.processes.multicast(connection, group, payload)?;
        if let Some((group, digest)) = traced {
            self.trace(out, |daemon| {
                let process = ProcessId::new(daemon, connection);
                Event::GroupSend { process, group, message: MessageId::new(process, number), digest }
            });
        }
        Ok(())
    }

    /// Gives a message to the members that are here.
    fn give(&self, id: MessageId, group: GroupName, payload: Bytes, out: &mut Vec<Output>) {
        let Some((local, view)) = self.groups.audience(&group) else { return };
        for connection in local.iter() {
            self.trace(out, |daemon| Event::GroupDeliver {
                process: ProcessId::new(daemon, *connection),
                group: group.clone(),
                message: id,
                view,
                digest: Digest::of(&payload),
            });
        }
        let event = ProcessEvent::Message { group, id, view, payload };
        out.push(Output::Deliver { connections: Arc::clone(local), event });
    }

    fn tell_views(&self, views: Views, out: &mut Vec<Output>) {
        for (connection, views) in views {
            for view in &views {
                self.trace(out, |daemon| Event::GroupInstall {
                    process: ProcessId::new(daemon, connection),
                    view: (**view).clone(),
                });
            }
            let event = ProcessEvent::Views(views);
            out.push(Output::Deliver { connections: [connection].into(), event });
        }
    }

    fn trace(&self, out: &mut Vec<Output>, event: impl FnOnce(DaemonId) -> Event) {
        if self.params.trace {
            out.push(Output::Trace(event(self.id)));
        }
    }
}

/// Tells configurations apart in the positions of what only their way in has placed.
fn fingerprint(view: &Configuration) -> u32 {
    let digest = view.id.digest();
    (digest >> 32) as u32 ^ digest as u32 ^ view.id.counter() as u32
}

fn refuse(from: DaemonId, result: Result<(), PeerFault>, out: &mut Vec<Output>) {
    out.extend(result.err().map(|fault| Output::Refuse { from, fault }));
}

fn reject(connection: u32, result: Result<(), Rejection>, out: &mut Vec<Output>) {
    out.extend(result.err().map(|reason| Output::Rejected { connection, reason }));
}
