//! Few sessions of a unit are moved for balance in one view, however uneven the load: each move costs its client an instant.
//! [FK:balance]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{GroupViewId, ProcessId, UnitId};

use crate::property::{Breach, Position, Property, breach};

/// The checker.
#[derive(Default)]
pub(crate) struct FewMoves {
    /// How many each replica has moved in its present view of a unit's content group.
    moved: BTreeMap<(ProcessId, UnitId), (GroupViewId, usize, Position)>,
}

impl Property for FewMoves {
    fn name(&self) -> &'static str {
        "few_moves"
    }

    fn claim(&self) -> &'static str {
        "FK:balance"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        let Event::Balance { server, unit, view, moves, at_most } = event else { return Ok(()) };
        let (known, before, first) = self.moved.entry((*server, unit.clone())).or_insert((*view, 0, at));
        if known != view {
            (*known, *before, *first) = (*view, 0, at);
        }
        *before += moves;
        if *before > *at_most {
            let told =
                format!("{server} moved {before} sessions of {unit} in {view}, and may move {at_most}");
            return breach(&[*first, at], told);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["few_moves"];
    let two = Script::new().forms(1, "a b").attaches("a/1 b/1");
    vec![
        accepted("as many as it may be, once in each view", {
            let first = two.clone().balances("a/1", 3).balances("b/1", 3);
            first.forms(2, "a b").balances("a/1", 3).balances("b/1", 3)
        }),
        rejected("one too many", only, two.clone().balances("a/1", 4)),
        rejected("too many in two steps", only, two.balances("a/1", 2).balances("a/1", 2)),
    ]
}
