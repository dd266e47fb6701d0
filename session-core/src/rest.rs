//! A primary that has nothing to send for a while says so: to its gateway, silence beyond that means that it hangs
//! ([ADR 14](../../docs/adr/0014-gateways-watch-primaries-say-when-they-rest.md)).

use core::time::Duration;

use model::Time;

use crate::held::{Held, Scene, Serving};
use crate::message::ToGateway;

/// Rests of up to this time are nobody's business. Much shorter than the patience of any gateway.
pub(crate) const REST_MIN: Duration = Duration::from_secs(1);

/// Whether a primary has nothing to send to a client that would take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It has, or it will soon, or the client takes nothing.
    No,
    /// It has nothing since then.
    Since(Time),
    /// Its gateway knows, and that there is something again at that time, if there is any such time.
    Told(Option<Time>),
}

impl Rest {
    /// When the gateway is to be told.
    pub(crate) fn deadline(self) -> Option<Time> {
        match self {
            Rest::Since(since) => Some(since + REST_MIN),
            Rest::No | Rest::Told(_) => None,
        }
    }
}

impl<C> Held<C> {
    /// Whether something is to be sent now, as far as the service said.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        matches!(self.serving, Serving::Streaming { due: Some(due), .. } if due <= now)
    }

    /// Tells the gateway, once the primary has had nothing to send for a while, that it rests.
    pub(crate) fn rest<S>(&mut self, now: Time, scene: &mut Scene<'_, S>) {
        let Serving::Streaming { stream, room, due } = self.serving else {
            self.rest = Rest::No;
            return;
        };
        let rests = room.is_left(self.replica.responses)
            && self.pipeline.is_idle()
            && due.is_none_or(|due| due > now + REST_MIN);
        self.rest = match self.rest {
            _ if !rests => Rest::No,
            Rest::Since(since) if since + REST_MIN <= now => {
                let (session, time) = (scene.session, due.map(|due| due.since(now)));
                scene.send.push(ToGateway::Rests { session, stream, time });
                Rest::Told(due)
            }
            Rest::Told(until) if until == due => Rest::Told(until),
            Rest::No | Rest::Told(_) => Rest::Since(now),
            Rest::Since(since) => Rest::Since(since),
        };
    }
}
