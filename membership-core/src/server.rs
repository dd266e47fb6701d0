//! A membership server: turns connections into network events, agrees on them with the other servers, and tells the
//! daemons that are attached to it.
//!
//! Invariant: a daemon is told a configuration only if nothing that this server knows of has changed since the start
//! change before it [Moshe:no-obsolete].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use model::{Address, ConfigurationId, DaemonId, Machine, ServerId, StartId, Time};

use crate::agreement::Agreement;
use crate::attachments::Attachments;
use crate::message::{CLAIM_MAX, Fault, Kind, Message, Proposal, Row};
use crate::network::{Census, Network, Seat};
use crate::params::Params;
use crate::port::{Input, Notice, Output, Rejection};

/// A membership server.
#[derive(Clone, Hash)]
pub struct Server {
    id: ServerId,
    params: Params,
    attachments: Attachments,
    network: Network,
    agreement: Agreement,
    /// The daemons of the agreement's target.
    seats: BTreeMap<DaemonId, Seat>,
    /// Since when the network differs from the agreement's target: joins wait for more joins.
    changed: Option<Time>,
}

impl Machine for Server {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Attach { daemon, address, last_start, last_configuration } => {
                let after = last_start.unwrap_or(StartId::new(daemon.boot(), 0));
                let counter = last_configuration.map_or(0, ConfigurationId::counter);
                match self.admit(daemon, after, counter) {
                    Ok(()) => {
                        self.agreement.raise_counter(counter);
                        self.attach(now, daemon, address, after, out);
                    }
                    Err(reason) => {
                        out.push(Output::Rejected { daemon, reason });
                        self.detach(now, daemon, out);
                    }
                }
            }
            Input::Detach { daemon } => self.detach(now, daemon, out),
            Input::PeerUp { server } => self.peer_up(now, server, out),
            Input::PeerDown { server } => {
                self.network.down(server);
                self.look_around(now, out);
            }
            Input::Peer { from, message } => {
                let accepted = match message {
                    Message::Row(row) => self.receive_row(now, from, row, out),
                    Message::Proposal(proposal) => self.receive_proposal(now, from, proposal, out),
                };
                if let Err(fault) = accepted {
                    out.push(Output::Refuse { from, fault });
                }
            }
        }
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.changed.is_some() {
            self.look_around(now, out);
        }
    }

    fn next_wake(&self) -> Option<(Time, &'static str)> {
        let (hold, reason) = self.hold();
        self.changed.map(|since| (since + hold, reason))
    }
}

impl Server {
    /// A server without links and daemons.
    pub fn new(id: ServerId, params: Params) -> Server {
        Server {
            id,
            params,
            attachments: Attachments::default(),
            network: Network::default(),
            agreement: Agreement::new(id),
            seats: BTreeMap::new(),
            changed: None,
        }
    }

    /// What speaks against attaching `daemon`.
    fn admit(&self, daemon: DaemonId, after: StartId, counter: u64) -> Result<(), Rejection> {
        if after.boot() != daemon.boot() {
            return Err(Rejection::ForeignStart);
        }
        if after.number().max(counter) >= CLAIM_MAX {
            return Err(Rejection::OutOfRange);
        }
        let census = self.census();
        let max = self.params.daemons_max;
        let Some((by, seat)) = census.named(daemon.name()) else {
            let is_full = census.seats.len() >= max;
            return if is_full { Err(Rejection::TooManyDaemons { max }) } else { Ok(()) };
        };
        let is_late = if seat.server == self.id {
            by.boot() > daemon.boot()
        } else {
            seat.claim(by) > (daemon.boot(), after, self.id)
        };
        if is_late { Err(Rejection::Superseded { by, at: seat.server }) } else { Ok(()) }
    }

    fn attach(
        &mut self,
        now: Time,
        daemon: DaemonId,
        address: Address,
        after: StartId,
        out: &mut Vec<Output>,
    ) {
        if let Some(old) = self.attachments.attach(daemon, address, after).filter(|old| *old != daemon) {
            let reason = Rejection::Superseded { by: daemon, at: self.id };
            out.push(Output::Rejected { daemon: old, reason });
        }
        self.announce(now, out);
    }

    fn detach(&mut self, now: Time, daemon: DaemonId, out: &mut Vec<Output>) {
        if self.attachments.detach(daemon) {
            self.announce(now, out);
        }
    }

    fn peer_up(&mut self, now: Time, server: ServerId, out: &mut Vec<Output>) {
        if !self.network.up(server) {
            out.push(Output::Refuse { from: server, fault: Fault::NotUp });
            return;
        }
        self.agreement.forget_before(server);
        out.push(Output::Send { to: server, message: Message::Row(self.attachments.row()) });
        if let Some(proposal) = self.agreement.proposal_for(server) {
            out.push(Output::Send { to: server, message: Message::Proposal(proposal.clone()) });
        }
        self.look_around(now, out);
    }

    fn receive_row(
        &mut self,
        now: Time,
        from: ServerId,
        row: Row,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        if !self.network.is_up(from) {
            return Err(Fault::NotUp);
        }
        row.check(self.params.daemons_max)?;
        if self.network.announce(from, row) {
            self.give_up_seats(now, out);
            self.look_around(now, out);
        }
        Ok(())
    }

    fn receive_proposal(
        &mut self,
        now: Time,
        from: ServerId,
        proposal: Proposal,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let row = self.network.row(from).ok_or(Fault::NotUp)?;
        proposal.check(from, self.id, row)?;
        if !self.agreement.store(from, proposal) {
            return Ok(());
        }
        if self.changed.is_some() && self.look_around(now, out) == Change::Acted {
            return Ok(());
        }
        match self.agreement.answer(from) {
            Some(kind) => self.propose(kind, out),
            None => self.conclude(out),
        }
        Ok(())
    }

    /// Detaches daemons that another server has the better claim to.
    fn give_up_seats(&mut self, now: Time, out: &mut Vec<Output>) {
        let census = self.census();
        let mut lost = false;
        for daemon in self.attachments.row().daemons.into_keys() {
            let Some((by, seat)) = census.named(daemon.name()).filter(|(_, seat)| seat.server != self.id)
            else {
                continue;
            };
            lost |= self.attachments.detach(daemon);
            out.push(Output::Rejected { daemon, reason: Rejection::Superseded { by, at: seat.server } });
        }
        if lost {
            self.announce(now, out);
        }
    }

    /// Tells the other servers who is attached here.
    fn announce(&mut self, now: Time, out: &mut Vec<Output>) {
        let row = self.attachments.row();
        let to_each =
            self.network.servers().map(|to| Output::Send { to, message: Message::Row(row.clone()) });
        out.extend(to_each);
        self.look_around(now, out);
    }

    /// Looks whether the network differs from the agreement's target, and if so, acts or waits for more.
    fn look_around(&mut self, now: Time, out: &mut Vec<Output>) -> Change {
        let census = self.census();
        if census.target == *self.agreement.target() {
            self.changed = None;
            return Change::None;
        }
        let since = *self.changed.get_or_insert(now);
        if self.may_wait(&census) && now < since + self.hold().0 {
            return Change::Waits;
        }
        self.changed = None;
        self.seats = census.seats;
        let kind = self.agreement.aim(census.target);
        self.propose(kind, out);
        Change::Acted
    }

    /// A change may wait if it takes nobody away, and nobody waits for this server to join in.
    fn may_wait(&self, census: &Census) -> bool {
        let keeps_servers = self.agreement.target().keys().all(|server| census.target.contains_key(server));
        let keeps_seats = self.seats.iter().all(|(daemon, seat)| census.seats.get(daemon) == Some(seat));
        keeps_servers && keeps_seats && !self.agreement.is_proposed(&census.target)
    }

    /// How long a change that may wait does so, and what for.
    fn hold(&self) -> (Duration, &'static str) {
        // A counter that is not from here is from the daemons: they were in a configuration before.
        let comes_after_another = self.agreement.is_new() && self.agreement.counter() > 0;
        if comes_after_another && self.network.is_empty() {
            (self.params.regather, "daemons come back")
        } else {
            (self.params.settle, "joins settle")
        }
    }

    fn propose(&mut self, kind: Kind, out: &mut Vec<Output>) {
        let starts = self.attachments.start(&self.own());
        let proposed = self.addresses();
        for (daemon, start) in &starts {
            let notice = Notice::StartChange { start: *start, proposed: proposed.clone() };
            out.push(Output::Notify { daemon: *daemon, notice });
        }
        let proposal = self.agreement.propose(kind, starts).clone();
        for to in proposal.target.keys().filter(|server| **server != self.id) {
            out.push(Output::Send { to: *to, message: Message::Proposal(proposal.clone()) });
        }
        self.conclude(out);
    }

    fn conclude(&mut self, out: &mut Vec<Output>) {
        let Some(configuration) = self.agreement.conclude() else { return };
        let agreed = Output::Agreed { configuration: configuration.clone(), addresses: self.addresses() };
        out.push(agreed);
        for daemon in self.own() {
            out.push(Output::Notify { daemon, notice: Notice::View(configuration.clone()) });
        }
    }

    fn census(&self) -> Census {
        self.network.census(self.id, self.attachments.row())
    }

    /// The daemons of the target that are attached here.
    fn own(&self) -> BTreeSet<DaemonId> {
        let own = self.seats.iter().filter(|(_, seat)| seat.server == self.id);
        own.map(|(daemon, _)| *daemon).collect()
    }

    fn addresses(&self) -> BTreeMap<DaemonId, Address> {
        self.seats.iter().map(|(daemon, seat)| (*daemon, seat.attachment.address.clone())).collect()
    }
}

/// What [`Server::look_around`] found.
#[derive(PartialEq, Eq)]
enum Change {
    None,
    Waits,
    Acted,
}
