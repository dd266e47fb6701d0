//! What a client may expect: from the last response and its own requests it computes the next response.
//!
//! Which of its requests a response reflects, only the response itself says. But they are applied in the order of
//! their numbers, once each; none that was acknowledged may be missing, unless a server said how many are lost; and
//! the rest of the response follows from them.

use std::collections::BTreeSet;

use crate::toy::{Request, Response, Tape, Wish};

/// What a client knows of its session.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// By serial number, from 1.
    requests: Vec<Request>,
    /// As of the last response, before the head moved on.
    last: Option<Response>,
    responses: u64,
    highest: u64,
    acknowledged: BTreeSet<u32>,
    /// How many requests servers said are lost.
    lost: u64,
}

/// What a client knew when it had so many responses.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    last: Option<Response>,
    responses: u64,
}

impl Oracle {
    /// Where the client is.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { last: self.last.clone(), responses: self.responses }
    }

    /// The client knows no more than it did then; what it asked for since, it knows.
    pub fn go_back(&mut self, to: Checkpoint) {
        let Checkpoint { last, responses } = to;
        self.last = last;
        self.responses = responses;
    }

    /// The client sends a request.
    pub fn asks(&mut self, request: Request) {
        self.requests.push(request);
    }

    /// The client is told that a request was applied.
    pub fn is_told_applied(&mut self, serial: u32) {
        self.acknowledged.insert(serial);
    }

    /// The client sends all requests after `reflected` again.
    pub fn reopens(&mut self, reflected: u32) {
        self.acknowledged.split_off(&(reflected + 1));
    }

    /// The client is told that so many requests are lost.
    pub fn is_told_lost(&mut self, requests: u64) {
        self.lost += requests;
    }

    /// Whether the service may refuse a request.
    pub fn is_refusable(&self, serial: u32) -> bool {
        match self.requests[serial as usize - 1].wish {
            Wish::Seek(position) => self.length().is_none_or(|length| position >= length),
            Wish::Pace(_) | Wish::Note(_) | Wish::Finish => false,
        }
    }

    /// Whether the last response reflects a request.
    pub fn has(&self, serial: u32) -> bool {
        self.last.as_ref().is_some_and(|last| last.tape.applied.contains(&serial))
    }

    /// The position that the last response was.
    pub fn position(&self) -> Option<u32> {
        self.last.as_ref().map(|last| last.position)
    }

    /// How many positions the unit has, as soon as that is known.
    pub fn length(&self) -> Option<u32> {
        self.last.as_ref().map(|last| last.tape.length)
    }

    /// The greatest number of a response.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// The client receives a response.
    pub fn receives(&mut self, number: u64, payload: &[u8]) -> Result<(), String> {
        let response: Response =
            postcard::from_bytes(payload).map_err(|error| format!("is garbled: {error}"))?;
        let before = core::mem::replace(&mut self.responses, number);
        self.highest = self.highest.max(number);
        if number != before + 1 {
            self.last = Some(response);
            return Err(format!("comes after {before}"));
        }
        let expected = self.expect(&response.tape, response.drawn);
        let judged = match expected {
            Ok(expected) if expected.as_ref() != Some(&response) => {
                Err(format!("is {response:?}, and should be {expected:?}"))
            }
            Ok(_) => self.nothing_is_missing(&response.tape),
            Err(wrong) => Err(wrong),
        };
        self.last = Some(response);
        judged
    }

    /// The response that follows on the last one, after the further requests that `tape` has, if this was drawn for it.
    fn expect(&self, tape: &Tape, drawn: u64) -> Result<Option<Response>, String> {
        let mut mine = match &self.last {
            Some(last) => Tape { position: last.position + 1, ..last.tape.clone() },
            None => Tape::new(tape.length),
        };
        let Some(further) = tape.applied.strip_prefix(&mine.applied[..]) else {
            return Err(format!("goes back from {:?} to {:?}", mine.applied, tape.applied));
        };
        for serial in further {
            if mine.applied.last().is_some_and(|last| last >= serial) {
                return Err(format!("applied {:?}, out of order or twice", tape.applied));
            }
            let Some(request) = self.requests.get(*serial as usize - 1) else {
                return Err(format!("applied {serial}, which was never sent"));
            };
            mine.apply(request).map_err(|refusal| format!("applied {serial} in spite of {refusal:?}"))?;
        }
        Ok(mine.respond(drawn))
    }

    fn nothing_is_missing(&self, tape: &Tape) -> Result<(), String> {
        let last = tape.applied.last().max(self.acknowledged.last()).copied().unwrap_or(0);
        let refused = |serial: u32| match self.requests[serial as usize - 1].wish {
            Wish::Seek(position) => position >= tape.length,
            Wish::Pace(_) | Wish::Note(_) | Wish::Finish => false,
        };
        let missing: Vec<u32> =
            (1..=last).filter(|serial| !tape.applied.contains(serial) && !refused(*serial)).collect();
        if missing.len() as u64 <= self.lost {
            return Ok(());
        }
        Err(format!("lacks requests {missing:?}, of which {} were said to be lost", self.lost))
    }
}
