//! Strict groups: what a member sends is delivered in the view in which it was sent [KK:sending-view].
//!
//! For that, members must have stopped before a view changes: otherwise something is always on its way. Who must stop
//! is asked to (*block*), and says when it has. There are two occasions:
//!
//! - A member joins, leaves or is gone. That comes at a place in the total order, at which the change becomes
//!   *pending*. Every daemon asks the members that it hosts, and casts for each of them, after all that it has sent,
//!   that it has stopped. At the place where the last of them has, the pending changes make one view.
//! - The configuration changes. A daemon asks all members that it hosts, casts what they have sent, and only then
//!   sends its sync. So at the install everybody has stopped, and whatever is pending is done with.
//!
//! A member goes on when nothing is pending: no change of its group, no change of configuration, no exchange of
//! tables. Whoever becomes a member before that is blocked from the start; it has sent nothing in that view.
//!
//! A process that does not stop in time is evicted, so that it holds up nobody for long. A leaving process is a member
//! until the view without it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use model::{GroupName, Member, ProcessId, Time};

/// Changes of a group that wait until its members have stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    /// Who joins.
    pub(crate) joined: BTreeMap<ProcessId, Member>,
    /// Who leaves or is gone.
    pub(crate) left: BTreeSet<ProcessId>,
    /// The members that have not stopped.
    running: BTreeSet<ProcessId>,
}

impl Pending {
    pub(crate) fn joins(&mut self, member: Member) {
        self.joined.insert(member.process, member);
    }

    pub(crate) fn leaves(&mut self, member: ProcessId) {
        self.left.insert(member);
    }
}

/// How a member that is attached here stands, unless it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    /// It was asked to stop. The time by which it must have, once that is set.
    Asked { due: Option<Time> },
    /// It has stopped.
    Blocked,
}

/// The strict groups, beside the table.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Strict {
    pending: BTreeMap<GroupName, Pending>,
    standing: BTreeMap<(u32, GroupName), Standing>,
    /// How many requests of processes that are attached here to leave a group have no place yet. What such a process
    /// sends it does not send as a member.
    leaving: BTreeMap<(u32, GroupName), u64>,
}

impl Strict {
    /// Whether a change of `group` is pending.
    pub(crate) fn is_pending(&self, group: &GroupName) -> bool {
        self.pending.contains_key(group)
    }

    /// Changes `group`, which has `members`, once they have stopped. Returns whether this is the first change that
    /// waits, so that they must be asked.
    pub(crate) fn pend(
        &mut self,
        group: &GroupName,
        members: impl Iterator<Item = ProcessId>,
        change: impl FnOnce(&mut Pending),
    ) -> bool {
        let first = !self.is_pending(group);
        let pending = self.pending.entry(group.clone()).or_default();
        if first {
            pending.running = members.collect();
        }
        change(pending);
        first
    }

    /// A member has stopped. Returns the changes if it was the last one.
    pub(crate) fn stopped(&mut self, group: &GroupName, member: ProcessId) -> Option<Pending> {
        let pending = self.pending.get_mut(group)?;
        pending.running.remove(&member);
        if pending.running.is_empty() { self.pending.remove(group) } else { None }
    }

    /// A member that was to leave stays.
    pub(crate) fn pardon(&mut self, group: &GroupName, member: ProcessId) {
        if let Some(pending) = self.pending.get_mut(group) {
            pending.left.remove(&member);
        }
    }

    /// A process that was to join does not.
    pub(crate) fn renounce(&mut self, group: &GroupName, process: ProcessId) {
        if let Some(pending) = self.pending.get_mut(group) {
            pending.joined.remove(&process);
        }
    }

    /// A process that is gone joins nothing.
    pub(crate) fn renounce_all(&mut self, process: ProcessId) {
        for pending in self.pending.values_mut() {
            pending.joined.remove(&process);
        }
    }

    /// All changes that wait: everybody has stopped.
    pub(crate) fn settle(&mut self) -> BTreeMap<GroupName, Pending> {
        core::mem::take(&mut self.pending)
    }

    /// Asks a member that is attached here to stop. Returns whether it is free, and so must be told.
    pub(crate) fn ask(&mut self, connection: u32, group: &GroupName) -> bool {
        let place = (connection, group.clone());
        if self.standing.contains_key(&place) {
            return false;
        }
        self.standing.insert(place, Standing::Asked { due: None });
        true
    }

    /// A member that is attached here has stopped, or has not begun. Returns whether that is news: an answer to a
    /// question that nobody asked means nothing.
    pub(crate) fn block(&mut self, connection: u32, group: &GroupName) -> bool {
        match self.standing.get_mut(&(connection, group.clone())) {
            Some(standing @ Standing::Asked { .. }) => {
                *standing = Standing::Blocked;
                true
            }
            Some(Standing::Blocked) | None => false,
        }
    }

    /// Whether a member that is attached here has stopped.
    pub(crate) fn is_blocked(&self, connection: u32, group: &GroupName) -> bool {
        self.standing.get(&(connection, group.clone())) == Some(&Standing::Blocked)
    }

    /// Whether no member is attached here that was asked and has not answered.
    pub(crate) fn all_blocked(&self) -> bool {
        self.standing.values().all(|standing| *standing == Standing::Blocked)
    }

    /// Whether everybody here is free.
    pub(crate) fn all_free(&self) -> bool {
        self.standing.is_empty()
    }

    /// Who may go on: the groups by connection.
    pub(crate) fn unblock(&mut self) -> BTreeMap<u32, Vec<GroupName>> {
        let mut freed: BTreeMap<u32, Vec<GroupName>> = BTreeMap::new();
        let pending = &self.pending;
        self.standing.retain(|(connection, group), standing| {
            let stays = pending.contains_key(group) || *standing != Standing::Blocked;
            if !stays {
                freed.entry(*connection).or_default().push(group.clone());
            }
            stays
        });
        freed
    }

    /// A process that is attached here asks to leave.
    pub(crate) fn asks_to_leave(&mut self, connection: u32, group: &GroupName) {
        *self.leaving.entry((connection, group.clone())).or_default() += 1;
    }

    /// A request to leave of a process that is attached here has its place.
    pub(crate) fn leave_placed(&mut self, connection: u32, group: &GroupName) {
        let place = (connection, group.clone());
        if let Some(count) = self.leaving.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.leaving.remove(&place);
            }
        }
    }

    /// Whether a process that is attached here has asked to leave, and the request has no place yet.
    pub(crate) fn is_leaving(&self, connection: u32, group: &GroupName) -> bool {
        self.leaving.contains_key(&(connection, group.clone()))
    }

    /// A process is not in `group` any more.
    pub(crate) fn leave(&mut self, connection: u32, group: &GroupName) {
        self.standing.remove(&(connection, group.clone()));
    }

    /// A process detached.
    pub(crate) fn detach(&mut self, connection: u32) {
        self.standing.retain(|(other, _), _| *other != connection);
        self.leaving.retain(|(other, _), _| *other != connection);
    }

    /// Whoever was asked without a date must have stopped by `due`.
    pub(crate) fn date(&mut self, due: Time) {
        for standing in self.standing.values_mut() {
            if let Standing::Asked { due: date @ None } = standing {
                *date = Some(due);
            }
        }
    }

    /// By when somebody must have stopped.
    pub(crate) fn next_due(&self) -> Option<Time> {
        let due = |standing: &Standing| match standing {
            Standing::Asked { due } => *due,
            Standing::Blocked => None,
        };
        self.standing.values().filter_map(due).min()
    }

    /// The connections of those who should have stopped by now.
    pub(crate) fn overdue(&self, now: Time) -> BTreeSet<u32> {
        let late =
            |standing: &Standing| matches!(standing, Standing::Asked { due: Some(due) } if *due <= now);
        self.standing.iter().filter(|(_, standing)| late(standing)).map(|((it, _), _)| *it).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupName {
        GroupName::new("strict:g").unwrap()
    }

    fn process(text: &str) -> ProcessId {
        text.parse().unwrap()
    }

    #[test]
    fn a_change_waits_for_the_last_member() {
        let mut strict = Strict::default();
        let members = ["a#1/1", "b#1/1"].map(process);
        let leave = |pending: &mut Pending| pending.leaves(members[0]);
        assert!(strict.pend(&group(), members.into_iter(), leave));
        assert!(!strict.pend(&group(), members.into_iter(), |_| {}));
        assert_eq!(strict.stopped(&group(), members[0]), None);
        let pending = strict.stopped(&group(), members[1]).unwrap();
        assert_eq!(pending.left, [members[0]].into());
        assert!(!strict.is_pending(&group()));
    }

    #[test]
    fn a_member_is_asked_once_and_goes_on_when_nothing_is_pending() {
        let mut strict = Strict::default();
        assert!(!strict.block(1, &group()), "nobody asked");
        assert!(strict.ask(1, &group()) && !strict.ask(1, &group()));
        assert!(!strict.all_blocked());
        assert!(strict.block(1, &group()) && !strict.block(1, &group()));
        assert!(strict.all_blocked() && strict.is_blocked(1, &group()));
        strict.pend(&group(), [process("a#1/1")].into_iter(), |_| {});
        assert!(strict.unblock().is_empty());
        strict.settle();
        assert_eq!(strict.unblock(), [(1, [group()].into())].into());
        assert!(strict.all_free());
    }

    #[test]
    fn who_does_not_stop_in_time_is_overdue() {
        let mut strict = Strict::default();
        let at = Time::from_micros;
        strict.ask(1, &group());
        strict.date(at(5));
        strict.ask(2, &group());
        strict.date(at(9));
        strict.date(at(20));
        assert_eq!(strict.next_due(), Some(at(5)));
        assert_eq!(strict.overdue(at(4)), [].into());
        assert_eq!(strict.overdue(at(9)), [1, 2].into());
        strict.block(1, &group());
        strict.detach(2);
        assert_eq!(strict.next_due(), None);
    }
}
