//! A daemon casts and delivers only in the configuration that it is in, and so nothing before its first install: a
//! message is delivered in the view in which it was sent, and an install ends the delivery of what was sent before.
//! [KK:sending-view]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{ConfigurationId, DaemonId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct SendingView {
    installed: BTreeMap<DaemonId, (ConfigurationId, Position)>,
}

impl Property for SendingView {
    fn name(&self) -> &'static str {
        "sending_view"
    }

    fn claim(&self) -> &'static str {
        "KK:sending-view"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, configuration, .. } => {
                self.installed.insert(*daemon, (configuration.id, at));
                Ok(())
            }
            Event::Cast { daemon, configuration, index, .. } => {
                self.is_in(at, *daemon, *configuration, || format!("{daemon} cast message {index}"))
            }
            Event::Deliver { daemon, configuration, origin, index, .. } => {
                self.is_in(at, *daemon, *configuration, || {
                    format!("{daemon} delivered message {index} of {origin}")
                })
            }
            _ => Ok(()),
        }
    }
}

impl SendingView {
    fn is_in(
        &self,
        at: Position,
        daemon: DaemonId,
        tag: ConfigurationId,
        act: impl FnOnce() -> String,
    ) -> Result<(), Breach> {
        match self.installed.get(&daemon) {
            Some((current, _)) if *current == tag => Ok(()),
            Some((current, since)) => {
                breach(&[*since, at], format!("{} in {tag}, but is in {current}", act()))
            }
            None => breach(&[at], format!("{} in {tag} before it installed any configuration", act())),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["sending_view"];
    let late = Script::new().forms(1, "a b").casts("a", 1).delivers("a", "a", 1).agrees(2, "a b");
    vec![
        rejected("a casts before its first configuration", only, Script::new().casts("a", 1)),
        rejected(
            "b delivers a message of the configuration that it left",
            only,
            late.installs("b", 2, "a b").raw(Event::Deliver {
                daemon: daemon("b"),
                configuration: configuration(1, "a b").id,
                origin: daemon("a"),
                index: 1,
                digest: digest("a", 1),
            }),
        ),
    ]
}
