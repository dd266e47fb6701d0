//! How configurations came about.

use std::fmt;

use proto::membership::v1 as pb;
use serde::Serialize;

use super::ask::without_boot;
use crate::table::Table;
use crate::words::{listed, time};

/// The configurations that a server remembers, the newest last.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct History(Vec<Change>);

/// A change of configuration.
#[derive(Debug, Serialize)]
pub struct Change {
    time: String,
    configurations: Vec<String>,
    members: Vec<Member>,
    joined: Vec<String>,
    left: Vec<Departure>,
    cuts: Vec<(String, String)>,
}

#[derive(Debug, Serialize)]
struct Member {
    daemon: String,
    server: String,
    configuration: String,
    primary: bool,
}

#[derive(Debug, Serialize)]
struct Departure {
    daemon: String,
    cause: String,
    goodbye: bool,
}

impl History {
    pub fn of(membership: pb::GetMembershipResponse) -> History {
        let views = membership.current.into_iter().chain(membership.history);
        let mut changes: Vec<_> = views.map(|view| Change::of(&view)).collect();
        changes.reverse();
        History(changes)
    }
}

impl Change {
    pub fn of(view: &pb::View) -> Change {
        let members = view.members.iter().map(|it| Member {
            daemon: it.daemon.clone(),
            server: it.server.clone(),
            configuration: it.configuration.clone(),
            primary: it.primary,
        });
        let left = view.left.iter().map(|it| Departure {
            daemon: it.daemon.clone(),
            cause: it.cause.clone(),
            goodbye: it.goodbye,
        });
        Change {
            time: time(&view.time.unwrap_or_default()),
            configurations: view.configurations.clone(),
            members: members.collect(),
            joined: view.joined.clone(),
            left: left.collect(),
            cuts: view.cuts.iter().map(|pair| (pair.a.clone(), pair.b.clone())).collect(),
        }
    }

    /// As lines that can be printed one after the other.
    pub fn lines(&self) -> String {
        let configurations = self.configurations();
        let line = |event| format!("{}  {configurations}  {event}\n", self.time);
        self.events().into_iter().map(line).collect()
    }

    fn configurations(&self) -> String {
        if self.configurations.is_empty() { "-".to_owned() } else { self.configurations.join(" ") }
    }

    fn members_of(&self, configuration: &str) -> Vec<&str> {
        let them = self.members.iter().filter(|it| it.configuration == configuration);
        them.map(|it| without_boot(&it.daemon)).collect()
    }

    fn is_primary(&self, configuration: &str) -> bool {
        self.members.iter().any(|it| it.primary && it.configuration == configuration)
    }

    /// How many members each configuration has.
    fn sizes(&self) -> String {
        let sizes = self.configurations.iter().map(|it| self.members_of(it).len().to_string());
        if self.configurations.is_empty() { "0".to_owned() } else { sizes.collect::<Vec<_>>().join("+") }
    }

    /// What happened, a sentence each.
    fn events(&self) -> Vec<String> {
        let is_back = |name: &str| self.joined.iter().any(|it| without_boot(it) == name);
        let left = self.left.iter().map(|it| {
            let (name, cause) = (without_boot(&it.daemon), &it.cause);
            match (is_back(name), it.goodbye) {
                (true, _) => format!("{name} has started again: {cause}"),
                (false, true) => format!("{name} left: {cause}"),
                (false, false) => format!("{name} excluded: {cause}"),
            }
        });
        let is_old = |name: &&str| self.left.iter().any(|it| without_boot(&it.daemon) == *name);
        let joined: Vec<&str> =
            self.joined.iter().map(|it| without_boot(it)).filter(|name| !is_old(name)).collect();
        let joined = (!joined.is_empty()).then(|| format!("{} joined", listed(&joined)));
        let cuts = self
            .cuts
            .iter()
            .map(|(a, b)| format!("{} and {} cannot reach each other", without_boot(a), without_boot(b)));
        let parts = self.configurations.iter().filter(|_| self.configurations.len() > 1);
        let parts = parts.map(|it| {
            let primary = if self.is_primary(it) { ", the primary component" } else { "" };
            format!("{it} is {}{primary}", listed(&self.members_of(it)))
        });
        let events: Vec<String> = left.chain(joined).chain(cuts).chain(parts).collect();
        if events.is_empty() { vec!["nobody came or left".to_owned()] } else { events }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "no change of configuration since this server started");
        }
        let mut table = Table::new(["TIME", "CONFIGURATION", "MEMBERS", "WHAT HAPPENED"]);
        for change in &self.0 {
            let mut heading = [change.time.clone(), change.configurations(), change.sizes()];
            for event in change.events() {
                let [time, configurations, sizes] = std::mem::take(&mut heading);
                table.row([time, configurations, sizes, event]);
            }
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(seconds: i64, configurations: &[(&str, &[&str])]) -> pb::View {
        let member = |configuration: &str, name: &str| pb::ViewMember {
            daemon: format!("{name}#7"),
            configuration: configuration.to_owned(),
            primary: configuration == "v4.d",
            ..pb::ViewMember::default()
        };
        pb::View {
            configurations: configurations.iter().map(|(id, _)| (*id).to_owned()).collect(),
            time: Some(prost_types::Timestamp { seconds, nanos: 123_456_789 }),
            members: configurations
                .iter()
                .flat_map(|(id, members)| members.iter().map(|name| member(id, name)))
                .collect(),
            ..pb::View::default()
        }
    }

    fn left(name: &str, cause: &str, goodbye: bool) -> pb::Departure {
        pb::Departure { daemon: format!("{name}#7"), cause: cause.to_owned(), goodbye }
    }

    fn history() -> History {
        let ids = |names: &[&str]| names.iter().map(|name| format!("{name}#7")).collect::<Vec<_>>();
        let all = ["machine-1", "machine-2", "machine-3"];
        let start = pb::View { joined: ids(&all), ..view(1, &[("v1.a", &all)]) };
        let silent = "silent for 1.2 s, reported by machine-1 and machine-2";
        let crash = pb::View { left: vec![left(all[2], silent, false)], ..view(2, &[("v2.b", &all[..2])]) };
        let restart = pb::View {
            left: vec![left(all[1], "its stream broke", false)],
            joined: vec!["machine-2#8".to_owned(), "machine-4#7".to_owned()],
            ..view(3, &[("v3.c", &["machine-1", "machine-2", "machine-4"])])
        };
        let cut = pb::View {
            left: vec![left("machine-4", "it said goodbye", true)],
            cuts: vec![pb::Pair { a: "machine-1#7".to_owned(), b: "machine-2#8".to_owned() }],
            ..view(4, &[("v4.d", &all[..1]), ("v4.e", &all[1..2])])
        };
        let moved = view(5, &[("v5.f", &all[..1])]);
        let nobody = pb::View { left: vec![left(all[0], "its stream broke", false)], ..view(6, &[]) };
        History::of(pb::GetMembershipResponse {
            current: Some(nobody),
            history: vec![moved, cut, restart, crash, start],
            ..pb::GetMembershipResponse::default()
        })
    }

    #[test]
    fn a_history_tells_who_came_and_who_left_and_why() {
        let expected = "\
TIME                       CONFIGURATION   MEMBERS   WHAT HAPPENED
1970-01-01T00:00:01.123Z   v1.a            3         machine-1, machine-2 and machine-3 joined
1970-01-01T00:00:02.123Z   v2.b            2         machine-3 excluded: silent for 1.2 s, reported by machine-1 and machine-2
1970-01-01T00:00:03.123Z   v3.c            3         machine-2 has started again: its stream broke
                                                     machine-4 joined
1970-01-01T00:00:04.123Z   v4.d v4.e       1+1       machine-4 left: it said goodbye
                                                     machine-1 and machine-2 cannot reach each other
                                                     v4.d is machine-1, the primary component
                                                     v4.e is machine-2
1970-01-01T00:00:05.123Z   v5.f            1         nobody came or left
1970-01-01T00:00:06.123Z   -               0         machine-1 excluded: its stream broke
";
        assert_eq!(history().to_string(), expected);
    }

    #[test]
    fn a_server_that_has_just_started_has_no_history() {
        let empty = History::of(pb::GetMembershipResponse::default());
        assert_eq!(empty.to_string(), "no change of configuration since this server started\n");
    }

    #[test]
    fn each_event_is_a_line() {
        let expected = "\
1970-01-01T00:00:03.123Z  v3.c  machine-2 has started again: its stream broke
1970-01-01T00:00:03.123Z  v3.c  machine-4 joined
";
        assert_eq!(history().0[2].lines(), expected);
    }

    #[test]
    fn the_json_has_the_cause() {
        let json = serde_json::to_value(history()).unwrap();
        assert_eq!(json[1]["left"][0]["daemon"], "machine-3#7");
        assert_eq!(json[1]["left"][0]["cause"], "silent for 1.2 s, reported by machine-1 and machine-2");
    }
}
