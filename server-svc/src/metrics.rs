//! What a content server counts, and what it looks up when somebody wants to see its metrics.

use std::sync::Arc;
use std::time::Duration;

use model::trace::Role;
use session_core::Server;
use svc_kit::driver::{Clock, Handle};
use svc_kit::metrics::{Counter, Counters, Gauge, Gauges, Metrics, SecondsGauge, whole};

use crate::Service;

/// The metrics of a content server.
#[derive(Debug)]
pub(crate) struct Measures {
    /// Messages of group members and of gateways that made no sense.
    pub(crate) refused: Counter,
    /// Responses on their way to gateways.
    pub(crate) responses: Counter,
    /// Messages to groups.
    pub(crate) multicasts: Counter,
    /// Streams to gateways that ended although they were wanted.
    pub(crate) gateways_lost: Counter,
    /// Attachments to a daemon that ended, by reason.
    pub(crate) detachments: Counters,
    roles: Counters,
    stalls: Counters,
    sessions: Gauges,
    units: Gauge,
    attached: Gauge,
    context_age: SecondsGauge,
}

/// All roles, so that one that nobody has is seen as a zero.
const ROLES: [Role; 3] = [Role::Primary, Role::Backup, Role::None];

impl Measures {
    pub(crate) fn new(to: &mut Metrics) -> Measures {
        Measures {
            refused: to.counter("server_refused_messages", "Messages that made no sense, and were ignored"),
            responses: to.counter("responses_sent", "Responses sent to gateways"),
            multicasts: to.counter("server_multicasts", "Messages multicast to groups"),
            gateways_lost: to.counter("server_gateway_streams_lost", "Streams to gateways that broke"),
            detachments: to.counters(
                "server_detachments",
                "Times that the daemon was lost, by reason",
                "reason",
                &["lost", "overflow", "hang"],
            ),
            roles: to.counters(
                "role_changes",
                "Sessions in which this server's role changed, by its new role",
                "role",
                &ROLES.map(word),
            ),
            stalls: to.counters(
                "stalls",
                "Primaries that said nothing for too long, by what became of it",
                "outcome",
                &["moved", "stays"],
            ),
            sessions: to.gauges("sessions", "Sessions of the units held here, by this server's role"),
            units: to.gauge("units", "Content units held here"),
            attached: to.gauge("server_attached", "Whether it is attached to its daemon: 1 or 0"),
            context_age: to.add(
                "context_age_seconds",
                "For how long contexts have changed of which other servers do not know",
                SecondsGauge::default(),
            ),
        }
    }

    /// This server's part in a session changed.
    pub(crate) fn change_role(&self, role: Role) {
        self.roles.get_or_create(&[("role", word(role))]).inc();
    }

    /// A primary said nothing for too long.
    pub(crate) fn stall(&self, is_moved: bool) {
        let outcome = if is_moved { "moved" } else { "stays" };
        self.stalls.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Looks up how the machine is.
    pub(crate) async fn look<S: Service>(self: Arc<Self>, machine: Handle<Server<S>>, clock: Clock) {
        let seen = machine.ask(move |server| {
            let mut by_role = ROLES.map(|_| 0);
            for session in server.sessions() {
                if let Some(at) = ROLES.iter().position(|role| *role == session.role) {
                    by_role[at] += 1;
                }
            }
            let context_age = server.untold_since().map_or(Duration::ZERO, |since| clock.now().since(since));
            (by_role, server.databases().count(), server.me().is_some(), context_age)
        });
        // One that has stopped is about to end.
        let Ok((by_role, units, is_attached, context_age)) = seen.await else { return };
        for (role, count) in ROLES.into_iter().zip(by_role) {
            self.sessions.get_or_create(&[("role", word(role))]).set(whole(count));
        }
        self.units.set(whole(units));
        self.attached.set(is_attached.into());
        self.context_age.set(context_age.as_secs_f64());
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Backup => "backup",
        Role::None => "none",
    }
}
