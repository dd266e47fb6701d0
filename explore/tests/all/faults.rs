//! The explorer finds what is wrong: each test plants a fault in what daemons say to each other, such as a daemon with
//! a faulty core would say it, and names the property that is found broken.

use explore::daemons::{Bound, Daemons, Tamper};
use explore::search::{Finding, Outcome, search};
use gcs_core::{Entry, Message, Sync};
use model::{ConfigurationId, DaemonId};

const MESSAGE_AND_CRASH: Bound =
    Bound { messages: 1, crashes: 1, partitions: 0, merges: 0, detours: 0, ticks: 0 };

fn found(bound: Bound, tamper: Tamper) -> Finding {
    match search(Daemons::tampered(bound, tamper), 1_000_000, |_| ()) {
        Outcome::Found(_, finding) => finding,
        sound => panic!("it is not found: {sound:?}"),
    }
}

fn is_called(id: DaemonId, name: &str) -> bool {
    id.name().as_str() == name
}

#[test]
fn a_cut_without_the_last_own_message() {
    let finding = found(MESSAGE_AND_CRASH, |from, _, message| match message {
        Message::Sync { start, sync: Sync::Full { configuration, cut } } if is_called(from, "b") => {
            let mut cut = cut.clone();
            cut[1] = cut[1].saturating_sub(1);
            Some(Message::Sync { start: *start, sync: Sync::Full { configuration: *configuration, cut } })
        }
        _ => None,
    });
    assert!(finding.verdict.contains("virtual_synchrony"), "{finding}");
}

#[test]
fn a_sync_from_another_configuration() {
    let finding = found(MESSAGE_AND_CRASH, |from, to, message| match message {
        Message::Sync { start, sync: Sync::Full { .. } } if is_called(from, "b") && is_called(to, "a") => {
            let configuration = ConfigurationId::new(0, 0);
            Some(Message::Sync { start: *start, sync: Sync::Compact { configuration } })
        }
        _ => None,
    });
    assert!(finding.verdict.contains("transitional_set"), "{finding}");
}

#[test]
fn a_tail_that_is_not_forwarded() {
    let finding = found(MESSAGE_AND_CRASH, |_, _, message| match message {
        Message::Forward { configuration, origin, first, .. } => Some(Message::Forward {
            configuration: *configuration,
            origin: *origin,
            first: *first,
            entries: Vec::new(),
        }),
        _ => None,
    });
    assert!(finding.verdict.contains("liveness"), "{finding}");
}

#[test]
fn an_order_that_is_not_the_same_for_all() {
    let bound = Bound { messages: 2, ..Bound::default() };
    let finding = found(bound, |_, to, message| match message {
        Message::Entries { configuration, first, stable, entries } if is_called(to, "c") => {
            let turned = |entry: &Entry| match entry {
                Entry::Order(runs) => Entry::Order(runs.iter().rev().copied().collect()),
                payload => payload.clone(),
            };
            let entries = entries.iter().map(turned).collect();
            Some(Message::Entries { configuration: *configuration, first: *first, stable: *stable, entries })
        }
        _ => None,
    });
    assert!(finding.verdict.contains("total_order"), "{finding}");
}
