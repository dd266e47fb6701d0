//! A view that shows failures only is acted upon without a message: if all its members come along from a view in which
//! their unit databases were agreed, those are agreed at the view itself, before anything is delivered in it.
//! [FK:failure-only]
//!
//! What a new primary then waits for is its gateway's grant, and where responses are committed, or sessions share a state,
//! a place in the order besides.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{DaemonId, GroupView, GroupViewId, ProcessId, UnitId};

use crate::property::{Breach, Position, Property, breach, unit_of};

/// A view of a content group, as one of its members was told it.
struct Told {
    view: GroupViewId,
    at: Position,
    /// Whether all its members come along from that member's view before.
    failures_only: bool,
}

/// One time that a server was a member of a content group.
#[derive(Default)]
struct Stay {
    views: Vec<Told>,
    is_over: bool,
}

/// What one server was told, and knew, of one unit.
#[derive(Default)]
struct Replica {
    stays: Vec<Stay>,
    /// After how many messages its database was first agreed in each view.
    agreed: BTreeMap<GroupViewId, u64>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct FailuresAgree {
    replicas: BTreeMap<(ProcessId, UnitId), Replica>,
    gone: BTreeSet<ProcessId>,
    /// Who is there when everything has come to rest.
    alive: BTreeSet<DaemonId>,
}

impl Property for FailuresAgree {
    fn name(&self) -> &'static str {
        "failures_agree"
    }

    fn claim(&self) -> &'static str {
        "FK:failure-only"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::GroupInstall { process, view } => {
                if let Some(unit) = unit_of(&view.group) {
                    let failures_only = all_come_along(view);
                    let told = Told { view: view.id, at, failures_only };
                    self.replica(*process, unit).present_stay().views.push(told);
                }
            }
            Event::GroupLeave { process, group } => {
                if let Some(unit) = unit_of(group) {
                    self.replica(*process, unit).present_stay().is_over = true;
                }
            }
            Event::Database { server, unit, view, position, .. } => {
                self.replica(*server, unit.clone()).agreed.entry(*view).or_insert(*position);
            }
            Event::Detach { process } => {
                self.gone.insert(*process);
            }
            Event::Quiescent { daemons, .. } => self.alive = daemons.iter().copied().collect(),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Breach> {
        for ((server, unit), replica) in &self.replicas {
            let lives = self.alive.contains(&server.daemon()) && !self.gone.contains(server);
            let late = replica.stays.iter().find_map(|stay| replica.late_in(stay, lives));
            if let Some((before, late)) = late {
                let (from, to) = (before.view, late.view);
                let told = format!(
                    "{server} waited for messages before it used the database of {unit} in {to}, though all came along from {from}"
                );
                return breach(&[before.at, late.at], told);
            }
        }
        Ok(())
    }
}

impl FailuresAgree {
    fn replica(&mut self, server: ProcessId, unit: UnitId) -> &mut Replica {
        self.replicas.entry((server, unit)).or_default()
    }
}

impl Replica {
    fn present_stay(&mut self) -> &mut Stay {
        if self.stays.last().is_none_or(|stay| stay.is_over) {
            self.stays.push(Stay::default());
        }
        let last = self.stays.len() - 1;
        &mut self.stays[last]
    }

    /// A view that should have been acted upon at once, and was not, after the view before it. A record that is missing
    /// counts if there are later ones, or the server has told all.
    fn late_in<'a>(&self, stay: &'a Stay, lives: bool) -> Option<(&'a Told, &'a Told)> {
        let is_agreed_later = |view| {
            let later = stay.views.iter().filter(|told| told.view > view);
            later.into_iter().any(|told| self.agreed.contains_key(&told.view))
        };
        let is_late = |told: &Told| match self.agreed.get(&told.view) {
            Some(position) => *position > 0,
            None => is_agreed_later(told.view) || (lives && !stay.is_over),
        };
        let mut steps = stay.views.iter().zip(stay.views.iter().skip(1));
        steps.find(|(before, told)| {
            told.failures_only && self.agreed.contains_key(&before.view) && is_late(told)
        })
    }
}

fn all_come_along(view: &GroupView) -> bool {
    view.members.iter().all(|member| view.transitional.contains(&member.process))
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["failures_agree"];
    let three = Script::new().forms(1, "a b c").attaches("a/1 b/1 c/1");
    let agreed = three.views("content/film", 0, "a/1 b/1 c/1").database("a/1", 0, 0).database("b/1", 2, 0);
    let failed = agreed.clone().crashes("c").forms(2, "a b").views("content/film", 0, "a/1 b/1");
    let both = failed.clone().database("a/1", 0, 1).database("b/1", 0, 1);
    vec![
        accepted("all who are left act at once", both.clone().quiescent("a b")),
        rejected("b hears something first", only, failed.clone().database("a/1", 0, 1).database("b/1", 1, 1)),
        rejected("b comes to rest without having acted", only, {
            failed.clone().database("a/1", 0, 1).quiescent("a b")
        }),
        rejected("b acts in the view after it only", only, {
            let again = failed.clone().database("a/1", 0, 1).forms(3, "a b");
            again.views("content/film", 0, "a/1 b/1").database("b/1", 0, 1)
        }),
        accepted("b is killed, and the end of what it wrote is missing", {
            failed.clone().database("a/1", 0, 1).detaches("b/1").quiescent("a b")
        }),
        accepted("b has left, and counts for a member a while longer", {
            let left = failed.database("a/1", 0, 1).leaves("b/1", "content/film");
            left.views("content/film", 1, "a/1").database("a/1", 0, 1).quiescent("a b")
        }),
        accepted("where somebody joins, databases are exchanged", {
            let joined = both.forms(3, "a b c").views("content/film", 0, "a/1 b/1 c/1");
            joined.database("a/1", 2, 1).database("b/1", 2, 1)
        }),
        accepted("where an exchange is broken off, it begins anew", {
            let met = agreed.forms(2, "a b").views("content/film", 0, "a/1 b/1");
            let apart = met.database("a/1", 0, 1).database("b/1", 0, 1).forms(3, "a b c");
            let broken = apart.views("content/film", 0, "a/1 b/1 c/1").forms(4, "a b");
            broken.views("content/film", 0, "a/1 b/1").database("a/1", 2, 1).database("b/1", 2, 1)
        }),
    ]
}
