//! What a workload needs of a system.

use std::fmt;

use serde::Serialize;
use tokio::time::Instant;

use crate::child::Child;
use crate::usage::Usage;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Handover's `gcs-svc` and `membership-svc`.
    Handover,
    /// Corosync, by its closed process groups.
    Corosync,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            System::Handover => "Handover",
            System::Corosync => "Corosync",
        })
    }
}

/// What a member is to do. Its lines are the same on every system.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Says `measuring`, then an object with the number of messages that it was given while it measured, and marks of
    /// their order.
    Flood { bytes: usize, warm_up: f64, seconds: f64, members: usize },
    /// Says for each message how many nanoseconds it took to come back, then `end`.
    Ping { bytes: usize, warm_up: usize, count: usize, members: usize },
    /// Says `view` and the number of members for every view.
    Watch,
    /// Says for each group the nanoseconds of the join, and those together with what had to precede it; then `end`.
    Join { count: usize },
}

impl Part {
    /// The part as arguments of a member's command line.
    pub fn args(self) -> Vec<String> {
        match self {
            Part::Flood { bytes, warm_up, seconds, members } => vec![
                "flood".into(),
                bytes.to_string(),
                warm_up.to_string(),
                seconds.to_string(),
                members.to_string(),
            ],
            Part::Ping { bytes, warm_up, count, members } => vec![
                "ping".into(),
                bytes.to_string(),
                warm_up.to_string(),
                count.to_string(),
                members.to_string(),
            ],
            Part::Watch => vec!["watch".into()],
            Part::Join { count } => vec!["join".into(), count.to_string()],
        }
    }
}

/// A system that is running. Daemons are numbered from 1. All of it ends when this is dropped.
pub trait Bed: Sized {
    /// Which it is.
    const SYSTEM: System;

    /// Starts so many daemons, and waits until they are together.
    async fn start(daemons: usize) -> anyhow::Result<Self>;

    /// How it is set up, in words.
    fn setup(&self) -> String;

    /// Starts a member at a daemon.
    fn member(&self, daemon: usize, part: Part) -> anyhow::Result<Child>;

    /// What every daemon has used so far.
    fn usage(&self) -> anyhow::Result<Vec<Usage>>;

    /// Kills a daemon. Returns when that was.
    async fn kill(&mut self, daemon: usize) -> anyhow::Result<Instant>;

    /// Starts a daemon that was killed, and waits until all are together.
    async fn restart(&mut self, daemon: usize) -> anyhow::Result<()>;
}
