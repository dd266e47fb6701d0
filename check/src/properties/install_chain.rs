//! A daemon moves along one chain of configurations: it starts alone, each install leaves the configuration that it
//! was in, and enters the one that the membership service told it last. [KK:install]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{Configuration, ConfigurationId, DaemonId};

use crate::property::{Breach, Position, Property, breach};

/// One daemon.
struct Place {
    current: ConfigurationId,
    /// The view to install next.
    told: Option<Configuration>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct InstallChain {
    daemons: BTreeMap<DaemonId, Place>,
}

impl Property for InstallChain {
    fn name(&self) -> &'static str {
        "install_chain"
    }

    fn claim(&self) -> &'static str {
        "KK:install"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::MembershipView { daemon, configuration } => {
                self.place(*daemon).told = Some(configuration.clone());
            }
            Event::Install { daemon, configuration, previous, .. } => {
                let id = configuration.id;
                let place = self.place(*daemon);
                if place.current != *previous {
                    let current = place.current;
                    return breach(
                        &[at],
                        format!("{daemon} left {previous} for {id}, but it was in {current}"),
                    );
                }
                if place.told.take().as_ref() != Some(configuration) {
                    return breach(
                        &[at],
                        format!(
                            "{daemon} installed {id}, which is not what the membership service told it last"
                        ),
                    );
                }
                place.current = id;
            }
            _ => {}
        }
        Ok(())
    }
}

impl InstallChain {
    fn place(&mut self, daemon: DaemonId) -> &mut Place {
        let alone = || Place { current: Configuration::initial(daemon).id, told: None };
        self.daemons.entry(daemon).or_insert_with(alone)
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["install_chain"];
    vec![
        rejected(
            "a installs before the membership service agrees",
            only,
            Script::new()
                .raw(Event::StartChange { daemon: daemon("a"), start: start(1), proposed: daemons("a") })
                .installs("a", 1, "a"),
        ),
        rejected(
            "a pretends to come from where it was before",
            only,
            Script::new().forms(1, "a").forms(2, "a").but(|event| {
                if let Event::Install { previous, .. } = event {
                    *previous = Configuration::initial(daemon("a")).id;
                }
            }),
        ),
        accepted(
            "b skips a configuration that a installs",
            Script::new().forms(1, "a b").agrees(2, "a b").installs("a", 2, "a b").forms(3, "a b"),
        ),
    ]
}
