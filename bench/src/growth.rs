//! W5: W1 and W2 at 1 KiB on more daemons; then many groups with three members each: the memory that a group takes at
//! each daemon, and how long it takes, when a daemon is killed, until all survivors have all their views.

use crate::bed::Bed;
use crate::child::Child;
use crate::handover::Cluster;
use crate::outcome::{Outcome, Outcomes};
use crate::plan::{BYTES, Plan};
use crate::{latency, throughput};

/// What it is called.
pub const NAME: &str = "growth";

/// Each group has a member at each of so many daemons.
const DAEMONS: usize = 3;

/// Runs it.
pub async fn run(plan: &Plan, outcomes: &mut Outcomes) -> anyhow::Result<()> {
    for daemons in plan.growth.iter().map(|daemons| *daemons as usize) {
        let case = |what: &str| format!("{daemons} daemons, {what}");
        outcomes
            .push(throughput::measure::<Cluster>(plan, daemons, BYTES, NAME, case("throughput")).await?)?;
        outcomes.push(latency::measure::<Cluster>(plan, daemons, 2, NAME, case("latency")).await?)?;
    }
    for groups in &plan.crowds {
        outcomes.push(crowd(plan, *groups).await?)?;
    }
    Ok(())
}

async fn crowd(plan: &Plan, groups: usize) -> anyhow::Result<Outcome> {
    let mut bed = Cluster::start(DAEMONS).await?;
    let before = bed.usage()?;
    let mut members = Vec::new();
    for daemon in 1..=DAEMONS {
        let mut command = bed.member_command(daemon)?;
        command.args(["crowd", &groups.to_string()]);
        members.push(Child::speaking(command)?);
    }
    for member in &mut members {
        member.says("view 3").await?;
    }
    let after = bed.usage()?;
    let outcome = Outcome::new(&bed, NAME, format!("{groups} groups"), plan, &before, &after);
    let killed = bed.kill(DAEMONS).await?;
    let mut all = killed;
    for member in members.iter_mut().take(DAEMONS - 1) {
        all = all.max(member.says("view 2").await?);
    }
    let kib =
        |usages: &[crate::usage::Usage]| usages.iter().map(|usage| usage.resident_kib as f64).sum::<f64>();
    let bytes = (kib(&after) - kib(&before)) * 1024.0 / DAEMONS as f64;
    Ok(outcome
        .with("bytes_per_group_and_daemon", bytes / groups as f64)
        .with("all_views_ms", (all - killed).as_secs_f64() * 1e3))
}
