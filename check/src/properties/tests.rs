//! Proves the checkers: each one can fire, and none fires on a good run, however the records of its processes are
//! interleaved.

use std::collections::BTreeMap;

use model::trace::{Event, Role};

use super::{all, cases};
use crate::judge::{Report, Tally};
use crate::script::Script;

fn rejected_by(report: &Report) -> Vec<&'static str> {
    report.violations.iter().map(|violation| violation.property).collect()
}

#[test]
fn every_case_is_rejected_by_exactly_the_properties_that_it_breaks() {
    let mut wrong = String::new();
    for (property, cases) in cases() {
        for case in cases {
            let report = case.script.judged();
            if rejected_by(&report) != case.rejected_by {
                wrong += &format!("{property}: {}: not {:?}\n{report}\n", case.what, case.rejected_by);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_property_rejects_a_trace_of_its_own() {
    let tables = cases();
    assert_eq!(tables.len(), all().len());
    for (property, (module, cases)) in all().iter().zip(&tables) {
        assert_eq!(property.name(), *module, "a property is called as its file");
        let of_its_own = |by: &[&str]| by == [property.name()];
        assert!(cases.iter().any(|case| of_its_own(case.rejected_by)), "{} never fired", property.name());
    }
}

#[test]
fn every_violation_quotes_its_evidence() {
    for (property, cases) in cases() {
        for case in cases {
            for violation in case.script.judged().violations {
                let lines = case.script.events().len() as u32;
                let evidence = &violation.breach.evidence;
                assert!(!evidence.is_empty(), "{property}: {}", case.what);
                assert!(
                    evidence.iter().all(|at| (1..=lines).contains(&at.line)),
                    "{property}: {}",
                    case.what
                );
            }
        }
    }
}

/// A run in which everything happens that a trace can tell, and nothing goes wrong: a session is served by `a`, which
/// crashes with a request and a message under way; `b` takes over; `d` joins; the client changes its gateway.
fn good_run() -> Script {
    let started = Script::new()
        .forms(1, "a b c")
        .attaches("a/1 b/1 c/1")
        .views("content", 1, "a/1")
        .views("content", 2, "a/1 b/1")
        .views("content", 3, "a/1 b/1 c/1");
    let opened = started
        .opens("gw1")
        .sends("c/1", "content", 1)
        .casts("c", 1)
        .delivers("a b c", "c", 1)
        .receives("a/1 b/1 c/1", "content", "c/1", 1)
        .primary("a/1", 1)
        .role("b/1", 1, Role::Backup)
        .database("a/1", 1, 1)
        .database("b/1", 1, 1)
        .client_attaches(0)
        .streams("a/1", 1, "gw1", 1..=3, 0)
        .submits("gw1", 1)
        .applies("a/1", 0, 1)
        .applies("b/1", 0, 1)
        .acknowledges("gw1", 1)
        .streams("a/1", 1, "gw1", 4..=5, 1);
    let taken_over = opened
        .submits("gw1", 2)
        .casts("a", 1)
        .casts("a", 2)
        .delivers("a", "a", 1)
        .responds("a/1", 1, 6, 1)
        .crashes("a")
        .delivers("b", "a", 1)
        .delivers("c", "a", 1)
        .forms(2, "b c")
        .views("content", 0, "b/1 c/1")
        .primary("b/1", 2)
        .applies("b/1", 1, 2)
        .acknowledges("gw1", 2)
        .streams("b/1", 2, "gw1", 6..=7, 2);
    let joined = taken_over
        .agrees(3, "b c d")
        .agrees(4, "b c d")
        .installs("b c d", 4, "b c d")
        .attaches("d/1")
        .casts("b", 1)
        .delivers("b c d", "b", 1)
        .views("content", 5, "b/1 c/1 d/1")
        .leaves("c/1", "content")
        .views("content", 6, "b/1 d/1")
        .sends("b/1", "content", 1)
        .receives("b/1 d/1", "content", "b/1", 1);
    let grouped = joined
        .attaches("b/2 d/2")
        .views("strict:g", 7, "b/2")
        .blocks("b/2", "strict:g")
        .views("strict:g", 8, "b/2 d/2")
        .unblocks("b/2", "strict:g")
        .sends_safely("b/2", "strict:g", 1)
        .sends_only_in("b/2", "strict:g", 2, 8)
        .sends_only_in("d/2", "strict:g", 1, 7)
        .refuses("d/2", 1)
        .casts("b", 2)
        .delivers("b c d", "b", 2)
        .safe("b/2 d/2", "strict:g", "b/2", 1)
        .receives("b/2 d/2", "strict:g", "b/2", 1)
        .receives("b/2 d/2", "strict:g", "b/2", 2);
    grouped
        .client_attaches(7)
        .releases("gw1")
        .streams("b/1", 2, "gw2", 8..=9, 2)
        .submits("gw2", 3)
        .applies("b/1", 1, 3)
        .acknowledges("gw2", 3)
        .quiescent_open("b c d")
        .closes("gw2")
        .detaches("d/1")
        .quiescent("b c d")
}

#[test]
fn a_good_run_is_accepted_and_counted() {
    let run = good_run();
    let report = run.judged();
    let tally = Tally {
        records: run.events().len() as u64,
        views: 3,
        messages: 5,
        deliveries: 12,
        takeovers: 1,
        requests: 3,
        responses: 9,
        partings: 0,
        reorderings: 0,
    };
    assert_eq!(report, Report { tally, violations: Vec::new(), sources: Vec::new() }, "{report}");
}

/// Who wrote a record; nobody if its author waited until nothing happened any more.
fn author(event: &Event) -> Option<String> {
    Some(match event {
        Event::StartChange { daemon, .. }
        | Event::MembershipView { daemon, .. }
        | Event::Install { daemon, .. }
        | Event::Cast { daemon, .. }
        | Event::Deliver { daemon, .. } => daemon.to_string(),
        Event::Attach { process, .. }
        | Event::Detach { process }
        | Event::GroupSend { process, .. }
        | Event::GroupRefuse { process, .. }
        | Event::GroupSafe { process, .. }
        | Event::GroupBlock { process, .. }
        | Event::GroupUnblock { process, .. }
        | Event::GroupInstall { process, .. }
        | Event::GroupLeave { process, .. }
        | Event::GroupDeliver { process, .. } => process.daemon().to_string(),
        Event::Role { server, .. }
        | Event::Apply { server, .. }
        | Event::Carried { server, .. }
        | Event::Respond { server, .. }
        | Event::Commit { server, .. }
        | Event::Follow { server, .. }
        | Event::Database { server, .. }
        | Event::Balance { server, .. } => server.to_string(),
        Event::Open { gateway, .. }
        | Event::Seat { gateway, .. }
        | Event::Submit { gateway, .. }
        | Event::Acknowledge { gateway, .. }
        | Event::Accept { gateway, .. }
        | Event::Grant { gateway, .. }
        | Event::Fenced { gateway, .. }
        | Event::Close { gateway, .. }
        | Event::Release { gateway, .. }
        | Event::Rebuild { gateway, .. }
        | Event::Unfence { gateway, .. }
        | Event::GatewayCrash { gateway } => gateway.to_string(),
        Event::ClientAttach { .. } | Event::ClientReceive { .. } => "client".to_owned(),
        Event::DaemonStart { .. } | Event::DaemonCrash { .. } => "driver".to_owned(),
        Event::Quiescent { .. } => return None,
    })
}

/// The run with the records of different authors in another order.
fn interleaved(script: &Script, seed: &mut u64) -> Script {
    let mut shuffled = Script::new();
    for part in script.events().split_inclusive(|event| author(event).is_none()) {
        let mut queues: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
        for event in part.iter().rev() {
            queues.entry(author(event).unwrap_or_default()).or_default().push(event);
        }
        let last = queues.remove("").unwrap_or_default();
        while !queues.is_empty() {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chosen = (*seed >> 33) as usize % queues.len();
            let name = queues.keys().nth(chosen).cloned().unwrap_or_default();
            shuffled = shuffled.raw(queues.get_mut(&name).and_then(Vec::pop).cloned().unwrap());
            queues.retain(|_, queue| !queue.is_empty());
        }
        shuffled = last.into_iter().cloned().fold(shuffled, Script::raw);
    }
    shuffled
}

#[test]
fn verdicts_do_not_depend_on_how_records_are_interleaved() {
    let mut seed = 1;
    let good = ("good run", good_run(), Vec::new());
    let table = cases().into_iter().flat_map(|(_, cases)| cases);
    for (what, script, by) in
        table.map(|case| (case.what, case.script, case.rejected_by.to_vec())).chain([good])
    {
        for _ in 0..20 {
            let report = interleaved(&script, &mut seed).judged();
            assert_eq!(rejected_by_sorted(&report), sorted(by.clone()), "{what}\n{report}");
        }
    }
}

fn rejected_by_sorted(report: &Report) -> Vec<&'static str> {
    sorted(rejected_by(report))
}

fn sorted(mut names: Vec<&'static str>) -> Vec<&'static str> {
    names.sort_unstable();
    names
}
