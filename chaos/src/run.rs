//! A run, from its first process to the verdict.

use model::trace::Event;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::plan::{Edge, Plan};
use crate::rest;
use crate::stage::{Places, Stage};
use crate::verdict::{Told, Verdict};
use crate::viewers::{Seen, Viewers};

/// Plays `plan`, and judges what came of it.
pub async fn run(plan: &Plan, places: &Places) -> anyhow::Result<Verdict> {
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut stage = Stage::set(plan, places).await?;
    let gateways: Vec<_> = plan.gateways.iter().map(|it| stage.network.gateway(*it)).collect();
    let viewers = Viewers::begin(&gateways, &places.traces())?;
    let played = tokio::select! {
        played = play(&mut stage, viewers) => played,
        _ = terminated.recv() => anyhow::bail!("terminated"),
        _ = interrupted.recv() => anyhow::bail!("interrupted"),
    };
    let (seen, troubles) = match played {
        Ok(seen) => (Some(seen), stage.strike().await?),
        Err(error) => (None, vec![format!("{error:#}")]),
    };
    let packets = stage.network.packets().await?;
    stage.listen();
    let (reports, undrained) = (std::mem::take(&mut stage.reports), stage.undrained);
    // Whoever is still there is killed, so that traces do not grow while they are read.
    drop(stage);
    let told = Told { packets, reports, undrained, seen, troubles };
    Ok(Verdict::new(plan, told, &places.traces()))
}

/// All incidents, and the time until the cluster is at rest.
async fn play(stage: &mut Stage, viewers: Viewers) -> anyhow::Result<Seen> {
    let start = Instant::now();
    for (at, edge, place) in stage.plan().steps() {
        sleep_until(start + at).await;
        stage.bring_back().await?;
        stage.all_run()?;
        stage.listen();
        if edge == Edge::Begin {
            println!("{}", stage.plan().incidents[place]);
        }
        stage.perform(edge, place).await?;
    }
    stage.all_back().await?;
    stage.rest().await?;
    let healed = Instant::now();
    let seen = viewers.finish().await?;
    println!("all films seen to their end {:.1} s after the last fault", healed.elapsed().as_secs_f64());
    let daemons = rest::awaited(stage).await?;
    println!("at rest {:.1} s after the last fault", healed.elapsed().as_secs_f64());
    stage.note(Event::Quiescent { daemons, sessions: Vec::new() });
    Ok(seen)
}
