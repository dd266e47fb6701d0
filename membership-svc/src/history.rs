//! What servers agreed on, and how it came about: for logs, and for those who ask.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use membership_core::{Agreed, Departure, Leave};
use model::Time;

/// How many agreements are remembered.
pub const VIEWS_MAX: usize = 64;

/// What was agreed on, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What.
    pub agreed: Agreed,
    /// When this server knew of it.
    pub time: Time,
}

/// The last agreements.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The newest first.
    pub views: VecDeque<Arc<View>>,
    /// What was refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

impl History {
    /// Something was refused.
    pub fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    /// There are new configurations.
    pub fn agree(&mut self, time: Time, agreed: Agreed) -> Arc<View> {
        let view = Arc::new(View { agreed, time });
        self.views.push_front(Arc::clone(&view));
        self.views.truncate(VIEWS_MAX);
        view
    }
}

/// Who left and why, such as "machine-3#7 (silent for 1.2 s, doubted by machine-1 and machine-2)".
pub fn told(departure: &Departure) -> String {
    format!("{} ({})", departure.daemon, cause(departure))
}

/// Why a daemon left, for people.
pub fn cause(departure: &Departure) -> String {
    let stream = match departure.leave {
        Some(leave) => of_leave(leave),
        None => "its server said nothing of it".to_owned(),
    };
    let doubts: Vec<_> = departure
        .doubted_by
        .iter()
        .map(|(daemon, silent)| match silent.as_millis() {
            0 => daemon.name().to_string(),
            _ => format!("{} (nothing heard for {})", daemon.name(), seconds(*silent)),
        })
        .collect();
    match doubts.split_last() {
        None => stream,
        Some((only, [])) => format!("{stream}, reported by {only}"),
        Some((last, others)) => format!("{stream}, reported by {} and {last}", others.join(", ")),
    }
}

/// What became of a daemon's stream, for people.
pub fn of_leave(leave: Leave) -> String {
    match leave {
        Leave::Goodbye => "it said goodbye".to_owned(),
        Leave::Closed => "its stream broke".to_owned(),
        Leave::Silent(time) => format!("silent for {}", seconds(time)),
        Leave::Barred => "kept out by an operator".to_owned(),
        Leave::Superseded => "it has started again".to_owned(),
        Leave::Rejected => "rejected".to_owned(),
        Leave::ServerLost(server) => format!("lost with its server {server}"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Boot, Configuration, DaemonId, StartId};
    use std::collections::BTreeSet;

    fn daemon(name: &str) -> DaemonId {
        DaemonId::new(name.parse().unwrap(), Boot::new(1))
    }

    fn agree(history: &mut History, counter: u64, names: &[&str]) -> Arc<View> {
        let starts = names.iter().map(|name| (daemon(name), StartId::new(Boot::new(1), counter))).collect();
        let configurations = vec![Configuration::new(counter, starts)];
        let (seats, joined, left, cuts) = (BTreeMap::new(), BTreeSet::new(), Vec::new(), Vec::new());
        history.agree(Time::ZERO, Agreed { configurations, seats, joined, left, cuts })
    }

    #[test]
    fn the_newest_views_are_remembered() {
        let mut history = History::default();
        for counter in 1..=VIEWS_MAX as u64 + 3 {
            agree(&mut history, counter, &["a"]);
        }
        assert_eq!(history.views.len(), VIEWS_MAX);
        let newest = &history.views[0].agreed.configurations[0];
        assert_eq!(newest.id.counter(), VIEWS_MAX as u64 + 3);
    }

    #[test]
    fn a_cause_reads_well() {
        let silent = Duration::from_millis(1200);
        let departure = |leave, doubts: &[(&str, Duration)]| Departure {
            daemon: daemon("machine-3"),
            leave,
            doubted_by: doubts.iter().map(|(name, silent)| (daemon(name), *silent)).collect(),
        };
        let by = [("machine-1", Duration::ZERO), ("machine-2", silent)];
        for (departure, text) in [
            (departure(Some(Leave::Goodbye), &[]), "it said goodbye"),
            (departure(Some(Leave::Silent(silent)), &by[..1]), "silent for 1.2 s, reported by machine-1"),
            (
                departure(Some(Leave::Closed), &by),
                "its stream broke, reported by machine-1 and machine-2 (nothing heard for 1.2 s)",
            ),
            (departure(None, &[]), "its server said nothing of it"),
        ] {
            assert_eq!(cause(&departure), text);
        }
    }
}
