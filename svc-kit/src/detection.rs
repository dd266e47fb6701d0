//! The table `detection`: when silence on a stream of data is suspicious. Closed connections tell of themselves, and the
//! table `keepalive` is what remains for connections on which nobody beats.

use detector::{Params, Profile};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::dial::Keepalive;

/// The table `detection`. All members of a cluster are meant to have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Detection {
    /// `fast`, `lan` or `wan`.
    #[serde(deserialize_with = "profile", serialize_with = "crate::settings::text")]
    pub profile: Profile,
}

impl Detection {
    /// What the profile stands for.
    pub const fn params(&self) -> Params {
        self.profile.params()
    }

    /// Keepalive where there are beats: it comes after them, in case that they fail.
    pub fn backstop(&self, keepalive: &Keepalive) -> Keepalive {
        Keepalive { timeout: keepalive.timeout.max(2 * self.params().ceiling), ..*keepalive }
    }
}

fn profile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Profile, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// The flag of the table `detection`.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct DetectionArgs {
    /// How quickly silence counts as a failure: fast, lan, unless set, or wan
    #[arg(
        long = "detection-profile",
        visible_alias = "detection",
        id = "detection_profile",
        value_name = "PROFILE"
    )]
    pub profile: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn keepalive_comes_after_beats() {
        let keepalive = Keepalive::default();
        let timeout = |profile| Detection { profile }.backstop(&keepalive).timeout;
        assert_eq!(timeout(Profile::Fast), keepalive.timeout);
        assert_eq!(timeout(Profile::Wan), Duration::from_secs(30));
    }
}
