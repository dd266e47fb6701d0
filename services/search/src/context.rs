//! What is remembered of a searcher, and what a request does to it [FK:context].
//!
//! A result set is remembered as the query that made it, however many documents it has: the content does not change, so
//! every server finds the same. Which documents are in it depends on words alone, not on scores.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use session_core::Refusal;

use crate::collection::{Collection, words};

/// So many sets are kept in a session.
pub(crate) const SETS_MAX: usize = 30;
/// The longest query, in bytes.
const TEXT_BYTES_MAX: usize = 100;

/// A searcher: some tens of bytes for each query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// What each set is made of. The first is number 1.
    pub(crate) sets: Vec<Query>,
    /// What is to be told.
    pub(crate) due: VecDeque<Due>,
}

/// What a set is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Query {
    Find(String),
    Refine(u8, String),
    Intersect(Vec<u8>),
}

/// A response that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Due {
    /// Documents of this set, after so many others.
    Results(u8, u16),
    Document(u16),
    /// All sets up to this number.
    Sets(u8),
}

/// A request of a searcher.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    Find { text: String },
    Refine { set: u8, text: String },
    Intersect { sets: Vec<u8> },
    More { set: u8, after: u16 },
    Open { document: String },
    List {},
}

/// The documents of a set, and the words that it was searched by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) documents: BTreeSet<u16>,
    pub(crate) words: String,
}

impl Context {
    /// Applies a request.
    pub(crate) fn apply(&mut self, collection: &Collection, request: Request) -> Result<(), Refusal> {
        match request {
            Request::Find { text } => self.add(Query::Find(searchable(text)?)),
            Request::Refine { set, text } => self.add(Query::Refine(self.known(set)?, searchable(text)?)),
            Request::Intersect { sets } => {
                let sets = sets.into_iter().map(|set| self.known(set)).collect::<Result<BTreeSet<_>, _>>()?;
                if sets.len() < 2 {
                    return Err(Refusal::malformed("it takes two sets to intersect"));
                }
                self.add(Query::Intersect(sets.into_iter().collect()))
            }
            Request::More { set, after } => {
                let set = self.known(set)?;
                self.due.push_back(Due::Results(set, after));
                Ok(())
            }
            Request::Open { document } => {
                let number = (0..=u16::MAX).zip(&collection.documents).find(|(_, it)| it.id == document);
                let Some((number, _)) = number else {
                    return Err(Refusal::out_of_range(format_args!("there is no document `{document}`")));
                };
                self.due.push_back(Due::Document(number));
                Ok(())
            }
            Request::List {} => {
                self.due.push_back(Due::Sets(self.sets.len() as u8));
                Ok(())
            }
        }
    }

    fn add(&mut self, query: Query) -> Result<(), Refusal> {
        if self.sets.len() >= SETS_MAX {
            return Err(Refusal::precondition(format_args!(
                "a session keeps {SETS_MAX} sets; open another one"
            )));
        }
        self.sets.push(query);
        self.due.push_back(Due::Results(self.sets.len() as u8, 0));
        Ok(())
    }

    /// The number of a set, if there is one.
    fn known(&self, set: u8) -> Result<u8, Refusal> {
        let count = self.sets.len();
        if (1..=count).contains(&usize::from(set)) {
            return Ok(set);
        }
        Err(Refusal::out_of_range(format_args!("there is no set {set}; {count} were made")))
    }

    /// The first sets, as far as `last`. One that is made of others finds them before it.
    pub(crate) fn found(&self, collection: &Collection, last: u8) -> Vec<Found> {
        let mut found = Vec::<Found>::new();
        for query in self.sets.iter().take(last.into()) {
            let earlier =
                |set: &u8| found.get(usize::from(*set).wrapping_sub(1)).cloned().unwrap_or_default();
            let set = |text: &String| Found { documents: collection.matching(text), words: text.clone() };
            let made = match query {
                Query::Find(text) => set(text),
                Query::Refine(of, text) => both(&earlier(of), &set(text)),
                Query::Intersect(sets) => {
                    sets.iter().map(earlier).reduce(|one, other| both(&one, &other)).unwrap_or_default()
                }
            };
            found.push(made);
        }
        found
    }
}

fn both(one: &Found, other: &Found) -> Found {
    let words = format!("{} {}", one.words, other.words);
    Found { documents: &one.documents & &other.documents, words }
}

/// A text that something can be searched by.
fn searchable(text: String) -> Result<String, Refusal> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Refusal::malformed(format_args!("a query has at most {TEXT_BYTES_MAX} bytes")));
    }
    if words(&text).is_empty() {
        return Err(Refusal::malformed("a query has words"));
    }
    Ok(text)
}
