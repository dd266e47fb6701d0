//! Nobody waits in vain: in a quiescent run no request of a client waits for its acknowledgement. [KK:liveness]

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{Name, SessionId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct AnsweredRequests {
    /// Requests that wait for their acknowledgement.
    waiting: BTreeMap<(SessionId, Name), BTreeMap<u64, Position>>,
    closed: BTreeSet<SessionId>,
}

impl Property for AnsweredRequests {
    fn name(&self) -> &'static str {
        "answered_requests"
    }

    fn claim(&self) -> &'static str {
        "KK:liveness"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Submit { gateway, session, request, .. } => {
                self.waiting.entry((*session, *gateway)).or_default().insert(*request, at);
            }
            Event::Acknowledge { gateway, session, request } => {
                self.waiting.entry((*session, *gateway)).or_default().remove(request);
            }
            Event::Release { gateway, session } => {
                self.waiting.remove(&(*session, *gateway));
            }
            Event::GatewayCrash { gateway } => self.waiting.retain(|(_, at), _| at != gateway),
            Event::Close { session, .. } => {
                self.closed.insert(*session);
            }
            Event::Quiescent { .. } => {
                let open = self.waiting.iter().filter(|((session, _), _)| !self.closed.contains(session));
                for ((session, gateway), requests) in open {
                    if let Some((request, since)) = requests.first_key_value() {
                        return breach(
                            &[*since, at],
                            format!(
                                "request {request} of {session} still waits at {gateway} to be acknowledged"
                            ),
                        );
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let two = Script::new().forms(1, "a b");
    let served = two.attaches("a/1").opens("gw").primary("a/1", 1).client_attaches(0).submits("gw", 1);
    vec![
        rejected(
            "a request is never acknowledged",
            &["answered_requests"],
            served.clone().quiescent_open("a b"),
        ),
        accepted("the session with the request is closed", served.clone().closes("gw").quiescent("a b")),
        accepted(
            "the gateway with the request is gone",
            served.clone().gateway_crashes("gw").client_attaches(0).quiescent_open("a b"),
        ),
        accepted("the request is submitted again elsewhere", {
            let moved = served.client_attaches(0).submits("gw2", 1).releases("gw").applies("a/1", 1, 1);
            moved.acknowledges("gw2", 1).quiescent_open("a b")
        }),
    ]
}
