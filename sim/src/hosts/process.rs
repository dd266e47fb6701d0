//! A process that does nothing but use groups: it joins, leaves, multicasts, and attaches again, as its leanings have
//! it, and looks at what its daemon gives it as any process would.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use gcs_core::ProcessEvent;
use model::{GroupName, GroupView, GroupViewId, Level, Name, ProcessId, Terms, Time};

use crate::net::{Conn, Timer};
use crate::packet::{Node, Packet};
use crate::scene::{Host, Scene};

/// How a process behaves that nobody directs.
#[derive(Clone, Debug)]
pub struct Leanings {
    /// How often it does something.
    pub acts: RangeInclusive<Duration>,
    /// How many groups there are.
    pub groups: usize,
    /// In how many of a hundred acts it multicasts.
    pub multicasts: u64,
    /// How many multicasts it makes at once.
    pub burst: RangeInclusive<u64>,
    /// In how many of a hundred multicasts the payload is large.
    pub large: u64,
    /// The length of a large payload.
    pub large_bytes: RangeInclusive<u64>,
    /// In how many of a hundred multicasts the message is to be safe.
    pub safe: u64,
    /// In how many of a hundred it is for the view only in which the process sends it.
    pub conditional: u64,
    /// How many groups it joins or leaves at once.
    pub at_once: RangeInclusive<u64>,
    /// In how many of a hundred acts it detaches, and attaches again.
    pub detaches: u64,
    /// In how many of a hundred cases it does not stop when it is asked to.
    pub hangs: u64,
}

/// A process, and what it has been told.
pub struct ProcessHost {
    name: Name,
    daemon: Node,
    redial: RangeInclusive<Duration>,
    leanings: Option<Leanings>,
    attachment: Option<Conn>,
    me: Option<ProcessId>,
    /// The groups that it is in once its requests are fulfilled.
    wanted: BTreeSet<GroupName>,
    /// The last view of each group that it was told; none where it asked to leave, for then what comes may be of
    /// any view until the leave has its place.
    views: BTreeMap<GroupName, Option<GroupViewId>>,
    /// How many multicasts it made.
    sent: u64,
    /// Those of them of which it is to hear what became of them.
    awaited: BTreeSet<u64>,
    /// Views in which it told its state and has not heard that all did.
    telling: BTreeMap<GroupName, GroupViewId>,
}

impl ProcessHost {
    /// A process that is attached to nobody. Without leanings it does only what it is told.
    pub fn new(
        name: Name,
        machine: usize,
        leanings: Option<Leanings>,
        redial: RangeInclusive<Duration>,
    ) -> ProcessHost {
        ProcessHost {
            name,
            daemon: Node::Daemon(machine),
            redial,
            leanings,
            attachment: None,
            me: None,
            wanted: BTreeSet::new(),
            views: BTreeMap::new(),
            sent: 0,
            awaited: BTreeSet::new(),
            telling: BTreeMap::new(),
        }
    }

    /// Who it is, while it is attached.
    pub fn me(&self) -> Option<ProcessId> {
        self.me
    }

    /// The groups that it is in once its requests are fulfilled.
    pub fn wanted(&self) -> &BTreeSet<GroupName> {
        &self.wanted
    }

    /// Whether it waits to hear what became of a message, or that everybody is up to date.
    pub fn is_waiting(&self) -> bool {
        !self.awaited.is_empty() || !self.telling.is_empty()
    }

    /// Does nothing more of its own.
    pub fn rest(&mut self) {
        self.leanings = None;
    }

    /// Joins groups.
    pub fn join(&mut self, groups: Vec<GroupName>, scene: &mut Scene<'_>) {
        let Some(conn) = self.attached() else { return };
        self.wanted.extend(groups.iter().cloned());
        scene.send(conn, Packet::Join(groups));
    }

    /// Leaves groups.
    pub fn leave(&mut self, groups: Vec<GroupName>, scene: &mut Scene<'_>) {
        let Some(conn) = self.attached() else { return };
        for group in &groups {
            self.wanted.remove(group);
            self.views.insert(group.clone(), None);
            self.telling.remove(group);
        }
        scene.send(conn, Packet::Leave(groups));
    }

    /// Multicasts so many bytes to a group.
    pub fn multicast(&mut self, group: GroupName, bytes: usize, terms: Terms, scene: &mut Scene<'_>) {
        let Some(conn) = self.attached() else { return };
        let mut payload = vec![0; bytes];
        let tag = scene.dice.bits().to_le_bytes();
        payload.iter_mut().zip(tag).for_each(|(byte, tag)| *byte = tag);
        self.sent += 1;
        if terms.report {
            self.awaited.insert(self.sent);
        }
        scene.send(conn, Packet::Multicast { group, payload: Bytes::from(payload), terms });
    }

    fn attached(&self) -> Option<Conn> {
        self.attachment.filter(|_| self.me.is_some())
    }

    fn attach(&mut self, scene: &mut Scene<'_>) {
        self.attachment = Some(scene.dial(self.daemon, Packet::Attach { name: self.name }));
    }

    /// The attachment is over; there will be another one, under another id and in no group.
    fn detached(&mut self, scene: &mut Scene<'_>) {
        self.attachment = None;
        self.me = None;
        self.wanted.clear();
        self.views.clear();
        self.sent = 0;
        self.awaited.clear();
        self.telling.clear();
        let again = scene.dice.time(self.redial.clone());
        scene.remind(again, Timer::Attach);
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        let Some(leanings) = self.leanings.clone() else { return };
        let next = scene.dice.time(leanings.acts.clone());
        scene.remind(next, Timer::Act);
        let Some(conn) = self.attached() else { return };
        let roll = scene.dice.between(0..=99);
        if roll < leanings.detaches {
            scene.close(conn);
            self.detached(scene);
        } else if roll < leanings.detaches + leanings.multicasts {
            self.multicast_some(&leanings, scene);
        } else if self.wanted.is_empty() || scene.dice.percent(60) {
            let groups = some_groups(&leanings, scene);
            self.join(groups, scene);
        } else {
            let groups = some_groups(&leanings, scene);
            self.leave(groups, scene);
        }
    }

    fn multicast_some(&mut self, leanings: &Leanings, scene: &mut Scene<'_>) {
        for _ in 0..scene.dice.between(leanings.burst.clone()) {
            let in_groups: Vec<GroupName> = self.wanted.iter().cloned().collect();
            let group = if in_groups.is_empty() || scene.dice.percent(20) {
                group(scene.dice.below(leanings.groups))
            } else {
                scene.dice.pick(&in_groups)
            };
            let is_large = scene.dice.percent(leanings.large);
            let lengths = if is_large { leanings.large_bytes.clone() } else { 0..=16 };
            let bytes = scene.dice.between(lengths) as usize;
            let level = if scene.dice.percent(leanings.safe) { Level::Safe } else { Level::Agreed };
            let is_conditional = scene.dice.percent(leanings.conditional);
            let only_in = self.views.get(&group).copied().flatten().filter(|_| is_conditional);
            let terms = Terms { level, only_in, report: scene.dice.percent(20) };
            self.multicast(group, bytes, terms, scene);
        }
    }

    fn told(&mut self, view: &GroupView, scene: &mut Scene<'_>) {
        let is_member = self.me.is_some_and(|me| view.members.iter().any(|member| member.process == me));
        if !is_member {
            scene.complain(|| format!("was told {} of {} without being in it", view.id, view.group));
        }
        self.telling.remove(&view.group);
        let known = self.views.entry(view.group.clone()).or_insert(None);
        if known.is_some_and(|known| known >= view.id) {
            scene.complain(|| format!("was told {} of {} after {known:?}", view.id, view.group));
        }
        if self.wanted.contains(&view.group) {
            *known = Some(view.id);
        }
    }

    /// It stops sending to strict groups, perhaps after some last words. Who hangs is evicted.
    fn stop(&mut self, groups: Vec<GroupName>, scene: &mut Scene<'_>) {
        let Some(conn) = self.attached() else { return };
        if let Some(leanings) = self.leanings.clone() {
            if scene.dice.percent(leanings.hangs) {
                return;
            }
            if scene.dice.percent(30) {
                groups.iter().for_each(|group| self.multicast(group.clone(), 8, Terms::default(), scene));
            }
        }
        scene.send(conn, Packet::Blocked(groups));
    }

    /// It tells its state, in a few parts.
    fn tell_state(&mut self, group: GroupName, view: GroupViewId, scene: &mut Scene<'_>) {
        let Some(conn) = self.attached() else { return };
        if self.wanted.contains(&group) {
            self.telling.insert(group.clone(), view);
        }
        let parts = scene.dice.between(1..=3);
        for part in 1..=parts {
            let (group, bytes) = (group.clone(), Bytes::from(part.to_le_bytes().to_vec()));
            scene.send(conn, Packet::TellState { group, view, part: bytes, last: part == parts });
        }
    }

    /// Views and messages come in one stream, each message in the view that was told before it.
    fn given(&mut self, group: &GroupName, view: GroupViewId, scene: &mut Scene<'_>) {
        match self.views.get(group) {
            None => scene.complain(|| format!("was given a message to {group} before any view of it")),
            Some(Some(told)) if *told != view => {
                scene.complain(|| format!("was given a message in {view} of {group} after {told}"));
            }
            Some(_) => {}
        }
    }
}

/// Half of the groups are plain, the others of each mode in turn.
fn group(number: usize) -> GroupName {
    let mode = ["", "strict:", "", "state:", "", "strict+state:"][number % 6];
    GroupName::new(&format!("{mode}group-{number}")).expect("groups in the simulator are well spelt")
}

fn some_groups(leanings: &Leanings, scene: &mut Scene<'_>) -> Vec<GroupName> {
    let first = scene.dice.below(leanings.groups);
    let count = scene.dice.between(leanings.at_once.clone()) as usize;
    (0..count.min(leanings.groups)).map(|n| group((first + n) % leanings.groups)).collect()
}

impl Host for ProcessHost {
    fn start(&mut self, scene: &mut Scene<'_>) {
        self.attach(scene);
        if let Some(leanings) = &self.leanings {
            let first = scene.dice.time(leanings.acts.clone());
            scene.remind(first, Timer::Act);
        }
    }

    fn hear(&mut self, conn: Conn, packet: Packet, scene: &mut Scene<'_>) {
        if self.attachment != Some(conn) {
            return;
        }
        match packet {
            Packet::Attached(me) => self.me = Some(me),
            Packet::Event(ProcessEvent::Views(views)) => views.iter().for_each(|view| self.told(view, scene)),
            Packet::Event(ProcessEvent::Message { group, view, .. }) => self.given(&group, view, scene),
            Packet::Event(ProcessEvent::Outcome { number, .. }) => {
                self.awaited.remove(&number);
            }
            Packet::Event(ProcessEvent::Block(groups)) => self.stop(groups, scene),
            Packet::Event(ProcessEvent::Unblock(_) | ProcessEvent::Primary(_)) => {}
            Packet::Event(ProcessEvent::StateWanted { group, view }) => self.tell_state(group, view, scene),
            Packet::Event(ProcessEvent::State { group, view, .. }) => self.given(&group, view, scene),
            Packet::Event(ProcessEvent::UpToDate { group, view }) => {
                self.given(&group, view, scene);
                self.telling.remove(&group);
            }
            other => unreachable!("{other:?} at a process"),
        }
    }

    fn lose(&mut self, conn: Conn, scene: &mut Scene<'_>) {
        if self.attachment == Some(conn) {
            self.detached(scene);
        }
    }

    fn remember(&mut self, timer: Timer, scene: &mut Scene<'_>) {
        match timer {
            Timer::Attach => self.attach(scene),
            Timer::Act => self.act(scene),
            other => unreachable!("{other:?} at a process"),
        }
    }

    fn wake(&mut self, _: &mut Scene<'_>) {}

    fn next_wake(&self) -> Option<Time> {
        None
    }
}
