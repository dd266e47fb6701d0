//! How a process ends: signals, and the exit codes that scripts and supervisors rely on.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::settings::SettingsError;

/// What an exit status means, following `sysexits` where that has a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or drained.
    Ok = 0,
    /// Any other error.
    Error = 1,
    /// The command line is wrong; clap exits with it.
    Usage = 2,
    /// The cluster cannot be reached.
    Unreachable = 69,
    /// A bug: a panic or a failed assertion.
    Bug = 70,
    /// The drain was cut short; what was left is lost or served elsewhere.
    Undrained = 75,
    /// What the process wrote down before it ended last is damaged, or is not its own.
    State = 65,
    /// Another process of the same name takes the place of this one.
    Superseded = 76,
    /// The settings are wrong.
    Settings = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a service ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Who this process is cannot be shown.
    #[error("no TLS: {0}")]
    Tls(#[from] crate::tls::TlsError),
    /// It cannot be known whether the collector of spans is who it says.
    #[error("no TLS with the collector of spans: {0}")]
    Collector(#[source] Box<crate::tls::TlsError>),
    /// Who clients are cannot be known.
    #[error("no tokens: {0}")]
    Auth(#[from] crate::auth::AuthError),
    /// What was written down before is damaged, or belongs to another.
    #[error("cannot go on from {}: {reason}", path.display())]
    State {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The address to listen on cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the process cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The gRPC server ended with an error.
    #[error("the gRPC server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// The description of the services is broken.
    #[error("reflection is not possible: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A part of the process ended before it was asked to.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
    /// The operating system refused something that a process cannot do without.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The cluster cannot be reached.
    #[error("cannot reach {0}")]
    Unreachable(String),
    /// The process that was asked does not serve.
    #[error("{address} does not serve: {status}")]
    Unhealthy {
        /// Where it takes connections.
        address: model::Address,
        /// What it says.
        status: &'static str,
    },
    /// Another process of the same name takes the place of this one. To come back would only begin a fight.
    #[error("another process is called by the name of this one: {0}")]
    Superseded(String),
    /// Not everything could be handed over in time.
    #[error("the drain was cut short: {0}")]
    Undrained(String),
}

impl Failure {
    /// The status with which the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Settings(_) | Failure::Tls(_) | Failure::Collector(_) | Failure::Auth(_) => {
                Exit::Settings
            }
            Failure::Unreachable(_) => Exit::Unreachable,
            Failure::State { .. } => Exit::State,
            Failure::Superseded(_) => Exit::Superseded,
            Failure::Undrained(_) => Exit::Undrained,
            Failure::Ended(_) | Failure::Reflection(_) => Exit::Bug,
            Failure::Bind { .. }
            | Failure::Write { .. }
            | Failure::Serve(_)
            | Failure::System(_)
            | Failure::Unhealthy { .. } => Exit::Error,
        }
    }
}

/// A token that the first SIGTERM or SIGINT cancels. The second one ends the process at once.
pub fn on_signal() -> Result<CancellationToken, Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let first = next().await;
        tracing::info!(signal = first, "shutting down; a second signal ends the process at once");
        asked.cancel();
        let second = next().await;
        tracing::warn!(signal = second, "ending at once");
        std::process::exit(Exit::Undrained as i32);
    });
    Ok(token)
}
