//! Silence and lost links, as one daemon sees them. Its peers are whoever writes the test; the clock counts
//! milliseconds.

use std::collections::BTreeMap;

use detector::{Doubt, Profile, Report};
use gcs_core::{Answer, Daemon, Epoch, Input, Notice, Output, Params};
use model::{Address, Boot, Configuration, DaemonId, Machine, StartId, Time};

/// The profile `lan`: a beat each 100 ms, silence between 400 and 800 ms, cut after 100 ms more, whole after 1 s.
struct World {
    daemon: Daemon,
    now: u64,
    starts: u64,
    /// What the daemon ordered since it was looked at last, and when.
    orders: Vec<(u64, Output)>,
    epochs: BTreeMap<DaemonId, Epoch>,
    /// Whether something waits that the daemon has not been told.
    is_behind: bool,
}

fn id(name: &str, boot: u64) -> DaemonId {
    DaemonId::new(name.parse().unwrap(), Boot::new(boot))
}

impl World {
    /// Daemon `p`, in a change in which these peers are proposed too.
    fn new(peers: &[DaemonId]) -> World {
        let params = Params { detection: Some(Profile::Lan.params()), ..Params::lan() };
        let (daemon, epochs) = (Daemon::new(id("p", 1), params), BTreeMap::new());
        let mut world = World { daemon, now: 1_000, starts: 0, orders: Vec::new(), epochs, is_behind: false };
        world.propose(peers);
        world
    }

    fn time(&self) -> Time {
        Time::from_micros(1_000 * self.now)
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.daemon.handle(self.time(), input, &mut out);
        self.note(out);
    }

    fn note(&mut self, out: Vec<Output>) {
        for order in out {
            if order == Output::CatchUp && !self.is_behind {
                self.tell(Input::CaughtUp);
            }
            if let Output::Connect { peer, epoch, .. } = &order {
                self.epochs.insert(*peer, *epoch);
            }
            self.orders.push((self.now, order));
        }
    }

    /// Lets time pass.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += 1;
            let now = self.time();
            while self.daemon.next_wake().is_some_and(|(due, _)| due <= now) {
                let mut out = Vec::new();
                self.daemon.wake(now, &mut out);
                self.note(out);
            }
        }
    }

    fn propose(&mut self, peers: &[DaemonId]) {
        self.starts += 1;
        let start = StartId::new(Boot::new(1), self.starts);
        let proposed = peers.iter().copied().chain([self.daemon.id()]);
        let proposed = proposed.map(|daemon| (daemon, Address::new(daemon.name().as_str()))).collect();
        self.tell(Input::Membership(Notice::StartChange { start, proposed }));
    }

    /// The daemon is alone from now on.
    fn alone(&mut self) {
        self.propose(&[]);
        let start = StartId::new(Boot::new(1), self.starts);
        let view = Configuration::new(self.starts, [(self.daemon.id(), start)].into());
        self.tell(Input::Membership(Notice::View(view)));
    }

    fn up(&mut self, peer: DaemonId) {
        self.tell(Input::LinkUp { peer, epoch: self.epochs[&peer], received: 0 });
    }

    fn down(&mut self, peer: DaemonId) {
        self.tell(Input::LinkDown { peer, epoch: self.epochs[&peer] });
    }

    /// `peer` says on the way back that it lives, each 100 ms for so many times.
    fn beats(&mut self, peer: DaemonId, times: u64) {
        for _ in 0..times {
            self.pass(100);
            self.tell(Input::Acked { peer, epoch: self.epochs[&peer], received: 0 });
        }
    }

    /// What was ordered of one kind, and when.
    fn orders<T>(&mut self, kind: impl Fn(&Output) -> Option<T>) -> Vec<(u64, T)> {
        self.orders.drain(..).filter_map(|(at, order)| Some((at, kind(&order)?))).collect()
    }

    /// What was reported of `peer`, and when.
    fn reports(&mut self, peer: DaemonId) -> Vec<(u64, Option<Doubt>)> {
        self.orders(|order| doubt_of(peer, order))
    }
}

fn doubt_of(peer: DaemonId, order: &Output) -> Option<Option<Doubt>> {
    let Output::Reach(report) = order else { return None };
    Some(report.get(&peer).map(|doubted| doubted.doubt))
}

fn reset(order: &Output) -> Option<DaemonId> {
    if let Output::Reset { peer, .. } = order { Some(*peer) } else { None }
}

fn probe(order: &Output) -> Option<(DaemonId, Address)> {
    if let Output::Probe { peer, address } = order { Some((*peer, address.clone())) } else { None }
}

fn ack(order: &Output) -> Option<DaemonId> {
    if let Output::Ack { peer, .. } = order { Some(*peer) } else { None }
}

const DOUBTFUL: Option<Doubt> = Some(Doubt::Doubtful);
const CUT: Option<Doubt> = Some(Doubt::Cut);
const WHOLE: Option<Doubt> = None;

#[test]
fn a_daemon_that_is_behind_hears_everything_before_it_breaks_a_stream() {
    let (q, r) = (id("q", 1), id("r", 1));
    let mut world = World::new(&[q, r]);
    world.up(q);
    world.up(r);
    world.is_behind = true;
    world.pass(5_000);
    assert_eq!(world.orders(|order| (*order == Output::CatchUp).then_some(())).len(), 1, "it asks once");
    // This had come in time, and waited.
    world.tell(Input::Acked { peer: q, epoch: world.epochs[&q], received: 0 });
    world.tell(Input::CaughtUp);
    assert_eq!(world.orders(reset), [(6_000, r)]);
    world.tell(Input::CaughtUp);
    world.is_behind = false;
    world.pass(1_000);
    assert_eq!(world.orders(reset).first().map(|(_, peer)| *peer), Some(q), "it is not forgotten");
}

#[test]
fn a_silent_link_is_reset_and_doubted_and_then_cut() {
    let (q, r) = (id("q", 1), id("r", 1));
    let mut world = World::new(&[q, r]);
    world.up(q);
    world.up(r);
    for _ in 0..200 {
        world.beats(q, 1);
        world.tell(Input::Acked { peer: r, epoch: world.epochs[&r], received: 0 });
    }
    assert_eq!(world.orders(reset), []);
    let last = world.now;
    for _ in 0..4 {
        world.beats(r, 1);
    }
    assert_eq!(world.orders.iter().find_map(|(at, order)| Some((*at, reset(order)?))), Some((last + 400, q)));
    world.down(q);
    world.beats(r, 2);
    let reports =
        world.orders(|order| if let Output::Reach(report) = order { Some(report.clone()) } else { None });
    let said: Vec<_> =
        reports.iter().map(|(at, report)| (at - last, report.keys().copied().collect())).collect();
    assert_eq!(said, [(400, vec![q]), (500, vec![q])]);
    let doubts: Vec<_> = reports.iter().map(|(_, report): &(_, Report<_>)| report[&q]).collect();
    assert_eq!((doubts[0].doubt, doubts[0].silent.as_millis()), (Doubt::Doubtful, 400));
    assert_eq!((doubts[1].doubt, doubts[1].silent.as_millis()), (Doubt::Cut, 500));
}

#[test]
fn a_stream_that_cannot_be_opened_is_doubted_at_once_and_broken_if_nobody_answers() {
    let (q, r) = (id("q", 1), id("r", 1));
    let mut world = World::new(&[q, r]);
    world.down(q);
    assert_eq!(world.reports(q), [(1_000, DOUBTFUL)], "refused");
    world.pass(3_000);
    assert_eq!(world.orders.iter().find_map(|(_, order)| doubt_of(q, order)), Some(CUT));
    world.tell(Input::Probed { peer: q, answer: Answer::Present });
    let resets = world.orders(reset);
    let of_r: Vec<u64> = resets.iter().filter(|(_, peer)| *peer == r).map(|(at, _)| *at).collect();
    assert_eq!(of_r, [1_800, 2_600, 3_400], "an attempt that hangs is given up, again and again");
    world.pass(100);
    world.up(r);
    world.pass(1_000);
    let whole = world.orders.iter().any(|(_, order)| doubt_of(q, order) == Some(WHOLE));
    assert!(!whole, "where a stream is wanted, a probe proves nothing");
    let of_r = world.orders(reset).into_iter().find(|(_, peer)| *peer == r);
    assert_eq!(of_r, Some((4_900, r)), "an open stream has its full time");
}

#[test]
fn a_stream_that_is_opened_again_in_time_is_doubted_for_a_while_and_never_cut() {
    let q = id("q", 1);
    let mut world = World::new(&[q]);
    world.up(q);
    world.down(q);
    world.pass(90);
    world.up(q);
    world.tell(Input::Probed { peer: q, answer: Answer::None });
    world.beats(q, 12);
    assert_eq!(world.reports(q), [(1_000, DOUBTFUL), (2_090, WHOLE)]);
}

/// What comes on the peer's own stream says nothing about ours: a way may be free in one direction only.
#[test]
fn silence_on_the_way_back_is_silence_whatever_the_peer_sends() {
    let q = id("q", 1);
    let mut world = World::new(&[q]);
    world.up(q);
    world.tell(Input::Opened { from: q, epoch: Epoch::new(1) });
    for _ in 0..8 {
        world.pass(100);
        world.tell(Input::Opened { from: q, epoch: Epoch::new(1) });
    }
    assert_eq!(world.orders(reset), [(1_800, q)]);
}

#[test]
fn who_has_a_stream_to_us_hears_from_us_for_as_long_as_it_is_open() {
    let q = id("q", 1);
    let mut world = World::new(&[q]);
    let epoch = Epoch::new(1);
    world.tell(Input::Opened { from: q, epoch });
    world.pass(1_000);
    let beats: Vec<u64> = world.orders(ack).iter().map(|(at, _)| *at).collect();
    assert_eq!(beats, (11..=20).map(|n| 100 * n).collect::<Vec<_>>());
    world.tell(Input::Opened { from: q, epoch: Epoch::new(2) });
    world.tell(Input::Closed { from: q, epoch });
    world.pass(100);
    assert_eq!(
        world.orders(ack).len(),
        1,
        "the end of an earlier stream is not that of the one that replaced it"
    );
    world.tell(Input::Closed { from: q, epoch: Epoch::new(2) });
    world.pass(1_000);
    assert_eq!(world.orders(ack), []);
}

#[test]
fn a_daemon_that_was_starved_blames_nobody() {
    let q = id("q", 1);
    let mut world = World::new(&[q]);
    world.up(q);
    world.beats(q, 200);
    world.now += 10_000;
    world.pass(200);
    world.beats(q, 10);
    assert_eq!(world.orders(|order| reset(order).map(|_| ()).or(doubt_of(q, order).map(|_| ()))), []);
}

#[test]
fn a_flapping_link_costs_a_few_reports_and_not_a_storm() {
    let q = id("q", 1);
    let mut world = World::new(&[q]);
    for _ in 0..300 {
        world.up(q);
        world.beats(q, 15);
        world.down(q);
        world.pass(150);
    }
    let reports = world.reports(q);
    assert_eq!(reports[0].1, DOUBTFUL);
    assert!(reports.len() <= 24, "{} reports of 300 flaps", reports.len());
}

#[test]
fn a_peer_that_is_cut_off_is_probed_until_it_is_whole_again() {
    let q = id("q", 1);
    let mut world = World::new(&[q]);
    world.up(q);
    world.down(q);
    world.alone();
    world.pass(2_000);
    let probes = world.orders.iter().filter_map(|(at, order)| Some((*at, probe(order)?)));
    let expected = [1_500, 2_000, 2_500, 3_000].map(|at| (at, (q, Address::new("q"))));
    assert_eq!(probes.collect::<Vec<_>>(), expected);
    assert_eq!(world.reports(q), [(1_000, DOUBTFUL), (1_100, CUT)]);

    world.tell(Input::Probed { peer: q, answer: Answer::None });
    world.tell(Input::Probed { peer: q, answer: Answer::Present });
    world.pass(600);
    world.tell(Input::Probed { peer: q, answer: Answer::None });
    world.tell(Input::Probed { peer: q, answer: Answer::Present });
    world.pass(999);
    assert_eq!(world.reports(q), [], "one probe that fails begins the wait anew");
    world.pass(1);
    assert_eq!(world.reports(q), [(4_600, WHOLE)]);
    world.tell(Input::Probed { peer: q, answer: Answer::None });
    world.pass(2_000);
    assert_eq!(world.orders, [], "there is no reason to ask for it any more");
}

#[test]
fn who_is_cut_stays_so_when_it_is_proposed_again_and_needs_no_probes_then() {
    let (q, r) = (id("q", 1), id("r", 1));
    let mut world = World::new(&[q, r]);
    world.down(q);
    world.down(r);
    world.alone();
    world.propose(&[q]);
    world.pass(600);
    let probed: Vec<DaemonId> = world.orders.iter().filter_map(|(_, order)| Some(probe(order)?.0)).collect();
    assert_eq!(probed, [r]);
    assert_eq!(world.reports(q).last(), Some(&(1_100, CUT)));
}

#[test]
fn a_life_that_has_ended_is_reported_no_more() {
    let (q, later) = (id("q", 1), id("q", 2));
    let lost = || {
        let mut world = World::new(&[q]);
        world.up(q);
        world.down(q);
        world.pass(200);
        assert_eq!(world.reports(q).last().map(|(_, doubt)| *doubt), Some(CUT));
        world
    };
    let mut proposed = lost();
    proposed.propose(&[later]);
    assert_eq!(proposed.reports(q), [(1_200, WHOLE)]);

    let mut opened = lost();
    opened.tell(Input::Opened { from: q, epoch: Epoch::new(1) });
    opened.tell(Input::Opened { from: later, epoch: Epoch::new(1) });
    assert_eq!(opened.reports(q), [(1_200, WHOLE)]);

    let mut probed = lost();
    probed.alone();
    probed.tell(Input::Probed { peer: q, answer: Answer::Other });
    assert_eq!(probed.reports(q), [(1_200, WHOLE)]);
}

#[test]
fn news_of_a_stream_that_was_replaced_changes_nothing() {
    let q = id("q", 1);
    let mut world = World::new(&[q]);
    let old = world.epochs[&q];
    world.up(q);
    world.alone();
    world.propose(&[q]);
    assert!(world.epochs[&q] > old);
    world.tell(Input::LinkDown { peer: q, epoch: old });
    assert_eq!(world.reports(q), []);
    for _ in 0..8 {
        world.pass(100);
        world.tell(Input::Acked { peer: q, epoch: old, received: 0 });
    }
    world.tell(Input::LinkUp { peer: q, epoch: old, received: 0 });
    assert_eq!(
        world.reports(q),
        [(1_800, DOUBTFUL)],
        "what matters is the new one, on which nobody says anything"
    );
}
