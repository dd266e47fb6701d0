//! A text, and which word follows which in it.

use std::collections::BTreeMap;

use thiserror::Error;

/// So many words a text has at most: they are numbered in two bytes, with room to spare.
const WORDS_MAX: usize = 60_000;

/// A word's place in the text.
pub(crate) type Place = u16;

/// What was read: the places of its words, by the one and the two words before them.
#[derive(Clone, Debug)]
pub struct Text {
    /// For people.
    pub title: String,
    /// The size of its file, in bytes.
    pub size: u64,
    words: Vec<String>,
    after_one: BTreeMap<String, Vec<Place>>,
    after_two: BTreeMap<(String, String), Vec<Place>>,
    starts: Vec<Place>,
}

/// Why a text cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum TextError {
    #[error("the first line has to be the title, as `# TITLE`")]
    NoTitle,
    #[error("{0} words are too few to learn from: ten is the least")]
    TooShort(usize),
    #[error("{0} words are too many: {WORDS_MAX} is the most")]
    TooLong(usize),
}

impl Text {
    /// Reads a text.
    ///
    /// # Errors
    /// A [`TextError`] says what keeps it from being served.
    pub fn parse(file: &str) -> Result<Text, TextError> {
        let (title, body) = file.split_once('\n').unwrap_or((file, ""));
        let title = title.strip_prefix("# ").map(str::trim).filter(|it| !it.is_empty());
        let title = title.ok_or(TextError::NoTitle)?.to_owned();
        let words: Vec<String> = body.split_whitespace().map(str::to_owned).collect();
        match words.len() {
            few @ 0..10 => return Err(TextError::TooShort(few)),
            many if many > WORDS_MAX => return Err(TextError::TooLong(many)),
            _ => {}
        }
        let size = file.len() as u64;
        let mut text = Text {
            title,
            size,
            words,
            after_one: BTreeMap::new(),
            after_two: BTreeMap::new(),
            starts: Vec::new(),
        };
        for place in (0..).take(text.words.len()) {
            let before =
                |distance: usize| usize::from(place).checked_sub(distance).map(|it| key(&text.words[it]));
            match before(1) {
                Some(one) => {
                    if ends_sentence(&text.words[usize::from(place) - 1]) {
                        text.starts.push(place);
                    }
                    text.after_one.entry(one.clone()).or_default().push(place);
                    if let Some(two) = before(2) {
                        text.after_two.entry((two, one)).or_default().push(place);
                    }
                }
                None => text.starts.push(place),
            }
        }
        Ok(text)
    }

    /// The word at a place. A context that a client made up may name one that is not there.
    pub(crate) fn word(&self, place: Place) -> Option<&str> {
        self.words.get(usize::from(place)).map(String::as_str)
    }

    /// The last place in the text that ends with the last two words of what was said, or with the last of them; nothing
    /// if it has neither.
    pub(crate) fn find(&self, said: &str) -> Option<Place> {
        let mut last = said.split_whitespace().rev().map(key);
        let one = last.next()?;
        let next = last.next().and_then(|two| self.after_two.get(&(two, one.clone())));
        next.or_else(|| self.after_one.get(&one))?.last().map(|place| place - 1)
    }

    /// What may follow on the word at a place; on nothing, what a sentence may begin with. Never empty.
    pub(crate) fn followers(&self, place: Option<Place>) -> &[Place] {
        let word = |distance: u16| {
            place.and_then(|it| it.checked_sub(distance)).and_then(|it| self.word(it)).map(key)
        };
        let one = word(0);
        let pair = word(1).zip(one.clone());
        let next = pair.and_then(|pair| self.after_two.get(&pair)).filter(|next| next.len() > 1);
        let next = next.or_else(|| one.and_then(|one| self.after_one.get(&one)));
        next.unwrap_or(&self.starts)
    }
}

/// How a word is looked up: without its case, and without marks around it.
fn key(word: impl AsRef<str>) -> String {
    word.as_ref().trim_matches(|letter: char| !letter.is_alphanumeric()).to_lowercase()
}

fn ends_sentence(word: &str) -> bool {
    word.ends_with(['.', '?', '!'])
}
