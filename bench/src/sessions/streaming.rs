//! S1: sessions that stream as fast as their clients read.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::{Instant, timeout_at};

use super::bare::WARM_UP;
use super::client::Client;
use super::place::{Kind, Place, cpu};
use super::{Args, Outcome};

/// What it is called.
pub const NAME: &str = "streaming";

/// Runs it on both, in turns.
pub async fn run(args: &Args) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &sessions in &args.sessions {
        let everywhere = ["1024", "16384"].into_iter().flat_map(|flood| Kind::ALL.map(|kind| (kind, flood)));
        // Nobody else commits.
        let committed = ["1024-agreed", "1024-safe"].map(|flood| (Kind::Handover, flood));
        for (kind, flood) in everywhere.chain(committed) {
            let time = Duration::from_secs(args.seconds);
            outcomes.push(measure(&kind.start().await?, sessions, flood, time).await?);
        }
    }
    Ok(outcomes)
}

async fn measure(place: &Place, sessions: usize, flood: &str, time: Duration) -> anyhow::Result<Outcome> {
    let unit = format!("flood-{flood}");
    let (mut clients, _) = Client::open_many(&place.gateways(), &unit, sessions, sessions).await?;
    read_until(&mut clients, Instant::now() + WARM_UP).await?;
    let (before, began) = (place.usage()?, Instant::now());
    let read = read_until(&mut clients, began + time).await?;
    let (after, elapsed) = (place.usage()?, began.elapsed());
    let mib = read as f64 / (1024.0 * 1024.0);
    Ok(Outcome::new(NAME, format!("{sessions} sessions, {flood} B"), place)
        .with("mib_per_second", mib / elapsed.as_secs_f64())
        .with("cpu_ms_per_mib", cpu(&before, &after).as_secs_f64() * 1e3 / mib))
}

/// How many bytes all clients have got by then.
async fn read_until(clients: &mut [Client], end: Instant) -> anyhow::Result<usize> {
    let reading = clients.iter_mut().map(async |client| {
        let mut bytes = 0;
        while let Ok(response) = timeout_at(end, client.response()).await {
            bytes += response?.payload.len();
            // A client that never waits would not see the time.
            if Instant::now() > end {
                break;
            }
        }
        anyhow::Ok(bytes)
    });
    Ok(try_join_all(reading).await?.into_iter().sum())
}
