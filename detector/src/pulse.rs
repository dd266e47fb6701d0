//! To whom a beat is due.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use model::Time;

use crate::Params;

/// Those who expect to hear from us. Whatever is sent to them counts as a beat, so one is due only to those to whom
/// nothing else was sent.
///
/// There is one look for all, once a period, and who was sent something in its second half is passed over. So two signs
/// of life to the same one are never more than a period and a half apart, while we are not late ourselves.
#[derive(Clone, Debug, Hash)]
pub struct Pulse<K> {
    period: Duration,
    /// When each was sent something last, beats aside.
    sent: BTreeMap<K, Time>,
    /// The next look.
    look: Option<Time>,
}

impl<K: Ord + Copy> Pulse<K> {
    /// Nobody expects to hear from us.
    pub const fn new(params: &Params) -> Pulse<K> {
        Pulse { period: params.period, sent: BTreeMap::new(), look: None }
    }

    /// From now on `key` expects to hear from us; it has just been sent something.
    pub fn begin(&mut self, key: K, now: Time) {
        self.sent.insert(key, now);
        self.look.get_or_insert(now + self.period);
    }

    /// `key` expects nothing any more.
    pub fn end(&mut self, key: K) {
        self.sent.remove(&key);
        if self.sent.is_empty() {
            self.look = None;
        }
    }

    /// Something was sent to `key`.
    pub fn sent(&mut self, key: K, now: Time) {
        if let Some(sent) = self.sent.get_mut(&key) {
            *sent = now;
        }
    }

    /// To whom a beat is due. It is not due again before the next look.
    pub fn wake(&mut self, now: Time) -> Vec<K> {
        if self.look.is_none_or(|look| now < look) {
            return Vec::new();
        }
        self.look = Some(now + self.period);
        let due = self.sent.iter().filter(|(_, sent)| now.since(**sent) >= self.period / 2);
        due.map(|(key, _)| *key).collect()
    }

    /// When to look again.
    pub fn next_wake(&self) -> Option<Time> {
        self.look
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    const LAN: Params = Profile::Lan.params();

    fn at(millis: u64) -> Time {
        Time::from_micros(1_000 * millis)
    }

    #[test]
    fn who_is_sent_nothing_gets_a_beat_each_period() {
        let mut pulse = Pulse::new(&LAN);
        pulse.begin('a', at(0));
        assert_eq!(pulse.next_wake(), Some(at(100)));
        assert_eq!(pulse.wake(at(99)), []);
        assert_eq!(pulse.wake(at(100)), ['a']);
        assert_eq!(pulse.wake(at(100)), [], "once");
        assert_eq!(pulse.wake(at(200)), ['a']);
    }

    #[test]
    fn what_was_sent_in_the_second_half_of_a_period_stands_for_a_beat() {
        let mut pulse = Pulse::new(&LAN);
        for key in ['a', 'b'] {
            pulse.begin(key, at(0));
        }
        pulse.sent('a', at(50));
        pulse.sent('b', at(51));
        assert_eq!(pulse.wake(at(100)), ['a']);
        assert_eq!(pulse.wake(at(200)), ['a', 'b'], "b waited for 149 ms");
    }

    #[test]
    fn who_expects_nothing_is_sent_nothing() {
        let mut pulse = Pulse::new(&LAN);
        pulse.begin('a', at(0));
        pulse.begin('b', at(0));
        pulse.end('a');
        pulse.sent('a', at(10));
        assert_eq!(pulse.wake(at(100)), ['b']);
        pulse.end('b');
        assert_eq!(pulse.next_wake(), None);
    }

    #[test]
    fn a_late_look_makes_up_for_nothing() {
        let mut pulse = Pulse::new(&LAN);
        pulse.begin('a', at(0));
        assert_eq!(pulse.wake(at(1_000)), ['a']);
        assert_eq!(pulse.next_wake(), Some(at(1_100)));
    }
}
