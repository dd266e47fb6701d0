//! A client receives each response once, in order and without a gap: after it attached with everything up to `n`, the
//! next is `n + 1`. A gateway accepts responses in the same way, and starts elsewhere only when a client attaches
//! there. A response is the same whenever it is received. [FK:exactly-once]
//!
//! With output commit, another response under the same number counts if some member of the session group should have
//! known better: it was given the first one, or, where that was to be safe, the one before it, and whoever sent the first one
//! never lost it. If all such members are gone, nobody remembers; where servers part, each side may have its own response,
//! whether they come together again or not. What follows on a response that nobody remembers is lost with it.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::{Event, Role};
use model::{Digest, Level, Name, ProcessId, SessionId};

use crate::property::{Breach, Position, Property, breach};

/// The client's end of a session.
#[derive(Default)]
struct Client {
    last: u64,
    received: BTreeMap<u64, Received>,
    /// How often the client attached, by what it had then.
    attached: BTreeMap<u64, usize>,
    /// Where gateways accepted a response that did not follow the one before.
    restarts: BTreeMap<u64, Vec<Position>>,
    /// Who sent each response.
    senders: BTreeMap<(u64, Digest), BTreeSet<ProcessId>>,
    /// Responses that were not what they had been.
    changes: Vec<Change>,
    /// What each server was given as committed, in its order, for each time that it had a part in the session.
    stays: BTreeMap<ProcessId, Vec<Vec<Given>>>,
}

/// What a client received last under a number.
#[derive(Clone, Copy)]
struct Received {
    digest: Digest,
    at: Position,
    /// What it had as the response before.
    preceding: Option<Digest>,
}

/// The client received something else than before.
struct Change {
    response: u64,
    first: Received,
    then: Received,
}

/// A response that a member of a session group was given.
#[derive(Clone, Copy)]
struct Given {
    response: u64,
    digest: Digest,
    level: Level,
}

impl Change {
    /// Whether a server that was given all this, in this order, should have known the first response. Who has always been
    /// `with` its senders was given it if he was given the one before.
    fn is_known_to(&self, stay: &[Given], with: bool) -> bool {
        let gave = |given: &Given, digest| (given.response, given.digest) == (self.response, digest);
        let before = |given: &Given| {
            given.response + 1 == self.response
                && Some(given.digest) == self.first.preceding
                && given.level == Level::Safe
        };
        let knew = stay.iter().any(|given| gave(given, self.first.digest));
        let gave_both = knew && stay.iter().any(|given| gave(given, self.then.digest));
        let passed_over = stay.windows(2).any(|pair| before(&pair[0]) && gave(&pair[1], self.then.digest));
        gave_both || (with && passed_over)
    }
}

/// The checker.
#[derive(Default)]
pub(crate) struct ResponseOnce {
    clients: BTreeMap<SessionId, Client>,
    accepted: BTreeMap<Name, BTreeMap<SessionId, u64>>,
    /// Of whom each server knew, whether they are there or not.
    known: BTreeMap<ProcessId, BTreeSet<ProcessId>>,
    /// Whom each server lost.
    lost: BTreeMap<ProcessId, BTreeSet<ProcessId>>,
    /// Some server came back to another one as the one that it was.
    parted: bool,
}

/// The group of all servers. Who leaves it does not come back as the same member.
const SERVICE: &str = "service";

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
            Event::Commit { server, session, response, digest, level, .. } => {
                let stays = self.clients.entry(*session).or_default().stays.entry(*server).or_default();
                if stays.is_empty() {
                    stays.push(Vec::new());
                }
                let given = Given { response: *response, digest: *digest, level: *level };
                stays.last_mut().into_iter().for_each(|stay| stay.push(given));
                Ok(())
            }
            Event::GroupInstall { process, view, .. } if view.group.as_str() == SERVICE => {
                let known = self.known.entry(*process).or_default();
                self.parted |= view.joined.iter().any(|member| known.contains(member));
                known.extend(view.members.iter().map(|member| member.process));
                self.lost.entry(*process).or_default().extend(&view.left);
                Ok(())
            }
            Event::Respond { server, session, response, digest, .. } => {
                let senders = &mut self.clients.entry(*session).or_default().senders;
                senders.entry((*response, *digest)).or_default().insert(*server);
                Ok(())
            }
            Event::Role { server, session, role: Role::None, .. } => {
                let stays = self.clients.get_mut(session).and_then(|client| client.stays.get_mut(server));
                stays.into_iter().for_each(|stays| stays.push(Vec::new()));
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
            self.nothing_changed(*session, client)?;
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
        let preceding = response.checked_sub(1).and_then(|it| self.received.get(&it)).map(|it| it.digest);
        let then = Received { digest, at, preceding };
        let before = self.received.insert(response, then);
        self.changes.extend(before.filter(|first| first.digest != digest).map(|first| Change {
            response,
            first,
            then,
        }));
        Ok(())
    }

    /// Who sent what the client received first.
    fn senders_of(&self, change: &Change) -> impl Iterator<Item = ProcessId> {
        self.senders.get(&(change.response, change.first.digest)).into_iter().flatten().copied()
    }
}

impl ResponseOnce {
    fn nothing_changed(&self, session: SessionId, client: &Client) -> Result<(), Breach> {
        // What follows on something else is something else.
        let from_the_same = |change: &&Change| change.first.preceding == change.then.preceding;
        for change in client.changes.iter().filter(from_the_same) {
            let response = change.response;
            let (before, at) = (change.first.at, change.then.at);
            let knew = client.stays.iter().find(|(server, stays)| {
                let with = client.senders_of(change).any(|sender| self.has_kept(sender, **server));
                stays.iter().any(|stay| change.is_known_to(stay, with))
            });
            let who = match knew {
                _ if client.stays.is_empty() => String::new(),
                _ if self.parted => continue,
                Some((server, _)) => format!(", and {server} knew it"),
                None => continue,
            };
            return breach(
                &[before, at],
                format!("response {response} of {session} is not what it was before{who}"),
            );
        }
        Ok(())
    }

    /// Whether a server has known another one, and has not lost it.
    fn has_kept(&self, server: ProcessId, other: ProcessId) -> bool {
        let among = |them: &BTreeMap<ProcessId, BTreeSet<ProcessId>>| {
            them.get(&server).is_some_and(|known| known.contains(&other))
        };
        among(&self.known) && !among(&self.lost)
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["response_once"];
    let open = Script::new().forms(1, "a").attaches("a/1").opens("gw").primary("a/1", 1).client_attaches(0);
    let three = open.streams("a/1", 1, "gw", 1..=3, 0);
    let both = Script::new().forms(1, "a b").told("a/1 b/1", "service", 1, "a/1 b/1").opens("gw");
    let together = both.primary("a/1", 1).client_attaches(0).streams("a/1", 1, "gw", 1..=3, 0);
    let other_digest = |event: &mut Event| {
        if let Event::ClientReceive { digest, .. } = event {
            *digest = Digest::EMPTY;
        }
    };
    let other_commit = |event: &mut Event| {
        if let Event::Commit { digest, .. } = event {
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
        rejected("a response changes that a backup was given", only, {
            let committed = three.clone().commits("b/1", 1..=3);
            let again = committed.commits("b/1", 3..=3).but(other_commit);
            again.client_attaches(2).client_receives(3).but(other_digest)
        }),
        rejected("a response changes that a backup should have been given", only, {
            let committed = together.clone().commits("b/1", 1..=2).commits("b/1", 3..=3).but(other_commit);
            committed.client_attaches(2).client_receives(3).but(other_digest)
        }),
        accepted("a response changes that was sent where the backup was lost, which has its own", {
            let parted = together.forms(2, "a").told("a/1", "service", 0, "a/1");
            let committed = parted.commits("b/1", 1..=2).commits("b/1", 3..=3).but(other_commit);
            committed.client_attaches(2).client_receives(3).but(other_digest)
        }),
        rejected("a response changes that is followed by one that nobody remembers", only, {
            let committed = three.clone().commits("b/1", 1..=2).commits("b/1", 4..=4);
            let again = committed.commits("b/1", 2..=2).but(other_commit);
            again.client_attaches(1).client_receives(2).but(other_digest)
        }),
        accepted("a response changes that follows on one that nobody remembers", {
            let four = three.clone().streams("a/1", 1, "gw", 4..=4, 0);
            let committed = four.commits("b/1", 1..=2).commits("b/1", 4..=4);
            let third = committed.commits("b/1", 3..=3).but(other_commit);
            let fourth = third.commits("b/1", 4..=4).but(other_commit);
            let again = fourth.client_attaches(2).client_receives(3).but(other_digest);
            again.client_receives(4).but(other_digest)
        }),
        accepted("a response changes that nobody remembers", {
            let committed = three.clone().commits("a/1", 1..=3).commits("c/1", 3..=3).but(other_commit);
            committed.client_attaches(2).client_receives(3).but(other_digest)
        }),
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
