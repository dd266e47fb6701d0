//! What is obsolete is not installed: between the start change that a configuration names for a daemon and the install
//! there, the daemon was told of no other one. [KK:no-obsolete-view]
//!
//! The promise is as good as the daemon's knowledge: a start change that is on its way makes nothing obsolete yet.

use std::collections::BTreeMap;

use model::trace::Event;
use model::{DaemonId, StartId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct NoObsoleteView {
    told: BTreeMap<DaemonId, (StartId, Position)>,
}

impl Property for NoObsoleteView {
    fn name(&self) -> &'static str {
        "no_obsolete_view"
    }

    fn claim(&self) -> &'static str {
        "KK:no-obsolete-view"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::StartChange { daemon, start, .. } => {
                self.told.insert(*daemon, (*start, at));
                Ok(())
            }
            Event::Install { daemon, configuration, .. } => {
                match (self.told.get(daemon), configuration.members.get(daemon)) {
                    (Some((last, since)), Some(named)) if last > named => breach(
                        &[*since, at],
                        format!(
                            "{daemon} installed {}, which names its start change {named}, after it was told {last}",
                            configuration.id
                        ),
                    ),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let another = || Event::StartChange { daemon: daemon("a"), start: start(2), proposed: daemons("a b") };
    vec![
        rejected(
            "a installs what the next start change made obsolete",
            &["no_obsolete_view"],
            Script::new().agrees(1, "a").raw(another()).installs("a", 1, "a"),
        ),
        accepted(
            "b is told of the next change when a is not yet",
            Script::new()
                .agrees(1, "a b")
                .installs("b", 1, "a b")
                .raw(another())
                .agrees(3, "a b")
                .installs("a b", 3, "a b"),
        ),
    ]
}
