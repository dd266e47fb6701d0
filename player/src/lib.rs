//! A client of Handover, made of nothing but the generated gRPC client: opens a session, reads its responses, sends
//! requests, and when its gateway goes away attaches at another one with the cursor of the last response that it has.
//!
//! Everything that servers do shows up as [`Heard::Serving`]; nothing here knows of servers or retries on their
//! account. [`ledger`] counts what came, [`lateness`] how punctually; [`films`] has something to play.
#![deny(missing_docs)]

pub mod films;
pub mod lateness;
pub mod ledger;
mod recorder;
pub mod remote;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Address, SessionId, UnitId};
use proto::session::v1::attach_response::Event;
use proto::session::v1::session_service_client::SessionServiceClient;
use proto::session::v1::{AttachRequest, AttachResponse, CloseSessionRequest, CreateSessionRequest};
use svc_kit::dial::{DialError, Wire};
use svc_kit::tls::Role;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

pub use crate::ledger::{Ledger, Nonsense};
pub use crate::recorder::Recorder;
pub use crate::remote::Remote;

/// How long a client keeps trying gateways before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it waits before it tries again after all gateways have failed.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) type Client = SessionServiceClient<Channel>;

type Call<T> = BoxFuture<'static, Result<tonic::Response<T>, Status>>;

/// Why a client cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The service refused what was asked for, and would refuse it again.
    #[error("{}", svc_kit::status::sentence(.0))]
    Refused(Status),
    /// No gateway helped in time.
    #[error("no gateway helped within {} s; the last one said: {reason}", PATIENCE.as_secs())]
    Unreachable {
        /// What the last one that was tried said.
        reason: String,
    },
    /// What the gateway sent makes no sense.
    #[error(transparent)]
    Nonsense(#[from] Nonsense),
    /// The gateway opened something that is not a session.
    #[error("the gateway opened {0:?}, which is not the name of a session")]
    BadName(String),
}

// Not `#[from]`, which would make the status the source as well, and tell it twice.
impl From<Status> for PlayError {
    fn from(status: Status) -> PlayError {
        PlayError::Refused(status)
    }
}

/// A session, and what its client needs to come back to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `contentUnits/{unit}/sessions/{session}`.
    pub name: String,
    /// The last part of the name.
    pub id: SessionId,
    /// What proves that it is ours.
    pub secret: String,
}

/// What a client hears next.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A server serves from here on.
    Serving {
        /// When this was heard.
        at: Instant,
        /// The server's name.
        server: String,
        /// Grows with every primary of the session.
        fence: u64,
        /// Whether another one did before, at this gateway.
        takeover: bool,
        /// Acknowledged requests of which nothing is known any more.
        requests_lost: u64,
    },
    /// Two contexts of the session, which both sides of a partition served, were made one.
    Merged,
    /// All servers had forgotten the session, and it was made anew from the cursor.
    Rebuilt,
    /// A response.
    Response {
        /// When it was heard.
        at: Instant,
        /// Its number.
        number: u64,
        /// What the service sent.
        payload: Bytes,
        /// How many requests it reflects.
        requests_applied: u64,
        /// Nothing follows unless a request changes that.
        last: bool,
    },
    /// The gateway is gone or cannot help; whoever listens on is attached to another one.
    Lost {
        /// The gateway.
        gateway: Address,
        /// What went wrong with it.
        status: Status,
    },
    /// Everything was sent. Whoever listens on attaches again, which makes sense after a request that seeks back.
    End,
}

/// Gateways in the order in which they are tried, and the connection to the present one.
struct Route {
    wire: Wire,
    gateways: Vec<Address>,
    present: usize,
    client: watch::Sender<Option<Client>>,
}

impl Route {
    fn gateway(&self) -> &Address {
        &self.gateways[self.present]
    }

    /// The present gateway's client, connected if need be.
    async fn client(&mut self) -> Result<Client, DialError> {
        if let Some(client) = self.client.borrow().clone() {
            return Ok(client);
        }
        let channel = self.wire.connect(self.gateway(), Role::Gateway).await?;
        let client = SessionServiceClient::new(channel);
        self.client.send_replace(Some(client.clone()));
        Ok(client)
    }

    /// Gives up the present gateway.
    fn go_on(&mut self) {
        self.client.send_replace(None);
        self.present = (self.present + 1) % self.gateways.len();
    }

    /// Calls gateway after gateway until one answers, or refuses for a reason that all would have.
    async fn call<T>(&mut self, call: impl Fn(Client) -> Call<T>) -> Result<T, PlayError> {
        self.call_and_tell(call, |_| {}).await
    }

    /// Likewise, and tells why each one before that did not help.
    async fn call_and_tell<T>(
        &mut self,
        call: impl Fn(Client) -> Call<T>,
        tell: impl Fn(&Status),
    ) -> Result<T, PlayError> {
        let deadline = Instant::now() + PATIENCE;
        let mut tried = 0;
        loop {
            let failure = match self.client().await {
                Ok(client) => match call(client).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(status) if !is_transient(&status) => return Err(status.into()),
                    Err(status) => status,
                },
                Err(error) => Status::unavailable(error.to_string()),
            };
            tell(&failure);
            if Instant::now() > deadline {
                return Err(PlayError::Unreachable { reason: svc_kit::status::sentence(&failure) });
            }
            self.go_on();
            tried += 1;
            if tried % self.gateways.len() == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether the same call may succeed later or elsewhere: the gateway is busy, shutting down, or gone. What a broken
/// connection looks like depends on when it breaks.
pub(crate) fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::ResourceExhausted | Code::Unknown | Code::Internal | Code::Cancelled
    )
}

/// A client with one session.
pub struct Player {
    route: Route,
    session: Session,
    stream: Option<Streaming<AttachResponse>>,
    cursor: Bytes,
    ledger: Ledger,
    recorder: Recorder,
}

impl Player {
    /// Opens a session on `unit`. Gateways are tried in the order given, of which there is at least one.
    ///
    /// # Errors
    /// If the unit does not exist, or no gateway helps in time.
    pub async fn open(
        wire: Wire,
        gateways: Vec<Address>,
        unit: &UnitId,
        recorder: Recorder,
    ) -> Result<Player, PlayError> {
        Player::open_and_tell(wire, gateways, unit, recorder, |_| {}).await
    }

    /// Likewise, and tells of each gateway that does not help what became of the attempt.
    ///
    /// # Errors
    /// If the unit does not exist, or no gateway helps in time.
    pub async fn open_and_tell(
        wire: Wire,
        gateways: Vec<Address>,
        unit: &UnitId,
        recorder: Recorder,
        tell: impl Fn(&Status),
    ) -> Result<Player, PlayError> {
        assert!(!gateways.is_empty(), "a client knows a gateway");
        let mut route = Route { wire, gateways, present: 0, client: watch::Sender::new(None) };
        let request = CreateSessionRequest { parent: format!("contentUnits/{unit}") };
        let wire = route.wire.clone();
        let create = |mut client: Client| -> Call<_> {
            let request = wire.request(request.clone());
            async move { client.create_session(request).await }.boxed()
        };
        let created = route.call_and_tell(create, tell).await?;
        let id = created.name.rsplit('/').next().and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| PlayError::BadName(created.name.clone()))?;
        let session = Session { name: created.name, id, secret: created.secret };
        let (cursor, ledger) = (created.cursor, Ledger::default());
        Ok(Player { route, session, stream: None, cursor, ledger, recorder })
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The gateway that is used at present.
    pub fn gateway(&self) -> &Address {
        self.route.gateway()
    }

    /// What came so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Sends requests in this session, through whatever gateway the player uses.
    pub fn remote(&self) -> Remote {
        Remote::new(self.session.clone(), self.route.wire.clone(), self.route.client.subscribe())
    }

    /// Waits for what comes next. Attaches if need be. If this future is dropped, nothing is lost.
    ///
    /// # Errors
    /// If the session is over, belongs to another client now, or no gateway helps in time.
    pub async fn hear(&mut self) -> Result<Heard, PlayError> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.attach().await?;
                continue;
            };
            match stream.message().await {
                Ok(Some(AttachResponse { event: Some(event) })) => return self.take(event),
                Ok(Some(AttachResponse { event: None })) => {}
                Ok(None) => {
                    self.stream = None;
                    return Ok(Heard::End);
                }
                Err(status) if is_transient(&status) => {
                    let gateway = self.gateway().clone();
                    self.stream = None;
                    self.route.go_on();
                    return Ok(Heard::Lost { gateway, status });
                }
                Err(status) => return Err(status.into()),
            }
        }
    }

    async fn attach(&mut self) -> Result<(), PlayError> {
        let Session { name, secret, .. } = self.session.clone();
        let request = AttachRequest { name, secret, cursor: self.cursor.clone(), resends: false };
        let wire = self.route.wire.clone();
        let attach = |mut client: Client| -> Call<_> {
            let request = wire.request(request.clone());
            async move { client.attach(request).await }.boxed()
        };
        // Before the call, for whoever drops this future may have been attached.
        self.recorder.attached(self.session.id, self.ledger.highest());
        self.stream = Some(self.route.call(attach).await?);
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<Heard, PlayError> {
        let at = Instant::now();
        match event {
            Event::Serving(it) => Ok(Heard::Serving {
                at,
                server: it.server,
                fence: it.fence,
                takeover: it.takeover,
                requests_lost: it.requests_lost,
            }),
            Event::Merged(_) => Ok(Heard::Merged),
            Event::Rebuilt(_) => Ok(Heard::Rebuilt),
            Event::Response(it) => {
                self.recorder.received(self.session.id, it.number, &it.payload);
                self.ledger.enter(it.number, &it.payload)?;
                self.cursor = it.cursor;
                Ok(Heard::Response {
                    at,
                    number: it.number,
                    payload: it.payload,
                    requests_applied: it.requests_applied,
                    last: it.last,
                })
            }
        }
    }

    /// Ends the session, says what came, and gives the recorder back for the next one.
    ///
    /// # Errors
    /// If no gateway confirms it in time. The session then ends by itself after a while.
    pub async fn close(mut self) -> Result<(Ledger, Recorder), PlayError> {
        self.stream = None;
        let Session { name, secret, .. } = self.session.clone();
        let request = CloseSessionRequest { name, secret };
        let wire = self.route.wire.clone();
        let close = |mut client: Client| -> Call<_> {
            let request = wire.request(request.clone());
            async move { client.close_session(request).await }.boxed()
        };
        self.route.call(close).await?;
        Ok((self.ledger, self.recorder))
    }
}
