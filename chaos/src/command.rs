//! What `handover chaos` is asked, and how it ends.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use membership_core::Protocol;

use crate::drill::Drill;
use crate::network::Ground;
use crate::plan::Plan;
use crate::stage::Places;
use crate::{compose, enclosure, member, run as one_run};

/// `handover chaos`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(flatten)]
    wish: Wish,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, clap::Args)]
struct Wish {
    /// How long faults go on, in minutes
    #[arg(long, default_value = "1", value_parser = minutes)]
    minutes: Duration,
    /// Decides all faults; by default the time
    #[arg(long)]
    seed: Option<u64>,
    /// Where the processes run
    #[arg(long, value_enum, default_value_t = Ground::Namespaces)]
    on: Ground,
    /// Play a scenario in place of faults by chance
    #[arg(long, value_enum, conflicts_with_all = ["minutes", "seed", "on"])]
    drill: Option<Drill>,
    /// How membership servers agree: moshe or wombat
    #[arg(long, default_value_t)]
    protocol: Protocol,
    /// Where to write traces and logs; by default a new directory, which stays only if something is wrong
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The namespaces are there already
    #[arg(long, hide = true)]
    inside: bool,
    /// The directory was asked for
    #[arg(long, hide = true)]
    keep: bool,
}

fn minutes(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())? * 60.0;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        Ok(_) | Err(_) => Err("it has to be more than nothing".to_owned()),
    }
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Start the cluster of docker-compose.yml, and kill, pause, cut off, stop, scale and restart what is in it while
    /// films play. Needs root and a Docker engine
    Compose(compose::Args),
    /// A group process of a run
    #[command(hide = true)]
    Member(member::Args),
}

/// A run of which everything is decided.
struct Run {
    plan: Plan,
    drill: Option<Drill>,
    /// The flags that bring the same faults again.
    again: Vec<String>,
    places: Places,
    keep: bool,
}

/// Does what is asked for.
///
/// # Errors
/// If a run cannot begin.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.part {
        None => decided(args.wish, &runtime),
        Some(Part::Compose(args)) => runtime.block_on(compose::run(&args)),
        Some(Part::Member(args)) => runtime.block_on(member::run(args)).map(|()| ExitCode::SUCCESS),
    }
}

/// Decides what is still to be decided, and goes where the run is to be.
fn decided(wish: Wish, runtime: &tokio::runtime::Runtime) -> anyhow::Result<ExitCode> {
    let Wish { minutes, on, drill, protocol, inside, .. } = wish;
    let seed = match wish.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let plan = drill.map_or_else(|| Plan::new(seed, minutes, on), Drill::plan);
    if wish.dry_run {
        print!("{plan}");
        return Ok(ExitCode::SUCCESS);
    }
    if on == Ground::Namespaces && !inside {
        enclosure::check()?;
    }
    let keep = wish.keep || (wish.dir.is_some() && !inside);
    let dir = match wish.dir {
        Some(dir) => dir,
        None => tempfile::Builder::new().prefix("handover-chaos-").tempdir()?.keep(),
    };
    fs::create_dir_all(&dir)?;
    let dir = dir.canonicalize()?;
    let mut again = match drill {
        Some(drill) => vec!["--drill".to_owned(), drill.to_string()],
        None => [("--minutes", (minutes.as_secs_f64() / 60.0).to_string()), ("--seed", seed.to_string())]
            .into_iter()
            .chain([("--on", on.to_string())])
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect(),
    };
    again.extend(["--protocol".to_owned(), protocol.to_string()]);
    if on == Ground::Namespaces && !inside {
        let mut arguments: Vec<OsString> =
            vec!["chaos".into(), "--inside".into(), "--dir".into(), dir.into()];
        arguments.extend(again.into_iter().map(OsString::from));
        arguments.extend(keep.then(|| "--keep".into()));
        return Err(enclosure::enter(arguments));
    }
    let places = Places { program: std::env::current_exe()?, dir, protocol, on };
    runtime.block_on(play(Run { plan, drill, again, places, keep }))
}

/// A whole run.
async fn play(run: Run) -> anyhow::Result<ExitCode> {
    let Run { plan, places, .. } = &run;
    if places.on == Ground::Namespaces {
        enclosure::furnish()?;
    }
    fs::write(places.dir.join("plan.txt"), plan.to_string())?;
    println!("{}; traces and logs are in {}", run.again.join(" "), places.dir.display());
    println!(
        "{} incidents in {} s; {} membership servers, {} daemons with a content server each, {} gateways, {} group \
         processes",
        plan.incidents.len(),
        plan.time().as_secs(),
        plan.servers().count(),
        plan.machines().count(),
        plan.gateways.len(),
        plan.members.len()
    );
    let mut verdict = one_run::run(plan, places).await;
    match &mut verdict {
        Ok(verdict) => {
            if let Some(drill) = run.drill {
                verdict.demand(drill);
            }
            println!("{verdict}");
        }
        Err(error) => println!("the run did not come to its end: {error:#}"),
    }
    if verdict.is_ok_and(|verdict| verdict.violations.is_empty()) {
        if !run.keep {
            fs::remove_dir_all(&places.dir)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    tell(&run.again, &places.dir);
    Ok(ExitCode::FAILURE)
}

/// How to go on after a run that failed.
fn tell(again: &[String], dir: &Path) {
    println!(
        "\nschedule: {0}/plan.txt, traces: {0}/trace, logs: {0}/logs, reports: {0}/members",
        dir.display()
    );
    println!("the same faults again: handover chaos {}", again.join(" "));
}
