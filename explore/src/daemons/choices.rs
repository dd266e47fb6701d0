//! What can happen next: what has to, and what may.

use gcs_core::Notice;
use model::{Machine, Time};

use super::{Action, COUNT, Daemons, Place, Set};

impl Daemons {
    pub(super) fn alive(&self) -> Set {
        Set::of((0..COUNT).filter(|place| self.nodes[*place].daemon.is_some()))
    }

    /// The living, in sets that can talk to each other.
    pub(super) fn components(&self) -> Vec<Set> {
        let alive = self.alive();
        let sides = [alive.without(self.apart), alive.common(self.apart)];
        sides.into_iter().filter(|side| !side.is_empty()).collect()
    }

    /// Whether things move from one to the other.
    pub(super) fn connected(&self, from: Place, to: Place) -> bool {
        self.apart.has(from) == self.apart.has(to)
    }

    pub(super) fn wake_at(&self, place: Place) -> Option<Time> {
        let (due, _) = self.nodes[place].daemon.as_ref()?.next_wake()?;
        Some(due)
    }

    pub(super) fn is_due(&self, place: Place) -> bool {
        self.wake_at(place).is_some_and(|due| due <= self.nodes[place].now)
    }

    pub(super) fn has_timer(&self, place: Place) -> bool {
        self.wake_at(place).is_some_and(|due| due > self.nodes[place].now)
    }

    /// A connection that may as well be made at once: to make it later would be to deliver later on it.
    pub(super) fn openable(&self) -> Option<Action> {
        let may_open = |from: Place, to: Place| {
            let link = &self.links[from][to];
            link.is_wanted() && link.late.is_empty() && self.connected(from, to)
        };
        let alive = self.alive();
        let mut pairs = alive.places().flat_map(|from| alive.places().map(move |to| (from, to)));
        pairs.find(|(from, to)| may_open(*from, *to)).map(|(from, to)| Action::Open(from, to))
    }

    /// What has to happen, sooner or later.
    pub(super) fn due(&self) -> Vec<Action> {
        let mut due: Vec<Action> = self.openable().into_iter().collect();
        due.extend(self.components().into_iter().filter_map(|side| self.service.due(side)));
        for place in self.alive().places() {
            if !self.nodes[place].notices.is_empty() {
                due.push(Action::Notice(place));
            }
            if self.is_due(place) {
                due.push(Action::Wake(place));
            }
            for from in self.alive().places().filter(|from| self.connected(*from, place)) {
                let link = &self.links[from][place];
                if link.is_wanted() && !link.late.is_empty() {
                    due.push(Action::Open(from, place));
                }
                if !link.frames.is_empty() {
                    due.push(Action::Frame(from, place));
                }
                if !link.acks.is_empty() {
                    due.push(Action::Ack(from, place));
                }
            }
        }
        due
    }

    /// What may happen besides.
    pub(super) fn free(&self) -> Vec<Action> {
        let (left, alive) = (self.left, self.alive());
        let mut free = Vec::new();
        for place in alive.places() {
            if left.messages > 0 {
                free.push(Action::Send(place));
            }
            if left.crashes > 0 {
                free.push(Action::Crash(place));
            }
            if left.partitions > 0 && self.apart.is_empty() {
                free.push(Action::Cut(place));
            }
            if left.ticks > 0 && self.has_timer(place) {
                free.push(Action::Tick(place));
            }
            let notices = &self.nodes[place].notices;
            if notices.len() > 1 && matches!(notices[0], Notice::View(_)) {
                free.push(Action::Skip(place));
            }
            let senders = (0..COUNT).filter(|from| self.connected(*from, place));
            let late = senders.filter(|from| !self.links[*from][place].late.is_empty());
            free.extend(late.map(|from| Action::Late(from, place)));
        }
        if left.merges > 0 && !self.apart.is_empty() {
            free.push(Action::Heal);
        }
        if left.detours > 0 {
            free.extend(self.service.detours(alive));
        }
        free
    }
}
