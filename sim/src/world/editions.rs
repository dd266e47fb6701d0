//! Operators who publish new editions of units.

use std::collections::BTreeSet;
use std::time::Duration;

use model::UnitId;

use super::{Event, World};
use crate::dice::Dice;
use crate::fault::Strike;
use crate::toy::Toy;

/// Until an edition is published that was put on machines.
const STAGED: Duration = Duration::from_millis(300);

impl World {
    /// What is on a machine now.
    pub(super) fn toy(&mut self, machine: usize) -> Toy {
        self.loads += 1;
        Toy::new(&self.knobs.units, machine, Dice::new(self.knobs.seed, 100 + self.loads))
    }

    /// A new edition of some unit on a machine is put on most machines that hold the unit, and published a little later.
    /// An old one may be taken away from a machine, if two others have it: one of them may be down.
    pub(super) fn stage_some_edition(&mut self, machine: usize) {
        let held =
            |unit: &&mut crate::knobs::Unit| unit.editions.values().any(|holders| holders.contains(&machine));
        let mut units: Vec<_> = self.knobs.units.iter_mut().filter(held).collect();
        if units.is_empty() {
            return;
        }
        let chosen = self.fate.below(units.len());
        let unit = &mut units[chosen];
        let everywhere: BTreeSet<usize> = unit.editions.values().flatten().copied().collect();
        let number = unit.editions.keys().last().copied().unwrap_or(0) + 1;
        let fate = &mut self.fate;
        let holders: BTreeSet<usize> =
            everywhere.iter().copied().filter(|it| *it == machine || fate.percent(90)).collect();
        if fate.percent(30)
            && let Some(old) = unit.editions.values_mut().find(|it| it.contains(&machine) && it.len() > 2)
        {
            old.remove(&machine);
        }
        unit.editions.insert(number, holders);
        let id = unit.id.clone();
        self.remark(|| format!("edition {number} of {id} is put on machines"));
        for machine in everywhere {
            self.load(machine);
        }
        let at = self.now + self.fate.time(Duration::ZERO..=STAGED);
        self.queue.plan(at, Event::Strike(Strike::Publish(machine, id, number)));
    }

    /// The server of a machine, if it lives, loads its content again.
    pub(super) fn load(&mut self, machine: usize) {
        let toy = self.toy(machine);
        self.with_server(machine, |host, scene| host.load(toy, scene));
    }

    /// An operator has an edition published, by the server of a machine, if that lives. It may refuse.
    pub(super) fn publish(&mut self, machine: usize, unit: UnitId, edition: u32) {
        self.remark(|| format!("an operator has edition {edition} of {unit} published"));
        self.with_server(machine, |host, scene| host.order_publication(unit, edition, scene));
    }
}
