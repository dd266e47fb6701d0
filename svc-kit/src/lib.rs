//! What services do in the same way, and nothing else: settings, telemetry, a gRPC server and its clients, signals and
//! exit codes, the host of a machine, threads beside it, traces, metrics, status details, and how sessions are named.
//!
//! A service is `process::main` around its own `run(config, shutdown)`; whatever only one service needs stays out.
#![deny(missing_docs)]

mod accept;
pub mod access;
mod administration;
pub mod aside;
pub mod auth;
mod calls;
pub mod detection;
pub mod dial;
pub mod driver;
mod healthcheck;
pub mod hosts;
pub mod metrics;
pub mod ops;
pub mod parent;
pub mod process;
pub mod serve;
pub mod settings;
pub mod shutdown;
pub mod status;
pub mod telemetry;
pub mod tls;
pub mod trace;
mod watched;
pub mod wire;

pub use administration::LEVEL_TIME_MAX;
