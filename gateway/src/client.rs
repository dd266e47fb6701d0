//! One client's stream, as the transport polls it: what the transport has taken counts as consumed, and a stream that
//! is dropped, for whatever reason, is a client that detached.

use std::sync::Arc;
use std::vec;

use futures::{Stream, stream};
use proto::session::v1::AttachResponse;
use session_core::gateway::{Attachment, ClientEvent, Input};
use session_core::message::Response;
use session_core::{Gateway, response_bytes};
use svc_kit::driver::Handle;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::cursor::Holder;
use crate::desk::Desk;
use crate::mailbox::Mailbox;
use crate::metrics::Measures;
use crate::seal::Seals;
use crate::status;
use crate::wire::{self, Told};

/// What the transport has taken is told to the machine when nothing else is at hand, and each time that it is so many
/// bytes more: servers are to have the next responses ready by the time that the transport wants them.
const REPORT_BYTES: u64 = 32 * 1024;

/// An attached client.
pub(crate) struct Client {
    pub(crate) holder: Holder,
    pub(crate) seals: Arc<Seals>,
    pub(crate) attachment: Attachment,
    pub(crate) mailbox: Mailbox,
    pub(crate) machine: Handle<Gateway>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) draining: CancellationToken,
    pub(crate) measures: Arc<Measures>,
    pub(crate) at_hand: AtHand,
    pub(crate) progress: Progress,
}

/// What was taken out of the mailbox and not given to the transport: responses that came together, and what is behind them.
#[derive(Debug, Default)]
pub(crate) struct AtHand {
    responses: vec::IntoIter<Response>,
    events: vec::IntoIter<ClientEvent>,
}

/// How far the transport got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// The number and the size of the response that it was given last, until it asks for more.
    given: Option<(u64, u64)>,
    /// The last response that it has taken, and the bytes of all.
    responses: u64,
    bytes: u64,
    /// As many bytes of those the machine knows of.
    reported: u64,
}

impl Progress {
    /// The transport is given a response.
    fn give(&mut self, response: &Response) {
        let Response { cursor, payload, .. } = response;
        self.given = Some((cursor.responses, response_bytes(payload, &cursor.context) as u64));
    }

    /// The transport asks for more: it has taken what it was given.
    fn take(&mut self) {
        if let Some((number, bytes)) = self.given.take() {
            self.responses = number;
            self.bytes += bytes;
        }
    }
}

impl Client {
    /// The responses of the contract, until the service has sent its last one or the stream fails.
    pub(crate) fn responses(self) -> impl Stream<Item = Result<AttachResponse, Status>> {
        // Boxed, for it is handed to and fro with every response.
        stream::unfold(Some(Box::new(self)), async |client| {
            let mut client = client?;
            let (response, more) = client.next().await?;
            Some((response, more.then_some(client)))
        })
    }

    /// The next response, and whether more may follow it.
    async fn next(&mut self) -> Option<(Result<AttachResponse, Status>, bool)> {
        self.progress.take();
        if self.progress.bytes - self.progress.reported >= REPORT_BYTES {
            self.report().await?;
        }
        loop {
            if let Some(response) = self.at_hand.responses.next() {
                self.progress.give(&response);
                let last = response.last;
                let response = wire::response(response, |cursor| self.seals.cursor(&self.holder, cursor));
                return Some((Ok(response), !last));
            }
            match self.at_hand.events.next().map(wire::told) {
                Some(Told::Responses(responses)) => self.at_hand.responses = responses.into_iter(),
                Some(Told::Event(event)) => return Some((Ok(event), true)),
                Some(Told::Over(failure)) => return Some((Err(status::of(failure)), false)),
                None => {
                    self.report().await?;
                    match self.events().await {
                        Ok(events) => self.at_hand.events = events.into_iter(),
                        Err(status) => return Some((Err(status), false)),
                    }
                }
            }
        }
    }

    /// What the machine has for the client, once there is something.
    async fn events(&mut self) -> Result<Vec<ClientEvent>, Status> {
        let (reason, status) = tokio::select! {
            biased;
            () = self.draining.cancelled() => ("DRAINING", status::draining()),
            events = self.mailbox.take() => match events {
                Some(events) => return Ok(events),
                None => ("CLIENT_TOO_SLOW", status::client_too_slow()),
            },
        };
        self.measures.stream_ends.get_or_create(&[("reason", reason)]).inc();
        Err(status)
    }

    /// Tells the machine how far the transport got, if that is news. Nothing if the machine has stopped.
    async fn report(&mut self) -> Option<()> {
        let Progress { responses, bytes, reported, .. } = self.progress;
        if bytes > reported {
            self.progress.reported = bytes;
            let (session, attachment) = (self.holder.session, self.attachment);
            let consumed = Input::Consumed { session, attachment, responses, bytes };
            // Boxed, so that thousands of streams that wait for something else have no room for it.
            Box::pin(self.machine.send(consumed)).await.ok()?;
        }
        Some(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.desk.waiting().clients.remove(&self.attachment);
        let fact = Input::Detach { session: self.holder.session, attachment: self.attachment };
        let machine = self.machine.clone();
        // There is no runtime when the process ends.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { machine.send(fact).await });
        }
    }
}
