//! Who has been silent for too long.
//!
//! *Too long* adapts to what was heard before. The gap between two signs of life with which a period ends is a sample:
//! shorter ones, of a busy stream, would only wash away what long ones taught. The mean of the samples, and a deviation
//! that jumps up with a long gap and comes down slowly (by a sixty-fourth a sample), make the time-out, between a floor
//! and a ceiling. A peer that was never heard has the ceiling.
//!
//! Before blaming others a monitor asks whether it was awake itself. It looks around once a period: where the look, or
//! anything else, comes late by more than a quarter of a period, its process was stopped or starved, and what others
//! said may lie unread. That time counts as silence of nobody.
//!
//! A process may also be awake and behind: what others said waits in its queues while it looks around. So a host that has
//! queues asks whether anybody is [suspected](Monitor::suspects), goes through all that has come by then, and has the
//! suspects [judged](Monitor::judge) after that. One that is never behind does both at once ([`Monitor::wake`]).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use model::Time;

use crate::Params;

/// Those whom we expect to hear.
#[derive(Clone, Debug, Hash)]
pub struct Monitor<K> {
    params: Params,
    peers: BTreeMap<K, Peer>,
    /// The next look around.
    look: Option<Time>,
    /// When somebody was suspected who is not judged yet.
    suspected: Option<Time>,
}

/// In microseconds, but for times.
#[derive(Clone, Debug, Hash)]
struct Peer {
    heard: Time,
    /// When there was a sample last.
    sampled: Time,
    mean: u64,
    deviation: u64,
}

const fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

impl Peer {
    fn new(params: &Params, now: Time) -> Peer {
        let mean = micros(params.period);
        let spread = micros(params.ceiling).saturating_sub(mean);
        let deviation = spread.div_ceil(u64::from(params.deviations).max(1));
        Peer { heard: now, sampled: now, mean, deviation }
    }

    fn heard(&mut self, period: Duration, now: Time) {
        if now.since(self.sampled) >= period {
            self.sample(micros(now.since(self.heard)));
            self.sampled = now;
        }
        self.heard = now;
    }

    fn sample(&mut self, gap: u64) {
        let excess = gap.saturating_sub(self.mean);
        self.mean = (7 * self.mean + gap) / 8;
        self.deviation = excess.max((63 * self.deviation + excess) / 64);
    }

    fn timeout(&self, params: &Params) -> Duration {
        let adaptive = self.mean.saturating_add(self.deviation.saturating_mul(params.deviations.into()));
        Duration::from_micros(adaptive).min(params.ceiling).max(params.floor)
    }

    /// When it will have been silent for too long.
    fn deadline(&self, params: &Params) -> Time {
        self.heard + self.timeout(params)
    }
}

impl<K: Ord + Copy> Monitor<K> {
    /// Expects to hear nobody.
    pub const fn new(params: &Params) -> Monitor<K> {
        Monitor { params: *params, peers: BTreeMap::new(), look: None, suspected: None }
    }

    /// From now on expects to hear `key`, of whom nothing is known.
    pub fn watch(&mut self, key: K, now: Time) {
        self.excuse(now);
        self.peers.insert(key, Peer::new(&self.params, now));
        self.look.get_or_insert(now + self.params.period);
    }

    /// `key` gave a sign of life. Of somebody who is not expected this means nothing.
    pub fn heard(&mut self, key: K, now: Time) {
        self.excuse(now);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.heard(self.params.period, now);
        }
    }

    /// Expects nothing of `key` any more.
    pub fn forget(&mut self, key: K) {
        self.peers.remove(&key);
        if self.peers.is_empty() {
            self.look = None;
        }
    }

    /// Who has been silent for too long, and for how long, if all that was said has been heard. They are forgotten with
    /// this.
    pub fn wake(&mut self, now: Time) -> Vec<(K, Duration)> {
        if self.suspects(now) { self.judge(now) } else { Vec::new() }
    }

    /// Looks around if it is time to. Whether somebody seems to have been silent for too long: to be judged when all
    /// has been heard that was said by now.
    pub fn suspects(&mut self, now: Time) -> bool {
        self.excuse(now);
        if self.look.is_none_or(|look| now < look) {
            return false;
        }
        let is_new = self.suspected.is_none() && self.first_deadline().is_some_and(|first| first <= now);
        if is_new {
            self.suspected = Some(now);
        }
        self.schedule(now);
        is_new
    }

    /// All has been heard that was said until somebody was suspected. Who was silent for too long even so, and for how
    /// long. They are forgotten with this.
    pub fn judge(&mut self, now: Time) -> Vec<(K, Duration)> {
        self.excuse(now);
        let Some(suspected) = self.suspected.take() else { return Vec::new() };
        let params = &self.params;
        let silent = self.peers.extract_if(.., |_, peer| peer.deadline(params) <= suspected);
        let silent = silent.map(|(key, peer)| (key, now.since(peer.heard))).collect();
        self.schedule(now);
        silent
    }

    /// When to look around again.
    pub fn next_wake(&self) -> Option<Time> {
        self.look
    }

    fn first_deadline(&self) -> Option<Time> {
        self.peers.values().map(|peer| peer.deadline(&self.params)).min()
    }

    /// Looks around at the first deadline, and once a period before that. Who is to be judged needs no look.
    fn schedule(&mut self, now: Time) {
        let period = now + self.params.period;
        let first = if self.suspected.is_some() { Some(period) } else { self.first_deadline() };
        self.look = first.map(|first| first.min(period));
    }

    /// Counts the time for which we were not awake ourselves as silence of nobody.
    fn excuse(&mut self, now: Time) {
        let Some(look) = self.look else { return };
        let late = now.since(look);
        if late > self.params.period / 4 {
            for peer in self.peers.values_mut() {
                peer.heard = (peer.heard + late).min(now);
            }
            self.look = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    const LAN: Params = Profile::Lan.params();
    const PERIOD: u64 = 100;

    /// A monitor of 'a', on a clock in milliseconds.
    struct World {
        monitor: Monitor<char>,
        now: u64,
    }

    impl World {
        fn new() -> World {
            let mut world = World { monitor: Monitor::new(&LAN), now: 1_000 };
            world.monitor.watch('a', world.time());
            world
        }

        fn time(&self) -> Time {
            Time::from_micros(1_000 * self.now)
        }

        /// Lets `millis` pass, and looks around whenever it is due. Whoever falls silent, and after how long.
        fn pass(&mut self, millis: u64) -> Vec<(char, u64)> {
            let mut silent = Vec::new();
            for _ in 0..millis {
                self.now += 1;
                let now = self.time();
                if self.monitor.next_wake().is_some_and(|due| due <= now) {
                    silent.extend(self.monitor.wake(now));
                }
            }
            silent.into_iter().map(|(key, after)| (key, after.as_millis() as u64)).collect()
        }

        /// 'a' gives signs of life so far apart.
        fn beats(&mut self, gaps: impl IntoIterator<Item = u64>) -> Vec<(char, u64)> {
            let mut silent = Vec::new();
            for gap in gaps {
                silent.extend(self.pass(gap));
                self.monitor.heard('a', self.time());
            }
            silent
        }
    }

    fn every(gap: u64, times: usize) -> impl Iterator<Item = u64> {
        core::iter::repeat_n(gap, times)
    }

    #[test]
    fn a_regular_peer_that_stops_is_silent_after_the_floor() {
        let mut world = World::new();
        assert_eq!(world.beats(every(PERIOD, 200)), []);
        assert_eq!(world.pass(399), []);
        assert_eq!(world.pass(1), [('a', 400)]);
        assert_eq!(world.pass(5_000), [], "told once");
        assert_eq!(world.monitor.next_wake(), None);
    }

    #[test]
    fn who_was_never_heard_has_the_ceiling() {
        let mut world = World::new();
        assert_eq!(world.pass(799), []);
        assert_eq!(world.pass(1), [('a', 800)]);
    }

    #[test]
    fn an_irregular_peer_is_given_more_time_but_never_more_than_the_ceiling() {
        let mut world = World::new();
        world.beats(every(PERIOD, 200));
        assert_eq!(world.beats([260]), []);
        let silent = world.pass(1_000);
        assert!(matches!(silent[..], [('a', 550..=650)]), "{silent:?}");

        let mut world = World::new();
        assert_eq!(world.beats(every(390, 50)), []);
        world.beats([100, 780, 100, 790]);
        assert_eq!(world.pass(1_000), [('a', 800)]);
    }

    #[test]
    fn a_long_gap_is_remembered_for_seconds_and_then_no_more() {
        let (mut soon, mut late) = (World::new(), World::new());
        for world in [&mut soon, &mut late] {
            world.beats(every(PERIOD, 200));
            world.beats([390]);
        }
        soon.beats(every(PERIOD, 10));
        assert!(matches!(soon.pass(1_000)[..], [('a', 700..=800)]));
        late.beats(every(PERIOD, 300));
        assert_eq!(late.pass(1_000), [('a', 400)]);
    }

    #[test]
    fn a_peer_that_is_slow_and_regular_is_given_little_more_than_its_own_time() {
        let mut world = World::new();
        assert_eq!(world.beats(every(500, 600)), []);
        assert!(matches!(world.pass(1_000)[..], [('a', 501..=520)]));
    }

    /// Otherwise a thousand frames would wash away what a gap taught, and the first pause after them be suspicious.
    #[test]
    fn frames_by_the_thousand_are_one_sample_each_period() {
        let mut world = World::new();
        world.beats(every(PERIOD, 200));
        world.beats([390]);
        world.beats(every(1, 1_000));
        assert!(matches!(world.pass(1_000)[..], [('a', 700..=800)]));
    }

    #[test]
    fn the_time_for_which_we_were_stopped_counts_for_nobody() {
        for stop in [130, 60_000] {
            let mut world = World::new();
            world.beats(every(PERIOD, 200));
            world.pass(50);
            world.now += stop;
            // The first that happens after a stop need not be a look.
            world.monitor.heard('x', world.time());
            assert_eq!(world.pass(290), [], "there is time to read what came meanwhile");
            let silent = world.pass(15);
            assert!(matches!(silent[..], [('a', 400)]), "and no more than that: {silent:?}");
        }
    }

    #[test]
    fn a_stop_between_two_deadlines_is_noticed_too() {
        let mut world = World::new();
        world.beats(every(PERIOD, 200));
        world.pass(110);
        world.now += 280;
        assert_eq!(world.pass(150), []);
    }

    #[test]
    fn our_own_stop_teaches_nothing_about_others() {
        let mut world = World::new();
        world.beats(every(PERIOD, 200));
        world.now += 60_000;
        world.monitor.heard('a', world.time());
        assert_eq!(world.pass(1_000), [('a', 400)]);
    }

    #[test]
    fn who_is_starved_all_the_time_still_detects() {
        for (late, until) in [(PERIOD / 5, 440), (PERIOD / 2, 700)] {
            let mut world = World::new();
            world.beats(every(PERIOD, 200));
            let before = world.now;
            let mut silent = Vec::new();
            while silent.is_empty() {
                let due = world.monitor.next_wake().unwrap().as_micros() / 1_000;
                world.now = due + late;
                silent = world.monitor.wake(world.time());
                assert!(world.now - before <= until, "looks come {late} ms late");
            }
        }
    }

    #[test]
    fn who_is_suspected_is_judged_by_what_had_been_said() {
        let mut world = World::new();
        world.beats(every(PERIOD, 200));
        world.monitor.watch('b', world.time() - Duration::from_millis(350));
        world.monitor.watch('c', world.time() - Duration::from_millis(700));
        let mut suspects = 0;
        for _ in 0..9 {
            world.now += 50;
            suspects += u64::from(world.monitor.suspects(world.time()));
        }
        assert_eq!(suspects, 1, "those who fall silent while others are to be judged wait for their turn");
        world.monitor.heard('x', world.time());
        assert_eq!(world.monitor.judge(world.time()).iter().map(|(key, _)| *key).collect::<Vec<_>>(), ['c']);
        assert!(world.monitor.suspects(world.time()));
        world.monitor.heard('b', world.time());
        assert_eq!(world.monitor.judge(world.time()).iter().map(|(key, _)| *key).collect::<Vec<_>>(), ['a']);
        assert_eq!(world.monitor.judge(world.time()), [], "nobody else is suspected");
        assert!(matches!(world.pass(2_000)[..], [('b', _)]));
    }

    #[test]
    fn nobody_else_is_heard_when_somebody_is() {
        let mut world = World::new();
        world.monitor.watch('b', world.time());
        assert_eq!(world.beats(every(PERIOD, 20)), [('b', 800)]);
    }

    #[test]
    fn who_is_forgotten_is_not_silent_and_who_is_not_watched_is_not_heard() {
        let mut world = World::new();
        world.monitor.forget('a');
        world.monitor.heard('a', world.time());
        assert_eq!(world.monitor.next_wake(), None);
        assert_eq!(world.pass(5_000), []);
    }
}
