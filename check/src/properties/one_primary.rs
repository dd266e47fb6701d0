//! A session has one primary: a fence belongs to one server for ever, only that server responds under it, a gateway
//! that knows a session never goes back to an older one, unless the session is made anew or nobody came to serve it for
//! too long, and in a quiescent run exactly one live server is primary of each open session.
//! [FK:one-primary]
//!
//! For a while two servers may both believe that they are primary, but never under one fence.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::{Event, Role};
use model::{DaemonId, Fence, Name, ProcessId, SessionId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct OnePrimary {
    owners: BTreeMap<SessionId, BTreeMap<Fence, (ProcessId, Position)>>,
    /// Who is primary now, as each server sees it.
    primaries: BTreeMap<SessionId, BTreeMap<ProcessId, Position>>,
    gone: BTreeSet<ProcessId>,
    accepted: BTreeMap<Name, BTreeMap<SessionId, (Fence, Position)>>,
}

impl Property for OnePrimary {
    fn name(&self) -> &'static str {
        "one_primary"
    }

    fn claim(&self) -> &'static str {
        "FK:one-primary"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Role { server, session, fence, role: Role::Primary, .. } => {
                self.primaries.entry(*session).or_default().insert(*server, at);
                let owners = self.owners.entry(*session).or_default();
                let (owner, since) = owners.entry(*fence).or_insert((*server, at));
                if owner != server {
                    return breach(
                        &[*since, at],
                        format!("{owner} and {server} are both primary of {session} under {fence}"),
                    );
                }
            }
            Event::Role { server, session, role: Role::Backup | Role::None, .. } => {
                self.primaries.entry(*session).or_default().remove(server);
            }
            Event::Respond { server, session, fence, response, .. } => {
                let owner = self.owners.get(session).and_then(|owners| owners.get(fence));
                if owner.is_none_or(|(owner, _)| owner != server) {
                    return breach(
                        &[at],
                        format!(
                            "{server} sent response {response} of {session} under {fence}, which is not its own"
                        ),
                    );
                }
            }
            Event::Accept { gateway, session, fence, response, .. } => {
                let sessions = self.accepted.entry(*gateway).or_default();
                match sessions.insert(*session, (*fence, at)) {
                    Some((last, before)) if *fence < last => {
                        return breach(
                            &[before, at],
                            format!(
                                "{gateway} took response {response} of {session} under {fence} after {last}"
                            ),
                        );
                    }
                    _ => {}
                }
            }
            Event::Fenced { gateway, session, fence, newer } if newer <= fence => {
                return breach(
                    &[at],
                    format!("{gateway} refused {fence} of {session} for {newer}, which is no newer"),
                );
            }
            Event::GatewayCrash { gateway } => {
                self.accepted.remove(gateway);
            }
            Event::Close { gateway, session }
            | Event::Release { gateway, session }
            | Event::Rebuild { gateway, session }
            | Event::Unfence { gateway, session } => {
                self.accepted.entry(*gateway).or_default().remove(session);
            }
            Event::Detach { process } => {
                self.gone.insert(*process);
            }
            Event::Quiescent { daemons, sessions } => self.come_to_rest(at, daemons, sessions)?,
            _ => {}
        }
        Ok(())
    }
}

impl OnePrimary {
    fn come_to_rest(&self, at: Position, daemons: &[DaemonId], sessions: &[SessionId]) -> Result<(), Breach> {
        let nobody = BTreeMap::new();
        for session in sessions {
            let claims = self.primaries.get(session).unwrap_or(&nobody).iter();
            let live: Vec<(&ProcessId, &Position)> = claims
                .filter(|(server, _)| daemons.contains(&server.daemon()) && !self.gone.contains(server))
                .collect();
            match live[..] {
                [_] => {}
                [] => return breach(&[at], format!("nobody is primary of {session} in the end")),
                [(one, since), (other, until), ..] => {
                    return breach(
                        &[*since, *until, at],
                        format!("{one} and {other} are both primary of {session} in the end"),
                    );
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["one_primary"];
    let fenced = |refused: u64, newer: u64| Event::Fenced {
        gateway: "gw".parse().unwrap(),
        session: session(),
        fence: fence(refused),
        newer: fence(newer),
    };
    let served = Script::new().forms(1, "a b").attaches("a/1 b/1").opens("gw").primary("a/1", 1);
    vec![
        rejected("two primaries under one fence", only, served.clone().primary("b/1", 1)),
        rejected("b responds under a's fence", only, served.clone().responds("b/1", 1, 1, 0)),
        rejected(
            "the gateway goes back to an older fence",
            only,
            served
                .clone()
                .responds("a/1", 1, 1, 0)
                .accepts("gw", 1, 1)
                .primary("b/1", 2)
                .responds("b/1", 2, 2, 0)
                .accepts("gw", 2, 2)
                .responds("a/1", 1, 3, 0)
                .accepts("gw", 1, 3),
        ),
        rejected("the gateway refuses the newer fence", only, served.clone().raw(fenced(2, 1))),
        rejected("the gateway refuses a fence for itself", only, served.clone().raw(fenced(2, 2))),
        rejected("two primaries in the end", only, served.clone().primary("b/1", 2).quiescent_open("a b")),
        rejected("no primary in the end", only, served.clone().detaches("a/1").quiescent_open("a b")),
        accepted(
            "the old primary has not heard that it is replaced",
            served.clone().primary("b/1", 2).detaches("a/1").quiescent_open("a b"),
        ),
        accepted("a gateway that forgot the session, or its servers, knows no newer fence", {
            let newer = served.clone().primary("b/1", 2).responds("b/1", 2, 1, 0).accepts("gw", 2, 1);
            let crashed = newer.gateway_crashes("gw").responds("a/1", 1, 2, 0).accepts("gw", 1, 2);
            let newer = crashed.responds("b/1", 2, 3, 0).accepts("gw", 2, 3).releases("gw");
            let older = newer.responds("a/1", 1, 4, 0).accepts("gw", 1, 4);
            let newer = older.responds("b/1", 2, 5, 0).accepts("gw", 2, 5).closes("gw");
            let older = newer.responds("a/1", 1, 6, 0).accepts("gw", 1, 6);
            let newer = older.responds("b/1", 2, 7, 0).accepts("gw", 2, 7).rebuilds("gw");
            let older = newer.responds("a/1", 1, 8, 0).accepts("gw", 1, 8);
            let newer = older.responds("b/1", 2, 9, 0).accepts("gw", 2, 9).unfences("gw");
            newer.responds("a/1", 1, 10, 0).accepts("gw", 1, 10)
        }),
        accepted(
            "b takes over from a",
            served.primary("b/1", 2).role("a/1", 2, Role::Backup).quiescent_open("a b"),
        ),
    ]
}
