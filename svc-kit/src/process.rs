//! The life of a service process: settings, telemetry, runtime, signals, exit code.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::administration;
use crate::healthcheck;
use crate::settings::{self, Settings, SettingsError};
use crate::shutdown::{self, Exit, Failure};
use crate::telemetry;

/// Where commands of operators and clients find the token that they show; no service has a setting of that name.
pub const TOKEN_VARIABLE: &str = "HANDOVER_TOKEN";

/// The flags that every service has. A service flattens them into its own `Args`, for clap and for serde.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
#[command(after_help = AFTER_HELP)]
pub struct CommonArgs {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", env = "HANDOVER_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Check the settings and exit
    #[arg(long)]
    #[serde(skip)]
    pub check_config: bool,
    /// Ask the process that runs with these settings whether it serves, and exit: 0 if it does
    #[arg(long, conflicts_with = "check_config")]
    #[serde(skip)]
    pub healthcheck: bool,
    /// Name of the cluster, `handover` unless set: processes of different clusters refuse each other
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Name of this process, unique among its kind in the cluster
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Address under which others reach this process, if it is not the one it listens on
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Write the address that was bound to this file, once connections are taken
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Write a trace of what happens to a file in this directory
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
    /// How long a drain may take: 25s unless set, 5s for daemons and membership servers
    #[arg(long, value_name = "DURATION")]
    pub drain_timeout: Option<String>,
    /// Metrics and health over HTTP.
    #[command(flatten)]
    pub ops: crate::ops::OpsArgs,
    /// Logging.
    #[command(flatten)]
    pub log: telemetry::LogArgs,
    /// Detection of silent connections.
    #[command(flatten)]
    pub keepalive: crate::dial::KeepaliveArgs,
    /// Mutual TLS.
    #[command(flatten)]
    pub tls: crate::tls::TlsArgs,
    /// Tokens of clients.
    #[command(flatten)]
    pub auth: crate::auth::AuthArgs,
    /// Let others than this computer connect without TLS: the network is trusted
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

/// The command line of a service.
pub trait Arguments: Serialize {
    /// The flags that every service has.
    fn common(&self) -> &CommonArgs;
}

const AFTER_HELP: &str = "\
Every setting can also be given as a variable of the environment, which is HANDOVER_ and its key in capitals, or in the TOML \
file: `--keepalive-interval`, HANDOVER_KEEPALIVE__INTERVAL, and `interval` in the table `keepalive`. A flag counts more than a \
variable, and that more than the file. Some settings have no flag: `handover config show --of NAME` shows all keys of a process \
that runs, with their values and what set them.";

/// How many threads run the tasks of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One: for a service that is one machine and what carries facts to it. No task waits for another core to wake up.
    One,
    /// As many as there are cores.
    PerCore,
}

/// After so many turns of tasks, timers and sockets are looked at. Turns are long where facts come in batches.
const TURNS: u32 = 8;

/// Runs a service to its end: reads the settings, starts logging, gives `run` a token that a signal cancels, and
/// turns its result into an exit code. A panic anywhere ends the process: what a broken machine holds cannot be
/// trusted, and a process that is gone is what the others are built to survive.
pub fn main<C: Settings, F>(
    service: &'static str,
    workers: Workers,
    args: &impl Arguments,
    run: F,
) -> ExitCode
where
    F: AsyncFnOnce(C, CancellationToken) -> Result<(), Failure>,
{
    let common = args.common();
    let loaded = environment()
        .and_then(|environment| settings::load_with_origins(common.config.as_deref(), environment, args));
    let (config, settings): (C, _) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{service}: {error}");
            return Exit::Settings.into();
        }
    };
    let ended = if common.check_config {
        check(&config)
    } else if common.healthcheck {
        healthcheck::ask(&config)
    } else {
        administration::run_with(settings);
        start(service, workers, config, run)
    };
    match ended {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            eprintln!("{service}: {failure}");
            failure.exit().into()
        }
    }
}

/// Whether the files that settings and variables name are of use.
fn check(config: &impl Settings) -> Result<(), Failure> {
    config.wire()?;
    config.auth()?;
    telemetry::collector::tls().map_err(|it| Failure::Collector(it.into()))?;
    Ok(())
}

fn start<C: Settings, F>(service: &'static str, workers: Workers, config: C, run: F) -> Result<(), Failure>
where
    F: AsyncFnOnce(C, CancellationToken) -> Result<(), Failure>,
{
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match workers {
        Workers::One => runtime.worker_threads(1),
        Workers::PerCore => &mut runtime,
    };
    runtime.event_interval(TURNS);
    let runtime = runtime.enable_all().build()?;
    let ended = runtime.block_on(async {
        let (cluster, name) = config.who();
        let who = telemetry::Who { role: service, cluster, name };
        let _telemetry = telemetry::init(who, config.log()).map_err(|it| Failure::Collector(it.into()))?;
        end_on_panic();
        run(config, shutdown::on_signal()?).await
    });
    // Tasks that are still there have nothing left to say: connections of peers that do not go away by themselves.
    runtime.shutdown_background();
    ended
}

fn environment() -> Result<Vec<(String, String)>, SettingsError> {
    let no_settings = ["HANDOVER_CONFIG", TOKEN_VARIABLE];
    settings::variables(std::env::vars_os().filter(|(name, _)| no_settings.iter().all(|it| name != it)))
}

thread_local! {
    /// Whether this thread runs code of somebody else, whose panics are caught.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What comes of a call of somebody else's code, or what it said when it panicked: that is no bug of this process, which goes
/// on. What the call has changed by then stays changed.
pub fn attempt<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let was_guarded = IS_GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    IS_GUARDED.set(was_guarded);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        text.unwrap_or("without a word").to_owned()
    })
}

fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if IS_GUARDED.get() {
            tracing::error!(%panic, "caught: the process goes on");
            return;
        }
        tracing::error!(%panic, "bug: the process ends");
        report(panic);
        std::process::exit(Exit::Bug as i32);
    }));
}
