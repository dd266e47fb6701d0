//! Corrupted and out-of-date peers: random schedules in which some frames arrive changed, twice, under another's name
//! or long after their time. Nothing is promised then but that no daemon panics, that none keeps more than its
//! limits say, and that none tells its own processes or the membership service nonsense; the world checks that.

use std::collections::BTreeMap;
use std::sync::Arc;

use gcs_core::{
    Entry, Epoch, Input, Message, Params, Payload, PeerFault, Rank, Row, Run as Places, Sync, Table,
};
use model::{Boot, Configuration, ConfigurationId, DaemonId, GroupViewId, Level, Machine, StartId, Terms};

use crate::random::Run;
use crate::rng::Rng;
use crate::world::{Action, World, group};

const SEEDS: u64 = 120;
const STEPS: usize = 1500;

/// A daemon at the end of such a run, written out, is a tenth of this.
const KEPT_MAX: usize = 100_000;

/// How many frames are remembered to be sent again later.
const REMEMBERED: usize = 64;

struct Corruption {
    run: Run,
    seen: Vec<Message>,
}

impl Corruption {
    fn step(&mut self) {
        match self.run.rng.below(1000) {
            0..60 => self.replace(),
            60..63 => self.misname(),
            63..66 => self.open(),
            _ => self.run.step(true),
        }
    }

    /// A frame arrives changed, or another one in its place.
    fn replace(&mut self) {
        let frames = |action: &Action| match action {
            Action::Frame(from, to) => Some((*from, *to)),
            _ => None,
        };
        let frames: Vec<_> = self.run.world.actions().iter().filter_map(frames).collect();
        if frames.is_empty() {
            return;
        }
        let (from, to) = frames[self.run.rng.below(frames.len())];
        let Some((epoch, number, message)) = self.run.world.intercept(from, to) else { return };
        let rng = &mut self.run.rng;
        let place = rng.below(REMEMBERED);
        let earlier = match self.seen.get_mut(place) {
            Some(seen) => std::mem::replace(seen, message.clone()),
            None => {
                self.seen.push(message.clone());
                message.clone()
            }
        };
        let message = match rng.below(10) {
            0 => earlier,
            1 => changed(earlier, rng),
            _ => changed(message, rng),
        };
        let number = if rng.chance(5) { odd(number, rng) } else { number };
        let before = self.run.world.node(to).refused.len();
        self.run.world.input(to, Input::Frame { from, epoch, number, message });
        if self.run.world.node(to).refused[before..].iter().any(|(_, fault)| fault.breaks_link()) {
            self.run.world.reset(from, to);
        }
    }

    /// Somebody speaks in another's name, or in that of nobody.
    fn misname(&mut self) {
        if self.seen.is_empty() {
            return;
        }
        let message = self.seen[self.run.rng.below(self.seen.len())].clone();
        let from = self.somebody();
        let (world, rng) = (&mut self.run.world, &mut self.run.rng);
        let alive = world.alive();
        let to = alive[rng.below(alive.len())];
        let epoch = Epoch::new(1_000 + rng.below(4) as u64);
        world.input(to, Input::Opened { from, epoch });
        let number = 1 + rng.below(3) as u64;
        world.input(to, Input::Frame { from, epoch, number, message });
    }

    fn open(&mut self) {
        let from = self.somebody();
        let (world, rng) = (&mut self.run.world, &mut self.run.rng);
        let alive = world.alive();
        let to = alive[rng.below(alive.len())];
        let epoch = Epoch::new(odd(1, rng));
        world.input(to, Input::Opened { from, epoch });
    }

    fn somebody(&mut self) -> DaemonId {
        let rng = &mut self.run.rng;
        let all: Vec<DaemonId> = self.run.world.nodes.keys().copied().collect();
        match rng.below(3) {
            0 => DaemonId::new(format!("x{}", rng.below(1000)).parse().unwrap(), Boot::new(1)),
            1 => DaemonId::new(all[rng.below(all.len())].name(), Boot::new(rng.below(3) as u64)),
            _ => all[rng.below(all.len())],
        }
    }
}

/// A number near `number`, or far from all.
fn odd(number: u64, rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX - 1,
        3 => 1 << 40,
        4 => number.wrapping_sub(1),
        5 => rng.below(20) as u64,
        _ => number.wrapping_add(1),
    }
}

fn odd_rank(rng: &mut Rng) -> Rank {
    Rank::new(if rng.chance(20) { odd(1, rng) as u32 } else { rng.below(5) as u32 })
}

fn odd_configuration(id: ConfigurationId, rng: &mut Rng) -> ConfigurationId {
    ConfigurationId::new(odd(id.counter(), rng), if rng.chance(50) { id.digest() } else { 1 })
}

/// The same message with something changed.
fn changed(message: Message, rng: &mut Rng) -> Message {
    match message {
        Message::Entries { configuration, first, stable, entries } => match rng.below(4) {
            0 => Message::Entries {
                configuration: odd_configuration(configuration, rng),
                first,
                stable,
                entries,
            },
            1 => Message::Entries { configuration, first: odd(first, rng), stable, entries },
            2 => Message::Entries { configuration, first, stable: odd(stable, rng), entries },
            _ => Message::Entries { configuration, first, stable, entries: changed_entries(entries, rng) },
        },
        Message::Sync { start, sync } => match rng.below(3) {
            0 => Message::Sync { start: StartId::new(start.boot(), odd(start.number(), rng)), sync },
            1 => Message::Sync { start: StartId::new(Boot::new(odd(1, rng)), start.number()), sync },
            _ => Message::Sync { start, sync: changed_sync(sync, rng) },
        },
        Message::Forward { configuration, origin, first, entries } => match rng.below(4) {
            0 => Message::Forward {
                configuration: odd_configuration(configuration, rng),
                origin,
                first,
                entries,
            },
            1 => Message::Forward { configuration, origin: odd_rank(rng), first, entries },
            2 => Message::Forward { configuration, origin, first: odd(first, rng), entries },
            _ => Message::Forward { configuration, origin, first, entries: changed_entries(entries, rng) },
        },
        Message::Progress { configuration, mut delivered, position, stable } => match rng.below(4) {
            0 => Message::Progress { configuration, delivered, position, stable: odd(stable, rng) },
            1 => {
                let position = odd(position, rng);
                Message::Progress { configuration, delivered, position, stable }
            }
            2 => {
                change_numbers(&mut delivered, rng);
                Message::Progress { configuration, delivered, position, stable }
            }
            _ => {
                let configuration = odd_configuration(configuration, rng);
                Message::Forward { configuration, origin: odd_rank(rng), first: 1, entries: any_entries(rng) }
            }
        },
    }
}

fn changed_sync(sync: Sync, rng: &mut Rng) -> Sync {
    let configuration = sync.configuration();
    match sync {
        Sync::Full { mut cut, .. } => {
            if rng.chance(30) {
                return Sync::Compact { configuration };
            }
            change_numbers(&mut cut, rng);
            Sync::Full { configuration, cut }
        }
        Sync::Compact { .. } if rng.chance(50) => {
            Sync::Compact { configuration: odd_configuration(configuration, rng) }
        }
        Sync::Compact { .. } => Sync::Full { configuration, cut: vec![odd(1, rng); rng.below(6)] },
    }
}

fn change_numbers(numbers: &mut Vec<u64>, rng: &mut Rng) {
    match rng.below(4) {
        0 => drop(numbers.pop()),
        1 => numbers.push(odd(1, rng)),
        _ if numbers.is_empty() => {}
        _ => {
            let place = rng.below(numbers.len());
            numbers[place] = odd(numbers[place], rng);
        }
    }
}

fn changed_entries(mut entries: Vec<Entry>, rng: &mut Rng) -> Vec<Entry> {
    if entries.is_empty() || rng.chance(20) {
        return any_entries(rng);
    }
    let place = rng.below(entries.len());
    match rng.below(4) {
        0 => drop(entries.remove(place)),
        1 => entries.insert(place, entries[place].clone()),
        2 => entries.insert(place, any_entry(rng)),
        _ => entries[place] = any_entry(rng),
    }
    entries
}

fn any_entries(rng: &mut Rng) -> Vec<Entry> {
    (0..rng.below(40)).map(|_| any_entry(rng)).collect()
}

fn any_entry(rng: &mut Rng) -> Entry {
    let connection = rng.below(4) as u32;
    let name = "process".parse().unwrap();
    let groups = |rng: &mut Rng| -> Arc<[_]> {
        (0..rng.below(3)).map(|_| group(["g0", "g1", "g9", "strict:g", "state:g"][rng.below(5)])).collect()
    };
    let payload = match rng.below(10) {
        0 => Payload::Multicast {
            connection,
            number: odd(1, rng),
            group: group("g0"),
            bytes: bytes::Bytes::new(),
            terms: any_terms(rng),
        },
        1 => Payload::Join { connection, name, groups: groups(rng) },
        2 => Payload::Leave { connection, groups: groups(rng) },
        3 => Payload::Gone { connection },
        4 => {
            let view = |rng: &mut Rng| (rng.below(4) as u32, any_view(rng));
            let views = |rng: &mut Rng| (0..rng.below(3)).map(|_| view(rng)).collect();
            let row = |rng: &mut Rng| Row {
                daemon: odd_rank(rng),
                connection,
                name,
                groups: groups(rng),
                views: views(rng),
            };
            Payload::Table(Table::Rows((0..rng.below(3)).map(|_| row(rng)).collect()))
        }
        8 => Payload::Stopped { connection, groups: groups(rng) },
        9 => Payload::State {
            connection,
            group: group("state:g"),
            view: any_view(rng),
            part: bytes::Bytes::new(),
            class: None,
        },
        5 => Payload::Table(Table::End { class: (0..rng.below(4)).map(|_| odd_rank(rng)).collect() }),
        _ => {
            let run = |rng: &mut Rng| Places { origin: odd_rank(rng), upto: odd(3, rng) };
            return Entry::Order((0..rng.below(4)).map(|_| run(rng)).collect());
        }
    };
    Entry::Payload(payload)
}

fn any_view(rng: &mut Rng) -> GroupViewId {
    let configuration = ConfigurationId::new(odd(3, rng), rng.below(3) as u64);
    GroupViewId { configuration, position: odd(3, rng) }
}

fn any_terms(rng: &mut Rng) -> Terms {
    let view = any_view(rng);
    Terms {
        level: if rng.chance(50) { Level::Agreed } else { Level::Safe },
        only_in: rng.chance(30).then_some(view),
        report: rng.chance(30),
    }
}

/// What the corrupted run of one seed had refused, by the name of the fault.
fn corrupt(seed: u64) -> BTreeMap<String, usize> {
    let mut corruption = Corruption { run: Run::new(seed), seen: Vec::new() };
    for _ in 0..STEPS {
        corruption.step();
        let world = &corruption.run.world;
        for daemon in world.alive().into_iter().map(|id| world.daemon(id)) {
            let held_max = daemon.configuration().members.len() * 4 * Params::lan().window.entries;
            assert!(daemon.windows().held <= held_max, "{} holds {:?}", daemon.id(), daemon.windows());
        }
    }
    let mut refused = BTreeMap::new();
    for (_, fault) in corruption.run.world.nodes.values().flat_map(|node| &node.refused) {
        let name = format!("{fault:?}").split(' ').next().unwrap_or_default().to_owned();
        *refused.entry(name).or_default() += 1;
    }
    for node in corruption.run.world.nodes.values() {
        let kept = format!("{:?}", node.daemon).len();
        assert!(kept < KEPT_MAX, "{} keeps {kept} bytes", node.daemon.id());
    }
    refused
}

/// `FUZZ=100` runs a hundred times as many seeds.
fn times() -> u64 {
    std::env::var("FUZZ").map_or(1, |times| times.parse().expect("a number"))
}

#[test]
fn corrupted_frames_are_refused_and_stop_nobody() {
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..SEEDS * times() {
        match std::panic::catch_unwind(|| corrupt(seed)) {
            Ok(more) => more.into_iter().for_each(|(name, count)| *refused.entry(name).or_default() += count),
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let wrong =
        ["WrongEpoch", "WrongOrder", "WrongProgress", "WrongSync", "WrongTable", "FrameGap", "IndexGap"];
    let foreign = ["ForeignConfiguration", "NotAMember", "OurName", "OutOfDateIncarnation"];
    for name in wrong.into_iter().chain(foreign) {
        assert!(refused.contains_key(name), "no {name} in {refused:?}");
    }
}

/// A sequencer that places what it cannot have, and says that it has delivered it, would have us forget entries before
/// they are sent, and wait for ever to send them.
#[test]
fn nobody_has_delivered_what_is_not_sent() {
    let mut world = World::new(Params::lan());
    let (a, b) = (world.start("a"), world.start("b"));
    world.hold(a, b);
    world.start_change(&[a, b], &[a, b]);
    let view = world.agree(1, &[a, b]);
    let configuration = view.id;
    world.view(&[b], &view);
    world.act(Action::Notice(b));
    world.act(Action::Notice(b));
    let epoch = Epoch::new(7);
    world.input(b, Input::Opened { from: a, epoch });
    let mut say = |number, message| world.input(b, Input::Frame { from: a, epoch, number, message });
    let sync = Sync::Compact { configuration: Configuration::initial(a).id };
    say(1, Message::Sync { start: view.members[&a], sync });
    // Here b has cast its group table, and not sent it.
    let order = Entry::Order([Places { origin: Rank::new(1), upto: 1 }].into());
    say(2, Message::Entries { configuration, first: 1, stable: 0, entries: vec![order] });
    say(3, Message::Progress { configuration, delivered: vec![0, 1], position: 0, stable: 0 });
    assert_eq!(world.node(b).refused, [(a, PeerFault::WrongProgress)]);
    world.act(Action::Wake(b));
    assert_ne!(world.daemon(b).next_wake().map(|(_, what)| what), Some("send"));
}
