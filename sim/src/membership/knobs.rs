//! All parameters of a run, from one seed.

use std::time::Duration;

use detector::Profile;
use membership_core::{Params, Protocol, Rule};

use crate::dice::Dice;
use crate::knobs::{ms, us};
use crate::membership::daemon::name;
use crate::membership::net::Pace;

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Everything fails.
    Storm,
    /// Only servers, links between them and streams fail, and come back in time: nobody may hear of it.
    Stillness,
    /// One link between two daemons comes and goes: others may hear of it a few times.
    Flapping,
}

/// The parameters of a run.
#[derive(Clone, Debug)]
pub struct Knobs {
    pub(super) seed: u64,
    pub(super) purpose: Purpose,
    pub(super) servers: usize,
    pub(super) daemons: usize,
    pub(super) params: Params,
    pub(super) reach: detector::Params,
    pub(super) pace: Pace,
    /// How many faults strike at random times, and how many wait for moments.
    pub(super) strikes: usize,
    pub(super) ambushes: usize,
    /// For how long.
    pub(super) storm: Duration,
    /// How long everything may take to come to an end after all faults.
    pub(super) aftermath: Duration,
}

impl Knobs {
    /// Those of `seed`, for servers that agree in this way.
    pub fn from_seed(seed: u64, protocol: Protocol) -> Knobs {
        let mut dice = Dice::new(seed, 0);
        let purpose = match dice.below(20) {
            0 | 1 => Purpose::Stillness,
            2 => Purpose::Flapping,
            _ => Purpose::Storm,
        };
        let waits = purpose != Purpose::Storm || dice.percent(50);
        // Few are as good as many for most faults, and quicker.
        let servers = if dice.percent(60) { 1 + dice.below(3) } else { 1 + dice.below(7) };
        let daemons = if dice.percent(60) { 1 + dice.below(4) } else { 1 + dice.below(8) };
        let mut knobs = if waits { Knobs::lan(&mut dice) } else { Knobs::at_once(&mut dice) };
        knobs = Knobs { seed, purpose, servers, daemons, ..knobs };
        match purpose {
            Purpose::Storm => {}
            Purpose::Stillness => {
                knobs.params = Params { detection: None, ..Params::lan() };
                knobs.pace.notice = ms(100)..=ms(300);
                knobs.pace.redial = ms(10)..=ms(80);
                knobs.strikes = 1 + dice.below(4);
                knobs.ambushes = 0;
                knobs.storm = (knobs.params.grace + ms(1_500)) * knobs.strikes as u32;
            }
            Purpose::Flapping => {
                knobs.daemons = 2 + dice.below(7);
                knobs.strikes = 1;
                knobs.ambushes = 0;
                knobs.storm = ms(0);
            }
        }
        knobs.params.protocol = protocol;
        if !waits {
            // So that the end of a leader's patience falls into changes.
            knobs.params.beacon = *knobs.pace.notice.end();
        }
        knobs.params.primary = knobs.rule(&mut dice);
        if dice.percent(80) {
            knobs.params.vote = *knobs.pace.notice.end() * 2;
        } else {
            knobs.params.vote = dice.time(us(0)..=ms(5));
        }
        knobs
    }

    /// Which configuration is the primary component; some daemons may have no say in that.
    fn rule(&self, dice: &mut Dice) -> Rule {
        let all = if dice.percent(70) { self.daemons } else { 1 + dice.below(self.daemons) };
        let voters = (0..all).map(name).collect();
        match dice.below(4) {
            0 => Rule::None,
            1 => Rule::Majority(voters),
            _ => Rule::Dynamic(voters),
        }
    }

    /// Times as they are in a local network; sometimes one or the other wait is left out.
    fn lan(dice: &mut Dice) -> Knobs {
        let lan = Params::lan();
        let mut maybe = |time: Duration| if dice.percent(20) { Duration::ZERO } else { time };
        let (settle, regather, grace) = (maybe(lan.settle), maybe(lan.regather), maybe(lan.grace));
        let patience = maybe(lan.patience);
        let flaps = if dice.percent(30) { u32::MAX } else { lan.flaps };
        let mut reach = Profile::Lan.params();
        if dice.percent(70) {
            reach.calm_max = ms(4_000);
        }
        let delay = dice.pick(&[us(50)..=us(500), ms(1)..=ms(5), us(100)..=ms(40)]);
        let pace = Pace {
            delay,
            notice: ms(400)..=ms(800),
            redial: ms(10)..=ms(200),
            report: us(0)..=ms(10),
            prompt: 70,
        };
        let aftermath = reach.calm_max + ms(if flaps == u32::MAX { 20_000 } else { 80_000 });
        let params = Params { settle, regather, grace, patience, flaps, detection: None, ..lan };
        Knobs::with(dice, params, reach, pace, aftermath)
    }

    /// Nothing waits.
    fn at_once(dice: &mut Dice) -> Knobs {
        let reach = detector::Params {
            patience: dice.time(us(0)..=ms(2)),
            calm: ms(5),
            calm_max: ms(40),
            ..Profile::Fast.params()
        };
        let delay = dice.pick(&[us(10)..=us(100), us(100)..=ms(2)]);
        let pace = Pace {
            delay,
            notice: ms(2)..=ms(10),
            redial: us(200)..=ms(5),
            report: us(0)..=ms(1),
            prompt: 70,
        };
        Knobs::with(dice, Params::sim(), reach, pace, ms(2_000))
    }

    fn with(
        dice: &mut Dice,
        params: Params,
        reach: detector::Params,
        pace: Pace,
        aftermath: Duration,
    ) -> Knobs {
        let strikes = 1 + dice.below(10);
        let gap = *pace.notice.end() * dice.between(1..=12) as u32 / 4;
        Knobs {
            seed: 0,
            purpose: Purpose::Storm,
            servers: 1,
            daemons: 1,
            params,
            reach,
            pace,
            strikes,
            ambushes: dice.below(4),
            storm: gap * strikes as u32,
            aftermath,
        }
    }
}
