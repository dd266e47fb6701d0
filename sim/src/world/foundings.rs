//! Operators who found the state that sessions share, and found it anew when those who vote on it have lost it.

use std::time::Duration;

use model::UnitId;

use super::{Event, World};
use crate::fault::Strike;
use crate::packet::Node;

/// How often they look.
const LOOK: Duration = Duration::from_secs(1);

impl World {
    /// From here on somebody looks after shared states, if there are any.
    pub(super) fn begin_to_look(&mut self) {
        if self.knobs.operators && self.knobs.units.iter().any(|unit| unit.shared) {
            self.queue.plan(self.now + LOOK, Event::Strike(Strike::Look));
        }
    }

    /// Where no server can do anything about a shared state, one has it founded by those that it is with.
    pub(super) fn look_after_shared_states(&mut self) {
        let shared: Vec<_> = self.knobs.units.iter().filter(|unit| unit.shared).cloned().collect();
        for unit in shared {
            let holders = unit.editions.values().flatten().copied();
            let mut alive = holders.filter(|machine| self.is_alive(Node::Server(*machine)));
            if let Some(machine) = alive.clone().next()
                && !alive.any(|machine| self.is_served_by(&unit.id, machine))
            {
                self.found(machine, unit.id);
            }
        }
        self.begin_to_look();
    }

    pub(super) fn is_served_by(&self, unit: &UnitId, machine: usize) -> bool {
        self.servers[machine].host.as_ref().is_some_and(|host| host.server().may_serve(unit))
    }

    /// An operator has a shared state founded, anew if it was before, by those that the server of a machine is with.
    pub(super) fn found(&mut self, machine: usize, unit: UnitId) {
        self.remark(|| format!("an operator has the shared state of {unit} founded at machine {machine}"));
        self.with_server(machine, |host, scene| host.order_foundation(unit, scene));
    }
}
