//! The content service itself: the films held here, and the functions of [`Context`] over them.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Time, UnitId};
use session_core::{ContentService, Next, Refusal, UnitInfo};

use crate::context::Context;
use crate::film::Film;
use crate::request::Request;

/// A lead that players buffer gladly, and much longer than a takeover takes.
pub const LEAD_DEFAULT: Duration = Duration::from_secs(2);

/// How films are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// How long before its time a fragment is sent. What a viewer then has in hand outlasts a gap of this length.
    pub lead: Duration,
}

impl Default for Params {
    fn default() -> Params {
        Params { lead: LEAD_DEFAULT }
    }
}

/// Video on demand.
#[derive(Clone, Debug)]
pub struct Vod {
    films: BTreeMap<UnitId, Film>,
    params: Params,
}

impl Vod {
    /// Serves these films.
    pub fn new(films: BTreeMap<UnitId, Film>, params: Params) -> Vod {
        Vod { films, params }
    }

    /// The films, by unit.
    pub fn films(&self) -> &BTreeMap<UnitId, Film> {
        &self.films
    }

    /// The film of a unit. The framework asks only for what [`ContentService::units`] names.
    fn film(&self, unit: &UnitId) -> &Film {
        let Some(film) = self.films.get(unit) else {
            panic!("asked to serve {unit}, which is not held here")
        };
        film
    }
}

impl ContentService for Vod {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        let unit_info = |(unit, film): (&UnitId, &Film)| UnitInfo {
            unit: unit.clone(),
            title: film.title().unwrap_or(unit.as_str()).to_owned(),
            media_type: "video/mp4".to_owned(),
            duration: film.duration(),
            size: film.size(),
        };
        self.films.iter().map(unit_info).collect()
    }

    fn open(&self, _unit: &UnitId) -> Context {
        Context::new()
    }

    fn apply(&self, unit: &UnitId, context: &mut Context, request: &[u8]) -> Result<(), Refusal> {
        context.apply(self.film(unit), Request::parse(request)?)
    }

    fn next(&self, unit: &UnitId, context: &mut Context, now: Time) -> Next {
        context.next(self.film(unit), self.params.lead, now)
    }
}
