//! S3: sessions opened, each until its first response.

use tokio::time::Instant;

use super::client::Client;
use super::place::{Kind, cpu};
use super::{Args, Outcome};
use crate::samples::Samples;

/// What it is called.
pub const NAME: &str = "opening";

/// Runs it on both, in turns: one after the other, and 64 at a time.
pub async fn run(args: &Args) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (at_once, count) in [(1, args.opened.div_ceil(10)), (64, args.opened)] {
        for kind in Kind::ALL {
            let place = kind.start().await?;
            let (before, began) = (place.usage()?, Instant::now());
            let (_clients, nanos) = Client::open_many(&place.gateways(), "echo", count, at_once).await?;
            let (after, elapsed) = (place.usage()?, began.elapsed());
            let samples = Samples::of_nanos(nanos)?;
            outcomes.push(
                Outcome::new(NAME, format!("{at_once} at a time"), &place)
                    .with("p50_us", samples.quantile(0.5) / 1e3)
                    .with("p99_us", samples.quantile(0.99) / 1e3)
                    .with("per_second", count as f64 / elapsed.as_secs_f64())
                    .with("cpu_us_each", cpu(&before, &after).as_secs_f64() * 1e6 / count as f64),
            );
        }
    }
    Ok(outcomes)
}
