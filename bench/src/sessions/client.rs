//! Clients, made of the generated stub and nothing else.

use anyhow::Context;
use futures::future::try_join_all;
use model::Address;
use prost_types::Struct;
use proto::session::v1::attach_response::Event;
use proto::session::v1::session_service_client::SessionServiceClient;
use proto::session::v1::{AttachRequest, AttachResponse, CreateSessionRequest, Response, SendRequestRequest};
use svc_kit::dial::Wire;
use svc_kit::tls::Role;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::transport::Channel;

/// So many sessions share a connection, if they say little. Others have one each: what one does not read would hold up
/// all of a connection.
const PER_CONNECTION: usize = 100;

/// A session, and its stream.
pub struct Client {
    /// Where requests are sent.
    pub remote: Remote,
    /// What comes.
    pub stream: Streaming<AttachResponse>,
}

/// What it takes to send requests in a session.
pub struct Remote {
    stub: SessionServiceClient<Channel>,
    name: String,
    secret: String,
}

/// What came.
pub enum Heard {
    /// A server begins to serve.
    Serving,
    /// A response.
    Response(Response),
}

/// As many connections as so many sessions on `unit` need, to all gateways in turn.
async fn connect(
    gateways: &[Address],
    unit: &str,
    sessions: usize,
) -> anyhow::Result<Vec<SessionServiceClient<Channel>>> {
    let wire = Wire::default();
    let shared = if unit.starts_with("flood") { 1 } else { PER_CONNECTION };
    let connections = sessions.div_ceil(shared).max(gateways.len().min(sessions));
    let dialled =
        (0..connections).map(|number| wire.connect(&gateways[number % gateways.len()], Role::Gateway));
    Ok(try_join_all(dialled).await?.into_iter().map(SessionServiceClient::new).collect())
}

impl Client {
    /// A session on `unit`.
    pub async fn open(mut stub: SessionServiceClient<Channel>, unit: &str) -> anyhow::Result<Client> {
        let parent = format!("contentUnits/{unit}");
        let made = stub.create_session(CreateSessionRequest { parent }).await?.into_inner();
        let (name, secret) = (made.name, made.secret);
        let attach =
            AttachRequest { name: name.clone(), secret: secret.clone(), cursor: made.cursor, resends: false };
        let stream = stub.attach(attach).await?.into_inner();
        Ok(Client { remote: Remote { stub, name, secret }, stream })
    }

    /// So many sessions on `unit`, each of which has its first response. At most `at_once` are being opened.
    pub async fn open_many(
        gateways: &[Address],
        unit: &str,
        count: usize,
        at_once: usize,
    ) -> anyhow::Result<(Vec<Client>, Vec<u64>)> {
        use futures::stream::{self, StreamExt, TryStreamExt};
        let stubs = connect(gateways, unit, count).await?;
        let opening = stream::iter(0..count).map(|number| {
            let stub = stubs[number % stubs.len()].clone();
            async move {
                let began = Instant::now();
                let mut client = Client::open(stub, unit).await?;
                client.response().await?;
                anyhow::Ok((client, began.elapsed().as_nanos() as u64))
            }
        });
        let opened: Vec<_> = opening.buffer_unordered(at_once).try_collect().await?;
        Ok(opened.into_iter().unzip())
    }

    /// So many sessions on a `unit` that says nothing by itself.
    pub async fn attach_many(gateways: &[Address], unit: &str, count: usize) -> anyhow::Result<Vec<Client>> {
        let stubs = connect(gateways, unit, count).await?;
        let opening = (0..count).map(|number| Client::open(stubs[number % stubs.len()].clone(), unit));
        try_join_all(opening).await
    }

    /// What comes next.
    pub async fn hear(&mut self) -> anyhow::Result<Heard> {
        hear(&mut self.stream).await
    }

    /// The next response.
    pub async fn response(&mut self) -> anyhow::Result<Response> {
        response(&mut self.stream).await
    }
}

/// What comes next on a stream.
async fn hear(stream: &mut Streaming<AttachResponse>) -> anyhow::Result<Heard> {
    let told = stream.message().await?.context("the stream has ended")?;
    match told.event.context("an empty event")? {
        Event::Serving(_) => Ok(Heard::Serving),
        Event::Merged(_) => anyhow::bail!("nothing here is partitioned, and contexts were merged"),
        Event::Rebuilt(_) => anyhow::bail!("nobody forgets here, and the session was made anew"),
        Event::Response(response) => Ok(Heard::Response(response)),
    }
}

/// The next response on a stream.
pub async fn response(stream: &mut Streaming<AttachResponse>) -> anyhow::Result<Response> {
    loop {
        if let Heard::Response(response) = hear(stream).await? {
            return Ok(response);
        }
    }
}

impl Remote {
    /// Sends a request, and returns once it is acknowledged.
    pub async fn request(&mut self) -> anyhow::Result<()> {
        self.ask(Struct::default()).await
    }

    /// As [`Remote::request`], of this operation.
    pub async fn ask(&mut self, operation: Struct) -> anyhow::Result<()> {
        let (name, secret) = (self.name.clone(), self.secret.clone());
        let request = SendRequestRequest { name, secret, number: 0, operation: Some(operation) };
        self.stub.send_request(request).await?;
        Ok(())
    }
}
