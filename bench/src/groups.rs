//! W3: joins of fresh groups until the first view of each: one after the other, and, on Handover, all at once.

use anyhow::Context;

use crate::bed::{Bed, Part, System};
use crate::outcome::{Outcome, Outcomes};
use crate::plan::Plan;
use crate::samples::Samples;
use crate::{child, handover};

/// What it is called.
pub const NAME: &str = "groups";

/// Runs it.
pub async fn run<B: Bed>(plan: &Plan, outcomes: &mut Outcomes) -> anyhow::Result<()> {
    outcomes.push(in_sequence::<B>(plan).await?)?;
    if B::SYSTEM == System::Handover {
        outcomes.push(at_once(plan).await?)?;
    }
    Ok(())
}

/// By a member at the second daemon, which is not the sequencer.
async fn in_sequence<B: Bed>(plan: &Plan) -> anyhow::Result<Outcome> {
    let bed = B::start(plan.daemons as usize).await?;
    let before = bed.usage()?;
    let lines = bed.member(2, Part::Join { count: plan.groups })?.lines().await?;
    let after = bed.usage()?;
    let (mut joins, mut all) = (Vec::new(), 0);
    for line in &lines {
        let (join, whole) = line.split_once(' ').context("a join has two durations")?;
        joins.push(join.parse()?);
        all += whole.parse::<u64>()?;
    }
    let samples = Samples::of_nanos(joins)?;
    Ok(Outcome::new(&bed, NAME, "one after the other", plan, &before, &after)
        .with("p50_us", samples.quantile(0.5) / 1e3)
        .with("p99_us", samples.quantile(0.99) / 1e3)
        .with("groups_per_second", lines.len() as f64 / (all as f64 / 1e9)))
}

async fn at_once(plan: &Plan) -> anyhow::Result<Outcome> {
    let bed = handover::Cluster::start(plan.daemons as usize).await?;
    let before = bed.usage()?;
    let mut command = bed.member_command(2)?;
    command.args(["join-at-once", &plan.at_once.to_string()]);
    let nanos: u64 = child::Child::speaking(command)?.line().await?.parse()?;
    let after = bed.usage()?;
    let rate = plan.at_once as f64 / (nanos as f64 / 1e9);
    Ok(Outcome::new(&bed, NAME, "all at once", plan, &before, &after).with("groups_per_second", rate))
}
