//! What must hold of every run, judged from the daemons' traces twice: by the properties that judge all runs, and by
//! checks that are plain, quadratic, and owe nothing to those.

use std::collections::{BTreeMap, BTreeSet};

use ::check::Tally;
use model::trace::{Event, Record};
use model::{
    Configuration, ConfigurationId, DaemonId, Digest, GroupName, GroupView, GroupViewId, MessageId,
    ProcessId, Time,
};

use crate::world::World;

/// A payload: its configuration, origin and number.
type Payload = (ConfigurationId, DaemonId, u64);

/// One daemon's stay in one configuration.
struct Stay {
    daemon: DaemonId,
    configuration: Configuration,
    previous: ConfigurationId,
    transitional: BTreeSet<DaemonId>,
    delivered: Vec<Payload>,
    /// Own payloads, with what had been delivered before each.
    cast: Vec<(Payload, usize)>,
    next: Option<ConfigurationId>,
}

/// Checks everything. `quiescent`: all living daemons are at rest in their last configuration; then the run is over, and
/// what is returned says how much was in it.
pub fn check(world: &World, quiescent: bool) -> Tally {
    let mut digests: BTreeMap<Payload, Digest> = BTreeMap::new();
    let mut stays = Vec::new();
    for (id, node) in &world.nodes {
        collect_casts(&node.trace, &mut digests);
        stays.extend(stays_of(*id, &node.trace));
    }
    for node in world.nodes.values() {
        for event in &node.trace {
            if let Event::Deliver { configuration, origin, index, digest, .. } = event {
                let cast = digests.get(&(*configuration, *origin, *index));
                assert_eq!(cast, Some(digest), "integrity: {event:?}");
            }
        }
    }
    let alive: BTreeSet<DaemonId> = world.alive().into_iter().collect();
    for stay in &stays {
        let complete = stay.next.is_some() || (quiescent && alive.contains(&stay.daemon));
        check_stay(stay, complete);
    }
    for a in &stays {
        for b in stays.iter().filter(|b| b.daemon != a.daemon) {
            check_pair(a, b, quiescent && alive.contains(&a.daemon) && alive.contains(&b.daemon));
        }
    }
    check_causality(&stays);
    check_groups(world, quiescent);
    if quiescent { judge(world) } else { Tally::default() }
}

/// Puts a run that is over before the properties. They may count on everybody alive being together, if that is so.
fn judge(world: &World) -> Tally {
    let mut events: Vec<Event> = world.nodes.values().flat_map(|node| node.trace.iter().cloned()).collect();
    let alive = world.alive();
    let dead = world.nodes.keys().filter(|daemon| !alive.contains(daemon));
    events.extend(dead.map(|daemon| Event::DaemonCrash { daemon: *daemon }));
    let set: BTreeSet<DaemonId> = alive.iter().copied().collect();
    if alive.iter().all(|daemon| world.daemon(*daemon).configuration().set() == set) {
        events.push(Event::Quiescent { daemons: alive, sessions: Vec::new() });
    }
    let records: Vec<Record> = events.into_iter().map(|event| Record { at: Time::ZERO, event }).collect();
    let report = ::check::judge(&records);
    assert!(report.violations.is_empty(), "{report}");
    report.tally
}

fn collect_casts(trace: &[Event], digests: &mut BTreeMap<Payload, Digest>) {
    for event in trace {
        if let Event::Cast { daemon, configuration, index, digest } = event {
            let again = digests.insert((*configuration, *daemon, *index), *digest);
            assert!(again.is_none(), "cast twice: {event:?}");
        }
    }
}

fn stays_of(daemon: DaemonId, trace: &[Event]) -> Vec<Stay> {
    let mut stays: Vec<Stay> = Vec::new();
    for event in trace {
        match event {
            Event::Install { configuration, previous, transitional, .. } => {
                if let Some(last) = stays.last_mut() {
                    assert_eq!(last.configuration.id, *previous);
                    assert!(configuration.id > *previous, "local monotonicity");
                    last.next = Some(configuration.id);
                }
                assert!(configuration.members.contains_key(&daemon), "self inclusion");
                stays.push(Stay {
                    daemon,
                    configuration: configuration.clone(),
                    previous: *previous,
                    transitional: transitional.clone(),
                    delivered: Vec::new(),
                    cast: Vec::new(),
                    next: None,
                });
            }
            Event::Cast { configuration, index, .. } => {
                let stay = stays.last_mut().expect("nothing before the first view");
                assert_eq!(stay.configuration.id, *configuration, "cast in the current configuration");
                stay.cast.push(((*configuration, daemon, *index), stay.delivered.len()));
            }
            Event::Deliver { configuration, origin, index, .. } => {
                let stay = stays.last_mut().expect("nothing before the first view");
                assert_eq!(stay.configuration.id, *configuration, "sending view");
                stay.delivered.push((*configuration, *origin, *index));
            }
            _ => {}
        }
    }
    stays
}

fn check_stay(stay: &Stay, complete: bool) {
    let mut last: BTreeMap<DaemonId, u64> = BTreeMap::new();
    for payload in &stay.delivered {
        let last = last.entry(payload.1).or_default();
        *last += 1;
        assert_eq!(payload.2, *last, "no duplicate, first in first out: {} at {}", payload.1, stay.daemon);
    }
    if complete {
        for (payload, _) in &stay.cast {
            assert!(stay.delivered.contains(payload), "self delivery of {payload:?}");
        }
    }
    assert!(stay.transitional.contains(&stay.daemon), "the transitional set has its owner");
}

fn check_pair(a: &Stay, b: &Stay, at_rest: bool) {
    if a.configuration.id != b.configuration.id {
        return;
    }
    assert_eq!(a.configuration, b.configuration, "one id, one configuration");
    let together = a.previous == b.previous;
    assert_eq!(a.transitional.contains(&b.daemon), together, "transitional set of {}", a.daemon);
    if (a.next.is_some() && a.next == b.next) || (at_rest && a.next.is_none() && b.next.is_none()) {
        assert_eq!(a.delivered, b.delivered, "virtual synchrony and total order");
    }
}

/// Whoever delivers a payload has delivered before it what its origin had delivered before casting it.
fn check_causality(stays: &[Stay]) {
    for origin in stays {
        for receiver in stays.iter().filter(|stay| stay.configuration.id == origin.configuration.id) {
            for (payload, before) in &origin.cast {
                let Some(place) = receiver.delivered.iter().position(|other| other == payload) else {
                    continue;
                };
                let needed: BTreeSet<&Payload> = origin.delivered[..*before].iter().collect();
                let had: BTreeSet<&Payload> = receiver.delivered[..place].iter().collect();
                assert!(needed.is_subset(&had), "causality of {payload:?} at {}", receiver.daemon);
            }
        }
    }
}

/// One process's stay in one view of a group.
struct Membership {
    process: ProcessId,
    view: GroupView,
    previous: Option<GroupViewId>,
    next: Option<GroupViewId>,
    delivered: Vec<MessageId>,
}

fn check_groups(world: &World, quiescent: bool) {
    let mut memberships: BTreeMap<GroupName, Vec<Membership>> = BTreeMap::new();
    for node in world.nodes.values() {
        let mut seen: BTreeSet<(ProcessId, MessageId)> = BTreeSet::new();
        let mut gone: BTreeSet<ProcessId> = BTreeSet::new();
        for event in &node.trace {
            match event {
                Event::Detach { process } => drop(gone.insert(*process)),
                Event::GroupInstall { process, view } => {
                    assert!(!gone.contains(process), "nothing is told to who is gone");
                    enter(&mut memberships, *process, view);
                }
                Event::GroupDeliver { process, group, message, view, .. } => {
                    assert!(!gone.contains(process), "nothing is given to who is gone");
                    assert!(seen.insert((*process, *message)), "no duplicate {message} at {process}");
                    let all = memberships.get_mut(group).expect("a view before messages");
                    let last = all.iter_mut().rfind(|m| m.process == *process).expect("a view of its own");
                    assert_eq!(last.view.id, *view, "messages come in the last view told");
                    last.delivered.push(*message);
                }
                _ => {}
            }
        }
    }
    for (name, all) in &memberships {
        for a in all {
            let mut last: BTreeMap<ProcessId, u64> = BTreeMap::new();
            for message in &a.delivered {
                let before = last.insert(message.sender(), message.number()).unwrap_or(0);
                assert!(before < message.number(), "sender's order in {name}");
            }
            for b in all.iter().filter(|b| b.process != a.process) {
                check_memberships(name, a, b);
            }
        }
    }
    check_strict(world, quiescent);
    if quiescent {
        check_rest(world, &memberships);
    }
}

/// What a member of a strict group sends is delivered in the view in which it was sent; and nobody stays blocked.
fn check_strict(world: &World, quiescent: bool) {
    let events = || world.nodes.values().flat_map(|node| &node.trace);
    let mut sent: BTreeMap<MessageId, GroupViewId> = BTreeMap::new();
    for event in events() {
        if let Event::GroupSend { group, message, view: Some(view), .. } = event
            && group.is_strict()
        {
            sent.insert(*message, *view);
        }
    }
    for event in events() {
        if let Event::GroupDeliver { message, view, .. } = event
            && let Some(sent) = sent.get(message)
        {
            assert_eq!(sent, view, "{message} is delivered in the view in which it was sent");
        }
    }
    for node in world.nodes.values() {
        let mut blocked: BTreeSet<(ProcessId, &GroupName)> = BTreeSet::new();
        for event in &node.trace {
            match event {
                Event::GroupBlock { process, group } => assert!(blocked.insert((*process, group))),
                Event::GroupUnblock { process, group } => assert!(blocked.remove(&(*process, group))),
                Event::GroupLeave { process, group } => drop(blocked.remove(&(*process, group))),
                Event::Detach { process } => blocked.retain(|(other, _)| other != process),
                _ => {}
            }
        }
        let alive = world.alive().contains(&node.daemon.id());
        assert!(blocked.is_empty() || !quiescent || !alive, "blocked in the end: {blocked:?}");
    }
}

fn enter(memberships: &mut BTreeMap<GroupName, Vec<Membership>>, process: ProcessId, view: &GroupView) {
    let all = memberships.entry(view.group.clone()).or_default();
    assert!(view.members.iter().any(|m| m.process == process), "self inclusion of {process}");
    assert!(view.transitional.contains(&process));
    let members: BTreeSet<ProcessId> = view.members.iter().map(|m| m.process).collect();
    let before = all.iter_mut().rfind(|m| m.process == process);
    // Whoever left is not told; when it is back, it is as if new.
    let is_new = view.joined.contains(&process);
    let mut previous = None;
    match before {
        Some(last) => {
            assert!(view.id > last.view.id, "views of {} grow at {process}", view.group);
            if !is_new {
                previous = Some(last.view.id);
                last.next = Some(view.id);
                let old: BTreeSet<ProcessId> = last.view.members.iter().map(|m| m.process).collect();
                let joined: BTreeSet<ProcessId> = view.joined.iter().copied().collect();
                let left: BTreeSet<ProcessId> = view.left.iter().copied().collect();
                assert_eq!(joined, members.difference(&old).copied().collect(), "joined");
                assert_eq!(left, old.difference(&members).copied().collect(), "left");
                assert!(view.transitional.iter().all(|p| old.contains(p) && members.contains(p)));
            }
        }
        None => assert!(is_new),
    }
    all.push(Membership { process, view: view.clone(), previous, next: None, delivered: Vec::new() });
}

fn check_memberships(name: &GroupName, a: &Membership, b: &Membership) {
    if a.view.id != b.view.id {
        return;
    }
    assert_eq!(a.view.members, b.view.members, "one id, one view of {name}");
    let together = a.previous.is_some() && a.previous == b.previous;
    assert_eq!(
        a.view.transitional.contains(&b.process),
        together,
        "transitional set of {} with {} in {name} {}",
        a.process,
        b.process,
        a.view.id
    );
    if a.next.is_some() && a.next == b.next {
        assert_eq!(a.delivered, b.delivered, "virtual synchrony in {name}");
    }
}

/// At rest all members have the same last view and the same history in it, and tables agree.
fn check_rest(world: &World, memberships: &BTreeMap<GroupName, Vec<Membership>>) {
    let alive = world.alive();
    let tables: Vec<_> = alive.iter().map(|id| world.daemon(*id).groups().collect::<Vec<_>>()).collect();
    for table in &tables[1..] {
        assert_eq!(table, &tables[0], "tables");
    }
    for (name, members) in tables.first().into_iter().flatten() {
        let last = |process: ProcessId| memberships[*name].iter().rfind(|m| m.process == process).unwrap();
        let mut history: Option<&Membership> = None;
        for member in members.iter() {
            let here = last(member.process);
            let told: Vec<ProcessId> = here.view.members.iter().map(|m| m.process).collect();
            let table: Vec<ProcessId> = members.iter().map(|m| m.process).collect();
            assert_eq!(told, table, "the last view of {name} at {}", member.process);
            if let Some(other) = history {
                assert_eq!(here.view.id, other.view.id);
                assert_eq!(here.delivered, other.delivered, "same history in the last view of {name}");
            }
            history = Some(here);
        }
    }
}
