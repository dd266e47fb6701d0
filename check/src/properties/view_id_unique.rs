//! A view id of the membership service means the same view to everybody: one id, one set of members, one start id for
//! each. [KK:view]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{Configuration, ConfigurationId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct ViewIdUnique {
    views: BTreeMap<ConfigurationId, (Configuration, Position)>,
}

impl Property for ViewIdUnique {
    fn name(&self) -> &'static str {
        "view_id_unique"
    }

    fn claim(&self) -> &'static str {
        "KK:view"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        let (Event::MembershipView { daemon, configuration } | Event::Install { daemon, configuration, .. }) =
            event
        else {
            return Ok(());
        };
        let id = configuration.id;
        let (known, before) = self.views.entry(id).or_insert_with(|| (configuration.clone(), at));
        if known == configuration {
            return Ok(());
        }
        breach(&[*before, at], format!("view {id} means other members or start ids to {daemon} than before"))
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["view_id_unique"];
    let told = |name: &str, configuration| Event::MembershipView { daemon: daemon(name), configuration };
    let both_begin = ["a", "b"].into_iter().fold(Script::new(), |script, name| {
        let proposed = daemons("a b");
        script.raw(Event::StartChange { daemon: daemon(name), start: start(1), proposed })
    });
    let other_members = |mut configuration: Configuration| {
        configuration.members.remove(&daemon("b"));
        configuration
    };
    let other_start = |mut configuration: Configuration| {
        configuration.members.insert(daemon("b"), start(9));
        configuration
    };
    let here = configuration(1, "a b");
    let b_is_told = both_begin.raw(told("b", here.clone()));
    vec![
        rejected(
            "one id names two sets of members",
            only,
            b_is_told.clone().raw(told("a", other_members(here.clone()))),
        ),
        rejected(
            "one id names two start ids of b",
            only,
            b_is_told.clone().raw(told("a", other_start(here.clone()))),
        ),
        accepted("both are told the same", b_is_told.raw(told("a", here))),
    ]
}
