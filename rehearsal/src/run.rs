//! One session, undisturbed and then handed over time and again.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use model::Time;
use session_core::{ContentId, ContentService, Next, Refusal, response_bytes_max};

use crate::Rehearsal;
use crate::fault::{Fault, What};
use crate::merge;
use crate::script::{self, Dice, Step, shown};
use crate::shared;

/// When sessions are opened.
const OPENED: Time = Time::from_micros(1_700_000_000_000_000);
/// How far the clocks of servers are off.
const OFFSETS: [Duration; 3] = [Duration::from_secs(3600), Duration::ZERO, Duration::from_secs(3597)];
/// So many times in a row may a service ask for a later time.
const WAITS_MAX: usize = 100;
/// So many bytes are shown of what two responses have in common.
const ALIKE_SHOWN: usize = 60;
/// So many contexts of each session are merged with one another.
const CONTEXTS_MERGED: usize = 5;
/// So many steps at most are done again after a hand-over.
const STEPS_AGAIN: usize = 4;

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Verdict(Result<(), Refusal>),
    Response(Vec<u8>, bool),
    Nothing,
}

impl Outcome {
    /// As it is told to people; of a response, what follows `start`.
    fn shown(&self, start: usize) -> String {
        match self {
            Outcome::Verdict(Ok(())) => "applied".to_owned(),
            Outcome::Verdict(Err(refusal)) => format!("refused, {:?}: {}", refusal.kind, refusal.message),
            Outcome::Response(payload, last) => {
                let before = if start > 0 { "..." } else { "" };
                let after = if *last { " (the last one)" } else { "" };
                format!("{before}{}{after}", shown(payload.get(start..).unwrap_or_default()))
            }
            Outcome::Nothing => "no response".to_owned(),
        }
    }
}

/// A server with an instance of the service.
struct Server<S> {
    service: S,
    now: Time,
}

impl<S: ContentService> Server<S> {
    fn perform(
        &mut self,
        content: &ContentId,
        context: &mut S::Context,
        step: &Step,
    ) -> Result<Outcome, What> {
        match step {
            Step::Request(request) => Ok(Outcome::Verdict(self.apply(content, context, request))),
            Step::Next => self.next(content, context),
        }
    }

    /// As servers do it: a refused request changes nothing.
    fn apply(&self, content: &ContentId, context: &mut S::Context, request: &[u8]) -> Result<(), Refusal> {
        let mut changed = context.clone();
        let verdict = self.service.apply(content, &mut changed, request);
        if verdict.is_ok() {
            *context = changed;
        }
        verdict
    }

    fn next(&mut self, content: &ContentId, context: &mut S::Context) -> Result<Outcome, What> {
        for _ in 0..WAITS_MAX {
            let before = context.clone();
            let next = self.service.next(content, context, self.now);
            match next {
                Next::Respond { payload, last } => {
                    let (bytes, max) = (payload.len(), response_bytes_max(self.service.commit(content)));
                    let response = Outcome::Response(payload.to_vec(), last);
                    return if bytes > max { Err(What::TooLong { bytes, max }) } else { Ok(response) };
                }
                Next::At(_) | Next::Idle if *context != before => return Err(What::SilentChange),
                Next::At(time) => self.now = time.max(self.now + Duration::from_millis(1)),
                Next::Idle => return Ok(Outcome::Nothing),
                Next::Fail { why } => return Err(What::Fails(why)),
            }
        }
        Err(What::NeverComes(WAITS_MAX))
    }
}

/// Rehearses one session.
pub(crate) fn session<S: ContentService>(
    rehearsal: &Rehearsal,
    make: &impl Fn() -> S,
    content: &ContentId,
    requests: &[Vec<u8>],
    seed: u64,
) -> Result<(), Fault> {
    let mut dice = Dice::new(seed);
    let steps = script::write(&mut dice, requests, rehearsal.steps);
    let steps = shared::carried_out(make, content, steps, &mut dice);
    let steps = steps.map_err(|what| Fault { unit: content.unit.clone(), seed, steps: Vec::new(), what })?;
    let mut reached = 0;
    let mut play = Play { rehearsal, make, content, steps: &steps, reached: &mut reached };
    let played = catch_unwind(AssertUnwindSafe(|| {
        let undisturbed = play.undisturbed()?;
        play.disturbed(&undisturbed, &mut dice)
    }));
    let what = match played {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(what)) => what,
        Err(panic) => What::Panicked(message_of(&*panic)),
    };
    let shown = steps.iter().take(reached + 1).map(Step::shown).collect();
    Err(Fault { unit: content.unit.clone(), seed, steps: shown, what })
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// A session that is played.
struct Play<'a, F> {
    rehearsal: &'a Rehearsal,
    make: &'a F,
    content: &'a ContentId,
    steps: &'a [Step],
    /// Which step is the present one.
    reached: &'a mut usize,
}

/// What an undisturbed session leaves behind: what came of each step.
type Record = Vec<Outcome>;

impl<S: ContentService, F: Fn() -> S> Play<'_, F> {
    fn server(&self, number: usize) -> Server<S> {
        Server { service: (self.make)(), now: OPENED + OFFSETS[number] }
    }

    fn undisturbed(&mut self) -> Result<Record, What> {
        let mut server = self.server(0);
        let mut context = server.service.open(self.content);
        let mut record = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            *self.reached = index;
            record.push(server.perform(self.content, &mut context, step)?);
            self.through_bytes(&context)?;
        }
        Ok(record)
    }

    /// The same session at servers that take over from one another.
    fn disturbed(&mut self, record: &Record, dice: &mut Dice) -> Result<(), What> {
        *self.reached = 0;
        let mut servers = [0, 1, 2].map(|number| self.server(number));
        let mut primary = 0;
        let mut context = servers[0].service.open(self.content);
        if bytes(&context) != bytes(&servers[1].service.open(self.content)) {
            return Err(What::Opens);
        }
        // The context before each step, as it travels.
        let mut history = vec![bytes(&context)];
        let mut backup = context.clone();
        for (index, step) in self.steps.iter().enumerate() {
            *self.reached = index;
            if dice.once_in(4) {
                primary = (primary + 1 + dice.below(2)) % servers.len();
                // It may be one that was started again.
                if dice.once_in(3) {
                    servers[primary] = self.server(primary);
                }
                let from = index - dice.below(STEPS_AGAIN).min(index);
                context = self.take_over(&mut servers[primary], &history[from], record, from..index)?;
                *self.reached = index;
            }
            let found = servers[primary].perform(self.content, &mut context, step)?;
            same(&record[index], &found)?;
            if let Step::Request(request) = step {
                let mirror = &servers[(primary + 1) % servers.len()];
                let verdict = Outcome::Verdict(mirror.apply(self.content, &mut backup, request));
                if verdict != found {
                    return Err(What::Backup { primary: found.shown(0), backup: verdict.shown(0) });
                }
            }
            if dice.once_in(6) {
                backup = self.through_bytes(&context)?;
            }
            history.push(bytes(&context));
            self.forged(&servers[primary], &history[index], dice);
        }
        self.merged(&servers, &history, dice)
    }

    /// Contexts of the session at different times, some of them with a request that the others have not, are merged.
    fn merged(&self, servers: &[Server<S>; 3], history: &[Vec<u8>], dice: &mut Dice) -> Result<(), What> {
        let mut contexts = Vec::new();
        for _ in 0..CONTEXTS_MERGED {
            let mut context = decoded(&history[dice.below(history.len())])?;
            if let Step::Request(request) = &self.steps[dice.below(self.steps.len())] {
                // A refused one changes nothing.
                let _ = servers[0].apply(self.content, &mut context, request);
            }
            contexts.push(context);
        }
        let [one, other, _] = servers;
        merge::obeys([&one.service, &other.service], self.content, &contexts)
    }

    /// The context at a server that goes on from an older one, and does again what came since.
    fn take_over(
        &mut self,
        server: &mut Server<S>,
        older: &[u8],
        record: &Record,
        since: Range<usize>,
    ) -> Result<S::Context, What> {
        let mut context = decoded(older)?;
        for (index, expected) in record.iter().enumerate().take(since.end).skip(since.start) {
            *self.reached = index;
            same(expected, &server.perform(self.content, &mut context, &self.steps[index])?)?;
        }
        Ok(context)
    }

    /// The context as it arrives elsewhere, which has to be as it was.
    fn through_bytes(&self, context: &S::Context) -> Result<S::Context, What> {
        let encoded = bytes(context);
        if encoded.len() > self.rehearsal.context_bytes_max {
            return Err(What::TooLarge { bytes: encoded.len(), max: self.rehearsal.context_bytes_max });
        }
        let arrived: S::Context = decoded(&encoded)?;
        if arrived != *context || bytes(&arrived) != encoded {
            let (before, after) = (format!("{context:?}"), format!("{arrived:?}"));
            return Err(What::RoundTrip { before, after });
        }
        Ok(arrived)
    }

    /// Clients bring contexts along, and may make one up: the server does not have to serve such a one well, but it has
    /// to live on.
    fn forged(&self, server: &Server<S>, context: &[u8], dice: &mut Dice) {
        let Ok(mut context) = postcard::from_bytes::<S::Context>(&dice.spoilt(context)) else { return };
        let requests = self.steps.iter().filter_map(|step| match step {
            Step::Request(request) => Some(request),
            Step::Next => None,
        });
        // Whatever it says to these.
        for request in requests.skip(dice.below(8)).take(3) {
            let _ = server.apply(self.content, &mut context, request);
        }
        let _ = server.service.next(self.content, &mut context, server.now);
    }
}

fn same(expected: &Outcome, found: &Outcome) -> Result<(), What> {
    if expected == found {
        return Ok(());
    }
    let start = match (expected, found) {
        (Outcome::Response(one, _), Outcome::Response(other, _)) => {
            let alike = one.iter().zip(other).take_while(|(one, other)| one == other).count();
            alike.saturating_sub(ALIKE_SHOWN)
        }
        _ => 0,
    };
    Err(What::Differs { expected: expected.shown(start), found: found.shown(start) })
}

/// A context as it travels.
fn bytes(context: &impl serde::Serialize) -> Vec<u8> {
    match postcard::to_allocvec(context) {
        Ok(bytes) => bytes,
        Err(error) => panic!("the context cannot be encoded: {error}"),
    }
}

fn decoded<C: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<C, What> {
    postcard::from_bytes(bytes).map_err(|error| What::RoundTrip {
        before: format!("{} bytes", bytes.len()),
        after: format!("nothing: {error}"),
    })
}
