//! The transitional set that one is told with a view says who came along from the same previous view: it contains
//! oneself, lies within both views, and of those who enter the view at all it contains exactly those who came from
//! where oneself came from. [VKCD:transitional-set]
//!
//! For a group, coming along also needs that the daemons of both went the same way: a view of a group can outlast a
//! separation of daemons, since it is told only when the group's tables agree again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};

use model::trace::Event;
use model::{ConfigurationId, DaemonId, GroupName, GroupViewId, ProcessId};

use crate::property::{Breach, Position, Property, breach};

/// How somebody came into a view: from `previous`, on a `path`, together with `transitional`.
struct Arrival<M, V> {
    who: M,
    at: Position,
    previous: Option<V>,
    path: Vec<ConfigurationId>,
    transitional: BTreeSet<M>,
}

impl<M: Ord + Copy + Display + Debug, V: PartialEq> Arrival<M, V> {
    fn lies_within(&self, view: impl Display, old: &BTreeSet<M>, new: &BTreeSet<M>) -> Result<(), Breach> {
        let Arrival { who, transitional, .. } = self;
        if !transitional.contains(who) {
            return breach(&[self.at], format!("{who} is not in its own transitional set into {view}"));
        }
        match transitional.iter().find(|m| *m != who && !(old.contains(m) && new.contains(m))) {
            Some(stranger) => breach(
                &[self.at],
                format!("{stranger}, in {who}'s transitional set into {view}, is not in both views"),
            ),
            None => Ok(()),
        }
    }

    fn agrees_with(&self, other: &Arrival<M, V>, view: impl Display) -> Result<(), Breach> {
        let from_the_same = self.previous.is_some() && self.previous == other.previous;
        let together = from_the_same && self.path == other.path;
        for (mine, theirs) in [(self, other), (other, self)] {
            let named = mine.transitional.contains(&theirs.who);
            let fault = if named && !from_the_same {
                "who came from another view"
            } else if named && !theirs.transitional.contains(&mine.who) {
                "whose own set does not say so"
            } else if !named && together {
                "who is not in it but came the same way"
            } else {
                continue;
            };
            let (who, whom) = (mine.who, theirs.who);
            return breach(
                &[mine.at, theirs.at],
                format!("the transitional set of {who} into {view} is wrong on {whom}, {fault}"),
            );
        }
        Ok(())
    }
}

/// A group as a member was told it last, and how far the member's daemon had come by then.
struct Told {
    view: GroupViewId,
    members: BTreeSet<ProcessId>,
    path_from: usize,
}

/// The checker.
#[derive(Default)]
pub(crate) struct TransitionalSet {
    /// The members of the present configuration.
    current: BTreeMap<DaemonId, BTreeSet<DaemonId>>,
    /// All configurations in which a daemon was.
    paths: BTreeMap<DaemonId, Vec<ConfigurationId>>,
    arrivals: BTreeMap<ConfigurationId, Vec<Arrival<DaemonId, ConfigurationId>>>,
    told: BTreeMap<ProcessId, BTreeMap<GroupName, Told>>,
    group_arrivals: BTreeMap<(GroupName, GroupViewId), Vec<Arrival<ProcessId, GroupViewId>>>,
}

impl Property for TransitionalSet {
    fn name(&self) -> &'static str {
        "transitional_set"
    }

    fn claim(&self) -> &'static str {
        "VKCD:transitional-set"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Install { daemon, configuration, previous, transitional } => {
                let (who, id) = (*daemon, configuration.id);
                let new = configuration.set();
                let alone = BTreeSet::from([who]);
                let old = self.current.insert(who, new.clone()).unwrap_or(alone);
                self.paths.entry(who).or_default().push(id);
                let (previous, transitional) = (Some(*previous), transitional.clone());
                let mine = Arrival { who, at, previous, path: Vec::new(), transitional };
                mine.lies_within(id, &old, &new)?;
                enters(self.arrivals.entry(id).or_default(), mine, id)
            }
            Event::GroupInstall { process, view } => {
                let (who, group, id) = (*process, &view.group, view.id);
                let path = self.paths.get(&who.daemon()).map_or(&[][..], Vec::as_slice);
                let new: BTreeSet<ProcessId> = view.members.iter().map(|m| m.process).collect();
                let told = Told { view: id, members: new.clone(), path_from: path.len().saturating_sub(1) };
                let before = self.told.entry(who).or_default().insert(group.clone(), told);
                let transitional = view.transitional.iter().copied().collect();
                let (previous, old, path) = match before {
                    Some(before) => (Some(before.view), before.members, path[before.path_from..].to_vec()),
                    None => (None, BTreeSet::from([who]), Vec::new()),
                };
                let mine = Arrival { who, at, previous, path, transitional };
                mine.lies_within(format_args!("{id} of {group}"), &old, &new)?;
                let arrivals = self.group_arrivals.entry((group.clone(), id)).or_default();
                enters(arrivals, mine, format_args!("{id} of {group}"))
            }
            Event::GroupLeave { process, group } => {
                if let Some(told) = self.told.get_mut(process) {
                    told.remove(group);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Compares an arrival with all that came before it into the same view.
fn enters<M: Ord + Copy + Display + Debug, V: PartialEq>(
    arrivals: &mut Vec<Arrival<M, V>>,
    mine: Arrival<M, V>,
    view: impl Display,
) -> Result<(), Breach> {
    for other in arrivals.iter().filter(|other| other.who != mine.who) {
        other.agrees_with(&mine, &view)?;
    }
    arrivals.push(mine);
    Ok(())
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["transitional_set"];
    let with = |names: &'static str| {
        move |event: &mut Event| match event {
            Event::Install { transitional, .. } => *transitional = daemons(names),
            Event::GroupInstall { view, .. } => {
                view.transitional = names.split_whitespace().map(process).collect();
            }
            _ => unreachable!("only installs are spoilt"),
        }
    };
    let together =
        Script::new().forms(1, "a b").agrees(2, "a b").installs("a", 2, "a b").installs("b", 2, "a b");
    let apart = Script::new().forms(1, "a").forms(2, "b").agrees(3, "a b").installs("a", 3, "a b");
    let group = Script::new().forms(1, "a b").attaches("a/1 b/1");
    vec![
        rejected("a is not in its own set", only, Script::new().forms(1, "a").but(with(""))),
        rejected("a names b, who was not with it", only, apart.clone().but(with("a b"))),
        rejected("b does not name a, who came along", only, together.clone().but(with("b"))),
        rejected(
            "a names b, who comes from an older view",
            only,
            Script::new()
                .forms(1, "a b")
                .agrees(2, "a b")
                .installs("a", 2, "a b")
                .agrees(3, "a b")
                .installs("a", 3, "a b")
                .but(with("a b"))
                .installs("b", 3, "a b"),
        ),
        rejected(
            "a newcomer to a group claims to have come along",
            only,
            group.clone().views("g", 1, "a/1").told("b/1", "g", 2, "a/1 b/1").but(with("a/1 b/1")),
        ),
        rejected(
            "a member omits another that came along",
            only,
            group.clone().views("g", 1, "a/1 b/1").views("g", 2, "a/1 b/1").but(with("b/1")),
        ),
        accepted(
            "a names b, who crashes before it enters",
            Script::new()
                .forms(1, "a b")
                .agrees(2, "a b")
                .installs("a", 2, "a b")
                .but(with("a b"))
                .crashes("b"),
        ),
        accepted("who leaves a group and joins again is a newcomer", {
            let left = group.clone().views("g", 1, "a/1 b/1").leaves("b/1", "g").views("g", 2, "a/1");
            left.views("g", 3, "a/1 b/1")
        }),
        accepted("members who were apart are in one view before and after, but came alone", {
            let apart = group.clone().views("g", 1, "a/1 b/1").forms(2, "a").forms(3, "b").forms(4, "a b");
            let merged = apart.told("a/1", "g", 1, "a/1 b/1").but(with("a/1"));
            merged.told("b/1", "g", 1, "a/1 b/1").but(with("b/1"))
        }),
        accepted("daemons that were apart merge", apart.installs("b", 3, "a b")),
        accepted("daemons move together", together),
    ]
}
