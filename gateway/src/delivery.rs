//! Where content servers bring responses: one stream each way for each server, all of its sessions on it.
//!
//! What a server says becomes facts, and waits for room in the machine's inbox: that holds back the server, by the
//! flow control of its stream. What a server is told waits on the desk, and breaks the stream if it does not read.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use model::Name;
use proto::gateway::v1::delivery_service_server::DeliveryService;
use proto::gateway::v1::{DeliverRequest, DeliverResponse, GatewayHello, deliver_response};
use session_core::Gateway;
use session_core::gateway::Input;
use session_core::message::{GatewayId, ToServer};
use svc_kit::access::Caller;
use svc_kit::driver::Handle;
use svc_kit::status::because;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::desk::{Desk, LinkGuard};
use crate::metrics::Measures;
use crate::status;
use crate::wire::{self, Hello};

/// So many messages of a server become facts together, at most.
const TOGETHER_MAX: usize = 64;
/// How long a server may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Why a server is refused that means another life of this gateway, or another gateway.
const WRONG_INCARNATION: &str = "WRONG_INCARNATION";

/// The service for content servers.
#[derive(Clone)]
pub(crate) struct Delivery {
    pub(crate) cluster: Name,
    pub(crate) id: GatewayId,
    pub(crate) machine: Handle<Gateway>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) measures: Arc<Measures>,
    /// How many messages may wait for a server to read them.
    pub(crate) queue_max: usize,
    /// Cancelled when streams have to end.
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl DeliveryService for Delivery {
    type DeliverStream = Pin<Box<dyn Stream<Item = Result<DeliverResponse, Status>> + Send>>;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let caller = Caller::of(&request);
        let mut requests = request.into_inner();
        let server = self.welcome(caller, &mut requests).await;
        let server = server.inspect_err(|status| self.refuse(None, status))?;
        let (link, queue) = self.desk.link(self.queue_max);
        tracing::info!(%server, link = link.id.0, "a content server opened its stream");
        let (end, ended) = mpsc::channel(1);
        let told = told(queue, link.broken.clone(), ended);
        let up = Input::LinkUp { link: link.id, server };
        self.machine.send(up).await.map_err(|_| status::draining())?;
        tokio::spawn(self.clone().listen(server, link, requests, end));
        let hello = deliver_response::Message::Hello(GatewayHello {});
        let hello = DeliverResponse { message: Some(hello) };
        Ok(Response::new(Box::pin(stream::iter([Ok(hello)]).chain(told))))
    }
}

impl Delivery {
    /// Reads the hello, and refuses a server that means somebody else.
    async fn welcome(
        &self,
        caller: Caller,
        requests: &mut Streaming<DeliverRequest>,
    ) -> Result<Name, Status> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello"))??;
        let hello = Hello::try_from(first.unwrap_or_default())?;
        if hello.cluster != self.cluster {
            let message = format!("this is cluster {}, not {}", self.cluster, hello.cluster);
            return Err(because(Code::FailedPrecondition, "FOREIGN_CLUSTER", message));
        }
        if (hello.gateway, hello.gateway_boot) != (self.id.name, self.id.boot.number()) {
            let message = format!("this is {} in its life {}", self.id.name, self.id.boot.number());
            return Err(because(Code::FailedPrecondition, WRONG_INCARNATION, message));
        }
        caller.speaks_for(hello.server)?;
        Ok(hello.server)
    }

    /// Turns what a server says into facts until its stream ends, one way or another.
    async fn listen(
        self,
        server: Name,
        link: LinkGuard,
        requests: Streaming<DeliverRequest>,
        end: mpsc::Sender<Status>,
    ) {
        let status = tokio::select! {
            status = self.read(&link, requests) => status,
            () = link.broken.cancelled() => Some(status::server_too_slow()),
            () = self.stop.cancelled() => Some(status::draining()),
        };
        tracing::info!(%server, link = link.id.0, reason = status.as_ref().map(Status::message), "the stream ended");
        // The server may be gone; then nobody reads this.
        if let Some(status) = status {
            drop(end.try_send(status));
        }
        // A machine that has stopped needs to know nothing.
        let _ = self.machine.send(Input::LinkDown(link.id)).await;
    }

    /// Reads until the server ends the stream; a status is what the server is told at the end. Messages that came
    /// together become facts together.
    async fn read(&self, link: &LinkGuard, requests: Streaming<DeliverRequest>) -> Option<Status> {
        let mut requests = requests.ready_chunks(TOGETHER_MAX);
        while let Some(together) = requests.next().await {
            let mut said = Vec::new();
            let mut end = None;
            for request in together {
                match request.map(|request| wire::from_server(request, &mut said)) {
                    Ok(Ok(())) => {}
                    Ok(Err(malformed)) => end = Some(Some(Status::from(malformed))),
                    Err(_broken) => end = Some(None),
                }
                if end.is_some() {
                    break;
                }
            }
            let facts = said.into_iter().map(|message| Input::Server { link: link.id, message });
            self.machine.send_all(facts.collect()).await.ok()?;
            if let Some(status) = end {
                return status.inspect(|status| self.refuse(Some(link), status));
            }
        }
        None
    }

    fn refuse(&self, link: Option<&LinkGuard>, status: &Status) {
        self.measures.refused.inc();
        let (link, reason) = (link.map(|it| it.id.0), status.message());
        if svc_kit::status::reason(status).as_deref() == Some(WRONG_INCARNATION) {
            // It tries again for as long as it knows of sessions of that life, and says so itself.
            tracing::debug!(link, reason, "a content server means another gateway");
        } else {
            tracing::warn!(link, reason, "a content server is refused");
        }
    }
}

/// What a server is told: whatever is queued for it, and why the stream ends.
fn told(
    queue: mpsc::Receiver<ToServer>,
    broken: CancellationToken,
    ended: mpsc::Receiver<Status>,
) -> impl Stream<Item = Result<DeliverResponse, Status>> {
    stream::unfold(Some((queue, broken, ended)), async |state| {
        let (mut queue, broken, mut ended) = state?;
        tokio::select! {
            biased;
            status = ended.recv() => status.map(|status| (Err(status), None)),
            message = queue.recv(), if !broken.is_cancelled() => {
                message.map(|it| (Ok(wire::for_server(it)), Some((queue, broken, ended))))
            }
        }
    })
}
