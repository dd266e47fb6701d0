//! Several daemons on an in-memory network: written scenarios and random schedules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a broken assumption of the test bench is a failed test, and checks look at some events only"
)]

mod checks;
mod corrupt;
mod detection;
mod diagram;
mod latency;
mod levels;
mod primary;
mod random;
mod rng;
mod scenarios;
mod scripts;
mod strict;
mod transfer;
mod world;
