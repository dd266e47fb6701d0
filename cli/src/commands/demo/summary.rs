//! The end of a demo: the figures, and the verdict.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::stage::Score;
use crate::quantiles::Quantiles;
use crate::words::counted;

/// What `--json` prints as the last line.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// How long the films played, in seconds.
    pub seconds: f64,
    /// Processes and machines that were killed.
    pub kills: usize,
    /// Sessions that were played, and how many of them to the end of the film.
    pub sessions: usize,
    pub films_complete: usize,
    /// Different responses that clients received.
    pub responses: u64,
    pub lost: u64,
    pub repeated: u64,
    pub reordered: u64,
    /// Requests that were applied.
    pub requests: u64,
    /// Acknowledged requests of which nothing is known any more.
    pub requests_lost: u64,
    /// Sessions that got another primary because theirs was killed.
    pub takeovers: usize,
    /// Sessions that got another primary for balance.
    pub moved: usize,
    /// From SIGKILL until the client hears from its new primary.
    pub gap_ms: Quantiles,
    pub gaps_server_ms: Quantiles,
    pub gaps_machine_ms: Quantiles,
    /// How much later than its schedule each response came.
    pub late_ms: Quantiles,
    /// Whether what every client received is the film, byte for byte.
    pub sha256_match: bool,
    /// Properties that the trace of the run breaks.
    pub violations: usize,
    /// Everything else that went wrong.
    pub failures: Vec<String>,
}

impl Summary {
    /// Sums up `score`.
    pub fn of(score: &Score, kills: usize, elapsed: Duration, violations: usize) -> Summary {
        let sum = |count: fn(&super::viewer::Played) -> u64| score.played.iter().map(count).sum();
        let gaps = || score.gaps_server.iter().chain(&score.gaps_machine).copied();
        Summary {
            seconds: (elapsed.as_secs_f64() * 10.0).round() / 10.0,
            kills,
            sessions: score.played.len(),
            films_complete: score.played.iter().filter(|played| played.complete).count(),
            responses: sum(|played| played.ledger.responses()),
            lost: sum(|played| played.ledger.lost()),
            repeated: sum(|played| played.ledger.repeated()),
            reordered: sum(|played| played.ledger.reordered()),
            requests: sum(|played| played.requests),
            requests_lost: sum(|played| played.requests_lost),
            takeovers: score.takeovers,
            moved: score.moved,
            gap_ms: Quantiles::of(gaps()),
            gaps_server_ms: Quantiles::of(score.gaps_server.iter().copied()),
            gaps_machine_ms: Quantiles::of(score.gaps_machine.iter().copied()),
            late_ms: Quantiles::of(score.played.iter().flat_map(|played| played.lateness.iter().copied())),
            sha256_match: !score.played.is_empty() && score.played.iter().all(|played| played.matches),
            violations,
            failures: score.failures.clone(),
        }
    }

    /// Whether the demo showed what it promises.
    pub fn is_good(&self) -> bool {
        let wrong = self.lost + self.repeated + self.reordered + self.requests_lost;
        wrong == 0
            && self.sha256_match
            && self.violations == 0
            && self.failures.is_empty()
            && self.responses > 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |holds: bool| if holds { "yes" } else { "NO" };
        writeln!(
            f,
            "  sessions             {}, of which {} to the end of the film",
            self.sessions, self.films_complete
        )?;
        writeln!(
            f,
            "  responses            {} received, {} lost, {} repeated, {} out of order",
            self.responses, self.lost, self.repeated, self.reordered
        )?;
        writeln!(f, "  requests             {} applied, {} lost", self.requests, self.requests_lost)?;
        writeln!(
            f,
            "  kills                {}: {} taken over",
            self.kills,
            counted(self.takeovers, "session")
        )?;
        writeln!(f, "  moved for balance    {}", counted(self.moved, "session"))?;
        writeln!(f, "  gap, server killed   {}", self.gaps_server_ms)?;
        writeln!(f, "  gap, machine killed  {}", self.gaps_machine_ms)?;
        writeln!(f, "  late responses       {}", self.late_ms)?;
        writeln!(f, "  same bytes (SHA-256) {}", yes(self.sha256_match))?;
        writeln!(
            f,
            "  promises kept        {} ({} in the trace)",
            yes(self.violations == 0),
            counted(self.violations, "violation")
        )?;
        for failure in &self.failures {
            writeln!(f, "  FAILED               {failure}")?;
        }
        if self.is_good() {
            write!(
                f,
                "\nEvery client received every fragment of its film exactly once, in order, byte for byte."
            )
        } else {
            write!(f, "\nThe demo FAILED.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::viewer::Played;
    use player::Ledger;

    fn played(numbers: &[u64], matches: bool) -> Played {
        let mut ledger = Ledger::default();
        for number in numbers {
            ledger.enter(*number, b"").unwrap();
        }
        Played { ledger, matches, complete: false, requests: 1, requests_lost: 0, lateness: Vec::new() }
    }

    fn summary(played: Vec<Played>, violations: usize) -> Summary {
        let score = Score { played, gaps_server: vec![Duration::from_millis(7)], ..Score::default() };
        Summary::of(&score, 1, Duration::from_secs(1), violations)
    }

    #[test]
    fn only_a_run_without_a_flaw_is_good() {
        assert!(summary(vec![played(&[1, 2], true)], 0).is_good());
        for bad in [
            summary(vec![], 0),
            summary(vec![played(&[], true)], 0),
            summary(vec![played(&[2], true)], 0),
            summary(vec![played(&[1, 1], true)], 0),
            summary(vec![played(&[2, 1], true)], 0),
            summary(vec![played(&[1], true), played(&[1], false)], 0),
            summary(vec![played(&[1], true)], 1),
            Summary { failures: vec!["x".to_owned()], ..summary(vec![played(&[1], true)], 0) },
            Summary { requests_lost: 1, ..summary(vec![played(&[1], true)], 0) },
        ] {
            assert!(!bad.is_good(), "{bad}");
        }
    }

    #[test]
    fn the_json_has_the_promised_keys() {
        let json = serde_json::to_value(summary(vec![played(&[1], true)], 0)).unwrap();
        for key in [
            "responses",
            "lost",
            "repeated",
            "reordered",
            "requests_lost",
            "takeovers",
            "moved",
            "sha256_match",
            "violations",
            "gaps_server_ms",
            "gaps_machine_ms",
            "late_ms",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
        for key in ["p50", "p99", "max"] {
            assert_eq!(json["gap_ms"][key], 7.0);
        }
    }
}
