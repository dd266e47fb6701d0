//! What a daemon hears from the membership service: start changes under increasing ids, each proposing the daemon
//! itself; then views, each after a start change, within what that change proposed, carrying its id for this daemon,
//! under an increasing view id. [KK:start-change] [KK:start-id]

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{Configuration, ConfigurationId, DaemonId, StartId};

use crate::property::{Breach, Position, Property, breach};

/// What one daemon has heard last.
struct Heard {
    start: StartId,
    /// What the start change since the last view proposed.
    proposed: Option<BTreeSet<DaemonId>>,
    view: Option<ConfigurationId>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct MembershipInterface {
    daemons: BTreeMap<DaemonId, Heard>,
}

impl Property for MembershipInterface {
    fn name(&self) -> &'static str {
        "membership_interface"
    }

    fn claim(&self) -> &'static str {
        "KK:start-change"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::StartChange { daemon, start, proposed } => {
                if !proposed.contains(daemon) {
                    return breach(
                        &[at],
                        format!("start change {start} at {daemon} does not propose {daemon}"),
                    );
                }
                let heard = self.heard(*daemon);
                if *start <= heard.start {
                    let last = heard.start;
                    return breach(&[at], format!("{daemon} was told start change {start} after {last}"));
                }
                heard.start = *start;
                heard.proposed = Some(proposed.clone());
                Ok(())
            }
            Event::MembershipView { daemon, configuration } => {
                self.follows_its_start_change(at, *daemon, configuration)
            }
            _ => Ok(()),
        }
    }
}

impl MembershipInterface {
    fn heard(&mut self, daemon: DaemonId) -> &mut Heard {
        let start = StartId::new(daemon.boot(), 0);
        self.daemons.entry(daemon).or_insert(Heard { start, proposed: None, view: None })
    }

    fn follows_its_start_change(
        &mut self,
        at: Position,
        daemon: DaemonId,
        view: &Configuration,
    ) -> Result<(), Breach> {
        let id = view.id;
        let heard = self.heard(daemon);
        let Some(proposed) = heard.proposed.take() else {
            return breach(&[at], format!("{daemon} was told view {id} without a start change before it"));
        };
        if view.members.get(&daemon) != Some(&heard.start) {
            let start = heard.start;
            return breach(&[at], format!("view {id} at {daemon} does not carry its last start id, {start}"));
        }
        if let Some(stranger) = view.members.keys().find(|member| !proposed.contains(member)) {
            let start = heard.start;
            return breach(
                &[at],
                format!("{start} at {daemon} did not propose {stranger}, a member of {id}"),
            );
        }
        if heard.view.is_some_and(|last| id <= last) {
            return breach(&[at], format!("{daemon} was told view {id} after a greater or equal one"));
        }
        heard.view = Some(id);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["membership_interface"];
    let told = |counter: u64, names: &str| Event::MembershipView {
        daemon: daemon("a"),
        configuration: configuration(counter, names),
    };
    let change = |number: u64, names: &str| Event::StartChange {
        daemon: daemon("a"),
        start: start(number),
        proposed: daemons(names),
    };
    vec![
        rejected("a is not in what is proposed to it", only, Script::new().raw(change(1, "b"))),
        rejected("a start id is used twice", only, Script::new().raw(change(1, "a")).raw(change(1, "a b"))),
        rejected("the first start id is that of no change", only, Script::new().raw(change(0, "a"))),
        rejected("a view comes out of the blue", only, Script::new().raw(told(1, "a"))),
        rejected(
            "two views follow one start change",
            only,
            Script::new().raw(change(1, "a b")).raw(told(1, "a")).raw(told(2, "a b")),
        ),
        rejected(
            "a view carries an older start id",
            only,
            Script::new().raw(change(2, "a")).raw(told(1, "a")),
        ),
        rejected("b was not proposed", only, Script::new().raw(change(1, "a")).raw(told(1, "a b"))),
        rejected(
            "view ids run backwards",
            only,
            Script::new().raw(change(1, "a")).raw(told(1, "a")).raw(change(2, "a")).raw(
                Event::MembershipView {
                    daemon: daemon("a"),
                    configuration: Configuration::new(0, configuration(2, "a").members),
                },
            ),
        ),
        accepted(
            "a change is overtaken by another before its view",
            Script::new().raw(change(1, "a b")).raw(change(2, "a")).raw(told(2, "a")),
        ),
    ]
}
