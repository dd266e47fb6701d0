//! What is remembered of a viewer, and when the next fragment is due [FK:context].
//!
//! A fragment is due so long before the viewer gets to it as the lead says. Where the viewer is follows from an
//! absolute schedule: at one time they were at one position, and they have moved on at one rate since. As it does not
//! count from the last response, a response that comes late, or a takeover, shifts nothing, and a gap shorter than the
//! lead is not seen. It also means that a new primary whose clock is ahead of the old one's sends so much more in
//! advance. One whose clock lags behind the last response moves the schedule to its own clock.
//!
//! The schedule is set by the first response after a pause, a seek or a change of rate, which goes at once: requests
//! are applied at every replica, and the replicas have no common time at which they do it.

use core::time::Duration;

use model::Time;
use serde::{Deserialize, Serialize};
use session_core::{Next, Refusal, RefusalKind};

use crate::film::{Film, Fragment};
use crate::request::{Rate, Request};

/// What is remembered of a viewer. At most 50 bytes when encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The fragment to send next; one past the last of them at the end.
    next: u32,
    /// Whether the viewer has the init segment, which is sent once.
    opened: bool,
    playback: Playback,
    rate: Rate,
    schedule: Schedule,
    /// The time of the last response, by the clock of whoever sent it.
    served: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Playback {
    Playing,
    Paused,
}

/// Where the viewer is: at `since` they were at `position`, and they have moved on at `rate` since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Schedule {
    /// Unset until the next response: the viewer has come at least to `position`, and was moving at `rate`.
    since: Option<Time>,
    position: Duration,
    rate: Rate,
}

impl Context {
    /// The context of a new session: playing from the start.
    pub(crate) fn new() -> Context {
        let schedule = Schedule { since: None, position: Duration::ZERO, rate: Rate::NORMAL };
        Context {
            next: 0,
            opened: false,
            playback: Playback::Playing,
            rate: Rate::NORMAL,
            schedule,
            served: Time::ZERO,
        }
    }

    /// Applies a request. Nothing changes if it is refused, and nothing if it asks for what is so already.
    pub(crate) fn apply(&mut self, film: &Film, request: Request) -> Result<(), Refusal> {
        match request {
            Request::Seek { position_ms } => {
                let position = Duration::from_millis(position_ms);
                let target = film.seek(position).and_then(|index| Some((index, film.fragment(index)?.start)));
                let Some((index, start)) = target else {
                    let message =
                        format!("{position:?} is after the end: the film lasts {:?}", film.duration());
                    return Err(Refusal { kind: RefusalKind::OutOfRange, message });
                };
                self.next = index;
                self.schedule = Schedule { since: None, position: start, rate: self.rate };
            }
            Request::Pause {} => {
                self.playback = Playback::Paused;
                self.schedule.since = None;
            }
            Request::Resume {} => self.playback = Playback::Playing,
            Request::Rate { factor } => {
                let rate = Rate::new(factor)?;
                if rate != self.rate {
                    self.rate = rate;
                    self.schedule.since = None;
                }
            }
        }
        Ok(())
    }

    /// What the primary does next at `now`, if viewers are to be served `lead` ahead.
    pub(crate) fn next(&mut self, film: &Film, lead: Duration, now: Time) -> Next {
        let Some(fragment) = film.fragment(self.next) else { return Next::Idle };
        if self.playback == Playback::Paused {
            return Next::Idle;
        }
        let lag = self.served.since(now);
        match self.schedule.due(fragment, lead) {
            None => self.schedule = self.schedule.renewed(fragment, lead, self.rate, now),
            Some(_) if lag > Duration::ZERO => self.schedule = self.schedule.earlier(lag),
            Some(due) if due > now => return Next::At(due),
            Some(_) => {}
        }
        let payload = if self.opened { film.payload(fragment) } else { film.opening(fragment) };
        self.opened = true;
        self.next += 1;
        self.served = now;
        Next::Respond { payload, last: film.fragment(self.next).is_none() }
    }
}

impl Schedule {
    /// When `fragment` is due, if the schedule is set.
    fn due(&self, fragment: &Fragment, lead: Duration) -> Option<Time> {
        let ahead = fragment.start.saturating_sub(self.position);
        Some(self.since? + self.rate.wall(ahead) - lead)
    }

    /// The schedule from `now` on, with `fragment` sent at once. A viewer who was well served is at most so close to it
    /// as the lead says; one who was not yet is still where the schedule began. Should they in truth be further behind,
    /// they get more than they need, which is better than less.
    fn renewed(&self, fragment: &Fragment, lead: Duration, rate: Rate, now: Time) -> Schedule {
        let served = fragment.start.saturating_sub(self.rate.film(lead));
        Schedule { since: Some(now), position: served.max(self.position), rate }
    }

    /// The same schedule by a clock that lags this much behind the one it was made by.
    fn earlier(&self, lag: Duration) -> Schedule {
        Schedule { since: self.since.map(|it| it - lag), ..*self }
    }
}

#[cfg(test)]
mod tests;
