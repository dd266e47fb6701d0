//! The unit database is the same at every replica: replicas that go together through a view of the content group have
//! the same digest after each event of that view. [FK:unit-db]
//!
//! Replicas go together if they had the same next view and their daemons took the same way there, or if all of them
//! came to rest. Between others nothing is promised: each side orders anew what had no place yet.

use std::collections::BTreeMap;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, Digest, GroupViewId, ProcessId, UnitId};

use crate::property::{Breach, Position, Property, breach};

/// The database of one replica after each event of one view.
struct History {
    server: ProcessId,
    view: GroupViewId,
    digests: BTreeMap<u64, (Digest, Position)>,
}

/// What histories that must agree have in common: the view, the next one, and the daemons' way between the two.
type Way = (GroupViewId, GroupViewId, Vec<ConfigurationId>);

/// The checker.
#[derive(Default)]
pub(crate) struct DatabaseAgreement {
    paths: BTreeMap<DaemonId, Vec<ConfigurationId>>,
    /// The views that are not over yet.
    open: BTreeMap<(UnitId, ProcessId), History>,
    /// The views that are, each with the next one.
    ended: BTreeMap<UnitId, Vec<(History, GroupViewId)>>,
}

impl Property for DatabaseAgreement {
    fn name(&self) -> &'static str {
        "database_agreement"
    }

    fn claim(&self) -> &'static str {
        "FK:unit-db"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, configuration, .. } => {
                self.paths.entry(*daemon).or_default().push(configuration.id);
            }
            Event::Database { server, unit, view, position, digest, .. } => {
                let key = (unit.clone(), *server);
                let fresh = || History { server: *server, view: *view, digests: BTreeMap::new() };
                let history = self.open.entry(key).or_insert_with(fresh);
                if history.view != *view {
                    let ended = std::mem::replace(history, fresh());
                    self.ended.entry(unit.clone()).or_default().push((ended, *view));
                }
                history.digests.insert(*position, (*digest, at));
            }
            Event::Quiescent { daemons, .. } => {
                let mut rest: BTreeMap<(&UnitId, GroupViewId, &[ConfigurationId]), &History> =
                    BTreeMap::new();
                for ((unit, server), history) in &self.open {
                    if let Some(path) = self.path_from(history).filter(|_| daemons.contains(&server.daemon()))
                    {
                        let first = rest.entry((unit, history.view, path)).or_insert(history);
                        first.agrees_with(history, unit)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Breach> {
        for (unit, ended) in &self.ended {
            let mut ways: BTreeMap<Way, &History> = BTreeMap::new();
            for (history, next) in ended {
                if let Some(way) = self.way(history, *next) {
                    ways.entry(way).or_insert(history).agrees_with(history, unit)?;
                }
            }
        }
        Ok(())
    }
}

impl DatabaseAgreement {
    /// The way of the replica's daemon since the view, if its record tells.
    fn path_from(&self, history: &History) -> Option<&[ConfigurationId]> {
        let path = self.paths.get(&history.server.daemon())?;
        let start = path.iter().position(|id| *id == history.view.configuration)?;
        path.get(start..)
    }

    /// How the replica went on to the next view.
    fn way(&self, history: &History, next: GroupViewId) -> Option<Way> {
        let path = self.path_from(history)?;
        let end = path.iter().position(|id| *id == next.configuration)?;
        Some((history.view, next, path.get(..=end)?.to_vec()))
    }
}

impl History {
    fn agrees_with(&self, other: &History, unit: &UnitId) -> Result<(), Breach> {
        for (position, (digest, at)) in &other.digests {
            let Some((_, before)) = self.digests.get(position).filter(|(mine, _)| mine != digest) else {
                continue;
            };
            let (one, another, view) = (self.server, other.server, self.view);
            return breach(
                &[*before, *at],
                format!(
                    "{one} and {another} differ in the database of {unit} at event {position} of view {view}"
                ),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["database_agreement"];
    let two = Script::new().forms(1, "a b").database("a/1", 0, 0).database("b/1", 0, 0).database("a/1", 1, 1);
    let differ = two.clone().database("b/1", 1, 2);
    vec![
        rejected("a and b come to rest with different databases", only, differ.clone().quiescent("a b")),
        rejected("a and b move on with different databases", only, {
            differ.clone().forms(2, "a b").database("a/1", 0, 3).database("b/1", 0, 3)
        }),
        accepted("b is behind", two.clone().quiescent("a b")),
        accepted("b is where a was", two.database("b/1", 1, 1).quiescent("a b")),
        accepted(
            "b crashes with its own database",
            differ.clone().crashes("b").forms(2, "a").database("a/1", 0, 3).quiescent("a"),
        ),
        accepted("a and b part with different databases, and meet again", {
            let parted = differ.forms(2, "a").forms(3, "b").forms(4, "a b");
            parted.database("a/1", 0, 3).database("b/1", 0, 3).quiescent("a b")
        }),
    ]
}
