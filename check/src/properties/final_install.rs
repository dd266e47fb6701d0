//! What the membership service decides last is done: in a quiescent run every living daemon is in a configuration, and has
//! been told of no change since. [KK:liveness]

use std::collections::BTreeMap;

use model::DaemonId;
use model::trace::Event;

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct FinalInstall {
    /// The last start change or view that no install has followed yet; nothing for a daemon that has done all.
    open: BTreeMap<DaemonId, Option<Position>>,
}

impl Property for FinalInstall {
    fn name(&self) -> &'static str {
        "final_install"
    }

    fn claim(&self) -> &'static str {
        "KK:liveness"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::StartChange { daemon, .. } | Event::MembershipView { daemon, .. } => {
                self.open.insert(*daemon, Some(at));
            }
            Event::Install { daemon, .. } => {
                self.open.insert(*daemon, None);
            }
            Event::Quiescent { daemons, .. } => {
                for daemon in daemons {
                    match self.open.get(daemon) {
                        Some(None) => {}
                        Some(Some(since)) => {
                            return breach(
                                &[*since, at],
                                format!("{daemon} has not installed what it was told last"),
                            );
                        }
                        None => return breach(&[at], format!("{daemon} is alive, but was never anywhere")),
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let agreed = Script::new().forms(1, "a b").agrees(2, "a b").installs("a", 2, "a b");
    vec![
        rejected("b does not go where it is sent", &["final_install"], agreed.clone().quiescent("a b")),
        accepted("b goes", agreed.clone().installs("b", 2, "a b").quiescent("a b")),
        accepted("b dies on the way", agreed.crashes("b").forms(3, "a").quiescent("a")),
    ]
}
