//! W2: one member sends, with one message outstanding, to a group with a member at each daemon: from send to its own
//! delivery. Handover's sequencer is its first daemon.

use crate::bed::{Bed, Part};
use crate::outcome::{Outcome, Outcomes};
use crate::plan::{BYTES, Plan};
use crate::samples::Samples;

/// What it is called.
pub const NAME: &str = "latency";

/// Messages before the first that is measured.
const WARM_UP: usize = 300;

/// Runs it with the sender at the first daemon, and at the second.
pub async fn run<B: Bed>(plan: &Plan, outcomes: &mut Outcomes) -> anyhow::Result<()> {
    for (daemon, case) in [(1, "sender at the first daemon"), (2, "sender at the second daemon")] {
        outcomes.push(measure::<B>(plan, plan.daemons as usize, daemon, NAME, case.to_owned()).await?)?;
    }
    Ok(())
}

/// Runs it once.
pub async fn measure<B: Bed>(
    plan: &Plan,
    daemons: usize,
    sender: usize,
    workload: &'static str,
    case: String,
) -> anyhow::Result<Outcome> {
    let bed = B::start(daemons).await?;
    let others = (1..=daemons).filter(|daemon| *daemon != sender);
    let _others = others.map(|daemon| bed.member(daemon, Part::Watch)).collect::<Result<Vec<_>, _>>()?;
    let part = Part::Ping { bytes: BYTES, warm_up: WARM_UP, count: plan.count, members: daemons };
    let before = bed.usage()?;
    let nanos = bed.member(sender, part)?.lines().await?;
    let after = bed.usage()?;
    let nanos = nanos.iter().map(|line| line.parse()).collect::<Result<Vec<u64>, _>>()?;
    let samples = Samples::of_nanos(nanos)?;
    Ok(Outcome::new(&bed, workload, case, plan, &before, &after)
        .with("p50_us", samples.quantile(0.5) / 1e3)
        .with("p99_us", samples.quantile(0.99) / 1e3))
}
