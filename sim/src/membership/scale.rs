//! How long many daemons take, and how much is said, until they are all in one configuration again: after a start of
//! all at once, a crash, a partition into halves, and their merge. Every way takes a millisecond, and what breaks is
//! seen at once, so that only the protocol counts.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use detector::Profile;
use membership_core::{Params, Protocol};
use model::{DaemonId, Time};

use crate::knobs::{ms, us};
use crate::membership::claims::has_settled;
use crate::membership::faults::Strike;
use crate::membership::knobs::{Knobs, Purpose};
use crate::membership::log::Log;
use crate::membership::net::{Event, Node, Pace};
use crate::membership::world::World;

/// What one change cost.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Which change.
    pub what: &'static str,
    /// From its cause to the last notice.
    pub took: Duration,
    /// Between servers, in all, other than signs of life.
    pub messages: Traffic,
    /// To daemons, in all.
    pub notices: Traffic,
    /// From daemons: whom they cannot talk to.
    pub reports: Traffic,
    /// How long the processor was busy, with all that belongs to the simulation.
    pub spent: Duration,
}

/// So many, and about how many bytes.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    count: u64,
    bytes: u64,
}

impl Traffic {
    fn since(self, before: Traffic) -> Traffic {
        Traffic { count: self.count - before.count, bytes: self.bytes - before.bytes }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {}", self.count, self.bytes.div_ceil(1000))
    }
}

/// Plays the changes, and measures each. An error says what is wrong at the end of one.
pub fn measure(servers: usize, daemons: usize, protocol: Protocol) -> Result<Vec<Cost>, String> {
    let params = Params { protocol, daemons_max: daemons, detection: None, flaps: u32::MAX, ..Params::lan() };
    let reach = Profile::Lan.params();
    let pace = Pace {
        delay: ms(1)..=ms(1),
        notice: ms(1)..=ms(1),
        redial: ms(10)..=ms(20),
        report: us(0)..=us(0),
        prompt: 100,
    };
    let mut world = World::new(Knobs {
        seed: 0,
        purpose: Purpose::Storm,
        servers,
        daemons,
        params,
        reach,
        pace,
        strikes: 0,
        ambushes: 0,
        storm: ms(0),
        aftermath: ms(0),
    });
    let mut costs = Vec::new();
    for server in 0..servers {
        world.start(Node::Server(server));
    }
    world.play_for(Duration::from_secs(5));
    costs.push(world.cost("start of all at once", |world| {
        (0..daemons).for_each(|daemon| world.start(Node::Daemon(daemon)));
    })?);
    costs.push(world.cost("crash of one daemon", |world| world.kill(Node::Daemon(0), true))?);
    world.net.schedule(ms(0), Event::Strike(Strike::Start(Node::Daemon(0))));
    world.play_for(Duration::from_secs(20));
    costs.push(world.cost("crash of one server", |world| world.kill(Node::Server(0), true))?);
    world.net.schedule(ms(0), Event::Strike(Strike::Start(Node::Server(0))));
    world.play_for(Duration::from_secs(20));
    let machines = world.machines();
    let halves = (0..machines).map(|machine| (machine % 2) as u32).collect();
    costs.push(world.cost("partition into halves", |world| world.part(halves))?);
    costs.push(world.cost("merge of the halves", |world| world.part(vec![0; machines]))?);
    Ok(costs)
}

impl World {
    /// Lets so much time pass.
    fn play_for(&mut self, time: Duration) {
        let end = self.net.now + time;
        while let Some(event) = self.net.next_before(end) {
            self.handle(event);
            self.log.take_moments();
            self.log.records.clear();
        }
        self.net.now = end;
    }

    fn cost(&mut self, what: &'static str, cause: impl FnOnce(&mut World)) -> Result<Cost, String> {
        let before = self.traffic();
        let (start, began): (Time, Duration) = (self.net.now, processor_time());
        cause(self);
        self.play_for(Duration::from_secs(20));
        let spent = processor_time().saturating_sub(began);
        self.has_converged().map_err(|wrong| format!("after {what}: {wrong}"))?;
        let [messages, notices, reports] = self.traffic();
        let [messages_before, notices_before, reports_before] = before;
        Ok(Cost {
            what,
            took: self.log.last_notice.since(start),
            messages: messages.since(messages_before),
            notices: notices.since(notices_before),
            reports: reports.since(reports_before),
            spent,
        })
    }

    /// Of messages, notices and reports.
    fn traffic(&self) -> [Traffic; 3] {
        let Log { messages, message_bytes, notices, notice_bytes, reports, report_bytes, .. } = self.log;
        let all = [(messages, message_bytes), (notices, notice_bytes), (reports, report_bytes)];
        all.map(|(count, bytes)| Traffic { count, bytes })
    }

    /// Whether all that reach each other are together.
    fn has_converged(&self) -> Result<(), String> {
        let alive: Vec<usize> = (0..self.daemons.len()).filter(|it| self.daemons[*it].alive).collect();
        let first = alive.first().copied().unwrap_or(0);
        let with_first = |it: &usize| self.net.is_whole(Node::Daemon(first), Node::Daemon(*it));
        let (here, there): (Vec<usize>, Vec<usize>) = alive.into_iter().partition(with_first);
        let set = |those: Vec<usize>| -> BTreeSet<DaemonId> {
            those.into_iter().map(|it| self.daemons[it].id).collect()
        };
        let expected: Vec<_> = [set(here), set(there)].into_iter().filter(|set| !set.is_empty()).collect();
        has_settled(&expected, &self.ends())?;
        self.log.complaints.first().cloned().map_or(Ok(()), Err)
    }
}

/// How long a processor has been busy with this thread, as Linux counts it.
fn processor_time() -> Duration {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = counted.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// The costs as a table.
pub fn table(costs: &[Cost]) -> String {
    let mut text = String::from(
        "| change | time | messages between servers | kB | notices to daemons | kB | reports of daemons | kB | CPU |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for Cost { what, took, messages, notices, reports, spent } in costs {
        let took = format!("{} ms", took.as_millis());
        let spent = format!("{:.1} s", spent.as_secs_f64());
        text += &format!("| {what} | {took} | {messages} | {notices} | {reports} | {spent} |\n");
    }
    text
}
