//! What is acknowledged stays: a gateway acknowledges a request once, after it accepted it from its client; some
//! replica has applied just that request by then; and every response that the gateway accepts from then on comes from
//! a context that contains it, unless a client attaches that does not have it. [FK:request-kept]

use std::collections::{BTreeMap, BTreeSet};

use model::trace::{Event, Role};
use model::{DaemonId, Digest, Fence, Name, ProcessId, SessionId};

use crate::property::{Breach, Position, Property, breach};

/// A session at one gateway.
#[derive(Default)]
struct Entry {
    open: BTreeMap<u64, Digest>,
    /// The greatest request acknowledged.
    acknowledged: Option<(u64, Position)>,
}

/// A response that was accepted after request `request` was acknowledged.
struct Accepted {
    request: u64,
    acknowledged: Position,
    at: Position,
}

/// A session among its servers.
#[derive(Default)]
struct Session {
    servers: BTreeSet<ProcessId>,
    primaries: BTreeMap<Fence, ProcessId>,
    applied: BTreeSet<(u64, Digest)>,
    acknowledged: BTreeMap<(u64, Digest), Position>,
    /// The most requests that a response under a fence is known to come after.
    covered: BTreeMap<Fence, BTreeMap<u64, u64>>,
    uncovered: BTreeMap<(Fence, u64), Accepted>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct AcknowledgedRequests {
    gateways: BTreeMap<Name, BTreeMap<SessionId, Entry>>,
    sessions: BTreeMap<SessionId, Session>,
    gone: BTreeSet<ProcessId>,
}

impl Property for AcknowledgedRequests {
    fn name(&self) -> &'static str {
        "acknowledged_requests"
    }

    fn claim(&self) -> &'static str {
        "FK:request-kept"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Role { server, session, fence, role, .. } => {
                let session = self.sessions.entry(*session).or_default();
                session.servers.insert(*server);
                if *role == Role::Primary {
                    session.primaries.insert(*fence, *server);
                }
            }
            Event::Apply { session, request, digest, .. } => {
                self.sessions.entry(*session).or_default().applied.insert((*request, *digest));
            }
            Event::Respond { session, fence, response, requests, .. } => {
                self.sessions.entry(*session).or_default().sends(*fence, *response, *requests);
            }
            Event::Submit { gateway, session, request, digest } => {
                self.entry(*gateway, *session).open.insert(*request, *digest);
            }
            Event::Seat { gateway, session, requests, .. } => {
                let entry = self.entry(*gateway, *session);
                entry.acknowledged = entry.acknowledged.filter(|(request, _)| request <= requests);
            }
            Event::Acknowledge { gateway, session, request } => {
                let entry = self.entry(*gateway, *session);
                let Some(digest) = entry.open.remove(request) else {
                    return breach(
                        &[at],
                        format!(
                            "{gateway} acknowledged request {request} of {session}, which waited for nothing"
                        ),
                    );
                };
                if entry.acknowledged.is_none_or(|(greatest, _)| greatest < *request) {
                    entry.acknowledged = Some((*request, at));
                }
                self.sessions.entry(*session).or_default().acknowledged.insert((*request, digest), at);
            }
            Event::Accept { gateway, session, fence, response, .. } => {
                if let Some((request, acknowledged)) = self.entry(*gateway, *session).acknowledged {
                    let accepted = Accepted { request, acknowledged, at };
                    self.sessions.entry(*session).or_default().accepts(*fence, *response, accepted);
                }
            }
            Event::GatewayCrash { gateway } => {
                self.gateways.remove(gateway);
            }
            Event::Release { gateway, session } => {
                self.gateways.entry(*gateway).or_default().remove(session);
            }
            Event::Detach { process } => {
                self.gone.insert(*process);
            }
            Event::Quiescent { daemons, .. } => {
                for (id, session) in &self.sessions {
                    session.comes_to_rest(*id, |server| self.is_alive(server, daemons))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl AcknowledgedRequests {
    fn entry(&mut self, gateway: Name, session: SessionId) -> &mut Entry {
        self.gateways.entry(gateway).or_default().entry(session).or_default()
    }

    fn is_alive(&self, server: &ProcessId, daemons: &[DaemonId]) -> bool {
        daemons.contains(&server.daemon()) && !self.gone.contains(server)
    }
}

impl Session {
    fn sends(&mut self, fence: Fence, response: u64, requests: u64) {
        let covered = self.covered.entry(fence).or_default().entry(response).or_default();
        *covered = requests.max(*covered);
        if self.uncovered.get(&(fence, response)).is_some_and(|accepted| accepted.request <= requests) {
            self.uncovered.remove(&(fence, response));
        }
    }

    fn accepts(&mut self, fence: Fence, response: u64, accepted: Accepted) {
        let covered = self.covered.get(&fence).and_then(|responses| responses.get(&response));
        if covered.is_none_or(|covered| *covered < accepted.request) {
            self.uncovered.insert((fence, response), accepted);
        }
    }

    fn comes_to_rest(&self, id: SessionId, alive: impl Fn(&ProcessId) -> bool) -> Result<(), Breach> {
        for ((fence, response), accepted) in &self.uncovered {
            if let Some(server) = self.primaries.get(fence).filter(|server| alive(server)) {
                return breach(
                    &[accepted.acknowledged, accepted.at],
                    format!(
                        "{server} sent response {response} of {id} from a context without request {}, which had been \
                         acknowledged",
                        accepted.request
                    ),
                );
            }
        }
        if !self.servers.iter().all(alive) {
            return Ok(());
        }
        let mut acknowledged = self.acknowledged.iter();
        match acknowledged.find(|(request, _)| !self.applied.contains(request)) {
            Some(((request, _), at)) => {
                breach(&[*at], format!("request {request} of {id} was acknowledged, but nobody applied it"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["acknowledged_requests"];
    let open = Script::new().forms(1, "a b").attaches("a/1 b/1").opens("gw").primary("a/1", 1);
    let asked = open.client_attaches(0).submits("gw", 1);
    let applied = asked.clone().applies("a/1", 1, 1).acknowledges("gw", 1);
    vec![
        rejected(
            "a request that nobody submitted is acknowledged",
            only,
            applied.clone().acknowledges("gw", 2),
        ),
        rejected("a request is acknowledged twice", only, applied.clone().acknowledges("gw", 1)),
        rejected(
            "nobody applied the request",
            only,
            asked.clone().acknowledges("gw", 1).quiescent_open("a b"),
        ),
        rejected("another request was applied under its number", only, {
            let other = asked.clone().applies("a/1", 1, 1).but(|event| {
                if let Event::Apply { digest, .. } = event {
                    *digest = Digest::EMPTY;
                }
            });
            other.acknowledges("gw", 1).quiescent_open("a b")
        }),
        rejected("the next primary goes on without it", only, {
            let taken_over = applied.clone().detaches("a/1").primary("b/1", 2);
            taken_over.streams("b/1", 2, "gw", 1..=1, 0).quiescent_open("a b")
        }),
        accepted("a gateway that crashes forgets what it acknowledged", {
            let taken_over =
                applied.clone().gateway_crashes("gw").role("a/1", 2, Role::None).primary("b/1", 2);
            taken_over.streams("b/1", 2, "gw", 1..=1, 0).quiescent_open("a b")
        }),
        accepted("a client that does not have it attaches again, and has to send it again", {
            let taken_over = applied.clone().seats("gw", 0, 0).role("a/1", 2, Role::None).primary("b/1", 2);
            taken_over.streams("b/1", 2, "gw", 1..=1, 0).quiescent_open("a b")
        }),
        rejected("a client that has it attaches again, and the next primary goes on without it", only, {
            let taken_over = applied.clone().seats("gw", 0, 1).role("a/1", 2, Role::None).primary("b/1", 2);
            taken_over.streams("b/1", 2, "gw", 1..=1, 0).quiescent_open("a b")
        }),
        accepted("a gateway that releases the session forgets what it acknowledged", {
            let taken_over = applied.clone().releases("gw").role("a/1", 2, Role::None).primary("b/1", 2);
            taken_over.streams("b/1", 2, "gw", 1..=1, 0).quiescent_open("a b")
        }),
        accepted("the next primary goes on with it", {
            let taken_over = applied.role("a/1", 2, Role::None).primary("b/1", 2);
            taken_over.streams("b/1", 2, "gw", 1..=1, 1).quiescent_open("a b")
        }),
        accepted("the one who applied it is killed, and the end of what it wrote is missing", {
            let gone = asked.acknowledges("gw", 1).detaches("a/1").primary("b/1", 2);
            gone.streams("b/1", 2, "gw", 1..=1, 1).quiescent_open("a b")
        }),
    ]
}
