//! Lightweight groups: the table of groups and members that every daemon holds, and the views that follow from its
//! changes.
//!
//! Joins, leaves and departures are payloads of the total order, so the tables of daemons that move along together
//! are the same at the same place. Each change of a group makes a view with a greater id. A member is told what
//! changed since its own previous view; whoever is in both came along with it, because processes on daemons that did
//! not are taken out first ([`crate::exchange`]) [VKCD:transitional-set].
//!
//! The table is kept twice, by group and by process, and shares names and members between the two. The cost of a
//! message or a change is that of the groups it concerns.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use model::{DaemonId, GroupName, GroupView, GroupViewId, Member, ProcessId};

use crate::message::{Rank, Row, Table};
use crate::processes::Processes;
use crate::strict::Pending;

/// The views to tell, by connection of the local process.
pub(crate) type Views = BTreeMap<u32, Vec<Arc<GroupView>>>;

#[derive(Clone, Debug, Hash)]
struct Group {
    view: GroupViewId,
    /// Whether `view` came to be in the primary component.
    primary: bool,
    /// In the order of their ids.
    members: Vec<Arc<Member>>,
    /// The connections of those members that are attached here.
    local: Arc<[u32]>,
}

impl Group {
    fn is_first(&self, process: ProcessId) -> bool {
        self.members.first().is_some_and(|member| member.process == process)
    }
}

#[derive(Clone, Debug, Hash)]
struct Process {
    member: Arc<Member>,
    groups: BTreeSet<GroupName>,
}

/// What a step does to a group.
#[derive(Debug, Default)]
struct Change {
    joined: Vec<ProcessId>,
    left: Vec<ProcessId>,
    /// The view that the group is in already, if it is only new here.
    known: Option<GroupViewId>,
}

/// A row of another table: a process, its groups, and the views of some of them by place.
pub(crate) type Foreign = (Member, Arc<[GroupName]>, Arc<[(u32, GroupViewId)]>);

/// The table.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Groups {
    me: DaemonId,
    groups: BTreeMap<GroupName, Group>,
    processes: BTreeMap<ProcessId, Process>,
    /// Those of the groups that are strict.
    strict: BTreeSet<GroupName>,
    /// Who wants to know of the groups whose names begin with what.
    watchers: BTreeMap<u32, Arc<str>>,
    /// The local members of a group that has none.
    nobody: Arc<[u32]>,
    /// Whether views come to be in the primary component.
    primary: bool,
}

impl Groups {
    pub(crate) fn new(me: DaemonId) -> Groups {
        Groups {
            me,
            groups: BTreeMap::new(),
            processes: BTreeMap::new(),
            strict: BTreeSet::new(),
            watchers: BTreeMap::new(),
            nobody: Arc::new([]),
            primary: false,
        }
    }

    /// Views from here on come to be in the primary component, or not.
    pub(crate) fn set_primary(&mut self, primary: bool) {
        self.primary = primary;
    }

    /// The groups and their members, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&GroupName, &[Arc<Member>])> {
        self.groups.iter().map(|(name, group)| (name, &group.members[..]))
    }

    /// How many groups `process` is in.
    pub(crate) fn count_of(&self, process: ProcessId) -> usize {
        self.processes.get(&process).map_or(0, |process| process.groups.len())
    }

    /// Whether `process` is in `group`.
    pub(crate) fn has(&self, process: ProcessId, group: &GroupName) -> bool {
        self.processes.get(&process).is_some_and(|process| process.groups.contains(group))
    }

    /// The view of `group` that `process` was told last, if it is in it.
    pub(crate) fn view_told(&self, process: ProcessId, group: &GroupName) -> Option<GroupViewId> {
        if self.has(process, group) { self.view_of(group) } else { None }
    }

    /// The view of `group` that its members were told last.
    pub(crate) fn view_of(&self, group: &GroupName) -> Option<GroupViewId> {
        self.groups.get(group).map(|group| group.view)
    }

    /// The groups that `process` is in.
    pub(crate) fn of(&self, process: ProcessId) -> impl Iterator<Item = &GroupName> {
        self.processes.get(&process).into_iter().flat_map(|process| &process.groups)
    }

    /// The members of `group`.
    pub(crate) fn members_of(&self, group: &GroupName) -> &[Arc<Member>] {
        self.groups.get(group).map_or(&[], |group| &group.members)
    }

    /// The groups that are strict.
    pub(crate) fn strict(&self) -> impl Iterator<Item = &GroupName> {
        self.strict.iter()
    }

    /// Who is to be given a message to `group` here.
    pub(crate) fn audience(&self, group: &GroupName) -> &Arc<[u32]> {
        self.groups.get(group).map_or(&self.nobody, |group| &group.local)
    }

    /// Somebody wants to know of the groups whose names begin with `prefix`. Returns those that there are.
    pub(crate) fn watch(&mut self, connection: u32, prefix: Arc<str>) -> Vec<Arc<GroupView>> {
        let known = self.groups.iter().filter(|(name, _)| name.as_str().starts_with(&*prefix));
        let views =
            known.map(|(name, group)| Arc::new(view(name, group, Vec::new(), Vec::new(), Vec::new())));
        let views = views.collect();
        self.watchers.insert(connection, prefix);
        views
    }

    /// Who watches.
    pub(crate) fn watchers(&self) -> impl Iterator<Item = u32> {
        self.watchers.keys().copied()
    }

    /// Who watched does not any more. Returns whether it did.
    pub(crate) fn unwatch(&mut self, connection: u32) -> bool {
        self.watchers.remove(&connection).is_some()
    }

    /// A process joins groups.
    pub(crate) fn join(
        &mut self,
        member: Member,
        names: &[GroupName],
        id: GroupViewId,
        here: &Processes,
    ) -> Views {
        let mut changes = BTreeMap::new();
        self.add(member, names, &mut changes);
        self.conclude(changes, id, here)
    }

    /// A process leaves groups.
    pub(crate) fn leave(
        &mut self,
        process: ProcessId,
        names: &[GroupName],
        id: GroupViewId,
        here: &Processes,
    ) -> Views {
        let mut changes = BTreeMap::new();
        self.take_out(process, names, &mut changes);
        self.conclude(changes, id, here)
    }

    /// A local process detached: it is given nothing more. It stays a member until the order says otherwise.
    pub(crate) fn detach(&mut self, connection: u32) {
        let Some(process) = self.processes.get(&ProcessId::new(self.me, connection)) else { return };
        for name in &process.groups {
            if let Some(group) = self.groups.get_mut(name) {
                group.local = group.local.iter().copied().filter(|other| *other != connection).collect();
            }
        }
    }

    /// Makes the changes of strict groups that were pending; and takes out all processes on daemons other than
    /// `daemons`, if it is said which stay.
    pub(crate) fn settle(
        &mut self,
        pending: BTreeMap<GroupName, Pending>,
        daemons: Option<&BTreeSet<DaemonId>>,
        id: GroupViewId,
        here: &Processes,
    ) -> Views {
        let stays = |process: &ProcessId| daemons.is_none_or(|daemons| daemons.contains(&process.daemon()));
        let mut changes = BTreeMap::new();
        for (name, Pending { joined, left, .. }) in pending {
            let name = core::slice::from_ref(&name);
            left.into_iter().for_each(|process| self.take_out(process, name, &mut changes));
            for (_, member) in joined.into_iter().filter(|(process, _)| stays(process)) {
                self.add(member, name, &mut changes);
            }
        }
        if daemons.is_some() {
            let departed: Vec<ProcessId> = self.processes.keys().filter(|it| !stays(it)).copied().collect();
            departed.into_iter().for_each(|process| self.remove(process, &mut changes));
        }
        self.conclude(changes, id, here)
    }

    /// Takes in the processes of other classes. A group that only one class knows does not change by it: it stays in
    /// its view, so that all daemons agree which view a group is in, whether they host members or not.
    pub(crate) fn merge(&mut self, rows: &[Foreign], id: GroupViewId, here: &Processes) -> Views {
        let mut told: BTreeMap<GroupName, Option<GroupViewId>> = BTreeMap::new();
        for (_, names, views) in rows {
            for (place, view) in views.iter() {
                let Some(name) = names.get(*place as usize) else { continue };
                let known_here = self.groups.contains_key(name);
                told.entry(name.clone())
                    .and_modify(|known| *known = None)
                    .or_insert((!known_here).then_some(*view));
            }
        }
        let mut changes: BTreeMap<GroupName, Change> = BTreeMap::new();
        for (member, names, _) in rows {
            self.add(*member, names, &mut changes);
        }
        for (name, change) in &mut changes {
            change.known = told.remove(name).flatten();
        }
        self.conclude(changes, id, here)
    }

    /// The whole table, in parts of about `bytes`. It speaks for the daemons in `class`; a daemon's rank is its place
    /// among `members`.
    pub(crate) fn parts(&self, class: Arc<[Rank]>, members: &[DaemonId], bytes: usize) -> Vec<Table> {
        let mut parts = Vec::new();
        let mut rows = Vec::new();
        let mut cost = 0;
        for process in self.processes.values() {
            let member = &process.member;
            let Ok(place) = members.binary_search(&member.process.daemon()) else { continue };
            let mut names = process.groups.iter().cloned().peekable();
            while names.peek().is_some() {
                let (mut groups, mut views) = (Vec::new(), Vec::new());
                while cost < bytes
                    && let Some(name) = names.next()
                {
                    cost += name.as_str().len() + 4;
                    if let Some(group) = self.groups.get(&name).filter(|group| group.is_first(member.process))
                    {
                        views.push((groups.len() as u32, group.view));
                        cost += size_of::<GroupViewId>();
                    }
                    groups.push(name);
                }
                cost += size_of::<Row>();
                rows.push(Row {
                    daemon: Rank::new(place as u32),
                    connection: member.process.connection(),
                    name: member.name,
                    groups: groups.into(),
                    views: views.into(),
                });
                if cost >= bytes {
                    parts.push(Table::Rows(core::mem::take(&mut rows).into()));
                    cost = 0;
                }
            }
        }
        if !rows.is_empty() {
            parts.push(Table::Rows(rows.into()));
        }
        parts.push(Table::End { class });
        parts
    }

    /// Adds a process to groups that it is not in.
    fn add(&mut self, member: Member, names: &[GroupName], changes: &mut BTreeMap<GroupName, Change>) {
        if names.is_empty() {
            return;
        }
        let process = self
            .processes
            .entry(member.process)
            .or_insert_with(|| Process { member: Arc::new(member), groups: BTreeSet::new() });
        for name in names {
            // One spelling of the name in memory, however many requests brought it.
            let name = self.groups.get_key_value(name).map_or(name, |(known, _)| known).clone();
            if !process.groups.insert(name.clone()) {
                continue;
            }
            let group = self.groups.entry(name.clone()).or_insert_with(|| Group {
                primary: false,
                view: GroupViewId { configuration: model::ConfigurationId::new(0, 0), position: 0 },
                members: Vec::new(),
                local: Arc::clone(&self.nobody),
            });
            if let Err(place) = group.members.binary_search_by_key(&member.process, |other| other.process) {
                group.members.insert(place, Arc::clone(&process.member));
            }
            if name.is_strict() {
                self.strict.insert(name.clone());
            }
            changes.entry(name).or_default().joined.push(member.process);
        }
    }

    /// Strikes groups off a process's list; [`Groups::conclude`] takes it out of them.
    fn take_out(
        &mut self,
        process: ProcessId,
        names: &[GroupName],
        changes: &mut BTreeMap<GroupName, Change>,
    ) {
        let Some(known) = self.processes.get_mut(&process) else { return };
        for name in names {
            if known.groups.remove(name) {
                changes.entry(name.clone()).or_default().left.push(process);
            }
        }
        if known.groups.is_empty() {
            self.processes.remove(&process);
        }
    }

    /// Strikes a process off the list of processes; [`Groups::conclude`] takes it out of its groups.
    fn remove(&mut self, process: ProcessId, changes: &mut BTreeMap<GroupName, Change>) {
        if let Some(known) = self.processes.remove(&process) {
            for name in known.groups {
                changes.entry(name).or_default().left.push(process);
            }
        }
    }

    /// Gives each changed group its new view, and says who is to be told.
    fn conclude(&mut self, changes: BTreeMap<GroupName, Change>, id: GroupViewId, here: &Processes) -> Views {
        let mut views = Views::new();
        for (name, mut change) in changes {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            if !change.left.is_empty() {
                // Both lists are in the order of process ids.
                change.left.sort_unstable();
                group.members.retain(|member| change.left.binary_search(&member.process).is_err());
            }
            change.joined.sort_unstable();
            let id = change.known.unwrap_or(id);
            debug_assert!(id > group.view, "a group's views grow [VKCD:local-monotonicity]");
            group.view = id;
            group.primary = self.primary;
            tell_watchers(&self.watchers, &name, group, &change, &mut views);
            if group.members.is_empty() {
                self.groups.remove(&name);
                self.strict.remove(&name);
                continue;
            }
            let on_this_daemon = group.members.iter().filter(|member| member.process.daemon() == self.me);
            let local: Vec<u32> = on_this_daemon
                .map(|member| member.process.connection())
                .filter(|connection| here.attached(*connection))
                .collect();
            group.local = if local.is_empty() { Arc::clone(&self.nobody) } else { local.into() };
            tell(self.me, &name, group, &change, &mut views);
        }
        views
    }
}

/// The view that a group is in.
fn view(
    name: &GroupName,
    group: &Group,
    joined: Vec<ProcessId>,
    left: Vec<ProcessId>,
    transitional: Vec<ProcessId>,
) -> GroupView {
    let members = group.members.iter().map(|member| **member).collect();
    let (group, id, primary) = (name.clone(), group.view, group.primary);
    GroupView { group, id, members, joined, left, transitional, primary }
}

/// Makes the view that a change leads to, as it looks from outside.
fn tell_watchers(
    watchers: &BTreeMap<u32, Arc<str>>,
    name: &GroupName,
    group: &Group,
    change: &Change,
    views: &mut Views,
) {
    let mut wanted = watchers.iter().filter(|(_, prefix)| name.as_str().starts_with(&***prefix)).peekable();
    if wanted.peek().is_some() {
        let told = Arc::new(view(name, group, change.joined.clone(), change.left.clone(), Vec::new()));
        for (connection, _) in wanted {
            views.entry(*connection).or_default().push(Arc::clone(&told));
        }
    }
}

/// Makes the view that a change leads to, for those who were in the group before and for a local process that is new.
fn tell(me: DaemonId, name: &GroupName, group: &Group, change: &Change, views: &mut Views) {
    if group.local.is_empty() {
        return;
    }
    let is_new = |process: &ProcessId| change.joined.binary_search(process).is_ok();
    let everybody: Vec<ProcessId> = group.members.iter().map(|member| member.process).collect();
    let mut of_old: Option<Arc<GroupView>> = None;
    for connection in group.local.iter() {
        let process = ProcessId::new(me, *connection);
        let told = if is_new(&process) {
            Arc::new(view(name, group, everybody.clone(), Vec::new(), vec![process]))
        } else {
            let make = || {
                let stayed = everybody.iter().copied().filter(|member| !is_new(member));
                Arc::new(view(name, group, change.joined.clone(), change.left.clone(), stayed.collect()))
            };
            Arc::clone(of_old.get_or_insert_with(make))
        };
        views.entry(*connection).or_default().push(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Params;
    use model::{Boot, ConfigurationId};

    fn daemon(name: &str) -> DaemonId {
        DaemonId::new(name.parse().unwrap(), Boot::new(1))
    }

    fn member(at: &str, connection: u32) -> Member {
        Member { process: ProcessId::new(daemon(at), connection), name: "x".parse().unwrap() }
    }

    fn names(text: &str) -> Vec<GroupName> {
        text.split_whitespace().map(|name| GroupName::new(name).unwrap()).collect()
    }

    fn id(position: u64) -> GroupViewId {
        GroupViewId { configuration: ConfigurationId::new(1, 0), position }
    }

    /// Daemon `a` with two local processes.
    fn table() -> (Groups, Processes) {
        let mut here = Processes::new(&Params::lan());
        here.attach(1, "x".parse().unwrap()).unwrap();
        here.attach(2, "x".parse().unwrap()).unwrap();
        (Groups::new(daemon("a")), here)
    }

    /// `connection: group members joined left transitional`, with processes in short.
    fn short(views: &Views) -> Vec<alloc::string::String> {
        let list = |ids: &[ProcessId]| {
            let ids: Vec<_> =
                ids.iter().map(|p| alloc::format!("{}{}", p.daemon().name(), p.connection())).collect();
            ids.join(",")
        };
        let line = |connection: &u32, v: &GroupView| {
            let members: Vec<ProcessId> = v.members.iter().map(|m| m.process).collect();
            let (joined, left) = (list(&v.joined), list(&v.left));
            alloc::format!(
                "{connection}: {} {} +{joined} -{left} ={}",
                v.group,
                list(&members),
                list(&v.transitional)
            )
        };
        views.iter().flat_map(|(connection, views)| views.iter().map(move |v| line(connection, v))).collect()
    }

    #[test]
    fn each_member_is_told_what_changed_for_it() {
        let (mut groups, here) = table();
        let views = groups.join(member("a", 1), &names("g h"), id(1), &here);
        assert_eq!(short(&views), ["1: g a1 +a1 - =a1", "1: h a1 +a1 - =a1"]);
        groups.join(member("b", 1), &names("g"), id(2), &here);
        let views = groups.join(member("a", 2), &names("g"), id(3), &here);
        assert_eq!(short(&views), ["1: g a1,a2,b1 +a2 - =a1,b1", "2: g a1,a2,b1 +a1,a2,b1 - =a2"]);
        let views = groups.leave(member("a", 1).process, &names("g other"), id(4), &here);
        assert_eq!(short(&views), ["2: g a2,b1 + -a1 =a2,b1"]);
        let views = groups.leave(member("b", 1).process, &names("g"), id(5), &here);
        assert_eq!(short(&views), ["2: g a2 + -b1 =a2"]);
    }

    #[test]
    fn joining_twice_and_leaving_without_being_in_change_nothing() {
        let (mut groups, here) = table();
        groups.join(member("a", 1), &names("g g"), id(1), &here);
        assert!(groups.join(member("a", 1), &names("g"), id(2), &here).is_empty());
        assert!(groups.leave(member("a", 2).process, &names("g"), id(3), &here).is_empty());
        assert_eq!(groups.view_of(&names("g")[0]), Some(id(1)));
    }

    #[test]
    fn a_departed_daemon_is_one_step_for_all_its_groups() {
        let (mut groups, here) = table();
        groups.join(member("a", 1), &names("f g h"), id(1), &here);
        groups.join(member("b", 1), &names("f g"), id(2), &here);
        groups.join(member("b", 2), &names("g i"), id(3), &here);
        let views = groups.settle([].into(), Some(&[daemon("a")].into()), id(4), &here);
        assert_eq!(short(&views), ["1: f a1 + -b1 =a1", "1: g a1 + -b1,b2 =a1"]);
        assert_eq!(groups.iter().count(), 3, "a group without members is no more");
    }

    #[test]
    fn a_detached_process_is_given_nothing_and_stays_until_it_is_gone() {
        let (mut groups, mut here) = table();
        groups.join(member("a", 1), &names("g"), id(1), &here);
        groups.join(member("a", 2), &names("g"), id(2), &here);
        here.detach(1).unwrap();
        groups.detach(1);
        let group = &names("g")[0];
        assert_eq!(groups.audience(group)[..], [2]);
        let views = groups.join(member("b", 1), &names("g"), id(3), &here);
        assert_eq!(short(&views), ["2: g a1,a2,b1 +b1 - =a1,a2"]);
    }

    #[test]
    fn a_table_survives_being_cut_into_parts() {
        let (mut groups, here) = table();
        for connection in 1..5 {
            groups.join(member("a", connection), &names("f g h"), id(u64::from(connection)), &here);
        }
        let members = [daemon("a"), daemon("b")];
        let class: Arc<[Rank]> = [Rank::new(0)].into();
        for bytes in [1, 100, 10_000] {
            let parts = groups.parts(Arc::clone(&class), &members, bytes);
            let mut copy = Groups::new(daemon("b"));
            let rows = parts.iter().flat_map(|part| match part {
                Table::Rows(rows) => rows.to_vec(),
                Table::End { class: ended } => {
                    assert_eq!(*ended, class);
                    Vec::new()
                }
            });
            let of_row = |row: Row| (member("a", row.connection), row.groups, row.views);
            copy.merge(&rows.map(of_row).collect::<Vec<_>>(), id(1), &here);
            assert!(copy.iter().eq(groups.iter()), "in parts of {bytes}");
        }
    }
}
