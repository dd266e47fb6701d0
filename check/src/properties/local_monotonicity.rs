//! The ids of the views that one sees increase: of configurations at a daemon, of each group's views at a process.
//! [VKCD:local-monotonicity]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupName, GroupViewId, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct LocalMonotonicity {
    configurations: BTreeMap<DaemonId, (ConfigurationId, Position)>,
    views: BTreeMap<ProcessId, BTreeMap<GroupName, (GroupViewId, Position)>>,
}

impl Property for LocalMonotonicity {
    fn name(&self) -> &'static str {
        "local_monotonicity"
    }

    fn claim(&self) -> &'static str {
        "VKCD:local-monotonicity"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, configuration, .. } => {
                let id = configuration.id;
                match self.configurations.insert(*daemon, (id, at)) {
                    Some((last, before)) if last >= id => {
                        breach(&[before, at], format!("{daemon} installed {id} after {last}"))
                    }
                    _ => Ok(()),
                }
            }
            Event::GroupInstall { process, view } => {
                let (group, id) = (&view.group, view.id);
                let views = self.views.entry(*process).or_default();
                match views.insert(group.clone(), (id, at)) {
                    Some((last, before)) if last >= id => {
                        breach(&[before, at], format!("{process} was told view {id} of {group} after {last}"))
                    }
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
    vec![
        rejected(
            "a installs a configuration below its own",
            &["membership_interface", "local_monotonicity"],
            Script::new()
                .forms(2, "a")
                .agrees(3, "a")
                .but(|event| {
                    if let Event::MembershipView { configuration, .. } = event {
                        *configuration = model::Configuration::new(1, configuration.members.clone());
                    }
                })
                .raw(Event::Install {
                    daemon: daemon("a"),
                    configuration: model::Configuration::new(1, configuration(3, "a").members),
                    previous: configuration(2, "a").id,
                    transitional: daemons("a"),
                }),
        ),
        rejected(
            "a installs where it is already",
            &["install_chain", "local_monotonicity"],
            Script::new().forms(1, "a").installs("a", 1, "a"),
        ),
        rejected(
            "a process sees two views under one id",
            &["local_monotonicity"],
            Script::new().forms(1, "a").attaches("a/1").views("g", 1, "a/1").views("g", 1, "a/1"),
        ),
        accepted(
            "views of different groups are not compared",
            Script::new().forms(1, "a").attaches("a/1").views("g", 2, "a/1").views("h", 1, "a/1"),
        ),
    ]
}
