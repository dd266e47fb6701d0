//! A content server in this process, between a daemon and a gateway that are played by the tests. The daemon has no
//! other process: what the server multicasts comes back to it alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod bed;
mod daemon;
mod failing;
mod gateway;
mod serving;
mod settings;
