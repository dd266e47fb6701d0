//! A content server whose service costs nothing, so that what is measured is what carries it.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use model::{Level, Time, UnitId};
use serde::{Deserialize, Serialize};
use session_core::{ContentId, ContentService, Next, Refusal, UnitInfo};

/// How often the units `clock` and `pace` respond.
const TICK: Duration = Duration::from_millis(20);
const PACE: Duration = Duration::from_secs(1);

/// The unit `flood-BYTES` responds as fast as it is let, `clock` every 20 ms, `pace` every second, `echo` once and to each
/// request. Those of `-agreed` and `-safe` are committed at that level before they are sent.
struct Spout {
    units: Vec<UnitId>,
    zeroes: Bytes,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Context {
    /// What `clock`, `pace` and `echo` are to respond to.
    due: Option<Time>,
    unanswered: u32,
}

impl Spout {
    fn new() -> Result<Spout, server_svc::LoadError> {
        let floods = ["flood-1024", "flood-1024-agreed", "flood-1024-safe", "flood-16384"];
        let units = floods.into_iter().chain(["clock", "pace", "echo", "echo-agreed", "echo-safe"]);
        let units = units.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Spout { units, zeroes: vec![0; 16384].into() })
    }

    fn respond(&self, bytes: usize) -> Next {
        Next::Respond { payload: self.zeroes.slice(..bytes.min(self.zeroes.len())), last: false }
    }
}

impl ContentService for Spout {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        let info = |unit: &UnitId| UnitInfo::new(unit.clone(), "Zeroes", "application/octet-stream");
        self.units.iter().map(info).collect()
    }

    fn open(&self, _: &ContentId) -> Context {
        Context { due: None, unanswered: 1 }
    }

    fn apply(&self, _: &ContentId, context: &mut Context, _request: &[u8]) -> Result<(), Refusal> {
        context.unanswered += 1;
        Ok(())
    }

    fn commit(&self, content: &ContentId) -> Option<Level> {
        match content.unit.as_str().rsplit('-').next()? {
            "agreed" => Some(Level::Agreed),
            "safe" => Some(Level::Safe),
            _ => None,
        }
    }

    fn next(&self, content: &ContentId, context: &mut Context, now: Time) -> Next {
        if let Some(flood) = content.unit.as_str().strip_prefix("flood-") {
            let bytes = flood.split('-').next().unwrap_or(flood);
            return self.respond(bytes.parse().unwrap_or(0));
        }
        let interval = match content.unit.as_str() {
            "clock" => Some(TICK),
            "pace" => Some(PACE),
            _ => None,
        };
        if let Some(interval) = interval {
            let due = context.due.unwrap_or(now);
            if now < due {
                return Next::At(due);
            }
            // A response that is late does not make those after it come faster.
            context.due = Some((due + interval).max(now));
            return self.respond(64);
        }
        let Some(left) = context.unanswered.checked_sub(1) else { return Next::Idle };
        context.unanswered = left;
        self.respond(64)
    }
}

fn main() -> ExitCode {
    server_svc::host(|_config| Spout::new())
}
