//! What the audience sees: who serves whom, what was killed, how long each session had to wait; and the score.
//!
//! The *gap* of a session is the time from the instant of SIGKILL until its client hears from the new primary. That is
//! the longest stall that the kill could have caused, whether or not a response was due meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::UnitId;

use super::observer::View;
use super::plan::Prey;
use super::viewer::{Note, Played};
use crate::quantiles::{Quantiles, milliseconds};
use crate::words::counted;

/// Sessions that move within this time of each other are told of in one line.
const MOVES_TOGETHER: Duration = Duration::from_millis(300);

/// Of so many sessions each has a line of its own.
const LINES_MAX: usize = 12;

/// Servers and sessions, as their clients see them.
pub struct Stage {
    start: Instant,
    /// For each viewer: what it watches, and who serves it.
    viewers: Vec<(UnitId, Option<String>)>,
    /// Servers that are dead.
    down: BTreeSet<String>,
    strikes: Vec<Strike>,
    /// Sessions that were moved lately, by where they came from and went to, and when the last one was.
    moves: BTreeMap<(String, String), usize>,
    last_move: Option<Instant>,
    /// Views that are not told of yet.
    views: BTreeMap<String, String>,
    left: usize,
    quiet: bool,
    pub score: Score,
}

/// A server was killed, or a machine with its server.
pub struct Strike {
    pub prey: Prey,
    at: Instant,
    server: String,
    /// Viewers that have not heard of a new primary yet.
    waiting: BTreeSet<usize>,
    taken_over: Vec<Takeover>,
    told: bool,
}

struct Takeover {
    viewer: usize,
    server: String,
    fence: u64,
    gap: Duration,
}

/// What counts in the end.
#[derive(Debug, Default)]
pub struct Score {
    pub played: Vec<Played>,
    pub takeovers: usize,
    pub moved: usize,
    pub gaps_server: Vec<Duration>,
    pub gaps_machine: Vec<Duration>,
    pub failures: Vec<String>,
}

impl Stage {
    /// Nobody is served yet. `quiet`: a kill and what follows is told in one line each.
    pub fn new(units: Vec<UnitId>, quiet: bool) -> Stage {
        Stage {
            start: Instant::now(),
            viewers: units.into_iter().map(|unit| (unit, None)).collect(),
            down: BTreeSet::new(),
            strikes: Vec::new(),
            moves: BTreeMap::new(),
            last_move: None,
            views: BTreeMap::new(),
            left: 0,
            quiet,
            score: Score::default(),
        }
    }

    /// From now on time is counted.
    pub fn begin(&mut self) {
        self.start = Instant::now();
        self.tell("▶", &format!("{} playing", counted(self.viewers.len(), "session")));
        self.tell_who_serves();
    }

    /// How long the films have been playing.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether every viewer is served.
    pub fn all_are_served(&self) -> bool {
        self.viewers.iter().all(|(_, server)| server.is_some())
    }

    /// Whether every viewer has left.
    pub fn all_have_left(&self) -> bool {
        self.left == self.viewers.len()
    }

    /// Who serves this viewer.
    pub fn server_of(&self, viewer: usize) -> Option<&str> {
        self.viewers.get(viewer)?.1.as_deref()
    }

    /// How many viewers each server serves that serves any.
    pub fn loads(&self) -> BTreeMap<&str, usize> {
        let mut loads = BTreeMap::new();
        for server in self.viewers.iter().filter_map(|(_, server)| server.as_deref()) {
            *loads.entry(server).or_default() += 1;
        }
        loads
    }

    /// When a server was killed last: in this way, and in any way.
    pub fn last_kills(&self, prey: Prey, server: &str) -> (Option<Instant>, Option<Instant>) {
        let mut kills = self.strikes.iter().rev().filter(|strike| strike.server == server);
        let any = kills.clone().next().map(|strike| strike.at);
        (kills.find(|strike| strike.prey == prey).map(|strike| strike.at), any)
    }

    /// Viewers that wait for a new primary.
    pub fn waiting(&self) -> BTreeSet<usize> {
        self.strikes.iter().flat_map(|strike| strike.waiting.iter().copied()).collect()
    }

    /// `server` was killed at `at`.
    pub fn killed(&mut self, prey: Prey, server: &str, victims: &str, at: Instant) {
        let is_served = |(_, by): &(UnitId, Option<String>)| by.as_deref() == Some(server);
        let waiting: BTreeSet<usize> = (0..self.viewers.len())
            .filter(|viewer| self.viewers.get(*viewer).is_some_and(is_served))
            .collect();
        let whom = match waiting.iter().next() {
            None => "nobody".to_owned(),
            Some(first) if waiting.len() == 1 => format!("session {}", first + 1),
            Some(first) => format!("session {} and {}", first + 1, counted(waiting.len() - 1, "other")),
        };
        self.tell_at(at, "✗", &format!("{victims} killed (SIGKILL); {server} was serving {whom}"));
        self.down.insert(server.to_owned());
        let server = server.to_owned();
        self.strikes.push(Strike { prey, at, server, waiting, taken_over: Vec::new(), told: false });
    }

    /// `server` was started again.
    pub fn started(&mut self, server: &str, victims: &str) {
        self.down.remove(server);
        self.tell("↑", &format!("{victims} started again"));
    }

    /// A viewer tells.
    pub fn hear(&mut self, note: Note) {
        match note {
            Note::Serving { viewer, at, server, fence, takeover } => {
                self.serving(viewer, at, server, fence, takeover);
            }
            Note::GatewayLost { viewer, gateway, reason } => {
                self.tell("!", &format!("session {} lost gateway {gateway}: {reason}", viewer + 1));
            }
            Note::Played { viewer, result } => {
                // Whoever closes a session does not wait for its server any more.
                self.forget(viewer);
                self.score.played.push(*result);
            }
            Note::Failed { viewer, reason } => {
                self.forget(viewer);
                self.fail(format!("session {} failed: {reason}", viewer + 1));
            }
            Note::Left => self.left += 1,
        }
    }

    /// Something went wrong that must not.
    pub fn fail(&mut self, what: String) {
        self.tell("!", &what);
        self.score.failures.push(what);
    }

    fn forget(&mut self, viewer: usize) {
        if let Some((_, server)) = self.viewers.get_mut(viewer) {
            *server = None;
        }
        for strike in &mut self.strikes {
            strike.waiting.remove(&viewer);
        }
    }

    fn serving(&mut self, viewer: usize, at: Instant, server: String, fence: u64, takeover: bool) {
        let Some((_, serving)) = self.viewers.get_mut(viewer) else { return };
        let before = serving.replace(server.clone());
        if self.down.contains(&server) {
            // It was said before the server died, and heard after.
            if let Some(strike) = self.strikes.iter_mut().rev().find(|strike| strike.server == server) {
                strike.waiting.insert(viewer);
            }
            return;
        }
        let struck: Vec<&mut Strike> =
            self.strikes.iter_mut().filter(|strike| strike.waiting.contains(&viewer)).collect();
        if struck.is_empty() {
            if let Some(before) = before.filter(|before| takeover && *before != server) {
                self.score.moved += 1;
                *self.moves.entry((before, server)).or_default() += 1;
                self.last_move = Some(at);
            }
            return;
        }
        self.score.takeovers += 1;
        for strike in struck {
            strike.waiting.remove(&viewer);
            let gap = at.duration_since(strike.at);
            match strike.prey {
                Prey::Server => self.score.gaps_server.push(gap),
                Prey::Machine => self.score.gaps_machine.push(gap),
            }
            strike.taken_over.push(Takeover { viewer, server: server.clone(), fence, gap });
        }
    }

    /// A view was installed.
    pub fn see(&mut self, view: View) {
        match view {
            View::Configuration { id, members } => {
                let members: Vec<&str> = members.iter().map(|name| name.as_str()).collect();
                if !self.quiet {
                    self.tell("·", &format!("configuration v{}: {}", id.counter(), members.join(" ")));
                }
            }
            View::Content { unit, id, servers } => {
                self.views.insert(unit, format!("{id} of {}", counted(servers.len(), "server")));
            }
        }
    }

    /// Tells what is complete by now. `all`: tells everything.
    pub fn flush(&mut self, all: bool) {
        let is_over = |strike: &Strike| !strike.told && (all || strike.waiting.is_empty());
        for index in 0..self.strikes.len() {
            if self.strikes.get(index).is_some_and(is_over) {
                self.tell_strike(index);
            }
        }
        let moves_are_over = self.last_move.is_some_and(|last| all || last.elapsed() >= MOVES_TOGETHER);
        if moves_are_over {
            self.last_move = None;
            let moves = std::mem::take(&mut self.moves);
            let total: usize = moves.values().sum();
            let each: Vec<String> =
                moves.into_iter().map(|((from, to), count)| format!("{count} {from} → {to}")).collect();
            self.tell("⇄", &format!("{} moved for balance: {}", counted(total, "session"), each.join(", ")));
            self.tell_who_serves();
        }
        if !self.views.is_empty() {
            let views = std::mem::take(&mut self.views);
            let each: Vec<String> = views.into_iter().map(|(unit, view)| format!("{unit} {view}")).collect();
            if !self.quiet {
                self.tell("·", &format!("content groups: {}", each.join(", ")));
            }
        }
    }

    fn tell_strike(&mut self, index: usize) {
        let Some(strike) = self.strikes.get_mut(index) else { return };
        strike.told = true;
        let lost: Vec<String> = strike.waiting.iter().map(|viewer| (viewer + 1).to_string()).collect();
        let (at, from) = (strike.at, strike.server.clone());
        let taken_over = std::mem::take(&mut strike.taken_over);
        if !lost.is_empty() {
            self.fail(format!("nobody took over session {} of {from}", lost.join(", ")));
        }
        if taken_over.is_empty() {
            return;
        }
        if !self.quiet {
            for it in taken_over.iter().take(LINES_MAX) {
                let unit = self.viewers.get(it.viewer).map_or("", |(unit, _)| unit.as_str());
                self.tell_at(
                    at + it.gap,
                    "→",
                    &format!(
                        "session {:<3} {unit:<10}  {from} → {}  gap {:6.1} ms  fence {}",
                        it.viewer + 1,
                        it.server,
                        milliseconds(it.gap),
                        it.fence
                    ),
                );
            }
        }
        let gaps = Quantiles::of(taken_over.iter().map(|it| it.gap));
        self.tell("→", &format!("{} taken over; gap {gaps}", counted(gaps.count, "session")));
        if !self.quiet {
            self.tell_who_serves();
        }
    }

    fn tell_who_serves(&self) {
        /// More sessions than this are a number, and no bar.
        const BAR_MAX: usize = 16;
        let bar =
            |(server, count): (&str, usize)| format!("{server} {} {count}", "▮".repeat(count.min(BAR_MAX)));
        let loads: Vec<String> = self.loads().into_iter().map(bar).collect();
        self.tell(" ", &format!("serving: {}", loads.join("   ")));
    }

    /// A line of the time line.
    pub fn tell(&self, mark: &str, what: &str) {
        self.tell_at(Instant::now(), mark, what);
    }

    fn tell_at(&self, at: Instant, mark: &str, what: &str) {
        println!("{:8.3} s  {mark} {what}", at.saturating_duration_since(self.start).as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(viewers: usize) -> Stage {
        Stage::new(vec![UnitId::new("life").unwrap(); viewers], true)
    }

    fn serving(stage: &mut Stage, viewer: usize, at: Instant, server: &str, takeover: bool) {
        stage.hear(Note::Serving { viewer, at, server: server.to_owned(), fence: 1, takeover });
    }

    #[test]
    fn a_gap_lasts_from_the_kill_to_the_news_of_a_primary() {
        let (mut stage, t0) = (stage(3), Instant::now());
        let after = |ms| t0 + Duration::from_millis(ms);
        for (viewer, server) in [(0, "server-1"), (1, "server-1"), (2, "server-2")] {
            serving(&mut stage, viewer, t0, server, false);
        }
        stage.killed(Prey::Server, "server-1", "server-1", after(100));
        assert_eq!(stage.waiting(), BTreeSet::from([0, 1]));
        serving(&mut stage, 0, after(112), "server-2", true);
        serving(&mut stage, 1, after(115), "server-3", true);
        assert_eq!(stage.score.gaps_server, [Duration::from_millis(12), Duration::from_millis(15)]);
        assert_eq!((stage.score.takeovers, stage.score.moved), (2, 0));
        assert!(stage.waiting().is_empty());
    }

    #[test]
    fn news_of_a_dead_server_are_no_news() {
        let (mut stage, t0) = (stage(1), Instant::now());
        serving(&mut stage, 0, t0, "server-1", false);
        stage.killed(Prey::Machine, "server-2", "machine-2", t0);
        assert!(stage.waiting().is_empty());
        serving(&mut stage, 0, t0, "server-2", true);
        assert_eq!(stage.waiting(), BTreeSet::from([0]));
        serving(&mut stage, 0, t0 + Duration::from_millis(7), "server-3", true);
        assert_eq!(stage.score.gaps_machine, [Duration::from_millis(7)]);
    }

    #[test]
    fn two_kills_in_a_row_are_two_gaps() {
        let (mut stage, t0) = (stage(1), Instant::now());
        serving(&mut stage, 0, t0, "server-1", false);
        stage.killed(Prey::Server, "server-1", "server-1", t0);
        serving(&mut stage, 0, t0, "server-2", true);
        stage.killed(Prey::Machine, "server-2", "machine-2", t0);
        serving(&mut stage, 0, t0, "server-3", true);
        assert_eq!((stage.score.gaps_server.len(), stage.score.gaps_machine.len()), (1, 1));
    }

    #[test]
    fn a_session_that_changes_its_server_in_peace_has_moved() {
        let (mut stage, t0) = (stage(1), Instant::now());
        serving(&mut stage, 0, t0, "server-1", false);
        serving(&mut stage, 0, t0, "server-2", true);
        serving(&mut stage, 0, t0, "server-2", true);
        assert_eq!((stage.score.takeovers, stage.score.moved), (0, 1));
    }

    #[test]
    fn a_session_that_nobody_takes_over_is_a_failure_unless_it_ends() {
        let (mut stage, t0) = (stage(2), Instant::now());
        serving(&mut stage, 0, t0, "server-1", false);
        serving(&mut stage, 1, t0, "server-1", false);
        stage.killed(Prey::Server, "server-1", "server-1", t0);
        stage.hear(Note::Failed { viewer: 0, reason: "gone".to_owned() });
        stage.flush(false);
        assert_eq!(stage.score.failures.len(), 1);
        stage.flush(true);
        assert_eq!(stage.score.failures.len(), 2);
    }
}
