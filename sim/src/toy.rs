//! A toy content service: units are runs of numbered positions, and every response says so much about the context that
//! it comes from that a client can compute the next one for itself.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use model::{Digest, Level, Time};
use serde::{Deserialize, Serialize};
use session_core::{ContentId, ContentService, Edition, Next, Refusal, RefusalKind, SharedState, UnitInfo};

use crate::dice::Dice;
use crate::knobs::Unit;

/// The usual time from one response to the next.
const PACE: Duration = Duration::from_millis(100);

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// When the next response is due.
    due: Time,
    /// The time from one response to the next.
    pace: Duration,
    /// The part of the context that clients can follow.
    pub tape: Tape,
}

/// Everything but the times: a function of the requests and responses so far, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tape {
    /// The position that is sent next.
    pub position: u32,
    /// How many there are.
    pub length: u32,
    /// A fingerprint of all requests and responses.
    pub sum: Digest,
    /// The serial numbers of the requests that were applied, in that order.
    pub applied: Vec<u32>,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which of the client's requests, from 1.
    pub serial: u32,
    /// What it is about.
    pub wish: Wish,
}

/// What requests are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Go on from this position.
    Seek(u32),
    /// Take this many milliseconds from one response to the next.
    Pace(u16),
    /// Add this to the fingerprint.
    Note(u64),
    /// Send the last position, and be done.
    Finish,
}

impl Request {
    /// As it travels.
    pub fn encode(&self) -> Bytes {
        Bytes::from(postcard::to_allocvec(self).expect("requests are plain data"))
    }
}

impl Tape {
    /// The tape of a new session.
    pub fn new(length: u32) -> Tape {
        Tape { position: 0, length, sum: Digest::EMPTY, applied: Vec::new() }
    }

    /// Applies a request. A refused one changes nothing.
    pub fn apply(&mut self, request: &Request) -> Result<(), Refusal> {
        match request.wish {
            Wish::Seek(position) if position >= self.length => {
                let message = format!("the unit has {} positions", self.length);
                return Err(Refusal { kind: RefusalKind::OutOfRange, message });
            }
            Wish::Seek(position) => self.position = position,
            Wish::Finish => self.position = self.length - 1,
            Wish::Pace(_) | Wish::Note(_) => {}
        }
        self.applied.push(request.serial);
        self.sum = self.sum.and(&request.encode());
        Ok(())
    }

    /// Sends the next position, if there is one, with a number that goes into the fingerprint.
    pub fn respond(&mut self, drawn: u64) -> Option<Response> {
        if self.position >= self.length {
            return None;
        }
        self.sum = self.sum.and(&self.position.to_le_bytes()).and(&drawn.to_le_bytes());
        let response = Response { position: self.position, drawn, tape: self.clone() };
        self.position += 1;
        Some(response)
    }
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The position that this response is.
    pub position: u32,
    /// The number that was drawn for it; 0 in units without chance.
    pub drawn: u64,
    /// The tape with this response on it, before the head moves on.
    pub tape: Tape,
}

/// What all sessions on a unit share: a log of their requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Log {
    /// A fingerprint of all that is written in it.
    sum: Digest,
}

impl SharedState for Log {
    /// What comes of a request depends on all that came before it.
    fn update(&mut self, request: &[u8]) -> Bytes {
        self.sum = self.sum.and(request);
        Bytes::from(postcard::to_allocvec(&(self.sum, request)).expect("logs are plain data"))
    }

    fn snapshot(&self) -> Bytes {
        Bytes::from(postcard::to_allocvec(self).expect("logs are plain data"))
    }
}

/// The service at one server.
pub struct Toy {
    machine: usize,
    units: Vec<Unit>,
    /// For what is drawn: every life of a server has its own.
    dice: RefCell<Dice>,
}

impl Toy {
    /// The service of machine number `machine`.
    pub fn new(units: &[Unit], machine: usize, dice: Dice) -> Toy {
        Toy { machine, units: units.to_vec(), dice: RefCell::new(dice) }
    }

    /// The unit of this content, which is held here: nobody asks for anything else.
    fn unit(&self, content: &ContentId) -> &Unit {
        let number = content.edition.number;
        let holds = |unit: &Unit| unit.editions.get(&number).is_some_and(|held| held.contains(&self.machine));
        let unit = self.units.iter().find(|unit| unit.id == content.unit && holds(unit));
        unit.unwrap_or_else(|| panic!("asked to serve {content}, which is not held here"))
    }

    fn length(&self, content: &ContentId) -> u32 {
        self.unit(content).length(content.edition.number)
    }
}

impl ContentService for Toy {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        let held = self.units.iter().flat_map(|unit| {
            let here = unit.editions.iter().filter(|(_, holders)| holders.contains(&self.machine));
            here.map(move |(number, _)| (unit, *number))
        });
        let info = |(unit, number): (&Unit, u32)| UnitInfo {
            unit: unit.id.clone(),
            edition: Edition { number, digest: Digest::of(&number.to_le_bytes()) },
            title: unit.id.to_string(),
            media_type: "text/plain".into(),
            duration: PACE * unit.length(number),
            size: 0,
        };
        held.map(info).collect()
    }

    fn open(&self, content: &ContentId) -> Context {
        Context { due: Time::ZERO, pace: PACE, tape: Tape::new(self.length(content)) }
    }

    fn apply(&self, content: &ContentId, context: &mut Context, request: &[u8]) -> Result<(), Refusal> {
        let malformed = |error| Refusal { kind: RefusalKind::Malformed, message: format!("{error}") };
        let is_written = self.unit(content).shared;
        let written = is_written.then(|| postcard::from_bytes::<(Digest, &[u8])>(request).map_err(malformed));
        let request = written.transpose()?.map_or(request, |(_, request)| request);
        let request: Request = postcard::from_bytes(request).map_err(malformed)?;
        assert_eq!(context.tape.length, self.length(content), "a session stays with its edition");
        context.tape.apply(&request)?;
        match request.wish {
            Wish::Pace(pace) => context.pace = Duration::from_millis(u64::from(pace).max(1)),
            Wish::Finish => context.due = Time::ZERO,
            Wish::Seek(_) | Wish::Note(_) => {}
        }
        Ok(())
    }

    fn commit(&self, content: &ContentId) -> Option<Level> {
        self.unit(content).commit
    }

    fn shared(&self, content: &ContentId) -> Option<Box<dyn SharedState>> {
        self.unit(content).shared.then(|| Box::new(Log { sum: Digest::EMPTY }) as Box<dyn SharedState>)
    }

    fn restore(&self, _: &ContentId, snapshot: &[u8]) -> Option<Box<dyn SharedState>> {
        postcard::from_bytes::<Log>(snapshot).ok().map(|log| Box::new(log) as Box<dyn SharedState>)
    }

    fn next(&self, content: &ContentId, context: &mut Context, now: Time) -> Next {
        assert_eq!(context.tape.length, self.length(content), "a session stays with its edition");
        if now < context.due {
            return Next::At(context.due);
        }
        let is_left_to_chance = self.commit(content).is_some();
        let drawn = if is_left_to_chance { self.dice.borrow_mut().bits() } else { 0 };
        let Some(response) = context.tape.respond(drawn) else { return Next::Idle };
        // The schedule is absolute; a start, or a long pause, begins a new one.
        let begin = if now.since(context.due) > Duration::from_secs(1) { now } else { context.due };
        context.due = begin + context.pace;
        let last = context.tape.position >= context.tape.length;
        let payload = Bytes::from(postcard::to_allocvec(&response).expect("responses are plain data"));
        Next::Respond { payload, last }
    }
}
