//! Scenarios that are written down: what happens is always the same, and it has to lead to what it is there for.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use crate::plan::{Fault, Incident, Node, Plan, Who};
use crate::viewers::Seen;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drill {
    /// One machine of three is parted from the others, each side with a gateway, and serves on; then they meet again
    Partition,
    /// Of three machines the outer ones do not hear each other, and the one between, with a gateway, hears both
    Row,
}

impl fmt::Display for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |it| f.write_str(it.get_name()))
    }
}

impl Drill {
    /// What happens in it.
    pub fn plan(self) -> Plan {
        let servers = [1, 2, 3].map(Node::Server);
        let machines = [1, 2, 3].map(Node::Machine);
        let (kind, cut) = match self {
            Drill::Partition => ("partition", self.between(&servers, &machines)),
            Drill::Row => ("non-transitive cut", self.between(&[], &machines)),
        };
        let incident = |begins, ends| Incident {
            kind,
            begins: Duration::from_secs(begins),
            ends: Duration::from_secs(ends),
            fault: Fault::Cut(cut.iter().copied().collect()),
        };
        Plan {
            seed: 0,
            nodes: servers.into_iter().chain(machines).collect(),
            members: [1, 2, 3].map(|machine| Who::Member(machine, 1)).to_vec(),
            contents: [1, 2, 3].map(Who::Content).to_vec(),
            gateways: [1, 2].map(Who::Gateway).to_vec(),
            // Twice, since nobody knows who serves whom.
            incidents: vec![incident(3, 7), incident(10, 14)],
        }
    }

    /// Who does not hear whom.
    fn between(self, servers: &[Node], machines: &[Node]) -> Vec<(Node, Node)> {
        let nodes = || servers.iter().chain(machines).copied();
        let all = nodes().flat_map(|from| nodes().map(move |to| (from, to)));
        let is_cut = |(from, to): &(Node, Node)| match self {
            Drill::Partition => from.is_number(1) != to.is_number(1),
            Drill::Row => (from.is_number(1) && to.is_number(3)) || (from.is_number(3) && to.is_number(1)),
        };
        all.filter(is_cut).collect()
    }

    /// What it is there for and did not happen, given what clients have seen.
    pub fn missed(self, seen: &Seen) -> Option<String> {
        let Seen { takeovers, forgotten, .. } = seen;
        if *forgotten > 0 {
            return Some(format!(
                "{self}: {forgotten} sessions were forgotten, and always somebody knew them"
            ));
        }
        (*takeovers == 0).then(|| format!("{self}: nobody was served by another server"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(drill: Drill) -> Vec<(Node, Node)> {
        let Fault::Cut(cut) = drill.plan().incidents.remove(0).fault else { panic!("it cuts") };
        cut.into_iter().filter(|(from, to)| from < to).collect()
    }

    #[test]
    fn a_partition_parts_everybody_and_a_row_two_machines() {
        let row = cut(Drill::Row);
        assert_eq!(row, [(Node::Machine(1), Node::Machine(3))]);
        let parted = cut(Drill::Partition);
        assert_eq!(parted.len(), 2 * 4, "two on one side, and four on the other");
        assert!(!parted.contains(&(Node::Server(1), Node::Machine(1))));
    }

    #[test]
    fn a_drill_that_did_not_do_what_it_is_for_is_no_success() {
        let seen = Seen { takeovers: 1, ..Seen::default() };
        assert_eq!(Drill::Partition.missed(&seen), None);
        assert!(Drill::Partition.missed(&Seen { forgotten: 1, ..seen }).is_some());
        assert!(Drill::Row.missed(&Seen::default()).is_some());
    }
}
