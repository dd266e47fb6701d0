//! The group communication service: a shell around [`gcs_core::Daemon`].
//!
//! | part | topic |
//! | --- | --- |
//! | `config` | settings and command line |
//! | `effects` | performs the machine's orders |
//! | `rpc`, `processes` | `GroupService`, and what waits for attached processes |
//! | `membership`, `register` | this daemon at the membership service, and what it says there |
//! | `state` | what it remembers of primary components when it starts again |
//! | `links`, `inbound` | our streams to other daemons, and `LinkService`: theirs to us |
//! | `wire`, `frames`, `events` | between generated types and the machine's: of processes, of daemons; events, encoded |
//! | `parts` | messages that are written in parts |
//! | `metrics` | what is counted and looked up |
//! | `refusals` | what was refused, in stable words |
//!
//! One task owns the machine. Everything else sends it facts, and is given orders through bounded queues.
#![deny(missing_docs)]

pub mod config;
mod effects;
mod events;
mod frames;
mod history;
mod inbound;
mod links;
mod membership;
mod metrics;
mod parts;
mod processes;
mod refusals;
mod register;
mod round_trips;
mod rpc;
mod state;
mod wire;

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use detector::Report;
use gcs_core::Daemon;
use model::trace::Event;
use model::{Address, Boot, DaemonId};
use proto::gcs::v1::group_service_server::GroupServiceServer;
use proto::gcs::v1::link_service_server::LinkServiceServer;
use svc_kit::access::Access;
use svc_kit::aside;
use svc_kit::dial::MESSAGE_BYTES_MAX;
use svc_kit::driver::{self, Clock, Handle};
use svc_kit::metrics::Metrics;
use svc_kit::process::{self, Workers};
use svc_kit::serve::{self, Listener, Services};
use svc_kit::settings::Settings;
use svc_kit::shutdown::Failure;
use svc_kit::tls::Role;
use svc_kit::trace::TraceWriter;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Args, Config};
use crate::effects::{Gathered, Mode, Performer, Standing};
use crate::history::History;
use crate::inbound::{Inbound, LinkServer};
use crate::links::Links;
use crate::metrics::{Measures, Sights};
use crate::processes::Processes;
use crate::refusals::Refusals;
use crate::rpc::GroupServer;
use crate::state::State;

/// The most facts that wait for the machine. Then whoever has another one waits.
const INBOX_MAX: usize = 8192;
/// How often a draining daemon looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// Runs the service as a process of its own, to its end.
pub fn main(args: &Args) -> ExitCode {
    process::main("gcs-svc", Workers::One, args, run)
}

/// Runs the service until `shutdown` is cancelled: then drains it.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let (metrics, measures) = measures(&config);
    let membership = membership::Membership {
        servers: config.membership.clone(),
        cluster: config.cluster,
        detection: config.detection.params(),
        wire: config.wire()?,
        measures: Arc::clone(&measures),
    };
    let directory = config.state_dir.as_deref();
    let state = directory.map(|it| State::open(it, config.cluster, config.name)).transpose()?;
    let clock = Clock::start();
    let boot = membership.next_boot(config.name, Boot::new(clock.now().as_micros())).await;
    // Signs of life must not wait behind messages.
    let follow = async |enrolment| aside::run("membership", membership.follow(enrolment, state)).await?;
    run_life(config, (metrics, measures), clock, boot, shutdown, follow).await
}

/// What stands for this daemon at the membership service: it hands on every notice as [`gcs_core::Input::Membership`],
/// in order, and ends when `stop` is cancelled, by which the daemon is seen to leave.
pub struct Enrolment {
    /// Who.
    pub daemon: DaemonId,
    /// Where others reach it.
    pub address: Address,
    /// Whom to tell notices.
    pub machine: Handle<Daemon>,
    /// Which peers this daemon cannot reach: to be told to the service whenever it changes.
    pub reach: watch::Receiver<Report<DaemonId>>,
    /// Whether an operator keeps the daemon out. Nobody is attached to it while that is so.
    pub barred: watch::Sender<bool>,
    /// When to leave.
    pub stop: CancellationToken,
}

/// The parts of a running daemon.
struct Parts {
    machine: Handle<Daemon>,
    processes: Arc<Processes>,
    /// One task for each process.
    serving: TaskTracker,
    inbound: Arc<Inbound>,
    mode: watch::Receiver<Mode>,
    barred: watch::Receiver<bool>,
    health: serve::Health,
}

/// Runs a daemon until `shutdown` is cancelled, under a membership service of the caller's choice.
pub async fn run_with<M>(config: Config, shutdown: CancellationToken, membership: M) -> Result<(), Failure>
where
    M: AsyncFnOnce(Enrolment) -> Result<(), Failure>,
{
    let clock = Clock::start();
    let boot = Boot::new(clock.now().as_micros());
    let measures = measures(&config);
    run_life(config, measures, clock, boot, shutdown, membership).await
}

fn measures(config: &Config) -> (Metrics, Arc<Measures>) {
    let mut metrics = Metrics::new("gcs-svc", config.cluster, config.name);
    let measures = Arc::new(Measures::new(&mut metrics));
    (metrics, measures)
}

async fn run_life<M>(
    config: Config,
    (mut metrics, measures): (Metrics, Arc<Measures>),
    clock: Clock,
    boot: Boot,
    shutdown: CancellationToken,
    membership: M,
) -> Result<(), Failure>
where
    M: AsyncFnOnce(Enrolment) -> Result<(), Failure>,
{
    let started = clock.now();
    let me = DaemonId::new(config.name, boot);
    let listener = Listener::bind(config.listen, config.advertise.as_ref()).await?;
    let mut trace = TraceWriter::create(config.trace.as_deref(), config.name, me.boot())?;
    trace.record(started, Event::DaemonStart { daemon: me });
    trace.flush();

    let (machine, inbox) = driver::inbox(INBOX_MAX);
    let (wire, auth) = (config.wire()?, config.auth()?);
    let links =
        Arc::new(Links::new(me, &config, wire.clone(), machine.clone(), measures.round_trips.clone()));
    let inbound = Arc::new(Inbound::default());
    let processes = Arc::new(Processes::new(config.limits));
    let history = Arc::new(History::default());
    let refusals = Arc::new(Refusals::default());
    let (mode_set, mode) = watch::channel(Mode::START);
    let (reach_set, reach) = watch::channel(Report::new());
    let (barred_set, barred) = watch::channel(false);
    let performer = Performer {
        trace,
        machine: machine.clone(),
        links: Arc::clone(&links),
        inbound: Arc::clone(&inbound),
        processes: Arc::clone(&processes),
        refusals: Arc::clone(&refusals),
        reach: reach_set,
        mode: mode_set,
        measures: Arc::clone(&measures),
        history: Arc::clone(&history),
        members: 0,
        gathered: Gathered::default(),
    };
    let end = CancellationToken::new();
    // Whichever way this function is left.
    let _end = end.clone().drop_guard();
    let params = config.params();
    let driven = driver::drive(Daemon::new(me, params), inbox, performer, clock, end.clone());

    let sights = Sights {
        machine: machine.clone(),
        processes: Arc::clone(&processes),
        links: Arc::clone(&links),
        refusals: Arc::clone(&refusals),
        mode: mode.clone(),
    };
    let serving = TaskTracker::new();
    let groups = GroupServer {
        me,
        cluster: config.cluster,
        params,
        machine: machine.clone(),
        processes: Arc::clone(&processes),
        serving: serving.clone(),
        flight: Arc::new(Semaphore::new(rpc::FLIGHT_MAX)),
        links,
        history,
        refusals: Arc::clone(&refusals),
        mode: mode.clone(),
        clock,
        started,
    };
    let inbound_links = LinkServer {
        me,
        cluster: config.cluster,
        machine: machine.clone(),
        inbound: Arc::clone(&inbound),
        refusals,
        stop: end.clone(),
    };
    let (server, health) = Services::new()
        .with(GroupServiceServer::new(groups).max_decoding_message_size(MESSAGE_BYTES_MAX), |method| {
            match method {
                "Attach" | "Multicast" => Access::Roles(&[Role::Server, Role::Gateway]),
                _ => Access::Cluster,
            }
        })
        .with(LinkServiceServer::new(inbound_links).max_decoding_message_size(MESSAGE_BYTES_MAX), |_| {
            Access::Roles(&[Role::Machine])
        })
        .asking(auth)
        .server(&wire, proto::FILE_DESCRIPTOR_SET, &mut metrics)
        .await?;
    let look = move || Arc::clone(&measures).look(sights.clone());
    config.ops.serve(metrics, health.clone(), end.clone(), look).await?;
    let (bound, address) = (listener.bound(), listener.advertised().clone());
    let served = server.serve(listener, end.clone());
    if let Some(file) = &config.ready_file {
        serve::announce(file, bound)?;
    }

    let leave = CancellationToken::new();
    let (daemon, machine_of, stop) = (me, machine.clone(), leave.clone());
    let enrolment = Enrolment { daemon, address, machine: machine_of, reach, barred: barred_set, stop };
    tracing::info!(daemon = %me, "started");
    let parts = Parts { machine, processes, serving, inbound, mode, barred, health };
    let life = async {
        parts.live(&shutdown).await;
        parts.drain(config.drain_timeout).await;
        leave.cancel();
        parts.inbound.drain();
        end.cancel();
        Ok(())
    };
    let ended = tokio::try_join!(
        life,
        served,
        async { driven.await.map_err(|_| Failure::Ended("the machine")) },
        membership(enrolment),
    );
    tracing::info!(daemon = %me, "stopped");
    ended.map(|_| ())
}

impl Parts {
    /// Reports that the daemon is serving while it has a place in the cluster; processes are sent away when an operator
    /// takes that from it. Ends with `shutdown`.
    async fn live(&self, shutdown: &CancellationToken) {
        let (mut mode, mut barred) = (self.mode.clone(), self.barred.clone());
        // The other ends live as long as the machine and the membership, whose ends are awaited elsewhere.
        let member = async {
            mode.wait_for(|mode| mode.standing == Standing::Member).await?;
            loop {
                barred.wait_for(|barred| !barred).await?;
                self.processes.let_in();
                self.health.serving().await;
                barred.wait_for(|barred| *barred).await?;
                self.health.not_serving().await;
                self.processes.bar();
            }
        };
        let _: Option<Result<Infallible, watch::error::RecvError>> =
            shutdown.run_until_cancelled(member).await;
        shutdown.cancelled().await;
    }

    /// Sends processes away, and waits until all daemons have heard that they are gone: their groups change by
    /// ordered messages then, not by a change of configuration.
    async fn drain(&self, timeout: Duration) {
        self.health.not_serving().await;
        self.processes.drain();
        self.serving.close();
        let heard = async {
            // After this, the machine knows that all processes are gone.
            self.serving.wait().await;
            loop {
                let windows = self.machine.ask(Daemon::windows).await;
                if windows.is_ok_and(|windows| windows.waiting == 0 && windows.unacknowledged == 0) {
                    return;
                }
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(timeout, heard).await.is_err() {
            tracing::warn!("leaving before all daemons have heard that the processes are gone");
        }
    }
}
