//! A cluster of real processes for one test, from its start to the verdict on its traces.

use std::fs;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::task::Poll;

use handover_cli::bundle::ContentFile;
use handover_cli::cluster::{Cluster, Options, Protocol, Service};
use handover_cli::snapshot::{Addresses, Probe, Snapshot};
use model::trace::Event;
use model::{Address, DaemonId, Name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use player::Recorder;
use svc_kit::auth::Bearer;
use svc_kit::dial::Wire;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::deadline::{until, within};
use crate::programs;
use crate::viewer::Viewer;

/// More clusters at a time would only wait for one another.
static ROOM: Semaphore = Semaphore::const_new(2);

/// Room for one cluster, for as long as this is kept.
pub struct Room {
    _permit: SemaphorePermit<'static>,
}

impl Room {
    /// Waits until there is room.
    ///
    /// # Panics
    /// Never: room is always left again.
    pub async fn take() -> Room {
        Room { _permit: ROOM.acquire().await.unwrap() }
    }
}

/// So many of the last lines of each log are shown when a test fails.
const TAIL_LINES: usize = 12;

/// What a test may choose.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many membership servers there are.
    pub membership_servers: usize,
    /// How they agree.
    pub protocol: Protocol,
    /// Which rule says which configuration is the primary component.
    pub voting: Option<&'static str>,
    /// How many machines there are.
    pub machines: usize,
    /// How many of them hold each film.
    pub replicas: usize,
    /// How many servers beside the primary apply every request.
    pub backups: u8,
    /// The program of the content servers, if it is not `handover`.
    pub server: Option<PathBuf>,
    /// Content beside the films.
    pub further: Vec<ContentFile>,
    /// Whether processes show each other who they are.
    pub tls: bool,
    /// A list of tokens, and the one of the clients of this bed: everybody is asked for one.
    pub tokens: Option<(String, Bearer)>,
    /// How processes write their logs: `text` or `json`.
    pub log_format: &'static str,
    /// Further variables in the environment of all processes.
    pub variables: Vec<(String, String)>,
    /// Further flags of gateways.
    pub gateway_flags: Vec<&'static str>,
    /// Further flags of content servers.
    pub server_flags: Vec<&'static str>,
}

impl Default for Plan {
    /// Every film on each of three machines.
    fn default() -> Plan {
        Plan {
            membership_servers: 1,
            protocol: Protocol::default(),
            voting: None,
            machines: 3,
            replicas: 3,
            backups: 1,
            server: None,
            further: Vec::new(),
            tls: false,
            tokens: None,
            log_format: "text",
            variables: Vec::new(),
            gateway_flags: Vec::new(),
            server_flags: Vec::new(),
        }
    }
}

/// A cluster with two gateways, and whoever is on it.
///
/// If the test fails, the state of the cluster and the last lines of all logs are printed, and all that the processes
/// wrote stays.
pub struct Bed {
    cluster: Cluster,
    dir: PathBuf,
    probe: Probe,
    recorder: Recorder,
    viewers: usize,
    _room: Room,
}

impl Bed {
    /// A cluster like most tests need.
    pub async fn start() -> Bed {
        Bed::plan(Plan::default()).await
    }

    /// Starts a cluster, once there is room for one more, and waits until it has come together.
    pub async fn plan(plan: Plan) -> Bed {
        let room = Room::take().await;
        let dir = tempfile::Builder::new().prefix("handover-e2e-").tempdir().unwrap().keep();
        let mut options = Options::new("e2e".parse().unwrap(), &dir);
        options.exe = programs::handover().to_owned();
        options.membership_servers = plan.membership_servers;
        options.protocol = plan.protocol;
        options.voting = plan.voting.map(str::to_owned);
        options.machines = plan.machines;
        options.replicas = plan.replicas;
        options.backups = plan.backups;
        options.server = plan.server;
        options.further = plan.further;
        options.tls = plan.tls;
        if let Some((list, own)) = plan.tokens {
            let file = dir.join("tokens.toml");
            std::fs::write(&file, list).unwrap();
            (options.auth.tokens, options.token) = (Some(file), Some(own));
        }
        options.log_format = plan.log_format;
        options.variables = plan.variables;
        options.trace = Some(dir.join("trace"));
        let gateway_flags = plan.gateway_flags.into_iter().map(str::to_owned).collect();
        options.flags.insert(Service::Gateway, gateway_flags);
        let server_flags = plan.server_flags.into_iter().map(str::to_owned).collect();
        options.flags.insert(Service::Server, server_flags);
        let started = Cluster::start(options).await;
        let cluster = started.unwrap_or_else(|error| panic!("no cluster in {}: {error:#}", dir.display()));
        let recorder = Recorder::create(Some(&dir.join("trace")), "bed".parse().unwrap()).unwrap();
        let probe = Probe::new(cluster.wire().clone());
        Bed { cluster, dir, probe, recorder, viewers: 0, _room: room }
    }

    /// The directory with everything that the processes write.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How the operator connects.
    pub fn wire(&self) -> &Wire {
        self.cluster.wire()
    }

    /// Where a process listens.
    pub fn address(&self, name: Name) -> Address {
        self.cluster.address(name).expect("a process of the cluster").clone()
    }

    /// Where a process shows its metrics and its health.
    pub fn ops(&self, name: Name) -> Address {
        self.cluster.state().process(name).and_then(|it| it.ops.clone()).expect("it shows them")
    }

    /// Where a content server looks for its content.
    pub fn content(&self, server: Name) -> PathBuf {
        self.cluster.state().process(server).and_then(|it| it.content.clone()).expect("a content server")
    }

    /// A viewer of `unit` who prefers gateway `number`.
    pub async fn viewer(&mut self, unit: &str, gateway: usize) -> Viewer {
        self.viewers += 1;
        let name = format!("viewer-{}", self.viewers).parse().unwrap();
        let mut gateways = self.cluster.gateways();
        gateways.rotate_left(gateway - 1);
        Viewer::open(self.cluster.wire().clone(), gateways, unit, name, &self.dir.join("trace")).await
    }

    /// Kills processes with SIGKILL, all at the same time.
    pub async fn kill(&mut self, names: &[Name]) {
        self.cluster.kill(names).await.unwrap();
        self.note_end_of(names);
    }

    /// Starts processes again and waits until the cluster has come together.
    pub async fn start_again(&mut self, names: &[Name]) {
        self.begin_again(names).await;
        self.cluster.ready().await.unwrap();
    }

    /// Starts processes again and waits for nothing but that they listen.
    pub async fn begin_again(&mut self, names: &[Name]) {
        self.cluster.start_again(names).await.unwrap();
    }

    /// Asks a process to end, and waits until it does. It has no say in the matter of time: it is as long as it takes.
    pub async fn terminate(&mut self, name: Name) -> ExitStatus {
        self.signal(name, Signal::SIGTERM);
        self.ended(name).await
    }

    /// Sends a signal to a process.
    pub fn signal(&self, name: Name, signal: Signal) {
        kill(Pid::from_raw(self.pid(name).cast_signed()), signal).unwrap();
    }

    /// Has a process stand still: the signal takes a moment to reach threads that run.
    pub async fn halt(&self, name: Name) {
        self.signal(name, Signal::SIGSTOP);
        let threads = format!("/proc/{}/task", self.pid(name));
        let is_stopped = |status: String| status.lines().any(|line| line.starts_with("State:\tT"));
        until("a process that stands still", async || {
            let statuses = fs::read_dir(&threads).unwrap().map(|it| it.unwrap().path().join("status"));
            let running = statuses.filter(|it| !fs::read_to_string(it).is_ok_and(is_stopped)).count();
            if running == 0 { Ok(()) } else { Err(format!("{running} threads run")) }
        })
        .await;
    }

    fn pid(&self, name: Name) -> u32 {
        self.cluster.state().process(name).and_then(|it| it.pid).expect("it runs")
    }

    /// How much of a process is in memory, in bytes.
    pub fn memory(&self, name: Name) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid(name))).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has some");
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// Waits until a process has ended.
    pub async fn ended(&mut self, name: Name) -> ExitStatus {
        let death = within(&format!("the end of {name}"), self.cluster.died()).await.unwrap();
        assert_eq!(death.name, name, "another one ended: {death}");
        self.note_end_of(&[name]);
        death.status
    }

    /// The checkers have to know which gateways forgot everything.
    fn note_end_of(&mut self, names: &[Name]) {
        for &gateway in names.iter().filter(|name| name.as_str().starts_with("gateway")) {
            self.recorder.note(Event::GatewayCrash { gateway });
        }
    }

    /// What all running processes say about themselves.
    pub async fn snapshot(&mut self) -> Snapshot {
        self.probe.snapshot(&Addresses::from(&self.cluster.state())).await.unwrap()
    }

    /// Waits until `look` finds in a snapshot what it looks for.
    pub async fn until<T>(&mut self, what: &str, look: impl Fn(&Snapshot) -> Option<T>) -> T {
        let (probe, addresses) = (&mut self.probe, Addresses::from(&self.cluster.state()));
        until(what, async || {
            let snapshot = probe.snapshot(&addresses).await.unwrap();
            look(&snapshot).ok_or("it is not in what the processes say")
        })
        .await
    }

    /// Fails the test if a process has ended that nobody asked to.
    pub async fn all_live(&mut self) {
        let mut died = Box::pin(self.cluster.died());
        let dead = poll_fn(|context| match died.as_mut().poll(context) {
            Poll::Ready(death) => Poll::Ready(Some(death.unwrap())),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(death) = dead.await {
            panic!("{death}");
        }
    }

    /// Waits until the cluster is at rest and all sessions are over, stops it, and judges the traces.
    ///
    /// # Panics
    /// If a process ends with an error, or a property does not hold.
    pub async fn finish(mut self) -> check::Report {
        self.all_live().await;
        let (probe, addresses) = (&mut self.probe, Addresses::from(&self.cluster.state()));
        let daemons = until("the cluster to come to rest", async || {
            let snapshot = probe.snapshot(&addresses).await.map_err(|error| error.to_string())?;
            snapshot.is_at_rest()?;
            Ok::<_, String>(snapshot.up_daemons().map(|it| it.daemon.parse::<DaemonId>().unwrap()).collect())
        });
        let daemons = daemons.await;
        self.recorder.note(Event::Quiescent { daemons, sessions: Vec::new() });
        let failed = self.cluster.stop().await.unwrap();
        assert!(failed.is_empty(), "asked to stop, these ended with an error: {failed:?}");
        let report = check::read::Trace::open(&self.dir.join("trace")).and_then(|trace| trace.judge());
        let report = report.unwrap_or_else(|error| panic!("the traces cannot be read: {error}"));
        assert!(report.violations.is_empty(), "the traces break promises: {report}");
        assert!(report.tally.views > 0 && report.tally.responses > 0, "nothing happened: {report}");
        fs::remove_dir_all(&self.dir).unwrap();
        report
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
    }
}

impl Bed {
    /// What is the matter with the cluster, for whoever has to find out why a test failed.
    fn tell(&self) {
        let state = self.cluster.state();
        let (addresses, wire) = (Addresses::from(&state), self.cluster.wire().clone());
        // This thread has a runtime, and must not wait in it.
        let asked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let snapshot = runtime.block_on(Probe::new(wire).snapshot(&addresses));
            std::io::Result::Ok(snapshot.map_err(|error| error.to_string()))
        });
        eprintln!("\nThe cluster in {}:", self.dir.display());
        for process in &state.processes {
            let life = process.pid.map_or("not running".to_owned(), |pid| format!("process {pid}"));
            eprintln!("  {:12} {life}", process.name);
        }
        if let Ok(Ok(Ok(snapshot))) = asked.join() {
            for (_, answer) in &snapshot.daemons {
                eprintln!("  {answer:?}");
            }
            for (_, answer) in &snapshot.servers {
                eprintln!("  {answer:?}");
            }
            for (_, answer) in &snapshot.gateways {
                eprintln!("  {answer:?}");
            }
        }
        for process in &state.processes {
            let text = fs::read_to_string(&process.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("  the last lines of {}:", process.log.display());
            for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                eprintln!("    {line}");
            }
        }
    }
}
