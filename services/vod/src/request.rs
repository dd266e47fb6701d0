//! What a viewer may ask for, as JSON, so that it can be typed by hand.

use core::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use session_core::{Refusal, RefusalKind};

/// A longer request is refused unread.
pub const REQUEST_BYTES_MAX: usize = 256;

const ALLOWED: &str =
    r#"{"seek":{"position_ms":30000}}, {"pause":{}}, {"resume":{}} and {"rate":{"factor":1.5}}"#;

/// A request in a session on a film.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Goes on from another position.
    Seek {
        /// The position, counted from the start of the film.
        position_ms: u64,
    },
    /// Stops. Nothing happens if it stands already.
    Pause {},
    /// Goes on from where it stopped. Nothing happens if it plays already.
    Resume {},
    /// Plays faster or slower.
    Rate {
        /// How many seconds of the film play in a second.
        factor: f64,
    },
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// [`RefusalKind::Malformed`], with what is allowed.
    pub fn parse(request: &[u8]) -> Result<Request, Refusal> {
        let malformed = |what: &dyn fmt::Display| Refusal {
            kind: RefusalKind::Malformed,
            message: format!("not a request to a film: {what}; requests are {ALLOWED}"),
        };
        if request.len() > REQUEST_BYTES_MAX {
            return Err(malformed(&format_args!("{} bytes are too many", request.len())));
        }
        serde_json::from_slice(request).map_err(|reason| malformed(&reason))
    }
}

/// How fast a film plays: seconds of the film per second, in thousandths, so that contexts are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
pub struct Rate {
    permille: u16,
}

impl Rate {
    /// As the film was made.
    pub const NORMAL: Rate = Rate { permille: 1000 };
    const PERMILLE_MIN: u16 = 250;
    const PERMILLE_MAX: u16 = 8000;

    /// The rate nearest to `factor`.
    ///
    /// # Errors
    /// [`RefusalKind::OutOfRange`] if it is below a quarter or above eight.
    pub fn new(factor: f64) -> Result<Rate, Refusal> {
        let permille = (factor * 1000.0).round();
        let allowed = f64::from(Rate::PERMILLE_MIN)..=f64::from(Rate::PERMILLE_MAX);
        if !allowed.contains(&permille) {
            let message = format!("a film plays at a rate between 0.25 and 8, not at {factor}");
            return Err(Refusal { kind: RefusalKind::OutOfRange, message });
        }
        Ok(Rate { permille: permille as u16 })
    }

    /// How long this much of the film takes to play.
    pub fn wall(self, film: Duration) -> Duration {
        scale(film, 1000, self.permille)
    }

    /// How much of the film plays in this time.
    pub fn film(self, wall: Duration) -> Duration {
        scale(wall, self.permille, 1000)
    }
}

fn scale(duration: Duration, by: u16, over: u16) -> Duration {
    let nanos = duration.as_nanos() * u128::from(by) / u128::from(over);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl From<Rate> for u16 {
    fn from(rate: Rate) -> u16 {
        rate.permille
    }
}

/// A number that is no rate, in a context that someone made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARate(u16);

impl fmt::Display for NotARate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} thousandths are not a rate", self.0)
    }
}

impl TryFrom<u16> for Rate {
    type Error = NotARate;

    fn try_from(permille: u16) -> Result<Rate, NotARate> {
        let allowed = Rate::PERMILLE_MIN..=Rate::PERMILLE_MAX;
        allowed.contains(&permille).then_some(Rate { permille }).ok_or(NotARate(permille))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let cases = [
            (r#"{"seek":{"position_ms":30000}}"#, Request::Seek { position_ms: 30_000 }),
            (r#" {"pause": {}} "#, Request::Pause {}),
            (r#"{"resume":{}}"#, Request::Resume {}),
            (r#"{"rate":{"factor":1.5}}"#, Request::Rate { factor: 1.5 }),
            (r#"{"rate":{"factor":2}}"#, Request::Rate { factor: 2.0 }),
        ];
        for (text, expected) in cases {
            assert_eq!(Request::parse(text.as_bytes()), Ok(expected), "{text}");
            let again = serde_json::to_vec(&expected).unwrap();
            assert_eq!(Request::parse(&again), Ok(expected));
        }
    }

    #[test]
    fn other_bytes_are_malformed_and_the_client_is_told_what_is_allowed() {
        let cases: [(&[u8], &str); 13] = [
            (b"", "EOF"),
            (b"pause", "expected value"),
            (b"\"pause\"", "invalid type: unit variant"),
            (b"\xff\xfe", "expected value"),
            (b"{}", "expected value"),
            (b"{\"stop\":{}}", "unknown variant `stop`"),
            (b"{\"pause\":{\"for\":3}}", "unknown field `for`"),
            (b"{\"seek\":{}}", "missing field `position_ms`"),
            (b"{\"seek\":{\"position_ms\":-1}}", "invalid value: integer `-1`"),
            (b"{\"rate\":{\"factor\":1e999}}", "number out of range"),
            (b"{\"rate\":{\"factor\":\"2\"}}", "invalid type: string"),
            (b"{\"pause\":{}}{\"resume\":{}}", "trailing characters"),
            (&[b' '; REQUEST_BYTES_MAX + 1], "257 bytes are too many"),
        ];
        for (request, reason) in cases {
            let refusal = Request::parse(request).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Malformed);
            assert!(refusal.message.contains(reason), "{}", refusal.message);
            assert!(refusal.message.ends_with(ALLOWED));
        }
    }

    #[test]
    fn a_rate_is_exact() {
        let second = Duration::from_secs(1);
        let cases = [(0.25, 4_000), (0.5, 2_000), (1.0, 1_000), (2.0, 500), (8.0, 125), (1.250_2, 800)];
        for (factor, millis) in cases {
            let rate = Rate::new(factor).unwrap();
            assert_eq!(rate.wall(second), Duration::from_millis(millis), "at {factor}");
            assert_eq!(rate.film(Duration::from_millis(millis)), second);
        }
        assert!(Rate::new(2.0).unwrap().film(Duration::MAX) > Duration::from_secs(1 << 33));
    }
}
