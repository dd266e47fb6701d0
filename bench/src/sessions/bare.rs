//! What sessions are measured beside: a tonic server with the same contract that keeps nothing and survives nothing,
//! and the same behind another one that only passes on what it says, as a gateway does.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use model::Address;
use proto::session::v1 as pb;
use proto::session::v1::attach_response::Event;
use proto::session::v1::session_service_client::SessionServiceClient;
use proto::session::v1::session_service_server::{SessionService, SessionServiceServer};
use svc_kit::dial::Wire;
use svc_kit::tls::Role;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

type Responses = Pin<Box<dyn Stream<Item = Result<pb::AttachResponse, Status>> + Send>>;

/// What such a server is run with.
#[derive(Debug, clap::Args)]
pub struct BareArgs {
    /// Pass everything on to the server at this address
    #[arg(long, value_name = "HOST:PORT")]
    behind: Option<String>,
}

struct Bare {
    behind: Option<SessionServiceClient<Channel>>,
}

/// Serves until the process ends, and says where.
pub async fn run(args: &BareArgs) -> anyhow::Result<()> {
    let behind = match &args.behind {
        Some(address) => {
            let address = Address::new(address);
            Some(SessionServiceClient::new(Wire::default().connect(&address, Role::Gateway).await?))
        }
        None => None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let server = tonic::transport::Server::builder().tcp_nodelay(true);
    let server = server.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 20);
    let mut server = server.max_frame_size(128 * 1024);
    Ok(server
        .add_service(SessionServiceServer::new(Bare { behind }))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?)
}

fn response(number: u64, payload: Bytes) -> Result<pb::AttachResponse, Status> {
    let response = pb::Response { number, payload, ..pb::Response::default() };
    Ok(pb::AttachResponse { event: Some(Event::Response(response)) })
}

#[tonic::async_trait]
impl SessionService for Bare {
    async fn list_content_units(
        &self,
        _: Request<pb::ListContentUnitsRequest>,
    ) -> Result<Response<pb::ListContentUnitsResponse>, Status> {
        Ok(Response::new(pb::ListContentUnitsResponse::default()))
    }

    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        if let Some(mut behind) = self.behind.clone() {
            return behind.create_session(request.into_inner()).await;
        }
        let name = format!("{}/sessions/1", request.into_inner().parent);
        Ok(Response::new(pb::CreateSessionResponse { name, ..pb::CreateSessionResponse::default() }))
    }

    type AttachStream = Responses;

    async fn attach(&self, request: Request<pb::AttachRequest>) -> Result<Response<Responses>, Status> {
        if let Some(mut behind) = self.behind.clone() {
            let responses = behind.attach(request.into_inner()).await?.into_inner();
            return Ok(Response::new(Box::pin(responses)));
        }
        let name = request.into_inner().name;
        let unit = name.split('/').nth(1).unwrap_or_default();
        let flood: Option<usize> = unit.strip_prefix("flood-").and_then(|bytes| bytes.parse().ok());
        let responses: Responses = match flood {
            Some(bytes) => {
                let payload = Bytes::from(vec![0; bytes]);
                Box::pin(stream::iter(1..).map(move |number| response(number, payload.clone())))
            }
            None => {
                let first = stream::iter([response(1, Bytes::from_static(&[0; 64]))]);
                Box::pin(first.chain(stream::pending()))
            }
        };
        Ok(Response::new(responses))
    }

    async fn send_request(
        &self,
        request: Request<pb::SendRequestRequest>,
    ) -> Result<Response<pb::SendRequestResponse>, Status> {
        if let Some(mut behind) = self.behind.clone() {
            return behind.send_request(request.into_inner()).await;
        }
        Ok(Response::new(pb::SendRequestResponse { number: request.into_inner().number }))
    }

    async fn close_session(
        &self,
        _: Request<pb::CloseSessionRequest>,
    ) -> Result<Response<pb::CloseSessionResponse>, Status> {
        Ok(Response::new(pb::CloseSessionResponse {}))
    }
}

/// How long a workload that has begun is let to come up to speed.
pub const WARM_UP: Duration = Duration::from_millis(500);
