//! The daemon and strict groups: who must stop before what, and who goes on. See [`crate::strict`].

use alloc::collections::{BTreeMap, BTreeSet};
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
        let mut opened = Vec::new();
        for name in waits {
            if self.groups.has(process, &name) {
                self.strict.pardon(&name, process);
            } else if self.pend(&name, |pending| pending.joins(member)) {
                opened.push(name);
            }
        }
        self.ask(&opened, out);
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
        if process.daemon() == self.id {
            for name in names.iter().filter(|name| name.is_strict()) {
                self.strict.leave_placed(process.connection(), name);
            }
        }
        let alone =
            |name: &GroupName| self.groups.members_of(name).len() == 1 && !self.strict.is_pending(name);
        let (waits, at_once): (Vec<_>, Vec<_>) =
            names.iter().cloned().partition(|name| name.is_strict() && !alone(name));
        let mut opened = Vec::new();
        for name in waits {
            if !self.groups.has(process, &name) {
                self.strict.renounce(&name, process);
            } else if self.pend(&name, |pending| pending.leaves(process)) {
                opened.push(name);
            }
        }
        self.ask(&opened, out);
        self.depart(process, &at_once, out);
        let views = self.groups.leave(process, &at_once, id, &self.processes);
        self.tell_views(views, out);
    }

    /// A process is gone, and has stopped for good.
    pub(super) fn bury(&mut self, process: ProcessId, id: GroupViewId, out: &mut Vec<Output>) {
        self.strict.renounce_all(process);
        let (waits, at_once): (Vec<_>, Vec<_>) =
            self.groups.of(process).cloned().partition(|name| name.is_strict());
        let opened: Vec<GroupName> =
            waits.iter().filter(|name| self.pend(name, |pending| pending.leaves(process))).cloned().collect();
        self.ask(&opened, out);
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
        let last = |name: &GroupName| Some((name.clone(), self.strict.stopped(name, member)?));
        let settled: BTreeMap<GroupName, Pending> = names.iter().filter_map(last).collect();
        settled.iter().for_each(|(name, pending)| self.depart_all(name, pending, out));
        let views = self.groups.settle(settled, None, id, &self.processes);
        self.tell_views(views, out);
    }

    /// Changes a strict group once its members have stopped. Returns whether they are to be asked.
    fn pend(&mut self, name: &GroupName, change: impl FnOnce(&mut Pending)) -> bool {
        let members = self.groups.members_of(name).iter().map(|member| member.process);
        self.strict.pend(name, members, change)
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
    /// Asks the members of these groups that are attached here and free to stop. Those who are still blocked have
    /// stopped for this change, too: which is to be said, unless a change of configuration comes first and settles it.
    fn ask(&mut self, names: &[GroupName], out: &mut Vec<Output>) {
        let mut asked: BTreeMap<u32, Vec<GroupName>> = BTreeMap::new();
        let mut stopped: BTreeMap<u32, Vec<GroupName>> = BTreeMap::new();
        for name in names {
            for connection in self.groups.audience(name).iter() {
                if self.strict.ask(*connection, name) {
                    asked.entry(*connection).or_default().push(name.clone());
                } else if self.strict.is_blocked(*connection, name) && self.strict.is_pending(name) {
                    stopped.entry(*connection).or_default().push(name.clone());
                }
            }
        }
        for (connection, groups) in asked {
            self.tell_blocked(connection, groups, out);
        }
        if self.steady() && self.wanted.is_none() {
            stopped.into_iter().for_each(|(connection, groups)| self.cast_stopped(connection, groups));
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
        let strict = self.groups.strict().filter(|name| !self.strict.is_pending(name));
        let strict: Vec<GroupName> = strict.cloned().collect();
        self.ask(&strict, out);
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
        if self.processes.tied() && !self.classes.exchanging() {
            // What members have sent belongs to this configuration, whatever the window says, and even if the member
            // is gone. During an exchange of tables nothing of it waits: members are blocked.
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
