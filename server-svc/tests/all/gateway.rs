//! A gateway that takes the streams of content servers and leaves the rest to the test.

use std::pin::Pin;

use futures::Stream;
use model::{Address, Boot};
use proto::gateway::v1 as pb;
use proto::gateway::v1::deliver_request::Message as Said;
use proto::gateway::v1::deliver_response::Message as Say;
use proto::gateway::v1::delivery_service_server::{DeliveryService, DeliveryServiceServer};
use session_core::message::GatewayId;
use svc_kit::access::Access;
use svc_kit::serve::{Listener, Services};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::bed::soon;

/// The gateway.
pub struct Gateway {
    address: Address,
    streams: mpsc::Receiver<Delivery>,
    _stop: tokio_util::sync::DropGuard,
}

/// A stream of a content server.
pub struct Delivery {
    pub hello: pb::ServerHello,
    say: mpsc::Sender<Result<pb::DeliverResponse, Status>>,
    said: Streaming<pb::DeliverRequest>,
}

impl Gateway {
    pub async fn start() -> Gateway {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let (address, stop) = (listener.advertised().clone(), CancellationToken::new());
        let (opened, streams) = mpsc::channel(8);
        let services =
            Services::new().with(DeliveryServiceServer::new(Service { opened }), |_| Access::Anybody);
        let server = crate::bed::server(services).await;
        tokio::spawn(server.serve(listener, stop.clone()));
        Gateway { address, streams, _stop: stop.drop_guard() }
    }

    pub fn id(&self) -> GatewayId {
        GatewayId { name: "gateway-1".parse().unwrap(), boot: Boot::new(7), address: self.address.clone() }
    }

    /// The next stream that the server opens.
    pub async fn stream(&mut self) -> Delivery {
        soon(self.streams.recv()).await.unwrap()
    }
}

impl Delivery {
    pub async fn say(&self, message: Say) {
        soon(self.say.send(Ok(pb::DeliverResponse { message: Some(message) }))).await.unwrap();
    }

    /// What the server says next; nothing once its stream is closed.
    pub async fn said(&mut self) -> Option<Said> {
        soon(self.said.message()).await.ok()??.message
    }

    pub async fn claimed(&mut self) -> pb::Claim {
        loop {
            match self.said().await {
                Some(Said::Claim(claim)) => return claim,
                Some(_) => {}
                None => panic!("the session is claimed"),
            }
        }
    }

    pub async fn response(&mut self) -> pb::Response {
        match self.said().await {
            Some(Said::Response(response)) => response,
            said => panic!("no response, but {said:?}"),
        }
    }

    /// Waits until the server has closed its stream.
    pub async fn closed(mut self) {
        while self.said().await.is_some() {}
    }
}

struct Service {
    opened: mpsc::Sender<Delivery>,
}

#[tonic::async_trait]
impl DeliveryService for Service {
    type DeliverStream = Pin<Box<dyn Stream<Item = Result<pb::DeliverResponse, Status>> + Send>>;

    async fn deliver(
        &self,
        request: Request<Streaming<pb::DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let mut said = request.into_inner();
        let Some(Said::Hello(hello)) = said.message().await?.and_then(|first| first.message) else {
            panic!("hello comes first")
        };
        let (say, responses) = mpsc::channel(64);
        let welcome = pb::DeliverResponse { message: Some(Say::Hello(pb::GatewayHello {})) };
        say.send(Ok(welcome)).await.unwrap();
        self.opened.send(Delivery { hello, say, said }).await.unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}
