//! One client's stream, as the transport polls it: what the transport has taken counts as consumed, and a stream that
//! is dropped, for whatever reason, is a client that detached.

use std::sync::Arc;
use std::vec;

use futures::{Stream, stream};
use proto::session::v1::AttachResponse;
use session_core::gateway::{Attachment, ClientEvent, Input};
use session_core::{Gateway, response_bytes};
use svc_kit::driver::Handle;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::cursor::Holder;
use crate::desk::Desk;
use crate::mailbox::Mailbox;
use crate::metrics::Measures;
use crate::seal::Seals;
use crate::{status, wire};

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
    /// What was taken out of the mailbox and not given to the transport.
    pub(crate) at_hand: vec::IntoIter<ClientEvent>,
    pub(crate) progress: Progress,
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
    /// The transport is given something.
    fn give(&mut self, event: &ClientEvent) {
        if let ClientEvent::Response { cursor, payload, .. } = event {
            self.given = Some((cursor.responses, response_bytes(payload, &cursor.context) as u64));
        }
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
        stream::unfold(Some(self), async |client| {
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
        let event = loop {
            if let Some(event) = self.at_hand.next() {
                break event;
            }
            self.report().await?;
            let events = tokio::select! {
                biased;
                () = self.draining.cancelled() => {
                    self.measures.stream_ends.get_or_create(&[("reason", "DRAINING")]).inc();
                    return Some((Err(status::draining()), false));
                }
                events = self.mailbox.take() => events,
            };
            let Some(events) = events else {
                self.measures.stream_ends.get_or_create(&[("reason", "CLIENT_TOO_SLOW")]).inc();
                return Some((Err(status::client_too_slow()), false));
            };
            self.at_hand = events.into_iter();
        };
        self.progress.give(&event);
        let last = matches!(event, ClientEvent::Response { last: true, .. });
        match wire::client_event(event, |cursor| self.seals.cursor(&self.holder, cursor)) {
            Ok(response) => Some((Ok(response), !last)),
            Err(failure) => Some((Err(status::of(failure)), false)),
        }
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
