//! Daemons that leave again and again: each time, everybody has to change configuration, so a name that has left too
//! often waits before it may come back, longer each time. It is forgiven when it has stayed away from trouble.

use alloc::collections::BTreeMap;
use core::time::Duration;

use model::{Name, Time};

use crate::params::Params;

/// The longest that a name waits, and how long its departures are remembered.
const MEMORY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Flaps(BTreeMap<Name, Departures>);

#[derive(Clone, Copy, Debug, Hash)]
struct Departures {
    count: u32,
    last: Time,
}

impl Flaps {
    /// `name` left a configuration without a goodbye.
    pub(crate) fn left(&mut self, now: Time, name: Name) {
        self.0.retain(|_, departures| now.since(departures.last) < MEMORY);
        let departures = self.0.entry(name).or_insert(Departures { count: 0, last: now });
        *departures = Departures { count: departures.count.saturating_add(1), last: now };
    }

    /// Until when `name` has to wait.
    pub(crate) fn held_until(&self, now: Time, name: Name, params: &Params) -> Option<Time> {
        let departures = self.0.get(&name).filter(|departures| departures.count > params.flaps)?;
        let doublings = (departures.count - params.flaps - 1).min(16);
        let hold = params.hold_down.saturating_mul(1 << doublings).min(MEMORY);
        Some(departures.last + hold).filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_too_often_waits_longer_each_time_and_is_forgiven() {
        let params = Params { flaps: 2, hold_down: Duration::from_secs(1), ..Params::lan() };
        let name: Name = "a".parse().unwrap();
        let mut flaps = Flaps::default();
        let mut now = Time::ZERO;
        let mut held = |seconds| {
            now = now + Duration::from_secs(seconds);
            flaps.left(now, name);
            flaps.held_until(now, name, &params).map(|until| until.since(now).as_secs())
        };
        assert_eq!([held(1), held(1), held(1), held(1), held(4)], [None, None, Some(1), Some(2), Some(4)]);
        assert_eq!(held(61), None, "that was long ago");
    }
}
