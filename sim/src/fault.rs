//! Faults: at random times, and at named moments.

use std::ops::RangeInclusive;
use std::time::Duration;

use model::UnitId;

use crate::dice::Dice;
use crate::happens::{Happens, Moment};
use crate::knobs::{ms, us};
use crate::net::Barrier;
use crate::packet::Node;

/// Something bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strike {
    /// A process is killed, and starts again later.
    Kill(Node),
    /// A daemon and its content server are killed together, and start again later.
    Machine(usize),
    /// A process is killed if it is still in this life of it.
    Overdue(Node, u64),
    /// A content server hands its sessions over, stops, and starts again later.
    Drain(usize),
    /// Some connection breaks.
    Reset,
    /// All content servers are killed at once, and start again later. All that they knew is forgotten.
    AllServers,
    /// The primary of some session is killed, and soon after it the first backup.
    PrimaryAndBackup,
    /// No fault: an operator changes the policy of a unit that a content server holds.
    Adjust(usize),
    /// No fault: an operator puts a new edition of a unit that a machine holds on most machines that hold the unit, and
    /// may take an old one away.
    Stage(usize),
    /// And has new sessions opened on it.
    Publish(usize, UnitId, u32),
    /// No fault: an operator cordons a content server for a while.
    Cordon(usize),
    /// It takes its share again.
    Uncordon(usize),
    /// A unit is taken away from a machine whose server holds it, and is there again later.
    TakeAway(usize),
    /// It is there again.
    BringBack(usize, UnitId),
    /// No fault: operators look whether shared states have to be founded.
    Look,
    /// The machines fall into parts, which do not reach each other.
    Partition,
    /// Two parts become one again.
    Merge,
    /// A machine is cut off from all others, until the next merge.
    CutOff(usize),
    /// Barriers between machines go up, and down again later.
    Raise(Fence, Vec<Barrier>),
    /// They go down.
    Lower(Vec<Barrier>),
    /// A process stands still, and goes on later.
    Pause(Node),
    /// A process becomes slow, and quick again later.
    Slow(Node),
    /// A content server does nothing any more, and goes on later. Its connections do not tell.
    Hang(usize),
    /// A process goes on as before, if this is still what holds it.
    GoOn(Node, u64),
}

impl Strike {
    /// The names of the kinds of faults, for tables.
    pub const NAMES: [&'static str; 24] = [
        "membership server killed",
        "daemon killed",
        "content server killed",
        "gateway killed",
        "process killed",
        "machine killed",
        "content server drained",
        "connection reset",
        "all content servers killed",
        "primary and backup killed",
        "policy changed",
        "edition published",
        "content server cordoned",
        "unit taken away",
        "partition",
        "merge of parts",
        "machine cut off",
        "cut in one direction",
        "cut in both directions",
        "way stalled",
        "pause",
        "slowness",
        "content server hung",
        "barrier down",
    ];

    /// Its kind, if it is a fault and not the end of one.
    pub fn name(&self) -> Option<&'static str> {
        Some(match self {
            Strike::Kill(node) | Strike::Overdue(node, _) => match node {
                Node::Membership(_) => "membership server killed",
                Node::Daemon(_) => "daemon killed",
                Node::Server(_) => "content server killed",
                Node::Gateway(_) => "gateway killed",
                Node::Process(_) | Node::Client(_) => "process killed",
            },
            Strike::Machine(_) => "machine killed",
            Strike::Drain(_) => "content server drained",
            Strike::Reset => "connection reset",
            Strike::AllServers => "all content servers killed",
            Strike::PrimaryAndBackup => "primary and backup killed",
            Strike::Adjust(_) => "policy changed",
            Strike::Publish(..) => "edition published",
            Strike::Cordon(_) => "content server cordoned",
            Strike::TakeAway(_) => "unit taken away",
            Strike::Partition => "partition",
            Strike::Merge => "merge of parts",
            Strike::CutOff(_) => "machine cut off",
            Strike::Raise(Fence::OneWay, _) => "cut in one direction",
            Strike::Raise(Fence::BothWays, _) => "cut in both directions",
            Strike::Raise(Fence::Stall, _) => "way stalled",
            Strike::Pause(_) => "pause",
            Strike::Slow(_) => "slowness",
            Strike::Hang(_) => "content server hung",
            Strike::Lower(_) => "barrier down",
            Strike::Stage(_)
            | Strike::Uncordon(_)
            | Strike::BringBack(..)
            | Strike::Look
            | Strike::GoOn(..) => return None,
        })
    }
}

/// How barriers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// From one machine to another, and not back.
    OneWay,
    /// Between two machines that both still reach others: who reaches whom is not transitive.
    BothWays,
    /// What is under way between two machines is late; connections stay.
    Stall,
}

/// Whom a fault at a named moment hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Whoever it happens to.
    Actor,
    /// The machine of whoever it happens to.
    ActorsMachine,
    /// The machine whose daemon ranks lowest among the living: the sequencer.
    Sequencer,
    /// Some machine.
    Machine,
    /// Some content server.
    Server,
    /// Some gateway.
    Gateway,
    /// Some membership server.
    Membership,
    /// Some connection.
    Connection,
    /// The process that it happens to stands still.
    ActorPaused,
    /// The process that it happens to is slow.
    ActorSlow,
    /// The machine of whoever it happens to is cut off.
    ActorCutOff,
    /// All machines: they fall into parts.
    Parts,
    /// Two parts: they become one.
    Merge,
    /// The way between two machines, in this manner.
    Way(Fence),
}

/// A fault that waits for its moment.
#[derive(Clone, Debug)]
pub struct Ambush {
    /// The moment.
    pub on: Happens,
    /// In how many of a hundred such moments it strikes.
    pub percent: u64,
    /// Whom.
    pub victim: Victim,
    /// How long after the moment.
    pub after: RangeInclusive<Duration>,
    /// How often it strikes in all.
    pub times: usize,
}

/// How bad it gets.
#[derive(Clone, Debug)]
pub struct Weather {
    /// How long faults happen.
    pub lasts: Duration,
    /// From one fault at random to the next.
    pub every: RangeInclusive<Duration>,
    /// What happens then: one of these.
    pub strikes: Vec<Kind>,
    /// Faults at named moments.
    pub ambushes: Vec<Ambush>,
    /// How long the dead stay dead.
    pub down: RangeInclusive<Duration>,
    /// Faults pass over machines while so many of a hundred are down.
    pub down_max: usize,
    /// How long cuts, pauses and slowness last.
    pub spell: RangeInclusive<Duration>,
    /// How long a slow process takes over each thing.
    pub drag: RangeInclusive<Duration>,
    /// One fault at a time, and time to recover from it; then nothing may be lost.
    pub gentle: bool,
}

/// The kinds of faults at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Strike::Kill`] of a content server.
    Server,
    /// [`Strike::Kill`] of a daemon; its processes live on, and attach again.
    Daemon,
    /// [`Strike::Machine`].
    Machine,
    /// [`Strike::Kill`] of a gateway.
    Gateway,
    /// [`Strike::Kill`] of a membership server.
    Membership,
    /// [`Strike::Drain`].
    Drain,
    /// [`Strike::Reset`].
    Reset,
    /// [`Strike::AllServers`]. Only where sessions survive it.
    AllServers,
    /// [`Strike::PrimaryAndBackup`].
    PrimaryAndBackup,
    /// [`Strike::Adjust`].
    Adjust,
    /// [`Strike::Stage`].
    Publish,
    /// [`Strike::Cordon`].
    Cordon,
    /// [`Strike::TakeAway`].
    TakeAway,
    /// [`Strike::Kill`] of a process that uses groups.
    Process,
    /// [`Strike::Partition`].
    Partition,
    /// [`Strike::Merge`].
    Merge,
    /// [`Strike::CutOff`].
    CutOff,
    /// [`Strike::Raise`].
    Raise(Fence),
    /// [`Strike::Pause`].
    Pause,
    /// [`Strike::Slow`].
    Slow,
    /// [`Strike::Hang`].
    Hang,
}

impl Weather {
    /// No faults at all.
    pub fn fair() -> Weather {
        Weather {
            lasts: Duration::ZERO,
            every: Duration::from_secs(1)..=Duration::from_secs(1),
            strikes: Vec::new(),
            ambushes: Vec::new(),
            down: ms(300)..=ms(300),
            down_max: 100,
            spell: ms(100)..=ms(100),
            drag: ms(1)..=ms(1),
            gentle: true,
        }
    }

    /// Weather at random.
    pub fn from_dice(dice: &mut Dice) -> Weather {
        if dice.percent(25) { Weather::gentle(dice) } else { Weather::rough(dice) }
    }

    /// One fault after the other. Gateways live, so nothing may be lost.
    fn gentle(dice: &mut Dice) -> Weather {
        Weather {
            lasts: Duration::from_secs(dice.between(8..=14)),
            every: Duration::from_secs(3)..=Duration::from_secs(4),
            strikes: vec![
                Kind::Server,
                Kind::Machine,
                Kind::Daemon,
                Kind::Reset,
                Kind::Drain,
                Kind::Adjust,
                Kind::Publish,
                Kind::Cordon,
                Kind::TakeAway,
            ],
            down: ms(20)..=ms(500),
            ..Weather::fair()
        }
    }

    fn rough(dice: &mut Dice) -> Weather {
        let all = [
            Kind::Server,
            Kind::Daemon,
            Kind::Machine,
            Kind::Gateway,
            Kind::Membership,
            Kind::Drain,
            Kind::Reset,
            Kind::PrimaryAndBackup,
            Kind::Adjust,
            Kind::Publish,
            Kind::Hang,
            Kind::Cordon,
            Kind::TakeAway,
        ];
        let pause = dice.pick(&[ms(150), ms(600), ms(2000)]);
        let slowest = dice.pick(&[ms(50), ms(400), ms(2500)]);
        Weather {
            lasts: Duration::from_secs(dice.between(2..=8)),
            every: us(1)..=pause * 2,
            strikes: all.into_iter().filter(|_| dice.percent(60)).collect(),
            ambushes: (0..dice.below(4)).map(|_| Ambush::from_dice(dice)).collect(),
            down: us(100)..=slowest,
            // A session does not survive all its servers, and a run without sessions tests little.
            down_max: dice.pick(&[30, 50, 100]),
            gentle: false,
            ..Weather::fair()
        }
    }

    /// Everything that can happen to machines and to the network between them.
    pub fn storm(dice: &mut Dice) -> Weather {
        let all = [
            Kind::Daemon,
            Kind::Machine,
            Kind::Membership,
            Kind::Process,
            Kind::Reset,
            Kind::Reset,
            Kind::Partition,
            Kind::Partition,
            Kind::Merge,
            Kind::Merge,
            Kind::CutOff,
            Kind::Raise(Fence::OneWay),
            Kind::Raise(Fence::BothWays),
            Kind::Raise(Fence::Stall),
            Kind::Pause,
            Kind::Slow,
        ];
        let pause = dice.pick(&[ms(15), ms(60), ms(200)]);
        let (longest, slowest) = (dice.pick(&[ms(20), ms(200), ms(1000)]), dice.pick(&[ms(10), ms(200)]));
        Weather {
            lasts: ms(dice.between(100..=800)),
            every: us(1)..=pause,
            strikes: all.into_iter().filter(|_| dice.percent(60)).collect(),
            ambushes: (0..dice.below(8)).map(|_| Ambush::on_machines(dice)).collect(),
            down: us(100)..=slowest,
            down_max: dice.pick(&[50, 100]),
            spell: us(100)..=longest,
            drag: us(50)..=dice.pick(&[us(300), ms(2)]),
            gentle: false,
        }
    }
}

impl Ambush {
    fn from_dice(dice: &mut Dice) -> Ambush {
        let on = dice.pick(&Happens::STACK);
        // What happens all the time is hit rarely, so that the fault does not always hit the first time.
        let percent = match on {
            Happens::Response | Happens::Propagate | Happens::RequestSubmitted | Happens::RequestApplied => 3,
            _ => dice.pick(&[20, 60]),
        };
        let victims = [
            Victim::Actor,
            Victim::Actor,
            Victim::ActorsMachine,
            Victim::Sequencer,
            Victim::Machine,
            Victim::Server,
            Victim::Gateway,
            Victim::Membership,
            Victim::Connection,
        ];
        let latest = dice.pick(&[Duration::ZERO, us(300), ms(5)]);
        let (victim, times) = (dice.pick(&victims), 1 + dice.below(3));
        Ambush { on, percent, victim, after: Duration::ZERO..=latest, times }
    }

    fn on_machines(dice: &mut Dice) -> Ambush {
        let victims = [
            Victim::Actor,
            Victim::ActorsMachine,
            Victim::Sequencer,
            Victim::Machine,
            Victim::Membership,
            Victim::Connection,
            Victim::ActorPaused,
            Victim::ActorSlow,
            Victim::ActorCutOff,
            Victim::Parts,
            Victim::Merge,
            Victim::Way(Fence::OneWay),
            Victim::Way(Fence::BothWays),
            Victim::Way(Fence::Stall),
        ];
        let on = dice.pick(&Happens::DAEMONS);
        // What seldom happens is to be hit when it does.
        let percent = match on {
            Happens::Forward | Happens::Residue | Happens::BrokenExchange | Happens::Resume => 80,
            _ => dice.pick(&[10, 30, 80]),
        };
        let latest = dice.pick(&[Duration::ZERO, us(300), ms(3)]);
        let (victim, times) = (dice.pick(&victims), 1 + dice.below(4));
        Ambush { on, percent, victim, after: Duration::ZERO..=latest, times }
    }

    /// Whether this is the moment, and the dice are for it.
    pub fn springs(&mut self, moment: Moment, dice: &mut Dice) -> bool {
        let springs = self.times > 0 && self.on == moment.what && dice.percent(self.percent);
        self.times -= usize::from(springs);
        springs
    }
}
