//! The membership service: a shell around [`membership_core::Server`].
//!
//! | part | topic |
//! | --- | --- |
//! | `config` | settings and command line |
//! | `switchboard` | which stream speaks for whom: the machine of this process |
//! | `effects`, `streams` | performs orders; the queues of all streams |
//! | `traffic` | what was sent, counted |
//! | `metrics` | what is counted and looked up |
//! | `history` | configurations so far, and how they came about |
//! | `rpc`, `peers` | `MembershipService`; links to other servers, by `PeerService` |
//! | `line` | what calls have in common |
//! | `predecessors` | which life of this server is the next one |
//! | `troubles` | what is wrong with the settings of servers, for operators |
//! | `wire`, `wire/peers`, `status` | between generated types and the machine's; refusals in stable words |
//!
//! One task owns the machine. Everything else sends it facts, and is given orders through bounded queues.
//!
//! When the process stops, it says so on every stream and tells nobody that anybody left: daemons stay in their
//! configuration, and look for another server or for this one's next life.
#![deny(missing_docs)]

pub mod config;
mod effects;
mod history;
mod line;
mod metrics;
mod peers;
mod predecessors;
mod rpc;
mod status;
mod streams;
mod switchboard;
mod traffic;
mod troubles;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use model::{Address, Boot, ServerId};
use proto::membership::v1::membership_service_server::MembershipServiceServer;
use proto::membership::v1::peer_service_server::PeerServiceServer;
use svc_kit::access::Access;
use svc_kit::dial::MESSAGE_BYTES_MAX;
use svc_kit::driver::{self, Clock};
use svc_kit::metrics::Metrics;
use svc_kit::process::{self, Workers};
use svc_kit::serve::{self, Listener, Services};
use svc_kit::settings::Settings;
use svc_kit::shutdown::Failure;
use svc_kit::tls::Role;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Args, Config};
use crate::effects::Performer;
use crate::history::History;
use crate::line::Line;
use crate::metrics::Measures;
use crate::peers::PeerServer;
use crate::rpc::MembershipServer;
use crate::streams::Streams;
use crate::switchboard::Switchboard;
use crate::traffic::Traffic;
use crate::troubles::Troubles;

/// The most facts that wait for the machine. Then whoever has another one waits.
const INBOX_MAX: usize = 4096;

/// Runs the service as a process of its own, to its end.
pub fn main(args: &Args) -> ExitCode {
    process::main("membership-svc", Workers::One, args, run)
}

/// Runs a membership server until `shutdown` is cancelled.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    Service::bind(config).await?.run(shutdown).await
}

/// A membership server that has its address, and does not run yet.
pub struct Service {
    config: Config,
    listener: Listener,
}

impl Service {
    /// Takes the address.
    pub async fn bind(config: Config) -> Result<Service, Failure> {
        let listener = Listener::bind(config.listen, config.advertise.as_ref()).await?;
        Ok(Service { config, listener })
    }

    /// Where others reach it.
    pub fn address(&self) -> &Address {
        self.listener.advertised()
    }

    /// Runs it until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Failure> {
        let Service { config, listener } = self;
        let clock = Clock::start();
        let started = clock.now();
        let (wire, auth) = (config.wire()?, config.auth()?);
        let boot = Boot::new(started.as_micros());
        let boot = predecessors::next_boot(config.name, boot, config.others(), &wire).await;
        let id = ServerId::new(config.name, boot);

        let (machine, inbox) = driver::inbox(INBOX_MAX);
        let (daemons, servers) = (Arc::new(Streams::default()), Arc::new(Streams::default()));
        let traffic = Arc::new(Traffic::default());
        let mut metrics = Metrics::new("membership-svc", config.cluster, config.name);
        let measures = Arc::new(Measures::new(&mut metrics));
        let (history_set, history) = watch::channel(History::default());
        let performer = Performer {
            daemons: Arc::clone(&daemons),
            servers: Arc::clone(&servers),
            traffic: Arc::clone(&traffic),
            measures: Arc::clone(&measures),
            history: history_set,
        };
        // The machine stops before the streams end, so that nobody is told that somebody left because of that.
        let (machine_stop, stop) = (CancellationToken::new(), CancellationToken::new());
        let params = config.params();
        let rule = params.primary.to_string();
        let board = Switchboard::new(id, params);
        let driven = driver::drive(board, inbox, performer, clock, machine_stop.clone());

        let (superseded, mut later) = watch::channel(None);
        let callers = config.others().map(|peer| peer.name).filter(|name| *name < config.name).collect();
        let line = Arc::new(Line {
            id,
            cluster: config.cluster,
            callers,
            protocol: config.protocol,
            rule,
            machine,
            daemons,
            servers,
            traffic,
            history,
            clock,
            started,
            troubles: Troubles::default(),
            superseded,
            stop: stop.clone(),
            next: AtomicU64::new(1),
        });
        let peer_server = PeerServer { line: Arc::clone(&line) };
        let (server, health) = Services::new()
            .with(MembershipServiceServer::new(MembershipServer(Arc::clone(&line))), |method| match method {
                "Register" => Access::Roles(&[Role::Machine]),
                "Evict" => Access::Admins,
                "SetMaintenance" => Access::Operators,
                _ => Access::Cluster,
            })
            .with(PeerServiceServer::new(peer_server).max_decoding_message_size(MESSAGE_BYTES_MAX), |_| {
                Access::Roles(&[Role::Membership])
            })
            .asking(auth)
            .server(&wire, proto::FILE_DESCRIPTOR_SET, &mut metrics)
            .await?;
        let seen = Arc::clone(&line);
        let look = move || Arc::clone(&measures).look(Arc::clone(&seen));
        config.ops.serve(metrics, health.clone(), stop.clone(), look).await?;
        for peer in config.others().filter(|peer| peer.name > config.name) {
            tokio::spawn(peers::keep_link(Arc::clone(&line), peer.clone(), wire.clone()));
        }
        if let Some(file) = &config.ready_file {
            serve::announce(file, listener.bound())?;
        }
        health.serving().await;
        tracing::info!(server = %id, protocol = %config.protocol, "started");

        let mut served = std::pin::pin!(server.serve(listener, stop.clone()));
        let mut driven = std::pin::pin!(driven);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            Ok(by) = later.wait_for(Option::is_some) => {
                let by = by.map(|by: ServerId| by.to_string()).unwrap_or_default();
                tracing::error!(server = %id, %by, reason = "SUPERSEDED", "another server of this name is known");
                return Err(Failure::Superseded(by));
            }
            ended = &mut served => return ended.and(Err(Failure::Ended("the gRPC server"))),
            _ = &mut driven => return Err(Failure::Ended("the machine")),
        }
        health.not_serving().await;
        machine_stop.cancel();
        driven.await.map_err(|_| Failure::Ended("the machine"))?;
        stop.cancel();
        // Who does not hang up in time learns from the end of the connection.
        let in_time = tokio::time::timeout(config.drain_timeout, served).await;
        tracing::info!(server = %id, "stopped");
        in_time.unwrap_or(Ok(()))
    }
}
