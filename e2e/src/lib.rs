//! What end-to-end tests stand on: [`Bed`] is a cluster of real processes whose traces are judged at the end,
//! [`Viewer`] a client that plays a film on it and remembers what came, [`rpc`] the bare calls, [`scrape`] what is shown to who collects metrics, [`collector`] one of spans, [`stock`] a client that is not ours, [`programs`] what is
//! under test.
//!
//! Nothing here sleeps for a while, tries again until it works, or knows a port: a test waits for a condition, with a
//! [deadline], and when that passes the bed tells the state of the cluster and the last lines of all logs.
#![deny(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "this is part of tests, which fail by panicking")]

mod bed;
pub mod collector;
pub mod deadline;
pub mod program;
pub mod programs;
pub mod rpc;
pub mod scrape;
pub mod stock;
mod viewer;

pub use bed::{Bed, Plan, Room};
pub use viewer::{Seen, Serving, Viewer, seek_target};
