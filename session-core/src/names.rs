//! How the three kinds of groups are called [FK:groups]: clients never see these names, servers compute them.

use alloc::format;

use model::{GroupName, SessionId, UnitId};

/// The prefix of all content groups.
pub const CONTENT_PREFIX: &str = "content/";
const SESSION_PREFIX: &str = "session/";
const SERVICE: &str = "service";

/// What a group is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// All content servers.
    Service,
    /// The servers that hold a replica of the unit.
    Content(UnitId),
    /// The primary and the backups of the session.
    Session(UnitId, SessionId),
}

impl Purpose {
    /// The name of the group for this purpose. Never empty, and short enough since unit ids are.
    pub fn group(&self) -> GroupName {
        let name = match self {
            Purpose::Service => SERVICE.into(),
            Purpose::Content(unit) => format!("{CONTENT_PREFIX}{unit}"),
            Purpose::Session(unit, session) => format!("{SESSION_PREFIX}{unit}/{session}"),
        };
        let group = GroupName::new(&name);
        assert!(group.is_some(), "unit ids and session ids are short");
        group.unwrap_or_else(|| unreachable!())
    }

    /// What `group` is for, if it is one of ours.
    pub fn of(group: &GroupName) -> Option<Purpose> {
        let name = group.as_str();
        if name == SERVICE {
            return Some(Purpose::Service);
        }
        if let Some(unit) = name.strip_prefix(CONTENT_PREFIX) {
            return UnitId::new(unit).map(Purpose::Content);
        }
        let (unit, session) = name.strip_prefix(SESSION_PREFIX)?.rsplit_once('/')?;
        Some(Purpose::Session(UnitId::new(unit)?, session.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_reads_back_from_its_name() {
        let unit = UnitId::new("film-1").unwrap();
        for purpose in
            [Purpose::Service, Purpose::Content(unit.clone()), Purpose::Session(unit, SessionId::new(7))]
        {
            assert_eq!(Purpose::of(&purpose.group()), Some(purpose));
        }
        assert_eq!(Purpose::of(&GroupName::new("somebody-elses").unwrap()), None);
    }
}
