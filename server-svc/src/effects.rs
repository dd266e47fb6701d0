//! Performs the orders of the machine. Nothing here waits: a gateway that does not read loses its stream, a daemon
//! that does not read loses its process, and the machine hears of either.

use std::collections::BTreeMap;
use std::sync::Arc;

use gcs_client::Command;
use model::trace::Role;
use model::{GroupName, Terms, Time};
use session_core::message::{GatewayId, ToGateway};
use session_core::server::Output;
use svc_kit::driver;
use svc_kit::trace::TraceWriter;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::Service;
use crate::beginnings::Beginnings;
use crate::gateways::{Dialler, Door};
use crate::journal::{Journal, Subject};
use crate::metrics::Measures;
use crate::orders::Orders;

/// The most groups in one command.
const GROUPS_MAX: usize = 4096;

/// The effects of the content server.
pub(crate) struct Effects<S: Service> {
    pub(crate) dialler: Arc<Dialler<S>>,
    pub(crate) doors: BTreeMap<GatewayId, Door>,
    /// Commands on their way to the daemon. Not one of them may be left out, so that a full queue is the end of the
    /// attachment.
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) overflow: Arc<Notify>,
    pub(crate) drained: CancellationToken,
    pub(crate) measures: Arc<Measures>,
    pub(crate) orders: Arc<Orders>,
    pub(crate) beginnings: Beginnings,
    pub(crate) journal: Arc<Journal>,
    pub(crate) trace: TraceWriter,
}

impl<S: Service> driver::Effects<Output> for Effects<S> {
    fn perform(&mut self, now: Time, orders: &mut Vec<Output>) {
        self.write_trace(now, orders);
        let (mut responses, mut multicasts) = (0, 0);
        for order in orders.drain(..) {
            match order {
                Output::Join(groups) => self.command_groups(groups, Command::Join),
                Output::Leave(groups) => self.command_groups(groups, Command::Leave),
                Output::Multicast { group, payload, level } => {
                    multicasts += 1;
                    let terms = Terms { level, ..Terms::default() };
                    self.command(Command::Multicast { group, payload, terms });
                }
                Output::Dial(gateway) => {
                    let door = self.dialler.open(gateway.clone());
                    self.doors.insert(gateway, door);
                }
                Output::Hangup(gateway) => drop(self.doors.remove(&gateway)),
                Output::Send(gateway, message) => {
                    match &message {
                        ToGateway::Responses { responses: more, .. } => responses += more.len() as u64,
                        ToGateway::Started { session, requests_lost, .. } => {
                            self.beginnings.end(*session, *requests_lost);
                        }
                        ToGateway::Claim { .. }
                        | ToGateway::Applied { .. }
                        | ToGateway::Rests { .. }
                        | ToGateway::Suspended { .. }
                        | ToGateway::Ended { .. }
                        | ToGateway::Refused { .. }
                        | ToGateway::Moved { .. }
                        | ToGateway::Units { .. } => {}
                    }
                    if let Some(door) = self.doors.get(&gateway) {
                        door.send(message);
                    }
                }
                Output::RoleChanged { unit, session, fence, role, before } => {
                    tracing::debug!(%unit, %session, %fence, ?role, "role");
                    if role == Role::Primary {
                        self.beginnings.begin(&unit, session, fence, before);
                    } else {
                        self.beginnings.give_up(session);
                    }
                    self.measures.change_role(role);
                }
                Output::Stalled { unit, session, from, to } => {
                    let (from, to) = (from.map(|it| it.to_string()), to.map(|it| it.to_string()));
                    self.measures.stall(to.is_some());
                    match to {
                        Some(_) => {
                            tracing::warn!(%unit, %session, from, to, "moved: its primary says nothing")
                        }
                        None => tracing::warn!(%unit, %session, from, "its primary says nothing, and stays"),
                    }
                }
                Output::Failed { unit, session, fault } => {
                    tracing::error!(%unit, %session, %fault, "over: its service cannot go on");
                }
                Output::Refused { group, sender, error } => {
                    self.measures.refused.inc();
                    tracing::warn!(%group, %sender, %error, "a message is refused");
                }
                Output::Happened { unit, session, place, happening } => {
                    tracing::debug!(%unit, %session, ?happening, "session");
                    self.journal.write(now, Subject { unit, session }, place, happening);
                }
                Output::Ordered { ticket, outcome } => self.orders.answer(ticket, outcome),
                Output::Drained => self.drained.cancel(),
                Output::Trace(_) => {}
            }
        }
        if responses > 0 {
            self.measures.responses.inc_by(responses);
        }
        if multicasts > 0 {
            self.measures.multicasts.inc_by(multicasts);
        }
    }
}

impl<S: Service> Effects<S> {
    /// Traces come first, so that what others can see is in the file before they see it.
    fn write_trace(&mut self, now: Time, orders: &mut Vec<Output>) {
        for order in orders.extract_if(.., |order| matches!(order, Output::Trace(_))) {
            if let Output::Trace(event) = order {
                self.trace.record(now, event);
            }
        }
        self.trace.flush();
    }

    fn command_groups(&self, groups: Vec<GroupName>, command: fn(Vec<GroupName>) -> Command) {
        groups.chunks(GROUPS_MAX).for_each(|some| self.command(command(some.to_vec())));
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            self.overflow.notify_one();
        }
    }
}
