//! What a primary has computed and may not send yet, in units with output commit: one multicast is under way at a time,
//! what is computed meanwhile goes with the next one, and what has come back waits for its level and the client's
//! credit.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::credit::Room;
use crate::edition::History;
use crate::message::{Committed, Cursor};
use crate::service::Refusal;

/// Something for the gateway, in the order in which the group has it.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A response.
    Response { number: u64, response: Committed },
    /// What became of a request, and the client's position after it.
    Applied { number: u64, outcome: Result<(), Refusal>, cursor: Cursor },
}

impl Item {
    /// What it takes of the client's credit.
    fn bytes(&self) -> usize {
        match self {
            Item::Response { response, .. } => response.size(),
            Item::Applied { .. } => 0,
        }
    }
}

/// A commit that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    /// How many responses are in it.
    pub(crate) responses: u64,
    /// What they take.
    bytes: usize,
}

/// The responses of one primary on their way through the session group.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline<C> {
    /// The commit that is under way, if one is.
    pub(crate) flight: Option<Flight>,
    /// The context has moved on by a request since that commit was multicast.
    pub(crate) is_overtaken: bool,
    /// Computed, and not multicast.
    pub(crate) waiting: Vec<Committed>,
    waiting_bytes: usize,
    /// The context after all that is under way or waiting, and the history of it.
    pub(crate) ahead: Option<(C, History)>,
    /// Requests that had been applied before and came again during the flight.
    pub(crate) again: Vec<(u64, Result<(), Refusal>)>,
    /// What the group has, and the gateway is to be told.
    out: VecDeque<Item>,
    out_bytes: usize,
    /// How many of those it may be told: the group is known to have them as surely as the unit demands.
    released: usize,
    /// As surely as that, the group has the responses up to this one.
    pub(crate) sure: u64,
}

impl<C> Pipeline<C> {
    pub(crate) fn new() -> Pipeline<C> {
        Pipeline {
            flight: None,
            is_overtaken: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            ahead: None,
            again: Vec::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            released: 0,
            sure: 0,
        }
    }

    /// Whether nothing is under way, and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.flight.is_none() && self.waiting.is_empty() && self.out.is_empty()
    }

    /// Whatever is under way is another primary's now, or this one's under another fence.
    pub(crate) fn reset(&mut self) {
        *self = Pipeline::new();
    }

    /// A request that had been applied before came again while responses are under way.
    pub(crate) fn put_off(&mut self, number: u64, outcome: Result<(), Refusal>, max: usize) {
        if self.again.len() < max {
            self.again.push((number, outcome));
        }
    }

    /// A response was computed.
    pub(crate) fn wait(&mut self, response: Committed) {
        self.waiting_bytes += response.size();
        self.waiting.push(response);
    }

    /// Whether the next commit is large enough.
    pub(crate) fn is_full(&self, bytes_max: usize) -> bool {
        self.waiting_bytes >= bytes_max
    }

    /// What was computed, and not sent, takes so many bytes.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.waiting_bytes + self.flight.map_or(0, |flight| flight.bytes) + self.out_bytes
    }

    /// Takes what goes with the next commit.
    pub(crate) fn commit_waiting(&mut self) -> Vec<Committed> {
        let (responses, bytes) = (self.waiting.len() as u64, core::mem::take(&mut self.waiting_bytes));
        self.flight = Some(Flight { responses, bytes });
        core::mem::take(&mut self.waiting)
    }

    /// The context is another one now: what was computed from the one before, and not multicast, nobody knows of. It is
    /// computed again.
    pub(crate) fn discard(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.ahead = None;
        self.is_overtaken = self.flight.is_some_and(|flight| flight.responses > 0);
    }

    /// The group has something for the gateway. More than `acknowledgements_max` acknowledgements do not wait: the
    /// gateway asks again.
    pub(crate) fn push(&mut self, item: Item, acknowledgements_max: usize) {
        let is_acknowledgement = |item: &Item| matches!(item, Item::Applied { .. });
        if is_acknowledgement(&item)
            && self.out.iter().filter(|item| is_acknowledgement(item)).count() >= acknowledgements_max
        {
            return;
        }
        self.out_bytes += item.bytes();
        self.out.push_back(item);
    }

    /// A new stream begins with these responses.
    pub(crate) fn begin(&mut self, responses: impl Iterator<Item = (u64, Committed)>) {
        self.out = responses.map(|(number, response)| Item::Response { number, response }).collect();
        self.out_bytes = self.out.iter().map(Item::bytes).sum();
        let sure = self.sure;
        let is_sure = |item: &&Item| matches!(item, Item::Response { number, .. } if *number <= sure);
        self.released = self.out.iter().take_while(is_sure).count();
        self.again.clear();
    }

    /// All that the group has, it has as surely as the unit demands.
    pub(crate) fn release(&mut self) {
        self.released = self.out.len();
    }

    /// Whether something waits to be released.
    pub(crate) fn is_held_back(&self) -> bool {
        self.released < self.out.len()
    }

    /// The next thing to tell the gateway, if there is room for it.
    pub(crate) fn pop(&mut self, room: &mut Room) -> Option<Item> {
        let next = self.out.front()?;
        let may_go = match next {
            Item::Response { number, .. } => room.is_left(number.saturating_sub(1)),
            Item::Applied { .. } => true,
        };
        if self.released == 0 || !may_go {
            return None;
        }
        self.released -= 1;
        room.use_up(next.bytes());
        self.out_bytes -= next.bytes();
        self.out.pop_front()
    }
}
