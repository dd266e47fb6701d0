//! Silence: how long it takes until a daemon that says nothing any more is excluded, and how often one is taken for
//! silent that is only slow.
//!
//! Each trial has daemons of its own, which have been together for long enough to know each other's pace. Under load
//! there is nothing to be noticed: busy threads, as many as are asked for, and members that send as fast as flow control
//! lets them want the processor, and every suspicion is false.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use detector::Profile;
use futures::future::try_join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use crate::bed::{Bed, Part};
use crate::child::Child;
use crate::handover::{Cluster, Setting};
use crate::outcome::rounded;
use crate::samples::median;

const DAEMONS: usize = 3;
/// After so many periods without trouble, time-outs are as short as they get.
const PERIODS: u32 = 100;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which profiles
    #[arg(long, value_delimiter = ',', default_values_t = [Profile::Fast, Profile::Lan, Profile::Wan])]
    profiles: Vec<Profile>,
    /// How often each kind of silence is tried; 0 to leave that out
    #[arg(long, default_value_t = 10)]
    trials: usize,
    /// For how many minutes nothing is to be noticed; 0 to leave that out
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// How many busy threads there are meanwhile
    #[arg(long, default_value_t = 4)]
    busy: usize,
}

/// How a daemon becomes silent.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// Its process is stopped.
    Stopped,
    /// No packet gets through to it or from it.
    CutOff,
    /// None between it and one other daemon; both reach everybody else.
    CutFromOne,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Cause::Stopped => "a daemon is stopped",
            Cause::CutOff => "a daemon is cut off",
            Cause::CutFromOne => "two daemons are cut from each other",
        }
    }
}

/// How soon silence is noticed.
#[derive(Debug, Serialize)]
struct Noticed {
    profile: String,
    cause: &'static str,
    /// From the silence to the last view without the daemon, for each trial.
    milliseconds: Vec<f64>,
    median_ms: f64,
    max_ms: f64,
}

/// How often there was none.
#[derive(Debug, Serialize)]
struct Mistaken {
    profile: String,
    busy_threads: usize,
    minutes: f64,
    /// Streams that were broken since nothing was heard on them.
    suspicions: usize,
    /// Views with fewer members than there are daemons, as one of them saw it.
    exclusions: usize,
    suspicions_per_hour: f64,
    exclusions_per_hour: f64,
}

/// Runs it.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let mut table = Vec::new();
    for profile in args.profiles.iter().filter(|_| args.trials > 0) {
        for cause in [Cause::Stopped, Cause::CutOff, Cause::CutFromOne] {
            let noticed = notice(*profile, cause, args.trials).await?;
            println!("{}", serde_json::to_string(&noticed)?);
            let (median, max) = (rounded(noticed.median_ms), rounded(noticed.max_ms));
            table.push(format!("{profile:5} {:38} median {median} ms, max {max} ms", noticed.cause));
        }
    }
    for profile in args.profiles.iter().filter(|_| args.minutes > 0.0) {
        let mistaken = mistake(*profile, args).await?;
        println!("{}", serde_json::to_string(&mistaken)?);
        let Mistaken { suspicions, exclusions, suspicions_per_hour, exclusions_per_hour, .. } = mistaken;
        table.push(format!(
            "{profile:5} {:38} {suspicions} suspicions ({} per hour), {exclusions} exclusions ({} per hour)",
            "under load",
            rounded(suspicions_per_hour),
            rounded(exclusions_per_hour),
        ));
    }
    eprintln!("\n{}", table.join("\n"));
    Ok(())
}

async fn notice(profile: Profile, cause: Cause, trials: usize) -> anyhow::Result<Noticed> {
    // Slow profiles cost little: their trials can run side by side.
    let side_by_side = if profile.params().period >= Duration::from_secs(1) { trials } else { 1 };
    let mut milliseconds = Vec::new();
    while milliseconds.len() < trials {
        let batch = side_by_side.min(trials - milliseconds.len());
        let first = milliseconds.len();
        let batch = (first..first + batch).map(|number| trial(profile, cause, 1 + number % DAEMONS));
        milliseconds.extend(try_join_all(batch).await?);
    }
    let max_ms = milliseconds.iter().copied().fold(0.0, f64::max);
    let median_ms = median(&milliseconds).context("no trial")?;
    Ok(Noticed { profile: profile.to_string(), cause: cause.name(), milliseconds, median_ms, max_ms })
}

/// One daemon becomes silent. How many milliseconds it takes until all others have a view without it.
async fn trial(profile: Profile, cause: Cause, victim: usize) -> anyhow::Result<f64> {
    let apart = !matches!(cause, Cause::Stopped);
    let (cluster, mut members) = settled(Setting { profile, apart }).await?;
    sleep(PERIODS * profile.params().period).await;
    let others: Vec<usize> = (1..=DAEMONS).filter(|daemon| *daemon != victim).collect();
    let (at, witnesses) = match cause {
        Cause::Stopped => (cluster.stop(victim)?, &others[..]),
        Cause::CutOff => (cluster.cut(victim, &others, true)?, &others[..]),
        // The one that reaches both is in a view without one of them.
        Cause::CutFromOne => (cluster.cut(victim, &others[..1], false)?, &others[1..]),
    };
    let mut last = at;
    for witness in witnesses {
        last = members[witness - 1].says(&format!("view {}", DAEMONS - 1)).await?;
    }
    Ok((last - at).as_micros() as f64 / 1e3)
}

/// Daemons that are together, with a member at each that says how many there are.
async fn settled(setting: Setting) -> anyhow::Result<(Cluster, Vec<Child>)> {
    let cluster = Cluster::launch_all(DAEMONS, setting).await?;
    let mut members: Vec<Child> =
        (1..=DAEMONS).map(|daemon| cluster.member(daemon, Part::Watch)).collect::<Result<_, _>>()?;
    for member in &mut members {
        member.says(&format!("view {DAEMONS}")).await?;
    }
    Ok((cluster, members))
}

/// Lets daemons that have nothing to fear suffer load.
async fn mistake(profile: Profile, args: &Args) -> anyhow::Result<Mistaken> {
    let (cluster, mut members) = settled(Setting { profile, apart: false }).await?;
    let seconds = args.minutes * 60.0;
    let part = Part::Flood { bytes: 64, warm_up: 0.0, seconds, members: DAEMONS };
    let senders: Vec<Child> =
        (1..=DAEMONS).map(|daemon| cluster.member(daemon, part)).collect::<Result<_, _>>()?;
    let busy = Busy::begin(args.busy);
    let before = cluster.suspicions()?;
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut exclusions = 0;
    let witness = members.first_mut().context("no member")?;
    while let Ok(line) = timeout(end - Instant::now(), witness.line()).await {
        let size: usize = line?.strip_prefix("view ").context("not a view")?.parse()?;
        exclusions += usize::from(size < DAEMONS);
    }
    let suspicions = cluster.suspicions()? - before;
    drop((busy, senders));
    let per_hour = |count: usize| count as f64 * 60.0 / args.minutes;
    Ok(Mistaken {
        profile: profile.to_string(),
        busy_threads: args.busy,
        minutes: args.minutes,
        suspicions,
        exclusions,
        suspicions_per_hour: per_hour(suspicions),
        exclusions_per_hour: per_hour(exclusions),
    })
}

/// Threads that do nothing, as fast as they can, until this is dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn begin(threads: usize) -> Busy {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let over = Arc::clone(&over);
            std::thread::spawn(move || while !over.load(Ordering::Relaxed) {});
        }
        Busy(over)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
