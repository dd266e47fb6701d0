//! Who can reach whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proto::membership::v1 as pb;
use serde::Serialize;

use super::ask::without_boot;

/// What daemons report of each other, and which servers are linked.
#[derive(Debug, Serialize)]
pub struct Matrix {
    daemons: Vec<Row>,
    servers: Vec<Row>,
}

/// What one says of the others.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// Each that it cannot reach, or of which it is not sure.
    others: BTreeMap<String, Reach>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Reach {
    Doubtful,
    Cut,
}

impl Reach {
    fn mark(self) -> char {
        match self {
            Reach::Doubtful => '?',
            Reach::Cut => 'x',
        }
    }
}

impl Matrix {
    pub fn of(membership: &pb::GetMembershipResponse) -> Matrix {
        Matrix { daemons: daemons(membership), servers: servers(membership) }
    }
}

/// Those who report, and those who do not but are reported of: nothing is known of what they would say.
fn daemons(membership: &pb::GetMembershipResponse) -> Vec<Row> {
    let row = |it: &pb::DaemonStatus| {
        let reach = |it: &pb::Unreachable| match it.doubt() {
            pb::Doubt::Cut => Reach::Cut,
            pb::Doubt::Doubtful | pb::Doubt::Unspecified => Reach::Doubtful,
        };
        let others = it.unreachable.iter().map(|it| (it.daemon.clone(), reach(it))).collect();
        Row { name: it.daemon.clone(), others }
    };
    let mut rows: Vec<Row> = membership.daemons.iter().map(row).collect();
    let is_absent = |id: &&String| !rows.iter().any(|row| without_boot(&row.name) == without_boot(id));
    let absent: BTreeSet<String> =
        rows.iter().flat_map(|row| row.others.keys()).filter(is_absent).cloned().collect();
    let all: Vec<String> = rows.iter().map(|row| &row.name).chain(&absent).cloned().collect();
    rows.extend(absent.into_iter().map(|name| {
        let others = all.iter().filter(|other| **other != name);
        Row { others: others.map(|other| (other.clone(), Reach::Doubtful)).collect(), name }
    }));
    rows
}

/// A link counts if both ends say that it is there, or one does and nothing is known of the other. What a server says is
/// known to the one that answers if they are connected, at least by others.
fn servers(membership: &pb::GetMembershipResponse) -> Vec<Row> {
    let links: BTreeMap<&str, BTreeSet<&str>> = membership
        .links
        .iter()
        .map(|it| (it.server.as_str(), it.linked.iter().map(String::as_str).collect()))
        .collect();
    let says = |a: &str, b: &str| links.get(a).map(|linked| linked.contains(b));
    let is_linked = |a: &str, b: &str| says(a, b).or(says(b, a)) == Some(true) && says(b, a) != Some(false);
    let all: BTreeSet<&str> =
        links.iter().flat_map(|(server, linked)| linked.iter().chain([server])).copied().collect();
    let mut known = BTreeSet::from([membership.server.as_str()]);
    while let Some(next) =
        all.iter().find(|it| !known.contains(*it) && known.iter().any(|other| is_linked(other, it)))
    {
        known.insert(next);
    }
    let reach = |a: &str, b: &str| match is_linked(a, b) {
        true => None,
        false if known.contains(a) && links.contains_key(a) => Some(Reach::Cut),
        false => Some(Reach::Doubtful),
    };
    let row = |a: &&str| {
        let others = all.iter().filter(|b| *b != a);
        let others = others.filter_map(|b| Some(((*b).to_owned(), reach(a, b)?))).collect();
        Row { name: (*a).to_owned(), others }
    };
    all.iter().map(row).collect()
}

fn grid(f: &mut fmt::Formatter<'_>, heading: &str, rows: &[Row]) -> fmt::Result {
    let width = rows.iter().map(|row| without_boot(&row.name).chars().count()).max().unwrap_or_default();
    let width = width.max(heading.len());
    // Columns are called by the numbers of their rows: names would not fit.
    let digits = rows.len().to_string().len();
    let numbers = (1..=rows.len()).map(|number| format!(" {number:>digits$}")).collect::<String>();
    writeln!(f, "{:digits$}   {heading:width$}  {numbers}", "")?;
    for (number, row) in rows.iter().enumerate() {
        write!(f, "{:digits$}   {:width$}  ", number + 1, without_boot(&row.name))?;
        for column in rows {
            let mark = match row.others.get(&column.name) {
                _ if column.name == row.name => '-',
                None => '.',
                Some(reach) => reach.mark(),
            };
            write!(f, " {mark:>digits$}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        grid(f, "DAEMON", &self.daemons)?;
        writeln!(f)?;
        grid(f, "SERVER", &self.servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(number: usize, unreachable: &[(usize, pb::Doubt)]) -> pb::DaemonStatus {
        let unreachable = unreachable.iter().map(|(other, doubt)| pb::Unreachable {
            daemon: format!("machine-{other}#7"),
            doubt: (*doubt).into(),
            silent: None,
        });
        pb::DaemonStatus {
            daemon: format!("machine-{number}#7"),
            unreachable: unreachable.collect(),
            ..pb::DaemonStatus::default()
        }
    }

    fn server(number: usize, linked: &[usize]) -> pb::ServerLinks {
        let id = |number: &usize| format!("membership-{number}#5");
        pb::ServerLinks { server: id(&number), linked: linked.iter().map(id).collect() }
    }

    #[test]
    fn rows_report_columns() {
        let membership = pb::GetMembershipResponse {
            server: "membership-1#5".to_owned(),
            daemons: vec![
                daemon(1, &[]),
                daemon(2, &[(1, pb::Doubt::Doubtful), (3, pb::Doubt::Cut)]),
                daemon(3, &[(2, pb::Doubt::Cut), (4, pb::Doubt::Cut)]),
            ],
            links: vec![server(1, &[2]), server(2, &[1, 3]), server(3, &[2]), server(4, &[1, 2])],
            ..pb::GetMembershipResponse::default()
        };
        let expected = "    DAEMON      1 2 3 4
1   machine-1   - . . .
2   machine-2   ? - x .
3   machine-3   . x - x
4   machine-4   ? ? ? -

    SERVER         1 2 3 4
1   membership-1   - . x x
2   membership-2   . - . x
3   membership-3   x . - x
4   membership-4   ? ? ? -
";
        assert_eq!(Matrix::of(&membership).to_string(), expected);
        let json = serde_json::to_value(Matrix::of(&membership)).unwrap();
        assert_eq!(json["daemons"][1]["others"]["machine-3#7"], "cut");
    }
}
