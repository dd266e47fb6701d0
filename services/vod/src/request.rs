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
