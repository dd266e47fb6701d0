//! What a daemon says of its links: which peers it cannot reach.
//!
//! ```text
//!          down                  down for `patience` in all
//! Whole ─────────► Doubtful ──────────────────────────────► Cut
//!   ▲                 │ up for `calm`                        │
//!   └─────────────────┴──────────────────────────────────────┘
//! ```
//!
//! A link that fell is doubtful at once, since that is worth knowing where there is other evidence; it is cut only
//! after `patience`, since most links that break are opened again in no time. Down time adds up until the link is
//! whole again, so one that comes and goes is cut as well. Each fall soon after the last one doubles `calm`: so however
//! a link flaps, the report changes a few times and then rarely.
//!
//! Bound: one entry for each peer that the host tells of. A peer that stays cut is forgotten after [`FORGET`], a whole
//! one after `calm_max`.

use alloc::collections::BTreeMap;
use core::time::Duration;

use model::Time;

use crate::Params;

/// A peer that has been down for this long is not reported any more.
const FORGET: Duration = Duration::from_secs(600);

/// How sure it is that a peer cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Doubt {
    /// The link was lost just now, or has not been up for long since.
    Doubtful,
    /// The link has been down for long.
    Cut,
}

/// What is said of a peer that is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Doubted {
    /// How sure it is.
    pub doubt: Doubt,
    /// For how long nothing had been heard of the peer when this was said: for humans.
    pub silent: Duration,
}

/// All peers that are not whole. It replaces the report before it.
pub type Report<K> = BTreeMap<K, Doubted>;

/// The links of a daemon to its peers. A peer that nothing was told of is whole.
#[derive(Clone, Debug, Hash)]
pub struct Reach<K> {
    params: Params,
    peers: BTreeMap<K, Peer>,
    /// There is a report that was not taken.
    news: bool,
    next: Option<Time>,
}

#[derive(Clone, Debug, Hash)]
struct Peer {
    link: Link,
    /// As reported; nothing while whole.
    doubt: Option<Doubt>,
    /// For how long the link was down, before `link`, since it was last whole.
    down: Duration,
    calm: Duration,
}

#[derive(Clone, Copy, Debug, Hash)]
enum Link {
    Up {
        since: Time,
    },
    /// And what was heard of the peer last.
    Down {
        since: Time,
        heard: Time,
    },
}

/// What time does to a peer.
enum Step {
    Become(Option<Doubt>),
    Forget,
}

impl Peer {
    /// What happens next if no fact comes before.
    fn next(&self, params: &Params) -> (Time, Step) {
        match (self.link, self.doubt) {
            (Link::Up { since }, Some(_)) => (since + self.calm, Step::Become(None)),
            (Link::Up { since }, None) => (since + self.calm + params.calm_max, Step::Forget),
            (Link::Down { since, .. }, Some(Doubt::Cut)) => (since + FORGET, Step::Forget),
            (Link::Down { since, .. }, Some(Doubt::Doubtful) | None) => {
                (since + params.patience.saturating_sub(self.down), Step::Become(Some(Doubt::Cut)))
            }
        }
    }
}

impl<K: Ord + Copy> Reach<K> {
    /// All are whole.
    pub const fn new(params: &Params) -> Reach<K> {
        Reach { params: *params, peers: BTreeMap::new(), news: false, next: None }
    }

    /// The link to `key` is up, or a probe reached it.
    pub fn up(&mut self, key: K, now: Time) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if let Link::Down { since, .. } = peer.link {
            let before = peer.next(&self.params).0;
            peer.down += now.since(since);
            peer.link = Link::Up { since: now };
            let after = peer.next(&self.params).0;
            self.reschedule(before, after);
        }
    }

    /// The link to `key` was lost or refused, or a probe failed. The last that was heard on it is so long ago.
    pub fn down(&mut self, key: K, now: Time, silent: Duration) {
        let link = Link::Down { since: now, heard: now - silent };
        let first = Peer { link, doubt: None, down: Duration::ZERO, calm: Duration::ZERO };
        let peer = self.peers.entry(key).or_insert(first);
        let before = peer.next(&self.params).0;
        let falls = peer.doubt.is_none();
        if falls {
            peer.doubt = Some(Doubt::Doubtful);
            peer.down = Duration::ZERO;
            peer.calm = (2 * peer.calm).max(self.params.calm).min(self.params.calm_max);
            self.news = true;
        }
        if falls || matches!(peer.link, Link::Up { .. }) {
            peer.link = link;
        }
        let after = peer.next(&self.params).0;
        self.reschedule(before, after);
    }

    /// `key` is nobody any more.
    pub fn forget(&mut self, key: K) {
        let Some(peer) = self.peers.remove(&key) else { return };
        self.news |= peer.doubt.is_some();
        self.schedule();
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Time) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        let Reach { params, peers, news, .. } = self;
        peers.retain(|_, peer| match peer.next(params) {
            (due, _) if now < due => true,
            (_, Step::Become(doubt)) => {
                *news = true;
                peer.doubt = doubt;
                true
            }
            (_, Step::Forget) => {
                *news |= peer.doubt.is_some();
                false
            }
        });
        self.schedule();
    }

    /// When something is due.
    pub fn next_wake(&self) -> Option<Time> {
        self.next
    }

    /// The whole report, if it has changed since it was taken last.
    pub fn news(&mut self, now: Time) -> Option<Report<K>> {
        core::mem::take(&mut self.news).then(|| {
            let doubted = self.peers.iter().filter_map(|(key, peer)| {
                let silent = match peer.link {
                    Link::Up { .. } => Duration::ZERO,
                    Link::Down { heard, .. } => now.since(heard),
                };
                Some((*key, Doubted { doubt: peer.doubt?, silent }))
            });
            doubted.collect()
        })
    }

    /// Who is not whole.
    pub fn doubted(&self) -> impl Iterator<Item = K> {
        self.peers.iter().filter(|(_, peer)| peer.doubt.is_some()).map(|(key, _)| *key)
    }

    /// What was due for one peer at `before` is due at `after`. Whoever has a thousand may lose half of them at once.
    fn reschedule(&mut self, before: Time, after: Time) {
        if self.next.is_none_or(|next| after <= next) {
            self.next = Some(after);
        } else if self.next == Some(before) {
            self.schedule();
        }
    }

    fn schedule(&mut self) {
        self.next = self.peers.values().map(|peer| peer.next(&self.params).0).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;
    use alloc::vec::Vec;

    const LAN: Params = Profile::Lan.params();
    const PATIENCE: u64 = 100;
    const CALM: u64 = 1_000;
    const CALM_MAX: u64 = 60_000;

    /// The reach of a daemon with the peer 'b', on a clock in milliseconds.
    struct World {
        reach: Reach<char>,
        now: u64,
    }

    impl World {
        fn new() -> World {
            World { reach: Reach::new(&LAN), now: 1_000 }
        }

        fn time(&self) -> Time {
            Time::from_micros(1_000 * self.now)
        }

        fn up(&mut self) {
            self.reach.up('b', self.time());
        }

        fn down(&mut self) {
            self.reach.down('b', self.time(), Duration::ZERO);
        }

        /// Lets `millis` pass. What is said of 'b', each time that there is news.
        fn pass(&mut self, millis: u64) -> Vec<Option<Doubt>> {
            let end = self.now + millis;
            let mut said = Vec::new();
            loop {
                self.reach.wake(self.time());
                let news = self.reach.news(self.time());
                said.extend(news.map(|report| report.get(&'b').map(|doubted| doubted.doubt)));
                let due = self.reach.next_wake().map(|due| due.as_micros().div_ceil(1_000));
                match due {
                    Some(due) if due <= end => self.now = due,
                    Some(_) | None => break,
                }
            }
            self.now = end;
            said
        }
    }

    const DOUBTFUL: Option<Doubt> = Some(Doubt::Doubtful);
    const CUT: Option<Doubt> = Some(Doubt::Cut);
    const WHOLE: Option<Doubt> = None;

    #[test]
    fn a_lost_link_is_doubtful_at_once_and_cut_after_patience() {
        let mut world = World::new();
        world.down();
        assert_eq!(world.pass(PATIENCE - 1), [DOUBTFUL]);
        assert_eq!(world.pass(1), [CUT]);
        assert!(world.reach.doubted().eq(['b']));
    }

    #[test]
    fn a_link_that_is_opened_again_in_time_is_never_cut() {
        let mut world = World::new();
        world.down();
        assert_eq!(world.pass(PATIENCE - 1), [DOUBTFUL]);
        world.up();
        assert_eq!(world.pass(CALM - 1), []);
        assert_eq!(world.pass(1), [WHOLE]);
        assert!(world.reach.doubted().eq([]));
    }

    #[test]
    fn a_cut_link_is_whole_only_after_it_was_up_for_long() {
        let mut world = World::new();
        world.down();
        assert_eq!(world.pass(5_000), [DOUBTFUL, CUT]);
        world.up();
        assert_eq!(world.pass(CALM - 1), []);
        world.down();
        assert_eq!(world.pass(50), [], "it was not whole: that is no news");
        world.up();
        assert_eq!(world.pass(CALM - 1), [], "it has to be up in one go");
        world.up();
        assert_eq!(world.pass(1), [WHOLE], "but being told of it twice does no harm");
    }

    #[test]
    fn failing_again_and_again_takes_no_longer_than_failing_once() {
        let mut world = World::new();
        let mut said = Vec::new();
        for _ in 0..PATIENCE {
            world.down();
            said.extend(world.pass(1));
        }
        assert_eq!(said, [DOUBTFUL, CUT]);
    }

    #[test]
    fn a_link_that_comes_and_goes_is_cut_once_its_down_time_adds_up() {
        let mut world = World::new();
        let mut said = Vec::new();
        for _ in 0..100 {
            world.down();
            said.extend(world.pass(10));
            world.up();
            said.extend(world.pass(500));
        }
        assert_eq!(said, [DOUBTFUL, CUT]);
        assert_eq!(world.pass(CALM), [WHOLE]);
    }

    /// One exclusion and not a storm: each time, the link is up for long enough to have been whole at first.
    #[test]
    fn a_flapping_link_costs_few_reports_however_it_flaps() {
        for up in [100, CALM, 2 * CALM, 5 * CALM, 20 * CALM] {
            let mut world = World::new();
            let mut said = Vec::new();
            let flaps = 3_600_000 / (up + 200);
            for _ in 0..flaps {
                world.down();
                said.extend(world.pass(200));
                world.up();
                said.extend(world.pass(up));
            }
            assert!(said.len() <= 3 * 8, "{} reports in an hour of {up} ms up", said.len());
        }
    }

    #[test]
    fn calm_doubles_up_to_a_bound() {
        let mut world = World::new();
        for calm in [1, 2, 4, 8, 16, 32, 60, 60].map(|times| times * CALM) {
            world.down();
            assert_eq!(world.pass(PATIENCE), [DOUBTFUL, CUT]);
            world.up();
            assert_eq!(world.pass(calm - 1), [], "{calm}");
            assert_eq!(world.pass(1), [WHOLE], "{calm}");
        }
    }

    #[test]
    fn what_was_whole_for_long_is_trusted_again() {
        for (whole_for, calm) in [(CALM_MAX - 1, 2 * CALM), (CALM_MAX, CALM)] {
            let mut world = World::new();
            world.down();
            world.up();
            assert_eq!(world.pass(CALM + whole_for), [DOUBTFUL, WHOLE]);
            world.down();
            world.up();
            assert_eq!(world.pass(calm - 1), [DOUBTFUL]);
            assert_eq!(world.pass(1), [WHOLE]);
        }
    }

    #[test]
    fn a_peer_that_never_comes_back_is_forgotten_and_so_is_one_that_is_nobody() {
        let mut world = World::new();
        world.down();
        assert_eq!(world.pass(599_999), [DOUBTFUL, CUT]);
        assert_eq!(world.pass(1), [WHOLE]);
        assert_eq!(world.reach.next_wake(), None);

        world.down();
        assert_eq!(world.pass(1), [DOUBTFUL]);
        world.reach.forget('b');
        assert_eq!(world.pass(5_000), [WHOLE]);
        world.reach.forget('b');
        assert_eq!(world.pass(5_000), []);

        world.down();
        world.up();
        assert_eq!(world.pass(CALM), [DOUBTFUL, WHOLE]);
        world.reach.forget('b');
        assert_eq!(world.pass(CALM), [], "it was whole");
    }

    #[test]
    fn links_that_come_up_for_the_first_time_are_no_news() {
        let mut world = World::new();
        world.up();
        assert_eq!(world.pass(5_000), []);
        assert_eq!(world.reach.next_wake(), None);
    }

    #[test]
    fn a_report_names_all_and_says_how_long_each_was_silent() {
        let mut world = World::new();
        world.reach.down('b', world.time(), Duration::from_millis(400));
        let first = world.reach.news(world.time());
        let doubtful = |millis| Doubted { doubt: Doubt::Doubtful, silent: Duration::from_millis(millis) };
        assert_eq!(first, Some(Report::from([('b', doubtful(400))])));
        world.now += 50;
        world.reach.down('c', world.time(), Duration::ZERO);
        let second = world.reach.news(world.time());
        assert_eq!(second, Some(Report::from([('b', doubtful(450)), ('c', doubtful(0))])));
        assert_eq!(world.reach.news(world.time()), None);
    }

    #[test]
    fn what_is_said_of_silence_is_about_the_last_fall() {
        let mut world = World::new();
        world.down();
        world.up();
        assert_eq!(world.pass(10_000), [DOUBTFUL, WHOLE]);
        world.reach.down('b', world.time(), Duration::from_millis(400));
        let report = world.reach.news(world.time()).unwrap();
        assert_eq!(report[&'b'].silent.as_millis(), 400);
        world.now += 50;
        world.reach.down('b', world.time(), Duration::ZERO);
        world.pass(PATIENCE);
        world.reach.down('c', world.time(), Duration::ZERO);
        let report = world.reach.news(world.time()).unwrap();
        assert_eq!(report[&'b'].silent.as_millis(), 450 + u128::from(PATIENCE));
        world.up();
        world.now += 50;
        world.reach.forget('c');
        let report = world.reach.news(world.time()).unwrap();
        assert_eq!(report[&'b'].silent, Duration::ZERO);
    }
}
