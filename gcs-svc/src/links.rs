//! Our streams to other daemons: each is opened, and opened again whenever it breaks, for as long as the machine wants
//! it.
//!
//! Bounds: a stream whose queue is full counts as broken, and is opened again; the machine keeps what was not
//! acknowledged and sends it again from where the peer is. The queue has room for every frame that the machine may
//! have to send at once; the frames in it are shared by all queues.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, stream};
use gcs_core::{Answer, Daemon, Epoch, Input};
use model::{Address, DaemonId, Name};
use prost::Message as _;
use proto::gcs::v1 as pb;
use proto::gcs::v1::link_service_client::LinkServiceClient;
use svc_kit::dial::{self, Backoff, MESSAGE_BYTES_MAX, Wire};
use svc_kit::driver::{Handle, Stopped};
use svc_kit::tls::Role;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use crate::config::Config;
use crate::frames;
use crate::parts::Parts;
use crate::round_trips::RoundTrips;

/// The most frames that wait in the queue of one stream.
const QUEUE_MAX: usize = 16 * 1024;
/// Frames go out together up to about this many bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// The call that opens a stream.
const OPEN: &str = "/handover.gcs.v1.LinkService/Open";

/// What all streams have in common.
pub struct Links {
    me: DaemonId,
    cluster: Name,
    wire: Wire,
    /// How long a peer that is probed may take to answer.
    probe_timeout: Duration,
    machine: Handle<Daemon>,
    round_trips: RoundTrips,
    open: Mutex<BTreeMap<DaemonId, Link>>,
}

struct Link {
    address: Address,
    epoch: Epoch,
    opened: u64,
    /// The queue of the stream, while it is open.
    frames: Option<mpsc::Sender<(u64, Bytes)>>,
    /// Breaks the stream, open or being opened.
    broken: CancellationToken,
    /// Ends the task that keeps it open.
    _wanted: DropGuard,
}

/// A stream, for operators.
pub struct LinkStatus {
    /// Where it leads.
    pub peer: DaemonId,
    /// The address it is opened to.
    pub address: Address,
    /// Whether it is open.
    pub up: bool,
    /// How often it has been opened.
    pub opened: u64,
}

/// Why an attempt to keep a stream open ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Dial(#[from] dial::DialError),
    #[error("{}", .0.message())]
    Call(#[from] Status),
    #[error("the peer ended the call")]
    Closed,
    #[error("the queue is full, or the peer is silent or does not keep to the protocol")]
    Broken,
    #[error("stopped")]
    Stopped(#[from] Stopped),
}

impl Links {
    /// The streams of daemon `me`; none yet.
    pub fn new(
        me: DaemonId,
        config: &Config,
        wire: Wire,
        machine: Handle<Daemon>,
        round_trips: RoundTrips,
    ) -> Links {
        Links {
            me,
            cluster: config.cluster,
            wire,
            probe_timeout: config.detection.params().probe,
            machine,
            round_trips,
            open: Mutex::default(),
        }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<DaemonId, Link>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream to `peer` and keeps it open.
    pub fn connect(self: &Arc<Links>, peer: DaemonId, address: Address, epoch: Epoch) {
        let wanted = CancellationToken::new();
        let task = wanted.clone().run_until_cancelled_owned({
            let (links, address) = (Arc::clone(self), address.clone());
            async move { links.keep_open(peer, &address, epoch).await }
        });
        let broken = CancellationToken::new();
        let link = Link { address, epoch, opened: 0, frames: None, broken, _wanted: wanted.drop_guard() };
        self.open().insert(peer, link);
        tokio::spawn(task);
    }

    /// Closes the stream to `peer`.
    pub fn disconnect(&self, peer: DaemonId) {
        self.open().remove(&peer);
    }

    /// Queues a frame, encoded. What cannot be queued is sent again when the stream is open again.
    pub fn send(&self, peer: DaemonId, epoch: Epoch, number: u64, frame: Bytes) {
        let mut open = self.open();
        let Some(link) = open.get_mut(&peer).filter(|link| link.epoch == epoch) else { return };
        if let Some(frames) = &link.frames
            && frames.try_send((number, frame)).is_err()
        {
            tracing::debug!(%peer, "the queue of the link is full");
            link.fail();
        }
    }

    /// The peer broke the protocol on this stream, or is silent: opens it again.
    pub fn fail(&self, peer: DaemonId) {
        if let Some(link) = self.open().get_mut(&peer) {
            link.fail();
        }
    }

    /// All streams.
    pub fn status(&self) -> Vec<LinkStatus> {
        let open = self.open();
        let status = open.iter().map(|(peer, link)| LinkStatus {
            peer: *peer,
            address: link.address.clone(),
            up: link.frames.is_some(),
            opened: link.opened,
        });
        status.collect()
    }

    async fn keep_open(&self, peer: DaemonId, address: &Address, epoch: Epoch) {
        let mut backoff = Backoff::new();
        loop {
            let Some(broken) = self.attempt(peer, epoch) else { return };
            let ended = tokio::select! {
                Err(ended) = self.stream(peer, address, epoch, &mut backoff) => ended,
                () = broken.cancelled() => Ended::Broken,
            };
            tracing::debug!(%peer, %address, %epoch, reason = %ended, "the link is down");
            if self.ended(peer, epoch).await.is_err() {
                return;
            }
            backoff.pause().await;
        }
    }

    /// A new attempt at the stream begins. Returns what breaks it.
    fn attempt(&self, peer: DaemonId, epoch: Epoch) -> Option<CancellationToken> {
        let mut open = self.open();
        let link = open.get_mut(&peer).filter(|link| link.epoch == epoch)?;
        link.broken = CancellationToken::new();
        Some(link.broken.clone())
    }

    /// The attempt is over.
    async fn ended(&self, peer: DaemonId, epoch: Epoch) -> Result<(), Stopped> {
        if let Some(link) = self.open().get_mut(&peer).filter(|link| link.epoch == epoch) {
            link.frames = None;
        }
        self.machine.send(Input::LinkDown { peer, epoch }).await?;
        // What the machine sent before it learnt of this must not get into the queue of the next stream.
        self.machine.ask(|_| ()).await
    }

    /// Opens the stream and serves it until it breaks.
    async fn stream(
        &self,
        peer: DaemonId,
        address: &Address,
        epoch: Epoch,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Ended> {
        let channel = self.wire.connect(address, Role::Machine).await?;
        let mut client = Grpc::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (frames, queue) = mpsc::channel(QUEUE_MAX);
        let hello = pb::LinkHello {
            cluster: self.cluster.to_string(),
            from: self.me.to_string(),
            to: peer.to_string(),
            epoch: epoch.number(),
        };
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let requests = Request::new(requests(hello, queue));
        let opening =
            client.streaming(requests, PathAndQuery::from_static(OPEN), Parts::<pb::OpenResponse>::default());
        let mut responses = opening.await?.into_inner();
        let first = responses.message().await?.ok_or(Ended::Closed)?;

        backoff.reset();
        self.opened(peer, epoch, frames);
        self.machine.send(Input::LinkUp { peer, epoch, received: first.received }).await?;
        let acknowledged = async {
            loop {
                let response = responses.message().await?.ok_or(Ended::Closed)?;
                self.machine.send(Input::Acked { peer, epoch, received: response.received }).await?;
            }
        };
        tokio::select! {
            ended = acknowledged => ended,
            never = self.round_trips.measure(peer, self.probe_of(peer), channel) => Ok(never),
        }
    }

    fn probe_of(&self, peer: DaemonId) -> pb::ProbeRequest {
        pb::ProbeRequest { cluster: self.cluster.to_string(), to: peer.to_string() }
    }

    fn opened(&self, peer: DaemonId, epoch: Epoch, frames: mpsc::Sender<(u64, Bytes)>) {
        tracing::debug!(%peer, %epoch, "the link is up");
        if let Some(link) = self.open().get_mut(&peer).filter(|link| link.epoch == epoch) {
            link.opened += 1;
            link.frames = Some(frames);
        }
    }

    /// Finds out who answers at the address of `peer`, and tells the machine. Who has not answered when it is time for
    /// the next probe does not answer.
    pub fn probe(self: &Arc<Links>, peer: DaemonId, address: Address) {
        let links = Arc::clone(self);
        tokio::spawn(async move {
            let answer = tokio::time::timeout(links.probe_timeout, links.ask(peer, &address)).await;
            let answer = answer.unwrap_or(Answer::None);
            tracing::debug!(%peer, %address, ?answer, "probed");
            // A machine that has stopped wants to know no more.
            let _ = links.machine.send(Input::Probed { peer, answer }).await;
        });
    }

    async fn ask(&self, peer: DaemonId, address: &Address) -> Answer {
        let Ok(channel) = self.wire.connect(address, Role::Machine).await else { return Answer::None };
        match LinkServiceClient::new(channel).probe(self.probe_of(peer)).await {
            Ok(_) => Answer::Present,
            Err(status) if status.code() == Code::FailedPrecondition => Answer::Other,
            Err(_) => Answer::None,
        }
    }
}

impl Link {
    fn fail(&mut self) {
        self.frames = None;
        self.broken.cancel();
    }
}

type Queue = mpsc::Receiver<(u64, Bytes)>;

/// The requests of a stream, each an `OpenRequest` in parts: hello, then whatever frames are queued, in batches.
fn requests(hello: pb::LinkHello, queue: Queue) -> impl Stream<Item = Vec<Bytes>> + Send {
    let hello = pb::OpenRequest { hello: Some(hello), frames: Vec::new() };
    let hello = vec![Bytes::from(hello.encode_to_vec())];
    stream::unfold((Some(hello), queue), async |(hello, mut queue): (_, Queue)| match hello {
        Some(hello) => Some((hello, (None, queue))),
        None => {
            let first = queue.recv().await?;
            Some((batch(first, &mut queue), (None, queue)))
        }
    })
}

fn batch(first: (u64, Bytes), queue: &mut Queue) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some((number, frame)) = next {
        bytes += frame.len();
        parts.extend(frames::numbered(number, frame));
        next = if bytes < BATCH_BYTES { queue.try_recv().ok() } else { None };
    }
    parts
}
