//! Whether the server of a session does what is due, as far as its gateway can tell: that is where it shows
//! ([ADR 14](../../../docs/adr/0014-gateways-watch-primaries-say-when-they-rest.md)).

use core::time::Duration;

use model::Time;

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// For nothing that a server would have to do.
    No,
    /// For a response, unless its server rests.
    Response,
    /// For an answer, which there is whatever the service does.
    Answer,
}

/// What a server said of the time in which it has nothing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    No,
    Until(Time),
    /// Until a request comes.
    UntilAsked,
}

/// What a gateway remembers of a session's silence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// Silence counts from here.
    since: Time,
    /// As if there had been no complaint.
    quiet_since: Time,
    rest: Rest,
    /// How often this gateway complained of this silence.
    complaints: u32,
}

impl Watch {
    /// Nothing is said from the beginning of time.
    pub(super) fn new() -> Watch {
        Watch { since: Time::ZERO, quiet_since: Time::ZERO, rest: Rest::No, complaints: 0 }
    }

    /// Something came from the server.
    pub(super) fn hear(&mut self, now: Time) {
        *self = Watch { since: now, quiet_since: now, ..Watch::new() };
    }

    /// Something is asked of the server that was not before.
    pub(super) fn ask(&mut self, now: Time) {
        self.since = self.since.max(now);
        self.quiet_since = self.quiet_since.max(now);
    }

    /// The server says that it has nothing to send for this time, or before a request comes.
    pub(super) fn rest(&mut self, now: Time, time: Option<Duration>) {
        self.hear(now);
        self.rest = time.map_or(Rest::UntilAsked, |time| Rest::Until(now + time));
    }

    /// Since when the server is silent, but for the time in which it has nothing to send.
    pub(super) fn quiet_since(&self, now: Time) -> Time {
        match self.rest {
            Rest::No => self.quiet_since,
            Rest::Until(time) => self.quiet_since.max(time).min(now),
            Rest::UntilAsked => now,
        }
    }

    /// Whether the server said so.
    pub(super) fn is_resting(&self) -> bool {
        self.rest != Rest::No
    }

    /// Whether there was a complaint, and nothing came since.
    pub(super) fn has_complained(&self) -> bool {
        self.complaints > 0
    }

    /// A complaint is made.
    pub(super) fn complain(&mut self, now: Time) {
        self.complaints += 1;
        self.since = now;
    }

    /// When silence has lasted too long. Who complains again does so sooner.
    pub(super) fn deadline(&self, waits: Waits, patience: Duration) -> Option<Time> {
        let from = match (waits, self.rest) {
            (Waits::No, _) | (Waits::Response, Rest::UntilAsked) => return None,
            (Waits::Response, Rest::Until(time)) => self.since.max(time),
            (Waits::Response, Rest::No) | (Waits::Answer, _) => self.since,
        };
        Some(from + if self.has_complained() { patience / 2 } else { patience })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(4);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_too_long_after_a_while_and_sooner_the_second_time() {
        let mut watch = Watch::new();
        watch.hear(at(10));
        assert_eq!(watch.deadline(Waits::Response, PATIENCE), Some(at(14)));
        watch.ask(at(12));
        assert_eq!(watch.deadline(Waits::Answer, PATIENCE), Some(at(16)));
        assert_eq!(watch.deadline(Waits::No, PATIENCE), None);
        watch.complain(at(16));
        assert_eq!(watch.quiet_since(at(17)), at(12));
        assert_eq!(watch.deadline(Waits::Response, PATIENCE), Some(at(18)));
        watch.hear(at(17));
        assert!(!watch.has_complained());
        assert_eq!(watch.deadline(Waits::Response, PATIENCE), Some(at(21)));
    }

    #[test]
    fn who_rests_owes_answers_and_nothing_else() {
        let mut watch = Watch::new();
        watch.rest(at(10), Some(Duration::from_secs(60)));
        assert_eq!(watch.deadline(Waits::Response, PATIENCE), Some(at(74)));
        assert_eq!(watch.deadline(Waits::Answer, PATIENCE), Some(at(14)));
        assert_eq!([at(50), at(72)].map(|now| watch.quiet_since(now)), [at(50), at(70)]);
        watch.rest(at(20), None);
        assert_eq!(watch.deadline(Waits::Response, PATIENCE), None);
        watch.ask(at(30));
        assert_eq!(watch.deadline(Waits::Answer, PATIENCE), Some(at(34)));
        assert!(watch.is_resting());
        watch.hear(at(31));
        assert_eq!(watch.deadline(Waits::Response, PATIENCE), Some(at(35)));
    }
}
