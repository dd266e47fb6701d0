//! All parameters of a run, from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use detector::Profile;
use gcs_core::Limit;
use model::{Level, Name, UnitId};
use session_core::{Credit, GatewayParams, Policy, Rebuild};

use crate::dice::Dice;
use crate::fault::{Kind, Weather};
use crate::hosts::Leanings;
use crate::net::Pace;

mod multicast;

/// A content unit of the toy service.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its id.
    pub id: UnitId,
    /// The machines whose servers hold it, by edition.
    pub editions: BTreeMap<u32, BTreeSet<usize>>,
    /// How many positions its first edition has.
    length: u32,
    /// How surely the session group has its responses before clients are sent them. Where it is to have them, random
    /// numbers are drawn for them.
    pub commit: Option<Level>,
    /// Whether its sessions share a log, in which all their requests are written.
    pub shared: bool,
}

impl Unit {
    /// A unit of one edition, of which nothing is left to chance.
    pub fn new(id: UnitId, holders: BTreeSet<usize>, length: u32) -> Unit {
        Unit { id, editions: BTreeMap::from([(1, holders)]), length, commit: None, shared: false }
    }

    /// How many positions an edition has: no two have the same length.
    pub fn length(&self, edition: u32) -> u32 {
        self.length + 3 * (edition - 1)
    }
}

/// How clients behave that nobody directs.
#[derive(Clone, Debug)]
pub struct Habits {
    /// How often they do something.
    pub acts: RangeInclusive<Duration>,
    /// How long they stay away.
    pub away: RangeInclusive<Duration>,
    /// In how many of a hundred acts they go away, and come back later.
    pub leaves: u64,
    /// In how many of a hundred acts they close their session, and open another one later.
    pub closes: u64,
    /// In how many of a hundred comebacks they use another gateway.
    pub moves: u64,
    /// In how many of a hundred comebacks they have forgotten the last responses of a unit with output commit.
    pub forgets: u64,
    /// How long they take over a response.
    pub takes: RangeInclusive<Duration>,
}

/// The parameters.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// What they come from.
    pub seed: u64,
    /// Membership servers.
    pub membership_servers: usize,
    /// Machines by name.
    pub machines: Vec<Name>,
    /// Whether machines run content servers too.
    pub servers: bool,
    /// Gateways.
    pub gateways: usize,
    /// Clients with habits.
    pub clients: usize,
    /// Content units.
    pub units: Vec<Unit>,
    /// What the clients do.
    pub habits: Habits,
    /// Processes that do nothing but use groups.
    pub processes: usize,
    /// What they do.
    pub leanings: Option<Leanings>,
    /// The network.
    pub pace: Pace,
    /// Until a host dials again.
    pub redial: RangeInclusive<Duration>,
    /// How long a machine takes to find its inbox empty.
    pub idle: RangeInclusive<Duration>,
    /// How far clocks may be apart.
    pub skew: Duration,
    /// Of the membership servers.
    pub membership: membership_core::Params,
    /// Of the daemons.
    pub gcs: gcs_core::Params,
    /// Of the content servers.
    pub sessions: session_core::Params,
    /// Of the gateways.
    pub gateway: GatewayParams,
    /// How long clients look for a session that nobody knows.
    pub patience: Duration,
    /// The faults.
    pub weather: Weather,
    /// Whether operators look after shared states.
    pub operators: bool,
}

/// Milliseconds.
pub const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Microseconds.
pub const fn us(number: u64) -> Duration {
    Duration::from_micros(number)
}

impl Knobs {
    /// A quiet world in which everything takes its usual time, for stories and scripts.
    pub fn quiet(seed: u64) -> Knobs {
        let detach_ttl = Duration::from_secs(5);
        Knobs {
            seed,
            membership_servers: 1,
            machines: names("machine", 3),
            servers: true,
            gateways: 1,
            clients: 0,
            units: vec![Unit::new(unit("film-1"), (0..3).collect(), 400)],
            habits: Habits {
                acts: ms(50)..=ms(800),
                away: ms(20)..=ms(1500),
                leaves: 10,
                closes: 2,
                moves: 50,
                forgets: 0,
                takes: us(0)..=ms(20),
            },
            processes: 0,
            leanings: None,
            pace: Pace {
                latency: us(200)..=ms(1),
                jitter: us(0)..=us(200),
                detection: us(100)..=ms(10),
                silence: ms(20)..=ms(40),
                links_give_up: true,
            },
            redial: ms(5)..=ms(40),
            idle: us(0)..=us(100),
            skew: Duration::ZERO,
            membership: membership_core::Params {
                settle: ms(5),
                regather: ms(300),
                ..membership_core::Params::sim()
            },
            gcs: gcs_core::Params { trace: true, progress_period: ms(200), ..gcs_core::Params::lan() },
            sessions: session_core::Params {
                policy: Policy { period: ms(300), ..Policy::default() },
                detach_ttl,
                claim_retry: ms(300),
                trace: true,
                ..session_core::Params::default()
            },
            gateway: GatewayParams {
                retry: ms(300),
                no_replica_timeout: Duration::from_secs(6),
                detach_ttl,
                trace: true,
                ..GatewayParams::default()
            },
            patience: Duration::from_secs(4),
            weather: Weather::fair(),
            operators: false,
        }
    }

    /// The world of `seed`.
    pub fn from_seed(seed: u64) -> Knobs {
        let mut dice = Dice::new(seed, 1);
        let mut knobs = Knobs::quiet(seed);
        let dice = &mut dice;
        knobs.membership_servers = if dice.percent(85) { 1 } else { 3 };
        knobs.machines = names("machine", 2 + dice.below(4));
        knobs.gateways = 1 + dice.below(3);
        knobs.clients = 1 + dice.below(8);
        knobs.units = units(dice, knobs.machines.len());
        knobs.skew = dice.time(us(0)..=ms(20));
        shape_network(&mut knobs, dice);
        shape_gcs(&mut knobs, dice);
        shape_sessions(&mut knobs, dice);
        shape_habits(&mut knobs, dice);
        knobs.weather = Weather::from_dice(dice);
        make_anew(&mut knobs, &mut Dice::new(seed, 8));
        leave_to_chance(&mut knobs, &mut Dice::new(seed, 6));
        share(&mut knobs, &mut Dice::new(seed, 9));
        knobs.operators = true;
        knobs
    }
}

/// In some worlds units make sessions anew that all servers have forgotten, and then all servers may forget them.
fn make_anew(knobs: &mut Knobs, dice: &mut Dice) {
    if dice.percent(30) {
        knobs.sessions.policy.rebuild = Rebuild::Allowed;
        let is_rough = !knobs.weather.gentle;
        knobs.weather.strikes.extend(is_rough.then_some(Kind::AllServers));
    }
}

fn names(prefix: &str, count: usize) -> Vec<Name> {
    (1..=count).map(|n| name(&format!("{prefix}-{n}"))).collect()
}

/// The name spelt `text`.
pub fn name(text: &str) -> Name {
    text.parse().expect("names in the simulator are well spelt")
}

/// The unit called `id`.
pub fn unit(id: &str) -> UnitId {
    UnitId::new(id).expect("units in the simulator are well spelt")
}

/// A few units, each on some of the machines.
fn units(dice: &mut Dice, machines: usize) -> Vec<Unit> {
    (1..=1 + dice.below(3))
        .map(|n| {
            let mut holders: BTreeSet<usize> = (0..machines).filter(|_| dice.percent(70)).collect();
            // A unit on one machine goes with it; two or more give its sessions somewhere to go.
            while holders.len() < 2 {
                holders.insert(dice.below(machines));
            }
            let (id, length) = (unit(&format!("film-{n}")), dice.between(5..=120) as u32);
            Unit::new(id, holders, length)
        })
        .collect()
}

/// Some units draw random numbers, under output commit.
fn leave_to_chance(knobs: &mut Knobs, dice: &mut Dice) {
    for unit in &mut knobs.units {
        unit.commit =
            dice.pick(&[None, None, None, Some(Level::Safe), Some(Level::Safe), Some(Level::Agreed)]);
    }
    knobs.habits.forgets = dice.pick(&[0, 30, 80]);
}

/// In some worlds the sessions on some units share a state. Such sessions are not made anew.
fn share(knobs: &mut Knobs, dice: &mut Dice) {
    let some = dice.percent(30) && knobs.sessions.policy.rebuild == Rebuild::Never;
    for unit in knobs.units.iter_mut().filter(|unit| some && unit.commit.is_none()) {
        unit.shared = dice.percent(70);
    }
}

fn shape_network(knobs: &mut Knobs, dice: &mut Dice) {
    let slowest = *[ms(1), ms(3), ms(20), ms(80)].get(dice.below(4)).unwrap_or(&ms(1));
    let jitter = *[us(50), ms(1), ms(10)].get(dice.below(3)).unwrap_or(&ms(1));
    let detection = *[ms(1), ms(20), ms(200)].get(dice.below(3)).unwrap_or(&ms(1));
    knobs.pace.latency = us(50)..=slowest;
    knobs.pace.jitter = us(0)..=jitter;
    knobs.pace.detection = us(10)..=detection;
    knobs.redial = ms(1)..=*[ms(10), ms(100)].get(dice.below(2)).unwrap_or(&ms(10));
    knobs.idle = us(0)..=*[us(10), us(500), ms(5)].get(dice.below(3)).unwrap_or(&us(10));
}

fn shape_gcs(knobs: &mut Knobs, dice: &mut Dice) {
    knobs.membership.settle = dice.pick(&[Duration::ZERO, ms(5), ms(50)]);
    knobs.membership.regather = dice.pick(&[ms(50), ms(300), Duration::from_secs(1)]);
    knobs.gcs.progress_period = dice.pick(&[ms(100), ms(300), ms(1000)]);
    knobs.gcs.frames_per_ack = dice.pick(&[2, 64]);
    knobs.gcs.batch_bytes = dice.pick(&[1, 200, 256 << 10]);
    knobs.gcs.syncs_per_peer_max = dice.pick(&[2, 16]);
    knobs.gcs.detection = Some(Profile::Lan.params());
    // A small window on a slow network is no more than an overload.
    if dice.percent(30) && *knobs.pace.latency.end() <= ms(3) {
        knobs.gcs.window = Limit { entries: 8, bytes: 4000 };
    }
}

fn shape_sessions(knobs: &mut Knobs, dice: &mut Dice) {
    let sessions = &mut knobs.sessions;
    sessions.policy.backups = dice.pick(&[0, 1, 1, 2]);
    sessions.policy.period = dice.pick(&[ms(100), ms(500), Duration::from_secs(2)]);
    sessions.detach_ttl = dice.pick(&[Duration::from_secs(3), Duration::from_secs(6)]);
    sessions.moves_max = dice.pick(&[1, 64]);
    sessions.message_bytes_max = dice.pick(&[100, 128 * 1024]);
    sessions.claim_retry = dice.pick(&[ms(100), ms(500)]);
    knobs.gateway.detach_ttl = sessions.detach_ttl;
    knobs.gateway.retry = dice.pick(&[ms(150), ms(400)]);
    knobs.gateway.window = dice.pick(&[
        Credit::responses(1),
        Credit { responses: 4, bytes: 1000 },
        Credit { responses: 16, bytes: 800 },
    ]);
    knobs.gateway.requests_max = dice.pick(&[2, 64]);
    knobs.gateway.stall_timeout = dice.pick(&[Duration::from_secs(2), Duration::from_secs(5)]);
}

fn shape_habits(knobs: &mut Knobs, dice: &mut Dice) {
    let slow = dice.pick(&[ms(100), ms(400), ms(1500)]);
    knobs.habits.acts = slow / 4..=slow * 2;
    knobs.habits.leaves = dice.pick(&[0, 10, 30]);
    knobs.habits.closes = dice.pick(&[0, 2, 10]);
    knobs.habits.moves = dice.pick(&[0, 50, 100]);
    knobs.habits.takes = us(0)..=dice.pick(&[us(10), ms(20), ms(300)]);
}
