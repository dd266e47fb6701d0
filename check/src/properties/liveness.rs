//! When faults have stopped and nothing is left to do, everything has been done: all live daemons are in one
//! configuration of exactly these daemons, none waits for a change to end, everything cast there was delivered by all,
//! and no request waits for its acknowledgement. [KK:liveness]
//!
//! Judged only where the run says that it is quiescent, and only as of then.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{ConfigurationId, DaemonId, Name, SessionId};

use crate::property::{Breach, Position, Property, breach};
use crate::runs::Messages;

/// What a daemon has done in its present configuration.
#[derive(Default)]
struct Daemon {
    configuration: Option<(ConfigurationId, BTreeSet<DaemonId>)>,
    /// A start change that no install has followed yet.
    changing: Option<Position>,
    cast: Messages<DaemonId>,
    delivered: Messages<DaemonId>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct Liveness {
    daemons: BTreeMap<DaemonId, Daemon>,
    /// Requests that wait for their acknowledgement.
    waiting: BTreeMap<(SessionId, Name), BTreeMap<u64, Position>>,
    closed: BTreeSet<SessionId>,
}

impl Property for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn claim(&self) -> &'static str {
        "KK:liveness"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::StartChange { daemon, .. } => self.daemons.entry(*daemon).or_default().changing = Some(at),
            Event::Install { daemon, configuration, .. } => {
                let configuration = Some((configuration.id, configuration.set()));
                self.daemons.insert(*daemon, Daemon { configuration, ..Daemon::default() });
            }
            Event::Cast { daemon, index, .. } => {
                self.daemons.entry(*daemon).or_default().cast.insert(*daemon, *index);
            }
            Event::Deliver { daemon, origin, index, .. } => {
                self.daemons.entry(*daemon).or_default().delivered.insert(*origin, *index);
            }
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
            Event::Quiescent { daemons, .. } => {
                self.all_are_together(at, daemons)?;
                self.all_is_delivered(at, daemons)?;
                self.all_is_acknowledged(at)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Liveness {
    fn all_are_together(&self, at: Position, alive: &[DaemonId]) -> Result<(), Breach> {
        let set: BTreeSet<DaemonId> = alive.iter().copied().collect();
        let mut common = None;
        for daemon in &set {
            let state = self.daemons.get(daemon);
            let Some((id, members)) = state.and_then(|state| state.configuration.as_ref()) else {
                return breach(&[at], format!("{daemon} is alive, but has no configuration in the end"));
            };
            if let Some(since) = state.and_then(|state| state.changing) {
                return breach(&[since, at], format!("{daemon} still waits in {id} for a change to end"));
            }
            if *members != set {
                return breach(
                    &[at],
                    format!("{daemon} ends in {id} of {members:?}, while {set:?} are alive"),
                );
            }
            if common.is_some_and(|common| common != *id) {
                return breach(&[at], format!("{daemon} ends in {id}, but others elsewhere"));
            }
            common = Some(*id);
        }
        Ok(())
    }

    fn all_is_delivered(&self, at: Position, alive: &[DaemonId]) -> Result<(), Breach> {
        let live = || alive.iter().filter_map(|daemon| Some((daemon, self.daemons.get(daemon)?)));
        for (_, sender) in live() {
            for (receiver, state) in live() {
                if let Some((origin, index)) = sender.cast.first_not_in(&state.delivered) {
                    return breach(
                        &[at],
                        format!("{receiver} has not delivered message {index} of {origin} in the end"),
                    );
                }
            }
        }
        Ok(())
    }

    fn all_is_acknowledged(&self, at: Position) -> Result<(), Breach> {
        for ((session, gateway), requests) in &self.waiting {
            if let Some((request, since)) = requests.first_key_value()
                && !self.closed.contains(session)
            {
                return breach(
                    &[*since, at],
                    format!("request {request} of {session} still waits at {gateway} to be acknowledged"),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["liveness"];
    let two = Script::new().forms(1, "a b");
    let served =
        two.clone().attaches("a/1").opens("gw").primary("a/1", 1).client_attaches(0).submits("gw", 1);
    vec![
        rejected("b never gets a configuration", only, Script::new().forms(1, "a").quiescent("a b")),
        rejected("the dead are never left behind", only, two.clone().crashes("b").quiescent("a")),
        rejected("a and b are apart", only, Script::new().forms(1, "a").forms(2, "b").quiescent("a b")),
        rejected("a waits for the view", only, {
            let started =
                Event::StartChange { daemon: daemon("a"), start: start(2), proposed: daemons("a b") };
            two.clone().raw(started).quiescent("a b")
        }),
        rejected(
            "nobody delivers what a cast",
            &["self_delivery", "liveness"],
            two.clone().casts("a", 1).quiescent("a b"),
        ),
        rejected("a request is never acknowledged", only, served.clone().quiescent_open("a b")),
        accepted("the session with the request is closed", served.clone().closes("gw").quiescent("a b")),
        accepted(
            "the gateway with the request is gone",
            served.clone().gateway_crashes("gw").client_attaches(0).quiescent_open("a b"),
        ),
        accepted("the request is submitted again elsewhere", {
            let moved = served.client_attaches(0).submits("gw2", 1).releases("gw").applies("a/1", 1, 1);
            moved.acknowledges("gw2", 1).quiescent_open("a b")
        }),
        accepted("the last one is alone", two.crashes("b").forms(2, "a").quiescent("a")),
    ]
}
