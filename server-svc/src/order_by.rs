//! In which order an operator wants to see sessions: fields as in AIP-132, with `desc` after those whose greatest values come
//! first.

use std::cmp::Ordering;
use std::fmt;

use proto::server::v1::SessionStatus;
use serde::{Deserialize, Serialize};

/// An order by more fields than there are is nobody's.
const FIELDS_MAX: usize = 10;

const FIELDS: &str = "session, unit, primary, gateway, requests, responses, edition, stalls or context_age";

/// An order of sessions. Those that are alike in all of its fields are in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderBy(Vec<(Field, Direction)>);

/// What cannot be an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake(String);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not one of {FIELDS}, or one of them with `desc`", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ascending,
    Descending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Session,
    Unit,
    Primary,
    Gateway,
    Requests,
    Responses,
    Edition,
    Stalls,
    ContextAge,
}

/// What sessions are compared by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
enum Key {
    Number(u64),
    Text(String),
}

/// Where in the order a session is: the page after it begins there, whatever has become of the session meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    keys: Vec<Key>,
    name: String,
}

impl OrderBy {
    /// Reads an order, such as `stalls desc, unit`.
    ///
    /// # Errors
    /// If it names what sessions do not have, or goes on for too long.
    pub fn parse(text: &str) -> Result<OrderBy, Mistake> {
        let fields = text.split(',').take(if text.trim().is_empty() { 0 } else { usize::MAX });
        let fields: Vec<_> = fields
            .map(|it| field(it).ok_or_else(|| Mistake(it.trim().to_owned())))
            .collect::<Result<_, _>>()?;
        if fields.len() > FIELDS_MAX {
            return Err(Mistake(text.to_owned()));
        }
        Ok(OrderBy(fields))
    }

    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which of two sessions comes first.
    pub fn compare(&self, one: &SessionStatus, other: &SessionStatus) -> Ordering {
        self.compare_places(&self.place(one), &self.place(other))
    }

    /// Where a session is.
    pub(crate) fn place(&self, session: &SessionStatus) -> Place {
        Place {
            keys: self.0.iter().map(|(field, _)| field.of(session)).collect(),
            name: session.name.clone(),
        }
    }

    /// Which of two places comes first.
    pub(crate) fn compare_places(&self, one: &Place, other: &Place) -> Ordering {
        let pairs = one.keys.iter().zip(&other.keys).zip(&self.0);
        let by_fields = pairs.map(|((one, other), (_, direction))| match direction {
            Direction::Ascending => one.cmp(other),
            Direction::Descending => other.cmp(one),
        });
        by_fields.fold(Ordering::Equal, Ordering::then).then_with(|| one.name.cmp(&other.name))
    }

    /// Whether a place may be one in this order.
    pub(crate) fn has(&self, place: &Place) -> bool {
        place.keys.len() == self.0.len()
    }
}

impl Field {
    fn of(self, session: &SessionStatus) -> Key {
        let part = |number: usize| session.name.split('/').nth(number).unwrap_or_default().to_owned();
        match self {
            Field::Session => Key::Text(part(3)),
            Field::Unit => Key::Text(part(1)),
            Field::Primary => Key::Text(session.primary_server.clone()),
            Field::Gateway => Key::Text(session.gateway.clone()),
            Field::Requests => Key::Number(session.requests),
            Field::Responses => Key::Number(session.responses),
            Field::Edition => Key::Number(session.edition.into()),
            Field::Stalls => Key::Number(session.stalls.into()),
            Field::ContextAge => {
                let age = session.context_age.and_then(|age| std::time::Duration::try_from(age).ok());
                Key::Number(age.map_or(0, |age| age.as_micros().try_into().unwrap_or(u64::MAX)))
            }
        }
    }
}

fn field(text: &str) -> Option<(Field, Direction)> {
    let mut words = text.split_whitespace();
    let field = match words.next()? {
        "session" => Field::Session,
        "unit" => Field::Unit,
        "primary" => Field::Primary,
        "gateway" => Field::Gateway,
        "requests" => Field::Requests,
        "responses" => Field::Responses,
        "edition" => Field::Edition,
        "stalls" => Field::Stalls,
        "context_age" => Field::ContextAge,
        _ => return None,
    };
    match (words.next(), words.next()) {
        (None, None) => Some((field, Direction::Ascending)),
        (Some("desc"), None) => Some((field, Direction::Descending)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, responses: u64, stalls: u32) -> SessionStatus {
        SessionStatus {
            name: format!("contentUnits/life/sessions/{id}"),
            responses,
            stalls,
            ..SessionStatus::default()
        }
    }

    #[test]
    fn sessions_are_in_the_order_of_the_fields_and_of_their_names() {
        let sessions = [session("c", 9, 1), session("a", 10, 0), session("d", 9, 0), session("b", 9, 0)];
        for (order, expected) in [
            ("", "abcd"),
            ("responses", "bcda"),
            ("responses desc", "abcd"),
            (" stalls  desc ,responses desc", "cabd"),
            ("session desc", "dcba"),
            ("unit, stalls", "abdc"),
        ] {
            let order_by = OrderBy::parse(order).unwrap();
            let mut sorted = sessions.to_vec();
            sorted.sort_by(|one, other| order_by.compare(one, other));
            let ids: String = sorted.iter().filter_map(|it| it.name.chars().last()).collect();
            assert_eq!(ids, expected, "{order}");
        }
    }

    #[test]
    fn what_is_no_order_is_named() {
        for (order, mistake) in [
            ("colour", "colour"),
            ("responses down", "responses down"),
            ("responses desc desc", "responses desc desc"),
            ("responses, ", ""),
            ("stalls desc,Unit", "Unit"),
        ] {
            assert_eq!(OrderBy::parse(order), Err(Mistake(mistake.to_owned())), "{order}");
        }
        assert!(OrderBy::parse(&["unit"; FIELDS_MAX + 1].join(",")).is_err());
    }
}
