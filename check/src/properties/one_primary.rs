//! A session has one primary: a fence belongs to one server for ever, only that server responds under it, and in a
//! quiescent run exactly one live server is primary of each open session. [FK:one-primary]
//!
//! For a while two servers may both believe that they are primary, but never under one fence; whom the client is shown,
//! `fences_rise` says.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::{Event, Role};
use model::{DaemonId, Fence, ProcessId, SessionId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct OnePrimary {
    owners: BTreeMap<SessionId, BTreeMap<Fence, (ProcessId, Position)>>,
    /// Who is primary now, as each server sees it.
    primaries: BTreeMap<SessionId, BTreeMap<ProcessId, Position>>,
    gone: BTreeSet<ProcessId>,
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
    let served = Script::new().forms(1, "a b").attaches("a/1 b/1").opens("gw").primary("a/1", 1);
    vec![
        rejected("two primaries under one fence", only, served.clone().primary("b/1", 1)),
        rejected("b responds under a's fence", only, served.clone().responds("b/1", 1, 1, 0)),
        rejected("two primaries in the end", only, served.clone().primary("b/1", 2).quiescent_open("a b")),
        rejected("no primary in the end", only, served.clone().detaches("a/1").quiescent_open("a b")),
        accepted(
            "the old primary has not heard that it is replaced",
            served.clone().primary("b/1", 2).detaches("a/1").quiescent_open("a b"),
        ),
        accepted(
            "b takes over from a",
            served.primary("b/1", 2).role("a/1", 2, Role::Backup).quiescent_open("a b"),
        ),
    ]
}
