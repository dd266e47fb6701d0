//! What operators use: the state of the unit databases, moving a session, changing the policy of a unit, and loading the
//! content again.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Name, ProcessId, UnitId};
use proto::server::v1 as pb;
use proto::server::v1::server_service_server::ServerService;
use session_core::server::Input;
use session_core::{OrderRefusal, Ordered, Server};
use svc_kit::driver::{Clock, Handle};
use svc_kit::status::{bad_field, because, unavailable};
use tonic::{Code, Request, Response, Status};

use crate::config::Config;
use crate::drain::{self, Ending, Operation, Progress};
use crate::journal::Journal;
use crate::metrics::Measures;
use crate::orders::Orders;
use crate::policy::{commit_level, components, policy_change, rebuild, uncertain};
use crate::sessions::Page;
use crate::status::{session_status, shared_state, unit_status};
use crate::wire;
use crate::{LoadError, Service};

/// The service for operators.
pub(crate) struct Operators<S: Service> {
    pub(crate) name: Name,
    pub(crate) clock: Clock,
    pub(crate) machine: Handle<Server<S>>,
    pub(crate) measures: Arc<Measures>,
    pub(crate) orders: Arc<Orders>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) library: Arc<Library<S>>,
    pub(crate) ending: Ending,
    pub(crate) operation: Operation,
}

/// Makes the service.
pub(crate) type Load<S> = Box<dyn Fn(&Config) -> Result<S, LoadError> + Send + Sync>;

/// Where the service and its content come from.
pub(crate) struct Library<S> {
    pub(crate) config: Config,
    pub(crate) load: Load<S>,
}

impl<S: Service> Library<S> {
    /// Reads the content, where waiting for it holds up nobody.
    pub(crate) async fn load(self: &Arc<Self>) -> std::io::Result<Result<S, LoadError>> {
        let library = self.clone();
        let loading = tokio::task::spawn_blocking(move || (library.load)(&library.config));
        loading.await.map_err(std::io::Error::other)
    }
}

#[tonic::async_trait]
impl<S: Service> ServerService for Operators<S> {
    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        let now = self.clock.now();
        let seen = self.machine.ask(move |server| {
            let process = server.me().as_ref().map(ProcessId::to_string).unwrap_or_default();
            let unit = |(unit, database)| unit_status(server, now, unit, database);
            (process, server.databases().map(unit).collect(), server.is_cordoned())
        });
        let (process, units, cordoned) = seen.await.map_err(|_| stopping())?;
        let (name, refused_messages) = (self.name.to_string(), self.measures.refused.get());
        let draining = self.ending.asked.is_cancelled();
        let status = pb::GetStatusResponse { name, process, units, refused_messages, cordoned, draining };
        Ok(Response::new(status))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let (page, clock) = (Page::of(request.get_ref())?, self.clock);
        let seen = self.machine.ask(move |server| {
            let is_held = page.unit.as_ref().is_none_or(|unit| holds(server, unit));
            is_held.then(|| page.look(server, clock)).ok_or(OrderRefusal::UnknownUnit)
        });
        seen.await.map_err(|_| stopping())?.map(Response::new).map_err(refused)
    }

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Result<Response<pb::GetSessionResponse>, Status> {
        let (unit, session) = wire::session("name", &request.get_ref().name)?;
        let now = self.clock.now();
        let seen = self.machine.ask(move |server| match server.session(&unit, session) {
            Some(status) => Ok(session_status(now, &status)),
            None if holds(server, &unit) => Err(OrderRefusal::UnknownSession),
            None => Err(OrderRefusal::UnknownUnit),
        });
        let session = seen.await.map_err(|_| stopping())?.map_err(refused)?;
        Ok(Response::new(pb::GetSessionResponse { session: Some(session) }))
    }

    async fn list_session_events(
        &self,
        request: Request<pb::ListSessionEventsRequest>,
    ) -> Result<Response<pb::ListSessionEventsResponse>, Status> {
        let page = self.journal.page(request.get_ref())?;
        page.map(Response::new).ok_or(OrderRefusal::UnknownSession).map_err(refused)
    }

    async fn move_session(
        &self,
        request: Request<pb::MoveSessionRequest>,
    ) -> Result<Response<pb::MoveSessionResponse>, Status> {
        let pb::MoveSessionRequest { name, server } = request.into_inner();
        let (unit, session) = wire::session("name", &name)?;
        let to = (!server.is_empty()).then(|| wire::server("server", &server)).transpose()?;
        let ordered = self.order(|ticket| Input::Move { ticket, unit, session, to }).await?;
        let Ordered::Moved(moved) = ordered else { return Err(confused()) };
        tracing::info!(session = name, to = %moved.to, fence = %moved.fence, "an operator moves a session");
        let from = moved.from.map(|it| it.to_string()).unwrap_or_default();
        Ok(Response::new(pb::MoveSessionResponse {
            from,
            to: moved.to.to_string(),
            fence: moved.fence.to_string(),
        }))
    }

    async fn change_policy(
        &self,
        request: Request<pb::ChangePolicyRequest>,
    ) -> Result<Response<pb::ChangePolicyResponse>, Status> {
        let request = request.into_inner();
        let unit = wire::unit("name", &request.name)?;
        let change = policy_change(&request)?;
        let ordered = self.order(|ticket| Input::Adjust { ticket, unit, change }).await?;
        let Ordered::Adjusted(policy) = ordered else { return Err(confused()) };
        tracing::info!(unit = request.name, ?policy, "an operator changes the policy");
        Ok(Response::new(pb::ChangePolicyResponse {
            backups: policy.backups.into(),
            period: prost_types::Duration::try_from(policy.period).ok(),
            components: components(policy.components).into(),
            uncertain: uncertain(policy.uncertain).into(),
            commit: commit_level(policy.commit).into(),
            rebuild: rebuild(policy.rebuild).into(),
        }))
    }

    async fn publish_edition(
        &self,
        request: Request<pb::PublishEditionRequest>,
    ) -> Result<Response<pb::PublishEditionResponse>, Status> {
        let pb::PublishEditionRequest { name, edition } = request.into_inner();
        let unit = wire::unit("name", &name)?;
        let ordered = self.order(|ticket| Input::Publish { ticket, unit, edition }).await?;
        let Ordered::Published(published) = ordered else { return Err(confused()) };
        tracing::info!(unit = name, edition = %published, "an operator publishes an edition");
        Ok(Response::new(pb::PublishEditionResponse { edition: published.number }))
    }

    async fn found_state(
        &self,
        request: Request<pb::FoundStateRequest>,
    ) -> Result<Response<pb::FoundStateResponse>, Status> {
        let pb::FoundStateRequest { name, anew } = request.into_inner();
        let unit = wire::unit("name", &name)?;
        let ordered = self.order(|ticket| Input::Found { ticket, unit: unit.clone(), anew }).await?;
        let Ordered::Founded = ordered else { return Err(confused()) };
        let shared = move |server: &Server<S>| {
            let mut databases = server.databases();
            databases.find(|(it, _)| **it == unit).and_then(|(_, database)| shared_state(database))
        };
        let shared = self.machine.ask(shared).await.map_err(|_| stopping())?;
        let voters = shared.map(|it| it.voters).unwrap_or_default();
        tracing::info!(unit = name, anew, ?voters, "an operator founds the shared state");
        Ok(Response::new(pb::FoundStateResponse { voters }))
    }

    async fn cordon(&self, _: Request<pb::CordonRequest>) -> Result<Response<pb::CordonResponse>, Status> {
        self.order(|ticket| Input::Cordon { ticket, on: true }).await?;
        tracing::info!("an operator cordons this server");
        Ok(Response::new(pb::CordonResponse {}))
    }

    async fn uncordon(
        &self,
        _: Request<pb::UncordonRequest>,
    ) -> Result<Response<pb::UncordonResponse>, Status> {
        self.order(|ticket| Input::Cordon { ticket, on: false }).await?;
        tracing::info!("an operator uncordons this server");
        Ok(Response::new(pb::UncordonResponse {}))
    }

    async fn close_session(
        &self,
        request: Request<pb::CloseSessionRequest>,
    ) -> Result<Response<pb::CloseSessionResponse>, Status> {
        let name = request.into_inner().name;
        let (unit, session) = wire::session("name", &name)?;
        self.order(|ticket| Input::Dismiss { ticket, unit, session }).await?;
        tracing::info!(session = name, "an operator closes a session");
        Ok(Response::new(pb::CloseSessionResponse {}))
    }

    type DrainStream = Progress;

    async fn drain(&self, request: Request<pb::DrainRequest>) -> Result<Response<Progress>, Status> {
        self.may_leave(request.into_inner().force).await?;
        tracing::info!("an operator drains this server");
        Ok(Response::new(self.ending.clone().begin(self.machine.clone())))
    }

    async fn start_drain(
        &self,
        request: Request<pb::StartDrainRequest>,
    ) -> Result<Response<pb::StartDrainResponse>, Status> {
        const REQUEST_ID_MAX: usize = 64;
        let pb::StartDrainRequest { request_id: request, force } = request.into_inner();
        if request.len() > REQUEST_ID_MAX {
            return Err(bad_field("request_id", format!("must be at most {REQUEST_ID_MAX} bytes")));
        }
        self.may_leave(force).await?;
        let sessions = self.machine.ask(drain::served).await.map_err(|_| stopping())?;
        tracing::info!(sessions, "an operator drains this server");
        self.operation.begin(self.clock.now(), sessions, request);
        self.ending.asked.cancel();
        let operation = self.progress().await?;
        Ok(Response::new(pb::StartDrainResponse { operation }))
    }

    async fn get_operation(
        &self,
        request: Request<pb::GetOperationRequest>,
    ) -> Result<Response<pb::GetOperationResponse>, Status> {
        let name = request.into_inner().name;
        let unknown = || because(Code::NotFound, "UNKNOWN_OPERATION", format!("no operation {name:?}"));
        let operation = self.progress().await?.filter(|it| it.name == name);
        Ok(Response::new(pb::GetOperationResponse { operation: Some(operation.ok_or_else(unknown)?) }))
    }

    async fn reload_content(
        &self,
        _: Request<pb::ReloadContentRequest>,
    ) -> Result<Response<pb::ReloadContentResponse>, Status> {
        let loaded = self.library.load().await;
        let service = loaded
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| because(Code::FailedPrecondition, "BAD_CONTENT", error.to_string()))?;
        let units: BTreeSet<UnitId> = service.units().into_iter().map(|info| info.unit).collect();
        let content_units: Vec<String> = units.iter().map(wire::unit_name).collect();
        self.order(|ticket| Input::Content { ticket, service }).await?;
        tracing::info!(?content_units, "content loaded again");
        Ok(Response::new(pb::ReloadContentResponse { content_units }))
    }
}

impl<S: Service> Operators<S> {
    /// Whether shared state survives it if this server goes. Who goes already is not held up.
    async fn may_leave(&self, force: bool) -> Result<(), Status> {
        if force || self.ending.asked.is_cancelled() {
            return Ok(());
        }
        let units = self.machine.ask(drain::resting_here).await.map_err(|_| stopping())?;
        if units.is_empty() { Ok(()) } else { Err(drain::voters_needed(&units)) }
    }

    /// How far the drain is that an operator began, if one did.
    async fn progress(&self) -> Result<Option<pb::Operation>, Status> {
        let left = self.machine.ask(drain::served).await.map_err(|_| stopping())?;
        Ok(self.operation.progress(self.name, left, self.ending.drained.is_cancelled()))
    }

    /// Gives the machine an order, and waits for what becomes of it.
    async fn order(&self, fact: impl FnOnce(u64) -> Input<S>) -> Result<Ordered, Status> {
        let order = self.orders.begin();
        self.machine.send(fact(order.ticket)).await.map_err(|_| stopping())?;
        order.outcome().await.ok_or_else(stopping)?.map_err(refused)
    }
}

fn holds<S: Service>(server: &Server<S>, unit: &UnitId) -> bool {
    server.databases().any(|(held, _)| held == unit)
}

/// An order is answered by another kind of answer: a mistake of this server.
fn confused() -> Status {
    Status::internal("this is not the answer to that order")
}

fn stopping() -> Status {
    unavailable("DRAINING", "this server shuts down", std::time::Duration::from_secs(1))
}

fn refused(refusal: OrderRefusal) -> Status {
    let (code, reason) = match refusal {
        OrderRefusal::UnknownUnit => (Code::NotFound, "UNKNOWN_UNIT"),
        OrderRefusal::UnknownSession => (Code::NotFound, "UNKNOWN_SESSION"),
        OrderRefusal::UnknownServer => (Code::NotFound, "UNKNOWN_SERVER"),
        OrderRefusal::NotAReplica => (Code::FailedPrecondition, "NOT_A_REPLICA"),
        OrderRefusal::AlreadyPrimary => (Code::FailedPrecondition, "ALREADY_PRIMARY"),
        OrderRefusal::NobodyElse => (Code::FailedPrecondition, "NO_OTHER_REPLICA"),
        OrderRefusal::NotNewer => (Code::FailedPrecondition, "NOT_NEWER"),
        OrderRefusal::NotHeldByAll => (Code::FailedPrecondition, "NOT_HELD_BY_ALL"),
        OrderRefusal::NothingShared => (Code::FailedPrecondition, "NOTHING_SHARED"),
        OrderRefusal::FoundedBefore => (Code::FailedPrecondition, "FOUNDED_BEFORE"),
        OrderRefusal::Unsettled => {
            return unavailable("UNSETTLED", refusal.to_string(), std::time::Duration::from_millis(500));
        }
    };
    because(code, reason, refusal.to_string())
}
