//! W4: from the SIGKILL of a daemon, or of a member, to the view without it at a member that survives. The daemon that
//! dies is each in turn.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::bed::{Bed, Part};
use crate::child::Child;
use crate::outcome::{Outcome, Outcomes};
use crate::plan::Plan;
use crate::samples::Samples;

/// What it is called.
pub const NAME: &str = "failure";

/// Runs it.
pub async fn run<B: Bed>(plan: &Plan, outcomes: &mut Outcomes) -> anyhow::Result<()> {
    for (case, victim) in [("a daemon is killed", Victim::Daemon), ("a member is killed", Victim::Member)] {
        outcomes.push(measure::<B>(plan, case, victim).await?)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Victim {
    Daemon,
    Member,
}

async fn measure<B: Bed>(plan: &Plan, case: &str, victim: Victim) -> anyhow::Result<Outcome> {
    let daemons = plan.daemons as usize;
    let mut bed = B::start(daemons).await?;
    let before = bed.usage()?;
    let start = |bed: &B, daemon| bed.member(daemon, Part::Watch).map(|member| (daemon, member));
    let mut members: BTreeMap<usize, Child> =
        (1..=daemons).map(|daemon| start(&bed, daemon)).collect::<Result<_, _>>()?;
    until_view(&mut members, daemons).await?;
    let mut nanos = Vec::new();
    for kill in 0..plan.kills {
        let daemon = 1 + (kill + 1) % daemons;
        let Some(mut member) = members.remove(&daemon) else { continue };
        let at = match victim {
            Victim::Member => member.kill()?,
            Victim::Daemon => bed.kill(daemon).await?,
        };
        let seen = until_view(&mut members, daemons - 1).await?;
        nanos.push(u64::try_from((seen - at).as_nanos())?);
        member.end().await?;
        if let Victim::Daemon = victim {
            bed.restart(daemon).await?;
        }
        members.extend([start(&bed, daemon)?]);
        until_view(&mut members, daemons).await?;
    }
    let after = bed.usage()?;
    let samples = Samples::of_nanos(nanos)?;
    Ok(Outcome::new(&bed, NAME, case, plan, &before, &after)
        .with("p50_ms", samples.quantile(0.5) / 1e6)
        .with("max_ms", samples.quantile(1.0) / 1e6))
}

/// Waits until every member has a view of so many. Returns when the first of them had it.
async fn until_view(members: &mut BTreeMap<usize, Child>, count: usize) -> anyhow::Result<Instant> {
    let wanted = format!("view {count}");
    let mut first = None;
    for member in members.values_mut() {
        let seen = member.says(&wanted).await?;
        first.get_or_insert(seen);
    }
    Ok(first.unwrap_or_else(Instant::now))
}
