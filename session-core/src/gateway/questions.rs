//! Questions about the catalogue, and what is known of it: one server is asked, another one if it does not answer.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use model::{SessionId, Time, UnitId};

use super::interface::Ticket;
use crate::message::Secret;
use crate::service::UnitInfo;

/// Who waits for the catalogue, and for how long.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) ticket: Ticket,
    pub(super) until: Time,
    /// What to open, if that is what the question is for.
    pub(super) open: Option<Opening>,
}

/// A session to be opened.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) unit: UnitId,
    pub(super) session: SessionId,
    pub(super) secret: Secret,
}

/// What is known of the catalogue, and who wants to know more.
#[derive(Debug, Default)]
pub(super) struct Questions {
    pub(super) units: BTreeMap<UnitId, UnitInfo>,
    /// The number of the last question.
    query: u64,
    /// The questions up to this number are settled.
    settled: u64,
    askers: Vec<Asker>,
    retry_at: Option<Time>,
}

impl Questions {
    /// How many calls wait for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.askers.len()
    }

    /// Whether a question is under way.
    pub(super) fn is_open(&self) -> bool {
        self.retry_at.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.retry_at
    }

    pub(super) fn wait(&mut self, asker: Asker) {
        self.askers.push(asker);
    }

    /// The number of a new question, which is repeated at `retry_at`.
    pub(super) fn ask(&mut self, retry_at: Time) -> u64 {
        self.query += 1;
        self.retry_at = Some(retry_at);
        self.query
    }

    /// Takes an answer. Returns who waited for it. A question is repeated under new numbers until the first answer to
    /// any of them, however late that comes.
    pub(super) fn answer(&mut self, query: u64, units: Vec<UnitInfo>) -> Vec<Asker> {
        if !(self.settled + 1..=self.query).contains(&query) {
            return Vec::new();
        }
        self.settled = self.query;
        self.units = units.into_iter().map(|info| (info.unit.clone(), info)).collect();
        self.retry_at = None;
        core::mem::take(&mut self.askers)
    }

    /// The question was not answered in time. Returns who waits no longer.
    pub(super) fn give_up(&mut self, now: Time) -> Vec<Asker> {
        self.retry_at = None;
        let (expired, waiting) =
            core::mem::take(&mut self.askers).into_iter().partition(|asker| asker.until <= now);
        self.askers = waiting;
        expired
    }
}
