//! Units that are taken away from a machine while its server may serve them, and are there again later: a directory that
//! somebody moved by mistake, or a disk that was full.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use model::UnitId;

use crate::fault::Strike;
use crate::knobs::{Unit, ms};
use crate::net::Event;
use crate::packet::Node;
use crate::world::World;

/// How long they are away: from less than it takes others to take over, to longer than anybody goes on without them.
const AWAY: RangeInclusive<Duration> = ms(5)..=ms(12_000);

impl World {
    /// Some unit is taken away from a machine, and its server loads what is left. Others that live have all of it: one, or
    /// two where nothing may be lost, since one of them may be killed meanwhile.
    pub(super) fn take_some_unit_away(&mut self, machine: usize) {
        let spare = if self.knobs.weather.gentle { 2 } else { 1 };
        let others: BTreeSet<usize> =
            (0..self.servers.len()).filter(|it| *it != machine && self.is_alive(Node::Server(*it))).collect();
        let is_here = |holders: &BTreeSet<usize>| holders.contains(&machine);
        let can_go = |unit: &&mut Unit| {
            let mut here = unit.editions.values().filter(|it| is_here(it)).peekable();
            here.peek().is_some() && here.all(|it| it.intersection(&others).count() >= spare)
        };
        let mut units: Vec<_> = self.knobs.units.iter_mut().filter(can_go).collect();
        if units.is_empty() {
            return;
        }
        let chosen = self.fate.below(units.len());
        let unit = &mut units[chosen];
        let gone =
            unit.editions.iter_mut().filter_map(|(it, holders)| holders.remove(&machine).then_some(*it));
        let (id, gone) = (unit.id.clone(), gone.collect());
        self.remark(|| format!("{id} is taken away from machine {machine}"));
        self.absent.insert((machine, id.clone()), gone);
        self.load(machine);
        let at = self.now + self.fate.time(AWAY);
        self.queue.plan(at, Event::Strike(Strike::BringBack(machine, id)));
    }

    /// What was taken away is on the machine again, if it is not already.
    pub(super) fn bring_back(&mut self, machine: usize, unit: &UnitId) {
        let Some(gone) = self.absent.remove(&(machine, unit.clone())) else { return };
        self.remark(|| format!("{unit} is on machine {machine} again"));
        for unit in self.knobs.units.iter_mut().filter(|it| it.id == *unit) {
            for edition in &gone {
                unit.editions.entry(*edition).or_default().insert(machine);
            }
        }
        self.load(machine);
    }

    /// Everything is where it was.
    pub(super) fn bring_everything_back(&mut self) {
        let absent: Vec<_> = self.absent.keys().cloned().collect();
        absent.iter().for_each(|(machine, unit)| self.bring_back(*machine, unit));
    }
}
