//! The content server: keeps the unit databases of the units that it holds, and serves or mirrors their sessions.
//!
//! Which service it serves is up to the program: [`host`] is the whole of one that brings its own; [`main`] serves
//! those that come with Handover.
//!
//! One task owns the machine of `session-core`. Another keeps the server attached to its daemon, and one for each
//! gateway that has clients of ours keeps a stream to it. At shutdown the sessions are handed over first.
#![deny(missing_docs)]

mod beginnings;
pub mod bundled;
pub mod config;
pub mod content;
mod drain;
mod effects;
mod filter;
mod gateways;
mod groups;
mod guard;
mod journal;
mod metrics;
pub mod order_by;
mod orders;
mod policy;
mod rpc;
mod sessions;
mod status;
pub mod store;
mod wire;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use gcs_client::{ConnectError, Target};
use model::Boot;
use proto::server::v1::server_service_server::ServerServiceServer;
use session_core::server::Input;
use session_core::{ContentService, Server};
use svc_kit::access::Access;
use svc_kit::driver::{self, Clock, Handle};
use svc_kit::metrics::Metrics;
use svc_kit::parent;
use svc_kit::process::{self, Workers};
use svc_kit::serve::{self, Health, Listener, Services};
use svc_kit::settings::{Settings, SettingsError};
use svc_kit::shutdown::Failure;
use svc_kit::trace::TraceWriter;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::beginnings::Beginnings;
use crate::config::Config;
use crate::drain::{Ending, Operation};
use crate::effects::Effects;
use crate::gateways::Dialler;
use crate::groups::Groups;
use crate::guard::Guarded;
use crate::journal::Journal;
use crate::metrics::Measures;
use crate::orders::Orders;
use crate::rpc::{Library, Load, Operators};

/// Facts that wait for the machine.
const INBOX_MAX: usize = 4096;
/// Commands that wait for the daemon.
const COMMANDS_MAX: usize = 64 * 1024;
/// How long connections may take to close at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A service that can be hosted: any that tasks can pass to each other.
pub trait Service: ContentService<Context: Send> + Send + 'static {}

impl<S: ContentService<Context: Send> + Send + 'static> Service for S {}

/// Why a service has nothing to serve.
pub type LoadError = Box<dyn Error + Send + Sync>;

/// The whole life of a content server with the services that come with Handover.
pub fn main(args: &config::Args) -> ExitCode {
    live(args, bundled::load)
}

/// The whole life of a program that is a content server with another service, from its command line on. `load` makes
/// the service, when the server starts and whenever it is told to load its content again.
pub fn host<S: Service>(load: impl Fn(&Config) -> Result<S, LoadError> + Send + Sync + 'static) -> ExitCode {
    let line = CommandLine::parse();
    if line.with_parent {
        parent::end_with_parent();
    }
    live(&line.args, load)
}

/// The command line of a program that is nothing but a content server.
#[derive(Parser)]
#[command(version, about = "Serves sessions on content units, together with the other content servers")]
struct CommandLine {
    /// End when standard input ends: for children, which must not outlive their parent
    #[arg(long, hide = true)]
    with_parent: bool,
    #[command(flatten)]
    args: config::Args,
}

fn live<S: Service>(
    args: &config::Args,
    load: impl Fn(&Config) -> Result<S, LoadError> + Send + Sync + 'static,
) -> ExitCode {
    process::main("server-svc", Workers::PerCore, args, async |config: Config, shutdown| {
        let listener = Listener::bind(config.listen, config.advertise.as_ref()).await?;
        serve(config, listener, shutdown, load).await
    })
}

/// Runs a content server on a listener that is bound already, until `shutdown` is cancelled, and hands its sessions
/// over then.
pub async fn serve<S: Service>(
    config: Config,
    listener: Listener,
    shutdown: CancellationToken,
    load: impl Fn(&Config) -> Result<S, LoadError> + Send + Sync + 'static,
) -> Result<(), Failure> {
    let drain_timeout = config.drain_timeout;
    let load = move |config: &Config| Guarded::new(load(config)?);
    let mut running = Running::start(config, listener, Box::new(load), &shutdown).await?;
    tracing::info!("started");
    running.stay(&shutdown).await?;
    let ended = running.leave(drain_timeout).await;
    tracing::info!("stopped");
    ended
}

/// The tasks of a content server, and how they are brought to their end. They end when this is dropped.
struct Running<S: Service> {
    handle: Handle<Server<S>>,
    health: Health,
    /// Cancelled when all sessions are handed over.
    drained: CancellationToken,
    machine: JoinHandle<()>,
    attachment: JoinHandle<Option<Result<(), ConnectError>>>,
    server: JoinHandle<Result<(), Failure>>,
    stop: DropGuard,
}

impl<S: Service> Running<S> {
    async fn start(
        config: Config,
        listener: Listener,
        load: Load<S>,
        shutdown: &CancellationToken,
    ) -> Result<Running<S>, Failure> {
        let (clock, params) = (Clock::start(), config.params());
        let library = Arc::new(Library { config: config.clone(), load });
        let service = library.load().await?.map_err(|error| bad_content(&config, &*error))?;
        let boot = Boot::new(clock.now().as_micros());
        let trace = TraceWriter::create(config.trace.as_deref(), config.name, boot)?;
        let (machine, inbox) = driver::inbox::<Server<S>>(INBOX_MAX);
        let mut metrics = Metrics::new("server-svc", config.cluster, config.name);
        let (measures, orders) = (Arc::new(Measures::new(&mut metrics)), Arc::new(Orders::default()));
        let journal = Arc::new(Journal::new(config.name));
        let (commands, queued_commands) = mpsc::channel(COMMANDS_MAX);
        let overflow = Arc::new(Notify::new());
        let (stop, drained) = (CancellationToken::new(), CancellationToken::new());
        let (wire, auth) = (config.wire()?, config.auth()?);
        let Config { cluster, name, gcs: addresses, .. } = config;
        let operators = Operators {
            name,
            clock,
            machine: machine.clone(),
            measures: measures.clone(),
            orders: orders.clone(),
            journal: journal.clone(),
            library,
            ending: Ending { asked: shutdown.clone(), drained: drained.clone(), stop: stop.clone() },
            operation: Operation::default(),
        };
        let (server, health) = Services::new()
            .with(ServerServiceServer::new(operators), |method| match method {
                "GetStatus" | "ListSessions" | "GetSession" | "ListSessionEvents" | "GetOperation" => {
                    Access::Cluster
                }
                "ChangePolicy" | "PublishEdition" | "FoundState" => Access::Admins,
                _ => Access::Operators,
            })
            .asking(auth)
            .server(&wire, proto::FILE_DESCRIPTOR_SET, &mut metrics)
            .await?;
        let effects = Effects {
            dialler: Arc::new(Dialler {
                cluster,
                name,
                wire: wire.clone(),
                machine: machine.clone(),
                measures: measures.clone(),
            }),
            doors: BTreeMap::new(),
            commands,
            overflow: overflow.clone(),
            drained: drained.clone(),
            measures: measures.clone(),
            orders,
            beginnings: Beginnings::of(name),
            journal,
            trace,
        };
        let groups = Groups {
            target: Target { addresses, cluster, name, wire },
            machine: machine.clone(),
            commands: queued_commands,
            overflow,
            hang_timeout: config.hang_timeout,
            health: health.clone(),
            measures: measures.clone(),
        };
        let seen = machine.clone();
        let look = move || measures.clone().look(seen.clone(), clock);
        config.ops.serve(metrics, health.clone(), stop.clone(), look).await?;
        let bound = listener.bound();
        let running = Running {
            handle: machine,
            health,
            drained,
            machine: driver::drive(Server::new(service, params), inbox, effects, clock, stop.clone()),
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

    /// Hands all sessions over to other servers, and closes all connections.
    async fn leave(self, drain_timeout: Duration) -> Result<(), Failure> {
        let stopped = |_| Failure::Ended("the machine");
        self.health.not_serving().await;
        self.handle.send(Input::Drain).await.map_err(stopped)?;
        let begun = Instant::now();
        let sessions = self.handle.ask(drain::served).await.map_err(stopped)?;
        tracing::info!(sessions, "sessions are handed over");
        let drained = tokio::time::timeout(drain_timeout, self.drained.cancelled()).await;
        let left = match drained {
            Ok(()) => 0,
            Err(_) => self.handle.ask(drain::served).await.map_err(stopped)?,
        };
        let duration_ms = begun.elapsed().as_secs_f64() * 1e3;
        tracing::info!(sessions = left, duration_ms, "all that could be were");
        drop(self.stop);
        // Who does not close its connection by then does not want to.
        drop(tokio::time::timeout(CLOSE_TIMEOUT, self.server).await);
        drained.map_err(|_| Failure::Undrained(format!("sessions without another server: {left}")))
    }
}

fn bad_content(config: &Config, error: &dyn Error) -> Failure {
    Failure::Settings(SettingsError::Invalid {
        key: "content".to_owned(),
        given: format!("{:?}", config.content),
        reason: error.to_string(),
    })
}
