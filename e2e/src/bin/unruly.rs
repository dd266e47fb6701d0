//! A content service that does what a service should not do: for tests of what becomes of the others then.
//!
//! `{"flood":{"count":1000,"bytes":65536}}` asks for so many responses of so many bytes, as fast as they are taken; each
//! is its number behind blanks. `{"hang":{"server":"server-2"}}` has that server do nothing any more as soon as it is to
//! respond in this session; `{"hang":{"server":""}}` has every server do so. `{"panic":{}}` has whoever is to respond panic.

use std::process::ExitCode;

use model::{Name, Time, UnitId};
use serde::{Deserialize, Serialize};
use server_svc::LoadError;
use session_core::{ContentId, ContentService, Next, Refusal, UnitInfo};

/// No response is larger.
const BYTES_MAX: usize = 1 << 20;

struct Unruly {
    unit: UnitId,
    server: Name,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Context {
    sent: u64,
    asked: u64,
    bytes: usize,
    /// Who hangs.
    hangs: Option<String>,
    panics: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Request {
    Flood { count: u64, bytes: usize },
    Hang { server: String },
    Panic {},
}

impl ContentService for Unruly {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        vec![UnitInfo::new(self.unit.clone(), "Anything but nice", "text/plain")]
    }

    fn open(&self, _: &ContentId) -> Context {
        Context::default()
    }

    fn apply(&self, _: &ContentId, context: &mut Context, request: &[u8]) -> Result<(), Refusal> {
        match serde_json::from_slice(request).map_err(Refusal::malformed)? {
            Request::Flood { bytes, .. } if bytes > BYTES_MAX => {
                return Err(Refusal::out_of_range(format!("at most {BYTES_MAX} bytes")));
            }
            Request::Flood { count, bytes } => {
                context.asked = context.asked.saturating_add(count);
                context.bytes = bytes;
            }
            Request::Hang { server } => context.hangs = Some(server),
            Request::Panic {} => context.panics = true,
        }
        Ok(())
    }

    fn next(&self, _: &ContentId, context: &mut Context, _now: Time) -> Next {
        if context.hangs.as_deref().is_some_and(|name| name.is_empty() || name == self.server.as_str()) {
            loop {
                std::thread::park();
            }
        }
        assert!(!context.panics, "somebody asked for it");
        if context.sent == context.asked {
            return Next::Idle;
        }
        context.sent += 1;
        let number = context.sent.to_string();
        let blanks = context.bytes.saturating_sub(number.len());
        Next::Respond { payload: (" ".repeat(blanks) + &number).into(), last: false }
    }
}

fn main() -> ExitCode {
    server_svc::host(|config| Ok::<_, LoadError>(Unruly { unit: "unruly".parse()?, server: config.name }))
}
