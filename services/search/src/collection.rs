//! A collection: the sections of a Markdown file, and an index of their words.
//!
//! Which documents have a word is exact; how well they fit is BM25, which is left to a library. Scores are rounded, and
//! documents of the same score come in the order of the file, so that every server has the same order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bm25::{Embedder, EmbedderBuilder, Scorer, TokenEmbedder, Tokenizer};
use rust_stemmers::{Algorithm, Stemmer};
use thiserror::Error;
use unicode_segmentation::UnicodeSegmentation;

/// To rank so many takes a server some 25 ms, in which it does nothing else.
pub const DOCUMENTS_MAX: usize = 10_000;
/// The largest document, which is one response.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// Why a file is not a collection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum CollectionError {
    #[error("the file begins with no `# Title`")]
    NoTitle,
    #[error(
        "a collection has 1 to {DOCUMENTS_MAX} documents, and this one {0}; a section with a heading is one"
    )]
    Documents(usize),
    #[error(
        "the section `{title}` has {bytes} bytes, and may have {DOCUMENT_BYTES_MAX}; divide it by headings"
    )]
    TooLarge { title: String, bytes: usize },
}

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its heading, spelt with small letters, digits and hyphens.
    pub id: String,
    /// Its heading, after those of the sections that it is a part of.
    pub title: String,
    /// What is in it, without its parts.
    pub text: String,
}

/// Documents that can be searched.
pub struct Collection {
    /// The first heading.
    pub title: String,
    /// In the order of the file.
    pub documents: Vec<Document>,
    /// The size of the file.
    pub size: u64,
    /// The documents that have a word.
    postings: BTreeMap<String, BTreeSet<u16>>,
    embedder: Embedder<Word, Words>,
    scorer: Scorer<u16, String>,
}

impl Collection {
    /// Reads and indexes a whole file.
    ///
    /// # Errors
    /// A [`CollectionError`] says what is wrong with it.
    pub fn parse(markdown: &str) -> Result<Collection, CollectionError> {
        let (title, documents) = sections(markdown).ok_or(CollectionError::NoTitle)?;
        if !(1..=DOCUMENTS_MAX).contains(&documents.len()) {
            return Err(CollectionError::Documents(documents.len()));
        }
        if let Some(it) = documents.iter().find(|it| it.text.len() > DOCUMENT_BYTES_MAX) {
            return Err(CollectionError::TooLarge { title: it.title.clone(), bytes: it.text.len() });
        }
        let texts: Vec<String> = documents.iter().map(|it| format!("{}\n{}", it.title, it.text)).collect();
        let corpus: Vec<&str> = texts.iter().map(String::as_str).collect();
        let embedder = EmbedderBuilder::with_tokenizer_and_fit_to_corpus(Words, &corpus).build();
        let (mut scorer, mut postings) = (Scorer::new(), BTreeMap::<_, BTreeSet<_>>::new());
        for (number, text) in (0..=u16::MAX).zip(&texts) {
            scorer.upsert(&number, embedder.embed(text));
            for word in words(text) {
                postings.entry(word).or_default().insert(number);
            }
        }
        Ok(Collection { title, documents, size: markdown.len() as u64, postings, embedder, scorer })
    }

    /// The numbers of the documents that have all of these words, in any form.
    pub fn matching(&self, text: &str) -> BTreeSet<u16> {
        let nowhere = BTreeSet::new();
        let sets = words(text).into_iter().map(|word| self.postings.get(&word).unwrap_or(&nowhere));
        sets.cloned().reduce(|all, set| &all & &set).unwrap_or_default()
    }

    /// These documents with how well each of them fits these words, in hundredths; the best first.
    pub fn ranked(&self, documents: &BTreeSet<u16>, text: &str) -> Vec<(u16, u32)> {
        let query = self.embedder.embed(text);
        let score = |number: &u16| {
            let score = self.scorer.score(number, &query).unwrap_or_default();
            (*number, (score * 100.0).round() as u32)
        };
        let mut ranked: Vec<_> = documents.iter().map(score).collect();
        // This keeps the order of those that are equal.
        ranked.sort_by_key(|(_, score)| Reverse(*score));
        ranked
    }

    /// The document of a number.
    pub fn document(&self, number: u16) -> Option<&Document> {
        self.documents.get(usize::from(number))
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collection").field("title", &self.title).finish_non_exhaustive()
    }
}

impl Document {
    /// The first line that has one of these words.
    pub fn line(&self, text: &str) -> &str {
        let wanted = words(text);
        let has_one = |line: &&str| words(line).iter().any(|word| wanted.contains(word));
        self.text.lines().find(has_one).unwrap_or_default().trim()
    }
}

/// The words of a text, in the form that all their forms have in common.
pub(crate) fn words(text: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    text.unicode_words().map(|word| stemmer.stem(&word.to_lowercase()).into_owned()).collect()
}

/// Finds words as [`words`] does, for the library.
#[derive(Debug, Default)]
struct Words;

impl Tokenizer for Words {
    fn tokenize(&self, text: &str) -> Vec<String> {
        words(text)
    }
}

/// A word stands for itself: no two are ever taken for one another.
struct Word;

impl TokenEmbedder for Word {
    type EmbeddingSpace = String;

    fn embed(word: &str) -> String {
        word.to_owned()
    }
}

/// The title of a file, and its sections that have a text of their own. A `#` in a block of code is no heading.
fn sections(markdown: &str) -> Option<(String, Vec<Document>)> {
    let (mut documents, mut path, mut in_code) = (Vec::<Document>::new(), Vec::<&str>::new(), false);
    for line in markdown.lines() {
        in_code ^= line.trim_start().starts_with("```");
        if let (false, Some((depth, heading))) = (in_code, heading(line)) {
            path.truncate(depth - 1);
            path.push(heading);
            let (id, title) = (slug(heading, &documents), path.join(" / "));
            documents.push(Document { id, title, text: String::new() });
        } else if let Some(last) = documents.last_mut() {
            last.text.push_str(line);
            last.text.push('\n');
        } else if !line.trim().is_empty() {
            return None;
        }
    }
    let title = documents.first()?.title.clone();
    documents.retain_mut(|it| {
        it.text = it.text.trim().to_owned();
        !it.text.is_empty()
    });
    Some((title, documents))
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let depth = line.bytes().take_while(|byte| *byte == b'#').count();
    let heading = line.get(depth..)?.strip_prefix(' ')?.trim();
    (1..=6).contains(&depth).then_some((depth, heading))
}

/// An id for a section, which none of these has.
fn slug(heading: &str, documents: &[Document]) -> String {
    let words: Vec<_> = heading.unicode_words().map(str::to_lowercase).collect();
    let id = words.join("-");
    let is_free = |id: &String| documents.iter().all(|it| it.id != *id);
    let numbered = (2..).map(|number| format!("{id}-{number}"));
    std::iter::once(id.clone()).chain(numbered).find(is_free).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# Sea\n\nWater and salt.\n\n## Fish\n\nFishes swim in the water.\n\n```sh\n# no heading\n```\n\n\
        ## Ships\n\n### Sails\n\nSailing needs wind.\n\n## Fish\n\nSalted.\n";

    fn ids(markdown: &str) -> Vec<String> {
        Collection::parse(markdown).unwrap().documents.into_iter().map(|it| it.id).collect()
    }

    #[test]
    fn sections_are_documents() {
        let sea = Collection::parse(FILE).unwrap();
        assert_eq!(sea.title, "Sea");
        let titles: Vec<_> = sea.documents.iter().map(|it| it.title.as_str()).collect();
        assert_eq!(titles, ["Sea", "Sea / Fish", "Sea / Ships / Sails", "Sea / Fish"]);
        assert_eq!(ids(FILE), ["sea", "fish", "sails", "fish-2"]);
        assert!(sea.documents[1].text.ends_with("# no heading\n```"));
    }

    #[test]
    fn words_match_in_all_their_forms() {
        let sea = Collection::parse(FILE).unwrap();
        let matching = |text| sea.matching(text).into_iter().collect::<Vec<_>>();
        assert_eq!(matching("fish"), [1, 3]);
        assert_eq!(matching("WATERS, salts"), [0]);
        assert_eq!(matching("sail wind"), [2]);
        assert_eq!(matching("whale"), [0; 0]);
        assert_eq!(matching("..."), [0; 0]);
        assert_eq!(sea.documents[1].line("swimming"), "Fishes swim in the water.");
    }

    #[test]
    fn a_document_that_is_more_about_it_has_a_higher_score() {
        let sea = Collection::parse(FILE).unwrap();
        let all = BTreeSet::from([0, 1, 2, 3]);
        let [(3, best), (1, second), (0, 0), (2, 0)] = sea.ranked(&all, "fish")[..] else {
            panic!("{:?}", sea.ranked(&all, "fish"))
        };
        assert!(best > second && second > 0);
        let again = Collection::parse(FILE).unwrap();
        assert_eq!(sea.ranked(&all, "fish water salt"), again.ranked(&all, "fish water salt"));
    }

    #[test]
    fn what_is_no_collection_says_why() {
        let parsed = |markdown: &str| Collection::parse(markdown).err();
        assert_eq!(parsed("no heading"), Some(CollectionError::NoTitle));
        assert_eq!(parsed(""), Some(CollectionError::NoTitle));
        assert_eq!(parsed("# Title\n"), Some(CollectionError::Documents(0)));
        let long = format!("# Title\n{}", "word ".repeat(DOCUMENT_BYTES_MAX));
        assert!(matches!(parsed(&long), Some(CollectionError::TooLarge { .. })));
    }
}
