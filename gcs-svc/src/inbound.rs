//! The streams that other daemons open to us: `LinkService`. The machine decides from where a stream goes on; this
//! file reads frames, and sends acknowledgements.
//!
//! Bounds: frames are read as fast as the machine takes them; of acknowledgements only the last one is kept. A daemon
//! has one stream to us: a newer one replaces the one before, which has read its last frame by then.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::{Stream, stream};
use gcs_core::{Daemon, Epoch, Input};
use model::{DaemonId, Name};
use proto::gcs::v1 as pb;
use proto::gcs::v1::link_service_server::LinkService;
use svc_kit::access::Caller;
use svc_kit::driver::Handle;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

use crate::frames;
use crate::refusals::{self, Refusals};
use crate::wire::{self, Malformed};

/// All streams to us.
#[derive(Debug, Default)]
pub struct Inbound(Mutex<HashMap<DaemonId, Arc<Call>>>);

/// One stream to us: both of its directions end together.
#[derive(Debug)]
struct Call {
    epoch: Epoch,
    /// Nothing until the machine says from where the stream goes on.
    received: watch::Sender<Option<u64>>,
    over: CancellationToken,
    reason: OnceLock<Status>,
    /// No frame of this stream will be told any more.
    read: CancellationToken,
}

impl Call {
    fn end(&self, reason: Status) {
        // Whoever is first to end a call says why.
        drop(self.reason.set(reason));
        self.over.cancel();
    }
}

impl Inbound {
    fn calls(&self) -> MutexGuard<'_, HashMap<DaemonId, Arc<Call>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells `from` up to where its stream is here.
    pub fn acknowledge(&self, from: DaemonId, epoch: Epoch, received: u64) {
        if let Some(call) = self.calls().get(&from).filter(|call| call.epoch == epoch) {
            call.received.send_replace(Some(received));
        }
    }

    /// Ends the stream of `from`.
    pub fn end(&self, from: DaemonId, reason: Status) {
        if let Some(call) = self.calls().get(&from) {
            call.end(reason);
        }
    }

    /// Ends all streams.
    pub fn drain(&self) {
        for call in self.calls().values() {
            call.end(refusals::draining());
        }
    }

    /// Makes room for a stream of `from`: ends the one before, and waits until it has read its last frame.
    async fn enter(&self, from: DaemonId, epoch: Epoch) -> Arc<Call> {
        let call = Arc::new(Call {
            epoch,
            received: watch::Sender::new(None),
            over: CancellationToken::new(),
            reason: OnceLock::new(),
            read: CancellationToken::new(),
        });
        loop {
            let before = {
                let mut calls = self.calls();
                match calls.get(&from) {
                    Some(before) => Arc::clone(before),
                    None => {
                        calls.insert(from, Arc::clone(&call));
                        return call;
                    }
                }
            };
            before.end(refusals::replaced());
            before.read.cancelled().await;
        }
    }

    fn leave(&self, from: DaemonId, call: &Call) {
        self.calls().remove(&from);
        call.read.cancel();
    }
}

/// The service, as gRPC calls it.
#[derive(Clone)]
pub struct LinkServer {
    /// Who we are.
    pub me: DaemonId,
    /// The cluster that we belong to.
    pub cluster: Name,
    /// The machine.
    pub machine: Handle<Daemon>,
    /// All streams to us.
    pub inbound: Arc<Inbound>,
    /// What was refused.
    pub refusals: Arc<Refusals>,
    /// The daemon shuts down.
    pub stop: CancellationToken,
}

impl LinkServer {
    /// Who opens a stream, and in which epoch, if it means this daemon.
    fn caller(&self, hello: Option<pb::LinkHello>) -> Result<(DaemonId, Epoch), Status> {
        let malformed = |malformed: Malformed| {
            self.refusals.count("MALFORMED_HELLO");
            malformed
        };
        let hello =
            hello.ok_or_else(|| malformed(Malformed::new("hello", "must be in the first request")))?;
        let cluster = wire::parse(&hello.cluster, "hello.cluster").map_err(malformed)?;
        let to = wire::parse(&hello.to, "hello.to").map_err(malformed)?;
        self.check_meant(cluster, to)?;
        let from = wire::parse(&hello.from, "hello.from").map_err(malformed)?;
        Ok((from, Epoch::new(hello.epoch)))
    }

    /// Refuses a caller that means another daemon.
    fn check_meant(&self, cluster: Name, to: DaemonId) -> Result<(), Status> {
        if cluster != self.cluster {
            self.refusals.count("FOREIGN_CLUSTER");
            return Err(refusals::foreign_cluster(self.cluster));
        }
        if to != self.me {
            self.refusals.count("WRONG_DAEMON");
            return Err(refusals::wrong_daemon(self.me));
        }
        Ok(())
    }

    /// Reads frames until the stream ends, and says why if that is not to be had from gRPC.
    async fn read(
        &self,
        from: DaemonId,
        epoch: Epoch,
        requests: &mut Streaming<pb::OpenRequest>,
    ) -> Option<Status> {
        loop {
            let request = match requests.message().await {
                Ok(request) => request?,
                Err(status) => return Some(self.refusals.unreadable(status)),
            };
            let mut facts = Vec::with_capacity(request.frames.len());
            let fact = |(number, message)| Input::Frame { from, epoch, number, message };
            let read = request.frames.into_iter().map(|frame| frames::read(frame).map(fact));
            let malformed = read.map(|fact| fact.map(|fact| facts.push(fact))).find_map(Result::err);
            self.machine.send_all(facts).await.ok()?;
            if let Some(malformed) = malformed {
                tracing::warn!(%from, field = malformed.field, rule = malformed.rule, "malformed frame");
                self.refusals.count("MALFORMED_FRAME");
                return Some(malformed.inside("frames").into());
            }
        }
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<pb::OpenResponse, Status>> + Send>>;

#[tonic::async_trait]
impl LinkService for LinkServer {
    type OpenStream = Responses;

    async fn open(
        &self,
        request: Request<Streaming<pb::OpenRequest>>,
    ) -> Result<Response<Responses>, Status> {
        if self.stop.is_cancelled() {
            return Err(refusals::draining());
        }
        let caller = Caller::of(&request);
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap_or_default();
        let (from, epoch) = self.caller(first.hello)?;
        caller.speaks_for(from.name())?;
        let call = self.inbound.enter(from, epoch).await;
        let received = call.received.subscribe();
        let links = self.clone();
        let reader = Arc::clone(&call);
        tokio::spawn(async move {
            if links.machine.send(Input::Opened { from, epoch }).await.is_ok() {
                let read = links.read(from, epoch, &mut requests);
                if let Some(Some(reason)) = reader.over.run_until_cancelled(read).await {
                    reader.end(reason);
                }
            }
            // Before the next stream of the same peer is let in. A machine that has stopped wants to know no more.
            let _ = links.machine.send(Input::Closed { from, epoch }).await;
            links.inbound.leave(from, &reader);
            reader.over.cancel();
        });
        Ok(Response::new(Box::pin(responses(call, received))))
    }

    async fn probe(&self, request: Request<pb::ProbeRequest>) -> Result<Response<pb::ProbeResponse>, Status> {
        let request = request.into_inner();
        let malformed = |malformed: Malformed| {
            self.refusals.count("MALFORMED_PROBE");
            malformed
        };
        let cluster = wire::parse(&request.cluster, "cluster").map_err(malformed)?;
        let to = wire::parse(&request.to, "to").map_err(malformed)?;
        self.check_meant(cluster, to)?;
        // It is the machine that has to be alive.
        self.machine.ask(|_| ()).await.map_err(|_| refusals::draining())?;
        Ok(Response::new(pb::ProbeResponse {}))
    }
}

/// The acknowledgements of a stream. When the caller goes away, the stream is over.
fn responses(
    call: Arc<Call>,
    received: watch::Receiver<Option<u64>>,
) -> impl Stream<Item = Result<pb::OpenResponse, Status>> + Send {
    let gone = call.over.clone().drop_guard();
    let start = (Some(call), received, gone);
    stream::unfold(start, async |(call, mut received, gone): (Option<Arc<Call>>, _, DropGuard)| {
        let call = call?;
        let response = tokio::select! {
            biased;
            () = call.over.cancelled() => Err(call.reason.get()?.clone()),
            received = next(&mut received) => Ok(pb::OpenResponse { received }),
        };
        let call = response.is_ok().then_some(call);
        Some((response, (call, received, gone)))
    })
}

/// The next news of what was received.
async fn next(received: &mut watch::Receiver<Option<u64>>) -> u64 {
    loop {
        // The sender lives as long as the call, whose end is awaited beside this.
        if received.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if let Some(received) = *received.borrow_and_update() {
            return received;
        }
    }
}
