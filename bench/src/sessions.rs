//! The workloads of sessions, S1 to S7: on a cluster of real processes, and those that a single server can run at all, on a
//! bare tonic server with the same contract. The content service is `spout`, which costs nothing; of S7 it is `kv`.

mod bare;
mod client;
mod opening;
mod place;
mod requests;
mod scale;
mod store;
mod streaming;
mod takeover;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::outcome::rounded;
use place::Place;

pub use bare::{BareArgs, run as bare};

/// What to run, and how much of it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which of them: streaming (S1), requests (S2), opening (S3), scale (S4), takeover (S5), drain (S6), store (S7)
    #[arg(value_delimiter = ',', default_values_t = NAMES.map(str::to_owned), value_parser = NAMES)]
    workloads: Vec<String>,
    /// S1, S2, S7: so many sessions
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    sessions: Vec<usize>,
    /// S1, S2, S7: how long is measured
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// S3: so many sessions are opened
    #[arg(long, default_value_t = 2000)]
    opened: usize,
    /// S4: so many idle sessions
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 3000, 10_000])]
    idle: Vec<usize>,
    /// S4: with so many backups each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 0])]
    backups: Vec<u8>,
    /// S5, S6: the server that is killed, or drained, serves so many sessions
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000])]
    served: Vec<usize>,
    /// How often each is run; the table shows medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

const NAMES: [&str; 7] = [
    streaming::NAME,
    requests::NAME,
    opening::NAME,
    scale::NAME,
    takeover::KILL,
    takeover::DRAIN,
    store::NAME,
];

/// What one run of one case has shown.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    workload: &'static str,
    case: String,
    place: &'static str,
    /// By name, which ends in the unit.
    figures: BTreeMap<String, f64>,
}

impl Outcome {
    fn new(workload: &'static str, case: impl Into<String>, place: &Place) -> Outcome {
        Outcome { workload, case: case.into(), place: place.name(), figures: BTreeMap::new() }
    }

    #[must_use]
    fn with(mut self, name: impl Into<String>, figure: f64) -> Outcome {
        self.figures.insert(name.into(), figure);
        self
    }
}

/// Runs what was asked for, round after round, and prints each result as a line of JSON and a table of medians.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let mut outcomes = Vec::new();
    for _ in 0..args.rounds {
        for name in &args.workloads {
            let more = match name.as_str() {
                streaming::NAME => streaming::run(args).await?,
                requests::NAME => requests::run(args).await?,
                opening::NAME => opening::run(args).await?,
                scale::NAME => scale::run(args).await?,
                store::NAME => store::run(args).await?,
                takeover::KILL => takeover::run(args, takeover::KILL).await?,
                _ => takeover::run(args, takeover::DRAIN).await?,
            };
            for outcome in more {
                println!("{}", serde_json::to_string(&outcome)?);
                outcomes.push(outcome);
            }
        }
    }
    eprintln!("\n{}", Table(&outcomes));
    Ok(())
}

/// The medians of all cases.
struct Table<'a>(&'a [Outcome]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cases: Vec<(&str, &str, &str)> = Vec::new();
        for it in self.0 {
            let case = (it.workload, it.case.as_str(), it.place);
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        for (workload, case, place) in cases {
            let of_case =
                |it: &&Outcome| (it.workload, it.case.as_str(), it.place) == (workload, case, place);
            let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
            for (name, figure) in self.0.iter().filter(of_case).flat_map(|it| &it.figures) {
                figures.entry(name).or_default().push(*figure);
            }
            let shown = figures
                .iter()
                .filter_map(|(name, all)| Some(format!("{name} {}", rounded(crate::samples::median(all)?))));
            writeln!(f, "{workload:10} {case:24} {place:9} {}", shown.collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}
