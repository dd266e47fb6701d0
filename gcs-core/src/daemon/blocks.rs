//! The daemon and strict groups: who must stop before what, and who goes on. See [`crate::strict`].

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use model::trace::Event;
use model::{Configuration, DaemonId, GroupName, GroupViewId, Member, ProcessId, StartId};

use super::{Daemon, Phase};
use crate::fault::Rejection;
use crate::message::Payload;
use crate::port::{Output, ProcessEvent};
use crate::strict::Pending;

/// A start change that waits until the members of strict groups have stopped.
#[derive(Clone, Debug, Hash)]
pub(super) struct Wanted {
    pub(super) start: StartId,
    pub(super) proposed: BTreeSet<DaemonId>,
    /// The view may come before that.
    pub(super) view: Option<Configuration>,
}

/// Groups change.
impl Daemon {
    /// A process joins groups: strict ones that have members once these have stopped.
    pub(super) fn admit(
        &mut self,
        member: Member,
        names: &[GroupName],
        id: GroupViewId,
        out: &mut Vec<Output>,
    ) {
        let process = member.process;
        let (waits, at_once): (Vec<_>, Vec<_>) =
            names.iter().cloned().partition(|name| name.is_strict() && self.groups.view_of(name).is_some());
        for name in &waits {
            if self.groups.has(process, name) {
                self.strict.pardon(name, process);
            } else {
                self.pend(name, |pending| pending.joins(member), out);
            }
        }
        let views = self.groups.join(member, &at_once, id, &self.processes);
        self.tell_views(views, out);
    }

    /// A process leaves groups by its own wish: strict ones once their members have stopped.
    pub(super) fn release(
        &mut self,
        process: ProcessId,
        names: &[GroupName],
        id: GroupViewId,
        out: &mut Vec<Output>,
    ) {
        let alone =
            |name: &GroupName| self.groups.members_of(name).len() == 1 && !self.strict.is_pending(name);
        let (waits, at_once): (Vec<_>, Vec<_>) =
            names.iter().cloned().partition(|name| name.is_strict() && !alone(name));
        for name in &waits {
            if self.groups.has(process, name) {
                self.pend(name, |pending| pending.leaves(process), out);
            } else {
                self.strict.renounce(name, process);
            }
        }
        self.depart(process, &at_once, out);
        let views = self.groups.leave(process, &at_once, id, &self.processes);
        self.tell_views(views, out);
    }

    /// A process is gone, and has stopped for good.
    pub(super) fn bury(&mut self, process: ProcessId, id: GroupViewId, out: &mut Vec<Output>) {
        self.strict.renounce_all(process);
        let (waits, at_once): (Vec<_>, Vec<_>) =
            self.groups.of(process).cloned().partition(|name| name.is_strict());
        for name in &waits {
            self.pend(name, |pending| pending.leaves(process), out);
        }
        let views = self.groups.leave(process, &at_once, id, &self.processes);
        self.tell_views(views, out);
        self.stopped(process, &waits, id, out);
    }

    /// A member has stopped in these groups.
    pub(super) fn stopped(
        &mut self,
        member: ProcessId,
        names: &[GroupName],
        id: GroupViewId,
        out: &mut Vec<Output>,
    ) {
        for name in names {
            if let Some(pending) = self.strict.stopped(name, member) {
                self.depart_all(name, &pending, out);
                let views = self.groups.settle([(name.clone(), pending)].into(), None, id, &self.processes);
                self.tell_views(views, out);
            }
        }
    }

    /// Changes a strict group once its members have stopped.
    fn pend(&mut self, name: &GroupName, change: impl FnOnce(&mut Pending), out: &mut Vec<Output>) {
        let members = self.groups.members_of(name).iter().map(|member| member.process);
        if !self.strict.pend(name, members, change) {
            return;
        }
        for connection in Arc::clone(self.groups.audience(name)).iter() {
            self.ask(*connection, name, out);
            // Who has stopped for a change of configuration that is not under way yet has stopped for this, too.
            if self.steady() && self.strict.is_blocked(*connection, name) {
                self.cast_stopped(*connection, vec![name.clone()]);
            }
        }
    }

    fn cast_stopped(&mut self, connection: u32, groups: Vec<GroupName>) {
        self.processes.push(Payload::Stopped { connection, groups: groups.into() });
    }

    /// Whoever is leaving a strict group leaves it by the step to come.
    pub(super) fn depart_all(&mut self, name: &GroupName, pending: &Pending, out: &mut Vec<Output>) {
        for process in &pending.left {
            self.depart(*process, core::slice::from_ref(name), out);
        }
    }

    /// A process that is attached here leaves groups by the step to come, and is not asked for anything there.
    fn depart(&mut self, process: ProcessId, names: &[GroupName], out: &mut Vec<Output>) {
        if process.daemon() == self.id {
            self.trace_leave(process, names, out);
            for name in names {
                self.strict.leave(process.connection(), name);
                self.transfers.leave(process.connection(), name);
            }
        }
    }
}

/// Members that are attached here stop and go on.
impl Daemon {
    /// Asks a member to stop, if it is free.
    fn ask(&mut self, connection: u32, name: &GroupName, out: &mut Vec<Output>) {
        if self.strict.ask(connection, name) {
            self.tell_blocked(connection, vec![name.clone()], out);
        }
    }

    fn tell_blocked(&self, connection: u32, groups: Vec<GroupName>, out: &mut Vec<Output>) {
        for group in &groups {
            self.trace(out, |daemon| {
                let process = ProcessId::new(daemon, connection);
                Event::GroupBlock { process, group: group.clone() }
            });
        }
        out.push(Output::Deliver { connections: [connection].into(), event: ProcessEvent::Block(groups) });
    }

    /// Asks everybody here, since the configuration is about to change.
    pub(super) fn ask_all(&mut self, out: &mut Vec<Output>) {
        let strict: Vec<GroupName> = self.groups.strict().cloned().collect();
        for name in &strict {
            for connection in Arc::clone(self.groups.audience(name)).iter() {
                self.ask(*connection, name, out);
            }
        }
    }

    /// A member says that it has stopped.
    pub(super) fn blocked(&mut self, connection: u32, groups: &[GroupName]) -> Result<(), Rejection> {
        if !self.processes.attached(connection) {
            return Err(Rejection::NotAttached);
        }
        let mut stopped = Vec::new();
        for group in groups {
            if self.strict.block(connection, group) && self.strict.is_pending(group) {
                stopped.push(group.clone());
            }
        }
        if !stopped.is_empty() {
            self.cast_stopped(connection, stopped);
        }
        Ok(())
    }

    /// Blocks a process in strict groups that it becomes a member of while a change is under way.
    pub(super) fn block_newcomer(&mut self, connection: u32, groups: Vec<GroupName>, out: &mut Vec<Output>) {
        for group in &groups {
            self.strict.ask(connection, group);
            self.strict.block(connection, group);
        }
        self.tell_blocked(connection, groups, out);
    }

    /// Whether members of strict groups may send, as far as the configuration is concerned.
    pub(super) fn settled(&self) -> bool {
        self.steady() && self.wanted.is_none() && !self.classes.exchanging()
    }

    /// Tells whoever may go on.
    pub(super) fn unblock(&mut self, out: &mut Vec<Output>) {
        if self.strict.all_free() || !self.settled() {
            return;
        }
        for (connection, groups) in self.strict.unblock() {
            for group in &groups {
                self.trace(out, |daemon| {
                    let process = ProcessId::new(daemon, connection);
                    Event::GroupUnblock { process, group: group.clone() }
                });
            }
            out.push(Output::Deliver {
                connections: [connection].into(),
                event: ProcessEvent::Unblock(groups),
            });
        }
    }

    /// Stops for the start change that waits, if everybody has stopped.
    pub(super) fn try_stop(&mut self, out: &mut Vec<Output>) {
        // What was cast goes out first, so that the cut covers it and the sync follows it on each link.
        self.place_and_send(out);
        if !self.strict.all_blocked() {
            return;
        }
        if !self.strict.all_free() && !self.classes.exchanging() {
            // What blocked members have sent belongs to this configuration, whatever the window says.
            while let Some(payload) = self.processes.pop() {
                self.cast(payload, out);
            }
            self.place_and_send(out);
        }
        let Some(Wanted { start, proposed, view }) = self.wanted.take() else { return };
        self.stop(start, proposed, out);
        if let Some(view) = view {
            self.phase = Phase::Viewed { view };
        }
    }

    /// Evicts whoever was to stop and has not.
    pub(super) fn evict_overdue(&mut self, now: model::Time, out: &mut Vec<Output>) {
        for connection in self.strict.overdue(now) {
            let reason = Rejection::BlockTimeout { after: self.params.block_timeout };
            out.push(Output::Rejected { connection, reason });
            // It is attached, or it would not be a member here.
            let detached = self.detach(connection, out);
            debug_assert!(detached.is_ok());
        }
    }
}
