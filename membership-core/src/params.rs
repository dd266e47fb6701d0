//! Limits and times of a membership server.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use detector::Profile;

use crate::primary::Rule;

/// How membership servers agree with each other. All of a cluster have to do it alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// All tell all, and vote: the fewest steps.
    #[default]
    Moshe,
    /// One commands, by rank: the fewest messages.
    Wombat,
}

/// Not the name of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownProtocol;

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be moshe or wombat")
    }
}

impl core::error::Error for UnknownProtocol {}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Moshe => "moshe",
            Protocol::Wombat => "wombat",
        })
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Protocol, UnknownProtocol> {
        match text {
            "moshe" => Ok(Protocol::Moshe),
            "wombat" => Ok(Protocol::Wombat),
            _ => Err(UnknownProtocol),
        }
    }
}

/// What the owner of a membership server may choose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    /// How servers agree.
    pub protocol: Protocol,
    /// With Wombat, the time between two beacons of a leader when nothing changes, and between two pings.
    pub beacon: Duration,
    /// How long a change that only adds daemons waits for more of its kind, so that daemons which start together
    /// become one configuration. A change that takes somebody away does not wait for that.
    pub settle: Duration,
    /// How long a change waits for the rest of a configuration that came into being elsewhere, such as under this
    /// server's predecessor: until they are all back, whoever is first would be told that the others are gone.
    pub regather: Duration,
    /// How long a daemon whose stream broke may take to attach again, here or elsewhere, while no other daemon
    /// doubts that it is there. The same for the daemons of a server that was lost.
    pub grace: Duration,
    /// For how long servers take each other's word that a third one is gone, before they believe that only some of
    /// them cannot reach it. No shorter than it takes all of them to see that it is silent.
    pub patience: Duration,
    /// How often a name may leave within a minute or so before it has to wait to come back.
    pub flaps: u32,
    /// How long it waits then. Twice as long after each further time, up to a minute.
    pub hold_down: Duration,
    /// When silence is suspicious. `None` leaves that to connections.
    pub detection: Option<detector::Params>,
    /// Which configuration is the primary component. The same at all servers.
    pub primary: Rule,
    /// How long a daemon may take to write down that it agrees to a primary component. The others go on
    /// without its vote; it is asked again when it has, a few times and given twice as long each time, or in the change
    /// after that.
    pub vote: Duration,
    /// How many daemons there may be, attached here or announced by other servers.
    pub daemons_max: usize,
}

impl Params {
    /// For a kind of network. Whoever lost its server takes as long to see that as a silent peer takes to be seen, and
    /// a little longer to be somewhere else.
    pub fn of(profile: Profile) -> Params {
        let detection = profile.params();
        let (settle, regather, hold_down) = match profile {
            Profile::Fast => {
                (Duration::from_millis(10), Duration::from_millis(500), Duration::from_millis(500))
            }
            Profile::Lan => (Duration::from_millis(20), Duration::from_secs(1), Duration::from_secs(1)),
            Profile::Wan => (Duration::from_millis(500), Duration::from_secs(10), Duration::from_secs(10)),
        };
        Params {
            protocol: Protocol::Moshe,
            beacon: detection.period,
            settle,
            regather,
            grace: detection.ceiling.saturating_mul(2),
            patience: detection.ceiling,
            flaps: 3,
            hold_down,
            detection: Some(detection),
            primary: Rule::None,
            vote: detection.ceiling.saturating_mul(2),
            daemons_max: 128,
        }
    }

    /// For machines that are milliseconds apart.
    pub fn lan() -> Params {
        Params::of(Profile::Lan)
    }

    /// For simulations: no change waits.
    pub fn sim() -> Params {
        Params {
            settle: Duration::ZERO,
            regather: Duration::ZERO,
            grace: Duration::ZERO,
            patience: Duration::ZERO,
            flaps: u32::MAX,
            hold_down: Duration::ZERO,
            detection: None,
            ..Params::lan()
        }
    }
}
