//! Limits and times of a membership server.

use core::time::Duration;

/// What the owner of a membership server may choose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    /// How long a change that only adds daemons waits for more of its kind, so that daemons which start together
    /// become one configuration. A change that takes somebody away never waits.
    pub settle: Duration,
    /// The same, for a server that has just started alone and to which daemons come back from a configuration of
    /// its predecessor: until they are all back, whoever is first would be told that the others are gone.
    pub regather: Duration,
    /// How many daemons there may be, attached here or announced by other servers.
    pub daemons_max: usize,
}

impl Params {
    /// For machines that are milliseconds apart.
    pub const fn lan() -> Params {
        Params { settle: Duration::from_millis(20), regather: Duration::from_secs(1), daemons_max: 128 }
    }

    /// For simulations: nothing waits.
    pub const fn sim() -> Params {
        Params { settle: Duration::ZERO, regather: Duration::ZERO, daemons_max: Params::lan().daemons_max }
    }
}
