//! The content service itself: the collections held here, and how what is due is told.

use std::collections::BTreeMap;

use model::Time;
use serde_json::{Value, json};
use session_core::{ContentId, ContentService, Next, Refusal, UnitInfo};

use crate::collection::Collection;
use crate::context::{Context, Due, Found, Query, Request};

/// A longer request is refused unread.
const REQUEST_BYTES_MAX: usize = 512;
/// So many documents are told at a time.
const HITS_MAX: usize = 10;

const ALLOWED: &str = r#"{"find":{"text":"..."}}, {"refine":{"set":1,"text":"..."}}, {"intersect":{"sets":[1,2]}}, {"more":{"set":1,"after":10}}, {"open":{"document":"ID"}} and {"list":{}}"#;

/// Collections that can be searched.
pub struct Search {
    collections: BTreeMap<ContentId, Collection>,
}

impl Search {
    /// Serves these collections.
    pub fn new(collections: BTreeMap<ContentId, Collection>) -> Search {
        Search { collections }
    }

    /// The collection. The framework asks only for what [`ContentService::units`] names.
    fn collection(&self, content: &ContentId) -> &Collection {
        let Some(collection) = self.collections.get(content) else {
            panic!("asked to serve {content}, which is not held here")
        };
        collection
    }
}

impl ContentService for Search {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        let info = |(content, collection): (&ContentId, &Collection)| UnitInfo {
            size: collection.size,
            edition: content.edition,
            ..UnitInfo::new(content.unit.clone(), &collection.title, "application/json")
        };
        self.collections.iter().map(info).collect()
    }

    fn open(&self, _: &ContentId) -> Context {
        Context::default()
    }

    fn apply(&self, content: &ContentId, context: &mut Context, request: &[u8]) -> Result<(), Refusal> {
        let malformed = |what: &dyn std::fmt::Display| {
            Refusal::malformed(format_args!("not a request to a collection: {what}; requests are {ALLOWED}"))
        };
        if request.len() > REQUEST_BYTES_MAX {
            return Err(malformed(&format_args!("{} bytes are too many", request.len())));
        }
        let request: Request = serde_json::from_slice(request).map_err(|error| malformed(&error))?;
        context.apply(self.collection(content), request)
    }

    fn next(&self, content: &ContentId, context: &mut Context, _: Time) -> Next {
        let collection = self.collection(content);
        let told = context.due.front().and_then(|due| response(collection, context, due));
        let Some(told) = told else { return Next::Idle };
        context.due.pop_front();
        Next::Respond { payload: told.to_string().into(), last: false }
    }
}

/// A response, as `proto/handover/search/v1` describes it; nothing, if the context is of another collection.
fn response(collection: &Collection, context: &Context, due: &Due) -> Option<Value> {
    Some(match *due {
        Due::Results(number, after) => {
            let found = context.found(collection, number).pop()?;
            let set = set(number, context.sets.get(usize::from(number).checked_sub(1)?)?, &found);
            let hits = hits(collection, &found, after.into());
            json!({ "results": { "set": set, "after": after, "hits": hits } })
        }
        Due::Document(number) => {
            let document = collection.document(number)?;
            let (id, title, text) = (&document.id, &document.title, &document.text);
            json!({ "document": { "id": id, "title": title, "text": text } })
        }
        Due::Sets(last) => {
            let found = context.found(collection, last);
            let all = (1..).zip(&context.sets).zip(&found);
            let sets: Vec<_> = all.map(|((number, query), found)| set(number, query, found)).collect();
            json!({ "sets": { "sets": sets } })
        }
    })
}

fn set(number: u8, query: &Query, found: &Found) -> Value {
    let of = match query {
        Query::Find(text) => format!("find {text:?}"),
        Query::Refine(set, text) => format!("refine {set} {text:?}"),
        Query::Intersect(sets) => {
            sets.iter().fold("intersect".to_owned(), |text, set| format!("{text} {set}"))
        }
    };
    json!({ "number": number, "of": of, "size": found.documents.len() })
}

/// The best documents of a set, after so many better ones.
fn hits(collection: &Collection, found: &Found, after: usize) -> Vec<Value> {
    let hit = |(number, score): (u16, u32)| {
        let document = collection.document(number)?;
        let (id, title, line) = (&document.id, &document.title, document.line(&found.words));
        Some(json!({ "document": id, "title": title, "score": score, "line": line }))
    };
    let ranked = collection.ranked(&found.documents, &found.words);
    ranked.into_iter().skip(after).take(HITS_MAX).filter_map(hit).collect()
}

#[cfg(test)]
mod tests;
