//! Daemons deliver one sequence in a configuration, without a gap: what any of them delivers while no change is under
//! way is the next message of one sequence for all, whatever becomes of them later. So are messages to a group for its
//! members in a view. [VKCD:reliable-total-order]
//!
//! On the way out, from the start change to the install, a daemon goes on along the sequence as far as its companions
//! have it, and may then have to leave it, where nobody who comes along has the next message, or where the sequencer's
//! records end. From there on it delivers only messages of daemons that come along. These were cast by somebody who had
//! delivered no more than all of them, so nothing that is delivered depends on what is not; but another part of the
//! configuration may have delivered what is left out, or have the rest in another order: a *hole* costs the promise,
//! from there to the end of the configuration, for messages that are not safe.

use std::collections::BTreeMap;

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupName, GroupViewId, ProcessId};

use crate::lines::{Line, Lines, Message, Parting};
use crate::numbers::Numbers;
use crate::property::{Breach, Position, Property, breach};

/// A member in its view, as far as that is in one configuration: which of the view's messages comes next for it.
struct Member {
    view: GroupViewId,
    configuration: ConfigurationId,
    line: u32,
    next: usize,
}

/// The checker.
#[derive(Default)]
pub(crate) struct ReliableTotalOrder {
    lines: Lines,
    /// The configuration of each daemon, unless it is on its way out.
    staying: BTreeMap<DaemonId, ConfigurationId>,
    processes: Numbers<ProcessId>,
    /// A view of a group, as far as it is in one configuration.
    views: Numbers<(GroupName, GroupViewId, ConfigurationId)>,
    members: BTreeMap<ProcessId, BTreeMap<GroupName, Member>>,
    /// By the view's number: what its members were given, and where it was first.
    given: Vec<Vec<(Message, Position)>>,
}

impl Property for ReliableTotalOrder {
    fn name(&self) -> &'static str {
        "reliable_total_order"
    }

    fn claim(&self) -> &'static str {
        "VKCD:reliable-total-order"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::StartChange { daemon, .. } => drop(self.staying.remove(daemon)),
            Event::Install { daemon, configuration, .. } => {
                self.staying.insert(*daemon, configuration.id);
            }
            Event::GroupDeliver { process, group, message, view, .. } => {
                let message = (self.processes.of(&message.sender()), message.number());
                return self.gives(at, *process, group, *view, message);
            }
            _ => {}
        }
        self.lines.observe(at, event).map_err(|astray| {
            let spell = |message: Message| format!("{}!{}", self.lines.daemons.value(message.0), message.1);
            let (expected, found) = (spell(astray.expected.0), spell(astray.found));
            let what = format!(
                "message {} of the configuration is {expected} to some, and {found} to others",
                astray.place + 1
            );
            Breach { what, evidence: vec![astray.expected.1, at] }
        })
    }

    fn finish(&mut self) -> Result<(), Breach> {
        for (_, line) in self.lines.iter() {
            line.partings.iter().try_for_each(|parting| self.goes_on_with_companions(line, parting))?;
        }
        Ok(())
    }
}

impl ReliableTotalOrder {
    /// A member is given the next message of its view.
    fn gives(
        &mut self,
        at: Position,
        process: ProcessId,
        group: &GroupName,
        view: GroupViewId,
        message: Message,
    ) -> Result<(), Breach> {
        let Some(configuration) = self.staying.get(&process.daemon()).copied() else { return Ok(()) };
        let groups = self.members.entry(process).or_default();
        let member = match groups.get_mut(group) {
            Some(member) if member.view == view && member.configuration == configuration => member,
            _ => {
                let line = self.views.of(&(group.clone(), view, configuration));
                groups.insert(group.clone(), Member { view, configuration, line, next: 0 });
                let Some(member) = groups.get_mut(group) else { return Ok(()) };
                member
            }
        };
        let line = member.line;
        if self.given.len() <= line as usize {
            self.given.resize_with(line as usize + 1, Vec::new);
        }
        let given = &mut self.given[line as usize];
        let place = member.next;
        member.next += 1;
        match given.get(place) {
            Some((expected, first)) if *expected != message => {
                let spell = |message: Message| format!("{}!{}", self.processes.value(message.0), message.1);
                let (expected, found) = (spell(*expected), spell(message));
                breach(
                    &[*first, at],
                    format!(
                        "message {} in view {view} of {group} is {expected} to some, and {found} to {process}",
                        place + 1
                    ),
                )
            }
            Some(_) => Ok(()),
            None => {
                given.push((message, at));
                Ok(())
            }
        }
    }

    /// Checks that who left the sequence delivered only messages of its companions from there on.
    fn goes_on_with_companions(&self, line: &Line, parting: &Parting) -> Result<(), Breach> {
        let rest = line.common.iter().skip(parting.before).map(|(message, _)| message);
        let along = rest.zip(&parting.after).take_while(|(expected, found)| expected == found).count();
        let left_it = parting.before + along < line.common.len();
        let stranger = parting.after[along..].iter().find(|message| !parting.along.contains(&message.0));
        match stranger {
            Some(message) if left_it => {
                let (_, expected) = line.common[parting.before + along];
                let origin = self.lines.daemons.value(message.0);
                breach(
                    &[expected, parting.at],
                    format!(
                        "{} did not deliver the next message that others have, but then one of {origin}, who did not come along",
                        parting.who
                    ),
                )
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["reliable_total_order"];
    let three = Script::new().forms(1, "a b c").casts("a", 1).casts("b", 1).casts("c", 1);
    // a and c part from b: a delivers its own message, then b's.
    let a_parts = three.clone().delivers("a", "a", 1).delivers("a", "b", 1).delivers("a", "c", 1);
    let b_parts = |order: &[&str]| {
        let leaving = a_parts.clone().forms(2, "a").agrees(3, "b c");
        let given = order.iter().fold(leaving, |script, origin| script.delivers("b c", origin, 1));
        given.installs("b c", 3, "b c")
    };
    let groups = Script::new()
        .forms(1, "a b")
        .attaches("a/1 b/1")
        .views("g", 1, "a/1 b/1")
        .sends("a/1", "g", 1)
        .sends("b/1", "g", 1)
        .receives("a/1", "g", "a/1", 1)
        .receives("a/1", "g", "b/1", 1)
        .receives("b/1", "g", "b/1", 1);
    vec![
        rejected("a and b deliver in two orders, and part", only, {
            let crossed = three.clone().delivers("a", "a", 1).delivers("b", "b", 1).delivers("b", "a", 1);
            crossed.delivers("a", "b", 1).forms(2, "a").forms(3, "b")
        }),
        rejected(
            "b skips a message that c, who then dies, has delivered",
            only,
            three.clone().delivers("c", "a", 1).delivers("c", "b", 1).delivers("b", "b", 1).crashes("c"),
        ),
        rejected(
            "members are given two orders, and part",
            only,
            groups.clone().receives("b/1", "g", "a/1", 1).forms(2, "a").forms(3, "b"),
        ),
        rejected("after a hole b goes on with what a sent", only, {
            let again = a_parts.clone().casts("a", 2).delivers("a", "a", 2).forms(2, "a").agrees(3, "b c");
            let given = again.delivers("b c", "b", 1).delivers("b c", "c", 1).delivers("b c", "a", 1);
            given.installs("b c", 3, "b c")
        }),
        accepted("after a hole b and c go on with their own", b_parts(&["b", "c"])),
        accepted("where nothing is ordered, b and c go on in an order of theirs", b_parts(&["c", "b"])),
        accepted("b and c have it all", b_parts(&["a", "b", "c"])),
        accepted("b and c have a part", b_parts(&["a", "c", "b"])),
    ]
}
