//! The configurations that this server agreed on, and how each came about: for logs, and for those who ask.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use model::{Address, Configuration, DaemonId, Time};

use crate::switchboard::Presence;

/// How many configurations are remembered.
pub const VIEWS_MAX: usize = 64;

/// A configuration, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which.
    pub configuration: Configuration,
    /// When this server knew of it.
    pub time: Time,
    /// Where each member takes connections, and where it is attached.
    pub members: BTreeMap<DaemonId, (Address, Presence)>,
    /// Members that were not in the one before.
    pub joined: Vec<DaemonId>,
    /// Who was in the one before and is not in this one, and why.
    pub left: Vec<(DaemonId, String)>,
}

/// The last configurations.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The newest first.
    pub views: VecDeque<Arc<View>>,
    /// What was refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Why daemons left that are still in the newest configuration.
    departed: BTreeMap<DaemonId, String>,
}

impl History {
    /// A daemon left.
    pub fn depart(&mut self, daemon: DaemonId, cause: String) {
        // Who was told no configuration is missed in none.
        if self.views.front().is_some_and(|view| view.members.contains_key(&daemon)) {
            self.departed.insert(daemon, cause);
        }
    }

    /// Something was refused.
    pub fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    /// There is a new configuration.
    pub fn agree(
        &mut self,
        time: Time,
        configuration: Configuration,
        members: BTreeMap<DaemonId, (Address, Presence)>,
    ) -> Arc<View> {
        let mut departed = std::mem::take(&mut self.departed);
        let nobody = BTreeMap::new();
        let before = self.views.front().map_or(&nobody, |view| &view.members);
        let joined = members.keys().filter(|daemon| !before.contains_key(daemon)).copied().collect();
        let gone = before.iter().filter(|(daemon, _)| !members.contains_key(daemon));
        let left = gone.map(|(daemon, (_, presence))| {
            let elsewhere = match presence {
                Presence::Here => "its stream ended",
                Presence::Elsewhere => "another server, or the link to it, lost it",
            };
            (*daemon, departed.remove(daemon).unwrap_or_else(|| elsewhere.to_owned()))
        });
        let view = Arc::new(View { configuration, time, joined, left: left.collect(), members });
        self.views.push_front(Arc::clone(&view));
        self.views.truncate(VIEWS_MAX);
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Boot, StartId};

    fn daemon(name: &str) -> DaemonId {
        DaemonId::new(name.parse().unwrap(), Boot::new(1))
    }

    fn agree(history: &mut History, counter: u64, names: &[&str]) -> Arc<View> {
        let members = names.iter().map(|name| daemon(name));
        let starts = members.clone().map(|daemon| (daemon, StartId::new(Boot::new(1), counter))).collect();
        let addresses = members.map(|daemon| (daemon, (Address::new("a:1"), Presence::Here))).collect();
        history.agree(Time::ZERO, Configuration::new(counter, starts), addresses)
    }

    #[test]
    fn a_view_says_what_changed_and_why() {
        let mut history = History::default();
        assert_eq!(agree(&mut history, 1, &["a", "b"]).joined, [daemon("a"), daemon("b")]);
        history.depart(daemon("a"), "reset".to_owned());
        history.depart(daemon("x"), "never a member".to_owned());
        let view = agree(&mut history, 2, &["b", "c"]);
        assert_eq!(view.joined, [daemon("c")]);
        assert_eq!(view.left, [(daemon("a"), "reset".to_owned())]);
        assert!(history.departed.is_empty());
    }

    #[test]
    fn the_newest_views_are_remembered() {
        let mut history = History::default();
        for counter in 1..=VIEWS_MAX as u64 + 3 {
            agree(&mut history, counter, &["a"]);
        }
        assert_eq!(history.views.len(), VIEWS_MAX);
        assert_eq!(history.views[0].configuration.id.counter(), VIEWS_MAX as u64 + 3);
    }
}
