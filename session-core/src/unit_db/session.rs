//! What the unit database knows of a session, and what primaries tell it.

use alloc::vec::Vec;

use bytes::Bytes;
use model::{Boot, Fence, Name, ProcessId, SessionId};
use serde::{Deserialize, Serialize};

use super::Stalls;
use crate::edition::{Edition, History, edition_of, history_of};
use crate::message::{Cursor, GatewayId, Secret};

/// So many primaries of a session are remembered, to tell what its context came through.
const PAST_MAX: usize = 8;

/// What the unit database knows of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What its client shows.
    pub secret: Secret,
    /// Where its client is.
    pub gateway: GatewayId,
    /// How often its client has come to another gateway.
    pub hops: u64,
    /// Who responds; `None` while nobody can: no member holds its edition, it was given up, or it was started in an
    /// exchange that broke off.
    pub primary: Option<ProcessId>,
    /// Who applies every request too, the first in line first.
    pub backups: Vec<ProcessId>,
    /// The primary's right to serve.
    pub fence: Fence,
    /// The primary before this one: its last word is still welcome.
    pub replaced: Option<Replaced>,
    /// Whether an operator put it where it is: it is not moved from there for balance.
    pub placed: bool,
    /// How often it was moved since nothing came from its primaries.
    pub stalls: Stalls,
    /// Whether both sides of a partition served it, and nobody has since they met.
    pub merged: bool,
    /// Whether it was made anew from its client's cursor, and nobody has served it since.
    pub rebuilt: bool,
    /// Which propagation the context is from.
    pub version: Version,
    /// The last ones of the primaries before, the latest last: what of theirs the context came through. Some of them.
    pub past: Vec<Version>,
    /// As last propagated, or as the service opened it.
    pub context: Bytes,
    /// How many requests the context reflects.
    pub requests: u64,
    /// How many responses the context reflects.
    pub responses: u64,
}

impl Session {
    /// The edition that it was opened on; nothing if its context is none, which no server propagates.
    pub fn edition(&self) -> Option<Edition> {
        edition_of(&self.context)
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        match self.primary {
            None => Stage::Unserved,
            Some(_) if self.version.fence < self.fence => Stage::Claimed,
            Some(_) => Stage::Active,
        }
    }

    /// So many responses led to the context, and these ones.
    pub(crate) fn history(&self) -> (u64, History) {
        (self.responses, history_of(&self.context))
    }

    /// Where its client is, as far as is known.
    pub(crate) fn position(&self) -> Cursor {
        Cursor { responses: self.responses, requests: self.requests, context: self.context.clone() }
    }

    /// Takes another copy's word for where the client is, if that has seen more of its ways.
    pub(super) fn find_client(&mut self, hops: u64, gateway: GatewayId) {
        if self.hops < hops {
            (self.hops, self.gateway) = (hops, gateway);
        }
    }

    /// Takes what a primary propagated in place of what is known.
    pub(super) fn take(&mut self, update: Update) {
        if update.version.fence != self.version.fence {
            self.past.push(self.version);
            let surplus = self.past.len().saturating_sub(PAST_MAX);
            self.past.drain(..surplus);
        }
        self.version = update.version;
        self.context = update.context;
        self.requests = update.requests;
        self.responses = update.responses;
    }

    /// Whether its context is that version's, or one that goes on from it. What is older than all that is remembered
    /// counts as known.
    pub(super) fn comes_after(&self, version: Version) -> bool {
        let mut came_through = self.past.iter().chain([&self.version]);
        let reached = |here: &Version| here.fence == version.fence && here.number >= version.number;
        came_through.any(reached) || self.past.first().is_some_and(|oldest| version.fence < oldest.fence)
    }
}

/// How far a session is, as all servers of its unit know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nobody is there to serve it.
    Unserved,
    /// It has a primary, which has not said yet that it serves.
    Claimed,
    /// Its primary serves it.
    Active,
}

/// A former primary of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Replaced {
    /// Who.
    pub server: ProcessId,
    /// The fence that it had.
    pub fence: Fence,
}

/// Orders the propagations of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// The fence of the primary that propagated.
    pub fence: Fence,
    /// Its how-manieth propagation of the session.
    pub number: u64,
}

/// What a primary propagates of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The session.
    pub session: SessionId,
    /// Which propagation this is.
    pub version: Version,
    /// The context.
    pub context: Bytes,
    /// How many requests it reflects.
    pub requests: u64,
    /// How many responses it reflects.
    pub responses: u64,
}

/// An ended session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tomb {
    /// When it ended, in ended sessions of this unit.
    pub order: u64,
    /// How many requests were known to be applied.
    pub requests: u64,
    /// The life of the gateway at which no client came, if that is why it ended.
    pub expired_at: Option<(Name, Boot)>,
    /// Whether the service could not go on with it.
    pub failed: bool,
}

impl Tomb {
    /// Whether `copy`, which others have, is over too. It is not if its client went on after all that is known here,
    /// or came back elsewhere than where it was missed.
    pub(super) fn covers(&self, copy: &Session) -> bool {
        let elsewhere = |at| at != (copy.gateway.name, copy.gateway.boot);
        copy.requests <= self.requests && !self.expired_at.is_some_and(elsewhere)
    }
}
