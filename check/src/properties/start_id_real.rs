//! A start id is real: a daemon that takes another along from a configuration they share has heard the sync that the
//! other made under the start id that the view names, so the other was told of just that start change. [KK:start-id]
//!
//! Of a member that does not come from the same configuration nothing is promised: a membership server may name a start
//! id and die before it has told anybody.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{DaemonId, StartId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct StartIdReal {
    members: BTreeMap<DaemonId, BTreeSet<DaemonId>>,
    told: BTreeMap<DaemonId, BTreeSet<StartId>>,
    /// What somebody relied on, and its owner is not known to have been told yet.
    open: BTreeMap<(DaemonId, StartId), (DaemonId, Position)>,
}

impl Property for StartIdReal {
    fn name(&self) -> &'static str {
        "start_id_real"
    }

    fn claim(&self) -> &'static str {
        "KK:start-id"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::StartChange { daemon, start, .. } => {
                self.told.entry(*daemon).or_default().insert(*start);
                self.open.remove(&(*daemon, *start));
                // Its start ids increase: what has not come by now never will.
                self.was_told(*daemon, *start, at)
            }
            Event::Install { daemon, configuration, .. } => {
                let old = self.members.insert(*daemon, configuration.set()).unwrap_or_default();
                for (member, start) in configuration.members.iter().filter(|(member, _)| old.contains(member))
                {
                    let told = self.told.get(member);
                    if !told.is_some_and(|told| told.contains(start)) {
                        self.open.insert((*member, *start), (*daemon, at));
                        if let Some(last) = told.and_then(BTreeSet::last).copied() {
                            self.was_told(*member, last, at)?;
                        }
                    }
                }
                Ok(())
            }
            Event::Quiescent { daemons, .. } => daemons
                .iter()
                .try_for_each(|daemon| self.was_told(*daemon, StartId::new(daemon.boot(), u64::MAX), at)),
            _ => Ok(()),
        }
    }
}

impl StartIdReal {
    /// Checks that nobody relied on a start id of `daemon` up to `last` that it was not told.
    fn was_told(&self, daemon: DaemonId, last: StartId, by: Position) -> Result<(), Breach> {
        let least = StartId::new(model::Boot::new(0), 0);
        match self.open.range((daemon, least)..=(daemon, last)).next() {
            Some(((_, start), (who, at))) => breach(
                &[*at, by],
                format!(
                    "{who} took {daemon} along under start change {start}, of which {daemon} was never told"
                ),
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["start_id_real"];
    let change = |name: &str, number: u64| Event::StartChange {
        daemon: daemon(name),
        start: start(number),
        proposed: daemons("a b"),
    };
    let told_of_two =
        |who: &str| Event::MembershipView { daemon: daemon(who), configuration: configuration(2, "a b") };
    let alone = || {
        let started = Script::new().forms(1, "a b").raw(change("a", 2)).raw(told_of_two("a"));
        started.installs("a", 2, "a b")
    };
    vec![
        rejected("b skips the start change under which a took it along", only, alone().raw(change("b", 3))),
        rejected(
            "b is at rest and was never told",
            &["start_id_real", "precision"],
            alone().quiescent("a b"),
        ),
        accepted("b is told later", alone().raw(change("b", 2))),
        accepted("b crashes, and the end of its record is missing", alone().crashes("b")),
        accepted(
            "a names a start id of c, who comes from elsewhere and is told another",
            Script::new().forms(1, "a").agrees(2, "a c").installs("a", 2, "a c").forms(3, "c"),
        ),
    ]
}
