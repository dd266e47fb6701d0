//! Results: a line of JSON each, and a table of all.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::bed::{Bed, System};
use crate::plan::Plan;
use crate::usage::Usage;

/// What one run of one case of a workload has shown.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Such as `throughput`.
    pub workload: &'static str,
    /// Such as `1024 B`.
    pub case: String,
    /// On what.
    pub system: System,
    /// How that was set up.
    pub setup: String,
    /// By name, which ends in the unit. What is counted `per_second` is better when there is more of it, and
    /// everything else when there is less.
    pub figures: BTreeMap<&'static str, f64>,
    /// By daemon: the processor time that it took.
    pub cpu_seconds: Vec<f64>,
    /// By daemon: what is resident of it afterwards.
    pub resident_mib: Vec<f64>,
    /// How much was run.
    pub plan: Plan,
}

impl Outcome {
    /// A case that used what lies between `before` and `after`.
    pub fn new<B: Bed>(
        bed: &B,
        workload: &'static str,
        case: impl Into<String>,
        plan: &Plan,
        before: &[Usage],
        after: &[Usage],
    ) -> Outcome {
        let cpu = |(before, after): (&Usage, &Usage)| after.cpu.saturating_sub(before.cpu).as_secs_f64();
        let resident = |usage: &Usage| usage.resident_kib as f64 / 1024.0;
        Outcome {
            workload,
            case: case.into(),
            system: B::SYSTEM,
            setup: bed.setup(),
            figures: BTreeMap::new(),
            cpu_seconds: before.iter().zip(after).map(cpu).collect(),
            resident_mib: after.iter().map(resident).collect(),
            plan: plan.clone(),
        }
    }

    /// With one more figure.
    #[must_use]
    pub fn with(mut self, name: &'static str, figure: f64) -> Outcome {
        self.figures.insert(name, figure);
        self
    }

    /// All processor time of the daemons.
    pub fn cpu(&self) -> Duration {
        Duration::from_secs_f64(self.cpu_seconds.iter().sum())
    }
}

/// All results so far.
#[derive(Debug)]
pub struct Outcomes(Vec<Outcome>);

impl Outcomes {
    /// None yet.
    pub fn new() -> Outcomes {
        Outcomes(Vec::new())
    }

    /// Takes note of a result, and prints it.
    pub fn push(&mut self, outcome: Outcome) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string(&outcome)?);
        self.0.push(outcome);
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Outcome> {
        self.0.iter()
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in &self.0 {
            let figure = |(name, value): (&&str, &f64)| format!("{name} {}", rounded(*value));
            let figures: Vec<String> = outcome.figures.iter().map(figure).collect();
            let list =
                |values: &[f64]| values.iter().map(|value| rounded(*value)).collect::<Vec<_>>().join("/");
            writeln!(
                f,
                "{:10} {:8} {:32} {}; CPU {} s, {} MiB",
                outcome.workload,
                outcome.system,
                outcome.case,
                figures.join(", "),
                list(&outcome.cpu_seconds),
                list(&outcome.resident_mib),
            )?;
        }
        Ok(())
    }
}

/// Three significant figures, about.
pub fn rounded(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
