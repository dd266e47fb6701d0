//! What every call needs to reach the machine and to be reached by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
use crate::traffic::Traffic;
use crate::troubles::Troubles;
use crate::wire::peers::LinkHello;

/// Whoever is up and knows of this server calls it within this time.
const CALL_MAX: Duration = Duration::from_secs(2);

/// This server, as calls see it.
pub struct Line {
    /// Which server this is.
    pub id: ServerId,
    /// Which cluster it belongs to.
    pub cluster: Name,
    /// The servers that are to call this one.
    pub callers: Vec<Name>,
    /// How it agrees with other servers.
    pub protocol: Protocol,
    /// By which rule it says which configuration is primary, as text.
    pub rule: String,
    /// Whom to tell facts.
    pub machine: Handle<Switchboard>,
    /// What goes out to daemons.
    pub daemons: Arc<Streams<pb::RegisterResponse>>,
    /// What goes out to servers.
    pub servers: Arc<Streams<pb::PeerMessage>>,
    /// What was sent, counted.
    pub traffic: Arc<Traffic>,
    /// The configurations so far.
    pub history: watch::Receiver<History>,
    /// The time.
    pub clock: Clock,
    /// When the process started.
    pub started: Time,
    /// What is wrong with other servers.
    pub troubles: Troubles,
    /// The server that takes the place of this one.
    pub superseded: watch::Sender<Option<ServerId>>,
    /// Cancelled when calls are to end.
    pub stop: CancellationToken,
    /// The number of the next stream.
    pub next: AtomicU64,
}

impl Line {
    /// What this server says of itself to the one called `to`.
    pub async fn hello(&self, to: Name) -> Result<LinkHello, Status> {
        let latest = self.machine.ask(move |board| board.latest(to)).await;
        let latest = latest.map_err(|_| status::draining())?;
        let (cluster, server, protocol, rule) = (self.cluster, self.id, self.protocol, self.rule.clone());
        Ok(LinkHello { cluster, server, protocol, rule, to, latest })
    }

    /// There is no link with the server called `name`, and this is why.
    pub fn trouble(&self, name: Name, status: &Status) {
        let reason = svc_kit::status::reason(status);
        let reason = reason.as_deref().unwrap_or("NO_LINK");
        self.troubles.note(self.clock.now(), name, reason, status.message().to_owned());
    }

    /// What is wrong with other servers, of which those of `linked` are not.
    pub fn warnings(&self, linked: &[ServerId]) -> Vec<pb::Warning> {
        let now = self.clock.now();
        let mut warnings = self.troubles.warnings(now);
        let is_linked = |name: &Name| linked.iter().any(|server| server.name() == *name);
        warnings
            .retain(|it| it.reason == "SUPERSEDED" || !it.name.parse().is_ok_and(|name| is_linked(&name)));
        if now.since(self.started) >= CALL_MAX {
            let silent = self.callers.iter().filter(|name| !is_linked(name));
            let silent = silent.filter(|name| !warnings.iter().any(|it| it.name == name.as_str()));
            let silent: Vec<_> = silent
                .map(|name| pb::Warning {
                    reason: "NO_LINK".to_owned(),
                    name: name.to_string(),
                    detail: "it does not call: it is down, or this server is not in its settings".to_owned(),
                })
                .collect();
            warnings.extend(silent);
        }
        warnings
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
