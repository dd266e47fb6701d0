//! Performs the orders of the machine. Nothing here waits.

use std::sync::Arc;

use membership_core::Agreed;
use model::Time;
use proto::membership::v1 as pb;
use svc_kit::driver::Effects;
use tokio::sync::watch;

use crate::history::{self, History};
use crate::metrics::Measures;
use crate::status;
use crate::streams::Streams;
use crate::switchboard::Order;
use crate::traffic::Traffic;
use crate::wire;
use crate::wire::peers::peer_message;

/// Where orders go.
pub struct Performer {
    /// Streams of daemons.
    pub daemons: Arc<Streams<pb::RegisterResponse>>,
    /// Links to servers.
    pub servers: Arc<Streams<pb::PeerMessage>>,
    /// What was sent, counted.
    pub traffic: Arc<Traffic>,
    /// What is counted.
    pub measures: Arc<Measures>,
    /// For those who ask.
    pub history: watch::Sender<History>,
}

impl Effects<Order> for Performer {
    fn perform(&mut self, now: Time, orders: &mut Vec<Order>) {
        for order in orders.drain(..) {
            self.perform_one(now, order);
        }
    }
}

impl Performer {
    fn perform_one(&mut self, now: Time, order: Order) {
        match order {
            Order::Notify { stream, notice } => {
                self.traffic.to_daemon(&notice);
                self.daemons.send(stream, wire::notice(notice));
            }
            Order::Send { stream, message } => {
                self.traffic.to_server(&message);
                self.servers.send(stream, peer_message(message));
            }
            Order::Reject { stream, daemon, reason } => {
                let (word, status) = status::of_daemon(reason);
                tracing::warn!(%daemon, reason = word, ?reason, "rejected a daemon");
                self.history.send_modify(|history| history.refuse(word));
                self.daemons.end(stream, status);
            }
            Order::Beat { stream } => self.daemons.send(stream, wire::beat()),
            Order::HangUp { stream } => {
                tracing::warn!(stream = stream.0, "the other end has been silent for too long");
                self.daemons.end(stream, status::silent());
                self.servers.end(stream, status::silent());
            }
            Order::Replace { stream } => {
                self.daemons.end(stream, status::replaced());
                self.servers.end(stream, status::replaced());
            }
            Order::Departed { daemon, cause } => {
                tracing::info!(%daemon, cause, "a daemon's stream ended");
            }
            Order::Refused { from, fault } => {
                let word = status::of_peer(fault);
                tracing::warn!(%from, reason = word, ?fault, "refused a server's message");
                self.history.send_modify(|history| history.refuse(word));
            }
            Order::Agreed(agreed) => self.agree(now, agreed),
        }
    }

    fn agree(&self, now: Time, agreed: Agreed) {
        let cause = self.measures.agree(&agreed);
        self.history.send_modify(|history| {
            let view = history.agree(now, agreed);
            let configurations = &view.agreed.configurations;
            let ids: Vec<_> = configurations.iter().map(|it| it.id.to_string()).collect();
            let joined: Vec<_> = view.agreed.joined.iter().map(ToString::to_string).collect();
            let left: Vec<_> = view.agreed.left.iter().map(history::told).collect();
            tracing::info!(
                view_id = ids.join(", "),
                reason = cause,
                members = configurations.iter().map(|it| it.members.len()).sum::<usize>(),
                joined = joined.join(", "),
                left = left.join("; "),
                "agreed"
            );
        });
    }
}
