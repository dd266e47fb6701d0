//! W1: a member at each daemon sends as fast as flow control lets it, and all of them are given everything in one
//! order, which is checked.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::bed::{Bed, Part};
use crate::child::Child;
use crate::outcome::{Outcome, Outcomes};
use crate::plan::Plan;

/// What it is called.
pub const NAME: &str = "throughput";

/// What a member counts.
#[derive(Debug, Deserialize)]
struct Count {
    delivered: u64,
    /// A digest of the order so far, from time to time.
    order: Vec<u64>,
}

/// Runs it for each size of `plan`.
pub async fn run<B: Bed>(plan: &Plan, outcomes: &mut Outcomes) -> anyhow::Result<()> {
    for bytes in &plan.bytes {
        outcomes
            .push(measure::<B>(plan, plan.daemons as usize, *bytes, NAME, format!("{bytes} B")).await?)?;
    }
    Ok(())
}

/// Runs it once.
pub async fn measure<B: Bed>(
    plan: &Plan,
    daemons: usize,
    bytes: usize,
    workload: &'static str,
    case: String,
) -> anyhow::Result<Outcome> {
    let bed = B::start(daemons).await?;
    let part = Part::Flood { bytes, warm_up: plan.warm_up, seconds: plan.seconds, members: daemons };
    let mut members = (1..=daemons).map(|daemon| bed.member(daemon, part)).collect::<Result<Vec<_>, _>>()?;
    for member in &mut members {
        member.says("measuring").await?;
    }
    let before = bed.usage()?;
    let members_before = used(&members)?;
    let mut counts = Vec::new();
    for member in &mut members {
        let line = member.line().await?;
        counts.push(serde_json::from_str::<Count>(&line).with_context(|| line)?);
    }
    let after = bed.usage()?;
    let members_cpu = used(&members)?.saturating_sub(members_before);
    check_order(&counts)?;
    let per_member = counts.iter().map(|count| count.delivered as f64).sum::<f64>() / daemons as f64;
    let outcome = Outcome::new(&bed, workload, case, plan, &before, &after);
    let us_per_delivery = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (per_member * daemons as f64);
    let daemons_cpu = outcome.cpu();
    Ok(outcome
        .with("messages_per_second", per_member / plan.seconds)
        .with("daemon_cpu_us_per_delivery", us_per_delivery(daemons_cpu))
        .with("member_cpu_us_per_delivery", us_per_delivery(members_cpu)))
}

/// The processor time of all members so far.
fn used(members: &[Child]) -> anyhow::Result<Duration> {
    members.iter().map(|member| Ok(member.usage()?.cpu)).sum()
}

/// All members were given the same in the same order, as far as each has come.
fn check_order(counts: &[Count]) -> anyhow::Result<()> {
    for pair in counts.windows(2) {
        let [one, other] = pair else { continue };
        let both = one.order.len().min(other.order.len());
        ensure!(both > 0 || one.delivered < 100_000, "no order to compare");
        ensure!(one.order[..both] == other.order[..both], "members were given messages in different orders");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_orders_are_an_error() {
        let count = |order: &[u64]| Count { delivered: 1, order: order.to_vec() };
        check_order(&[count(&[1, 2]), count(&[1, 2, 3]), count(&[1])]).unwrap();
        check_order(&[count(&[1, 2]), count(&[1, 3])]).unwrap_err();
    }
}
