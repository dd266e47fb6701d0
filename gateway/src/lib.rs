//! The gateway: clients open sessions here and read their responses, content servers bring them.
//!
//! One port serves clients, content servers and operators. One task owns the machine of `session-core`; handlers tell
//! it facts and wait on the desk for what it orders; another task keeps the gateway attached to a daemon. At shutdown
//! clients are sent to other gateways, where they go on with their cursors.
#![deny(missing_docs)]

mod admin;
mod client;
pub mod config;
mod cursor;
mod delivery;
mod desk;
mod effects;
mod groups;
mod mailbox;
mod metrics;
mod operation;
mod principal;
mod rpc;
pub mod seal;
mod status;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gcs_client::{ConnectError, Target};
use model::Boot;
use proto::gateway::v1::delivery_service_server::DeliveryServiceServer;
use proto::gateway::v1::gateway_service_server::GatewayServiceServer;
use proto::session::v1::session_service_server::SessionServiceServer;
use session_core::Gateway;
use session_core::message::GatewayId;
use svc_kit::access::Access;
use svc_kit::dial::MESSAGE_BYTES_MAX;
use svc_kit::driver::{self, Clock};
use svc_kit::hosts::PerHost;
use svc_kit::metrics::Metrics;
use svc_kit::process::{self, Workers};
use svc_kit::serve::{self, Health, Listener, Services};
use svc_kit::settings::Settings;
use svc_kit::shutdown::Failure;
use svc_kit::tls::Role;
use svc_kit::trace::TraceWriter;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::config::Config;
use crate::delivery::Delivery;
use crate::desk::Desk;
use crate::effects::Effects;
use crate::groups::Groups;
use crate::metrics::Measures;
use crate::principal::Rates;
use crate::rpc::Sessions;
use crate::seal::Seals;

/// Facts that wait for the machine.
const INBOX_MAX: usize = 4096;
/// Multicasts that wait for the daemon.
const COMMANDS_MAX: usize = 8192;
/// Events of one client beside its window of responses: who serves now, and why the stream ends.
const CLIENT_EVENTS_MAX: usize = 64;
/// Messages that wait for a content server, for each session that there may be: a grant and a credit.
const LINK_MESSAGES_PER_SESSION: usize = 2;
/// How long connections may take to close at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The whole life of the process; see [`run`].
pub fn main(args: &config::Args) -> ExitCode {
    process::main("gateway", Workers::PerCore, args, run)
}

/// Runs a gateway until `shutdown` is cancelled, and takes leave of its clients then.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let listener = Listener::bind(config.listen, config.advertise.as_ref()).await?;
    serve(config, listener, shutdown).await
}

/// Runs a gateway on a listener that is bound already.
pub async fn serve(config: Config, listener: Listener, shutdown: CancellationToken) -> Result<(), Failure> {
    let drain_timeout = config.drain_timeout;
    let mut running = Running::start(config, listener).await?;
    tracing::info!("started");
    running.stay(&shutdown).await?;
    let ended = running.leave(drain_timeout).await;
    tracing::info!("stopped");
    ended
}

/// The tasks of a gateway, and how they are brought to their end. They end when this is dropped.
struct Running {
    health: Health,
    /// Cancelled when clients have to go elsewhere.
    draining: CancellationToken,
    /// Calls under way.
    calls: TaskTracker,
    machine: JoinHandle<()>,
    attachment: JoinHandle<Option<Result<(), ConnectError>>>,
    server: JoinHandle<Result<(), Failure>>,
    stop: DropGuard,
}

impl Running {
    async fn start(config: Config, listener: Listener) -> Result<Running, Failure> {
        let (wire, auth) = (config.wire()?, config.auth()?);
        let clock = Clock::start();
        let boot = Boot::new(clock.now().as_micros());
        let id = GatewayId { name: config.name, boot, address: listener.advertised().clone() };
        let trace = TraceWriter::create(config.trace.as_deref(), config.name, boot)?;
        let (machine, inbox) = driver::inbox::<Gateway>(INBOX_MAX);
        let mut metrics = Metrics::new("gateway", config.cluster, config.name);
        let (desk, measures) = (Arc::new(Desk::default()), Arc::new(Measures::new(&mut metrics)));
        let (commands, queued_commands) = mpsc::channel(COMMANDS_MAX);
        let (process, seen_process) = watch::channel(None);
        let (stop, draining, calls) =
            (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let params = config.params();
        if config.cursors.keys.is_empty() {
            tracing::warn!(
                "there is no key for cursors: clients can change theirs, and no session is made anew"
            );
        }
        let seals = Arc::new(Seals::new(config.cursors.keys));
        let sessions = Sessions {
            machine: machine.clone(),
            desk: desk.clone(),
            queue_max: usize::try_from(params.window.responses)
                .unwrap_or(usize::MAX)
                .saturating_add(CLIENT_EVENTS_MAX),
            draining: draining.clone(),
            calls: calls.clone(),
            measures: measures.clone(),
            seals: seals.clone(),
            rates: Arc::new(Rates::new(config.limits.calls_per_second, config.limits.calls_at_once)),
        };
        let delivery = Delivery {
            cluster: config.cluster,
            id: id.clone(),
            machine: machine.clone(),
            desk: desk.clone(),
            measures: measures.clone(),
            queue_max: params.sessions_max.saturating_mul(LINK_MESSAGES_PER_SESSION).max(COMMANDS_MAX),
            stop: stop.clone(),
        };
        let admin = Admin {
            id: id.clone(),
            machine: machine.clone(),
            measures: measures.clone(),
            process: seen_process,
        };
        let (server, health) = Services::new()
            .with(SessionServiceServer::new(sessions).max_decoding_message_size(MESSAGE_BYTES_MAX), |_| {
                Access::Clients
            })
            .with(DeliveryServiceServer::new(delivery).max_decoding_message_size(MESSAGE_BYTES_MAX), |_| {
                Access::Roles(&[Role::Server])
            })
            .with(GatewayServiceServer::new(admin), |_| Access::Cluster)
            .asking(auth)
            .bounding(PerHost {
                max: config.limits.connections_per_host,
                refused: measures.too_many_connections.clone(),
            })
            .server(&wire, proto::FILE_DESCRIPTOR_SET, &mut metrics)
            .await?;
        let effects = Effects { desk, machine: machine.clone(), commands, measures: measures.clone(), trace };
        let seen = machine.clone();
        let look = move || measures.clone().look(seen.clone());
        config.ops.serve(metrics, health.clone(), stop.clone(), look).await?;
        let Config { cluster, name, gcs: addresses, .. } = config;
        let target = Target { addresses, cluster, name, wire };
        let groups = Groups { target, machine, commands: queued_commands, process, health: health.clone() };
        let bound = listener.bound();
        let running = Running {
            health,
            draining,
            calls,
            machine: driver::drive(Gateway::new(id, params), inbox, effects, clock, stop.clone()),
            attachment: tokio::spawn(stop.clone().run_until_cancelled_owned(groups.keep())),
            server: tokio::spawn(server.serve(listener, stop.clone())),
            stop: stop.drop_guard(),
        };
        if let Some(file) = &config.ready_file {
            serve::announce(file, bound)?;
        }
        Ok(running)
    }

    /// Waits for `shutdown`. None of the tasks may end before.
    async fn stay(&mut self, shutdown: &CancellationToken) -> Result<(), Failure> {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            _ = &mut self.machine => Err(Failure::Ended("the machine")),
            ended = &mut self.attachment => Err(match ended {
                Ok(Some(Err(refused))) => Failure::Unreachable(refused.to_string()),
                Ok(Some(Ok(())) | None) | Err(_) => Failure::Ended("the attachment to the group communication"),
            }),
            ended = &mut self.server => match ended {
                Ok(Err(failure)) => Err(failure),
                Ok(Ok(())) | Err(_) => Err(Failure::Ended("the gRPC server")),
            },
        }
    }

    /// Sends clients elsewhere, lets calls come to their end, and closes all connections.
    async fn leave(self, drain_timeout: Duration) -> Result<(), Failure> {
        self.health.not_serving().await;
        self.draining.cancel();
        self.calls.close();
        let finished = tokio::time::timeout(drain_timeout, self.calls.wait()).await;
        drop(self.stop);
        // Who does not close its connection by then does not want to.
        drop(tokio::time::timeout(CLOSE_TIMEOUT, self.server).await);
        finished.map_err(|_| Failure::Undrained("calls of clients were under way".to_owned()))
    }
}
