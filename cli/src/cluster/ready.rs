//! When a cluster is ready to be used.

use std::time::Duration;

use anyhow::bail;
use model::Address;
use tokio::time::{Instant, sleep};

use super::state::State;
use crate::snapshot::{Addresses, Probe};

/// How long a cluster may take to come together.
const READY_MAX: Duration = Duration::from_secs(30);

/// How often it is asked.
const POLL: Duration = Duration::from_millis(20);

/// Waits until every running process says that it serves, and the cluster has come together.
pub(super) async fn await_ready(state: &State) -> anyhow::Result<()> {
    let running = state.processes.iter().filter(|process| process.pid.is_some());
    let all: Vec<Address> = running.filter_map(|process| process.address.clone()).collect();
    let addresses = Addresses::from(state);
    let (mut probe, deadline) = (Probe::default(), Instant::now() + READY_MAX);
    loop {
        let missing = match probe.all_serve(&all).await? {
            Err(missing) => missing,
            Ok(()) => {
                let snapshot = probe.snapshot(&addresses).await?;
                let silent = snapshot
                    .silent()
                    .first()
                    .map(|(address, status)| format!("{address}: {}", status.message()));
                match silent.map_or(snapshot.is_settled(), Err) {
                    Err(missing) => missing,
                    Ok(()) => return Ok(()),
                }
            }
        };
        if Instant::now() > deadline {
            bail!("the cluster has not come together after {} s: {missing}", READY_MAX.as_secs());
        }
        sleep(POLL).await;
    }
}
