//! A sound service gets through its rehearsal; one with a planted fault does not, and is told which.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{Fault, Rehearsal, What, rehearse};
use bytes::Bytes;
use model::{Time, UnitId};
use serde::{Deserialize, Serialize};
use session_core::{ContentId, ContentService, Next, Refusal, SharedState, UnitInfo, response_bytes_max};

/// What is wrong with the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plant {
    Nothing,
    /// Counts responses in the service.
    HiddenState,
    /// Lists words in the order of a hash set.
    HashOrder,
    /// Uses a field that is not encoded.
    LostField,
    /// Puts the time into responses.
    Clock,
    /// Refuses requests while a response is due.
    VerdictOfNext,
    /// Keeps note of being asked.
    SilentChange,
    /// Is never satisfied with the time.
    NeverComes,
    /// Keeps whatever it hears.
    Hoarder,
    /// Tells more in a response than fits one.
    Chatter,
    /// Trusts a position in the context.
    Trust,
    /// Opens each session in another way.
    Opens,
    /// Merges two contexts into the first of them.
    FirstOfTwo,
    /// Merges two contexts into one halfway between them.
    Halfway,
    /// Counts how often contexts are merged.
    CountsMerges,
}

/// A notice board: requests are words, each is answered with all that were said so far.
struct Board {
    plant: Plant,
    responses: AtomicU32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Context {
    words: Vec<String>,
    told: u8,
    asked: u32,
    #[serde(skip)]
    skipped: u32,
}

const WORDS_MAX: usize = 5;

impl ContentService for Board {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        vec![UnitInfo::new(UnitId::new("board").unwrap(), "A notice board", "text/plain")]
    }

    fn open(&self, _: &ContentId) -> Context {
        static OPENED: AtomicU32 = AtomicU32::new(0);
        let asked = if self.plant == Plant::Opens { OPENED.fetch_add(1, Ordering::Relaxed) } else { 0 };
        Context { asked, ..Context::default() }
    }

    fn apply(&self, _: &ContentId, context: &mut Context, request: &[u8]) -> Result<(), Refusal> {
        let word = std::str::from_utf8(request).map_err(Refusal::malformed)?;
        if self.plant == Plant::VerdictOfNext && usize::from(context.told) < context.words.len() {
            return Err(Refusal::precondition("one after the other"));
        }
        if self.plant == Plant::LostField {
            context.skipped += 1;
        }
        context.words.push(word.to_owned());
        if self.plant != Plant::Hoarder && context.words.len() > WORDS_MAX {
            context.words.remove(0);
            context.told = context.told.saturating_sub(1);
        }
        Ok(())
    }

    fn next(&self, _: &ContentId, context: &mut Context, now: Time) -> Next {
        let told = usize::from(context.told);
        if self.plant == Plant::Trust && told > 0 {
            assert!(!context.words[told - 1].contains('\0'), "no word has such a thing");
        }
        if told >= context.words.len() {
            if self.plant == Plant::NeverComes {
                return Next::At(now + Duration::from_secs(1));
            }
            context.asked += u32::from(self.plant == Plant::SilentChange);
            return Next::Idle;
        }
        let words = &context.words[..=told];
        let mut payload = words.join(" ");
        if self.plant == Plant::HiddenState {
            payload += &self.responses.fetch_add(1, Ordering::Relaxed).to_string();
        } else if self.plant == Plant::HashOrder {
            payload.extend(words.iter().cloned().collect::<HashSet<_>>());
        } else if self.plant == Plant::LostField {
            payload += &context.skipped.to_string();
        } else if self.plant == Plant::Clock {
            payload += &format!("{now:?}");
        } else if self.plant == Plant::Chatter {
            payload = "x".repeat(response_bytes_max(None) + 1);
        }
        context.told += 1;
        Next::Respond { payload: payload.into(), last: false }
    }

    fn merge(&self, _: &ContentId, one: &Context, other: &Context) -> Option<Context> {
        Some(merged(self.plant, one, other))
    }
}

/// What two sides of a partition have is merged, soundly, into the greater of both.
fn merged(plant: Plant, one: &Context, other: &Context) -> Context {
    let key = |context: &Context| (context.words.clone(), context.told, context.asked);
    let mut greater = if key(one) < key(other) { other } else { one }.clone();
    if plant == Plant::FirstOfTwo {
        greater = one.clone();
    } else if plant == Plant::Halfway {
        greater.told = one.told.midpoint(other.told);
    } else if plant == Plant::CountsMerges {
        greater.asked += 1;
    }
    greater
}

fn board(plant: Plant) -> Board {
    Board { plant, responses: AtomicU32::new(0) }
}

fn requests() -> Vec<Vec<u8>> {
    ["hello", "world", "what", "a", "day"].map(|it| it.as_bytes().to_vec()).into()
}

fn found(plant: Plant) -> Fault {
    Rehearsal::default().run(|| board(plant), &requests()).expect_err("it is there to be found")
}

#[test]
fn a_sound_service_gets_through() {
    rehearse(|| board(Plant::Nothing), &requests());
}

#[test]
fn what_is_remembered_outside_of_the_context_is_found() {
    for plant in [Plant::HiddenState, Plant::HashOrder, Plant::Clock] {
        let fault = found(plant);
        assert!(matches!(fault.what, What::Differs { .. }), "{plant:?}: {fault}");
    }
}

#[test]
fn a_context_that_changes_on_its_way_is_found() {
    let fault = found(Plant::LostField);
    assert!(matches!(fault.what, What::RoundTrip { .. }), "{fault}");
}

#[test]
fn a_context_without_bounds_is_found() {
    let narrow = Rehearsal { context_bytes_max: 100, ..Rehearsal::default() };
    assert_eq!(narrow.run(|| board(Plant::Nothing), &requests()), Ok(()));
    let fault = narrow.run(|| board(Plant::Hoarder), &requests()).expect_err("it is there to be found");
    assert!(matches!(fault.what, What::TooLarge { max: 100, .. }), "{fault}");
}

#[test]
fn a_response_that_is_too_long_is_found() {
    let max = response_bytes_max(None);
    assert_eq!(found(Plant::Chatter).what, What::TooLong { bytes: max + 1, max });
}

#[test]
fn a_verdict_that_a_backup_cannot_come_to_is_found() {
    assert!(matches!(found(Plant::VerdictOfNext).what, What::Backup { .. }));
}

#[test]
fn calls_of_next_that_lead_nowhere_are_found() {
    assert_eq!(found(Plant::SilentChange).what, What::SilentChange);
    assert!(matches!(found(Plant::NeverComes).what, What::NeverComes(_)));
}

#[test]
fn trust_in_contexts_of_clients_is_found() {
    assert!(matches!(found(Plant::Trust).what, What::Panicked(_)));
}

#[test]
fn sessions_that_open_in_two_ways_are_found() {
    let fault = found(Plant::Opens);
    assert!(matches!(fault.what, What::Opens | What::Differs { .. }), "{fault}");
}

#[test]
fn contexts_that_are_merged_against_the_rules_are_found() {
    for (plant, rule) in [
        (Plant::FirstOfTwo, "which of two comes first makes no difference"),
        (Plant::Halfway, "which two of three are merged first makes no difference"),
        (Plant::CountsMerges, "a context with itself is that context"),
    ] {
        let What::Merge { law, .. } = found(plant).what else { panic!("{plant:?} is another fault") };
        assert_eq!(law, rule);
    }
}

#[test]
fn a_fault_is_told_with_what_led_to_it() {
    let told = found(Plant::HiddenState).to_string();
    assert!(told.contains("outside of its context") && told.contains("on unit `board`"), "{told}");
    assert!(told.contains("  1. ") && told.contains("next"), "{told}");
}

/// A board that all sessions share: each word is answered with the number of words before it.
#[derive(Clone, Debug)]
struct Shared {
    plant: Plant,
    words: Vec<u8>,
    /// Not in snapshots.
    since_restored: u8,
}

impl SharedState for Shared {
    fn update(&mut self, request: &[u8]) -> Bytes {
        static UPDATES: AtomicU32 = AtomicU32::new(0);
        self.words.push(request.len() as u8);
        self.since_restored += 1;
        let number = if self.plant == Plant::HiddenState {
            UPDATES.fetch_add(1, Ordering::Relaxed) as u8
        } else if self.plant == Plant::LostField {
            self.since_restored
        } else {
            self.words.len() as u8
        };
        Bytes::copy_from_slice(&[number])
    }

    fn snapshot(&self) -> Bytes {
        Bytes::from(self.words.clone())
    }
}

/// Answers what came of each request.
struct Wall(Plant);

impl ContentService for Wall {
    type Context = Vec<u8>;

    fn units(&self) -> Vec<UnitInfo> {
        vec![UnitInfo::new(UnitId::new("wall").unwrap(), "A wall", "text/plain")]
    }

    fn open(&self, _: &ContentId) -> Vec<u8> {
        Vec::new()
    }

    fn shared(&self, _: &ContentId) -> Option<Box<dyn SharedState>> {
        Some(Box::new(Shared { plant: self.0, words: Vec::new(), since_restored: 0 }))
    }

    fn restore(&self, _: &ContentId, snapshot: &[u8]) -> Option<Box<dyn SharedState>> {
        let words = snapshot.to_vec();
        (self.0 != Plant::Hoarder).then(|| Box::new(Shared { plant: self.0, words, since_restored: 0 }) as _)
    }

    fn apply(&self, _: &ContentId, context: &mut Vec<u8>, result: &[u8]) -> Result<(), Refusal> {
        context.extend_from_slice(result);
        Ok(())
    }

    fn next(&self, _: &ContentId, context: &mut Vec<u8>, _: Time) -> Next {
        match context.pop() {
            Some(answer) => Next::Respond { payload: Bytes::copy_from_slice(&[answer]), last: false },
            None => Next::Idle,
        }
    }
}

#[test]
fn a_shared_state_that_differs_between_servers_is_found() {
    let rehearse = |plant| Rehearsal::default().run(|| Wall(plant), &requests());
    assert!(rehearse(Plant::Nothing).is_ok());
    for plant in [Plant::HiddenState, Plant::LostField] {
        let fault = rehearse(plant).expect_err("it is there to be found");
        assert!(matches!(fault.what, What::SharedState { .. }), "{plant:?}: {fault}");
    }
    let fault = rehearse(Plant::Hoarder).expect_err("it is there to be found");
    assert_eq!(fault.what, What::Snapshot);
}
