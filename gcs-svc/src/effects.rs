//! Performs the orders of the machine. Nothing here waits.

use std::sync::Arc;

use bytes::Bytes;
use detector::Report;
use gcs_core::{Daemon, Input, Message, Output, PeerFault, ProcessEvent, Rejection, Throttle};
use model::{DaemonId, Time};
use svc_kit::driver::{Effects, Handle};
use svc_kit::trace::TraceWriter;
use tokio::sync::watch;

use crate::frames;
use crate::history::History;
use crate::inbound::Inbound;
use crate::links::Links;
use crate::metrics::{Installed, Measures};
use crate::processes::Processes;
use crate::refusals::{self, Refusals};

/// What the machine has ordered the whole process to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Whether the membership service has told a configuration.
    pub standing: Standing,
    /// Whether to read from processes.
    pub throttle: Throttle,
}

/// Whether the daemon has a place in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not yet.
    Alone,
    /// The membership service has told a configuration.
    Member,
}

impl Mode {
    /// At the start.
    pub const START: Mode = Mode { standing: Standing::Alone, throttle: Throttle::Go };
}

/// Where orders go.
pub struct Performer {
    /// The trace of this process.
    pub trace: TraceWriter,
    /// Who ordered.
    pub machine: Handle<Daemon>,
    /// Our streams to other daemons.
    pub links: Arc<Links>,
    /// Their streams to us.
    pub inbound: Arc<Inbound>,
    /// Local processes.
    pub processes: Arc<Processes>,
    /// What was refused.
    pub refusals: Arc<Refusals>,
    /// Which peers cannot be reached, for the membership service.
    pub reach: watch::Sender<Report<DaemonId>>,
    /// For whom it concerns.
    pub mode: watch::Sender<Mode>,
    /// What is counted.
    pub measures: Arc<Measures>,
    /// The views that processes were told.
    pub history: Arc<History>,
    /// How many daemons are in the configuration.
    pub members: usize,
    /// Of the orders of one batch.
    pub gathered: Gathered,
}

/// What is done together with orders that follow.
#[derive(Default)]
pub struct Gathered {
    /// Whom `events` are for.
    audience: Arc<[u32]>,
    events: Vec<ProcessEvent>,
    /// The message that was sent last, and its frame.
    sent: Option<(Arc<Message>, Bytes)>,
}

impl Effects<Output> for Performer {
    fn perform(&mut self, now: Time, orders: &mut Vec<Output>) {
        // The trace first: what others can see of this batch is in the trace even if the process dies here.
        if self.trace.is_on() {
            for order in orders.extract_if(.., |order| matches!(order, Output::Trace(_))) {
                if let Output::Trace(event) = order {
                    self.trace.record(now, event);
                }
            }
            self.trace.flush();
        }
        let mut frames = 0;
        for order in orders.drain(..) {
            frames += u64::from(matches!(order, Output::Send { .. }));
            // Whatever else happens to a process happens after what it was told before.
            if !matches!(order, Output::Deliver { .. } | Output::Send { .. }) {
                self.tell();
            }
            self.perform_one(now, order);
        }
        self.tell();
        self.gathered.sent = None;
        if frames > 0 {
            self.measures.frames.inc_by(frames);
        }
    }
}

impl Performer {
    /// Gathers events in a row for the same processes: they are told together.
    fn deliver(&mut self, connections: Arc<[u32]>, event: ProcessEvent) {
        if !Arc::ptr_eq(&self.gathered.audience, &connections) {
            self.tell();
            self.gathered.audience = connections;
        }
        self.gathered.events.push(event);
    }

    fn tell(&mut self) {
        let Gathered { audience, events, .. } = &mut self.gathered;
        if !events.is_empty() {
            self.measures.events.inc_by(events.len() as u64);
            self.processes.tell(audience, events.drain(..));
        }
    }

    /// The frame of a message. The same message in a row, to several peers, is encoded once.
    fn encoded(&mut self, message: Arc<Message>) -> Bytes {
        match &self.gathered.sent {
            Some((sent, frame)) if Arc::ptr_eq(sent, &message) => frame.clone(),
            Some(_) | None => {
                let frame = frames::encode(&message);
                self.gathered.sent = Some((message, frame.clone()));
                frame
            }
        }
    }

    fn perform_one(&mut self, now: Time, order: Output) {
        match order {
            Output::Connect { peer, address, epoch } => self.links.connect(peer, address, epoch),
            Output::Disconnect { peer } => self.links.disconnect(peer),
            Output::Resume { to, epoch, received } => self.inbound.acknowledge(to, epoch, received),
            Output::CatchUp => self.machine.send_after_all(Input::CaughtUp),
            Output::Reset { peer, epoch, silent } => {
                tracing::info!(%peer, %epoch, ?silent, "breaking a silent link");
                self.measures.suspicions.inc();
                self.links.fail(peer);
            }
            Output::Reach(report) => {
                tracing::debug!(?report, "peers that cannot be reached");
                self.reach.send_replace(report);
            }
            Output::Probe { peer, address } => self.links.probe(peer, address),
            Output::Ack { peer, epoch, received } => self.inbound.acknowledge(peer, epoch, received),
            Output::Refuse { from, fault } => {
                let reason = refusals::of_peer(fault);
                tracing::warn!(%from, reason, ?fault, "refused a peer's message");
                self.refusals.count(reason);
                if let PeerFault::WrongAcknowledgement { .. } = fault {
                    self.links.fail(from);
                } else if fault.breaks_link() {
                    self.inbound.end(from, refusals::broken(fault));
                }
            }
            Output::RefuseNotice(fault) => {
                let reason = refusals::of_notice(fault);
                tracing::warn!(reason, ?fault, "refused a notice of the membership service");
                self.refusals.count(reason);
            }
            // The rest of what a process said whose call has ended already.
            Output::Rejected { reason: Rejection::NotAttached, .. } => {}
            Output::Rejected { connection, reason } => {
                let (word, status) = refusals::of_process(reason);
                tracing::info!(connection, reason = word, "rejected a process's request; its call ends");
                self.refusals.count(word);
                self.processes.end(connection, status);
            }
            Output::Throttle(throttle) => {
                tracing::debug!(?throttle, "reading from processes");
                self.mode.send_modify(|mode| mode.throttle = throttle);
            }
            Output::Installed { configuration, transitional, rest } => {
                let (members, together) = (configuration.members.len(), transitional.len());
                let Installed { cause, duration_ms } =
                    self.measures.install(self.members, &transitional, members);
                self.members = members;
                let view_id = configuration.id;
                tracing::info!(%view_id, members, together, reason = cause, duration_ms, ?rest, "installed");
                self.mode.send_modify(|mode| mode.standing = Standing::Member);
            }
            // Done with already.
            Output::Deliver { connections, event } => {
                if let ProcessEvent::Views(views) = &event {
                    self.history.note(now, views);
                }
                self.deliver(connections, event);
            }
            Output::Send { peer, epoch, number, message } => {
                let frame = self.encoded(message);
                self.links.send(peer, epoch, number, frame);
            }
            Output::Trace(_) => {}
        }
    }
}
