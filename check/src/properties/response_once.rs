//! A client receives each response once, in order and without a gap: after it attached with everything up to `n`, the
//! next is `n + 1`. A gateway accepts responses in the same way, and starts elsewhere only when a client attaches
//! there. A response is the same whenever it is received. [FK:exactly-once]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{Digest, Name, SessionId};

use crate::property::{Breach, Position, Property, breach};

/// The client's end of a session.
#[derive(Default)]
struct Client {
    last: u64,
    received: BTreeMap<u64, (Digest, Position)>,
    /// How often the client attached, by what it had then.
    attached: BTreeMap<u64, usize>,
    /// Where gateways accepted a response that did not follow the one before.
    restarts: BTreeMap<u64, Vec<Position>>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct ResponseOnce {
    clients: BTreeMap<SessionId, Client>,
    accepted: BTreeMap<Name, BTreeMap<SessionId, u64>>,
}

impl Property for ResponseOnce {
    fn name(&self) -> &'static str {
        "response_once"
    }

    fn claim(&self) -> &'static str {
        "FK:exactly-once"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::ClientAttach { session, after } => {
                let client = self.clients.entry(*session).or_default();
                client.last = *after;
                *client.attached.entry(*after).or_default() += 1;
                Ok(())
            }
            Event::ClientReceive { session, response, digest } => {
                self.clients.entry(*session).or_default().receives(at, *session, *response, *digest)
            }
            Event::Accept { gateway, session, response, .. } => {
                let last = self.accepted.entry(*gateway).or_default().insert(*session, *response);
                if last.map(|last| last + 1) != Some(*response) {
                    let client = self.clients.entry(*session).or_default();
                    client.restarts.entry(*response).or_default().push(at);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), Breach> {
        for (session, client) in &self.clients {
            // A client that writes no trace of its own leaves nothing to compare with.
            if client.attached.is_empty() {
                continue;
            }
            for (response, restarts) in &client.restarts {
                let attached = response.checked_sub(1).and_then(|after| client.attached.get(&after));
                // An open session may get its first response before its client attaches.
                let allowed = attached.copied().unwrap_or_default().max(usize::from(*response == 1));
                if let Some(at) = restarts.get(allowed) {
                    return breach(
                        &[*at],
                        format!("a gateway accepted response {response} of {session} out of turn"),
                    );
                }
            }
        }
        Ok(())
    }
}

impl Client {
    fn receives(
        &mut self,
        at: Position,
        session: SessionId,
        response: u64,
        digest: Digest,
    ) -> Result<(), Breach> {
        if response != self.last + 1 {
            let last = self.last;
            return breach(
                &[at],
                format!("the client of {session} received response {response} after {last}"),
            );
        }
        self.last = response;
        let (first, before) = self.received.entry(response).or_insert((digest, at));
        if *first != digest {
            return breach(
                &[*before, at],
                format!("response {response} of {session} is not what it was before"),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["response_once"];
    let open = Script::new().forms(1, "a").attaches("a/1").opens("gw").primary("a/1", 1).client_attaches(0);
    let three = open.streams("a/1", 1, "gw", 1..=3, 0);
    let other_digest = |event: &mut Event| {
        if let Event::ClientReceive { digest, .. } = event {
            *digest = Digest::EMPTY;
        }
    };
    vec![
        rejected("a response is repeated", only, three.clone().client_receives(3)),
        rejected("a response is lost", only, three.clone().client_receives(5)),
        rejected("a response is repeated after the client attached", only, {
            three.clone().client_attaches(3).client_receives(3)
        }),
        rejected("the gateway accepts a response again", only, three.clone().accepts("gw", 1, 3)),
        rejected("the gateway accepts a response too early", only, three.clone().accepts("gw", 1, 5)),
        rejected(
            "a response changes",
            only,
            three.clone().client_attaches(2).client_receives(3).but(other_digest),
        ),
        accepted(
            "a client that lost what it received last gets it again elsewhere",
            three.clone().client_attaches(1).streams("a/1", 1, "gw2", 2..=4, 0),
        ),
        accepted(
            "the client goes on elsewhere with what it has",
            three.client_attaches(3).streams("a/1", 1, "gw2", 4..=5, 0),
        ),
    ]
}
