//! One held unit: its database, the sessions in which this server has a part, and what of them is to be propagated.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use model::trace::Role;
use model::{SessionId, Time, UnitId};

use super::groups::tell;
use super::interface::Output;
use super::orders::NOBODYS;
use crate::edition::Edition;
use crate::held::{Held, Serving};
use crate::message::{ContentMessage, Cursor, encode};
use crate::names::Purpose;
use crate::unit_db::{Database, Happening, Intent, Update};

/// One held unit.
#[derive(Debug)]
pub(super) struct Unit<C> {
    pub(super) database: Database,
    /// Which editions are held here. The database knows of a change once that is delivered.
    pub(super) editions: BTreeSet<Edition>,
    /// Which are not held any more: sessions on them that are served here go on until others have them.
    pub(super) vanishing: BTreeSet<Edition>,
    /// If there are any: until when.
    pub(super) vanishes_at: Option<Time>,
    /// Whether this server has come into the content group to hold the unit. What it hears there before is of an earlier
    /// membership: it has left, and those who order messages have not got round to it.
    pub(super) has_joined: bool,
    /// Events of the content group since its last view.
    pub(super) position: u64,
    /// Boxed: a map that grows at its end has room for almost twice as many.
    pub(super) held: BTreeMap<SessionId, Box<Held<C>>>,
    /// Sessions served here whose context changed since it was last propagated.
    pub(super) dirty: BTreeSet<SessionId>,
    pub(super) propagate_at: Option<Time>,
    /// Since when the others have not been told of some of them.
    pub(super) dirty_since: Option<Time>,
    /// When the database last heard of each session's context.
    pub(super) heard: BTreeMap<SessionId, Time>,
    /// Whether this server has left the content group, to be gone soon.
    pub(super) has_left: bool,
}

impl<C> Unit<C> {
    pub(super) fn new(database: Database, editions: BTreeSet<Edition>) -> Unit<C> {
        Unit {
            database,
            editions,
            vanishing: BTreeSet::new(),
            vanishes_at: None,
            has_joined: false,
            position: 0,
            held: BTreeMap::new(),
            dirty: BTreeSet::new(),
            propagate_at: None,
            dirty_since: None,
            heard: BTreeMap::new(),
            has_left: false,
        }
    }

    /// Whether somebody has the database who is still there when this server has left.
    pub(super) fn has_heirs(&self) -> bool {
        self.database.is_agreed() && self.database.members().len() > 1
    }

    /// Whether some client is sent responses from here.
    pub(super) fn serves(&self) -> bool {
        self.held.values().any(|held| held.streams())
    }

    /// Whether some client is sent what is not held here any more.
    pub(super) fn serves_vanishing(&self) -> bool {
        self.held.values().any(|held| held.streams() && self.is_vanishing(held))
    }

    /// Whether a session is on an edition that is not held here any more.
    pub(super) fn is_vanishing(&self, held: &Held<C>) -> bool {
        self.vanishing.contains(&held.replica.content.edition)
    }

    /// Something that happened to a session, at this place of the order.
    pub(super) fn report(&self, unit: &UnitId, session: SessionId, happening: Happening) -> Output {
        let place = (self.database.view(), self.position);
        Output::Happened { unit: unit.clone(), session, place, happening }
    }

    /// The context of a session served here is ahead of the database. While it is claimed, whoever served it before may
    /// be further ahead, and have the say: all is told once the claim is granted.
    pub(super) fn soil(&mut self, now: Time, session: SessionId) {
        if self.held.get(&session).is_some_and(|held| held.streams()) {
            self.dirty.insert(session);
            self.dirty_since.get_or_insert(now);
            let due = now + self.database.policy().period;
            self.propagate_at = self.propagate_at.or(Some(due));
        }
    }

    /// The period may be shorter than it was: what waits for its end does not wait for that of the longer one.
    pub(super) fn hasten(&mut self, now: Time) {
        let due = now + self.database.policy().period;
        self.propagate_at = self.propagate_at.map(|before| before.min(due));
    }

    /// A new primary propagates at once: until then a second failure would go back to what the first one left.
    pub(super) fn propagate_soon(&mut self, now: Time, session: SessionId) {
        self.dirty.insert(session);
        self.dirty_since.get_or_insert(now);
        self.propagate_at = Some(now);
    }
}

impl<C> Unit<C>
where
    C: Clone + serde::Serialize + serde::de::DeserializeOwned,
{
    /// Multicasts what became of the sessions served here since the last time [FK:propagate], in messages of about
    /// `bytes_max`.
    pub(super) fn propagate(&mut self, unit: &UnitId, bytes_max: usize, out: &mut Vec<Output>) {
        const UPDATE_OVERHEAD: usize = 128;
        self.propagate_at = None;
        self.dirty_since = None;
        let (mut batch, mut size) = (Vec::new(), 0);
        for session in core::mem::take(&mut self.dirty) {
            let Some(held) = self.held.get_mut(&session).filter(|held| held.role == Role::Primary) else {
                continue;
            };
            let update = held.update(session);
            size += update.context.len() + UPDATE_OVERHEAD;
            batch.push(update);
            if size >= bytes_max {
                out.push(propagation(unit, core::mem::take(&mut batch)));
                size = 0;
            }
        }
        out.extend((!batch.is_empty()).then(|| propagation(unit, batch)));
    }

    /// As [`Unit::propagate`], of all sessions served here: this server has no say in them from here on. A primary that
    /// serves nobody, since its component is not the one to do so, has nothing to say.
    pub(super) fn propagate_all(&mut self, unit: &UnitId, bytes_max: usize, out: &mut Vec<Output>) {
        let serves = |held: &Held<C>| held.role == Role::Primary && held.serving != Serving::Nothing;
        let served = self.held.iter().filter(|(_, held)| serves(held));
        self.dirty.extend(served.map(|(session, _)| *session));
        self.propagate(unit, bytes_max, out);
    }

    /// Leaves the unit to the other servers of its group. Those served here go on until their new primaries have them.
    pub(super) fn leave(&mut self, unit: &UnitId, bytes_max: usize, out: &mut Vec<Output>) {
        self.has_left = true;
        self.propagate_all(unit, bytes_max, out);
        out.push(tell(unit, &ContentMessage::Intend { intent: Intent::Leaving, ticket: NOBODYS }));
        out.push(Output::Leave(Vec::from([Purpose::Content(unit.clone()).group()])));
    }

    /// A primary that cannot serve the client says where the client is.
    pub(super) fn propagate_position(
        &mut self,
        unit: &UnitId,
        session: SessionId,
        position: Cursor,
        out: &mut Vec<Output>,
    ) {
        self.dirty.remove(&session);
        if let Some(held) = self.held.get_mut(&session) {
            out.push(propagation(unit, Vec::from([held.update_of(session, position)])));
        }
    }

    /// A primary that is replaced while it lives says how far it got.
    pub(super) fn last_word(&mut self, unit: &UnitId, session: SessionId, out: &mut Vec<Output>) {
        self.dirty.remove(&session);
        if let Some(held) = self.held.get_mut(&session) {
            out.push(propagation(unit, Vec::from([held.update(session)])));
        }
    }
}

fn propagation(unit: &UnitId, updates: Vec<Update>) -> Output {
    let group = Purpose::Content(unit.clone()).group();
    Output::multicast(group, encode(&ContentMessage::Propagate { updates }))
}
