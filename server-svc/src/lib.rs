//! The content server: keeps the unit databases of the films that it holds, and serves or mirrors their sessions.
//!
//! One task owns the machine of `session-core`. Another keeps the server attached to its daemon, and one for each
//! gateway that has clients of ours keeps a stream to it. At shutdown the sessions are handed over first.
#![deny(missing_docs)]

pub mod config;
mod effects;
mod gateways;
mod groups;
mod rpc;
mod wire;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gcs_client::Target;
use model::Boot;
use model::trace::Role;
use proto::server::v1::server_service_server::ServerServiceServer;
use session_core::Server;
use session_core::server::Input;
use svc_kit::driver::{self, Clock, Handle};
use svc_kit::process;
use svc_kit::serve::{self, Listener, Services};
use svc_kit::settings::SettingsError;
use svc_kit::shutdown::Failure;
use svc_kit::trace::TraceWriter;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use vod::Vod;

use crate::config::Config;
use crate::effects::{Counters, Effects};
use crate::gateways::Dialler;
use crate::groups::Groups;
use crate::rpc::{Library, Operators};

/// Facts that wait for the machine.
const INBOX_MAX: usize = 4096;
/// Commands that wait for the daemon.
const COMMANDS_MAX: usize = 64 * 1024;
/// How long connections may take to close at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The whole life of the process; see [`run`].
pub fn main(args: &config::Args) -> ExitCode {
    process::main("server-svc", args, run)
}

/// Runs a content server until `shutdown` is cancelled, and hands its sessions over then.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let listener = Listener::bind(config.listen, config.advertise.as_ref()).await?;
    serve(config, listener, shutdown).await
}

/// Runs a content server on a listener that is bound already.
pub async fn serve(config: Config, listener: Listener, shutdown: CancellationToken) -> Result<(), Failure> {
    let (clock, bound) = (Clock::start(), listener.bound());
    let boot = Boot::new(clock.now().as_micros());
    let library = Library {
        dir: config.content.clone(),
        selection: config.selection(),
        params: vod::Params { lead: config.lead },
    };
    let loading = library.clone();
    let loaded = tokio::task::spawn_blocking(move || loading.load()).await.map_err(std::io::Error::other)?;
    let vod = loaded.map_err(|error| bad_content(&config, &error))?;
    let trace = TraceWriter::create(config.trace.as_deref(), config.name, boot)?;
    let stop = CancellationToken::new();
    let _stop_everything = stop.clone().drop_guard();

    let (machine, inbox) = driver::inbox::<Server<Vod>>(INBOX_MAX);
    let counters = Arc::new(Counters::default());
    let (commands, queued_commands) = mpsc::channel(COMMANDS_MAX);
    let (overflow, drained) = (Arc::new(Notify::new()), CancellationToken::new());
    let operators =
        Operators { name: config.name, clock, machine: machine.clone(), counters: counters.clone(), library };
    let (server, health) = Services::new()
        .with(ServerServiceServer::new(operators))
        .server(&config.keepalive, proto::FILE_DESCRIPTOR_SET)
        .await?;

    let dialler = Dialler {
        cluster: config.cluster,
        name: config.name,
        keepalive: config.keepalive,
        machine: machine.clone(),
        counters: counters.clone(),
    };
    let effects = Effects {
        dialler,
        doors: BTreeMap::new(),
        commands,
        overflow: overflow.clone(),
        drained: drained.clone(),
        counters,
        trace,
    };
    let hosted = driver::drive(Server::new(vod, config.params()), inbox, effects, clock, stop.clone());
    let target = Target {
        addresses: config.gcs,
        cluster: config.cluster,
        name: config.name,
        keepalive: config.keepalive,
    };
    let (machine_of_groups, health_of_groups) = (machine.clone(), health.clone());
    let groups = Groups {
        target,
        machine: machine_of_groups,
        commands: queued_commands,
        overflow,
        health: health_of_groups,
    };
    let attached = tokio::spawn(groups.keep());
    let mut served = tokio::spawn(server.serve(listener, stop.clone()));
    if let Some(file) = &config.ready_file {
        serve::announce(file, bound)?;
    }

    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = hosted => return Err(Failure::Ended("the machine")),
        ended = attached => return Err(match ended {
            Ok(Err(refused)) => Failure::Unreachable(refused.to_string()),
            Ok(Ok(())) | Err(_) => Failure::Ended("the attachment to the group communication"),
        }),
        ended = &mut served => return ended.unwrap_or(Err(Failure::Ended("the gRPC server"))),
    }
    health.not_serving().await;
    let drain = hand_over(&machine, &drained, config.drain_timeout).await;
    stop.cancel();
    // Who does not close its connection by then does not want to.
    drop(tokio::time::timeout(CLOSE_TIMEOUT, served).await);
    drain
}

/// Hands all sessions over to other servers.
async fn hand_over(
    machine: &Handle<Server<Vod>>,
    drained: &CancellationToken,
    timeout: Duration,
) -> Result<(), Failure> {
    let stopped = |_| Failure::Ended("the machine");
    machine.send(Input::Drain).await.map_err(stopped)?;
    if tokio::time::timeout(timeout, drained.cancelled()).await.is_ok() {
        return Ok(());
    }
    let primary = |server: &Server<Vod>| server.sessions().filter(|it| it.role == Role::Primary).count();
    let left = machine.ask(primary).await.map_err(stopped)?;
    Err(Failure::Undrained(format!("{left} sessions had no other server")))
}

fn bad_content(config: &Config, error: &vod::store::StoreError) -> Failure {
    Failure::Settings(SettingsError::Invalid {
        key: "content".to_owned(),
        given: format!("{:?}", config.content),
        reason: error.to_string(),
    })
}
