//! `handover up`: a cluster to keep.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use model::Name;
use svc_kit::auth::AuthArgs;
use svc_kit::shutdown::Exit;
use svc_kit::tls::TlsFiles;
use tokio::time::{Instant, sleep_until};

use super::shape::Shape;
use super::signals::{EXIT_INTERRUPTED, Signals};
use super::{found, program};
use crate::bundle;
use crate::cluster::state;
use crate::cluster::{Cluster, Death, Options, Protocol};
use crate::operator;
use crate::snapshot::Addresses;

/// Start a cluster of real processes on loopback ports that the system chooses: membership servers, machines (a group
/// communication daemon and a content server each) and gateways. The films, the course, the handbook, the text and
/// the store that come with this program are on it, each on some of the machines.
///
/// Ctrl-C stops everything. A process that is killed, by `handover kill` or by hand, or is asked to end, by `handover
/// drain` or SIGTERM, is started again after a while. One that ends because another process was started under its name
/// stays down. A process that ends in any other way is an error, and ends the cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The name of the cluster; several can run if they have different names
    #[arg(long, value_name = "NAME", default_value = "local")]
    cluster: Name,
    /// How many membership servers there are
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=7))]
    membership_servers: u8,
    /// How membership servers agree: moshe or wombat
    #[arg(long, value_name = "PROTOCOL", default_value_t)]
    protocol: Protocol,
    /// Have a primary component: with a majority of all machines (static), or of the one before it (dynamic)
    #[arg(long, value_name = "RULE", value_parser = ["static", "dynamic"])]
    voting: Option<String>,
    /// How many machines there are
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    machines: u8,
    /// How many gateways there are
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    gateways: u8,
    /// How many machines hold each unit
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    replicas: u8,
    /// Run this program as the content server of each machine: a service of your own, with its own units
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
    #[command(flatten)]
    shape: Shape,
    /// Have all processes show who they are, by certificates, and talk in TLS; commands need an operator's certificate then
    #[arg(long)]
    tls: bool,
    /// Where tokens are asked for, HANDOVER_TOKEN has to be an administrator's.
    #[command(flatten)]
    auth: AuthArgs,
    /// Write the trace of every process to a file in this directory, for `handover check`
    #[arg(long, value_name = "DIR")]
    trace: Option<PathBuf>,
    /// Start a process that was killed again after this long
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration)]
    restart_after: Duration,
    /// Leave processes that were killed dead
    #[arg(long, conflicts_with = "restart_after")]
    no_restart: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let mut options = Options::new(args.cluster, &state::base().join(args.cluster.as_str()));
    options.membership_servers = args.membership_servers.into();
    options.protocol = args.protocol;
    options.voting = args.voting.clone();
    options.machines = args.machines.into();
    options.gateways = args.gateways.into();
    options.replicas = args.replicas.into();
    options.further = bundle::ALL.to_vec();
    options.server = args.server.clone();
    options.trace = args.trace.clone();
    options.tls = args.tls;
    options.auth = args.auth.clone();
    options.token = operator::token()?;
    args.shape.apply(&mut options);
    let mut cluster = tokio::select! {
        cluster = Cluster::start(options) => cluster?,
        () = signals.next() => return Ok(EXIT_INTERRUPTED.into()),
    };
    found::found_all(cluster.wire(), &Addresses::from(&cluster.state())).await?;
    welcome(&cluster);
    keep(&mut cluster, &mut signals, (!args.no_restart).then_some(args.restart_after)).await?;
    println!("stopping; Ctrl-C again kills what is left");
    tokio::select! {
        failed = cluster.stop() => {
            for (name, status) in failed? {
                eprintln!("{name} ended with {status}");
            }
            Ok(ExitCode::SUCCESS)
        }
        () = signals.next() => Ok(EXIT_INTERRUPTED.into()),
    }
}

/// Keeps the cluster until a signal comes, starting what was killed again after `restart_after`.
pub async fn keep(
    cluster: &mut Cluster,
    signals: &mut Signals,
    restart_after: Option<Duration>,
) -> anyhow::Result<()> {
    let mut restarts: Vec<(Instant, Name)> = Vec::new();
    loop {
        let due = restarts.first().map(|(at, _)| *at);
        tokio::select! {
            () = signals.next() => return Ok(()),
            death = cluster.died() => {
                let death = death?;
                let again = restart(&death, restart_after)?;
                restarts.extend(again.map(|after| (Instant::now() + after, death.name)));
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let (_, name) = restarts.remove(0);
                // Those that were killed with it come back with it: a server needs its daemon.
                let killed_with_it = restarts.extract_if(.., |(at, _)| due.is_some_and(|due| *at < due + TOGETHER));
                let mut names: Vec<Name> = killed_with_it.map(|(_, name)| name).chain([name]).collect();
                names.sort();
                println!("{} started again", list(&names));
                cluster.start_again(&names).await?;
            }
        }
    }
}

/// Processes that are killed within this time are killed together.
const TOGETHER: Duration = Duration::from_millis(100);

fn restart(death: &Death, after: Option<Duration>) -> anyhow::Result<Option<Duration>> {
    if death.status.code() == Some(Exit::Superseded as i32) {
        // Were it started again, it would be the other one's turn to end, and so on.
        println!("{} has ended, for another process has its name; it stays down", death.name);
        return Ok(None);
    }
    let how = match death.was_killed() {
        true => "was killed",
        false if death.status.success() => "was asked to end",
        false => return Err(death.clone().into()),
    };
    match after {
        Some(after) => {
            println!("{} {how}; it comes back in {}", death.name, humantime::format_duration(after))
        }
        None => println!("{} {how}", death.name),
    }
    Ok(after)
}

fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

fn welcome(cluster: &Cluster) {
    let options = cluster.options();
    let held = match &options.server {
        Some(server) => format!("each of them runs {}", server.display()),
        None => format!("each unit is on {} of them", options.replicas.min(options.machines)),
    };
    println!("The cluster `{}` is up: {} machines; {held}.\n", options.name, options.machines);
    print!("{}", super::status::processes(&cluster.state()));
    let (program, choice) = (
        program(),
        match options.name.as_str() {
            "local" => String::new(),
            name => format!(" --cluster {name}"),
        },
    );
    println!("\nNext, in another terminal:\n");
    if let Some(TlsFiles { ca, cert, key }) = cluster.operator() {
        for (name, file) in [("CA", ca), ("CERT", cert), ("KEY", key)] {
            println!("  export HANDOVER_TLS__{name}={}", file.unwrap_or_default().display());
        }
        println!("  export HANDOVER_CLUSTER={}", options.name);
    }
    if options.auth.tokens.is_some() || options.auth.jwks.is_some() {
        println!("  export HANDOVER_TOKEN=...    # an operator's, of those that are good here");
    }
    let unit = options.films.first().map_or("UNIT", |film| film.unit);
    let status = ("status".to_owned(), "who serves what");
    let bundled = [
        (format!("watch {unit}"), "play a film"),
        ("talk --pretty group-communication".to_owned(), "take a course"),
        ("talk --pretty handbook".to_owned(), "search in the handbook"),
        status.clone(),
        ("kill server server-1".to_owned(), "and see the session go on"),
        ("content add my-film.mp4".to_owned(), "your own content"),
    ];
    let own = [
        ("content ls".to_owned(), "the units of your service"),
        ("talk UNIT".to_owned(), "a session on one of them"),
        status,
        ("kill server server-1".to_owned(), "and see the session go on"),
    ];
    let width = 48 + choice.len();
    for (command, what) in if options.server.is_some() { own.to_vec() } else { bundled.to_vec() } {
        println!("    {:width$}  {what}", format!("{program} {command}{choice}"));
    }
    println!("\nLogs are in {}. Ctrl-C stops the cluster.", options.dir.join("logs").display());
}
