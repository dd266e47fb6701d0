//! Once the network is stable, everybody in it was told one last view, of exactly those who are in it, and no start change
//! since. Judged where the run says that it is quiescent: all living daemons are connected then. [Moshe:precision]

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{Configuration, DaemonId};

use crate::property::{Breach, Position, Property, breach};

/// What one daemon was told last.
enum Told {
    Change,
    View(Configuration),
}

/// The checker.
#[derive(Default)]
pub(crate) struct Precision {
    told: BTreeMap<DaemonId, (Told, Position)>,
}

impl Property for Precision {
    fn name(&self) -> &'static str {
        "precision"
    }

    fn claim(&self) -> &'static str {
        "Moshe:precision"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::StartChange { daemon, .. } => {
                self.told.insert(*daemon, (Told::Change, at));
                Ok(())
            }
            Event::MembershipView { daemon, configuration } => {
                self.told.insert(*daemon, (Told::View(configuration.clone()), at));
                Ok(())
            }
            Event::Quiescent { daemons, .. } => self.is_precise(at, daemons),
            _ => Ok(()),
        }
    }
}

impl Precision {
    fn is_precise(&self, at: Position, alive: &[DaemonId]) -> Result<(), Breach> {
        let set: BTreeSet<DaemonId> = alive.iter().copied().collect();
        let mut common = None;
        for daemon in &set {
            let (view, since) = match self.told.get(daemon) {
                Some((Told::View(view), since)) => (view, since),
                Some((Told::Change, since)) => {
                    return breach(&[*since, at], format!("{daemon} was told of a change that has no end"));
                }
                None => return breach(&[at], format!("{daemon} is alive, but was told of nothing")),
            };
            let id = view.id;
            if view.set() != set {
                return breach(
                    &[*since, at],
                    format!("{daemon} was told {id} last, which is not of all that live"),
                );
            }
            if common.is_some_and(|common| common != id) {
                return breach(
                    &[*since, at],
                    format!("{daemon} was told {id} last, but others another view"),
                );
            }
            common = Some(id);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["precision"];
    let two = Script::new().forms(1, "a b");
    vec![
        rejected("the dead are never left behind", only, two.clone().crashes("b").quiescent("a")),
        rejected("a and b are apart", only, Script::new().forms(1, "a").forms(2, "b").quiescent("a b")),
        rejected(
            "b is told of nothing",
            &["precision", "final_install"],
            Script::new().forms(1, "a").quiescent("a b"),
        ),
        rejected("a change has no end", &["precision", "final_install"], {
            let started =
                Event::StartChange { daemon: daemon("a"), start: start(2), proposed: daemons("a b") };
            two.clone().raw(started).quiescent("a b")
        }),
        accepted("the last one is alone", two.crashes("b").forms(2, "a").quiescent("a")),
    ]
}
