//! S5 and S6: the server of so many sessions is killed, or drained, while each of them gets a response every 20 ms, or
//! where that would be more than a small machine can carry, every second.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use handover_cli::cluster::Service;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, timeout_at};

use super::client::{Client, Heard};
use super::place::{MACHINES, Place};
use super::{Args, Outcome};
use crate::samples::Samples;

/// A server is killed.
pub const KILL: &str = "takeover";
/// A server is asked to end.
pub const DRAIN: &str = "drain";

/// So many sessions get a response every 20 ms, at most.
const CLOCKS_MAX: usize = 400;

/// How long clients listen after that, at least.
const AFTER: Duration = Duration::from_secs(3);

/// Runs it on a cluster for each number of sessions.
pub async fn run(args: &Args, name: &'static str) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &served in &args.served {
        outcomes.push(measure(name, served).await?);
    }
    Ok(outcomes)
}

async fn measure(name: &'static str, served: usize) -> anyhow::Result<Outcome> {
    let mut place = Place::handover(1).await?;
    // Sessions are spread over all servers.
    let sessions = served * MACHINES;
    let unit = if sessions <= CLOCKS_MAX { "clock" } else { "pace" };
    let (clients, _) = Client::open_many(&place.gateways(), unit, sessions, 64).await?;
    let begin = Instant::now() + AFTER;
    let listening: Vec<_> = clients.into_iter().map(|client| tokio::spawn(listen(client, begin))).collect();
    tokio::time::sleep_until(begin).await;
    let victim = Service::Server.name(1);
    let cluster = place.cluster()?;
    let at = match name {
        KILL => cluster.kill(&[victim]).await?.into(),
        _ => {
            let pid = cluster.state().process(victim).and_then(|it| it.pid).context("it does not run")?;
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM)?;
            Instant::now()
        }
    };
    let heard = try_join_all(listening).await?.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let moved: Vec<&Log> = heard.iter().filter(|log| log.taken_over.is_some()).collect();
    ensure!(!moved.is_empty(), "nobody got another server");
    let gap = |log: &&Log| log.taken_over.map(|then| then.saturating_duration_since(at).as_nanos() as u64);
    let takeovers = Samples::of_nanos(moved.iter().filter_map(gap))?;
    let longest = |log: &&Log| log.longest_after.as_nanos() as u64;
    let gaps = Samples::of_nanos(moved.iter().map(longest))?;
    let usual = Samples::of_nanos(heard.iter().map(|log| log.longest_before.as_nanos() as u64))?;
    Ok(Outcome::new(name, format!("{served} sessions"), &place)
        .with("moved", moved.len() as f64)
        .with("served_again_p50_ms", takeovers.quantile(0.5) / 1e6)
        .with("served_again_p99_ms", takeovers.quantile(0.99) / 1e6)
        .with("served_again_max_ms", takeovers.quantile(1.0) / 1e6)
        .with("longest_gap_p50_ms", gaps.quantile(0.5) / 1e6)
        .with("longest_gap_max_ms", gaps.quantile(1.0) / 1e6)
        .with("longest_gap_before_p50_ms", usual.quantile(0.5) / 1e6)
        .with("longest_gap_before_max_ms", usual.quantile(1.0) / 1e6))
}

/// What one client has seen.
struct Log {
    /// When it heard of another server, after the moment of interest.
    taken_over: Option<Instant>,
    /// The longest time between two responses before that moment, and after.
    longest_before: Duration,
    longest_after: Duration,
}

/// Listens until [`AFTER`] the moment, and checks that every response comes once and in order.
async fn listen(mut client: Client, moment: Instant) -> anyhow::Result<Log> {
    let mut log = Log { taken_over: None, longest_before: Duration::ZERO, longest_after: Duration::ZERO };
    let (mut last, mut number) = (None, None);
    while let Ok(heard) = timeout_at(moment + AFTER, client.hear()).await {
        let now = Instant::now();
        match heard? {
            Heard::Serving if now >= moment => log.taken_over = Some(now),
            Heard::Serving => {}
            Heard::Response(response) => {
                ensure!(number.is_none_or(|number| response.number == number + 1), "a response is lost");
                number = Some(response.number);
                if let Some(last) = last.replace(now) {
                    let longest = if now < moment { &mut log.longest_before } else { &mut log.longest_after };
                    *longest = (*longest).max(now - last);
                }
            }
        }
    }
    Ok(log)
}
