//! Bare calls, for what no well-behaved client does, and what they are refused with.

use std::collections::BTreeMap;
use std::fmt::Debug;

use model::Address;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::session::v1::attach_response::Event;
use proto::session::v1::session_service_client::SessionServiceClient;
use proto::session::v1::{
    AttachRequest, AttachResponse, CloseSessionRequest, CreateSessionRequest, CreateSessionResponse,
    Response, SendRequestRequest,
};
use svc_kit::dial::Wire;
use svc_kit::tls::Role;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::deadline::within;

/// A connection to a process.
pub async fn channel(address: &Address) -> Channel {
    within("a connection", Wire::default().connect(address, Role::Gateway)).await.unwrap()
}

/// What a call is refused with: the code, and the reason in its details.
pub type Refusal = (Code, &'static str);

/// Asserts that a call was refused as it should be, with a reason and a message for people.
///
/// # Panics
/// Otherwise.
#[track_caller]
pub fn assert_refused<T: Debug>(answer: Result<T, Status>, (code, reason): Refusal) -> Status {
    let status = answer.expect_err("it is refused");
    let found = svc_kit::status::reason(&status);
    assert_eq!((status.code(), found.as_deref()), (code, Some(reason)), "{status:?}");
    assert!(!status.message().is_empty(), "{status:?}");
    status
}

/// `{verb: {name: number, ...}}`, a request to a film.
pub fn operation(verb: &str, arguments: &[(&str, f64)]) -> Struct {
    let number =
        |(name, number): &(&str, f64)| ((*name).to_owned(), Value { kind: Some(Kind::NumberValue(*number)) });
    let arguments = Struct { fields: arguments.iter().map(number).collect() };
    let value = Value { kind: Some(Kind::StructValue(arguments)) };
    Struct { fields: BTreeMap::from([(verb.to_owned(), value)]) }
}

/// A request to a service, as people write it.
///
/// # Panics
/// If it is not an object.
pub fn json(request: serde_json::Value) -> Struct {
    let serde_json::Value::Object(fields) = request else { panic!("{request} is not an object") };
    Struct { fields: fields.into_iter().map(|(name, field)| (name, value(field))).collect() }
}

fn value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(it) => Kind::BoolValue(it),
        Json::Number(it) => Kind::NumberValue(it.as_f64().expect("a number")),
        Json::String(it) => Kind::StringValue(it),
        Json::Array(it) => {
            Kind::ListValue(prost_types::ListValue { values: it.into_iter().map(value).collect() })
        }
        Json::Object(_) => Kind::StructValue(self::json(json)),
    };
    Value { kind: Some(kind) }
}

/// A client that does what it is told and nothing more.
#[derive(Clone, Debug)]
pub struct Client {
    /// The generated client.
    pub stub: SessionServiceClient<Channel>,
}

impl Client {
    /// A client of this gateway.
    pub async fn of(gateway: &Address) -> Client {
        Client { stub: SessionServiceClient::new(channel(gateway).await) }
    }

    /// Opens a session.
    pub async fn create(&mut self, unit: &str) -> CreateSessionResponse {
        let request = CreateSessionRequest { parent: format!("contentUnits/{unit}") };
        within("a session", self.stub.create_session(request)).await.unwrap().into_inner()
    }

    /// Attaches.
    pub async fn attach(
        &mut self,
        session: &CreateSessionResponse,
        cursor: impl Into<bytes::Bytes>,
    ) -> Result<Streaming<AttachResponse>, Status> {
        let CreateSessionResponse { name, secret, .. } = session.clone();
        let request = AttachRequest { name, secret, cursor: cursor.into(), resends: false };
        let attached = within("an answer to Attach", self.stub.attach(request)).await;
        attached.map(tonic::Response::into_inner)
    }

    /// Sends a request under a number; 0 lets the gateway choose one. Returns the number.
    pub async fn send(
        &mut self,
        session: &CreateSessionResponse,
        number: u64,
        operation: Struct,
    ) -> Result<u64, Status> {
        let CreateSessionResponse { name, secret, .. } = session.clone();
        let request = SendRequestRequest { name, secret, number, operation: Some(operation) };
        let sent = within("an answer to SendRequest", self.stub.send_request(request)).await;
        sent.map(|answer| answer.into_inner().number)
    }

    /// Closes the session.
    pub async fn close(&mut self, session: &CreateSessionResponse) -> Result<(), Status> {
        let CreateSessionResponse { name, secret, .. } = session.clone();
        let closed = self.stub.close_session(CloseSessionRequest { name, secret });
        within("an answer to CloseSession", closed).await.map(drop)
    }
}

/// The next response of a stream, past news of servers; nothing at its end.
pub async fn response(stream: &mut Streaming<AttachResponse>) -> Result<Option<Response>, Status> {
    loop {
        match within("a response", stream.message()).await? {
            None => return Ok(None),
            Some(AttachResponse { event: Some(Event::Response(response)) }) => return Ok(Some(response)),
            Some(AttachResponse {
                event: Some(Event::Serving(_) | Event::Merged(_) | Event::Rebuilt(_)) | None,
            }) => {}
        }
    }
}

/// The next `count` responses, which are there.
pub async fn responses(stream: &mut Streaming<AttachResponse>, count: usize) -> Vec<Response> {
    let mut responses = Vec::new();
    for _ in 0..count {
        responses.push(response(stream).await.unwrap().expect("the film is longer"));
    }
    responses
}

/// What ends a stream.
pub async fn end(mut stream: Streaming<AttachResponse>) -> Result<(), Status> {
    while response(&mut stream).await?.is_some() {}
    Ok(())
}
