//! What a membership server counts, and what it looks up when somebody wants to see its metrics.

use std::sync::Arc;

use membership_core::{Agreed, Leave};
use svc_kit::metrics::{Counter, Counters, Family, Gauge, Labels, Metrics, set_total, whole};

use crate::line::Line;

/// The metrics of a membership server.
#[derive(Debug)]
pub struct Measures {
    agreements: Counters,
    departures: Counters,
    refused: Counters,
    sent: Family<Labels<2>, Counter>,
    daemons: Gauge,
    attached: Gauge,
    linked: Gauge,
    configurations: Gauge,
    barred: Gauge,
    troubles: Gauge,
}

impl Measures {
    /// All of them at zero.
    pub fn new(to: &mut Metrics) -> Measures {
        Measures {
            agreements: to.counters(
                "membership_agreements",
                "Agreements on who is there, by what changed",
                "cause",
                &["joined", "left", "both", "same"],
            ),
            departures: to.counters(
                "membership_departures",
                "Daemons that left, by what became of their streams",
                "cause",
                &[
                    "goodbye",
                    "closed",
                    "silent",
                    "barred",
                    "superseded",
                    "rejected",
                    "server_lost",
                    "unknown",
                ],
            ),
            refused: to.counters(
                "membership_refused_messages",
                "What was refused, by reason",
                "reason",
                &["SUPERSEDED", "BARRED", "TOO_MANY_DAEMONS", "OLD_VERSION"],
            ),
            sent: to.add("membership_messages", "Messages sent, by receiver and kind", Family::default()),
            daemons: to.gauge("membership_daemons", "Daemons in a configuration"),
            attached: to.gauge("membership_attached", "Daemons that are attached to this server"),
            linked: to.gauge("membership_linked_servers", "Other servers that this one has a link with"),
            configurations: to.gauge("membership_configurations", "Configurations that there are at a time"),
            barred: to.gauge("membership_barred", "Daemons that operators keep out"),
            troubles: to.gauge("membership_warnings", "Servers with which something is wrong"),
        }
    }

    /// Servers agreed. Returns what changed, in a word.
    pub fn agree(&self, agreed: &Agreed) -> &'static str {
        let cause = match (agreed.left.is_empty(), agreed.joined.is_empty()) {
            (false, false) => "both",
            (false, true) => "left",
            (true, false) => "joined",
            (true, true) => "same",
        };
        self.agreements.get_or_create(&[("cause", cause)]).inc();
        for departure in &agreed.left {
            self.departures.get_or_create(&[("cause", word(departure.leave))]).inc();
        }
        cause
    }

    /// Looks up how the server is.
    pub async fn look(self: Arc<Self>, line: Arc<Line>) {
        for (to, counts) in [("server", line.traffic.servers()), ("daemon", line.traffic.daemons())] {
            for (kind, count) in counts {
                set_total(&self.sent.get_or_create(&[("to", to), ("kind", kind)]), count);
            }
        }
        {
            let history = line.history.borrow();
            for (reason, count) in &history.refused {
                set_total(&self.refused.get_or_create(&[("reason", reason)]), *count);
            }
            let newest = history.views.front().map(|view| &view.agreed.configurations);
            let members = |it: &Vec<model::Configuration>| it.iter().map(|one| one.members.len()).sum();
            self.configurations.set(whole(newest.map_or(0, Vec::len)));
            self.daemons.set(whole(newest.map_or(0, members)));
        }
        let now = line.clock.now();
        let seen = line.machine.ask(move |board| {
            let linked: Vec<_> = board.linked().collect();
            (board.attached().count(), linked, board.server().barred(now).count())
        });
        // One that has stopped is about to end.
        let Ok((attached, linked, barred)) = seen.await else { return };
        self.attached.set(whole(attached));
        self.linked.set(whole(linked.len()));
        self.barred.set(whole(barred));
        self.troubles.set(whole(line.warnings(&linked).len()));
    }
}

/// What became of a daemon's stream, in a word.
fn word(leave: Option<Leave>) -> &'static str {
    match leave {
        Some(Leave::Goodbye) => "goodbye",
        Some(Leave::Closed) => "closed",
        Some(Leave::Silent(_)) => "silent",
        Some(Leave::Barred) => "barred",
        Some(Leave::Superseded) => "superseded",
        Some(Leave::Rejected) => "rejected",
        Some(Leave::ServerLost(_)) => "server_lost",
        None => "unknown",
    }
}
