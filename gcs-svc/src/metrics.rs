//! What the daemon counts, and what it looks up when somebody wants to see its metrics.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gcs_core::{Daemon, Throttle};
use model::DaemonId;
use svc_kit::driver::Handle;
use svc_kit::metrics::{Counter, Counters, Gauge, Gauges, Histogram, Metrics, set_total, whole};
use tokio::sync::watch;

use crate::effects::Mode;
use crate::links::Links;
use crate::processes::Processes;
use crate::refusals::Refusals;
use crate::round_trips::RoundTrips;

/// The metrics of a daemon.
#[derive(Debug)]
pub struct Measures {
    /// Frames on their way to other daemons.
    pub frames: Counter,
    /// Events for local processes.
    pub events: Counter,
    /// Links that were broken since they were silent.
    pub suspicions: Counter,
    /// How long it takes until peers have answered.
    pub round_trips: RoundTrips,
    views: Counters,
    view_change: Histogram,
    /// When the change that is under way began.
    changing: Mutex<Option<Instant>>,
    refused: Counters,
    members: Gauge,
    groups: Gauge,
    processes: Gauge,
    links: Gauges,
    window: Gauges,
    window_bytes: Gauge,
    holding: Gauge,
    primary: Gauge,
}

/// What is looked at for the metrics that are not counted.
#[derive(Clone)]
pub struct Sights {
    /// The machine.
    pub machine: Handle<Daemon>,
    /// Local processes.
    pub processes: Arc<Processes>,
    /// Our streams to other daemons.
    pub links: Arc<Links>,
    /// What was refused.
    pub refusals: Arc<Refusals>,
    /// What the machine has ordered the process to be.
    pub mode: watch::Receiver<Mode>,
}

impl Measures {
    /// All of them at zero.
    pub fn new(to: &mut Metrics) -> Measures {
        Measures {
            frames: to.counter("gcs_frames_sent", "Frames queued for other daemons"),
            events: to.counter("gcs_events_delivered", "Events told to local processes"),
            suspicions: to.counter("suspicions", "Links that were broken since nothing was heard on them"),
            round_trips: RoundTrips::new(to),
            views: to.counters(
                "views",
                "Configurations that were installed, by what changed",
                "cause",
                &["joined", "left", "both", "same"],
            ),
            view_change: to
                .seconds("view_change_seconds", "Time from the first notice of a change to its view"),
            changing: Mutex::default(),
            refused: to.counters(
                "gcs_refused_messages",
                "Messages that were refused, by reason",
                "reason",
                &["MESSAGE_TOO_LARGE", "OVERLOADED"],
            ),
            members: to.gauge("members", "Daemons in the configuration of this one"),
            groups: to.gauge("groups", "Groups that have members"),
            processes: to.gauge("processes", "Processes attached to this daemon"),
            links: to.gauges("links", "Streams to other daemons, by state"),
            window: to.gauges("send_window_lag", "Messages that wait, by what they wait for"),
            window_bytes: to.gauge("unstable_bytes", "Bytes kept until every member has them"),
            holding: to.gauge("holding", "Whether it reads nothing from processes to catch up: 1 or 0"),
            primary: to.gauge("primary_component", "Whether it is in the primary component: 1 or 0"),
        }
    }

    fn changing(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The membership service says that the configuration changes.
    pub fn begin_change(&self) {
        self.changing().get_or_insert_with(Instant::now);
    }

    /// The daemon moved from a configuration of `before` members, with those who came `together`, to one of `after`.
    pub fn install(&self, before: usize, together: &BTreeSet<DaemonId>, after: usize) -> Installed {
        let cause = match (together.len() < before, together.len() < after) {
            (true, true) => "both",
            (true, false) => "left",
            (false, true) => "joined",
            (false, false) => "same",
        };
        self.views.get_or_create(&[("cause", cause)]).inc();
        let took = self.changing().take().map(|since| since.elapsed().as_secs_f64());
        if let Some(seconds) = took {
            self.view_change.observe(seconds);
        }
        Installed { cause, duration_ms: took.map(|seconds| seconds * 1e3) }
    }

    /// Looks up how the daemon is.
    pub async fn look(self: Arc<Self>, sights: Sights) {
        let Sights { machine, processes, links, refusals, mode } = sights;
        for (reason, count) in refusals.counts() {
            set_total(&self.refused.get_or_create(&[("reason", reason)]), count);
        }
        let all = links.status();
        let up = all.iter().filter(|link| link.up).count();
        for (state, count) in [("up", up), ("down", all.len() - up)] {
            self.links.get_or_create(&[("state", state)]).set(whole(count));
        }
        self.processes.set(whole(processes.count()));
        self.holding.set((mode.borrow().throttle == Throttle::Hold).into());
        let seen = machine.ask(|daemon| {
            let configuration = daemon.configuration();
            let (members, primary) = (configuration.members.len(), configuration.primary);
            (members, primary, daemon.groups().count(), daemon.windows())
        });
        // One that has stopped is about to end.
        let Ok((members, primary, groups, windows)) = seen.await else { return };
        self.members.set(whole(members));
        self.primary.set(primary.into());
        self.groups.set(whole(groups));
        self.window_bytes.set(whole(windows.unstable_bytes));
        for (what, count) in [
            ("unstable", windows.unstable),
            ("waiting", windows.waiting),
            ("held", windows.held),
            ("unacknowledged", windows.unacknowledged),
        ] {
            self.window.get_or_create(&[("state", what)]).set(whole(count));
        }
    }
}

/// How a configuration came about, for logs.
#[derive(Clone, Copy, Debug)]
pub struct Installed {
    /// What changed, in a word.
    pub cause: &'static str,
    /// How long it took since its first notice, if there was one.
    pub duration_ms: Option<f64>,
}
