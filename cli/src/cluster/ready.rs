//! When a cluster is ready to be used.

use std::time::Duration;

use anyhow::bail;
use svc_kit::dial::{DialError, Wire};
use svc_kit::status::sentence;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::Service;
use super::state::State;
use crate::silence;
use crate::snapshot::{Addresses, Probe};

/// How long a cluster may take to come together.
const READY_MAX: Duration = Duration::from_secs(30);

/// How often it is asked.
const POLL: Duration = Duration::from_millis(20);

/// Waits until every running process says that it serves, and the cluster has come together.
pub(super) async fn await_ready(state: &State, wire: Wire) -> anyhow::Result<()> {
    let addresses = Addresses::from(state);
    let (mut probe, deadline) = (Probe::new(wire), Instant::now() + READY_MAX);
    loop {
        let serve = all_serve(&mut probe, state).await?;
        let snapshot = probe.snapshot(&addresses).await?;
        let silent = snapshot.silent();
        // Waiting does not make a token good.
        if let Some((address, refusal)) = silent.iter().find(|(_, status)| is_for_good(status)) {
            let advice = silence::advice(refusal).map(|it| format!("; {it}")).unwrap_or_default();
            bail!("{address} refuses: {}{advice}", sentence(refusal));
        }
        let missing = match serve {
            Err(missing) => missing,
            Ok(()) => {
                let silent =
                    silent.first().map(|(address, status)| format!("{address}: {}", status.message()));
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

/// Whether whoever calls is not admitted.
fn is_for_good(status: &Status) -> bool {
    matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
}

/// Whether every running process says that it serves.
async fn all_serve(probe: &mut Probe, state: &State) -> Result<Result<(), String>, DialError> {
    for service in [Service::Membership, Service::Daemon, Service::Server, Service::Gateway] {
        let serve = probe.all_serve(service.role(), &state.addresses(service)).await?;
        if serve.is_err() {
            return Ok(serve);
        }
    }
    Ok(Ok(()))
}
