//! Options that say how a local cluster treats its sessions.

use std::time::Duration;

use crate::cluster::Options;

/// How sessions are kept.
#[derive(Clone, Debug, clap::Args)]
pub struct Shape {
    /// How many servers beside the primary apply every request of a session
    #[arg(long, value_name = "B", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=16))]
    pub backups: u8,
    /// How often the primary tells all replicas where its sessions are: milliseconds, or 2s
    #[arg(long, value_name = "MS", default_value = "500", value_parser = period)]
    pub period: Duration,
}

impl Shape {
    /// Fills in `options`.
    pub fn apply(&self, options: &mut Options) {
        options.backups = self.backups;
        options.period = self.period;
    }
}

/// Milliseconds, or a number with a unit.
fn period(text: &str) -> Result<Duration, String> {
    let period = match text.parse() {
        Ok(ms) => Duration::from_millis(ms),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if period.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(period) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_in_milliseconds_unless_it_says_otherwise() {
        assert_eq!(period("250"), Ok(Duration::from_millis(250)));
        assert_eq!(period("2s"), Ok(Duration::from_secs(2)));
        assert!(period("0").is_err() && period("soon").is_err());
    }
}
