//! A gateway in this process, with clients and content servers that are played by the tests. No daemon is needed:
//! what the gateway multicasts goes nowhere, and the servers of these tests know what they would have been told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod bed;
mod clients;
mod servers;
