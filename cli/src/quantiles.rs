//! The figures that sum up many durations.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Quantiles by nearest rank: each is one of the durations that were measured. All are zero if nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many were measured.
    pub count: usize,
    /// The median, in milliseconds.
    pub p50: f64,
    /// In milliseconds.
    pub p99: f64,
    /// The longest, in milliseconds.
    pub max: f64,
}

impl Quantiles {
    /// The quantiles of `durations`.
    pub fn of(durations: impl IntoIterator<Item = Duration>) -> Quantiles {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(rank).map_or(0.0, |duration| milliseconds(*duration))
        };
        Quantiles { count: sorted.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        write!(f, "median {:.1} ms, p99 {:.1} ms, max {:.1} ms", self.p50, self.p99, self.max)
    }
}

/// Milliseconds, to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantile_is_one_of_the_durations() {
        let of = |millis: &[u64]| Quantiles::of(millis.iter().map(|ms| Duration::from_millis(*ms)));
        assert_eq!(of(&[]), Quantiles::default());
        assert_eq!(of(&[7]), Quantiles { count: 1, p50: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(of(&[3, 1, 2]), Quantiles { count: 3, p50: 2.0, p99: 3.0, max: 3.0 });
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(of(&hundred), Quantiles { count: 100, p50: 50.0, p99: 99.0, max: 100.0 });
    }
}
