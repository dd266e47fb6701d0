//! What is wrong with the settings of this server or of others, as far as links tell: for logs, once, and for operators
//! who ask, while it lasts. Nothing else comes of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Name, Time};
use proto::membership::v1 as pb;

/// The most names that are remembered.
const NAMES_MAX: usize = 64;

/// How long a trouble is remembered that does not come again. Whoever wants a link tries more often.
const MEMORY: Duration = Duration::from_secs(10);

/// The newest trouble with each name.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<Name, Trouble>>);

#[derive(Clone, Debug)]
struct Trouble {
    reason: String,
    detail: String,
    last: Time,
}

impl Troubles {
    fn known(&self) -> MutexGuard<'_, BTreeMap<Name, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is, or is still, a trouble with the server called `name`.
    pub fn note(&self, now: Time, name: Name, reason: &str, detail: String) {
        let mut known = self.known();
        known.retain(|_, trouble| now.since(trouble.last) < MEMORY);
        if known.len() >= NAMES_MAX && !known.contains_key(&name) {
            return;
        }
        let trouble = Trouble { reason: reason.to_owned(), detail, last: now };
        if known.get(&name).is_none_or(|before| before.reason != trouble.reason) {
            tracing::warn!(server = %name, reason, detail = trouble.detail, "no link with a server");
        }
        known.insert(name, trouble);
    }

    /// All is well with the server called `name`.
    pub fn clear(&self, name: Name) {
        self.known().remove(&name);
    }

    /// What an operator should look at.
    pub fn warnings(&self, now: Time) -> Vec<pb::Warning> {
        let known = self.known();
        let current = known.iter().filter(|(_, trouble)| now.since(trouble.last) < MEMORY);
        let warning = |(name, trouble): (&Name, &Trouble)| pb::Warning {
            reason: trouble.reason.clone(),
            name: name.to_string(),
            detail: trouble.detail.clone(),
        };
        current.map(warning).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_while_it_lasts() {
        let troubles = Troubles::default();
        let (a, b): (Name, Name) = ("a".parse().unwrap(), "b".parse().unwrap());
        let told = |seconds| {
            let warnings = troubles.warnings(Time::ZERO + Duration::from_secs(seconds));
            warnings.into_iter().map(|it| format!("{} {}", it.name, it.reason)).collect::<Vec<_>>()
        };
        troubles.note(Time::ZERO, a, "NO_LINK", "refused".to_owned());
        troubles.note(Time::ZERO + Duration::from_secs(5), b, "UNKNOWN_SERVER", String::new());
        assert_eq!(told(6), ["a NO_LINK", "b UNKNOWN_SERVER"]);
        assert_eq!(told(12), ["b UNKNOWN_SERVER"]);
        troubles.clear(b);
        assert!(told(12).is_empty());
    }
}
