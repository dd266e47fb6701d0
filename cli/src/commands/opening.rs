//! Opening a session, for the commands that are clients.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Context;
use model::{Address, UnitId};
use player::{PlayError, Player, Recorder};
use svc_kit::status::sentence;
use tonic::{Code, Status};

use super::program;
use crate::operator;
use crate::silence;

/// Whoever waits for longer than this is told so.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opens a session on `unit`, at the first of these gateways that does.
pub async fn open(gateways: Vec<Address>, unit: &UnitId) -> anyhow::Result<Player> {
    let tried = gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let failure = RefCell::new(None);
    let tell = |status: &Status| *failure.borrow_mut() = Some(status.clone());
    let opening = Player::open_and_tell(operator::wire()?, gateways, unit, Recorder::off(), tell);
    tokio::pin!(opening);
    let opened = match tokio::time::timeout(PATIENCE, &mut opening).await {
        Ok(opened) => opened,
        Err(_) => {
            let said = failure.take().map(|status| format!(" ({})", said(&status))).unwrap_or_default();
            eprintln!("handover: no gateway has opened a session yet{said}; going on to try {tried}");
            opening.await
        }
    };
    if let Err(PlayError::Refused(status)) = &opened
        && status.code() == Code::NotFound
    {
        let hint = format!("cannot open a session on {unit}; `{} content ls` lists the units", program());
        return opened.context(hint);
    }
    Ok(opened?)
}

/// What went wrong with a gateway, and what to do about it.
fn said(failure: &Status) -> String {
    let advice = silence::advice(failure).map(|it| format!("; {it}")).unwrap_or_default();
    format!("{}{advice}", sentence(failure))
}
