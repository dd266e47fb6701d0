//! Streams to gateways: each gateway that the machine wants to reach is dialled, again and again, until the machine
//! hangs up.
//!
//! A stream has one queue from the machine. When the stream breaks, what is still in the queue is dropped: the
//! machine learns of the break, and claims its sessions again on the next stream.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, stream};
use model::Name;
use proto::gateway::v1::delivery_service_client::DeliveryServiceClient;
use proto::gateway::v1::{DeliverRequest, DeliverResponse};
use session_core::Server;
use session_core::message::{GatewayId, ToGateway};
use session_core::server::Input;
use svc_kit::dial::{Backoff, MESSAGE_BYTES_MAX, Wire};
use svc_kit::driver::{Handle, Stopped};
use svc_kit::status;
use svc_kit::tls::Role;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status, Streaming};

use crate::Service;
use crate::metrics::Measures;
use crate::wire;

/// Messages that wait for a gateway to read them. More break the stream. Gateways give less credit than that, in bytes.
const QUEUE_MAX: usize = 1024 * 1024;
/// So many of them go out together, at most.
const TOGETHER_MAX: usize = 64;
/// How long to leave a gateway alone that will not take this server: its sessions may still find another one.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// What all streams are opened with.
pub(crate) struct Dialler<S: Service> {
    pub(crate) cluster: Name,
    pub(crate) name: Name,
    pub(crate) wire: Wire,
    pub(crate) machine: Handle<Server<S>>,
    pub(crate) measures: Arc<Measures>,
}

/// A gateway that is dialled for as long as this is kept.
pub(crate) struct Door {
    queue: mpsc::Sender<ToGateway>,
    overflow: Arc<Notify>,
    _stop: DropGuard,
}

impl Door {
    /// Passes a message on. If there is no room the stream counts as broken.
    pub(crate) fn send(&self, message: ToGateway) {
        if self.queue.try_send(message).is_err() {
            self.overflow.notify_one();
        }
    }
}

/// Why a stream ended, or there was none.
enum End {
    /// The gateway is not there, or the stream broke.
    Broken(String),
    /// The gateway is there and refuses.
    Refused(String),
    /// This server stops.
    Stopped,
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> End {
        End::Stopped
    }
}

impl<S: Service> Dialler<S> {
    /// Dials `gateway` from now on.
    pub(crate) fn open(self: &Arc<Self>, gateway: GatewayId) -> Door {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let (overflow, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let line = Line { dialler: self.clone(), gateway, queued, overflow: overflow.clone() };
        tokio::spawn(stop.clone().run_until_cancelled_owned(line.keep()));
        Door { queue, overflow, _stop: stop.drop_guard() }
    }
}

/// The task behind a door.
struct Line<S: Service> {
    dialler: Arc<Dialler<S>>,
    gateway: GatewayId,
    queued: mpsc::Receiver<ToGateway>,
    overflow: Arc<Notify>,
}

impl<S: Service> Line<S> {
    async fn keep(mut self) {
        let mut backoff = Backoff::new();
        // A gateway whose place another life has taken refuses for as long as sessions of it are known here.
        let mut told = None;
        loop {
            let gateway = &self.gateway;
            let end = match self.connect().await {
                Ok((out, responses)) => {
                    tracing::info!(gateway = %gateway.name, address = %gateway.address, "the stream is open");
                    backoff.reset();
                    self.converse(out, responses).await
                }
                Err(end) => end,
            };
            match end {
                End::Broken(reason) => {
                    tracing::debug!(gateway = %self.gateway.name, reason, "no stream");
                    backoff.pause().await;
                }
                End::Refused(reason) => {
                    if told.as_ref() == Some(&reason) {
                        tracing::debug!(gateway = %self.gateway.name, reason, "the gateway still refuses");
                    } else {
                        tracing::warn!(gateway = %self.gateway.name, reason, "the gateway refuses this server");
                        told = Some(reason);
                    }
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
                End::Stopped => return,
            }
        }
    }

    async fn connect(&self) -> Result<(mpsc::Sender<Vec<ToGateway>>, Streaming<DeliverResponse>), End> {
        let Dialler { cluster, name, wire, .. } = &*self.dialler;
        let channel = wire.connect(&self.gateway.address, Role::Gateway).await;
        let channel = channel.map_err(|error| End::Broken(error.to_string()))?;
        let mut client = DeliveryServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (out, requests) = mpsc::channel(1);
        let requests = requests_after(wire::hello(*cluster, *name, &self.gateway), requests);
        let mut responses = client.deliver(requests).await.map_err(end_of)?.into_inner();
        match responses.message().await.map_err(end_of)? {
            Some(hello) if wire::is_hello(&hello) => Ok((out, responses)),
            Some(_) | None => Err(End::Refused("it does not say hello".to_owned())),
        }
    }

    /// Uses a stream until it ends, between telling the machine that it is there and that it is gone.
    async fn converse(
        &mut self,
        out: mpsc::Sender<Vec<ToGateway>>,
        responses: Streaming<DeliverResponse>,
    ) -> End {
        let Dialler { machine, measures, .. } = &*self.dialler;
        if machine.send(Input::GatewayUp(self.gateway.clone())).await.is_err() {
            return End::Stopped;
        }
        let end = tokio::select! {
            end = tell(&mut self.queued, out) => end,
            end = listen(&self.gateway, machine, measures, responses) => end,
            () = self.overflow.notified() => End::Broken("it does not keep up".to_owned()),
        };
        if let End::Broken(_) = end {
            measures.gateways_lost.inc();
        }
        match self.clear().await {
            Ok(()) => end,
            Err(stopped) => stopped.into(),
        }
    }

    /// Tells the machine that the stream is gone, and drops what it had queued for it.
    async fn clear(&mut self) -> Result<(), Stopped> {
        let machine = &self.dialler.machine;
        machine.send(Input::GatewayDown(self.gateway.clone())).await?;
        // Answered once the orders before are performed: from here on nothing is queued.
        machine.ask(|_| ()).await?;
        while self.queued.try_recv().is_ok() {}
        // An overflow of the stream that is gone says nothing about the next one.
        self.overflow.notified().now_or_never();
        Ok(())
    }
}

/// The hello, then whatever is put into the channel.
fn requests_after(
    hello: DeliverRequest,
    rest: mpsc::Receiver<Vec<ToGateway>>,
) -> impl Stream<Item = DeliverRequest> {
    let rest = stream::unfold(rest, async |mut rest| rest.recv().await.map(|together| (together, rest)));
    let requests = rest.flat_map(|together| stream::iter(together.into_iter().flat_map(wire::for_gateway)));
    stream::iter([hello]).chain(requests)
}

/// Passes on what the machine has to say.
async fn tell(queued: &mut mpsc::Receiver<ToGateway>, out: mpsc::Sender<Vec<ToGateway>>) -> End {
    loop {
        let mut together = Vec::new();
        if queued.recv_many(&mut together, TOGETHER_MAX).await == 0 {
            return End::Stopped;
        }
        if out.send(together).await.is_err() {
            return End::Broken("the stream is closed".to_owned());
        }
    }
}

/// Turns what the gateway says into facts.
async fn listen<S: Service>(
    gateway: &GatewayId,
    machine: &Handle<Server<S>>,
    measures: &Measures,
    responses: Streaming<DeliverResponse>,
) -> End {
    let mut responses = responses.ready_chunks(TOGETHER_MAX);
    while let Some(together) = responses.next().await {
        let mut facts = Vec::with_capacity(together.len());
        let mut end = None;
        for response in together {
            match response.map(wire::from_gateway) {
                Ok(Ok(message)) => facts.push(Input::Gateway(gateway.clone(), message)),
                Ok(Err(malformed)) => {
                    measures.refused.inc();
                    end = Some(End::Refused(malformed.to_string()));
                }
                Err(status) => end = Some(end_of(status)),
            }
            if end.is_some() {
                break;
            }
        }
        if machine.send_all(facts).await.is_err() {
            return End::Stopped;
        }
        if let Some(end) = end {
            return end;
        }
    }
    End::Broken("the gateway ended the stream".to_owned())
}

fn end_of(status: Status) -> End {
    let message = status.message().to_owned();
    if matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented) {
        let reason = status::reason(&status).unwrap_or_default();
        return End::Refused(format!("{reason}: {message}"));
    }
    End::Broken(message)
}
