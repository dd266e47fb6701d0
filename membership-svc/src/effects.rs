//! Performs the orders of the machine. Nothing here waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Address, Configuration, DaemonId, Time};
use proto::membership::v1 as pb;
use svc_kit::driver::Effects;
use tokio::sync::watch;

use crate::history::History;
use crate::status;
use crate::streams::Streams;
use crate::switchboard::{Order, Presence};
use crate::wire;

/// Where orders go.
pub struct Performer {
    /// Streams of daemons.
    pub daemons: Arc<Streams<pb::RegisterResponse>>,
    /// Links to servers.
    pub servers: Arc<Streams<pb::PeerMessage>>,
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
            Order::Notify { stream, notice } => self.daemons.send(stream, wire::notice(notice)),
            Order::Send { stream, message } => self.servers.send(stream, wire::peer_message(message)),
            Order::Reject { stream, daemon, reason } => {
                let (word, status) = status::of_daemon(reason);
                tracing::warn!(%daemon, reason = word, ?reason, "rejected a daemon");
                self.history.send_modify(|history| {
                    history.refuse(word);
                    history.depart(daemon, word.to_owned());
                });
                self.daemons.end(stream, status);
            }
            Order::Replace { stream } => {
                self.daemons.end(stream, status::replaced());
                self.servers.end(stream, status::replaced());
            }
            Order::Departed { daemon, cause } => {
                tracing::info!(%daemon, cause, "a daemon's stream ended");
                self.history.send_modify(|history| history.depart(daemon, cause));
            }
            Order::Refused { from, fault } => {
                let word = status::of_peer(fault);
                tracing::warn!(%from, reason = word, ?fault, "refused a server's message");
                self.history.send_modify(|history| history.refuse(word));
            }
            Order::Agreed { configuration, members } => self.agree(now, configuration, members),
        }
    }

    fn agree(
        &self,
        now: Time,
        configuration: Configuration,
        members: BTreeMap<DaemonId, (Address, Presence)>,
    ) {
        self.history.send_modify(|history| {
            let view = history.agree(now, configuration, members);
            let joined: Vec<_> = view.joined.iter().map(ToString::to_string).collect();
            let left: Vec<_> =
                view.left.iter().map(|(daemon, cause)| format!("{daemon} ({cause})")).collect();
            tracing::info!(
                configuration = %view.configuration.id,
                members = view.members.len(),
                joined = joined.join(", "),
                left = left.join(", "),
                "agreed"
            );
        });
    }
}
