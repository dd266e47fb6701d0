//! Operators who have a content server take nothing new for a while.

use std::ops::RangeInclusive;
use std::time::Duration;

use session_core::Intent;

use crate::fault::Strike;
use crate::knobs::ms;
use crate::net::Event;
use crate::packet::Node;
use crate::world::World;

/// How long a server stays cordoned, if it is not started again meanwhile.
const CORDONED: RangeInclusive<Duration> = ms(300)..=ms(8000);

impl World {
    /// An operator has the server of a machine take nothing new, if it lives and takes its share.
    pub(super) fn cordon(&mut self, machine: usize) {
        if self.is_cordoned(machine) != Some(false) {
            return;
        }
        self.remark(|| format!("{} is cordoned", Node::Server(machine)));
        self.with_server(machine, |host, scene| host.order_cordon(true, scene));
        let at = self.now + self.fate.time(CORDONED);
        self.queue.plan(at, Event::Strike(Strike::Uncordon(machine)));
    }

    /// It is to take its share again, if it is still cordoned.
    pub(super) fn uncordon(&mut self, machine: usize) {
        if self.is_cordoned(machine) == Some(true) {
            self.remark(|| format!("{} is not cordoned any more", Node::Server(machine)));
            self.with_server(machine, |host, scene| host.order_cordon(false, scene));
        }
    }

    /// All servers are to take their share again.
    pub(super) fn lift_cordons(&mut self) {
        (0..self.servers.len()).for_each(|machine| self.uncordon(machine));
    }

    fn is_cordoned(&self, machine: usize) -> Option<bool> {
        Some(self.servers[machine].host.as_ref()?.server().is_cordoned())
    }

    /// When no server is cordoned, none takes another one for it.
    pub(super) fn compare_intents(&mut self) {
        let mut complaints = Vec::new();
        for host in self.servers.iter().filter_map(|slot| slot.host.as_ref()) {
            for (unit, database) in host.server().databases() {
                let wrong = database.members().iter().filter(|it| database.intent(**it) != Intent::Open);
                complaints.extend(wrong.map(|it| {
                    format!(
                        "in the end {:?} has it that {it} does not take its share of {unit}",
                        host.server().me()
                    )
                }));
            }
        }
        self.log.complaints.extend(complaints);
    }
}
