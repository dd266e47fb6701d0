//! What the gateway counts, and what it looks up when somebody wants to see its metrics.

use std::sync::Arc;

use session_core::Gateway;
use session_core::gateway::{Change, Failure, Reply};
use svc_kit::driver::Handle;
use svc_kit::metrics::{Counter, Counters, Family, Gauge, Gauges, Histogram, Labels, Metrics, whole};

use crate::status::{TOO_MANY_CALLS, TOO_MANY_CONNECTIONS, reason_of};

/// The metrics of a gateway.
#[derive(Debug)]
pub(crate) struct Measures {
    /// Messages of servers that were out of date.
    pub(crate) stale: Counter,
    /// Messages of servers that were malformed, and hellos that were refused.
    pub(crate) refused: Counter,
    /// Servers that were told that a session is another one's.
    pub(crate) fenced: Counter,
    /// Responses that clients were passed.
    pub(crate) responses: Counter,
    /// Multicasts that found no room, and are repeated.
    pub(crate) late_multicasts: Counter,
    /// Clients that attached, by what they brought.
    pub(crate) attaches: Counters,
    /// Streams of clients that this gateway ended, by reason.
    pub(crate) stream_ends: Counters,
    /// Calls beyond what a client may make.
    pub(crate) too_many_calls: Counter,
    /// Connections beyond what a host may have.
    pub(crate) too_many_connections: Counter,
    skipped: Counter,
    resent: Counter,
    replies: Counters,
    refusals: Counters,
    rejections: Counters,
    migrations: Family<Labels<2>, Counter>,
    gap: Histogram,
    requests_lost: Counter,
    sessions: Gauges,
    streams: Gauge,
    buffered: Gauge,
    servers: Gauge,
}

impl Measures {
    pub(crate) fn new(to: &mut Metrics) -> Measures {
        let migrations: Family<Labels<2>, Counter> = to.add(
            "session_migrations",
            "Clients that another server serves than before, by reason and outcome",
            Family::default(),
        );
        for why in [Change::Lost, Change::Suspended, Change::Stalled, Change::Moved] {
            for outcome in ["complete", "requests_lost"] {
                drop(migrations.get_or_create(&[("reason", cause(why)), ("outcome", outcome)]));
            }
        }
        let rejections = to.counters(
            "admission_rejected",
            "Calls and connections that were refused at a limit, by reason",
            "reason",
            &["TOO_MANY_SESSIONS", "TOO_MANY_REQUESTS", TOO_MANY_CALLS, TOO_MANY_CONNECTIONS],
        );
        Measures {
            stale: to
                .counter("responses_deduplicated", "Messages of servers that were out of date, and ignored"),
            refused: to.counter("gateway_refused_messages", "Messages of servers that made no sense"),
            fenced: to
                .counter("primary_conflicts", "Servers that were told that a session has another primary"),
            responses: to.counter("responses_delivered", "Responses that clients were passed"),
            skipped: to.counter("responses_skipped", "Responses that were left out when a server took over"),
            resent: to.counter("responses_resent", "Responses that came again when a server took over"),
            late_multicasts: to.counter("gateway_late_multicasts", "Multicasts that have to be repeated"),
            attaches: to.counters(
                "gateway_attaches",
                "Clients that attached, by where they go on from",
                "from",
                &["beginning", "cursor", "anywhere"],
            ),
            stream_ends: to.counters(
                "gateway_stream_ends",
                "Streams of clients that were ended, by reason",
                "reason",
                &[
                    "DRAINING",
                    "CLIENT_TOO_SLOW",
                    "DISPLACED",
                    "NO_REPLICA",
                    "SESSION_ENDED",
                    "SERVICE_FAILED",
                    "UNKNOWN_SESSION",
                ],
            ),
            replies: to.counters(
                "gateway_replies",
                "Calls that were answered well, by what they asked for",
                "call",
                &["list", "create", "attach", "request", "close"],
            ),
            refusals: to.counters(
                "gateway_refusals",
                "Calls that were refused, by reason",
                "reason",
                &[
                    "NO_REPLICA",
                    "UNKNOWN_SESSION",
                    "TOO_MANY_SESSIONS",
                    "TOO_MANY_REQUESTS",
                    "REQUEST_REFUSED",
                ],
            ),
            too_many_connections: rejections.get_or_create_owned(&[("reason", TOO_MANY_CONNECTIONS)]),
            too_many_calls: rejections.get_or_create_owned(&[("reason", TOO_MANY_CALLS)]),
            rejections,
            migrations,
            gap: to
                .seconds("migration_gap_seconds", "How long a client heard nothing when its server changed"),
            requests_lost: to.counter("takeover_requests_lost", "Acknowledged requests that were lost"),
            sessions: to.gauges("gateway_sessions", "Sessions at this gateway, by who is there for them"),
            streams: to.gauge("gateway_streams", "Attached clients"),
            buffered: to.gauge("gateway_buffer_bytes", "Bytes that wait for clients to take them"),
            servers: to.gauge("gateway_servers", "Content servers whose streams are open"),
        }
    }

    /// A call is answered.
    pub(crate) fn answer(&self, reply: &Result<Reply, Failure>) {
        let failure = match reply {
            Ok(reply) => {
                self.replies.get_or_create(&[("call", called(reply))]).inc();
                return;
            }
            Err(failure) => failure,
        };
        let why = [("reason", reason_of(failure))];
        self.refusals.get_or_create(&why).inc();
        if matches!(failure, Failure::TooManySessions { .. } | Failure::TooManyRequests { .. }) {
            self.rejections.get_or_create(&why).inc();
        }
    }

    /// A client's stream is ended.
    pub(crate) fn end(&self, failure: &Failure) {
        self.stream_ends.get_or_create(&[("reason", reason_of(failure))]).inc();
    }

    /// A stream goes on after another response than the last one.
    pub(crate) fn displace(&self, before: u64, after: u64) {
        self.skipped.inc_by(after.saturating_sub(before));
        self.resent.inc_by(before.saturating_sub(after));
    }

    /// Another server serves a client.
    pub(crate) fn take_over(&self, why: Change, gap: std::time::Duration, requests_lost: u64) {
        let outcome = if requests_lost > 0 { "requests_lost" } else { "complete" };
        self.migrations.get_or_create(&[("reason", cause(why)), ("outcome", outcome)]).inc();
        self.gap.observe(gap.as_secs_f64());
        self.requests_lost.inc_by(requests_lost);
    }

    /// Looks up how the machine is.
    pub(crate) async fn look(self: Arc<Self>, machine: Handle<Gateway>) {
        let seen = machine.ask(|gateway| {
            let mut seen = Seen { servers: gateway.servers().count(), ..Seen::default() };
            for session in gateway.sessions() {
                seen.buffered = seen.buffered.saturating_add(session.buffered);
                match (session.attached, session.server) {
                    (true, Some(_)) => seen.served += 1,
                    (true, None) => seen.waiting += 1,
                    (false, _) => seen.detached += 1,
                }
            }
            seen
        });
        // One that has stopped is about to end.
        let Ok(seen) = seen.await else { return };
        for (state, count) in
            [("served", seen.served), ("waiting", seen.waiting), ("detached", seen.detached)]
        {
            self.sessions.get_or_create(&[("state", state)]).set(whole(count));
        }
        self.streams.set(whole(seen.served + seen.waiting));
        self.servers.set(whole(seen.servers));
        self.buffered.set(i64::try_from(seen.buffered).unwrap_or(i64::MAX));
    }
}

#[derive(Default)]
struct Seen {
    served: usize,
    waiting: usize,
    detached: usize,
    servers: usize,
    buffered: u64,
}

fn called(reply: &Reply) -> &'static str {
    match reply {
        Reply::Units(_) => "list",
        Reply::Opened => "create",
        Reply::Attached(_) => "attach",
        Reply::Applied { .. } => "request",
        Reply::Closed => "close",
    }
}

/// Why a session has another server, in a word.
pub(crate) fn cause(why: Change) -> &'static str {
    match why {
        Change::Lost => "lost",
        Change::Suspended => "suspended",
        Change::Stalled => "stalled",
        Change::Moved => "moved",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_and_what_comes_again_are_counted_apart() {
        let mut metrics = Metrics::new("gateway", "test".parse().unwrap(), "gateway-1".parse().unwrap());
        let measures = Measures::new(&mut metrics);
        measures.displace(4, 1);
        measures.displace(2, 4);
        assert_eq!((measures.resent.get(), measures.skipped.get()), (3, 2));
    }
}
