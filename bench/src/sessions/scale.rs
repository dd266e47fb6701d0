//! S4: many sessions that do nothing, and many that get a response every second: what each of them costs.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::client::Client;
use super::place::{Place, cpu};
use super::{Args, Outcome};
use crate::samples::Samples;

/// What it is called.
pub const NAME: &str = "scale";

/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(5);

/// Runs it on a cluster for each number of sessions and of backups.
pub async fn run(args: &Args) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &sessions in &args.idle {
        for &backups in &args.backups {
            for (unit, what) in [("echo", "idle"), ("pace", "paced")] {
                let place = Place::handover(backups).await?;
                let case = format!("{sessions} {what}, {backups} backups");
                outcomes.push(measure(&place, unit, sessions, case).await?);
            }
        }
    }
    Ok(outcomes)
}

async fn measure(place: &Place, unit: &str, sessions: usize, case: String) -> anyhow::Result<Outcome> {
    let empty = place.usage()?;
    let began = Instant::now();
    let (clients, nanos) = Client::open_many(&place.gateways(), unit, sessions, 64).await?;
    let opening = began.elapsed();
    let reading: Vec<_> = clients.into_iter().map(|client| tokio::spawn(read(client))).collect();
    // What was propagated last is over then.
    tokio::time::sleep(QUIET).await;
    let (before, carried, began) = (place.usage()?, loopback_bytes()?, Instant::now());
    tokio::time::sleep(QUIET).await;
    let (after, elapsed) = (place.usage()?, began.elapsed().as_secs_f64());
    let carried = loopback_bytes()?.saturating_sub(carried);
    let samples = Samples::of_nanos(nanos)?;
    let mut outcome = Outcome::new(NAME, case, place)
        .with("opened_per_second", sessions as f64 / opening.as_secs_f64())
        .with("open_p50_ms", samples.quantile(0.5) / 1e6)
        .with("open_p99_ms", samples.quantile(0.99) / 1e6)
        .with("loopback_bytes_per_session_and_second", carried as f64 / elapsed / sessions as f64)
        .with("cpu_percent", 100.0 * cpu(&before, &after).as_secs_f64() / elapsed);
    for (kind, usage) in &after {
        let more = usage.resident_kib.saturating_sub(empty[kind].resident_kib);
        outcome = outcome.with(format!("{kind}_kib_per_session"), more as f64 / sessions as f64);
    }
    reading.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(outcome)
}

async fn read(mut client: Client) {
    while client.response().await.is_ok() {}
}

/// What the loopback device of this network namespace has carried. Whoever else uses it is counted as well.
fn loopback_bytes() -> anyhow::Result<u64> {
    let devices = std::fs::read_to_string("/proc/net/dev").context("cannot read /proc/net/dev")?;
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let received = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    received.context("/proc/net/dev has another form")
}
