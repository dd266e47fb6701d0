//! Logs, as text or as JSON lines, on standard error; and spans over OTLP for those who collect them.
//!
//! What is logged: TRACE a message, DEBUG a branch, INFO a view, a session that another server takes over, a step of a
//! drain, WARN what a human may look at, ERROR the process ends. Never payloads, never secrets.

pub(crate) mod collector;
mod export;
mod level;
mod lines;
pub mod sessions;

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::Name;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

pub(crate) use level::{Levels, levels};

use crate::tls::TlsError;

/// The table `log`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What to log, as a level or in the syntax of `RUST_LOG`, which overrides it.
    pub level: Level,
    /// How to write it.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Log {
        Log { level: Level("info".to_owned()), format: Format::Auto }
    }
}

/// A filter for logs: `info`, or `warn,gcs_svc=debug`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Level(String);

impl TryFrom<String> for Level {
    type Error = NoFilter;

    fn try_from(text: String) -> Result<Level, NoFilter> {
        filter(&text)?;
        Ok(Level(text))
    }
}

/// Why a text is no filter.
#[derive(Debug, thiserror::Error)]
pub enum NoFilter {
    /// It cannot be read as one.
    #[error(transparent)]
    Syntax(#[from] ParseError),
    /// It can be read as one for a part of the program that is called so, and is more likely a slip.
    #[error(
        "{0:?} is no level: off, error, warn, info, debug or trace, or directives such as warn,gcs_svc=debug"
    )]
    Word(String),
}

/// What a text asks to be logged.
fn filter(text: &str) -> Result<EnvFilter, NoFilter> {
    let is_slip = |word: &&str| {
        !word.is_empty() && !word.contains(['=', '[', ']', '{', '}']) && word.parse::<LevelFilter>().is_err()
    };
    match text.split(',').map(str::trim).find(is_slip) {
        Some(word) => Err(NoFilter::Word(word.to_owned())),
        None => Ok(EnvFilter::builder().parse(text)?),
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The flags of the table `log`.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct LogArgs {
    /// What to log: a level, `info` unless set, or directives such as warn,gcs_svc=debug
    #[arg(long = "log-level", id = "log_level", value_name = "FILTER")]
    pub level: Option<String>,
    /// How to write the log: auto unless set
    #[arg(long = "log-format", id = "log_format", value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// Which process it is that speaks.
#[derive(Clone, Debug)]
pub struct Who {
    /// What it is, such as `gateway`.
    pub role: &'static str,
    /// Its cluster.
    pub cluster: Name,
    /// Its name.
    pub name: Name,
}

/// Whether there is somebody who collects spans.
static EXPORTS_SPANS: AtomicBool = AtomicBool::new(false);

/// Whether spans are exported. Where they are not, none need be made.
pub(crate) fn exports_spans() -> bool {
    EXPORTS_SPANS.load(Ordering::Relaxed)
}

/// How long a collector may take at the end. What it has not taken by then is lost.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Sends what is buffered when it is dropped.
#[must_use]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_MAX)
        {
            eprintln!("the last spans were not exported: {error}");
        }
    }
}

/// Starts logging for the whole process, and exports spans if OpenTelemetry's variables name a collector. A second call
/// changes nothing. Needs a runtime.
///
/// # Errors
/// If variables name files for a connection with the collector that are of no use.
pub fn init(who: Who, log: &Log) -> Result<Telemetry, TlsError> {
    let tls = collector::tls()?;
    let text = std::env::var("RUST_LOG").unwrap_or_else(|_| log.level.0.clone());
    let (filter, complaint) = match EnvFilter::builder().parse(&text) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(&log.level.0), Some(error)),
    };
    let used = if complaint.is_some() { log.level.0.clone() } else { text.clone() };
    let (filter, levels) = level::changeable(filter, used);
    let (provider, export_error) =
        match collector::is_wanted().then(|| export::provider(&who, tls)).transpose() {
            Ok(provider) => (provider, None),
            Err(error) => (None, Some(error)),
        };
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(who.role))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(LevelFilter::INFO)
    });
    let lines = lines(who, log.format, filter);
    if tracing_subscriber::registry().with(lines).with(spans).try_init().is_err() {
        return Ok(Telemetry(None));
    }
    EXPORTS_SPANS.store(provider.is_some(), Ordering::Relaxed);
    level::keep(levels);
    if let Some(error) = complaint {
        tracing::warn!(%error, value = text, "RUST_LOG is not a filter; it is not used");
    }
    if let Some(error) = export_error {
        tracing::warn!(%error, "spans are not exported");
    }
    Ok(Telemetry(provider))
}

fn lines(who: Who, format: Format, filter: level::Changeable) -> Box<dyn Layer<Registry> + Send + Sync> {
    let is_terminal = std::io::stderr().is_terminal();
    let json = match format {
        Format::Auto => !is_terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let layer = fmt::layer().with_writer(std::io::stderr);
    if json {
        layer.event_format(lines::Lines(who)).with_filter(filter).boxed()
    } else {
        layer.with_ansi(is_terminal).with_filter(filter).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused_and_not_taken_for_a_part_of_the_program() {
        for good in [
            "info",
            "WARN",
            "off",
            "warn,gcs_svc=debug",
            "info,session_core=trace",
            "[session.open]=debug",
            "",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["inof", "warn,gcs_svc", "gcs_svc=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
        let slip = filter("inof").unwrap_err().to_string();
        assert!(slip.starts_with("\"inof\" is no level: off, error, warn"), "{slip}");
    }
}
