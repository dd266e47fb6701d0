//! What every call needs to reach the machine and to be reached by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, stream};
use membership_core::Protocol;
use model::{Name, ServerId, Time};
use proto::membership::v1 as pb;
use svc_kit::driver::{Clock, Handle};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::history::History;
use crate::status;
use crate::streams::Streams;
use crate::switchboard::{Fact, StreamNumber, Switchboard};
use crate::wire::peers::LinkHello;

/// This server, as calls see it.
pub struct Line {
    /// Which server this is.
    pub id: ServerId,
    /// Which cluster it belongs to.
    pub cluster: Name,
    /// How it agrees with other servers.
    pub protocol: Protocol,
    /// Whom to tell facts.
    pub machine: Handle<Switchboard>,
    /// What goes out to daemons.
    pub daemons: Arc<Streams<pb::RegisterResponse>>,
    /// What goes out to servers.
    pub servers: Arc<Streams<pb::PeerMessage>>,
    /// The configurations so far.
    pub history: watch::Receiver<History>,
    /// The time.
    pub clock: Clock,
    /// When the process started.
    pub started: Time,
    /// Cancelled when calls are to end.
    pub stop: CancellationToken,
    /// The number of the next stream.
    pub next: AtomicU64,
}

impl Line {
    /// What this server says of itself to others.
    pub fn hello(&self) -> LinkHello {
        LinkHello { cluster: self.cluster, server: self.id, protocol: self.protocol }
    }

    /// A number for a new stream.
    pub fn number(&self) -> StreamNumber {
        StreamNumber(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Tells the machine of a new stream.
    pub async fn tell(&self, fact: Fact) -> Result<(), Status> {
        self.machine.send(fact).await.map_err(|_| status::draining())
    }
}

/// The other half of a stream's queue, as a response. Ends with a reason, unless the
/// other end has hung up.
pub fn outgoing<T>(
    queue: mpsc::Receiver<Result<T, Status>>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<T, Status>> {
    stream::unfold(Some((queue, stop)), async |open| {
        let (mut queue, stop) = open?;
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => Some(Err(status::draining())),
            next = queue.recv() => next,
        };
        match next? {
            Ok(message) => Some((Ok(message), Some((queue, stop)))),
            Err(why) => Some((Err(why), None)),
        }
    })
}

/// Why a stream broke, for people.
pub fn broken(status: &Status) -> String {
    format!("the connection broke: {}", status.message())
}
