//! The promises of Handover, put to the test on real processes and real networks.
//!
//! | part | topic |
//! | --- | --- |
//! | `plan` | seed to schedule |
//! | `enclosure`, `network` | where a run happens: namespaces, and what gets through between them |
//! | `process`, `stage` | one process; all of them, and what is done to them |
//! | `member`, `report` | a group process that checks what it is told, and what it says |
//! | `viewers` | clients outside, who watch films |
//! | `run`, `rest`, `verdict` | a run, its last condition, and what is said of it |
//!
//! Membership servers and daemons run in network namespaces of their own, group processes, content servers and gateways
//! beside the daemons. Faults
//! come as the plan has them; then they stop, the cluster has to come to rest, and all traces are judged.

mod enclosure;
mod member;
mod network;
mod plan;
mod process;
mod report;
mod rest;
mod run;
mod stage;
mod verdict;
mod viewers;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Parser;
use membership_core::Protocol;

use crate::plan::Plan;
use crate::stage::Places;

/// Run daemons, membership servers, group processes, content servers and gateways on a network of their own, cut it, slow it, stop and kill
/// processes, and judge the traces. Needs root.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(flatten)]
    args: Args,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, clap::Args)]
struct Args {
    /// How long faults go on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Decides all faults; by default the time
    #[arg(long)]
    seed: Option<u64>,
    /// How membership servers agree: moshe or wombat
    #[arg(long, default_value_t)]
    protocol: Protocol,
    /// Where to write traces and logs; by default a new directory, which stays only if something is wrong
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the programs of the services are; by default beside this program
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// What a run starts inside its namespaces
    #[command(hide = true)]
    Inside(Inside),
    /// A group process of a run
    #[command(hide = true)]
    Member(member::Args),
}

/// A run of which everything is decided.
#[derive(Debug, clap::Args)]
struct Inside {
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    protocol: Protocol,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    programs: PathBuf,
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let CommandLine { args, part } = CommandLine::parse();
    let done = match part {
        None => outside(args),
        Some(Part::Inside(args)) => runtime().and_then(|runtime| runtime.block_on(inside(&args))),
        Some(Part::Member(args)) => {
            runtime().and_then(|runtime| runtime.block_on(member::run(args))).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("chaos: {error:#}");
        ExitCode::FAILURE
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Decides what is to be decided, and goes inside.
fn outside(args: Args) -> anyhow::Result<ExitCode> {
    let seed = match args.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let plan = Plan::new(seed, Duration::from_secs(args.seconds));
    if args.dry_run {
        print!("{plan}");
        return Ok(ExitCode::SUCCESS);
    }
    let programs = match args.programs {
        Some(programs) => programs.canonicalize()?,
        None => std::env::current_exe()?.with_file_name(""),
    };
    for service in ["gcs-svc", "membership-svc"] {
        let program = programs.join(service);
        fs::metadata(&program)
            .with_context(|| format!("{} is missing; build it first", program.display()))?;
    }
    enclosure::check()?;
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => tempfile::Builder::new().prefix(&format!("handover-chaos-{seed}-")).tempdir()?.keep(),
    };
    fs::create_dir_all(&dir)?;
    let dir = dir.canonicalize()?;
    let mut arguments: Vec<OsString> = vec!["inside".into()];
    let decided = [
        ("--seconds", args.seconds.to_string()),
        ("--seed", seed.to_string()),
        ("--protocol", args.protocol.to_string()),
    ];
    for (flag, value) in decided {
        arguments.extend([flag.into(), value.into()]);
    }
    arguments.extend(["--dir".into(), dir.into(), "--programs".into(), programs.into()]);
    arguments.extend(args.dir.is_some().then(|| "--keep".into()));
    Err(enclosure::enter(arguments))
}

/// A whole run.
async fn inside(args: &Inside) -> anyhow::Result<ExitCode> {
    enclosure::furnish()?;
    let plan = Plan::new(args.seed, Duration::from_secs(args.seconds));
    let chaos = std::env::current_exe()?;
    let (programs, dir) = (args.programs.clone(), args.dir.clone());
    let places = Places { programs, chaos, dir, protocol: args.protocol };
    fs::write(args.dir.join("plan.txt"), plan.to_string())?;
    println!(
        "seed {}, {} incidents in {} s, in {}",
        args.seed,
        plan.incidents.len(),
        args.seconds,
        args.dir.display()
    );
    let (servers, machines) = (plan.servers().count(), plan.machines().count());
    println!(
        "{servers} membership servers ({}), {machines} daemons, {} group processes",
        args.protocol,
        plan.members.len()
    );
    let verdict = run::run(&plan, &places).await;
    match &verdict {
        Ok(verdict) => println!("{verdict}"),
        Err(error) => println!("the run did not come to its end: {error:#}"),
    }
    if verdict.is_ok_and(|verdict| verdict.violations.is_empty()) {
        if !args.keep {
            fs::remove_dir_all(&args.dir)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    tell(args, &args.dir);
    Ok(ExitCode::FAILURE)
}

/// How to go on after a run that failed.
fn tell(args: &Inside, dir: &Path) {
    println!(
        "\nschedule: {0}/plan.txt, traces: {0}/trace, logs: {0}/logs, reports: {0}/members",
        dir.display()
    );
    println!(
        "the same faults again: chaos --seconds {} --seed {} --protocol {}",
        args.seconds, args.seed, args.protocol
    );
}
