//! Which sessions an operator wants to see: a small part of the filters of AIP-160, comparisons with `AND` between them.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

use proto::server::v1::{ClientState, Role, SessionState, SessionStatus};

/// A filter longer than this is nobody's.
const LENGTH_MAX: usize = 4096;

/// Comparisons, all of which a session has to stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter(Vec<Term>);

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// At which character, from 1.
    at: usize,
    expected: &'static str,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: expected {}", self.at, self.expected)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Text { field: Text, is_equal: bool, value: String },
    Number { field: Number, relation: Relation, value: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Session,
    Unit,
    Primary,
    Backup,
    Gateway,
    State,
    Client,
    Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Requests,
    Responses,
    Edition,
    Stalls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

const FIELDS: &str = "a field: session, unit, primary, backup, gateway, state, client, role, requests, \
                      responses, edition or stalls";
const RELATIONS: &str = "=, !=, <, <=, > or >=";

impl Filter {
    /// Reads a filter. An empty one is for all sessions.
    pub(crate) fn parse(text: &str) -> Result<Filter, Mistake> {
        if text.len() > LENGTH_MAX {
            return Err(Mistake { at: LENGTH_MAX, expected: "the end of so long a filter" });
        }
        let mut words = Words { text, characters: text.char_indices().peekable() };
        let mut terms = Vec::new();
        if words.is_over() {
            return Ok(Filter(terms));
        }
        loop {
            terms.push(words.term()?);
            if words.is_over() {
                return Ok(Filter(terms));
            }
            let at = words.place();
            if words.word() != "AND" {
                return Err(Mistake { at, expected: "AND, or the end" });
            }
        }
    }

    /// Whether a session is wanted.
    pub(crate) fn admits(&self, session: &SessionStatus) -> bool {
        self.0.iter().all(|term| match term {
            Term::Text { field, is_equal, value } => field.is(session, value) == *is_equal,
            Term::Number { field, relation, value } => relation.holds(field.of(session), *value),
        })
    }
}

impl Text {
    fn is(self, session: &SessionStatus, value: &str) -> bool {
        match self {
            Text::Session => session.name.rsplit('/').next() == Some(value),
            Text::Unit => session.name.split('/').nth(1) == Some(value),
            Text::Primary => session.primary_server == value,
            Text::Backup => session.backup_servers.iter().any(|backup| backup == value),
            Text::Gateway => session.gateway == value,
            Text::State => session.state().as_str_name().strip_prefix("SESSION_STATE_") == Some(value),
            Text::Client => session.client().as_str_name().strip_prefix("CLIENT_STATE_") == Some(value),
            Text::Role => session.role().as_str_name().strip_prefix("ROLE_") == Some(value),
        }
    }

    /// What a value has to be, if not any text will do.
    fn expects(self, value: &str) -> Option<&'static str> {
        let (known, expected) = match self {
            Text::State => (
                SessionState::from_str_name(&format!("SESSION_STATE_{value}")).is_some(),
                "ACTIVE, CLAIMED or UNSERVED",
            ),
            Text::Client => (
                ClientState::from_str_name(&format!("CLIENT_STATE_{value}")).is_some(),
                "ATTACHED or DETACHED",
            ),
            Text::Role => {
                (Role::from_str_name(&format!("ROLE_{value}")).is_some(), "PRIMARY, BACKUP or NONE")
            }
            Text::Session | Text::Unit | Text::Primary | Text::Backup | Text::Gateway => (true, ""),
        };
        (!known).then_some(expected)
    }
}

impl Number {
    fn of(self, session: &SessionStatus) -> u64 {
        match self {
            Number::Requests => session.requests,
            Number::Responses => session.responses,
            Number::Edition => session.edition.into(),
            Number::Stalls => session.stalls.into(),
        }
    }
}

impl Relation {
    fn holds(self, one: u64, other: u64) -> bool {
        match self {
            Relation::Equal => one == other,
            Relation::Unequal => one != other,
            Relation::Less => one < other,
            Relation::AtMost => one <= other,
            Relation::Greater => one > other,
            Relation::AtLeast => one >= other,
        }
    }
}

/// The rest of a filter.
struct Words<'a> {
    text: &'a str,
    characters: Peekable<CharIndices<'a>>,
}

impl Words<'_> {
    fn is_over(&mut self) -> bool {
        while self.characters.next_if(|(_, it)| it.is_whitespace()).is_some() {}
        self.characters.peek().is_none()
    }

    /// Which character is next, past white space, from 1.
    fn place(&mut self) -> usize {
        let rest = if self.is_over() { self.text.len() } else { self.offset() };
        self.text.get(..rest).unwrap_or_default().chars().count() + 1
    }

    fn offset(&mut self) -> usize {
        self.characters.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &str {
        self.is_over();
        let from = self.offset();
        while self.characters.next_if(|(_, it)| belongs(*it)).is_some() {}
        let to = self.offset();
        self.text.get(from..to).unwrap_or_default()
    }

    fn word(&mut self) -> &str {
        self.take_while(|it| it.is_alphanumeric() || "-_.".contains(it))
    }

    fn term(&mut self) -> Result<Term, Mistake> {
        let at = self.place();
        let name = self.word().to_owned();
        if let Some(field) = number(&name) {
            let relation = self.relation(RELATIONS, |_| true)?;
            let at = self.place();
            let value = self.value()?.parse();
            let value = value.map_err(|_| Mistake { at, expected: "a whole number" })?;
            return Ok(Term::Number { field, relation, value });
        }
        let field = text(&name).ok_or(Mistake { at, expected: FIELDS })?;
        let is_sameness = |it| matches!(it, Relation::Equal | Relation::Unequal);
        let relation = self.relation("= or !=", is_sameness)?;
        let at = self.place();
        let mut value = self.value()?;
        if matches!(field, Text::State | Text::Client | Text::Role) {
            // Tables show them in small letters.
            value.make_ascii_uppercase();
        }
        match field.expects(&value) {
            Some(expected) => Err(Mistake { at, expected }),
            None => Ok(Term::Text { field, is_equal: relation == Relation::Equal, value }),
        }
    }

    fn relation(
        &mut self,
        expected: &'static str,
        fits: impl Fn(Relation) -> bool,
    ) -> Result<Relation, Mistake> {
        let at = self.place();
        let relation = match self.take_while(|it| "=!<>".contains(it)) {
            "=" => Some(Relation::Equal),
            "!=" => Some(Relation::Unequal),
            "<" => Some(Relation::Less),
            "<=" => Some(Relation::AtMost),
            ">" => Some(Relation::Greater),
            ">=" => Some(Relation::AtLeast),
            _ => None,
        };
        relation.filter(|it| fits(*it)).ok_or(Mistake { at, expected })
    }

    /// A word, or whatever stands between quotation marks; a backslash makes the next character a part of it.
    fn value(&mut self) -> Result<String, Mistake> {
        let at = self.place();
        if self.characters.next_if(|(_, it)| *it == '"').is_none() {
            let word = self.word();
            return if word.is_empty() {
                Err(Mistake { at, expected: "a value" })
            } else {
                Ok(word.to_owned())
            };
        }
        let mut value = String::new();
        while let Some((_, it)) = self.characters.next() {
            match it {
                '"' => return Ok(value),
                '\\' => value.extend(self.characters.next().map(|(_, it)| it)),
                it => value.push(it),
            }
        }
        Err(Mistake { at: self.place(), expected: "a quotation mark" })
    }
}

fn text(name: &str) -> Option<Text> {
    Some(match name {
        "session" => Text::Session,
        "unit" => Text::Unit,
        "primary" => Text::Primary,
        "backup" => Text::Backup,
        "gateway" => Text::Gateway,
        "state" => Text::State,
        "client" => Text::Client,
        "role" => Text::Role,
        _ => return None,
    })
}

fn number(name: &str) -> Option<Number> {
    Some(match name {
        "requests" => Number::Requests,
        "responses" => Number::Responses,
        "edition" => Number::Edition,
        "stalls" => Number::Stalls,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionStatus {
        SessionStatus {
            name: "contentUnits/life/sessions/0123".into(),
            primary_server: "server-2".into(),
            backup_servers: vec!["server-1".into(), "server-3".into()],
            gateway: "gateway-1".into(),
            responses: 100,
            edition: 1,
            state: SessionState::Active.into(),
            client: ClientState::Detached.into(),
            role: Role::Backup.into(),
            ..SessionStatus::default()
        }
    }

    #[test]
    fn sessions_are_compared_field_by_field() {
        for (filter, expected) in [
            ("", true),
            ("  ", true),
            ("unit = \"life\" AND primary = \"server-2\" AND state = ACTIVE", true),
            ("unit=life AND primary=server-1", false),
            ("primary != server-1", true),
            ("backup = server-3", true),
            ("backup = server-2", false),
            ("backup != server-3", false),
            ("session = 0123 AND gateway = gateway-1", true),
            ("client = DETACHED AND role = BACKUP", true),
            ("client = ATTACHED", false),
            ("state = active AND client = detached AND role = backup", true),
            ("responses >= 100 AND responses <= 100 AND responses = 100", true),
            ("responses > 100", false),
            ("responses < 100", false),
            ("requests != 0", false),
            ("stalls < 1 AND edition > 0", true),
            ("unit = \"a\\\"b\"", false),
        ] {
            let parsed = Filter::parse(filter).unwrap_or_else(|mistake| panic!("{filter}: {mistake}"));
            assert_eq!(parsed.admits(&session()), expected, "{filter}");
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for (filter, at, expected) in [
            ("colour = red", 1, FIELDS),
            ("= red", 1, FIELDS),
            ("unit life", 6, "= or !="),
            ("unit > life", 6, "= or !="),
            ("unit =", 7, "a value"),
            ("unit = life OR unit = gradients", 13, "AND, or the end"),
            ("unit = life AND", 16, FIELDS),
            ("unit = \"größe\" AND responses = many", 32, "a whole number"),
            ("responses ~ 3", 11, RELATIONS),
            ("responses => 3", 11, RELATIONS),
            ("responses = 99999999999999999999", 13, "a whole number"),
            ("state = idle", 9, "ACTIVE, CLAIMED or UNSERVED"),
            ("client = AWAY", 10, "ATTACHED or DETACHED"),
            ("role = LEADER", 8, "PRIMARY, BACKUP or NONE"),
            ("unit = \"life", 13, "a quotation mark"),
        ] {
            assert_eq!(Filter::parse(filter), Err(Mistake { at, expected }), "{filter}");
        }
        assert!(Filter::parse(&" ".repeat(LENGTH_MAX + 1)).is_err());
    }

    #[test]
    fn whatever_is_written_is_read_or_refused() {
        let alphabet = ["unit", "=", "!", "<", "\"", "\\", "AND", " ", "ü", "7", "responses", "", "\u{0}"];
        for number in 0..alphabet.len().pow(4) {
            let piece = |place: usize| alphabet[number / alphabet.len().pow(place as u32) % alphabet.len()];
            let _ = Filter::parse(&(0..4).map(piece).collect::<String>());
        }
    }
}
