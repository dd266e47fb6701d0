//! The spans of sessions that this server is about to serve: from when the unit database makes it their primary until it
//! tells the gateway where it goes on.

use std::collections::BTreeMap;

use model::{Fence, Name, SessionId, UnitId};
use session_core::server::Predecessor;
use svc_kit::telemetry::sessions::{self, Step};
use tracing::Span;
use tracing::field::display;

/// So many may be under way. More come only where very many sessions change hands at once, or where the daemon was lost in
/// between and others have the sessions: the oldest sessions are left out.
const UNDER_WAY_MAX: usize = 4096;

/// Sessions that this server is about to serve.
pub(crate) struct Beginnings {
    me: Name,
    under_way: BTreeMap<SessionId, Span>,
}

impl Beginnings {
    /// None yet.
    pub(crate) fn of(me: Name) -> Beginnings {
        Beginnings { me, under_way: BTreeMap::new() }
    }

    /// This server is to serve a session, in place of the one before if there was one.
    pub(crate) fn begin(
        &mut self,
        unit: &UnitId,
        session: SessionId,
        fence: Fence,
        before: Option<Predecessor>,
    ) {
        let step = before.map_or(Step::Start(fence), |before| Step::TakeOver(fence, before.fence));
        let span = sessions::span(step, session);
        if span.is_none() {
            return;
        }
        span.record("unit", display(unit)).record("fence", display(fence)).record("to", display(self.me));
        if let Some(before) = before {
            span.record("from", before.server.map(display));
            span.record("reason", if before.is_here { "moved" } else { "gone" });
        }
        if self.under_way.len() == UNDER_WAY_MAX {
            self.under_way.pop_first();
        }
        self.under_way.insert(session, span);
    }

    /// The gateway is told where the session goes on.
    pub(crate) fn end(&mut self, session: SessionId, requests_lost: u64) {
        if let Some(span) = self.under_way.remove(&session) {
            span.record("requests_lost", requests_lost);
        }
    }

    /// Somebody else is to serve the session, or nobody.
    pub(crate) fn give_up(&mut self, session: SessionId) {
        if let Some(span) = self.under_way.remove(&session) {
            span.record("otel.status_code", "ERROR").record("error.type", "given up");
        }
    }
}
