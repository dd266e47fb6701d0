//! S4: many sessions in which nothing happens, and what they cost.

use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::place::{Place, cpu};
use super::{Args, Outcome};
use crate::samples::Samples;

/// What it is called.
pub const NAME: &str = "scale";

/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(5);

/// Runs it on a cluster for each number of sessions.
pub async fn run(args: &Args) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &sessions in &args.idle {
        let place = Place::handover().await?;
        let empty = place.usage()?;
        let began = Instant::now();
        let (clients, nanos) = Client::open_many(&place.gateways(), "echo", sessions, 64).await?;
        let opening = began.elapsed();
        // What was propagated last is over then.
        tokio::time::sleep(QUIET).await;
        let (before, began) = (place.usage()?, Instant::now());
        tokio::time::sleep(QUIET).await;
        let (after, elapsed) = (place.usage()?, began.elapsed());
        let samples = Samples::of_nanos(nanos)?;
        let mut outcome = Outcome::new(NAME, format!("{sessions} sessions"), &place)
            .with("opened_per_second", sessions as f64 / opening.as_secs_f64())
            .with("open_p50_ms", samples.quantile(0.5) / 1e6)
            .with("idle_cpu_percent", 100.0 * cpu(&before, &after).as_secs_f64() / elapsed.as_secs_f64());
        for (kind, usage) in &after {
            let more = usage.resident_kib.saturating_sub(empty[kind].resident_kib);
            outcome = outcome.with(format!("{kind}_kib_per_session"), more as f64 / sessions as f64);
        }
        outcomes.push(outcome);
        drop(clients);
    }
    Ok(outcomes)
}
