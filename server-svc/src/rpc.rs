//! What operators use: the state of the unit databases, moving a session, changing the policy of a unit, and loading the
//! content again.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::trace::Role;
use model::{Level, Name, ProcessId, Time, UnitId};
use proto::server::v1 as pb;
use proto::server::v1::server_service_server::ServerService;
use session_core::server::Input;
use session_core::{
    Components, Database, OrderRefusal, Ordered, Policy, PolicyChange, Rebuild, Server, SessionStatus,
    SharedStatus, Uncertain,
};
use svc_kit::driver::{Clock, Handle};
use svc_kit::status::{bad_field, because, unavailable};
use tonic::{Code, Request, Response, Status};

use crate::config::Config;
use crate::drain::{Ending, Progress};
use crate::metrics::Measures;
use crate::orders::Orders;
use crate::wire;
use crate::{LoadError, Service};

/// The service for operators.
pub(crate) struct Operators<S: Service> {
    pub(crate) name: Name,
    pub(crate) clock: Clock,
    pub(crate) machine: Handle<Server<S>>,
    pub(crate) measures: Arc<Measures>,
    pub(crate) orders: Arc<Orders>,
    pub(crate) library: Arc<Library<S>>,
    pub(crate) ending: Ending,
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
            (process, server.databases().map(unit).collect())
        });
        let (process, units) = seen.await.map_err(|_| stopping())?;
        let (name, refused_messages) = (self.name.to_string(), self.measures.refused.get());
        Ok(Response::new(pb::GetStatusResponse { name, process, units, refused_messages }))
    }

    async fn move_session(
        &self,
        request: Request<pb::MoveSessionRequest>,
    ) -> Result<Response<pb::MoveSessionResponse>, Status> {
        let pb::MoveSessionRequest { name, server } = request.into_inner();
        let (unit, session) = wire::session("name", &name).map_err(malformed)?;
        let to =
            (!server.is_empty()).then(|| wire::server("server", &server)).transpose().map_err(malformed)?;
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
        let unit = wire::unit("name", &request.name).map_err(malformed)?;
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
        let unit = wire::unit("name", &name).map_err(malformed)?;
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
        let unit = wire::unit("name", &name).map_err(malformed)?;
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

    type DrainStream = Progress;

    async fn drain(&self, _: Request<pb::DrainRequest>) -> Result<Response<Progress>, Status> {
        tracing::info!("an operator drains this server");
        Ok(Response::new(self.ending.clone().begin(self.machine.clone())))
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
    /// Gives the machine an order, and waits for what becomes of it.
    async fn order(&self, fact: impl FnOnce(u64) -> Input<S>) -> Result<Ordered, Status> {
        let order = self.orders.begin();
        self.machine.send(fact(order.ticket)).await.map_err(|_| stopping())?;
        order.outcome().await.ok_or_else(stopping)?.map_err(refused)
    }
}

fn policy_change(request: &pb::ChangePolicyRequest) -> Result<PolicyChange, Status> {
    let too_many = |_| bad_field("backups", "must be at most 255");
    let backups = request.backups.map(u8::try_from).transpose().map_err(too_many)?;
    let bounds = Policy::PERIOD_MIN..=Policy::PERIOD_MAX;
    let period = |given| std::time::Duration::try_from(given).ok().filter(|it| bounds.contains(it));
    let period = match request.period {
        None => None,
        Some(given) => {
            let odd = || bad_field("period", "must be at least 1 ms and at most an hour");
            Some(period(given).ok_or_else(odd)?)
        }
    };
    let components = match request.components() {
        pb::Components::Unspecified if request.components == 0 => None,
        pb::Components::Unspecified => return Err(bad_field("components", "is not a value of its enum")),
        pb::Components::Any => Some(Components::Any),
        pb::Components::Primary => Some(Components::Primary),
    };
    let uncertain = match request.uncertain() {
        pb::Uncertain::Unspecified if request.uncertain == 0 => None,
        pb::Uncertain::Unspecified => return Err(bad_field("uncertain", "is not a value of its enum")),
        pb::Uncertain::Ask => Some(Uncertain::Ask),
        pb::Uncertain::Resend => Some(Uncertain::Resend),
        pb::Uncertain::Skip => Some(Uncertain::Skip),
        pb::Uncertain::Essential => Some(Uncertain::Essential),
    };
    let commit = match request.commit() {
        pb::CommitLevel::Unspecified if request.commit == 0 => None,
        pb::CommitLevel::Unspecified => return Err(bad_field("commit", "is not a value of its enum")),
        pb::CommitLevel::None => Some(None),
        pb::CommitLevel::Agreed => Some(Some(Level::Agreed)),
        pb::CommitLevel::Safe => Some(Some(Level::Safe)),
    };
    let rebuild = match request.rebuild() {
        pb::Rebuild::Unspecified if request.rebuild == 0 => None,
        pb::Rebuild::Unspecified => return Err(bad_field("rebuild", "is not a value of its enum")),
        pb::Rebuild::Never => Some(Rebuild::Never),
        pb::Rebuild::Allowed => Some(Rebuild::Allowed),
    };
    Ok(PolicyChange { backups, period, components, uncertain, commit, rebuild })
}

fn rebuild(rebuild: Rebuild) -> pb::Rebuild {
    match rebuild {
        Rebuild::Never => pb::Rebuild::Never,
        Rebuild::Allowed => pb::Rebuild::Allowed,
    }
}

fn commit_level(commit: Option<Level>) -> pb::CommitLevel {
    match commit {
        None => pb::CommitLevel::None,
        Some(Level::Agreed) => pb::CommitLevel::Agreed,
        Some(Level::Safe) => pb::CommitLevel::Safe,
    }
}

fn components(components: Components) -> pb::Components {
    match components {
        Components::Any => pb::Components::Any,
        Components::Primary => pb::Components::Primary,
    }
}

fn uncertain(uncertain: Uncertain) -> pb::Uncertain {
    match uncertain {
        Uncertain::Ask => pb::Uncertain::Ask,
        Uncertain::Resend => pb::Uncertain::Resend,
        Uncertain::Skip => pb::Uncertain::Skip,
        Uncertain::Essential => pb::Uncertain::Essential,
    }
}

fn malformed(it: wire::Malformed) -> Status {
    bad_field(it.field, "is missing or malformed")
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

fn unit_status<S: Service>(
    server: &Server<S>,
    now: Time,
    unit: &UnitId,
    database: &Database,
) -> pb::UnitStatus {
    let policy = database.policy();
    pb::UnitStatus {
        name: wire::unit_name(unit),
        view: database.view().to_string(),
        members: database.members().iter().map(ProcessId::to_string).collect(),
        agreed: database.is_agreed(),
        backups: policy.backups.into(),
        period: prost_types::Duration::try_from(policy.period).ok(),
        components: components(policy.components).into(),
        uncertain: uncertain(policy.uncertain).into(),
        commit: commit_level(policy.commit).into(),
        rebuild: rebuild(policy.rebuild).into(),
        may_serve: server.may_serve(unit),
        shared_state: shared_state(database),
        edition: database.edition().number,
        editions: server.editions(unit).map(|edition| edition.number).collect(),
        sessions: server.sessions().filter(|it| it.unit == unit).map(|it| session_status(now, &it)).collect(),
    }
}

fn shared_state(database: &Database) -> Option<pb::SharedState> {
    let SharedStatus { live, voters, updates } = database.shared_status()?;
    Some(pb::SharedState { live, voters: voters.iter().map(Name::to_string).collect(), updates })
}

fn session_status(now: Time, status: &SessionStatus<'_>) -> pb::SessionStatus {
    let role = match status.role {
        Role::Primary => pb::Role::Primary,
        Role::Backup => pb::Role::Backup,
        Role::None => pb::Role::None,
    };
    let age = status.heard.and_then(|heard| prost_types::Duration::try_from(now.since(heard)).ok());
    pb::SessionStatus {
        name: wire::session_name(status.unit, status.id),
        role: role.into(),
        primary: status.session.primary.map(|it| it.to_string()).unwrap_or_default(),
        backups: status.session.backups.iter().map(ProcessId::to_string).collect(),
        fence: status.session.fence.to_string(),
        gateway: status.session.gateway.name.to_string(),
        responses: status.responses,
        requests: status.requests,
        context_age: age,
        placed: status.session.placed,
        edition: status.session.edition().map_or(0, |edition| edition.number),
        stalls: status.session.stalls.moves,
    }
}
