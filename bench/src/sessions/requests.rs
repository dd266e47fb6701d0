//! S2: requests in a closed loop: each session sends the next one when the one before is acknowledged.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::bare::WARM_UP;
use super::client::Client;
use super::place::{Kind, Place, cpu};
use super::{Args, Outcome};
use crate::samples::Samples;

/// What it is called.
pub const NAME: &str = "requests";

/// Runs it on both, in turns.
pub async fn run(args: &Args) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &sessions in &args.sessions {
        // Nobody else commits.
        let committed = ["echo-agreed", "echo-safe"].map(|unit| (Kind::Handover, unit));
        for (kind, unit) in Kind::ALL.map(|kind| (kind, "echo")).into_iter().chain(committed) {
            let time = Duration::from_secs(args.seconds);
            outcomes.push(measure(&kind.start().await?, sessions, unit, time).await?);
        }
    }
    Ok(outcomes)
}

async fn measure(place: &Place, sessions: usize, unit: &str, time: Duration) -> anyhow::Result<Outcome> {
    let (mut clients, _) = Client::open_many(&place.gateways(), unit, sessions, sessions).await?;
    send_until(&mut clients, Instant::now() + WARM_UP).await?;
    let (before, began) = (place.usage()?, Instant::now());
    let nanos = send_until(&mut clients, began + time).await?;
    let (after, elapsed, count) = (place.usage()?, began.elapsed(), nanos.len() as f64);
    let samples = Samples::of_nanos(nanos)?;
    Ok(Outcome::new(NAME, format!("{sessions} sessions, {unit}"), place)
        .with("p50_us", samples.quantile(0.5) / 1e3)
        .with("p99_us", samples.quantile(0.99) / 1e3)
        .with("per_second", count / elapsed.as_secs_f64())
        .with("cpu_us_each", cpu(&before, &after).as_secs_f64() * 1e6 / count))
}

/// How long each request took that was sent before `end`.
async fn send_until(clients: &mut [Client], end: Instant) -> anyhow::Result<Vec<u64>> {
    let sending = clients.iter_mut().map(async |client| {
        let Client { remote, stream } = client;
        let mut nanos = Vec::new();
        let sending = async {
            while Instant::now() < end {
                let began = Instant::now();
                remote.request().await?;
                nanos.push(began.elapsed().as_nanos() as u64);
            }
            anyhow::Ok(())
        };
        // A client that does not read what it is told is cut off.
        let reading = async {
            while stream.message().await?.is_some() {}
            anyhow::Ok(())
        };
        tokio::select! {
            sent = sending => sent?,
            over = reading => over.and_then(|()| anyhow::bail!("the stream has ended"))?,
        }
        anyhow::Ok(nanos)
    });
    Ok(try_join_all(sending).await?.into_iter().flatten().collect())
}
