//! Processes that stand still for a while, and slow ones. What comes to them waits, in its order; what they wanted to do
//! themselves waits as well. Others may come to the conclusion that they are dead, and they may be wrong.

use std::collections::VecDeque;
use std::time::Duration;

use crate::net::{Event, Silence};
use crate::packet::Node;
use crate::world::World;

/// Why a process does not do what is due.
pub(super) struct Stop {
    number: u64,
    waiting: VecDeque<Event>,
    /// How long it takes over each thing; nothing for one that stands still.
    takes: Option<Duration>,
}

impl World {
    /// A process stands still from now on. Returns the number of this stop, unless it does already.
    pub fn pause(&mut self, node: Node) -> Option<u64> {
        let number = self.stop(node, None)?;
        self.remark(|| format!("{node} stands still"));
        self.net.fall_silent(self.now, node, number, &mut self.queue);
        Some(number)
    }

    /// A process does nothing any more, and its connections go on as if it did. Returns the number of this stop, unless
    /// it has stopped already.
    pub fn hang(&mut self, node: Node) -> Option<u64> {
        let number = self.stop(node, None)?;
        self.remark(|| format!("{node} hangs"));
        Some(number)
    }

    /// A process takes so long over each thing from now on.
    pub(super) fn slow_down(&mut self, node: Node, takes: Duration) -> Option<u64> {
        let number = self.stop(node, Some(takes))?;
        self.remark(|| format!("{node} is slow"));
        self.queue.plan(self.now + takes, Event::Turn { node, stop: number });
        Some(number)
    }

    fn stop(&mut self, node: Node, takes: Option<Duration>) -> Option<u64> {
        if !self.is_alive(node) || self.stops.contains_key(&node) {
            return None;
        }
        self.stops_used += 1;
        self.stops.insert(node, Stop { number: self.stops_used, waiting: VecDeque::new(), takes });
        Some(self.stops_used)
    }

    /// A process goes on, if it is still this stop of it: with everything that waited.
    pub(super) fn go_on(&mut self, node: Node, number: u64) {
        if self.stops.get(&node).is_some_and(|stop| stop.number == number)
            && let Some(stop) = self.stops.remove(&node)
        {
            self.remark(|| format!("{node} goes on"));
            stop.waiting.into_iter().for_each(|event| self.happen(event));
        }
    }

    /// A process goes on, whatever held it.
    pub fn end_stop(&mut self, node: Node) {
        if let Some(number) = self.stops.get(&node).map(|stop| stop.number) {
            self.go_on(node, number);
        }
    }

    /// Everybody goes on.
    pub(super) fn all_go_on(&mut self) {
        let nodes: Vec<_> = self.stops.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.end_stop(node));
    }

    /// A slow process does the next thing.
    pub(super) fn turn(&mut self, node: Node, number: u64) {
        let Some(stop) = self.stops.get_mut(&node).filter(|stop| stop.number == number) else { return };
        let (next, takes) = (stop.waiting.pop_front(), stop.takes);
        if let Some(takes) = takes {
            self.queue.plan(self.now + takes, Event::Turn { node, stop: number });
        }
        if let Some(event) = next {
            self.happen(event);
        }
    }

    /// Whether `silence` still lasts.
    pub(super) fn lasts(&self, conn: crate::net::Conn, silence: Silence) -> bool {
        match silence {
            Silence::Cut(change) => self.net.is_cut_since(conn, change),
            Silence::Pause(node, number) => self.stops.get(&node).is_some_and(|stop| stop.number == number),
        }
    }

    /// Sets an event aside if it is for somebody who does not get round to it now. Returns it otherwise.
    pub(super) fn set_aside(&mut self, event: Event) -> Option<Event> {
        if self.stops.is_empty() {
            return Some(event);
        }
        let node = match &event {
            Event::Arrive { conn, side, .. } | Event::Close { conn, side } => self.net.owner(*conn, *side),
            Event::Silence { conn, side, .. } => self.net.owner(*conn, *side),
            Event::Wake { node, .. } | Event::Timer { node, .. } => Some(*node),
            Event::Turn { .. } | Event::Restart { .. } | Event::Trouble | Event::Strike(_) => None,
        };
        match node.and_then(|node| self.stops.get_mut(&node)) {
            Some(stop) => {
                stop.waiting.push_back(event);
                None
            }
            None => Some(event),
        }
    }
}
