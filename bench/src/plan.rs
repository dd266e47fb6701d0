//! What to run, and how much of it.

use serde::Serialize;

/// The sizes of all workloads; each takes those that concern it. They are part of every result.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct Plan {
    /// How many daemons there are, with one member each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=32))]
    pub daemons: u64,
    /// W1: payloads of these sizes
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1024, 8192])]
    pub bytes: Vec<usize>,
    /// W1: how long is measured
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// W1: how long members send before that
    #[arg(long, default_value_t = 2.0)]
    pub warm_up: f64,
    /// W2: how many messages of 1 KiB are sent, one after the other
    #[arg(long, default_value_t = 5000)]
    pub count: usize,
    /// W3: how many groups are joined, one after the other
    #[arg(long, default_value_t = 1000)]
    pub groups: usize,
    /// W3: how many groups are joined at once
    #[arg(long, default_value_t = 10_000)]
    pub at_once: usize,
    /// W4: how many daemons, and how many members, are killed
    #[arg(long, default_value_t = 9)]
    pub kills: usize,
    /// W5: so many groups with a member at each of three daemons
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000, 50_000])]
    pub crowds: Vec<usize>,
    /// W5: so many daemons
    #[arg(long, value_delimiter = ',', default_values_t = [3, 5, 8])]
    pub growth: Vec<u64>,
}

/// The payload of W2 and of W5.
pub const BYTES: usize = 1024;
