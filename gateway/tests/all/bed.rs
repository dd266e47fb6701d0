//! The gateway under test, and the two kinds of partners that it has.

use std::time::Duration;

use bytes::Bytes;
use gateway::config::{Config, Cursors, Limits, Sessions};
use model::Address;
use proto::gateway::v1 as pb;
use proto::gateway::v1::deliver_request::Message as Say;
use proto::gateway::v1::deliver_response::Message as Told;
use proto::gateway::v1::delivery_service_client::DeliveryServiceClient;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::session::v1::attach_response::Event;
use proto::session::v1::session_service_client::SessionServiceClient;
use proto::session::v1::{self as session, AttachRequest, CreateSessionRequest, SendRequestRequest};
use svc_kit::auth::AuthFiles;
use svc_kit::dial::{Keepalive, Wire};
use svc_kit::ops::Ops;
use svc_kit::serve::Listener;
use svc_kit::shutdown::Failure;
use svc_kit::telemetry::Log;
use svc_kit::tls::{Role, TlsFiles};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub const UNIT: &str = "film-1";
pub const PARENT: &str = "contentUnits/film-1";
pub const WINDOW: u64 = 4;

/// Waits for what has to happen soon.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it has to happen soon")
}

pub struct Bed {
    pub channel: Channel,
    pub boot: u64,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<Result<(), Failure>>,
}

pub fn config() -> Config {
    Config {
        cluster: "test".parse().unwrap(),
        name: "gateway-1".parse().unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        // Nobody is there.
        gcs: vec![Address::new("127.0.0.1:1")],
        ready_file: None,
        trace: None,
        drain_timeout: Duration::from_secs(5),
        limits: Limits { window: WINDOW, ..Limits::default() },
        sessions: Sessions::default(),
        cursors: Cursors::default(),
        keepalive: Keepalive::default(),
        tls: TlsFiles::default(),
        auth: AuthFiles::default(),
        insecure: false,
        ops: Ops::default(),
        log: Log::default(),
    }
}

impl Bed {
    pub async fn start() -> Bed {
        Bed::with(config()).await
    }

    pub async fn with(config: Config) -> Bed {
        let listener = Listener::bind(config.listen, None).await.unwrap();
        let address = listener.advertised().clone();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(gateway::serve(config, listener, shutdown.clone()));
        let channel = Wire::default().connect(&address, Role::Gateway).await.unwrap();
        let mut bed = Bed { channel, boot: 0, shutdown, running };
        bed.boot = bed.status().await.boot;
        bed
    }

    pub fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel.clone())
    }

    pub async fn status(&self) -> pb::GetStatusResponse {
        let mut operator = GatewayServiceClient::new(self.channel.clone());
        soon(operator.get_status(pb::GetStatusRequest {})).await.unwrap().into_inner()
    }

    /// Waits until the status of the gateway is as it has to be.
    pub async fn await_status(&self, as_it_has_to_be: impl Fn(&pb::GetStatusResponse) -> bool) {
        soon(async { while !as_it_has_to_be(&self.status().await) {} }).await;
    }

    pub fn hello(&self, server: &str) -> pb::ServerHello {
        pb::ServerHello {
            cluster: "test".into(),
            server: server.into(),
            gateway: "gateway-1".into(),
            gateway_boot: self.boot,
        }
    }

    /// A content server whose stream is open.
    pub async fn server(&self, name: &str) -> Server {
        let mut server = self.call(self.hello(name)).await.unwrap();
        assert!(matches!(server.told().await, Told::Hello(_)));
        server
    }

    /// A content server that says hello.
    pub async fn call(&self, hello: pb::ServerHello) -> Result<Server, Status> {
        let (say, requests) = mpsc::channel(64);
        say.send(pb::DeliverRequest { message: Some(Say::Hello(hello)) }).await.unwrap();
        let mut client = DeliveryServiceClient::new(self.channel.clone());
        let told = soon(client.deliver(ReceiverStream::new(requests))).await?.into_inner();
        Ok(Server { say, told })
    }

    /// Opens a session, which `server` claims with a fence of this counter.
    pub async fn open(&self, server: &mut Server, fence: u64) -> Session {
        let mut sessions = self.sessions();
        let create = tokio::spawn(async move {
            let request = CreateSessionRequest { parent: PARENT.into() };
            sessions.create_session(request).await.unwrap().into_inner()
        });
        while !self.status().await.sessions.iter().any(|it| it.fence == no_fence()) {
            server.list_units().await;
        }
        let status = self.status().await;
        let name = status.sessions.iter().find(|it| it.fence == no_fence()).unwrap().name.clone();
        server.claim(&name, fence).await;
        let created = soon(create).await.unwrap();
        assert_eq!(created.name, name);
        let Told::Serve(serve) = server.told().await else { panic!("a claim is granted") };
        assert_eq!((serve.attached, serve.credit, &serve.resume), (false, 0, &beginning()), "nobody yet");
        Session { name, secret: created.secret, id: serve.session, stream: serve.stream }
    }
}

fn no_fence() -> Option<pb::Fence> {
    Some(pb::Fence { counter: 0, configuration_counter: 0, configuration_digest: 0, position: 0 })
}

pub fn unit() -> pb::UnitInfo {
    pb::UnitInfo {
        unit: UNIT.into(),
        title: "A film".into(),
        media_type: "video/mp4".into(),
        duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        size_bytes: 1_000_000,
        edition: 1,
        digest: 0,
    }
}

pub fn fence(counter: u64) -> Option<pb::Fence> {
    Some(pb::Fence { counter, configuration_counter: 1, configuration_digest: 0xbeef, position: 1 })
}

/// A session that a client opened.
#[derive(Clone)]
pub struct Session {
    pub name: String,
    pub secret: String,
    pub id: Bytes,
    /// The stream that was granted last.
    pub stream: u64,
}

impl Session {
    pub fn attach(&self, cursor: Bytes) -> AttachRequest {
        AttachRequest { name: self.name.clone(), secret: self.secret.clone(), cursor, resends: false }
    }

    /// A request to seek to `position_ms`.
    pub fn seek(&self, number: u64, position_ms: f64) -> SendRequestRequest {
        use prost_types::value::Kind;
        let value = |kind| prost_types::Value { kind: Some(kind) };
        let of = |key: &str, kind| prost_types::Struct { fields: [(key.to_owned(), value(kind))].into() };
        let position = of("position_ms", Kind::NumberValue(position_ms));
        let operation = Some(of("seek", Kind::StructValue(position)));
        SendRequestRequest { name: self.name.clone(), secret: self.secret.clone(), number, operation }
    }
}

/// A content server.
pub struct Server {
    pub say: mpsc::Sender<pb::DeliverRequest>,
    told: Streaming<pb::DeliverResponse>,
}

impl Server {
    pub async fn say(&self, message: Say) {
        soon(self.say.send(pb::DeliverRequest { message: Some(message) })).await.unwrap();
    }

    pub async fn told(&mut self) -> Told {
        soon(self.told.message()).await.unwrap().expect("the stream goes on").message.unwrap()
    }

    /// Why the gateway ends the stream.
    pub async fn farewell(&mut self) -> Status {
        loop {
            match soon(self.told.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the gateway says why"),
                Err(status) => return status,
            }
        }
    }

    /// Answers whatever question about the units is open. A server is told its number in a multicast, which these do
    /// not get; the gateway ignores answers to other questions.
    pub async fn list_units(&self) {
        const QUESTIONS_MAX: u64 = 64;
        for query in 1..=QUESTIONS_MAX {
            self.say(Say::Units(pb::Units { query, units: vec![unit()] })).await;
        }
    }

    pub async fn claim(&self, name: &str, counter: u64) {
        let id = name.rsplit_once('/').unwrap().1;
        let session = u128::from_str_radix(id, 16).unwrap().to_be_bytes().to_vec().into();
        let claim = pb::Claim { unit: UNIT.into(), session, fence: fence(counter), requests: 0 };
        self.say(Say::Claim(claim)).await;
    }

    /// The grant of a stream.
    pub async fn granted(&mut self) -> pb::Serve {
        let told = self.told().await;
        let Told::Serve(serve) = told else { panic!("no grant, but {told:?}") };
        serve
    }

    pub async fn started(&self, session: &Session, responses: u64) {
        let (stream, session) = (session.stream, session.id.clone());
        self.say(Say::Started(pb::Started {
            uncertain: false,
            merged: false,
            rebuilt: false,
            session,
            stream,
            requests_lost: 0,
            cursor: Some(cursor(responses, 0)),
        }))
        .await;
    }

    pub async fn respond(&self, session: &Session, number: u64) {
        self.say(Say::Response(response(session, number))).await;
    }

    pub async fn applied(
        &self,
        session: &Session,
        number: u64,
        responses: u64,
        refusal: Option<pb::Refusal>,
    ) {
        let (stream, session) = (session.stream, session.id.clone());
        let cursor = Some(cursor(responses, number));
        self.say(Say::Applied(pb::Applied { session, stream, number, refusal, cursor })).await;
    }
}

/// Where a new session starts.
pub fn beginning() -> Option<pb::serve::Resume> {
    Some(pb::serve::Resume::Beginning(pb::Beginning {}))
}

/// Where a client is that has so much.
pub fn after(responses: u64, requests: u64) -> Option<pb::serve::Resume> {
    Some(pb::serve::Resume::After(cursor(responses, requests)))
}

pub fn cursor(responses: u64, requests: u64) -> pb::Cursor {
    pb::Cursor { responses, requests, context: Bytes::from_static(b"context") }
}

pub fn response(session: &Session, number: u64) -> pb::Response {
    pb::Response {
        session: session.id.clone(),
        stream: session.stream,
        cursor: Some(cursor(number, 0)),
        payload: Bytes::from(format!("response {number}")),
        last: false,
    }
}

/// A client's stream.
pub struct Client(pub Streaming<session::AttachResponse>);

impl Client {
    pub async fn next(&mut self) -> Result<Option<Event>, Status> {
        Ok(soon(self.0.message()).await?.map(|response| response.event.unwrap()))
    }

    pub async fn response(&mut self) -> session::Response {
        match self.next().await {
            Ok(Some(Event::Response(response))) => response,
            other => panic!("no response, but {other:?}"),
        }
    }

    pub async fn serving(&mut self) -> session::Serving {
        match self.next().await {
            Ok(Some(Event::Serving(serving))) => serving,
            other => panic!("nobody serves, but {other:?}"),
        }
    }

    pub async fn end(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}

/// A session with an attached client, and the stream that serves it.
pub async fn playing(bed: &Bed, server: &mut Server) -> (Session, Client) {
    let mut session = bed.open(server, 1).await;
    let client = Client(bed.sessions().attach(session.attach(Bytes::new())).await.unwrap().into_inner());
    let serve = server.granted().await;
    assert_eq!((serve.attached, serve.credit), (true, WINDOW));
    session.stream = serve.stream;
    (session, client)
}
