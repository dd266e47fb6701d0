//! Links to the other membership servers: of two, the one whose name is the lesser calls, and calls again whenever the
//! link breaks.

use std::convert::Infallible;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, future, stream};
use membership_core::Leave;
use model::{Name, ServerId};
use proto::membership::v1 as pb;
use proto::membership::v1::peer_service_client::PeerServiceClient;
use proto::membership::v1::peer_service_server::PeerService;
use svc_kit::access::Caller;
use svc_kit::dial::{self, Backoff, MESSAGE_BYTES_MAX, Wire};
use svc_kit::tls::Role;
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Peer;
use crate::line::{self, Line};
use crate::status;
use crate::streams::Opened;
use crate::switchboard::{Fact, StreamNumber};
use crate::wire::malformed;
use crate::wire::peers as wire;

/// `PeerService`.
pub struct PeerServer {
    /// This server.
    pub line: Arc<Line>,
}

#[tonic::async_trait]
impl PeerService for PeerServer {
    type LinkStream = BoxStream<pb::LinkResponse>;

    async fn link(
        &self,
        request: Request<Streaming<pb::LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let line = Arc::clone(&self.line);
        let caller = Caller::of(&request);
        let mut requests = request.into_inner();
        let hello = requests.message().await?.and_then(|first| first.hello);
        let hello = hello.ok_or_else(|| malformed("hello", "must be in the first message"))?;
        let server = welcome(&line, &hello, &line.callers).inspect_err(|status| {
            if let Ok(server) = hello.server.parse::<ServerId>() {
                line.trouble(server.name(), status);
            }
        })?;
        caller.speaks_for(server.name())?;
        let hello = wire::link_hello(line.hello(server.name()).await?);
        let stream = line.number();
        let Opened { queue, ended } = line.servers.open(stream);
        line.tell(Fact::Server { stream, server }).await?;
        line.troubles.clear(server.name());
        let hello = pb::LinkResponse { hello: Some(hello), message: None };
        let said = line::outgoing(queue, line.stop.clone())
            .map_ok(|message| pb::LinkResponse { hello: None, message: Some(message) });
        let responses = stream::once(future::ready(Ok(hello))).chain(said);
        let heard = requests.map_ok(|request| request.message);
        tokio::spawn(async move {
            let cause = hear(&line, stream, heard, &ended).await;
            tracing::info!(%server, cause, "the link is down");
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

/// Who is at the other end, if it is one of those `expected` there, belongs to the same cluster, speaks as this server
/// does, and means this server.
fn welcome(line: &Line, hello: &pb::LinkHello, expected: &[Name]) -> Result<ServerId, Status> {
    status::check_version(hello.version)?;
    let wire::LinkHello { cluster, server, protocol, rule, to, latest } = wire::read_link_hello(hello)?;
    if cluster != line.cluster {
        return Err(status::foreign_cluster(cluster, line.cluster));
    }
    if protocol != line.protocol {
        tracing::warn!(%server, %protocol, "refused a server that agrees in another way");
        return Err(status::foreign_protocol(protocol, line.protocol));
    }
    if rule != line.rule {
        tracing::warn!(%server, rule, "refused a server that has another rule of who is primary");
        return Err(status::foreign_rule(&rule, &line.rule));
    }
    if to != line.id.name() {
        return Err(status::wrong_server(to, line.id));
    }
    if !expected.contains(&server.name()) {
        return Err(status::unknown_server(server));
    }
    if latest > line.id.boot() {
        let by = ServerId::new(to, latest);
        line.superseded.send_replace(Some(by));
        return Err(status::superseded(by));
    }
    tracing::info!(%server, "the link is up");
    Ok(server)
}

/// Tells the machine what is said on a link until it ends, and then that it ended. Returns why.
async fn hear(
    line: &Line,
    stream: StreamNumber,
    heard: impl stream::Stream<Item = Result<Option<pb::PeerMessage>, Status>>,
    ended: &CancellationToken,
) -> String {
    let listen = async {
        let mut heard = std::pin::pin!(heard);
        while let Some(message) = heard.next().await {
            let message = match message.map(wire::read_peer_message) {
                Ok(Ok(message)) => message,
                Ok(Err(malformed)) => {
                    let cause = malformed.to_string();
                    line.servers.end(stream, malformed.into());
                    return cause;
                }
                Err(status) => return line::broken(&status),
            };
            if line.machine.send(Fact::Says { stream, message }).await.is_err() {
                break;
            }
        }
        "it hung up, or was silent for too long".to_owned()
    };
    let cause = tokio::select! {
        biased;
        () = line.stop.cancelled() => "shutting down".to_owned(),
        () = ended.cancelled() => "it was given up".to_owned(),
        cause = listen => cause,
    };
    line.servers.forget(stream);
    // If the machine has stopped, nobody is left to be told.
    let _ = line.machine.send(Fact::Closed { stream, leave: Leave::Closed, cause: cause.clone() }).await;
    cause
}

/// Keeps a link to `peer` until the server stops.
pub async fn keep_link(line: Arc<Line>, peer: Peer, wire: Wire) {
    let mut backoff = Backoff::new();
    let stop = line.stop.clone();
    let keep = async {
        loop {
            let stream = line.number();
            let Err(ended) = call(&line, stream, &peer, &wire, &mut backoff).await;
            line.servers.forget(stream);
            match &ended {
                Ended::Dial(error) => {
                    line.troubles.note(line.clock.now(), peer.name, "NO_LINK", error.to_string())
                }
                Ended::Call(status) => line.trouble(peer.name, status),
                Ended::Broken(cause) => {
                    tracing::debug!(peer = %peer.name, address = %peer.address, cause, "no link");
                }
            }
            backoff.pause().await;
        }
    };
    stop.run_until_cancelled(keep).await;
}

/// Why a link ended, or there was none.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Dial(#[from] dial::DialError),
    #[error("{}", .0.message())]
    Call(#[from] Status),
    #[error("{0}")]
    Broken(String),
}

async fn call(
    line: &Line,
    stream: StreamNumber,
    peer: &Peer,
    wire: &Wire,
    backoff: &mut Backoff,
) -> Result<Infallible, Ended> {
    let channel = wire.connect(&peer.address, Role::Membership).await?;
    let mut client = PeerServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let Opened { queue, ended } = line.servers.open(stream);
    let hello = wire::link_hello(line.hello(peer.name).await?);
    let hello = pb::LinkRequest { hello: Some(hello), message: None };
    // A request has no status to end with: the end of the stream says it all.
    let said = line::outgoing(queue, line.stop.clone())
        .take_while(|message| future::ready(message.is_ok()))
        .filter_map(async |message| message.ok())
        .map(|message| pb::LinkRequest { hello: None, message: Some(message) });
    let requests = stream::once(future::ready(hello)).chain(said);
    let mut responses = client.link(requests).await?.into_inner();
    let hello = responses.message().await?.and_then(|first| first.hello);
    let hello = hello.ok_or_else(|| Status::from(malformed("hello", "must be in the first message")))?;
    let server = welcome(line, &hello, &[peer.name])?;
    backoff.reset();
    line.tell(Fact::Server { stream, server }).await?;
    line.troubles.clear(server.name());
    let heard = responses.map_ok(|response| response.message);
    let cause = hear(line, stream, heard, &ended).await;
    tracing::info!(%server, cause, "the link is down");
    Err(Ended::Broken(cause))
}
