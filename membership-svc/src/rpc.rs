//! What daemons and people call: requests become facts.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use model::{DaemonId, ServerId};
use proto::membership::v1 as pb;
use proto::membership::v1::membership_service_server::MembershipService;
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::line::{self, Line};
use crate::status;
use crate::streams::Opened;
use crate::switchboard::{Fact, StreamNumber};
use crate::wire;

/// `MembershipService`.
pub struct MembershipServer(pub Arc<Line>);

/// How long a caller may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

#[tonic::async_trait]
impl MembershipService for MembershipServer {
    type RegisterStream = BoxStream<pb::RegisterResponse>;
    type WatchStream = BoxStream<pb::WatchResponse>;

    async fn register(
        &self,
        request: Request<Streaming<pb::RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let line = Arc::clone(&self.0);
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, requests.message());
        let first = first.await.map_err(|_| wire::malformed("hello", "did not come in time"))??;
        let (cluster, hello) = wire::hello(first.unwrap_or_default())?;
        if cluster != line.cluster {
            return Err(status::foreign_cluster(cluster, line.cluster));
        }
        let stream = line.number();
        let Opened { queue, ended } = line.daemons.open(stream);
        line.tell(Fact::Daemon { stream, hello }).await?;
        let notices = line::outgoing(queue, line.stop.clone());
        tokio::spawn(attend(line, stream, requests, ended));
        Ok(Response::new(Box::pin(notices)))
    }

    async fn get_membership(
        &self,
        _: Request<pb::GetMembershipRequest>,
    ) -> Result<Response<pb::GetMembershipResponse>, Status> {
        let line = &self.0;
        let seen = line.machine.ask(|board| {
            (board.attached().collect::<Vec<DaemonId>>(), board.linked().collect::<Vec<ServerId>>())
        });
        let (attached, linked) = seen.await.map_err(|_| status::draining())?;
        let history = line.history.borrow().clone();
        let mut views = history.views.iter().map(|view| wire::view(view));
        let uptime = line.clock.now().since(line.started);
        Ok(Response::new(pb::GetMembershipResponse {
            server: line.id.to_string(),
            cluster: line.cluster.to_string(),
            current: views.next(),
            history: views.collect(),
            attached: attached.iter().map(ToString::to_string).collect(),
            peers: linked.iter().map(ToString::to_string).collect(),
            refused: history.refused.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            uptime: prost_types::Duration::try_from(uptime).ok(),
        }))
    }

    async fn watch(&self, _: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(views(&self.0))))
    }
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
            let Some(view) = newest.filter(|view| told != Some(view.configuration.id)) else { continue };
            let response = pb::WatchResponse { view: Some(wire::view(&view)) };
            return Some((Ok(response), (history, stop, Some(view.configuration.id))));
        }
    })
}

/// Waits for the end of a daemon's stream, and says why it ended. A server that shuts down does not: its daemons are
/// not gone.
async fn attend(
    line: Arc<Line>,
    stream: StreamNumber,
    mut requests: Streaming<pb::RegisterRequest>,
    ended: CancellationToken,
) {
    let cause = tokio::select! {
        biased;
        () = line.stop.cancelled() => return,
        () = ended.cancelled() => "it was given up".to_owned(),
        request = requests.message() => match request {
            // Keepalive closes a silent connection, and that looks the same.
            Ok(None) => "it hung up, or was silent for too long".to_owned(),
            Ok(Some(_)) => {
                line.daemons.end(stream, wire::malformed("hello", "must be the only request").into());
                "it said more than hello".to_owned()
            }
            Err(status) => line::broken(&status),
        },
    };
    line.daemons.forget(stream);
    // If the machine has stopped, nobody is left to be told.
    let _ = line.machine.send(Fact::Closed { stream, cause }).await;
}
