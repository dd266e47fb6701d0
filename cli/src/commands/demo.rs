//! `handover demo`: the promise of Handover, kept before the eyes of whoever started it.

mod observer;
mod plan;
mod stage;
mod summary;
mod viewer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use model::trace::Event;
use model::{DaemonId, Name, UnitId};
use svc_kit::shutdown::Exit;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::shape::Shape;
use super::signals::{EXIT_INTERRUPTED, Signals};
use super::{check, program, status, up};
use crate::cluster::state;
use crate::cluster::{Cluster, Options, Service, rotated};
use crate::snapshot::{Addresses, Probe, Snapshot};
use crate::words::counted;
use observer::View;
use plan::{Act, Prey};
use player::Recorder;
use stage::Stage;
use summary::Summary;
use viewer::{Note, Seat};

/// Start a cluster of real processes on this computer (1 membership server, 4 machines, 2 gateways), play films on it
/// at their real rate (3 films, each on 3 of the 4 machines), and kill with SIGKILL what serves them: first the server
/// of session 1, later a whole machine; then start both again and let them take load. Show who serves whom all the
/// while, and compare what every client received with the film, byte for byte.
///
/// The gap of a session is the time from the instant of SIGKILL until its client hears from the new primary: the
/// longest stall that the kill could have caused, whether or not a response was due. How late a response is, is
/// measured against the schedule of its session. Each client also sends a request every second.
///
/// Every process writes a trace, which is judged at the end as by `handover check`. Exits with 0 only if every client
/// received every fragment exactly once, in order, byte for byte, no request was lost, and the trace keeps every
/// promise.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many kills: servers and machines in turn. Up to two happen in the first half and come back together; more
    /// are spread evenly, and each victim is started again after a second
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(..=10_000))]
    kills: u32,
    /// How long to play. A film lasts a minute; whoever reaches its end opens it again
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many sessions
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    sessions: u32,
    #[command(flatten)]
    shape: Shape,
    /// Print the figures as one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Leave the cluster running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Keep the traces in this directory, which must not have any yet
    #[arg(long, value_name = "DIR")]
    trace: Option<PathBuf>,
}

/// How long it may take until every session is served, at the start and after a kill.
const SERVED_MAX: Duration = Duration::from_secs(15);

/// How long the stage waits for a victim whose death leaves every film with a server.
const VICTIM_MAX: Duration = Duration::from_secs(10);

/// How long the cluster may take to come to rest after the last session.
const REST_MAX: Duration = Duration::from_secs(5);

/// How often the time line is brought up to date.
const TICK: Duration = Duration::from_millis(20);

/// Notes that wait for the stage.
const NOTES_MAX: usize = 4096;

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let name: Name = format!("demo-{}", std::process::id()).parse()?;
    let dir = state::base().join(name.as_str());
    let trace = args.trace.clone().unwrap_or_else(|| dir.join("trace"));
    if check::has_traces(&trace) {
        bail!("there are traces in {} already; give another directory with --trace", trace.display());
    }
    let mut options = Options::new(name, &dir);
    options.trace = Some(trace.clone());
    args.shape.apply(&mut options);
    tokio::select! {
        ended = perform(&args, options, &trace) => {
            let (cluster, good) = ended.with_context(|| format!("logs and traces are in {}", dir.display()))?;
            finish(&args, cluster, &mut signals, good).await
        }
        () = signals.next() => {
            // Everything that ran is gone with the future above. What it wrote is of no use.
            let _ = fs::remove_dir_all(&dir);
            Ok(EXIT_INTERRUPTED.into())
        }
    }
}

async fn finish(
    args: &Args,
    mut cluster: Cluster,
    signals: &mut Signals,
    good: bool,
) -> anyhow::Result<ExitCode> {
    if args.keep {
        up::keep(&mut cluster, signals, Some(Duration::from_secs(3))).await?;
    }
    if good {
        cluster.remove()?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("handover: logs and traces are in {}", cluster.options().dir.display());
    Ok(Exit::Error.into())
}

/// The whole play. Returns the cluster, running only if it is to be kept, and whether all went well.
async fn perform(args: &Args, options: Options, trace: &Path) -> anyhow::Result<(Cluster, bool)> {
    println!(
        "Handover demo: {}, {}, {} on {}, each film on {},\n\
         {} per session, contexts propagated every {}; {} in {} s\n",
        counted(options.machines, "machine"),
        counted(options.gateways, "gateway"),
        counted(args.sessions as usize, "session"),
        counted(options.films.len(), "film"),
        counted(options.replicas, "machine"),
        counted(options.backups.into(), "backup"),
        humantime::format_duration(options.period),
        counted(args.kills as usize, "kill"),
        args.seconds
    );
    let cluster = Cluster::start(options).await?;
    let mut play = Play::begin(args, cluster, trace).await?;
    for (at, act) in plan::acts(args.kills, Duration::from_secs(args.seconds)) {
        play.until(at).await?;
        match act {
            Act::Kill(prey) => play.kill(prey, args.kills <= 2).await?,
            Act::Restart => play.restart().await?,
        }
    }
    play.until(Duration::from_secs(args.seconds)).await?;
    let (elapsed, kills) = (play.stage.elapsed(), play.kills);
    let (mut cluster, score) = play.end(trace).await?;
    if !args.keep
        && let Some((name, status)) = cluster.stop().await?.first()
    {
        bail!("{name} ended with {status} when it was asked to stop");
    }
    let report = check::judge(trace)?;
    let summary = Summary::of(&score, kills, elapsed, report.violations.len());
    println!("\n{summary}");
    for violation in &report.violations {
        println!("\n{}", check::explained(&report, violation));
    }
    println!("\nThe trace: {}.", check::summary(&report));
    if args.keep {
        print!("\nThe cluster goes on until Ctrl-C:\n\n{}", status::processes(&cluster.state()));
        println!("\nSee it with `{} status`.", program());
    }
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    }
    Ok((cluster, summary.is_good()))
}

/// A play that is going on.
struct Play {
    cluster: Cluster,
    stage: Stage,
    notes: mpsc::Receiver<Note>,
    views: mpsc::Receiver<View>,
    probe: Probe,
    stop: CancellationToken,
    kills: usize,
}

impl Play {
    /// Lets the viewers in, and waits until every one of them is served.
    async fn begin(args: &Args, cluster: Cluster, trace: &Path) -> anyhow::Result<Play> {
        let (note, notes) = mpsc::channel(NOTES_MAX);
        let (view, views) = mpsc::channel(NOTES_MAX);
        let (stop, films, gateways) =
            (CancellationToken::new(), &cluster.options().films, cluster.gateways());
        let mut units = Vec::new();
        for viewer in 0..usize::try_from(args.sessions)? {
            let film = films.get(viewer % films.len()).context("there is no film")?;
            let unit = UnitId::new(film.unit).context("the film has no legal name")?;
            units.push(unit.clone());
            let gateways = rotated(&gateways, viewer / films.len());
            let seat = Seat { viewer, unit, film: film.parse()?, gateways, trace: Some(trace.to_owned()) };
            tokio::spawn(viewer::watch(seat, stop.clone(), note.clone()));
        }
        let daemons = Addresses::from(&cluster.state()).daemons;
        let stage = Stage::new(units, args.kills > 2);
        let mut play = Play { cluster, stage, notes, views, probe: Probe::default(), stop, kills: 0 };
        let deadline = Instant::now() + SERVED_MAX;
        while !play.stage.all_are_served() {
            if Instant::now() > deadline || !play.stage.score.failures.is_empty() {
                bail!("not every session is served after {} s", SERVED_MAX.as_secs());
            }
            play.go_on(Instant::now() + TICK).await?;
        }
        play.stage.begin();
        tokio::spawn(observer::observe(daemons, view));
        Ok(play)
    }

    /// Goes on until the films have played for this long.
    async fn until(&mut self, elapsed: Duration) -> anyhow::Result<()> {
        let remaining = elapsed.saturating_sub(self.stage.elapsed());
        self.go_on(Instant::now() + remaining).await
    }

    async fn go_on(&mut self, until: Instant) -> anyhow::Result<()> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                death = self.cluster.died() => return Err(death?.into()),
                Some(note) = self.notes.recv() => self.stage.hear(note),
                Some(view) = self.views.recv() => self.stage.see(view),
                () = sleep_until(until) => return Ok(()),
                _ = tick.tick() => self.stage.flush(false),
            }
        }
    }

    /// Kills a server or a machine that serves somebody, but never the last one that has a film.
    async fn kill(&mut self, prey: Prey, is_story: bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + VICTIM_MAX;
        let machine = loop {
            let addresses = Addresses::from(&self.cluster.state());
            let snapshot = self.probe.snapshot(&addresses).await?;
            if let Some(machine) = self.victim(&snapshot, prey, is_story) {
                break machine;
            }
            if Instant::now() > deadline {
                self.stage.fail(
                    "there was nothing to kill that would have left every film with a server".to_owned(),
                );
                return Ok(());
            }
            self.go_on(Instant::now() + TICK).await?;
        };
        let server = Service::Server.name(machine);
        let (victims, at) = match prey {
            Prey::Server => (server.to_string(), self.cluster.kill_server(machine).await?),
            Prey::Machine => {
                (Service::Daemon.name(machine).to_string(), self.cluster.kill_machine(machine).await?)
            }
        };
        self.kills += 1;
        self.stage.killed(prey, server.as_str(), &victims, at);
        Ok(())
    }

    /// The machine whose server is to die: in a story that of session 1, else the one that was spared for longest.
    fn victim(&self, snapshot: &Snapshot, prey: Prey, is_story: bool) -> Option<usize> {
        let first = is_story.then(|| self.stage.server_of(0)).flatten();
        let loads = self.stage.loads();
        let mut candidates: Vec<&str> =
            loads.keys().copied().filter(|server| is_dispensable(snapshot, server)).collect();
        candidates.sort_by_key(|server| (Some(*server) != first, self.stage.last_kills(prey, server)));
        let victim = candidates.first()?;
        (1..=self.cluster.options().machines)
            .find(|machine| Service::Server.name(*machine).as_str() == *victim)
    }

    /// Starts everything again that was killed.
    async fn restart(&mut self) -> anyhow::Result<()> {
        for machine in 1..=self.cluster.options().machines {
            let (daemon, server) = (Service::Daemon.name(machine), Service::Server.name(machine));
            if self.cluster.is_running(server) {
                continue;
            }
            let victims = if self.cluster.is_running(daemon) { server } else { daemon };
            self.cluster.start_machine(machine).await?;
            self.stage.started(server.as_str(), victims.as_str());
        }
        Ok(())
    }

    /// Waits for takeovers that are under way, sends the viewers home, and waits until the cluster is at rest.
    async fn end(mut self, trace: &Path) -> anyhow::Result<(Cluster, stage::Score)> {
        let deadline = Instant::now() + SERVED_MAX;
        while !self.stage.waiting().is_empty() && Instant::now() < deadline {
            self.go_on(Instant::now() + TICK).await?;
        }
        self.stage.flush(true);
        self.stage.tell("■", "the time is up");
        self.stop.cancel();
        let deadline = Instant::now() + SERVED_MAX;
        while !self.stage.all_have_left() {
            if Instant::now() > deadline {
                self.stage.fail("not every viewer could close its session".to_owned());
                break;
            }
            self.go_on(Instant::now() + TICK).await?;
        }
        self.rest(trace).await?;
        Ok((self.cluster, self.stage.score))
    }

    /// Waits until nothing happens any more, and notes it in the trace: from then on the checkers may ask for what
    /// must have happened in the end.
    async fn rest(&mut self, trace: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + REST_MAX;
        loop {
            let snapshot = self.probe.snapshot(&Addresses::from(&self.cluster.state())).await?;
            let Err(missing) = snapshot.is_at_rest() else {
                let daemons =
                    snapshot.up_daemons().filter_map(|it| it.daemon.parse::<DaemonId>().ok()).collect();
                let mut recorder = Recorder::create(Some(trace), "demo".parse()?)?;
                recorder.note(Event::Quiescent { daemons, sessions: Vec::new() });
                return Ok(());
            };
            if Instant::now() > deadline {
                self.stage.fail(format!("the cluster does not come to rest: {missing}"));
                return Ok(());
            }
            self.go_on(Instant::now() + TICK).await?;
        }
    }
}

/// Whether each film of `server` is served by another one that answers and knows its sessions.
fn is_dispensable(snapshot: &Snapshot, server: &str) -> bool {
    let Some(victim) = snapshot.up_servers().find(|it| it.name == server) else { return false };
    victim.units.iter().all(|unit| {
        let others = snapshot.up_servers().filter(|it| it.name != server);
        others.flat_map(|it| &it.units).any(|it| it.name == unit.name && it.agreed)
    })
}
