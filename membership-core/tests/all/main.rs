//! Membership servers in a small deterministic world: scenarios, and schedules from seeds.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod corrupt;
mod refusals;
mod scenarios;
mod schedules;
mod wombat;
mod world;
