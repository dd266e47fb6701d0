//! The parameters of a world in which there is nothing above group communication: daemons and membership servers on a
//! few machines, processes that use groups, and a network that comes apart.

use std::time::Duration;

use detector::Params;
use gcs_core::Limit;

use crate::dice::Dice;
use crate::fault::Weather;
use crate::hosts::Leanings;
use crate::knobs::{Knobs, ms, names, us};

/// Detection for runs of a few seconds.
const DETECTION: Params = Params {
    period: ms(20),
    floor: ms(70),
    ceiling: ms(150),
    deviations: 3,
    patience: ms(20),
    calm: ms(100),
    calm_max: ms(1_000),
    probe: ms(50),
};

impl Knobs {
    /// A quiet world of so many machines, of which as many run a membership server, with a process on each.
    pub fn quiet_multicast(seed: u64, machines: usize, membership_servers: usize) -> Knobs {
        Knobs {
            membership_servers,
            machines: names("machine", machines),
            servers: false,
            gateways: 0,
            units: Vec::new(),
            processes: machines,
            ..Knobs::quiet(seed)
        }
    }

    /// The world of `seed`.
    pub fn multicast(seed: u64) -> Knobs {
        let mut dice = Dice::new(seed, 1);
        let dice = &mut dice;
        let machines = 2 + dice.below(5);
        let servers = 1 + dice.below(machines.min(5));
        let mut knobs = Knobs::quiet_multicast(seed, machines, servers);
        knobs.processes = machines + dice.below(machines + 1);
        knobs.skew = dice.time(us(0)..=ms(20));
        shape_network(&mut knobs, dice);
        shape_daemons(&mut knobs, dice);
        knobs.leanings = Some(leanings(dice));
        knobs.weather = Weather::storm(dice);
        // Sometimes connections tell of cuts before daemons find out.
        knobs.pace.links_give_up = dice.percent(40);
        knobs
    }
}

fn shape_network(knobs: &mut Knobs, dice: &mut Dice) {
    let (slowest, jitter) = (dice.pick(&[us(300), ms(2), ms(10)]), dice.pick(&[us(20), us(500), ms(4)]));
    let (detection, silence) = (dice.pick(&[ms(1), ms(20)]), dice.pick(&[ms(2), ms(20), ms(150)]));
    knobs.pace.latency = us(50)..=slowest;
    knobs.pace.jitter = us(0)..=jitter;
    knobs.pace.detection = us(10)..=detection;
    knobs.pace.silence = us(500)..=silence;
    knobs.redial = us(500)..=dice.pick(&[ms(5), ms(50)]);
    knobs.idle = us(0)..=dice.pick(&[us(10), us(300), ms(3)]);
}

fn shape_daemons(knobs: &mut Knobs, dice: &mut Dice) {
    knobs.membership.settle = dice.pick(&[Duration::ZERO, ms(2), ms(30)]);
    knobs.membership.regather = dice.pick(&[Duration::ZERO, ms(50), ms(300)]);
    knobs.gcs.progress_period = dice.pick(&[ms(5), ms(50), ms(500)]);
    knobs.gcs.frames_per_ack = dice.pick(&[1, 4, 64]);
    knobs.gcs.batch_bytes = dice.pick(&[1, 200, 256 << 10]);
    // A part of the bound on what others hold of a stream: the tighter, the sooner it shows what goes beyond.
    knobs.gcs.connections_max = 12;
    knobs.gcs.syncs_per_peer_max = dice.pick(&[1, 2, 16]);
    knobs.gcs.detection = Some(DETECTION);
    if dice.percent(30) {
        knobs.gcs.queue = Limit { entries: 8, bytes: 60_000 };
    }
    if dice.percent(40) {
        knobs.gcs.window = Limit { entries: dice.pick(&[4, 16]), bytes: 4000 };
    }
}

fn leanings(dice: &mut Dice) -> Leanings {
    // Hundreds of groups make long traces: some seeds must do.
    let groups = if dice.percent(8) { 300 } else { dice.pick(&[2, 4, 12]) };
    let slowest = dice.pick(&[ms(20), ms(100)]);
    Leanings {
        acts: us(200)..=slowest,
        groups,
        multicasts: dice.pick(&[40, 70, 90]),
        burst: 1..=dice.pick(&[1, 2, 5]),
        large: dice.pick(&[0, 5, 30]),
        large_bytes: 100..=dice.pick(&[1000, 20_000]),
        safe: dice.pick(&[0, 20, 100]),
        conditional: dice.pick(&[0, 20]),
        at_once: 1..=dice.pick(&[1, 3, groups as u64 / 2]),
        detaches: dice.pick(&[0, 1, 5]),
        hangs: dice.pick(&[0, 0, 3]),
    }
}
