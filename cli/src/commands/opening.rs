//! Opening a session, for the commands that are clients.

use std::time::Duration;

use model::{Address, UnitId};
use player::{Player, Recorder};

use crate::operator;

/// Whoever waits for longer than this is told so.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opens a session on `unit`, at the first of these gateways that does.
pub async fn open(gateways: Vec<Address>, unit: &UnitId) -> anyhow::Result<Player> {
    let tried = gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let opening = Player::open(operator::wire()?, gateways, unit, Recorder::off());
    tokio::pin!(opening);
    if let Ok(opened) = tokio::time::timeout(PATIENCE, &mut opening).await {
        return Ok(opened?);
    }
    eprintln!("handover: no gateway has opened a session yet; going on to try {tried}");
    Ok(opening.await?)
}
