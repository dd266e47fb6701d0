//! How units, sessions and fences are told, between the generated types and those of the model: for requests of people,
//! and for what content servers and gateways say to each other.

use bytes::Bytes;
use model::{ConfigurationId, Fence, GroupViewId, SessionId, UnitId};
use proto::gateway::v1 as pb;

use crate::status::bad_field;

/// A field that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Malformed {
    /// Its path.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Malformed {
    /// `field` has this problem.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Malformed {
        Malformed { field, problem: problem.into() }
    }

    /// There is no `field`.
    pub fn missing(field: &'static str) -> Malformed {
        Malformed::new(field, "is missing")
    }

    /// `field` is a name of another form.
    pub fn name(field: &'static str, name: &str, form: &str) -> Malformed {
        Malformed::new(field, format!("{} is not of the form {form}", shown(name)))
    }
}

impl From<Malformed> for tonic::Status {
    fn from(malformed: Malformed) -> tonic::Status {
        bad_field(malformed.field, malformed.problem)
    }
}

/// A text as it is repeated to whoever sent it.
pub fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 200;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The resource name of a unit.
pub fn unit_name(unit: &UnitId) -> String {
    format!("contentUnits/{unit}")
}

/// The resource name of a session.
pub fn session_name(unit: &UnitId, session: SessionId) -> String {
    format!("contentUnits/{unit}/sessions/{session}")
}

/// The unit that `contentUnits/{unit}` names.
pub fn unit(field: &'static str, name: &str) -> Result<UnitId, Malformed> {
    let unit = name.strip_prefix("contentUnits/").and_then(UnitId::new);
    unit.ok_or_else(|| Malformed::name(field, name, "contentUnits/{unit}"))
}

/// The unit and the session that `contentUnits/{unit}/sessions/{session}` names.
pub fn session(field: &'static str, name: &str) -> Result<(UnitId, SessionId), Malformed> {
    let read = || {
        let (unit, session) = name.strip_prefix("contentUnits/")?.split_once("/sessions/")?;
        Some((UnitId::new(unit)?, session.parse().ok()?))
    };
    read().ok_or_else(|| {
        let form = "contentUnits/{unit}/sessions/{session}, with 32 hexadecimal digits for the session";
        Malformed::name(field, name, form)
    })
}

/// A fence, in the words of the contract.
pub fn fence_message(fence: Fence) -> pb::Fence {
    pb::Fence {
        counter: fence.counter(),
        configuration_counter: fence.view().configuration.counter(),
        configuration_digest: fence.view().configuration.digest(),
        position: fence.view().position,
    }
}

/// Reads a fence.
pub fn from_fence(field: &'static str, fence: Option<pb::Fence>) -> Result<Fence, Malformed> {
    let fence = fence.ok_or_else(|| Malformed::missing(field))?;
    let configuration = ConfigurationId::new(fence.configuration_counter, fence.configuration_digest);
    let view = GroupViewId { configuration, position: fence.position };
    Ok(Fence::new(view, fence.counter))
}

/// A session, in the words of the contract.
pub fn session_bytes(session: SessionId) -> Bytes {
    Bytes::copy_from_slice(&session.bits().to_be_bytes())
}

/// Reads a session.
pub fn session_id(field: &'static str, bytes: &[u8]) -> Result<SessionId, Malformed> {
    let bits = bytes.try_into().map_err(|_| Malformed::new(field, "does not have 16 bytes"))?;
    Ok(SessionId::new(u128::from_be_bytes(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_resources_read_back() {
        let (film, id) = (UnitId::new("film-1").unwrap(), SessionId::new(0xabc));
        assert_eq!(unit("parent", &unit_name(&film)), Ok(film.clone()));
        assert_eq!(session("name", &session_name(&film, id)), Ok((film, id)));
        assert_eq!(session_id("session", &session_bytes(id)), Ok(id));
    }

    #[test]
    fn a_malformed_name_is_shown_and_its_form_is_told() {
        let long = format!("contentUnits/{}", "x".repeat(5000));
        for bad in ["", "film-1", "contentUnits/", "contentUnits/Film", "contentUnits/a/b", long.as_str()] {
            let malformed = unit("parent", bad).unwrap_err();
            assert_eq!(malformed.field, "parent");
            assert!(malformed.problem.len() < 300, "{malformed}");
            assert!(malformed.problem.ends_with("is not of the form contentUnits/{unit}"), "{malformed}");
        }
        let id = "0".repeat(32);
        for bad in [
            format!("contentUnits/film/sessions/{}", &id[1..]),
            format!("contentUnits/film/sessions/{}g", &id[1..]),
            format!("contentUnits//sessions/{id}"),
            format!("sessions/{id}"),
        ] {
            assert!(session("name", &bad).is_err(), "{bad}");
        }
    }
}
