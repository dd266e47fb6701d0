//! A session from its first response to its last, with everything that can be asked for in between.

use std::time::Duration;

use super::*;
use crate::forge::film_at;

const LEAD: Duration = Duration::from_secs(2);

/// When the sessions of these tests open.
const OPENED: Time = Time::from_micros(1_700_000_000_000_000);

fn at(millis: u64) -> Time {
    OPENED + Duration::from_millis(millis)
}

/// A film of this many half seconds.
fn half_seconds(count: u64) -> Film {
    film_at(&(0..count).map(|index| index * 500).collect::<Vec<_>>())
}

fn seek(position_ms: u64) -> Request {
    Request::Seek { position_ms }
}

fn rate(factor: f64) -> Request {
    Request::Rate { factor }
}

const PAUSE: Request = Request::Pause {};
const RESUME: Request = Request::Resume {};

fn through_the_wire(context: Context) -> Context {
    let bytes = postcard::to_allocvec(&context).unwrap();
    assert!(bytes.len() <= 50, "{context:?} takes {} bytes", bytes.len());
    postcard::from_bytes(&bytes).unwrap()
}

/// A primary and its clock, which jumps to whatever comes next.
struct Primary<'a> {
    film: &'a Film,
    context: Context,
    now: u64,
    /// Milliseconds since the session was opened, and the index of the fragment sent then.
    sent: Vec<(u64, u32)>,
}

impl<'a> Primary<'a> {
    fn new(film: &'a Film) -> Primary<'a> {
        Primary { film, context: Context::new(), now: 0, sent: Vec::new() }
    }

    /// Sends what is due until `end`, or until it is idle, and lets the time pass.
    fn play_until(&mut self, end: u64) -> &mut Self {
        while self.now <= end {
            let index = self.context.next;
            let before = self.context;
            match self.context.next(self.film, LEAD, at(self.now)) {
                Next::Respond { last, .. } => {
                    assert_eq!(last, index as usize + 1 == self.film.fragments().len());
                    self.sent.push((self.now, index));
                }
                Next::At(time) => {
                    assert!(time > at(self.now), "a time that has come");
                    assert_eq!(self.context, before);
                    self.now += (time.since(at(self.now)).as_micros() as u64).div_ceil(1000);
                }
                Next::Idle => {
                    assert_eq!(self.context, before);
                    break;
                }
                failed @ Next::Fail { .. } => panic!("{failed:?}"),
            }
        }
        self.now = end;
        self
    }

    fn request(&mut self, request: Request) -> &mut Self {
        self.context.apply(self.film, request).unwrap();
        self
    }
}

#[test]
fn fragments_are_sent_a_lead_ahead() {
    let film = half_seconds(8);
    let mut primary = Primary::new(&film);
    primary.play_until(10_000);
    let expected = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (500, 5), (1_000, 6), (1_500, 7)];
    assert_eq!(primary.sent, expected);
    assert_eq!(primary.context.next(&film, LEAD, at(10_000)), Next::Idle);
}

#[test]
fn requests_move_the_schedule() {
    struct Case<'a> {
        name: &'static str,
        requests: &'a [(u64, Request)],
        /// What is sent from the first request on.
        sent: &'a [(u64, u32)],
    }
    let cases = [
        Case { name: "nothing", requests: &[(1_200, RESUME)], sent: &[(1_500, 7), (2_000, 8), (2_500, 9)] },
        Case {
            name: "a pause shifts it",
            requests: &[(1_200, PAUSE), (60_000, RESUME)],
            sent: &[(60_000, 7), (60_500, 8), (61_000, 9)],
        },
        Case {
            name: "pausing twice is pausing once",
            requests: &[(1_200, PAUSE), (1_300, PAUSE), (60_000, RESUME), (60_100, RESUME)],
            sent: &[(60_000, 7), (60_500, 8), (61_000, 9)],
        },
        Case {
            name: "a seek starts it anew, with the lead",
            requests: &[(1_200, seek(700))],
            sent: &[
                (1_200, 1),
                (1_200, 2),
                (1_200, 3),
                (1_200, 4),
                (1_200, 5),
                (1_700, 6),
                (2_200, 7),
                (2_700, 8),
                (3_200, 9),
            ],
        },
        Case {
            name: "a seek while paused waits",
            requests: &[(1_200, PAUSE), (2_000, seek(3_600)), (5_000, RESUME)],
            sent: &[(5_000, 7), (5_000, 8), (5_000, 9)],
        },
        Case {
            name: "twice as fast needs twice the film in hand",
            requests: &[(200, rate(2.0))],
            sent: &[(200, 5), (200, 6), (200, 7), (200, 8), (200, 9)],
        },
        Case {
            name: "half as fast leaves too much in hand",
            requests: &[(200, rate(0.5))],
            sent: &[(200, 5), (3_200, 6), (4_200, 7), (5_200, 8), (6_200, 9)],
        },
        Case {
            name: "the same rate changes nothing",
            requests: &[(1_700, rate(1.0))],
            sent: &[(2_000, 8), (2_500, 9)],
        },
        Case {
            name: "a seek after the end plays on",
            requests: &[(9_000, seek(4_500))],
            sent: &[(9_000, 9)],
        },
    ];
    let film = half_seconds(10);
    for Case { name, requests, sent } in cases {
        let mut primary = Primary::new(&film);
        let mut before = None;
        for (time, request) in requests {
            primary.play_until(*time).request(*request);
            before.get_or_insert(primary.sent.len());
        }
        primary.play_until(100_000);
        assert_eq!(&primary.sent[before.unwrap()..], sent, "{name}");
    }
}

/// Someone who watches: moves on at their rate through what they have, and stands still when they have no more.
struct Viewer {
    position: Duration,
    received: Duration,
    stalled: Duration,
}

impl Viewer {
    fn watch(&mut self, wall: Duration, rate: Rate) {
        let wanted = self.position + rate.film(wall);
        self.position = wanted.min(self.received);
        self.stalled += rate.wall(wanted - self.position);
    }
}

#[test]
fn a_viewer_is_neither_starved_nor_flooded() {
    let film = half_seconds(400);
    let script = [
        (3_150, rate(2.0)),
        (9_020, PAUSE),
        (9_900, rate(4.0)),
        (12_345, RESUME),
        (20_010, rate(0.5)),
        (29_990, PAUSE),
        (30_000, RESUME),
        (30_700, PAUSE),
        (30_701, RESUME),
        (33_333, rate(1.0)),
        (34_000, rate(0.25)),
        (34_100, rate(8.0)),
        (39_000, rate(1.0)),
        (60_000, rate(1.5)),
    ];
    let mut requests = script.iter().peekable();
    let mut context = Context::new();
    let mut viewer = Viewer { position: Duration::ZERO, received: Duration::ZERO, stalled: Duration::ZERO };
    let mut most = Duration::ZERO;
    for millis in 0..80_000 {
        if let Some((_, request)) = requests.next_if(|(time, _)| *time == millis) {
            context.apply(&film, *request).unwrap();
        }
        let paused = context.playback == Playback::Paused;
        while let Next::Respond { .. } = context.next(&film, LEAD, at(millis)) {
            viewer.received = film.fragments()[context.next as usize - 1].end();
        }
        if !paused {
            viewer.watch(Duration::from_millis(1), context.rate);
        }
        most = most.max(viewer.received - viewer.position);
    }
    assert!(requests.next().is_none());
    assert_eq!(viewer.stalled, Duration::ZERO);
    // At rate 8 the lead is 16 s of the film; each request may add the fragment that it is answered with.
    assert!(most <= Duration::from_secs(16) + Duration::from_millis(500) * script.len() as u32, "{most:?}");
    assert!(viewer.position > Duration::from_secs(80));
}

#[test]
fn a_takeover_at_any_point_changes_nothing() {
    let (here, there) = (half_seconds(40), half_seconds(40));
    let script = [
        (1_300, PAUSE),
        (2_000, RESUME),
        (4_000, rate(2.0)),
        (4_600, seek(3_000)),
        (5_000, rate(0.75)),
        (7_000, rate(3.0)),
    ];
    let play = |takeover: Option<u64>| {
        let mut primary = Primary::new(&here);
        for time in (0..=12_000).step_by(50) {
            primary.play_until(time);
            if takeover == Some(time) {
                primary.context = through_the_wire(primary.context);
                primary.film = &there;
            }
            let due = script.iter().filter(|(when, _)| *when == time);
            due.for_each(|(_, request)| _ = primary.request(*request));
        }
        primary.play_until(60_000).sent.clone()
    };
    let undisturbed = play(None);
    for takeover in (0..=12_000).step_by(50) {
        assert_eq!(play(Some(takeover)), undisturbed, "after a takeover at {takeover} ms");
    }
}

#[test]
fn a_gap_shorter_than_the_lead_is_made_good_at_once() {
    let film = half_seconds(20);
    let mut primary = Primary::new(&film);
    primary.play_until(2_100);
    primary.now = 3_900;
    primary.play_until(4_600);
    let expected = [(3_900, 9), (3_900, 10), (3_900, 11), (4_000, 12), (4_500, 13)];
    assert_eq!(primary.sent[9..], expected);
}

#[test]
fn a_clock_that_lags_moves_the_schedule() {
    let film = half_seconds(20);
    for lag in [1, 500, 3_600_000].map(Duration::from_millis) {
        let mut primary = Primary::new(&film);
        primary.play_until(2_100);
        let mut context = primary.context;
        assert_eq!(context.next(&film, LEAD, at(2_100)), Next::At(at(2_500)));
        // The last response went out at 2000 ms, and the new primary believes that this is yet to come.
        assert!(matches!(context.next(&film, LEAD, at(2_000) - lag), Next::Respond { .. }));
        assert_eq!(context.next(&film, LEAD, at(2_000) - lag), Next::At(at(3_000) - lag));
    }
}

#[test]
fn requests_are_applied_alike_everywhere_or_nowhere() {
    let film = half_seconds(10);
    let requests = [
        (seek(4_999), Ok(())),
        (seek(5_000), Err(RefusalKind::OutOfRange)),
        (seek(u64::MAX), Err(RefusalKind::OutOfRange)),
        (rate(0.25), Ok(())),
        (rate(8.0), Ok(())),
        (rate(8.01), Err(RefusalKind::OutOfRange)),
        (rate(0.0), Err(RefusalKind::OutOfRange)),
        (rate(-1.0), Err(RefusalKind::OutOfRange)),
        (rate(f64::NAN), Err(RefusalKind::OutOfRange)),
        (rate(f64::INFINITY), Err(RefusalKind::OutOfRange)),
        (PAUSE, Ok(())),
        (RESUME, Ok(())),
    ];
    let mut primary = Primary::new(&film);
    for time in (0..6_000).step_by(700) {
        primary.play_until(time);
        for (request, expected) in requests {
            let (mut here, mut there) = (primary.context, through_the_wire(primary.context));
            let result = here.apply(&film, request);
            assert_eq!(result, there.apply(&film, request));
            assert_eq!(here, there);
            assert_eq!(result.clone().map_err(|it| it.kind), expected, "{request:?}");
            assert!(result.is_ok() || here == primary.context, "refused, yet applied: {request:?}");
        }
    }
}

#[test]
fn the_largest_context_is_small() {
    let rate = Rate::new(8.0).unwrap();
    let schedule = Schedule { since: Some(Time::from_micros(u64::MAX)), position: Duration::MAX, rate };
    let served = Time::from_micros(u64::MAX);
    let largest =
        Context { next: u32::MAX, opened: true, playback: Playback::Paused, rate, schedule, served };
    assert_eq!(through_the_wire(largest), largest);
}

#[test]
fn a_context_that_someone_made_up_does_no_harm() {
    let film = half_seconds(10);
    let times = [Time::ZERO, at(0), Time::from_micros(u64::MAX)];
    let since = times.map(Some).into_iter().chain([None]);
    let schedules = since.flat_map(|since| {
        let positions = [Duration::ZERO, Duration::from_millis(1_234), Duration::MAX];
        positions.map(|position| Schedule { since, position, rate: Rate::new(8.0).unwrap() })
    });
    for schedule in schedules {
        for (next, served) in [0, 3, 10, u32::MAX].into_iter().flat_map(|next| times.map(|time| (next, time)))
        {
            let mut context = Context { next, schedule, served, ..Context::new() };
            for request in [RESUME, rate(0.25), PAUSE, RESUME] {
                for now in times {
                    context.next(&film, Duration::MAX, now);
                    context.next(&film, Duration::ZERO, now);
                }
                context.apply(&film, request).unwrap();
            }
            // A seek puts everything right.
            context.apply(&film, seek(2_000)).unwrap();
            assert!(matches!(context.next(&film, LEAD, at(0)), Next::Respond { .. }));
        }
    }
}

#[test]
fn a_context_with_an_impossible_rate_is_not_read() {
    let mut bytes = postcard::to_allocvec(&Context::new()).unwrap();
    let rate = postcard::to_allocvec(&Rate::NORMAL).unwrap();
    let place = bytes.windows(rate.len()).position(|it| it == rate).unwrap();
    bytes.splice(place..place + rate.len(), postcard::to_allocvec(&0u16).unwrap());
    assert!(postcard::from_bytes::<Context>(&bytes).is_err());
}
