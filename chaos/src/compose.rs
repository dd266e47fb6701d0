//! The cluster of `docker-compose.yml`, started as the documentation says, and what is done to it while films play: one
//! [`Drill`] after the other, and a table of what viewers noticed.

mod cluster;
mod drill;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use check::Tally;
use check::read::Trace;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use crate::viewers::{Moment, Seen, Viewers};
use cluster::Cluster;
use drill::Drill;

/// How soon after `up` everything has to be healthy.
const HEALTHY_MAX: Duration = Duration::from_secs(15);

/// Settings of the drills.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file that describes the cluster
    #[arg(long, value_name = "FILE", default_value = "docker-compose.yml")]
    file: PathBuf,
    /// Do this drill, and no other; can be repeated
    #[arg(long = "drill", value_name = "DRILL", value_enum)]
    drills: Vec<Drill>,
}

impl Args {
    fn drills(&self) -> &[Drill] {
        if self.drills.is_empty() { Drill::value_variants() } else { &self.drills }
    }
}

/// What became of a drill.
struct Done {
    drill: Drill,
    from: Instant,
    to: Instant,
}

/// Starts the cluster, drills, and takes it down again, whatever happens.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let dir = tempfile::tempdir()?;
    let mut cluster = Cluster::of(&args.file).await?;
    let traces = cluster.trace(dir.path()).await?;
    let drilled = tokio::select! {
        drilled = drill(&cluster, args.drills(), &traces) => drilled,
        _ = terminated.recv() => Err(anyhow::anyhow!("terminated")),
        _ = interrupted.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    if drilled.is_err() {
        let logs = cluster.compose(&["logs", "--no-color", "--tail", "40"]).await;
        eprintln!("{}", logs.unwrap_or_else(|error| format!("{error:#}")));
    }
    cluster.down().await?;
    let report = Report::new(drilled?, &traces);
    print!("{report}");
    match report.violations.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

/// Drills, and says what came of each, and what viewers saw.
async fn drill(cluster: &Cluster, drills: &[Drill], traces: &Path) -> anyhow::Result<(Vec<Done>, Seen)> {
    let healthy = cluster.up().await?;
    println!("healthy {:.1} s after `up`", healthy.as_secs_f64());
    if healthy > HEALTHY_MAX {
        bail!("more than {} s", HEALTHY_MAX.as_secs());
    }
    confined(cluster).await?;
    cluster.well().await?;
    cluster.handover(&["found", "notes"], "").await?;
    cluster.handover(&["talk", "notes"], "put key=colour value=blue\n").await?;
    let viewers = Viewers::begin(&cluster.gateways(), traces)?;
    let mut done = Vec::new();
    for &drill in drills {
        let from = Instant::now();
        drill.perform(cluster, &viewers).await.with_context(|| drill.title())?;
        let to = Instant::now();
        println!("{:5.1} s  {}", (to - from).as_secs_f64(), drill.title());
        done.push(Done { drill, from, to });
    }
    let seen = viewers.finish().await?;
    let kept = cluster.handover(&["talk", "notes"], "get key=colour\n").await?;
    if !kept.contains("blue") {
        bail!("what was put into the store before all that is not there: {kept}");
    }
    Ok((done, seen))
}

/// The promises of the file: nobody is root or writes to the image, everybody has limits, and only gateways can be
/// reached from outside.
async fn confined(cluster: &Cluster) -> anyhow::Result<()> {
    for service in cluster.services().await? {
        let it = cluster.inspect(&service).await?;
        let host = &it["HostConfig"];
        let promises = [
            ("runs as nobody else", it["Config"]["User"] == "65532:65532"),
            ("writes to no image", host["ReadonlyRootfs"] == true),
            ("has a limit of memory", host["Memory"].as_i64() > Some(0)),
            ("has a limit of processors", host["NanoCpus"].as_i64() > Some(0)),
            ("is restarted", host["RestartPolicy"]["Name"] == "unless-stopped"),
            (
                "is published if it is a gateway",
                service.starts_with("gateway-")
                    == host["PortBindings"].as_object().is_some_and(|it| !it.is_empty()),
            ),
        ];
        if let Some((promise, _)) = promises.iter().find(|(_, holds)| !holds) {
            bail!("{service}: it is not so that it {promise}");
        }
    }
    Ok(())
}

/// What viewers noticed of it all, and what the traces say.
struct Report {
    done: Vec<Done>,
    seen: Seen,
    tally: Tally,
    /// What may not have happened.
    violations: Vec<String>,
}

impl Report {
    fn new((done, seen): (Vec<Done>, Seen), traces: &Path) -> Report {
        let mut report = Report { violations: seen.wrong.clone(), done, seen, tally: Tally::default() };
        match Trace::open(traces).and_then(Trace::judge) {
            Ok(judged) => {
                report.tally = judged.tally;
                if !judged.violations.is_empty() {
                    report.violations.push(judged.to_string());
                }
            }
            Err(error) => report.violations.push(format!("the traces cannot be read: {error}")),
        }
        report.demand_substance();
        report
    }

    /// No client may have lost a session, and drills of which nobody noticed anything were none.
    fn demand_substance(&mut self) {
        let Seen { films, forgotten, unreached, .. } = self.seen;
        if films == 0 || self.tally.messages == 0 {
            self.violations.push("no film was seen to its end, or no message was cast".to_owned());
        }
        if forgotten + unreached > 0 {
            self.violations.push(format!("{forgotten} sessions were forgotten, {unreached} given up"));
        }
        for done in &self.done {
            if done.drill.mark().is_some_and(|mark| self.count(done, mark) == 0) {
                let title = done.drill.title();
                self.violations.push(format!("nobody noticed anything of this: {title}"));
            }
        }
    }

    fn count(&self, done: &Done, moment: Moment) -> usize {
        self.during(done).filter(|it| *it == moment).count()
    }

    /// The longest time between two responses of one film.
    fn silence(&self, done: &Done) -> Duration {
        let silence = |moment| match moment {
            Moment::Silence(time) => Some(time),
            Moment::Takeover | Moment::Gateway => None,
        };
        self.during(done).filter_map(silence).max().unwrap_or_default()
    }

    fn during(&self, done: &Done) -> impl Iterator<Item = Moment> {
        let (from, to) = (done.from, done.to);
        self.seen.moments.iter().filter(move |(at, _)| (from..=to).contains(at)).map(|(_, moment)| *moment)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:40} {:>9} {:>8} {:>15}", "DRILL", "TAKEOVERS", "GATEWAYS", "LONGEST SILENCE")?;
        for done in &self.done {
            writeln!(
                f,
                "{:40} {:>9} {:>8} {:>12.0} ms",
                done.drill.title(),
                self.count(done, Moment::Takeover),
                self.count(done, Moment::Gateway),
                self.silence(done).as_secs_f64() * 1000.0
            )?;
        }
        let Tally { records, views, messages, .. } = self.tally;
        writeln!(f, "\n{} films seen to their end, byte for byte", self.seen.films)?;
        writeln!(f, "{records} records: {views} configurations, {messages} messages")?;
        for violation in &self.violations {
            writeln!(f, "violation: {violation}")?;
        }
        writeln!(f, "{} violations", self.violations.len())
    }
}
