//! Performs the orders of the machine. Nothing here waits: whoever does not drain its queue loses its place, and the
//! machine hears of it as the end of a stream, or of an attachment.

use std::sync::Arc;

use gcs_client::Command;
use model::Time;
use session_core::Gateway;
use session_core::gateway::{Attachment, ClientEvent, Failure, Input, LinkId, Output, Reply, Ticket};
use session_core::message::ToServer;
use svc_kit::driver::{self, Handle};
use svc_kit::telemetry::sessions::{self, Step};
use svc_kit::trace::TraceWriter;
use tokio::sync::mpsc;
use tracing::field::display;

use crate::desk::{Caller, Desk, Waiting};
use crate::mailbox::{Put, Slot};
use crate::metrics::{self, Measures};

/// The effects of the gateway.
pub(crate) struct Effects {
    pub(crate) desk: Arc<Desk>,
    /// Told of clients that are cut off.
    pub(crate) machine: Handle<Gateway>,
    /// Multicasts on their way to the daemon. The machine repeats what is not answered, so that one which finds no
    /// room is late, not lost.
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) measures: Arc<Measures>,
    pub(crate) trace: TraceWriter,
}

impl driver::Effects<Output> for Effects {
    fn perform(&mut self, now: Time, orders: &mut Vec<Output>) {
        self.write_trace(now, orders);
        let desk = self.desk.clone();
        let mut waiting = desk.waiting();
        let (mut to_wake, mut responses) = (Vec::new(), 0);
        for order in orders.drain(..) {
            match order {
                Output::Multicast { group, payload } => self.multicast(Command::multicast(group, payload)),
                Output::ToServer { link, message } => {
                    if let ToServer::Fenced { .. } = message {
                        self.measures.fenced.inc();
                    }
                    to_server(&mut waiting, link, message);
                }
                Output::Reply { ticket, reply } => {
                    self.measures.answer(&reply);
                    answer(&mut waiting, ticket, reply);
                }
                Output::ToClient { session, attachment, event } => {
                    match &event {
                        ClientEvent::Responses(more) => responses += more.len() as u64,
                        ClientEvent::Over(failure) => self.measures.end(failure),
                        ClientEvent::Serving { .. } | ClientEvent::Merged | ClientEvent::Rebuilt => {}
                    }
                    if !to_client(&mut waiting, &mut to_wake, attachment, event) {
                        tracing::info!(%session, "a client does not read its stream: it is cut off");
                        // Its stream ends when it reads again, if ever. The session does not wait for that.
                        self.machine.send_after_all(Input::Detach { session, attachment });
                    }
                }
                Output::Stalled { session, server, fence } => {
                    let server = server.map(|it| it.to_string());
                    tracing::warn!(%session, server, %fence, "a server says nothing: another one is to serve");
                }
                Output::TakenOver { session, server, fence, why, gap, requests_lost } => {
                    let (reason, duration_ms) = (metrics::cause(why), gap.as_secs_f64() * 1e3);
                    let span = sessions::span(Step::Switch(fence), session);
                    span.record("fence", display(fence))
                        .record("to", display(server))
                        .record("reason", reason);
                    span.record("duration_ms", duration_ms).record("requests_lost", requests_lost);
                    span.in_scope(|| tracing::info!(%session, peer = %server, %fence, reason, duration_ms, requests_lost, "taken over"));
                    self.measures.take_over(why, gap, requests_lost);
                }
                Output::Displaced { session, before, after } => {
                    tracing::debug!(%session, before, after, "responses are left out, or come again");
                    self.measures.displace(before, after);
                }
                Output::Stale { link, session } => {
                    self.measures.stale.inc();
                    tracing::debug!(link = link.0, %session, "out of date: ignored");
                }
                Output::Trace(_) => {}
            }
        }
        if responses > 0 {
            self.measures.responses.inc_by(responses);
        }
        // Each of them once, whatever it was sent.
        to_wake.iter().filter_map(|attachment| waiting.clients.get(attachment)).for_each(Slot::wake);
    }
}

impl Effects {
    /// Traces come first, so that what others can see is in the file before they see it.
    fn write_trace(&mut self, now: Time, orders: &mut Vec<Output>) {
        for order in orders.extract_if(.., |order| matches!(order, Output::Trace(_))) {
            if let Output::Trace(event) = order {
                self.trace.record(now, event);
            }
        }
        self.trace.flush();
    }

    fn multicast(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            self.measures.late_multicasts.inc();
            tracing::debug!("the daemon does not keep up: a multicast has to be repeated");
        }
    }
}

fn to_server(waiting: &mut Waiting, link: LinkId, message: ToServer) {
    if let Some(it) = waiting.links.get(&link)
        && it.queue.try_send(message).is_err()
    {
        it.broken.cancel();
        waiting.links.remove(&link);
    }
}

/// A caller that is gone wants no answer.
fn answer(waiting: &mut Waiting, ticket: Ticket, reply: Result<Reply, Failure>) {
    let Some(Caller { answer, events }) = waiting.callers.remove(&ticket) else { return };
    if let (Ok(Reply::Attached(attachment)), Some(events)) = (&reply, events) {
        waiting.clients.insert(*attachment, events);
    }
    drop(answer.send(reply));
}

/// Returns whether the client has room for what it is told, or is gone.
fn to_client(
    waiting: &mut Waiting,
    to_wake: &mut Vec<Attachment>,
    attachment: Attachment,
    event: ClientEvent,
) -> bool {
    let Some(slot) = waiting.clients.get(&attachment) else { return true };
    let over = matches!(event, ClientEvent::Over(_));
    let put = slot.put(event);
    if put == Put::First {
        to_wake.push(attachment);
    }
    if over || matches!(put, Put::Full | Put::Gone) {
        waiting.clients.remove(&attachment);
    }
    put != Put::Full
}
