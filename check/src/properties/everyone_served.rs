//! Every session has a primary, at every place of the order at which the unit's servers are agreed, and it is one of those in
//! the view; unless no member can serve it, since none holds its edition, or since all that it was moved to fell silent
//! on it. [FK:selection]
//!
//! Whether the primary is allowed to serve is another matter: outside of the primary component, it may not.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{GroupViewId, ProcessId, UnitId};

use crate::property::{Breach, Position, Property, breach, unit_of};

/// The checker.
#[derive(Default)]
pub(crate) struct EveryoneServed {
    members: BTreeMap<(UnitId, GroupViewId), BTreeSet<ProcessId>>,
    /// The primaries in each view, and where some replica first told of them.
    primaries: BTreeMap<(UnitId, GroupViewId), BTreeMap<ProcessId, (ProcessId, Position)>>,
}

impl Property for EveryoneServed {
    fn name(&self) -> &'static str {
        "everyone_served"
    }

    fn claim(&self) -> &'static str {
        "FK:selection"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::GroupInstall { view, .. } => {
                if let Some(unit) = unit_of(&view.group) {
                    let members = view.members.iter().map(|member| member.process).collect();
                    self.members.insert((unit, view.id), members);
                }
            }
            Event::Database { server, unit, view, primaries, forsaken, .. } => {
                if *forsaken > 0 {
                    let told = format!(
                        "{server} knows {forsaken} sessions on {unit} that nobody serves in {view}, though a member could"
                    );
                    return breach(&[at], told);
                }
                let known = self.primaries.entry((unit.clone(), *view)).or_default();
                for primary in primaries {
                    known.entry(*primary).or_insert((*server, at));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Breach> {
        for ((unit, view), primaries) in &self.primaries {
            let Some(members) = self.members.get(&(unit.clone(), *view)) else { continue };
            if let Some((absent, (server, at))) = primaries.iter().find(|(it, _)| !members.contains(it)) {
                let told = format!(
                    "for {server}, {absent} is primary of a session on {unit} in {view}, and no member of it"
                );
                return breach(&[*at], told);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["everyone_served"];
    let forsaken = |event: &mut Event| {
        if let Event::Database { forsaken, .. } = event {
            *forsaken = 1;
        }
    };
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1").views("content/film", 0, "a/1 b/1");
    let served = two.database("a/1", 0, 0).appointing("a/1 b/1").database("b/1", 0, 0).appointing("a/1 b/1");
    let alone = served.clone().crashes("a").forms(2, "b").views("content/film", 0, "b/1");
    vec![
        accepted("the one who is left serves all", alone.clone().database("b/1", 0, 1).appointing("b/1")),
        rejected("a primary is gone", only, alone.clone().database("b/1", 0, 1).appointing("a/1 b/1")),
        rejected("a session has no primary", only, alone.database("b/1", 0, 1).but(forsaken)),
        accepted("a daemon that is killed has not told of a view", {
            served.forms(2, "a").database("b/1", 1, 1).appointing("b/1")
        }),
    ]
}
