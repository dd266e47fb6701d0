//! The daemon and its local processes: what they ask for, and what they are told.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use model::trace::Event;
use model::{Digest, GroupName, GroupView, GroupViewId, Level, MessageId, Name, Outcome, ProcessId, Terms};

use super::Daemon;
use crate::fault::Rejection;
use crate::groups::Views;
use crate::message::Payload;
use crate::port::{Output, ProcessEvent};
use crate::transfer::{Duty, News};

impl Daemon {
    pub(super) fn attach(
        &mut self,
        connection: u32,
        name: Name,
        out: &mut Vec<Output>,
    ) -> Result<(), Rejection> {
        self.processes.attach(connection, name)?;
        self.trace(out, |daemon| Event::Attach { process: ProcessId::new(daemon, connection), name });
        if self.endpoint.configuration().primary {
            self.tell_primary([connection].into(), out);
        }
        Ok(())
    }

    pub(super) fn detach(&mut self, connection: u32, out: &mut Vec<Output>) -> Result<(), Rejection> {
        if self.groups.unwatch(connection) {
            return Ok(());
        }
        self.processes.detach(connection)?;
        self.groups.detach(connection);
        self.transfers.detach(connection);
        self.strict.detach(connection);
        self.trace(out, |daemon| Event::Detach { process: ProcessId::new(daemon, connection) });
        Ok(())
    }

    pub(super) fn join(&mut self, connection: u32, groups: Vec<GroupName>) -> Result<(), Rejection> {
        let max = self.params.groups_per_process_max;
        if self.groups.count_of(ProcessId::new(self.id, connection)) + groups.len() > max {
            return Err(Rejection::TooManyGroups { max });
        }
        self.processes.join(connection, groups)
    }

    pub(super) fn leave(&mut self, connection: u32, groups: Vec<GroupName>) -> Result<(), Rejection> {
        let strict: Vec<GroupName> = groups.iter().filter(|group| group.is_strict()).cloned().collect();
        self.processes.leave(connection, groups)?;
        strict.iter().for_each(|group| self.strict.asks_to_leave(connection, group));
        Ok(())
    }

    pub(super) fn multicast(
        &mut self,
        connection: u32,
        group: GroupName,
        payload: Bytes,
        terms: Terms,
        out: &mut Vec<Output>,
    ) -> Result<(), Rejection> {
        let traced = self.params.trace.then(|| (group.clone(), Digest::of(&payload)));
        let blocked = group.is_strict() && self.strict.is_blocked(connection, &group);
        let number = if blocked {
            self.processes.pass_over(connection)?
        } else {
            self.processes.multicast(connection, group, payload, terms)?
        };
        if let Some((group, digest)) = traced {
            self.trace(out, |daemon| {
                let process = ProcessId::new(daemon, connection);
                let message = MessageId::new(process, number);
                let member = !self.strict.is_leaving(connection, &group);
                let view = self.groups.view_told(process, &group).filter(|_| member);
                let Terms { level, only_in, report: _ } = terms;
                Event::GroupSend { process, group, message, digest, view, level, only_in }
            });
        }
        if blocked {
            self.tell_outcome(
                MessageId::new(ProcessId::new(self.id, connection), number),
                false,
                Outcome::Blocked,
                out,
            );
        }
        Ok(())
    }

    /// A process that is attached here is about to be taken out of groups by its own wish.
    pub(super) fn trace_leave(&self, process: ProcessId, groups: &[GroupName], out: &mut Vec<Output>) {
        if self.processes.attached(process.connection()) {
            for group in groups.iter().filter(|group| self.groups.has(process, group)) {
                self.trace(out, |_| Event::GroupLeave { process, group: group.clone() });
            }
        }
    }

    /// Gives a message to the members that are here, unless it is for another view.
    pub(super) fn give(
        &self,
        id: MessageId,
        group: GroupName,
        payload: Bytes,
        level: Level,
        only_in: Option<GroupViewId>,
        out: &mut Vec<Output>,
    ) -> Outcome {
        let view = self.groups.view_of(&group);
        if only_in.is_some() && only_in != view {
            return Outcome::OtherView { view };
        }
        let Some(view) = view else { return Outcome::NoMembers };
        let local = self.groups.audience(&group);
        if local.is_empty() {
            return Outcome::Delivered { view, level };
        }
        for connection in local.iter() {
            let process = ProcessId::new(self.id, *connection);
            if level == Level::Safe {
                self.trace(out, |_| Event::GroupSafe { process, group: group.clone(), message: id, view });
            }
            self.trace(out, |_| {
                let (group, digest) = (group.clone(), Digest::of(&payload));
                Event::GroupDeliver { process, group, message: id, view, digest }
            });
        }
        let connections = Arc::clone(local);
        let event = ProcessEvent::Message { group, id, view, level, payload };
        out.push(Output::Deliver { connections, event });
        Outcome::Delivered { view, level }
    }

    /// Tells the sender of a message what became of it, if it is here and wants to know or has to.
    pub(super) fn tell_outcome(&self, id: MessageId, report: bool, outcome: Outcome, out: &mut Vec<Output>) {
        let process = id.sender();
        if process.daemon() != self.id || !self.processes.attached(process.connection()) {
            return;
        }
        match outcome {
            Outcome::Delivered { .. } | Outcome::NoMembers if !report => return,
            Outcome::Delivered { .. } => {}
            Outcome::NoMembers | Outcome::OtherView { .. } | Outcome::Blocked => {
                self.trace(out, |_| Event::GroupRefuse { process, message: id });
            }
        }
        let event = ProcessEvent::Outcome { number: id.number(), outcome };
        out.push(Output::Deliver { connections: [process.connection()].into(), event });
    }

    pub(super) fn tell_views(&mut self, views: Views, out: &mut Vec<Output>) {
        for (connection, views) in views {
            if !self.settled() {
                let process = ProcessId::new(self.id, connection);
                let first =
                    views.iter().filter(|view| view.group.is_strict() && view.joined.contains(&process));
                let first: Vec<GroupName> = first.map(|view| view.group.clone()).collect();
                if !first.is_empty() {
                    self.block_newcomer(connection, first, out);
                }
            }
            // Those who watch are not members.
            let member = self.processes.attached(connection);
            for view in views.iter().filter(|_| member) {
                self.trace(out, |daemon| Event::GroupInstall {
                    process: ProcessId::new(daemon, connection),
                    view: (**view).clone(),
                });
            }
            let transferring: Vec<_> =
                views.iter().filter(|view| member && view.group.transfers_state()).map(Arc::clone).collect();
            let event = ProcessEvent::Views(views);
            out.push(Output::Deliver { connections: [connection].into(), event });
            for view in &transferring {
                self.bring_together(connection, view, out);
            }
        }
    }
}

/// State transfer.
impl Daemon {
    /// A member was told a view, which may bring it together with members that have another state.
    fn bring_together(&mut self, connection: u32, view: &GroupView, out: &mut Vec<Output>) {
        let me = ProcessId::new(self.id, connection);
        let (group, id) = (view.group.clone(), view.id);
        match self.transfers.view(me, view) {
            Duty::None => {}
            Duty::Tell => {
                let event = ProcessEvent::StateWanted { group, view: id };
                out.push(Output::Deliver { connections: [connection].into(), event });
            }
            Duty::SayNothing => self.transfers.say_nothing(me, group, id),
        }
    }

    /// What is to be cast for members that have no state to tell.
    pub(super) fn next_uninformed(&mut self) -> Option<Payload> {
        let (connection, groups) = self.transfers.next_uninformed()?;
        Some(Payload::Uninformed { connection, groups: groups.into() })
    }

    /// A member tells a part of its state.
    pub(super) fn state(
        &mut self,
        connection: u32,
        group: GroupName,
        view: GroupViewId,
        part: Bytes,
        last: bool,
    ) -> Result<(), Rejection> {
        let me = ProcessId::new(self.id, connection);
        let Some(class) = self.transfers.speaks_for(me, &group, view) else { return Ok(()) };
        let (bytes, class) = (part.len(), last.then_some(class));
        self.processes.state(connection, Payload::State { connection, group, view, part, class }, bytes)
    }

    /// A member told a part of its state: gives it to members that are here and have another one.
    pub(super) fn tell_state(
        &mut self,
        from: ProcessId,
        group: &GroupName,
        view: GroupViewId,
        part: Option<Bytes>,
        class: Option<&[ProcessId]>,
        out: &mut Vec<Output>,
    ) {
        for connection in Arc::clone(self.groups.audience(group)).iter() {
            let me = ProcessId::new(self.id, *connection);
            let news = self.transfers.told(me, group, view, from, class);
            let (given, complete) = match news {
                News::Nothing => (false, false),
                News::Given => (true, false),
                News::Last { given } => (given, true),
            };
            let mut tell = |event| out.push(Output::Deliver { connections: [*connection].into(), event });
            if given && let Some(part) = part.clone() {
                let (group, last) = (group.clone(), class.is_some());
                tell(ProcessEvent::State { group, view, from, part, last });
            }
            if complete {
                tell(ProcessEvent::UpToDate { group: group.clone(), view });
            }
        }
    }
}

/// Those who watch.
impl Daemon {
    pub(super) fn watch(
        &mut self,
        connection: u32,
        prefix: Arc<str>,
        out: &mut Vec<Output>,
    ) -> Result<(), Rejection> {
        let max = self.params.connections_max;
        if self.groups.watchers().count() >= max {
            return Err(Rejection::TooManyConnections { max });
        }
        let views = self.groups.watch(connection, prefix);
        let configuration = self.endpoint.configuration().clone();
        for event in [ProcessEvent::Configuration(configuration), ProcessEvent::Views(views)] {
            out.push(Output::Deliver { connections: [connection].into(), event });
        }
        Ok(())
    }

    /// Tells processes whether this is the primary component.
    pub(super) fn tell_primary(&self, connections: Arc<[u32]>, out: &mut Vec<Output>) {
        if !connections.is_empty() {
            let event = ProcessEvent::Primary(self.endpoint.configuration().primary);
            out.push(Output::Deliver { connections, event });
        }
    }

    pub(super) fn tell_configuration(&self, out: &mut Vec<Output>) {
        let connections: Arc<[u32]> = self.groups.watchers().collect();
        if !connections.is_empty() {
            let event = ProcessEvent::Configuration(self.endpoint.configuration().clone());
            out.push(Output::Deliver { connections, event });
        }
    }
}
