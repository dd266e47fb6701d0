//! What is to be said of a run: what happened in it, and what happened that may not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::Path;

use check::Tally;
use check::read::Trace;

use crate::drill::Drill;
use crate::plan::{Incident, Plan};
use crate::report::{Move, Report};
use crate::viewers::Seen;

/// The verdict on a run.
#[derive(Debug, Default)]
pub struct Verdict {
    faults: BTreeMap<&'static str, usize>,
    packets: BTreeMap<&'static str, u64>,
    tally: Tally,
    lives: usize,
    moves: usize,
    undrained: usize,
    seen: Option<Seen>,
    /// What may not have happened.
    pub violations: Vec<String>,
}

/// What is known of a run beside its traces.
#[derive(Debug)]
pub struct Told {
    /// How many packets met which fate by the hand of the network.
    pub packets: BTreeMap<&'static str, u64>,
    /// What members reported.
    pub reports: Vec<Report>,
    /// How many drains were cut short.
    pub undrained: usize,
    /// What viewers have seen, if the run came to its end.
    pub seen: Option<Seen>,
    /// Violations already known.
    pub troubles: Vec<String>,
}

impl Verdict {
    /// Judges what is told and all traces in `traces`.
    pub fn new(plan: &Plan, told: Told, traces: &Path) -> Verdict {
        let Told { packets, reports, undrained, seen, troubles } = told;
        let mut verdict = Verdict { packets, undrained, violations: troubles, ..Verdict::default() };
        verdict.violations.extend(seen.iter().flat_map(|seen| seen.wrong.iter().cloned()));
        verdict.seen = seen;
        for incident in &plan.incidents {
            *verdict.faults.entry(incident.kind).or_default() += 1;
        }
        verdict.hear(&reports);
        match Trace::open(traces).and_then(Trace::judge) {
            Ok(report) => {
                verdict.tally = report.tally;
                if !report.violations.is_empty() {
                    verdict.violations.push(report.to_string());
                }
            }
            Err(error) => verdict.violations.push(format!("the traces cannot be read: {error}")),
        }
        verdict.demand_substance(plan);
        verdict
    }

    /// A verdict on a run in which nothing happened is worth nothing.
    fn demand_substance(&mut self, plan: &Plan) {
        if self.seen.as_ref().is_some_and(|seen| seen.films == 0) {
            self.violations.push("no film was seen to its end".to_owned());
        }
        if self.tally.messages == 0 || self.moves == 0 {
            self.violations.push("no message was cast, or no member went from view to view".to_owned());
        }
        if plan.incidents.iter().any(Incident::is_weather) && self.packets.values().sum::<u64>() == 0 {
            self.violations.push("no packet was harmed".to_owned());
        }
    }

    /// What a drill is for has to have happened.
    pub fn demand(&mut self, drill: Drill) {
        self.violations.extend(self.seen.iter().flat_map(|seen| drill.missed(seen)));
    }

    /// All who went from one view to the next were given the same messages in the same order.
    fn hear(&mut self, reports: &[Report]) {
        let mut known: BTreeMap<_, &Move> = BTreeMap::new();
        for report in reports {
            match report {
                Report::Attached { .. } => self.lives += 1,
                Report::Moved(step) => {
                    self.moves += 1;
                    match known.entry((&step.group, step.from, step.to)) {
                        Entry::Vacant(entry) => drop(entry.insert(step)),
                        Entry::Occupied(entry) => {
                            let other = entry.get();
                            if (other.messages, other.digest) != (step.messages, step.digest) {
                                self.violations.push(format!("not given the same: {other:?}, {step:?}"));
                            }
                        }
                    }
                }
                Report::Wrong { process, what } => {
                    self.violations.push(format!("{process} was told: {what}"))
                }
                Report::Lost { .. } | Report::Resting(_) => {}
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: usize = self.faults.values().sum();
        let kinds: Vec<_> = self.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        writeln!(f, "{faults} faults: {}", kinds.join(", "))?;
        let packets: Vec<_> = self.packets.iter().map(|(fate, count)| format!("{count} {fate}")).collect();
        if !packets.is_empty() {
            writeln!(f, "packets: {}", packets.join(", "))?;
        }
        let Tally { records, views, messages, deliveries, partings, reorderings, .. } = self.tally;
        writeln!(
            f,
            "{records} records: {views} configurations, {messages} messages, {deliveries} deliveries"
        )?;
        writeln!(
            f,
            "{partings} configurations left by different ways, {reorderings} with two orders: not promised"
        )?;
        writeln!(
            f,
            "{} attachments of members, which went from view to view {} times",
            self.lives, self.moves
        )?;
        writeln!(f, "{} drains cut short", self.undrained)?;
        if let Some(Seen { films, takeovers, gateways, merges, forgotten, unreached, .. }) = &self.seen {
            writeln!(
                f,
                "{films} films seen to their end: {takeovers} takeovers, {gateways} times another gateway, {merges} \
                 merged; {forgotten} sessions forgotten with all their servers, {unreached} given up for want of a gateway"
            )?;
        }
        for violation in &self.violations {
            writeln!(f, "violation: {violation}")?;
        }
        write!(f, "{} violations", self.violations.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ConfigurationId, Digest, GroupName, GroupViewId};

    fn step(from: u64, to: u64, order: &[u8]) -> Report {
        let id = |position| GroupViewId { configuration: ConfigurationId::new(1, 1), position };
        Report::Moved(Move {
            process: "machine-1#1/1".parse().unwrap(),
            group: GroupName::new("red").unwrap(),
            from: id(from),
            to: id(to),
            messages: 2,
            digest: Digest::of(order),
        })
    }

    fn violations(reports: &[Report]) -> usize {
        let mut verdict = Verdict::default();
        verdict.hear(reports);
        verdict.violations.len()
    }

    #[test]
    fn who_takes_the_same_step_was_given_the_same() {
        assert_eq!(
            violations(&[step(1, 2, b"ab"), step(1, 2, b"ab"), step(1, 3, b"ba"), step(2, 3, b"")]),
            0
        );
        assert_eq!(violations(&[step(1, 2, b"ab"), step(1, 2, b"ba")]), 1);
    }

    #[test]
    fn what_a_member_found_is_a_violation() {
        let process = "machine-1#1/1".parse().unwrap();
        assert_eq!(violations(&[Report::Wrong { process, what: "nonsense".to_owned() }]), 1);
    }
}
