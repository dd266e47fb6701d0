//! The services that come with Handover, as one: the file of a unit decides which of them serves it.

use std::collections::BTreeMap;

use courseware::Courseware;
use kv::Kv;
use model::{Level, Time};
use search::Search;
use serde::{Deserialize, Serialize};
use session_core::{ContentId, ContentService, Next, Refusal, SharedState, UnitInfo};
use tokens::Tokens;
use vod::Vod;

use crate::LoadError;
use crate::config::Config;
use crate::content::{Content, Kind};
use crate::store;

/// Films, courses, collections, texts and stores.
pub struct Bundled {
    kinds: BTreeMap<ContentId, Kind>,
    vod: Vod,
    courseware: Courseware,
    search: Search,
    tokens: Tokens,
    kv: Kv,
}

/// The context of a session with one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Context {
    /// On a film.
    Film(vod::Context),
    /// On a course.
    Course(courseware::Context),
    /// On a collection.
    Collection(search::Context),
    /// On a text.
    Text(tokens::Context),
    /// On a store.
    Store(kv::Context),
}

/// Reads the content that the settings name.
///
/// # Errors
/// If some of it cannot be served.
pub fn load(config: &Config) -> Result<Bundled, LoadError> {
    let content = store::load(&config.content, &config.selection())?;
    Ok(Bundled::new(content, vod::Params { lead: config.lead }))
}

impl Bundled {
    /// Serves this content.
    pub fn new(content: BTreeMap<ContentId, Content>, films: vod::Params) -> Bundled {
        let mut kinds = BTreeMap::new();
        let (mut by_film, mut by_course) = (BTreeMap::new(), BTreeMap::new());
        let (mut by_collection, mut by_text) = (BTreeMap::new(), BTreeMap::new());
        let mut by_store = BTreeMap::new();
        for (id, content) in content {
            let kind = match content {
                Content::Film(film) => {
                    by_film.insert(id.clone(), film);
                    Kind::Film
                }
                Content::Course(course) => {
                    by_course.insert(id.clone(), course);
                    Kind::Course
                }
                Content::Collection(collection) => {
                    by_collection.insert(id.clone(), *collection);
                    Kind::Collection
                }
                Content::Text(text) => {
                    by_text.insert(id.clone(), text);
                    Kind::Text
                }
                Content::Store(title, store) => {
                    by_store.insert(id.clone(), (title, store));
                    Kind::Store
                }
            };
            kinds.insert(id, kind);
        }
        Bundled {
            kinds,
            vod: Vod::new(by_film, films),
            courseware: Courseware::new(by_course),
            search: Search::new(by_collection),
            tokens: Tokens::new(by_text),
            kv: Kv::new(by_store),
        }
    }

    /// Whether a context is one of a session on this content. One that a client made up need not be.
    fn fits(&self, content: &ContentId, context: &Context) -> bool {
        let kind = match context {
            Context::Film(_) => Kind::Film,
            Context::Course(_) => Kind::Course,
            Context::Collection(_) => Kind::Collection,
            Context::Text(_) => Kind::Text,
            Context::Store(_) => Kind::Store,
        };
        self.kinds.get(content) == Some(&kind)
    }
}

impl ContentService for Bundled {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        let films = self.vod.units().into_iter();
        let films = films.chain(self.courseware.units()).chain(self.search.units());
        films.chain(self.tokens.units()).chain(self.kv.units()).collect()
    }

    fn open(&self, content: &ContentId) -> Context {
        match self.kinds.get(content) {
            Some(Kind::Film) => Context::Film(self.vod.open(content)),
            Some(Kind::Course) => Context::Course(self.courseware.open(content)),
            Some(Kind::Collection) => Context::Collection(self.search.open(content)),
            Some(Kind::Text) => Context::Text(self.tokens.open(content)),
            Some(Kind::Store) => Context::Store(self.kv.open(content)),
            None => panic!("asked to serve {content}, which is not held here"),
        }
    }

    fn apply(&self, content: &ContentId, context: &mut Context, request: &[u8]) -> Result<(), Refusal> {
        if !self.fits(content, context) {
            return Err(Refusal::precondition("the session is one on another kind of content"));
        }
        match context {
            Context::Film(context) => self.vod.apply(content, context, request),
            Context::Course(context) => self.courseware.apply(content, context, request),
            Context::Collection(context) => self.search.apply(content, context, request),
            Context::Text(context) => self.tokens.apply(content, context, request),
            Context::Store(context) => self.kv.apply(content, context, request),
        }
    }

    fn commit(&self, content: &ContentId) -> Option<Level> {
        match self.kinds.get(content)? {
            Kind::Film => self.vod.commit(content),
            Kind::Course => self.courseware.commit(content),
            Kind::Collection => self.search.commit(content),
            Kind::Text => self.tokens.commit(content),
            Kind::Store => self.kv.commit(content),
        }
    }

    fn shared(&self, content: &ContentId) -> Option<Box<dyn SharedState>> {
        self.kv.shared(content)
    }

    fn restore(&self, content: &ContentId, snapshot: &[u8]) -> Option<Box<dyn SharedState>> {
        self.kv.restore(content, snapshot)
    }

    fn next(&self, content: &ContentId, context: &mut Context, now: Time) -> Next {
        if !self.fits(content, context) {
            return Next::Idle;
        }
        match context {
            Context::Film(context) => self.vod.next(content, context, now),
            Context::Course(context) => self.courseware.next(content, context, now),
            Context::Collection(context) => self.search.next(content, context, now),
            Context::Text(context) => self.tokens.next(content, context, now),
            Context::Store(context) => self.kv.next(content, context, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::UnitId;

    /// One unit of each kind.
    fn bundled() -> Bundled {
        let film = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../content/life.mp4")).unwrap().into();
        let course = "title = 'C'\n[[page]]\nid = 'a'\ntitle = 'A'\ntext = ''\n".into();
        let files = [
            ("f", Kind::Film, film),
            ("c", Kind::Course, course),
            ("s", Kind::Collection, "# S\ntext".into()),
            ("k", Kind::Store, "title = 'K'".into()),
        ];
        let named = |id| ContentId::only(UnitId::new(id).unwrap());
        let unit = |(id, kind, file)| (named(id), Content::parse(kind, file).unwrap());
        Bundled::new(files.map(unit).into(), vod::Params::default())
    }

    #[test]
    fn sessions_survive_hand_overs() {
        let rehearsal = rehearsal::Rehearsal { sessions: 10, ..rehearsal::Rehearsal::default() };
        let requests =
            [r#"{"pause":{}}"#, r#"{"next":{}}"#, r#"{"find":{"text":"text"}}"#, r#"{"get":{"key":"a"}}"#];
        rehearsal
            .run(bundled, &requests.map(|it| it.as_bytes().to_vec()))
            .unwrap_or_else(|fault| panic!("{fault}"));
    }

    #[test]
    fn a_context_of_another_kind_is_put_up_with() {
        let bundled = bundled();
        let [film, course] = ["f", "c"].map(|id| ContentId::only(UnitId::new(id).unwrap()));
        let mut context = bundled.open(&film);
        assert!(bundled.apply(&course, &mut context, b"{}").is_err());
        assert_eq!(bundled.next(&course, &mut context, Time::ZERO), Next::Idle);
        assert_eq!(bundled.units().len(), 4);
    }
}
