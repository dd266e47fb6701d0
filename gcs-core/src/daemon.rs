//! The daemon: one machine, in which the layers meet. This file holds the control flow and the way from configuration
//! to configuration; [`work`] is what happens inside one, [`local`] the side towards processes.
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

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use model::trace::Event;
use model::{
    Address, Configuration, DaemonId, GroupName, GroupViewId, Level, Machine, Member, StartId, Time,
};

use crate::detection::Detection;
use crate::endpoint::{Agreement, Endpoint};
use crate::exchange::Classes;
use crate::fault::{NoticeFault, PeerFault, Rejection};
use crate::groups::Groups;
use crate::link::{Frame, Links};
use crate::message::Rank;
use crate::order::Order;
use crate::params::Params;
use crate::port::{Input, Notice, Output};
use crate::processes::Processes;
use crate::safe::Safe;
use crate::stability::Stability;
use crate::strict::Strict;
use crate::transfer::Transfers;

mod blocks;
mod local;
mod work;

use blocks::Wanted;

/// Where the daemon is on its way through configurations.
#[derive(Clone, Debug, Hash)]
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
    /// In the one step into the next configuration.
    Installing,
}

/// One member of configurations: the group communication end-point of a machine and its processes.
#[derive(Clone, Debug, Hash)]
pub struct Daemon {
    id: DaemonId,
    params: Params,
    phase: Phase,
    last_start: StartId,
    links: Links,
    detection: Detection,
    endpoint: Endpoint,
    order: Order,
    stability: Stability,
    safe: Safe,
    strict: Strict,
    transfers: Transfers,
    /// The start change that waits for members of strict groups to stop. Only while steady.
    wanted: Option<Wanted>,
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
            detection: Detection::new(params.detection.as_ref()),
            endpoint: Endpoint::new(id, &params),
            order: Order::new(1),
            stability: Stability::new(1, &params),
            safe: Safe::new(1),
            strict: Strict::default(),
            transfers: Transfers::default(),
            wanted: None,
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

    /// The last start change that the daemon was told of: for a membership server that it turns to.
    pub fn last_start(&self) -> Option<StartId> {
        (self.last_start.number() > 0).then_some(self.last_start)
    }

    /// The configuration that the daemon is in.
    pub fn configuration(&self) -> &Configuration {
        self.endpoint.configuration()
    }

    /// Where the daemon is on its way to the next configuration, in a word.
    pub fn phase(&self) -> &'static str {
        match &self.phase {
            Phase::Starting => "starting",
            Phase::Steady if self.wanted.is_some() => "blocking",
            Phase::Steady if self.classes.exchanging() => "exchanging",
            Phase::Steady => "steady",
            Phase::Changing { .. } => "changing",
            Phase::Viewed { .. } => "viewed",
            Phase::Agreed { .. } => "agreed",
            Phase::Installing => "installing",
        }
    }

    /// The group table: every group with its members.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, &[Arc<Member>])> {
        self.groups.iter()
    }

    /// The view of `group` that its members were told last, if it has any.
    pub fn view_of(&self, group: &GroupName) -> Option<GroupViewId> {
        self.groups.view_of(group)
    }

    /// Whether the daemon holds payloads that have no place in the order yet.
    pub fn holds_unplaced(&self) -> bool {
        self.order.leaves_out(self.endpoint.streams())
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
        let first = out.len();
        match input {
            Input::Membership(Notice::StartChange { start, proposed }) => {
                let result = self.start_change(start, proposed, out);
                out.extend(result.err().map(Output::RefuseNotice));
            }
            Input::Membership(Notice::View(view)) => {
                let result = self.view(view, out);
                out.extend(result.err().map(Output::RefuseNotice));
            }

            Input::Membership(Notice::Secondary) => {
                if self.endpoint.give_up_primary() {
                    self.groups.set_primary(false);
                    self.tell_primary(self.processes.connections().collect(), out);
                }
            }
            Input::LinkUp { peer, epoch, received } => {
                if self.links.leads(peer, epoch) {
                    self.detection.up(peer, now);
                }
                let result = self.links.up(peer, epoch, received, out);
                refuse(peer, result, out);
            }
            Input::LinkDown { peer, epoch } => {
                if self.links.leads(peer, epoch) {
                    self.detection.down(peer, now);
                }
                self.links.down(peer, epoch);
            }
            Input::Acked { peer, epoch, received } => {
                if self.links.leads(peer, epoch) {
                    self.detection.heard(peer, now);
                }
                refuse(peer, self.links.acknowledged(peer, epoch, received), out);
            }
            Input::Opened { from, epoch } => match self.links.opened(from, epoch, out) {
                Ok(Some(dead)) => {
                    self.detection.bury(dead);
                    self.endpoint.forget(dead);
                }
                Ok(None) => {}
                Err(fault) => out.push(Output::Refuse { from, fault }),
            },
            Input::Closed { from, epoch } => {
                if self.links.is_open(from, epoch) {
                    self.detection.closed(from);
                }
            }
            Input::CaughtUp => self.detection.caught_up(&self.links, now, out),
            Input::Probed { peer, answer } => self.detection.probed(peer, answer, &self.links, now),
            Input::Frame { from, epoch, number, message } => match self.links.accept(from, epoch, number) {
                Ok(Frame::Next) => refuse(from, self.receive(from, message), out),
                Ok(Frame::Stale) => {}
                Err(fault) => out.push(Output::Refuse { from, fault }),
            },

            Input::Attach { connection, name } => reject(connection, self.attach(connection, name, out), out),
            Input::Detach { connection } => reject(connection, self.detach(connection, out), out),
            Input::Join { connection, groups } => reject(connection, self.join(connection, groups), out),
            Input::Leave { connection, groups } => {
                reject(connection, self.leave(connection, groups), out);
            }
            Input::Blocked { connection, groups } => {
                reject(connection, self.blocked(connection, &groups), out);
            }
            Input::State { connection, group, view, part, last } => {
                reject(connection, self.state(connection, group, view, part, last), out);
            }
            Input::Watch { connection, prefix } => {
                reject(connection, self.watch(connection, prefix, out), out);
            }
            Input::Multicast { connection, group, payload, terms } => {
                reject(connection, self.multicast(connection, group, payload, terms, out), out);
            }
        }
        self.advance(now, out);
        self.detection.follow(first, &self.links, now, out);
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        let first = out.len();
        self.detection.wake(&mut self.links, now, out);
        self.evict_overdue(now, out);
        self.place_and_send(out);
        if self.news_due.is_some_and(|due| due <= now) {
            self.news_due = None;
            self.tell_progress(out);
            self.links.acknowledge(1, out);
        } else {
            if self.pressing() {
                self.tell_progress(out);
            }
            self.links.acknowledge(self.params.frames_per_ack, out);
        }
        self.advance(now, out);
        self.detection.follow(first, &self.links, now, out);
    }

    fn next_wake(&self) -> Option<(Time, &'static str)> {
        if self.steady() && (self.endpoint.unsent() || self.may_place()) {
            return Some((Time::ZERO, "send"));
        }
        if self.pressing() || self.links.unacknowledged() >= self.params.frames_per_ack {
            return Some((Time::ZERO, "acknowledge"));
        }
        let news = self.news_due.map(|due| (due, "tell progress"));
        let evict = self.strict.next_due().map(|due| (due, "evict"));
        news.into_iter().chain(evict).chain(self.detection.next_wake()).min()
    }
}

/// The way from configuration to configuration.
impl Daemon {
    fn steady(&self) -> bool {
        matches!(self.phase, Phase::Steady)
    }

    /// Takes a start change: to stop for it at once, or as soon as the members of strict groups have stopped.
    fn start_change(
        &mut self,
        start: StartId,
        proposed: BTreeMap<DaemonId, Address>,
        out: &mut Vec<Output>,
    ) -> Result<(), NoticeFault> {
        if start.boot() != self.id.boot() || start <= self.last_start {
            return Err(NoticeFault::OutOfDateStart { start });
        }
        if !proposed.contains_key(&self.id) {
            return Err(NoticeFault::Excluded);
        }
        let set: BTreeSet<DaemonId> = proposed.keys().copied().collect();
        self.trace(out, |daemon| Event::StartChange { daemon, start, proposed: set.clone() });
        // Those we leave behind stay: they may be proposed again before the view [KK:reliable-set].
        let mut reliable: BTreeSet<DaemonId> = self.endpoint.others().chain(set.iter().copied()).collect();
        reliable.remove(&self.id);
        self.links.follow(&reliable, &proposed, out);
        self.last_start = start;
        if self.steady() {
            self.wanted = Some(Wanted { start, proposed: set, view: None });
            self.ask_all(out);
        } else {
            self.stop(start, set, out);
        }
        Ok(())
    }

    /// Stops, and tells the proposed what we have.
    fn stop(&mut self, start: StartId, proposed: BTreeSet<DaemonId>, out: &mut Vec<Output>) {
        for (peer, message) in self.endpoint.stop(start, &proposed) {
            self.links.send(peer, message, out);
        }
        self.phase = Phase::Changing { start, proposed };
    }

    /// Takes the view that ends the change.
    fn view(&mut self, view: Configuration, out: &mut Vec<Output>) -> Result<(), NoticeFault> {
        self.check_view(&view)?;
        self.trace(out, |daemon| Event::MembershipView { daemon, configuration: view.clone() });
        match &mut self.wanted {
            Some(wanted) => wanted.view = Some(view),
            None => self.phase = Phase::Viewed { view },
        }
        Ok(())
    }

    fn check_view(&self, view: &Configuration) -> Result<(), NoticeFault> {
        let (start, proposed) = match (&self.wanted, &self.phase) {
            (Some(Wanted { start, proposed, view: None }), _) => (start, proposed),
            (None, Phase::Changing { start, proposed }) => (start, proposed),
            (Some(_) | None, _) => return Err(NoticeFault::OutOfDateView),
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

    /// Goes as far as what is here allows.
    fn advance(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.wanted.is_some() {
            self.try_stop(out);
        }
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
            && let Phase::Agreed { view, agreement } = mem::replace(&mut self.phase, Phase::Installing)
        {
            self.install(view, &agreement, out);
            self.phase = Phase::Steady;
        }
        if self.steady() {
            self.deliver_ready(out);
            self.cast_waiting(out);
            self.unblock(out);
        }
        self.strict.date(now + self.params.block_timeout);
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
        for (place, payload) in self.safe.end() {
            self.deliver(place, payload, Level::Agreed, out);
        }
        let order = mem::replace(&mut self.order, Order::new(view.members.len()));
        let (places, rest) = order.close(self.endpoint.streams(), &ranks, fingerprint(&view));
        for place in places {
            self.deliver(place, self.payload(place), Level::Agreed, out);
        }

        let came_along = |rank: &Rank| self.endpoint.members().get(rank.index()).copied();
        let transitional: BTreeSet<DaemonId> = ranks.iter().filter_map(came_along).collect();
        let Configuration { id: previous, primary: was_primary, .. } = *self.endpoint.configuration();
        self.stability = Stability::new(view.members.len(), &self.params);
        self.safe = Safe::new(view.members.len());
        for (from, adopted) in self.endpoint.install(view.clone()) {
            match adopted {
                Ok((rank, position)) => self.safe.reached(rank, position),
                Err(fault) => out.push(Output::Refuse { from, fault }),
            }
        }
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
        let (configuration, transitional) = (view.clone(), transitional);
        out.push(Output::Installed { configuration, transitional: transitional.clone(), rest });
        self.tell_configuration(out);
        if view.primary != was_primary {
            self.tell_primary(self.processes.connections().collect(), out);
        }
        self.groups.set_primary(view.primary);
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
        let pending = self.strict.settle();
        for (name, pending) in &pending {
            self.depart_all(name, pending, out);
        }
        let views = self.groups.settle(pending, Some(self.classes.class()), id, &self.processes);
        self.tell_views(views, out);
        if self.classes.exchanging() && speaker == self.endpoint.rank() {
            let parts = self.groups.parts(class, self.endpoint.members(), self.params.batch_bytes);
            self.classes.say(parts);
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
