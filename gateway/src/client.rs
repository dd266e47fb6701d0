//! One client's stream, as the transport polls it: what the transport has taken counts as consumed, and a stream that
//! is dropped, for whatever reason, is a client that detached.

use std::sync::Arc;

use futures::{Stream, stream};
use model::SessionId;
use proto::session::v1::AttachResponse;
use session_core::Gateway;
use session_core::gateway::{Attachment, ClientEvent, Input};
use svc_kit::driver::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::desk::Desk;
use crate::{status, wire};

/// An attached client.
pub(crate) struct Client {
    pub(crate) session: SessionId,
    pub(crate) attachment: Attachment,
    pub(crate) events: mpsc::Receiver<ClientEvent>,
    pub(crate) machine: Handle<Gateway>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) draining: CancellationToken,
    /// The response that the transport was given last, until it asks for more.
    pub(crate) taken: Option<u64>,
}

impl Client {
    /// The responses of the contract, until the service has sent its last one or the stream fails.
    pub(crate) fn responses(self) -> impl Stream<Item = Result<AttachResponse, Status>> {
        stream::unfold(Some(self), async |client| client?.next().await)
    }

    /// The next response, and the client if more may follow it.
    async fn next(mut self) -> Option<(Result<AttachResponse, Status>, Option<Client>)> {
        if let Some(responses) = self.taken.take() {
            let (session, attachment) = (self.session, self.attachment);
            self.machine.send(Input::Consumed { session, attachment, responses }).await.ok()?;
        }
        let event = tokio::select! {
            biased;
            () = self.draining.cancelled() => return Some((Err(status::draining()), None)),
            event = self.events.recv() => event,
        };
        let Some(event) = event else { return Some((Err(status::client_too_slow()), None)) };
        let (number, last) = match &event {
            ClientEvent::Response { cursor, last, .. } => (Some(cursor.responses), *last),
            ClientEvent::Serving { .. } | ClientEvent::Merged | ClientEvent::Over(_) => (None, false),
        };
        match wire::client_event(self.session, event) {
            Ok(response) => {
                self.taken = number;
                Some((Ok(response), (!last).then_some(self)))
            }
            Err(failure) => Some((Err(status::of(failure)), None)),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.desk.waiting().clients.remove(&self.attachment);
        let fact = Input::Detach { session: self.session, attachment: self.attachment };
        let machine = self.machine.clone();
        // There is no runtime when the process ends.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { machine.send(fact).await });
        }
    }
}
