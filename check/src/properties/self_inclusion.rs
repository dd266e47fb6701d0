//! Who is told a view is in it: daemons in configurations, processes in views of groups. [VKCD:self-inclusion]

use model::trace::Event;

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct SelfInclusion;

impl Property for SelfInclusion {
    fn name(&self) -> &'static str {
        "self_inclusion"
    }

    fn claim(&self) -> &'static str {
        "VKCD:self-inclusion"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, configuration, .. } if !configuration.members.contains_key(daemon) => {
                breach(&[at], format!("{daemon} installed {}, which it is not a member of", configuration.id))
            }
            Event::GroupInstall { process, view } if !view.members.iter().any(|m| m.process == *process) => {
                breach(&[at], format!("{process} was told view {} of {} without itself", view.id, view.group))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    vec![
        rejected(
            "b installs a configuration of a alone",
            // Such a configuration also cannot carry b's start id.
            &["membership_interface", "self_inclusion"],
            Script::new()
                .forms(1, "a")
                .raw(Event::StartChange { daemon: daemon("b"), start: start(1), proposed: daemons("a b") })
                .raw(Event::MembershipView { daemon: daemon("b"), configuration: configuration(1, "a") })
                .installs("b", 1, "a")
                .but(|event| {
                    if let Event::Install { transitional, .. } = event {
                        *transitional = daemons("b");
                    }
                }),
        ),
        rejected(
            "a process is told a view that it left",
            &["self_inclusion"],
            Script::new()
                .forms(1, "a b")
                .attaches("a/1 b/1")
                .views("g", 1, "a/1")
                .told("b/1", "g", 1, "a/1")
                .but(|event| {
                    if let Event::GroupInstall { view, .. } = event {
                        view.transitional = vec![process("b/1")];
                    }
                }),
        ),
    ]
}
