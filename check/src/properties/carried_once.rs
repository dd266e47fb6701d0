//! The state that sessions on a unit share behaves like a single copy: requests to it have one order, each has one place
//! in it and one result, whichever server uses it; and a request that a client made after another one was acknowledged,
//! to whomever, comes after that one. With results that follow from the order, this is linearizability: the places are
//! the witness. What is lost when operators found the state anew does not count.
//! [FK:shared-state]

use std::collections::BTreeMap;

use model::trace::Event;
use model::{Digest, GroupViewId, Name, SessionId, UnitId};

use crate::property::{Breach, Position, Property, breach};

/// A request, of whatever session.
type Request = (SessionId, u64);

/// A founding of a state.
type Founding = (u64, GroupViewId);

/// A place in the order of a unit's requests, after a founding of its state.
type Place = (UnitId, Founding, u64);

/// The last place that was acknowledged at a gateway, by founding.
type Last = BTreeMap<Founding, (u64, Position)>;

/// What a gateway has acknowledged of one unit.
#[derive(Default)]
struct Acknowledged {
    last: Last,
    /// Requests whose place is not known yet: what servers tell may come later than what they have caused.
    late: BTreeMap<Request, Position>,
}

/// The checker.
#[derive(Default)]
pub(crate) struct CarriedOnce {
    units: BTreeMap<SessionId, UnitId>,
    /// Who has a place, with what result.
    places: BTreeMap<Place, (Request, Digest, Position)>,
    /// The place that a request has.
    requests: BTreeMap<Request, (Place, Position)>,
    acknowledged: BTreeMap<(Name, UnitId), Acknowledged>,
    /// What had been acknowledged at a gateway when a client first made a request there.
    before: BTreeMap<Request, Last>,
    /// Requests that were made after a late one was acknowledged.
    after: BTreeMap<Request, Vec<Request>>,
}

impl Property for CarriedOnce {
    fn name(&self) -> &'static str {
        "carried_once"
    }

    fn claim(&self) -> &'static str {
        "FK:shared-state"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Open { unit, session, .. } => {
                self.units.insert(*session, unit.clone());
            }
            Event::Submit { gateway, session, request, .. } => {
                self.submitted(*gateway, (*session, *request));
                return self.in_order(at, (*session, *request));
            }
            Event::Acknowledge { gateway, session, request } => {
                self.acknowledged(at, *gateway, (*session, *request));
            }
            Event::Carried { unit, session, request, founding, update, founded, digest, .. } => {
                let founding = (*founding, *founded);
                let (place, request) = ((unit.clone(), founding, *update), (*session, *request));
                self.carried(at, &place, request, *digest)?;
                self.in_order(at, request)?;
                for later in self.no_longer_late(request, founding, *update) {
                    self.in_order(at, later)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl CarriedOnce {
    fn submitted(&mut self, gateway: Name, request: Request) {
        let Some(unit) = self.units.get(&request.0) else { return };
        let acknowledged = self.acknowledged.entry((gateway, unit.clone())).or_default();
        self.before.entry(request).or_insert_with(|| {
            for late in acknowledged.late.keys() {
                self.after.entry(*late).or_default().push(request);
            }
            acknowledged.last.clone()
        });
    }

    fn acknowledged(&mut self, at: Position, gateway: Name, request: Request) {
        let Some(unit) = self.units.get(&request.0) else { return };
        let acknowledged = self.acknowledged.entry((gateway, unit.clone())).or_default();
        match self.requests.get(&request) {
            Some(((_, founding, update), _)) => note(&mut acknowledged.last, *founding, (*update, at)),
            None => drop(acknowledged.late.insert(request, at)),
        }
    }

    /// The place of a request is known. Returns the requests that must come after it, if it was acknowledged before that.
    fn no_longer_late(&mut self, request: Request, founding: Founding, update: u64) -> Vec<Request> {
        let mut when = None;
        for acknowledged in self.acknowledged.values_mut() {
            if let Some(at) = acknowledged.late.remove(&request) {
                note(&mut acknowledged.last, founding, (update, at));
                when = Some(at);
            }
        }
        let (Some(at), Some(later)) = (when, self.after.remove(&request)) else { return Vec::new() };
        for request in &later {
            note(self.before.entry(*request).or_default(), founding, (update, at));
        }
        later
    }

    fn carried(
        &mut self,
        at: Position,
        place: &Place,
        request: Request,
        digest: Digest,
    ) -> Result<(), Breach> {
        let (session, number) = request;
        let entry = self.places.entry(place.clone()).or_insert((request, digest, at));
        if (entry.0, entry.1) != (request, digest) {
            let told =
                format!("request {number} of {session} has a place, or a result, that another one has");
            return breach(&[entry.2, at], told);
        }
        match self.requests.insert(request, (place.clone(), at)) {
            Some((known, then)) if known.1 == place.1 && known != *place => {
                breach(&[then, at], format!("request {number} of {session} was carried out twice"))
            }
            _ => Ok(()),
        }
    }

    /// A request comes after all that had been acknowledged before it was made.
    fn in_order(&self, at: Position, request: Request) -> Result<(), Breach> {
        let (Some(before), Some(((_, founding, update), _))) =
            (self.before.get(&request), self.requests.get(&request))
        else {
            return Ok(());
        };
        match before.get(founding) {
            Some((last, then)) if last >= update => {
                let (session, number) = request;
                let told =
                    format!("request {number} of {session} comes before one that was acknowledged first");
                breach(&[*then, at], told)
            }
            _ => Ok(()),
        }
    }
}

fn note(last: &mut Last, founding: Founding, place: (u64, Position)) {
    let known = last.entry(founding).or_insert(place);
    if known.0 < place.0 {
        *known = place;
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["carried_once"];
    let first = Script::new().carries("a/1", 1, 1, "one");
    vec![
        accepted("two servers use one result", first.clone().carries("b/1", 1, 1, "one")),
        rejected("a request has two results", only, first.clone().carries("b/1", 1, 1, "two")),
        rejected("a request is carried out twice", only, first.clone().carries("b/1", 1, 2, "one")),
        rejected("two requests have one place", only, first.clone().carries("b/1", 2, 1, "one")),
        accepted(
            "a request comes after one that was acknowledged first",
            first
                .clone()
                .opens("g")
                .submits("g", 1)
                .acknowledges("g", 1)
                .submits("g", 2)
                .carries("a/1", 2, 2, "two"),
        ),
        rejected(
            "a request comes before one that was acknowledged first",
            only,
            Script::new()
                .opens("g")
                .submits("g", 1)
                .carries("a/1", 1, 2, "one")
                .acknowledges("g", 1)
                .submits("g", 2)
                .carries("a/1", 2, 1, "two"),
        ),
        accepted(
            "requests that are made at the same time have any order",
            Script::new()
                .opens("g")
                .submits("g", 1)
                .submits("g", 2)
                .carries("a/1", 1, 2, "one")
                .acknowledges("g", 1)
                .carries("a/1", 2, 1, "two"),
        ),
    ]
}
