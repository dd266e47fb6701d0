//! Performs the orders of the machine. Nothing here waits: whoever does not drain its queue loses its place, and the
//! machine hears of it as the end of a stream, or of an attachment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gcs_client::Command;
use model::Time;
use session_core::Gateway;
use session_core::gateway::{Attachment, ClientEvent, Failure, Input, LinkId, Output, Reply, Ticket};
use session_core::message::ToServer;
use svc_kit::driver::{self, Handle};
use svc_kit::trace::TraceWriter;
use tokio::sync::mpsc;

use crate::desk::{Caller, Desk, Waiting};
use crate::mailbox::{Put, Slot};

/// What is counted, for operators.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Messages of servers that were out of date.
    pub(crate) stale: AtomicU64,
    /// Messages of servers that were malformed, and hellos that were refused.
    pub(crate) refused: AtomicU64,
}

/// The effects of the gateway.
pub(crate) struct Effects {
    pub(crate) desk: Arc<Desk>,
    /// Told of clients that are cut off.
    pub(crate) machine: Handle<Gateway>,
    /// Multicasts on their way to the daemon. The machine repeats what is not answered, so that one which finds no
    /// room is late, not lost.
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) trace: TraceWriter,
}

impl driver::Effects<Output> for Effects {
    fn perform(&mut self, now: Time, orders: &mut Vec<Output>) {
        self.write_trace(now, orders);
        let desk = self.desk.clone();
        let mut waiting = desk.waiting();
        let mut to_wake = Vec::new();
        for order in orders.drain(..) {
            match order {
                Output::Multicast { group, payload } => self.multicast(Command::multicast(group, payload)),
                Output::ToServer { link, message } => to_server(&mut waiting, link, message),
                Output::Reply { ticket, reply } => answer(&mut waiting, ticket, reply),
                Output::ToClient { session, attachment, event } => {
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
                Output::Stale { link, session } => {
                    self.counters.stale.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(link = link.0, %session, "out of date: ignored");
                }
                Output::Trace(_) => {}
            }
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
