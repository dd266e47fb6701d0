//! Who is there: daemons, servers, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use proto::membership::v1 as pb;
use serde::Serialize;

use super::ask::without_boot;
use crate::table::Table;
use crate::words::listed;

/// All daemons and servers, as one server knows them.
#[derive(Debug, Serialize)]
pub struct Roll {
    server: String,
    agrees_with: Vec<String>,
    daemons: Vec<DaemonRow>,
    warnings: Vec<Warning>,
}

#[derive(Debug, Serialize)]
struct DaemonRow {
    daemon: String,
    address: String,
    server: String,
    configuration: String,
    /// Whether that is the primary component; nothing if the server does not know.
    primary: Option<bool>,
    state: String,
}

#[derive(Debug, Serialize)]
struct Warning {
    reason: String,
    name: String,
    detail: String,
}

impl Roll {
    pub fn of(membership: &pb::GetMembershipResponse) -> Roll {
        let views = membership.current.iter().chain(&membership.history);
        let members = views.flat_map(|view| &view.members);
        let primary: BTreeMap<&str, bool> =
            members.map(|member| (member.configuration.as_str(), member.primary)).collect();
        let attached = membership.daemons.iter().map(|it| DaemonRow {
            daemon: it.daemon.clone(),
            address: it.address.clone(),
            server: it.server.clone(),
            configuration: it.configuration.clone(),
            primary: primary.get(it.configuration.as_str()).copied(),
            state: state(it),
        });
        let is_away = |it: &&pb::BarredDaemon| {
            !membership.daemons.iter().any(|daemon| without_boot(&daemon.daemon) == it.name)
        };
        let kept_out = membership.barred.iter().filter(is_away).map(|it| DaemonRow {
            daemon: it.name.clone(),
            address: String::new(),
            server: String::new(),
            configuration: String::new(),
            primary: Some(false),
            state: kept_out(it),
        });
        let warnings = membership.warnings.iter().map(|it| Warning {
            reason: it.reason.clone(),
            name: it.name.clone(),
            detail: it.detail.clone(),
        });
        Roll {
            server: membership.server.clone(),
            agrees_with: membership.agrees_with.clone(),
            daemons: attached.chain(kept_out).collect(),
            warnings: warnings.collect(),
        }
    }
}

/// How a daemon is.
fn state(it: &pb::DaemonStatus) -> String {
    if !it.lost.is_empty() {
        return format!("may be gone: {}", it.lost);
    }
    if it.held {
        return "waits, for it left too often".to_owned();
    }
    if it.configuration.is_empty() {
        return "waits for a configuration".to_owned();
    }
    let unreachable: Vec<&str> = it.unreachable.iter().map(|it| without_boot(&it.daemon)).collect();
    if unreachable.is_empty() { "well".to_owned() } else { format!("cannot reach {}", listed(&unreachable)) }
}

fn kept_out(it: &pb::BarredDaemon) -> String {
    let Some(left) = it.duration.and_then(|left| Duration::try_from(left).ok()) else {
        return "kept out: in maintenance".to_owned();
    };
    let left = Duration::from_secs(left.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX));
    format!("kept out for {}", humantime::format_duration(left))
}

impl fmt::Display for Roll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["DAEMON", "SERVER", "CONFIGURATION", "STATE"]);
        let given = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        for it in &self.daemons {
            table.row([
                without_boot(&it.daemon).to_owned(),
                given(without_boot(&it.server)),
                match it.primary {
                    Some(true) => format!("{} (primary)", it.configuration),
                    Some(false) | None => given(&it.configuration),
                },
                it.state.clone(),
            ]);
        }
        if table.is_empty() {
            writeln!(f, "no daemon is attached")?;
        } else {
            write!(f, "{table}")?;
        }
        let me = without_boot(&self.server);
        let others: Vec<&str> =
            self.agrees_with.iter().map(|it| without_boot(it)).filter(|it| *it != me).collect();
        match others.as_slice() {
            [] => writeln!(f, "\n{me} says so, alone")?,
            others => writeln!(f, "\n{me} says so, and agrees with {}", listed(others))?,
        }
        let is_unknown = |it: &&DaemonRow| it.primary.is_none() && !it.configuration.is_empty();
        let unknown: BTreeSet<&str> =
            self.daemons.iter().filter(is_unknown).map(|it| it.configuration.as_str()).collect();
        for it in unknown {
            writeln!(f, "{me} does not know whether {it} is primary, for it was started later")?;
        }
        for it in &self.warnings {
            writeln!(f, "warning: {} {}: {}", it.name, it.reason, it.detail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(name: &str, configuration: &str) -> pb::DaemonStatus {
        pb::DaemonStatus {
            daemon: format!("{name}#7"),
            server: "membership-1#5".to_owned(),
            address: "10.0.0.1:7410".to_owned(),
            configuration: configuration.to_owned(),
            ..pb::DaemonStatus::default()
        }
    }

    fn member(daemon: &str, configuration: &str, primary: bool) -> pb::ViewMember {
        pb::ViewMember {
            daemon: daemon.to_owned(),
            configuration: configuration.to_owned(),
            primary,
            ..pb::ViewMember::default()
        }
    }

    fn membership() -> pb::GetMembershipResponse {
        let cut = pb::Unreachable { daemon: "machine-2#7".to_owned(), ..pb::Unreachable::default() };
        let lost = "its stream broke".to_owned();
        let barred = |name: &str, duration| pb::BarredDaemon { name: name.to_owned(), duration };
        let rest = prost_types::Duration { seconds: 59, nanos: 500_000_000 };
        pb::GetMembershipResponse {
            server: "membership-1#5".to_owned(),
            agrees_with: ["membership-1#5", "membership-2#5", "membership-3#6"].map(str::to_owned).to_vec(),
            daemons: vec![
                daemon("machine-1", "v4.beef"),
                pb::DaemonStatus { lost, ..daemon("machine-2", "v4.beef") },
                pb::DaemonStatus { held: true, ..daemon("machine-3", "") },
                daemon("machine-4", ""),
                pb::DaemonStatus { unreachable: vec![cut], ..daemon("machine-5", "v4.beef") },
            ],
            barred: vec![barred("machine-6", Some(rest)), barred("machine-7", None)],
            current: Some(pb::View {
                members: vec![member("machine-1#7", "v4.beef", false)],
                ..pb::View::default()
            }),
            warnings: vec![pb::Warning {
                reason: "NO_LINK".to_owned(),
                name: "membership-4".to_owned(),
                detail: "cannot reach 10.0.0.4:7420".to_owned(),
            }],
            ..pb::GetMembershipResponse::default()
        }
    }

    #[test]
    fn a_list_says_how_everybody_is() {
        let expected = "\
DAEMON      SERVER         CONFIGURATION   STATE
machine-1   membership-1   v4.beef         well
machine-2   membership-1   v4.beef         may be gone: its stream broke
machine-3   membership-1   -               waits, for it left too often
machine-4   membership-1   -               waits for a configuration
machine-5   membership-1   v4.beef         cannot reach machine-2
machine-6   -              -               kept out for 1m
machine-7   -              -               kept out: in maintenance

membership-1 says so, and agrees with membership-2 and membership-3
warning: membership-4 NO_LINK: cannot reach 10.0.0.4:7420
";
        assert_eq!(Roll::of(&membership()).to_string(), expected);
    }

    #[test]
    fn a_list_says_which_configuration_is_primary() {
        let members = vec![member("machine-1#7", "v4.beef", true), member("machine-2#7", "v4.cafe", false)];
        let seen = pb::GetMembershipResponse {
            server: "membership-1#5".to_owned(),
            daemons: vec![daemon("machine-1", "v4.beef"), daemon("machine-2", "v4.cafe")],
            current: Some(pb::View { members, ..pb::View::default() }),
            ..pb::GetMembershipResponse::default()
        };
        let expected = "\
DAEMON      SERVER         CONFIGURATION       STATE
machine-1   membership-1   v4.beef (primary)   well
machine-2   membership-1   v4.cafe             well

membership-1 says so, alone
";
        assert_eq!(Roll::of(&seen).to_string(), expected);
    }

    #[test]
    fn what_a_server_does_not_know_of_a_configuration_it_does_not_deny() {
        let roll = Roll::of(&pb::GetMembershipResponse { current: None, ..membership() });
        let said = "membership-1 does not know whether v4.beef is primary, for it was started later\n";
        assert!(roll.to_string().contains(said), "{roll}");
        assert_eq!(serde_json::to_value(&roll).unwrap()["daemons"][0]["primary"], serde_json::Value::Null);
    }

    #[test]
    fn a_server_without_anybody_says_so() {
        let server = "membership-1#5".to_owned();
        let alone = pb::GetMembershipResponse { server, ..pb::GetMembershipResponse::default() };
        assert_eq!(Roll::of(&alone).to_string(), "no daemon is attached\n\nmembership-1 says so, alone\n");
    }

    #[test]
    fn the_json_has_full_ids() {
        let json = serde_json::to_value(Roll::of(&membership())).unwrap();
        assert_eq!(json["daemons"][1]["daemon"], "machine-2#7");
        assert_eq!(json["daemons"][1]["state"], "may be gone: its stream broke");
        assert_eq!(json["warnings"][0]["reason"], "NO_LINK");
    }
}
