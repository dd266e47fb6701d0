//! What clients use: requests become facts with a ticket, and the answer to the ticket becomes the response.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use model::{SessionId, UnitId};
use proto::session::v1::session_service_server::SessionService;
use proto::session::v1::{
    AttachRequest, AttachResponse, CloseSessionRequest, CloseSessionResponse, CreateSessionRequest,
    CreateSessionResponse, ListContentUnitsRequest, ListContentUnitsResponse, SendRequestRequest,
    SendRequestResponse,
};
use session_core::Gateway;
use session_core::gateway::{Input, Position, Reply, Ticket};
use session_core::message::{Resume, Secret};
use svc_kit::driver::Handle;
use svc_kit::status::{bad_field, reason};
use svc_kit::telemetry::sessions::{self, Step};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument;
use tracing::field::display;
use uuid::Uuid;

use crate::client::{AtHand, Client, Progress};
use crate::cursor::Holder;
use crate::desk::{Call, Desk};
use crate::mailbox::mailbox;
use crate::metrics::Measures;
use crate::principal::{Principal, Rates, bound};
use crate::seal::Seals;
use crate::{operation, status, wire};

/// The service for clients.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) machine: Handle<Gateway>,
    pub(crate) desk: Arc<Desk>,
    /// How many events may wait for a client to read them.
    pub(crate) queue_max: usize,
    /// Cancelled when clients have to go elsewhere.
    pub(crate) draining: CancellationToken,
    /// Calls under way, to be finished before the gateway ends.
    pub(crate) calls: TaskTracker,
    pub(crate) measures: Arc<Measures>,
    /// What cursors are sealed with.
    pub(crate) seals: Arc<Seals>,
    pub(crate) rates: Arc<Rates>,
}

impl Sessions {
    /// Tells the machine what `call` wants, and waits for its answer.
    async fn ask(&self, call: Call, fact: impl FnOnce(Ticket) -> Input) -> Result<Reply, Status> {
        if self.draining.is_cancelled() {
            return Err(status::draining());
        }
        let _under_way = self.calls.token();
        self.machine.send(fact(call.ticket)).await.map_err(|_| status::draining())?;
        call.answer().await.ok_or_else(status::draining)?.map_err(status::of)
    }

    /// As [`Sessions::ask`], as a step in the life of a session.
    async fn take(
        &self,
        step: Step,
        (unit, session): (&UnitId, SessionId),
        call: Call,
        fact: impl FnOnce(Ticket) -> Input,
    ) -> Result<Reply, Status> {
        let span = sessions::span(step, session);
        span.record("unit", display(unit));
        let reply = self.ask(call, fact).instrument(span.clone()).await;
        if let Err(status) = &reply {
            span.record("otel.status_code", "ERROR").record("error.type", reason(status));
        }
        reply
    }

    /// Who calls, if that is known and it may.
    fn admit<T>(&self, request: &Request<T>) -> Result<Option<Principal>, Status> {
        self.rates.admit(request).inspect_err(|_| {
            self.measures.too_many_calls.inc();
        })
    }

    /// Attaches a client. If it is gone by the time of the answer, its stream is dropped, and that detaches it.
    async fn attach(&self, principal: Option<Principal>, request: AttachRequest) -> Result<Client, Status> {
        let (unit, session) = wire::session("name", &request.name)?;
        let secret = bound(wire::secret("secret", &request.secret)?, principal.as_ref());
        let holder = Holder { unit: unit.clone(), session, secret };
        let (resume, sealed) = self.seals.read(&holder, &request.cursor).map_err(status::bad_cursor)?;
        let (slot, mailbox) = mailbox(self.queue_max);
        let attached = self.measures.attaches.get_or_create_owned(&[("from", place(&resume))]);
        let from = Position { resume, resends: request.resends, sealed };
        let fact = |ticket| Input::Attach { ticket, unit, session, secret, from };
        let call = self.desk.call(Some(slot));
        let reply = self.take(Step::Attach, (&holder.unit, session), call, fact).await?;
        let Reply::Attached(attachment) = reply else { unreachable!("an attach is answered by {reply:?}") };
        attached.inc();
        Ok(Client {
            holder,
            seals: self.seals.clone(),
            attachment,
            mailbox,
            machine: self.machine.clone(),
            desk: self.desk.clone(),
            draining: self.draining.clone(),
            measures: self.measures.clone(),
            at_hand: AtHand::default(),
            progress: Progress::default(),
        })
    }
}

/// Where a client goes on from, in a word.
fn place(resume: &Resume) -> &'static str {
    match resume {
        Resume::Beginning => "beginning",
        Resume::After(_) => "cursor",
        Resume::Anywhere => "anywhere",
    }
}

#[tonic::async_trait]
impl SessionService for Sessions {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

    async fn list_content_units(
        &self,
        request: Request<ListContentUnitsRequest>,
    ) -> Result<Response<ListContentUnitsResponse>, Status> {
        self.admit(&request)?;
        let reply = self.ask(self.desk.call(None), Input::List).await?;
        let Reply::Units(units) = reply else { unreachable!("a list is answered by {reply:?}") };
        let content_units = units.into_iter().map(wire::content_unit).collect();
        Ok(Response::new(ListContentUnitsResponse { content_units }))
    }

    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        let principal = self.admit(&request)?;
        let unit = wire::unit("parent", &request.into_inner().parent)?;
        let session = SessionId::new(Uuid::now_v7().as_u128());
        let shown = Secret::new(Uuid::new_v4().as_u128());
        let secret = bound(shown, principal.as_ref());
        let name = wire::session_name(&unit, session);
        let holder = Holder { unit: unit.clone(), session, secret };
        let cursor = self.seals.beginning(&holder);
        let fact = |ticket| Input::Open { ticket, unit, session, secret };
        self.take(Step::Open, (&holder.unit, session), self.desk.call(None), fact).await?;
        Ok(Response::new(CreateSessionResponse { name, secret: wire::secret_text(shown), cursor }))
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Result<Response<Self::AttachStream>, Status> {
        let principal = self.admit(&request)?;
        let (sessions, request) = (self.clone(), request.into_inner());
        let attaching = async move { Sessions::attach(&sessions, principal, request).await };
        let attaching = tokio::spawn(attaching.in_current_span());
        let client = attaching.await.map_err(|_| status::draining())??;
        Ok(Response::new(Box::pin(client.responses())))
    }

    async fn send_request(
        &self,
        request: Request<SendRequestRequest>,
    ) -> Result<Response<SendRequestResponse>, Status> {
        let principal = self.admit(&request)?;
        let SendRequestRequest { name, secret, number, operation } = request.into_inner();
        let (_, session) = wire::session("name", &name)?;
        let secret = bound(wire::secret("secret", &secret)?, principal.as_ref());
        let operation = operation.ok_or_else(|| bad_field("operation", "is missing"))?;
        let operation = operation::json(operation).map_err(status::malformed_operation)?.into();
        let number = (number > 0).then_some(number);
        let fact = |ticket| Input::Request { ticket, session, secret, number, operation };
        let reply = self.ask(self.desk.call(None), fact).await?;
        let Reply::Applied { number } = reply else { unreachable!("a request is answered by {reply:?}") };
        Ok(Response::new(SendRequestResponse { number }))
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        let principal = self.admit(&request)?;
        let CloseSessionRequest { name, secret } = request.into_inner();
        let (unit, session) = wire::session("name", &name)?;
        let secret = bound(wire::secret("secret", &secret)?, principal.as_ref());
        let closed = unit.clone();
        let fact = |ticket| Input::Close { ticket, unit, session, secret };
        self.take(Step::Close, (&closed, session), self.desk.call(None), fact).await?;
        Ok(Response::new(CloseSessionResponse {}))
    }
}
