//! Views and messages of a group are interleaved the same way for all its members: whose daemons move together from one
//! configuration to the next went there through the same views of the group, and were given in each the same messages
//! in the same order before the next. In a quiescent run, moreover, everybody in the last view of a group was told that
//! view. [VKCD:same-view]
//!
//! What a member was given in one view is kept as a count and a fingerprint, so the cost is that of a delivery.

use std::collections::{BTreeMap, BTreeSet};

use model::trace::Event;
use model::{ConfigurationId, DaemonId, Digest, GroupName, GroupViewId, MessageId, ProcessId};

use crate::property::{Breach, Position, Property, breach, of_daemon};

/// How a member's stay in a view ended, or a configuration did for a member that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By another view.
    View(GroupViewId),
    /// By a change of the configuration, or by the end of the run.
    Rest,
    /// The member left. The others are told a view at the same place.
    Left,
}

/// What a member was given in a view, as far as it is in one configuration.
#[derive(Clone, Copy)]
struct Given {
    messages: u64,
    order: Digest,
}

const NOTHING: Given = Given { messages: 0, order: Digest::EMPTY };

/// A member in its present view.
struct Member {
    view: GroupViewId,
    /// The daemon's configuration before the present one, if the view was told before.
    carried_from: Option<ConfigurationId>,
    all: Vec<ProcessId>,
    given: Given,
}

/// A member's way through a view.
#[derive(Clone)]
struct Passage {
    who: ProcessId,
    group: GroupName,
    view: GroupViewId,
    carried_from: Option<ConfigurationId>,
    given: Given,
    end: End,
    at: Position,
}

/// One way through each view of those who move together. Who has come with a view from different configurations may be
/// told different views for a start: each is told first who of its companions came along.
type Passages = BTreeMap<(GroupName, GroupViewId, Option<ConfigurationId>), Passage>;

/// The checker.
#[derive(Default)]
pub(crate) struct GroupViewAgreement {
    current: BTreeMap<DaemonId, ConfigurationId>,
    members: BTreeMap<ProcessId, BTreeMap<GroupName, Member>>,
    gone: BTreeSet<ProcessId>,
    /// Passages of a daemon's processes in its present configuration.
    passed: BTreeMap<DaemonId, Vec<Passage>>,
    moves: BTreeMap<(ConfigurationId, ConfigurationId), Passages>,
}

impl Property for GroupViewAgreement {
    fn name(&self) -> &'static str {
        "group_view_agreement"
    }

    fn claim(&self) -> &'static str {
        "VKCD:same-view"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::GroupDeliver { process, group, message, .. } => {
                if let Some(member) = self.members.get_mut(process).and_then(|groups| groups.get_mut(group)) {
                    member.given = and(member.given, *message);
                }
            }
            Event::GroupInstall { process, view } => {
                let all = view.members.iter().map(|member| member.process).collect();
                let member = Member { view: view.id, carried_from: None, all, given: NOTHING };
                let groups = self.members.entry(*process).or_default();
                if let Some(old) = groups.insert(view.group.clone(), member) {
                    self.passes(*process, view.group.clone(), &old, End::View(view.id), at);
                }
            }
            Event::GroupLeave { process, group } => {
                if let Some(old) = self.members.get_mut(process).and_then(|groups| groups.remove(group)) {
                    self.passes(*process, group.clone(), &old, End::Left, at);
                }
            }
            // What it missed of its last views is nobody's fault.
            Event::Detach { process } => {
                self.members.remove(process);
                self.gone.insert(*process);
            }
            Event::Install { daemon, configuration, previous, .. } => {
                self.current.insert(*daemon, configuration.id);
                let mut passages = self.passed.remove(daemon).unwrap_or_default();
                for (process, groups) in self.members.range_mut(of_daemon(*daemon)) {
                    for (group, member) in groups {
                        passages.push(rest(*process, group, member, at));
                        member.given = NOTHING;
                        member.carried_from = Some(*previous);
                    }
                }
                join(self.moves.entry((*previous, configuration.id)).or_default(), passages)?;
            }
            Event::Quiescent { daemons, .. } => {
                let alive: BTreeSet<DaemonId> = daemons.iter().copied().collect();
                self.come_to_rest(at, &alive)?;
                self.everybody_is_told(at, &alive)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl GroupViewAgreement {
    fn passes(&mut self, who: ProcessId, group: GroupName, old: &Member, end: End, at: Position) {
        let passage =
            Passage { who, group, view: old.view, carried_from: old.carried_from, given: old.given, end, at };
        self.passed.entry(who.daemon()).or_default().push(passage);
    }

    fn come_to_rest(&self, at: Position, alive: &BTreeSet<DaemonId>) -> Result<(), Breach> {
        let mut places: BTreeMap<ConfigurationId, Passages> = BTreeMap::new();
        for daemon in alive {
            let Some(current) = self.current.get(daemon) else { continue };
            let mut passages = self.passed.get(daemon).cloned().unwrap_or_default();
            for (process, groups) in self.members.range(of_daemon(*daemon)) {
                passages.extend(groups.iter().map(|(group, member)| rest(*process, group, member, at)));
            }
            join(places.entry(*current).or_default(), passages)?;
        }
        Ok(())
    }

    fn everybody_is_told(&self, at: Position, alive: &BTreeSet<DaemonId>) -> Result<(), Breach> {
        let mut seen: BTreeSet<(&GroupName, GroupViewId)> = BTreeSet::new();
        for (process, groups) in alive.iter().flat_map(|daemon| self.members.range(of_daemon(*daemon))) {
            for (group, member) in groups {
                if !seen.insert((group, member.view)) {
                    continue;
                }
                let there =
                    |other: &&ProcessId| alive.contains(&other.daemon()) && !self.gone.contains(other);
                let view = |other: &ProcessId| Some(self.members.get(other)?.get(group)?.view);
                if let Some(other) =
                    member.all.iter().filter(there).find(|other| view(other) != Some(member.view))
                {
                    let last = member.view;
                    return breach(
                        &[at],
                        format!(
                            "{process} ends in view {last} of {group}, in which {other} is, but {other} does not"
                        ),
                    );
                }
            }
        }
        Ok(())
    }
}

fn and(given: Given, message: MessageId) -> Given {
    let sender = message.sender();
    let order = given.order.and(sender.daemon().name().as_str().as_bytes());
    let order = order.and(&sender.daemon().boot().number().to_le_bytes());
    let order = order.and(&sender.connection().to_le_bytes()).and(&message.number().to_le_bytes());
    Given { messages: given.messages + 1, order }
}

fn rest(who: ProcessId, group: &GroupName, member: &Member, at: Position) -> Passage {
    Passage {
        who,
        group: group.clone(),
        view: member.view,
        carried_from: member.carried_from,
        given: member.given,
        end: End::Rest,
        at,
    }
}

/// Compares passages with those of others who move along, and keeps what is new.
fn join(known: &mut Passages, passages: Vec<Passage>) -> Result<(), Breach> {
    for mine in passages {
        let key = (mine.group.clone(), mine.view, mine.carried_from);
        match known.get(&key) {
            Some(theirs) => {
                agree(theirs, &mine)?;
                if theirs.end == End::Left {
                    known.insert(key, mine);
                }
            }
            None => drop(known.insert(key, mine)),
        }
    }
    Ok(())
}

fn agree(theirs: &Passage, mine: &Passage) -> Result<(), Breach> {
    let left = theirs.end == End::Left || mine.end == End::Left;
    let same_messages =
        (theirs.given.messages, theirs.given.order) == (mine.given.messages, mine.given.order);
    if same_messages && (left || theirs.end == mine.end) {
        return Ok(());
    }
    let tell = |passage: &Passage| {
        let then = match passage.end {
            End::View(view) => format!("was told view {view}"),
            End::Rest => "came to the end of the configuration".to_owned(),
            End::Left => "left".to_owned(),
        };
        format!("{} was given {} messages and then {then}", passage.who, passage.given.messages)
    };
    let (group, view) = (&mine.group, mine.view);
    breach(
        &[theirs.at, mine.at],
        format!(
            "in view {view} of {group} {}, and {}; or their order is not the same",
            tell(theirs),
            tell(mine)
        ),
    )
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["group_view_agreement"];
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1 b/2").views("g", 1, "a/1 b/1");
    vec![
        rejected(
            "b is not told a view that a passes through",
            // It then names members in its transitional set that came another way.
            &["transitional_set", "group_view_agreement"],
            two.clone()
                .told("a/1", "g", 2, "a/1 b/1")
                .told("a/1", "g", 3, "a/1 b/1")
                .told("b/1", "g", 3, "a/1 b/1")
                .but(|event| {
                    if let Event::GroupInstall { view, .. } = event {
                        view.transitional = vec![process("a/1"), process("b/1")];
                    }
                })
                .forms(2, "a b"),
        ),
        rejected(
            "b is not told the last view",
            only,
            two.clone().told("a/1 b/2", "g", 2, "a/1 b/1 b/2").quiescent("a b"),
        ),
        rejected(
            "a moves on with a view that b was not told",
            only,
            two.clone().told("a/1", "g", 2, "a/1 b/1").forms(2, "a b"),
        ),
        accepted("a leaver misses the view that is told for it, and nothing else", {
            let both = two.clone().sends("a/1", "g", 1).receives("a/1 b/1", "g", "a/1", 1);
            both.leaves("b/1", "g").views("g", 2, "a/1").forms(2, "a b").quiescent("a b")
        }),
        accepted("a and b come with one view from different places", {
            let apart = two.clone().forms(2, "a").forms(3, "b").forms(4, "a b");
            let pruned = apart.told("a/1", "g", 0, "a/1").told("b/1", "g", 1, "b/1");
            pruned.views("g", 5, "a/1 b/1").forms(6, "a b")
        }),
        accepted(
            "b is gone before it is told",
            two.detaches("b/1").views("g", 2, "a/1").forms(2, "a b").quiescent("a b"),
        ),
    ]
}
