//! A daemon with what is on its way to it from the membership service, and what it let an observer see.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use gcs_core::{Daemon, Input, Notice, Output};
use model::trace::Event;
use model::{Machine, Time};

use crate::fingerprint;

/// A daemon's place in the world.
#[derive(Clone)]
pub(super) struct Node {
    /// Nothing once it has crashed.
    pub daemon: Option<Daemon>,
    pub now: Time,
    pub notices: VecDeque<Notice>,
    pub trace: Vec<Arc<Event>>,
    /// The fingerprint of the trace.
    pub history: u64,
    /// What it did that a daemon never does: it refused what an honest peer said, or panicked.
    pub fault: Option<String>,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.daemon, self.now, &self.notices, self.history, &self.fault).hash(state);
    }
}

impl Node {
    pub(super) fn new(daemon: Daemon, now: Time) -> Node {
        let id = daemon.id();
        let mut node = Node {
            daemon: Some(daemon),
            now,
            notices: VecDeque::new(),
            trace: Vec::new(),
            history: 0,
            fault: None,
        };
        node.observe(Event::DaemonStart { daemon: id });
        node
    }

    /// Tells the daemon a fact, and returns what it orders.
    pub(super) fn handle(&mut self, input: Input) -> Vec<Output> {
        self.run(|daemon, now, out| daemon.handle(now, input, out))
    }

    /// Wakes the daemon for what is due by `now`.
    pub(super) fn wake(&mut self, now: Time) -> Vec<Output> {
        self.now = self.now.max(now);
        self.run(|daemon, now, out| daemon.wake(now, out))
    }

    fn run(&mut self, act: impl FnOnce(&mut Daemon, Time, &mut Vec<Output>)) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(daemon) = self.daemon.as_mut()
            && catch_unwind(AssertUnwindSafe(|| act(daemon, self.now, &mut out))).is_err()
        {
            self.fault = Some(format!("{} panics", daemon.id()));
            self.daemon = None;
        }
        out
    }

    pub(super) fn crash(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.notices.clear();
            self.observe(Event::DaemonCrash { daemon: daemon.id() });
        }
    }

    pub(super) fn observe(&mut self, event: Event) {
        self.history = fingerprint::of(&(self.history, &event));
        self.trace.push(Arc::new(event));
    }
}
