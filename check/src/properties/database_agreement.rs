//! The unit database is the same at every replica: after the same event of the same view of the content group, it has
//! the same digest. [FK:unit-db]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{Digest, GroupViewId, ProcessId, UnitId};

use crate::numbers::Numbers;
use crate::property::{Breach, Position, Property, breach};

/// A database as the first replica had it.
struct Seen {
    server: u32,
    digest: Digest,
    at: Position,
}

/// The checker.
#[derive(Default)]
pub(crate) struct DatabaseAgreement {
    servers: Numbers<ProcessId>,
    histories: BTreeMap<(UnitId, GroupViewId), BTreeMap<u64, Seen>>,
}

impl Property for DatabaseAgreement {
    fn name(&self) -> &'static str {
        "database_agreement"
    }

    fn claim(&self) -> &'static str {
        "FK:unit-db"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        let Event::Database { server, unit, view, position, digest } = event else { return Ok(()) };
        let number = self.servers.of(server);
        let history = self.histories.entry((unit.clone(), *view)).or_default();
        let first = history.entry(*position).or_insert(Seen { server: number, digest: *digest, at });
        if first.digest == *digest {
            return Ok(());
        }
        let other = self.servers.value(first.server);
        breach(
            &[first.at, at],
            format!(
                "{other} and {server} differ in the database of {unit} at event {position} of view {view}"
            ),
        )
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let same = Script::new().database("a/1", 0, 0).database("b/1", 0, 0).database("a/1", 1, 1);
    vec![
        rejected("b applied something else", &["database_agreement"], same.clone().database("b/1", 1, 2)),
        accepted("b is behind", same.clone()),
        accepted("b is where a was", same.database("b/1", 1, 1)),
    ]
}
