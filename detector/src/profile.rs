//! Periods and bounds of detection, for three kinds of network.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

/// How quick detection is, and how much it bears. All members of a cluster are meant to have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Machines in one rack that are not loaded to the brim: a silent peer is gone after a quarter of a second.
    Fast,
    /// A local network: within a second.
    #[default]
    Lan,
    /// Between sites: within a quarter of a minute.
    Wan,
}

/// Not the name of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownProfile;

impl fmt::Display for UnknownProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be fast, lan or wan")
    }
}

impl core::error::Error for UnknownProfile {}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Fast => "fast",
            Profile::Lan => "lan",
            Profile::Wan => "wan",
        })
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Profile, UnknownProfile> {
        match text {
            "fast" => Ok(Profile::Fast),
            "lan" => Ok(Profile::Lan),
            "wan" => Ok(Profile::Wan),
            _ => Err(UnknownProfile),
        }
    }
}

/// What a profile stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Params {
    /// How often to give a sign of life.
    pub period: Duration,
    /// No silence shorter than this is suspicious.
    pub floor: Duration,
    /// Every silence longer than this is.
    pub ceiling: Duration,
    /// In between: a silence longer than the mean of the longest gaps, and so many deviations from it.
    pub deviations: u32,
    /// A link that has been down for this long in all, since it was last whole, counts as cut.
    pub patience: Duration,
    /// A doubted link has to be up for this long before it counts as whole. Doubles each time that it falls again
    /// within [`Params::calm_max`] of having been whole.
    pub calm: Duration,
    /// The most that it doubles to.
    pub calm_max: Duration,
    /// How often to try to reach a doubted peer to which there is no link any more.
    pub probe: Duration,
}

impl Profile {
    /// What it stands for.
    pub const fn params(self) -> Params {
        const fn ms(millis: u64) -> Duration {
            Duration::from_millis(millis)
        }
        match self {
            Profile::Fast => Params {
                period: ms(25),
                floor: ms(100),
                ceiling: ms(220),
                deviations: 3,
                patience: ms(30),
                calm: ms(500),
                calm_max: ms(30_000),
                probe: ms(250),
            },
            Profile::Lan => Params {
                period: ms(100),
                floor: ms(400),
                ceiling: ms(800),
                deviations: 3,
                patience: ms(100),
                calm: ms(1_000),
                calm_max: ms(60_000),
                probe: ms(500),
            },
            Profile::Wan => Params {
                period: ms(1_000),
                floor: ms(3_000),
                ceiling: ms(15_000),
                deviations: 3,
                patience: ms(2_000),
                calm: ms(5_000),
                calm_max: ms(300_000),
                probe: ms(2_000),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const ALL: [Profile; 3] = [Profile::Fast, Profile::Lan, Profile::Wan];

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for profile in ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        for text in ["", "LAN", "lan ", "slow"] {
            assert_eq!(text.parse::<Profile>(), Err(UnknownProfile), "{text:?}");
        }
    }

    /// A beat that is lost to a late wake at either end is no reason for suspicion.
    #[test]
    fn no_profile_suspects_before_three_periods() {
        for profile in ALL {
            let params = profile.params();
            assert!(params.floor >= 3 * params.period && params.ceiling > params.floor, "{profile}");
            assert!(params.calm_max > params.calm && params.calm > params.probe, "{profile}");
        }
    }

    /// What a silent cut may take from the last beat to the report of a cut.
    #[test]
    fn a_silent_cut_is_reported_in_time() {
        for (profile, millis) in [(Profile::Fast, 250), (Profile::Lan, 900), (Profile::Wan, 17_000)] {
            let params = profile.params();
            assert!((params.ceiling + params.patience).as_millis() <= millis, "{profile}");
        }
    }
}
