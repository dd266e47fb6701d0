//! The remote control of a session: requests, each under a number of its own, so that it is applied once however often it
//! has to be sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::session::v1::SendRequestRequest;
use svc_kit::dial::Wire;
use tokio::sync::watch;
use tonic::{Code, Status};

use super::{Client, PATIENCE, PAUSE, PlayError, Session, is_transient};

/// Sends requests in a session, one after the other.
pub struct Remote {
    session: Session,
    wire: Wire,
    client: watch::Receiver<Option<Client>>,
    last: u64,
}

impl Remote {
    pub(super) fn new(session: Session, wire: Wire, client: watch::Receiver<Option<Client>>) -> Remote {
        Remote { session, wire, client, last: 0 }
    }

    /// Goes on from another position.
    ///
    /// # Errors
    /// See [`Remote::send`].
    pub async fn seek(&mut self, position: Duration) -> Result<(), PlayError> {
        self.send(operation("seek", &[("position_ms", position.as_millis() as f64)])).await
    }

    /// Plays at `factor` times the normal rate.
    ///
    /// # Errors
    /// See [`Remote::send`].
    pub async fn rate(&mut self, factor: f64) -> Result<(), PlayError> {
        self.send(operation("rate", &[("factor", factor)])).await
    }

    /// Stops the film.
    ///
    /// # Errors
    /// See [`Remote::send`].
    pub async fn pause(&mut self) -> Result<(), PlayError> {
        self.send(operation("pause", &[])).await
    }

    /// Goes on with a film that was stopped.
    ///
    /// # Errors
    /// See [`Remote::send`].
    pub async fn resume(&mut self) -> Result<(), PlayError> {
        self.send(operation("resume", &[])).await
    }

    /// How many requests have got a number.
    pub fn sent(&self) -> u64 {
        self.last
    }

    /// Sends a request, and returns once it was applied.
    ///
    /// # Errors
    /// If the service refuses it, or if no gateway that the session is attached to takes it in time.
    pub async fn send(&mut self, operation: Struct) -> Result<(), PlayError> {
        self.last += 1;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let client = self.client.borrow_and_update().clone();
            let reason = match client {
                Some(client) => match self.try_send(client, operation.clone()).await {
                    Ok(()) => return Ok(()),
                    Err(status) if !is_transient(&status) && !is_unattached(&status) => {
                        // What the gateway itself refuses has no number, and the next request gets it.
                        self.last -= u64::from(!is_the_services(&status));
                        return Err(status.into());
                    }
                    Err(status) => status.message().to_owned(),
                },
                None => "the player is not attached".to_owned(),
            };
            if Instant::now() > deadline {
                return Err(PlayError::Unreachable { reason });
            }
            // Whichever comes first: the player has found another gateway, or it is time to try this one again.
            if let Ok(Err(_)) = tokio::time::timeout(PAUSE, self.client.changed()).await {
                return Err(PlayError::Unreachable { reason: "the player is gone".to_owned() });
            }
        }
    }

    async fn try_send(&self, mut client: Client, operation: Struct) -> Result<(), Status> {
        let (name, secret) = (self.session.name.clone(), self.session.secret.clone());
        let request = SendRequestRequest { name, secret, number: self.last, operation: Some(operation) };
        client.send_request(self.wire.request(request)).await.map(drop)
    }
}

/// Whether the service refused a request, which has had its number then.
fn is_the_services(status: &Status) -> bool {
    let reason = svc_kit::status::reason(status);
    matches!(reason.as_deref(), Some("MALFORMED_REQUEST" | "REQUEST_OUT_OF_RANGE" | "REQUEST_REFUSED"))
}

/// The gateway does not know the session: the player is on its way there.
fn is_unattached(status: &Status) -> bool {
    status.code() == Code::NotFound && svc_kit::status::reason(status).as_deref() == Some("UNKNOWN_SESSION")
}

/// `{verb: {name: number, ...}}`.
fn operation(verb: &str, arguments: &[(&str, f64)]) -> Struct {
    let number =
        |(name, number): &(&str, f64)| ((*name).to_owned(), Value { kind: Some(Kind::NumberValue(*number)) });
    let arguments = Struct { fields: arguments.iter().map(number).collect() };
    let value = Value { kind: Some(Kind::StructValue(arguments)) };
    Struct { fields: BTreeMap::from([(verb.to_owned(), value)]) }
}
