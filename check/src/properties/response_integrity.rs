//! A gateway accepts only what the server that holds the fence sent under it, and a client receives only what a gateway
//! accepted for its session. [FK:response-integrity]
//!
//! That a record is missing counts only in a quiescent run, if the server is alive then; for gateways, if none
//! crashed.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::{Event, Role};
use model::{DaemonId, Digest, Fence, ProcessId, SessionId};

use crate::property::{Breach, Position, Property, breach};

/// The responses of a session. What has found its match is not kept twice.
#[derive(Default)]
struct Session {
    primaries: BTreeMap<Fence, ProcessId>,
    sent: BTreeSet<(Fence, u64, Digest)>,
    accepted: BTreeSet<(u64, Digest)>,
    accepted_unsent: BTreeMap<(Fence, u64, Digest), Position>,
    received_unaccepted: BTreeMap<(u64, Digest), Position>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct ResponseIntegrity {
    sessions: BTreeMap<SessionId, Session>,
    gone: BTreeSet<ProcessId>,
    gateways_crashed: bool,
}

impl Property for ResponseIntegrity {
    fn name(&self) -> &'static str {
        "response_integrity"
    }

    fn claim(&self) -> &'static str {
        "FK:response-integrity"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Role { server, session, fence, role: Role::Primary, .. } => {
                self.sessions.entry(*session).or_default().primaries.insert(*fence, *server);
            }
            Event::Respond { session, fence, response, digest, .. } => {
                let session = self.sessions.entry(*session).or_default();
                let key = (*fence, *response, *digest);
                session.accepted_unsent.remove(&key);
                session.sent.insert(key);
            }
            Event::Accept { session, fence, response, digest, .. } => {
                let session = self.sessions.entry(*session).or_default();
                let key = (*fence, *response, *digest);
                if !session.sent.contains(&key) {
                    session.accepted_unsent.entry(key).or_insert(at);
                }
                session.received_unaccepted.remove(&(*response, *digest));
                session.accepted.insert((*response, *digest));
            }
            Event::ClientReceive { session, response, digest } => {
                let session = self.sessions.entry(*session).or_default();
                if !session.accepted.contains(&(*response, *digest)) {
                    session.received_unaccepted.entry((*response, *digest)).or_insert(at);
                }
            }
            Event::Detach { process } => {
                self.gone.insert(*process);
            }
            Event::GatewayCrash { .. } => self.gateways_crashed = true,
            Event::Quiescent { daemons, .. } => self.come_to_rest(daemons)?,
            _ => {}
        }
        Ok(())
    }
}

impl ResponseIntegrity {
    fn come_to_rest(&self, daemons: &[DaemonId]) -> Result<(), Breach> {
        let alive = |server: &ProcessId| daemons.contains(&server.daemon()) && !self.gone.contains(server);
        for (id, session) in &self.sessions {
            for ((fence, response, _), at) in &session.accepted_unsent {
                if let Some(server) = session.primaries.get(fence).filter(|server| alive(server)) {
                    return breach(
                        &[*at],
                        format!(
                            "response {response} of {id} was accepted under {fence}, but {server} never sent it"
                        ),
                    );
                }
            }
            if let Some(((response, _), at)) = session.received_unaccepted.first_key_value()
                && !self.gateways_crashed
            {
                return breach(
                    &[*at],
                    format!("the client of {id} received response {response}, which no gateway accepted"),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["response_integrity"];
    let open = Script::new().forms(1, "a").attaches("a/1").opens("gw").primary("a/1", 1).client_attaches(0);
    let one = open.streams("a/1", 1, "gw", 1..=1, 0);
    let other_digest = |event: &mut Event| match event {
        Event::ClientReceive { digest, .. } | Event::Accept { digest, .. } => *digest = Digest::EMPTY,
        _ => unreachable!("only what was passed on is spoilt"),
    };
    vec![
        rejected("nobody sent what the gateway accepts", only, {
            one.clone().accepts("gw", 1, 2).client_receives(2).quiescent_open("a")
        }),
        rejected("the gateway accepts other bytes than were sent", only, {
            one.clone().responds("a/1", 1, 2, 0).accepts("gw", 1, 2).but(other_digest).quiescent_open("a")
        }),
        rejected("the client receives other bytes than were accepted", only, {
            let accepted = one.clone().responds("a/1", 1, 2, 0).accepts("gw", 1, 2);
            accepted.client_receives(2).but(other_digest).quiescent_open("a")
        }),
        accepted("the end of what a killed server wrote is missing", {
            one.clone().accepts("gw", 1, 2).client_receives(2).detaches("a/1").quiescent("a")
        }),
        accepted("the end of what a killed gateway wrote is missing", {
            one.responds("a/1", 1, 2, 0).client_receives(2).gateway_crashes("gw").quiescent("a")
        }),
    ]
}
