//! What is not promised, but counted, for a fault injector that never makes it happen is too kind: that daemons go
//! different ways from a configuration, and that messages in it are delivered in orders that no one order reconciles.

use model::trace::Event;

use crate::lines::{Line, Lines, Message};
use crate::order::disagreement;
use crate::property::Position;

/// The counter.
#[derive(Default)]
pub(crate) struct Unpromised {
    lines: Lines,
}

impl Unpromised {
    /// Looks at the next record.
    pub(crate) fn observe(&mut self, at: Position, event: &Event) {
        // Who goes astray is for `reliable_total_order` to report.
        let _ = self.lines.observe(at, event);
    }

    /// How many configurations were left by more than one way: agreement on successors does not hold for these.
    pub(crate) fn partings(&self) -> u64 {
        self.lines.iter().filter(|(_, line)| line.next.len() > 1).count() as u64
    }

    /// How many configurations have messages without one order for all who ever were there: strong total order does
    /// not hold for these.
    pub(crate) fn reorderings(&self) -> u64 {
        self.lines.iter().filter(|(_, line)| is_reordered(line)).count() as u64
    }
}

fn is_reordered(line: &Line) -> bool {
    let common = || line.common.iter().map(|(message, _)| *message);
    let from = line.partings.iter().map(|parting| parting.before).min().unwrap_or(0);
    let mut ways: Vec<Vec<Message>> = vec![common().skip(from).collect()];
    for parting in line.partings.iter().filter(|parting| !parting.after.is_empty()) {
        let had = common().skip(from).take(parting.before - from);
        let way = had.chain(parting.after.iter().copied()).collect();
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    let ways: Vec<&[Message]> = ways.iter().map(Vec::as_slice).collect();
    disagreement(&ways).is_some()
}

#[cfg(test)]
mod tests {
    use crate::script::Script;

    #[test]
    fn orders_that_contradict_each_other_and_ways_that_part_are_counted() {
        let three = Script::new().forms(1, "a b c").casts("b", 1).casts("c", 1);
        let delivered = three.delivers("a", "c", 1).delivers("a", "b", 1).crashes("a");
        let left = delivered.clone().agrees(2, "b c").delivers("b c", "b", 1).delivers("b c", "c", 1);
        let report = left.installs("b c", 2, "b c").judged();
        assert_eq!((report.tally.reorderings, report.tally.partings), (1, 0), "{report}");
        let left = delivered.agrees(2, "b").delivers("b", "c", 1).delivers("b", "b", 1).installs("b", 2, "b");
        let report =
            left.agrees(3, "c").delivers("c", "c", 1).delivers("c", "b", 1).installs("c", 3, "c").judged();
        assert_eq!((report.tally.reorderings, report.tally.partings), (0, 1), "{report}");
    }
}
