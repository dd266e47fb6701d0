//! How late responses come, by the session's own schedule.
//!
//! A film service sends each fragment a constant time before it is shown, except for the first few, which fill the
//! player's buffer at once. That constant is not told to clients: it is found as the greatest head start that any
//! fragment of the session had. A fragment is late by how much its own head start falls short of it, once the buffer
//! is full.

use std::time::Duration;

/// When fragments came, and when they are shown.
#[derive(Clone, Debug, Default)]
pub struct Lateness {
    /// For each fragment: when it came, and when it is shown, both counted from the first one.
    arrivals: Vec<(Duration, Duration)>,
}

impl Lateness {
    /// A fragment that is shown at `shown` came at `at`, both counted from the first fragment.
    pub fn arrived(&mut self, at: Duration, shown: Duration) {
        self.arrivals.push((at, shown));
    }

    /// By how much each fragment was late, in order.
    pub fn all(&self) -> impl Iterator<Item = Duration> + '_ {
        let head_start = |(at, shown): &(Duration, Duration)| shown.saturating_sub(*at);
        let lead = self.arrivals.iter().map(head_start).max().unwrap_or_default();
        self.arrivals.iter().map(move |(at, shown)| at.saturating_sub(shown.saturating_sub(lead)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lateness(arrivals_ms: &[(u64, u64)]) -> Vec<u64> {
        let mut lateness = Lateness::default();
        for (at, shown) in arrivals_ms {
            lateness.arrived(Duration::from_millis(*at), Duration::from_millis(*shown));
        }
        lateness.all().map(|late| late.as_millis() as u64).collect()
    }

    #[test]
    fn a_fragment_is_late_by_what_it_lacks_of_the_usual_head_start() {
        let on_time = [(0, 0), (0, 500), (0, 1000), (500, 1500), (1000, 2000)];
        assert_eq!(lateness(&on_time), [0, 0, 0, 0, 0]);
        let one_late = [(0, 0), (0, 500), (0, 1000), (730, 1500), (1000, 2000)];
        assert_eq!(lateness(&one_late), [0, 0, 0, 230, 0]);
        let slow_start = [(0, 0), (40, 500), (50, 1000), (500, 1500), (1000, 2000)];
        assert_eq!(lateness(&slow_start), [0, 40, 50, 0, 0]);
    }

    #[test]
    fn without_fragments_nothing_is_late() {
        assert!(lateness(&[]).is_empty());
    }
}
