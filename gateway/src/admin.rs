//! What operators see of the gateway.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Name, ProcessId};
use proto::gateway::v1::gateway_service_server::GatewayService;
use proto::gateway::v1::{GetStatusRequest, GetStatusResponse, SessionStatus};
use session_core::Gateway;
use session_core::gateway::GatewaySession;
use session_core::message::GatewayId;
use svc_kit::driver::Handle;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::metrics::Measures;
use crate::{status, wire};

/// The service for operators.
pub(crate) struct Admin {
    pub(crate) id: GatewayId,
    pub(crate) machine: Handle<Gateway>,
    pub(crate) measures: Arc<Measures>,
    pub(crate) process: watch::Receiver<Option<ProcessId>>,
}

#[tonic::async_trait]
impl GatewayService for Admin {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let seen = self.machine.ask(|gateway| {
            let servers: BTreeSet<Name> = gateway.servers().collect();
            (gateway.sessions().map(session_status).collect(), servers)
        });
        let (sessions, servers) = seen.await.map_err(|_| status::draining())?;
        let process = *self.process.borrow();
        Ok(Response::new(GetStatusResponse {
            name: self.id.name.to_string(),
            sessions,
            servers: servers.iter().map(Name::to_string).collect(),
            stale_messages: self.measures.stale.get(),
            refused_messages: self.measures.refused.get(),
            process: process.map(|it| it.to_string()).unwrap_or_default(),
            boot: self.id.boot.number(),
        }))
    }
}

fn session_status(session: GatewaySession<'_>) -> SessionStatus {
    SessionStatus {
        name: wire::session_name(session.unit, session.id),
        server: session.server.map(|it| it.to_string()).unwrap_or_default(),
        fence: Some(wire::fence_message(session.fence)),
        attached: session.attached,
        responses: session.responses,
        requests_pending: u32::try_from(session.requests_pending).unwrap_or(u32::MAX),
        stalls: session.stalls,
    }
}
