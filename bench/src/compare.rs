//! Corosync, Handover, Corosync, Handover... in one go: on a machine that others use too, only the ratio of medians of
//! runs that took turns means something.

use std::collections::BTreeMap;
use std::fmt;

use crate::bed::System;
use crate::outcome::{Outcomes, rounded};
use crate::plan::Plan;
use crate::samples::median;
use crate::{corosync, failure, groups, latency, throughput};

/// What to compare.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often each takes its turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    plan: Plan,
}

/// Runs it. Without Corosync, Handover runs alone.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let missing = corosync::missing();
    if let Some(reason) = &missing {
        eprintln!("Corosync is left out: {reason}");
    }
    let systems =
        if missing.is_some() { &[System::Handover][..] } else { &[System::Corosync, System::Handover] };
    let mut outcomes = Outcomes::new();
    for workload in [throughput::NAME, latency::NAME, groups::NAME, failure::NAME] {
        for round in 1..=args.rounds {
            for system in systems {
                eprintln!("{workload}, round {round} of {}: {system}", args.rounds);
                crate::run(*system, workload, &args.plan, &mut outcomes).await?;
            }
        }
    }
    eprintln!("\n{}", Comparison::of(&outcomes));
    Ok(())
}

/// The medians of all rounds, side by side.
struct Comparison(BTreeMap<(&'static str, String, &'static str), BTreeMap<System, Vec<f64>>>);

impl Comparison {
    fn of(outcomes: &Outcomes) -> Comparison {
        let mut values: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
        for outcome in outcomes.iter() {
            let resident = outcome.resident_mib.iter().copied().fold(0.0, f64::max);
            let figures = outcome.figures.iter().map(|(name, value)| (*name, *value));
            for (name, value) in figures.chain([("resident_mib", resident)]) {
                let key = (outcome.workload, outcome.case.clone(), name);
                values.entry(key).or_default().entry(outcome.system).or_default().push(value);
            }
        }
        Comparison(values)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["Corosync", "Handover", "Handover is"];
        writeln!(
            f,
            "{:12}{:30}{:28}{:>10}{:>10}  {}",
            "", "medians of all rounds", "", head[0], head[1], head[2]
        )?;
        for ((workload, case, figure), values) in &self.0 {
            let of = |system| values.get(&system).and_then(|values| median(values));
            let (peer, ours) = (of(System::Corosync), of(System::Handover));
            let shown = |value: Option<f64>| value.map_or("-".to_owned(), rounded);
            let verdict = peer.zip(ours).map_or(String::new(), |(peer, ours)| verdict(figure, peer, ours));
            writeln!(
                f,
                "{workload:12}{case:30}{figure:28}{:>10}{:>10}  {verdict}",
                shown(peer),
                shown(ours)
            )?;
        }
        Ok(())
    }
}

/// How many times as good: more per second, or less of anything else.
fn verdict(figure: &str, peer: f64, ours: f64) -> String {
    let times = if figure.ends_with("per_second") { ours / peer } else { peer / ours };
    format!("{} times as good", rounded(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_per_second_is_better_and_less_of_the_rest() {
        assert_eq!(verdict("groups_per_second", 100.0, 250.0), "2.50 times as good");
        assert_eq!(verdict("p50_us", 100.0, 250.0), "0.40 times as good");
    }
}
