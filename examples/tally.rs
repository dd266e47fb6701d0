//! The smallest service: a tally of its own for each session. `{"add": 5}` adds to it, and is answered by the sum.

use std::collections::VecDeque;
use std::process::ExitCode;

use model::{Time, UnitId};
use serde::{Deserialize, Serialize};
use session_core::{ContentId, ContentService, Next, Refusal, UnitInfo};

struct Tally(UnitId);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Context {
    sum: i64,
    unanswered: VecDeque<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    add: i64,
}

impl ContentService for Tally {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        vec![UnitInfo::new(self.0.clone(), "A tally", "application/json")]
    }

    fn open(&self, _: &ContentId) -> Context {
        Context::default()
    }

    fn apply(&self, _: &ContentId, context: &mut Context, request: &[u8]) -> Result<(), Refusal> {
        let Request { add } = serde_json::from_slice(request).map_err(Refusal::malformed)?;
        context.sum = context.sum.checked_add(add).ok_or_else(|| Refusal::out_of_range("too much"))?;
        context.unanswered.push_back(context.sum);
        Ok(())
    }

    fn next(&self, _: &ContentId, context: &mut Context, _now: Time) -> Next {
        let Some(sum) = context.unanswered.pop_front() else { return Next::Idle };
        Next::Respond { payload: format!(r#"{{"sum":{sum}}}"#).into(), last: false }
    }
}

fn main() -> ExitCode {
    server_svc::host(|_config| Ok(Tally("tally".parse()?)))
}

#[cfg(test)]
#[test]
fn sessions_survive_hand_overs() {
    rehearsal::rehearse(|| Tally("tally".parse().unwrap()), &[r#"{"add":5}"#, r#"{"add":-7}"#, "{}"]);
}
