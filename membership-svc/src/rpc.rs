//! What daemons and people call: requests become facts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use membership_core::{Leave, Term};
use model::{Name, ServerId};
use proto::membership::v1 as pb;
use proto::membership::v1::membership_service_server::MembershipService;
use svc_kit::access::Caller;
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::line::{self, Line};
use crate::status;
use crate::streams::Opened;
use crate::switchboard::{Fact, StreamNumber};
use crate::traffic::Counts;
use crate::wire;

/// `MembershipService`.
pub struct MembershipServer(pub Arc<Line>);

/// How long a caller may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an evicted daemon stays out if the operator does not say. Who is kept out for no time at all would not be
/// sent away.
const EVICTION: Duration = Duration::from_secs(1);

#[tonic::async_trait]
impl MembershipService for MembershipServer {
    type RegisterStream = BoxStream<pb::RegisterResponse>;
    type WatchStream = BoxStream<pb::WatchResponse>;

    async fn register(
        &self,
        request: Request<Streaming<pb::RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let line = Arc::clone(&self.0);
        let caller = Caller::of(&request);
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, requests.message());
        let first = first.await.map_err(|_| wire::malformed("hello", "did not come in time"))??;
        let hello = wire::first(first.unwrap_or_default())?;
        status::check_version(hello.version)?;
        let (cluster, arrival) = wire::hello(hello)?;
        if cluster != line.cluster {
            return Err(status::foreign_cluster(cluster, line.cluster));
        }
        caller.speaks_for(arrival.daemon.name())?;
        let stream = line.number();
        let Opened { queue, ended } = line.daemons.open(stream);
        line.tell(Fact::Daemon { stream, arrival }).await?;
        let notices = line::outgoing(queue, line.stop.clone());
        tokio::spawn(attend(line, stream, requests, ended));
        Ok(Response::new(Box::pin(notices)))
    }

    async fn get_membership(
        &self,
        _: Request<pb::GetMembershipRequest>,
    ) -> Result<Response<pb::GetMembershipResponse>, Status> {
        let line = &self.0;
        let now = line.clock.now();
        let seen = line.machine.ask(move |board| Seen {
            attached: board.attached().map(|daemon| daemon.to_string()).collect(),
            linked: board.linked().collect(),
            agrees_with: board.server().agrees_with(now).iter().map(ToString::to_string).collect(),
            daemons: board.server().daemons(now).into_iter().map(wire::daemon_status).collect(),
            barred: board.server().barred(now).map(wire::barred).collect(),
            links: board.server().links().into_iter().map(wire::server_links).collect(),
        });
        let Seen { attached, linked, agrees_with, daemons, barred, links } =
            seen.await.map_err(|_| status::draining())?;
        let history = line.history.borrow().clone();
        let mut views = history.views.iter().map(|view| wire::view(view));
        let uptime = now.since(line.started);
        Ok(Response::new(pb::GetMembershipResponse {
            server: line.id.to_string(),
            cluster: line.cluster.to_string(),
            current: views.next(),
            history: views.collect(),
            attached,
            peers: linked.iter().map(ToString::to_string).collect(),
            agrees_with,
            daemons,
            barred,
            links,
            warnings: line.warnings(&linked),
            refused: counts(history.refused),
            sent: counts(line.traffic.servers()),
            told: counts(line.traffic.daemons()),
            uptime: prost_types::Duration::try_from(uptime).ok(),
        }))
    }

    async fn watch(&self, _: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(views(&self.0))))
    }

    async fn evict(&self, request: Request<pb::EvictRequest>) -> Result<Response<pb::EvictResponse>, Status> {
        let request = request.into_inner();
        let time = wire::duration(request.duration, "duration")?;
        let time = if time.is_zero() { EVICTION } else { time };
        self.bar(wire::name(&request.name, "name")?, Some(Term::For(time))).await?;
        Ok(Response::new(pb::EvictResponse {}))
    }

    async fn set_maintenance(
        &self,
        request: Request<pb::SetMaintenanceRequest>,
    ) -> Result<Response<pb::SetMaintenanceResponse>, Status> {
        let request = request.into_inner();
        let term = request.maintenance.then_some(Term::Maintenance);
        self.bar(wire::name(&request.name, "name")?, term).await?;
        Ok(Response::new(pb::SetMaintenanceResponse {}))
    }
}

impl MembershipServer {
    async fn bar(&self, name: Name, out: Option<Term>) -> Result<(), Status> {
        tracing::info!(%name, ?out, "an operator decides who is kept out");
        self.0.tell(Fact::Bar { name, out }).await
    }
}

/// What the machine knows of daemons and servers.
struct Seen {
    attached: Vec<String>,
    linked: Vec<ServerId>,
    agrees_with: Vec<String>,
    daemons: Vec<pb::DaemonStatus>,
    barred: Vec<pb::BarredDaemon>,
    links: Vec<pb::ServerLinks>,
}

fn counts(counts: Counts) -> HashMap<String, u64> {
    counts.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect()
}

/// The current configuration, and each new one.
fn views(line: &Line) -> impl Stream<Item = Result<pb::WatchResponse, Status>> + use<> {
    let mut history = line.history.clone();
    history.mark_changed();
    stream::unfold((history, line.stop.clone(), None), async |(mut history, stop, told)| {
        loop {
            if stop.run_until_cancelled(history.changed()).await?.is_err() {
                return None;
            }
            let newest = history.borrow_and_update().views.front().cloned();
            let Some(view) = newest.filter(|view| told != Some(view.time)) else { continue };
            let response = pb::WatchResponse { view: Some(wire::view(&view)) };
            return Some((Ok(response), (history, stop, Some(view.time))));
        }
    })
}

/// Hears what a daemon says until its stream ends, and then says why. A server that shuts down does not: its daemons are
/// not gone.
async fn attend(
    line: Arc<Line>,
    stream: StreamNumber,
    mut requests: Streaming<pb::RegisterRequest>,
    ended: CancellationToken,
) {
    let (leave, cause) = tokio::select! {
        biased;
        () = line.stop.cancelled() => return,
        () = ended.cancelled() => (Leave::Closed, "it was given up".to_owned()),
        end = listen(&line, stream, &mut requests) => end,
    };
    line.daemons.forget(stream);
    // If the machine has stopped, nobody is left to be told.
    let _ = line.machine.send(Fact::Closed { stream, leave, cause }).await;
}

/// Tells the machine what a daemon says, and returns why it says no more.
async fn listen(
    line: &Line,
    stream: StreamNumber,
    requests: &mut Streaming<pb::RegisterRequest>,
) -> (Leave, String) {
    use pb::register_request::Request as Said;
    let malformed = |malformed: wire::Malformed| {
        let cause = malformed.to_string();
        line.daemons.end(stream, malformed.into());
        (Leave::Closed, cause)
    };
    loop {
        let request = match requests.message().await {
            // Keepalive closes a silent connection, and that looks the same.
            Ok(None) => return (Leave::Closed, "it hung up, or was silent for too long".to_owned()),
            Ok(Some(request)) => request.request,
            Err(status) => return (Leave::Closed, line::broken(&status)),
        };
        let fact = match request {
            Some(Said::Goodbye(pb::Goodbye {})) => return (Leave::Goodbye, "it said goodbye".to_owned()),
            Some(Said::Beat(pb::Beat {})) => Ok(Fact::Beats { stream }),
            Some(Said::Reach(reach)) => wire::report(reach.unreachable, "reach.unreachable")
                .map(|report| Fact::Reports { stream, report }),
            Some(Said::Attempted(it)) => {
                wire::attempted(&it).map(|(id, agrees)| Fact::Attempted { stream, id, agrees })
            }
            Some(Said::Hello(_)) => Err(wire::malformed("hello", "must be the first request only")),
            None => Err(wire::malformed("request", "must be set")),
        };
        let fact = match fact {
            Ok(fact) => fact,
            Err(wrong) => return malformed(wrong),
        };
        if line.machine.send(fact).await.is_err() {
            return (Leave::Closed, "the server stopped".to_owned());
        }
    }
}
