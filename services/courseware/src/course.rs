//! A course: pages in a TOML file, and where each of them leads to.
//!
//! Invariant: every reference leads to a page, every page can be reached from the first, and the end from some page.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use thiserror::Error;

/// Pages are numbered by one byte in contexts.
pub const PAGES_MAX: usize = 256;
/// So are choices.
const CHOICES_MAX: usize = 9;

/// Why a file is not a course.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum CourseError {
    #[error("this is not a course: {0}")]
    Syntax(String),
    #[error("a course has 1 to {PAGES_MAX} pages, and this one {0}")]
    Pages(usize),
    #[error("there are two pages called `{0}`")]
    Twice(String),
    #[error("page `{page}` leads to `{to}`, which is not there")]
    NoSuchPage { page: String, to: String },
    #[error("the question of page `{0}` needs 2 to {CHOICES_MAX} choices, a right one among them")]
    Question(String),
    #[error("nothing leads from the first page to `{0}`")]
    Unreachable(String),
    #[error("the course has no end: some page has to have no `next`")]
    Endless,
}

/// A course, its pages in the order of the file. It begins with the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// Its title.
    pub title: String,
    /// Its pages.
    pub pages: Vec<Page>,
    /// Its size as a file.
    pub size: u64,
}

/// A learning object. It refers to others by their place in the course.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Page {
    pub id: String,
    pub title: String,
    pub text: String,
    pub links: Vec<u8>,
    /// What comes after it, unless the answer to its question decides that; nothing after the last.
    pub next: Option<u8>,
    pub question: Option<Question>,
}

/// A question about a page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Question {
    pub text: String,
    pub choices: Vec<Choice>,
}

/// One of the answers to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Choice {
    pub text: String,
    pub right: bool,
    pub reason: String,
    pub next: Option<u8>,
}

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    page: Vec<PageEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageEntry {
    id: String,
    title: String,
    text: String,
    #[serde(default)]
    links: Vec<String>,
    next: Option<String>,
    question: Option<QuestionEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuestionEntry {
    text: String,
    choices: Vec<ChoiceEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChoiceEntry {
    text: String,
    #[serde(default)]
    right: bool,
    reason: String,
    next: Option<String>,
}

impl Course {
    /// Reads a whole file.
    ///
    /// # Errors
    /// A [`CourseError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Course, CourseError> {
        let file: File =
            toml::from_str(text).map_err(|error| CourseError::Syntax(error.to_string().trim().to_owned()))?;
        if !(1..=PAGES_MAX).contains(&file.page.len()) {
            return Err(CourseError::Pages(file.page.len()));
        }
        let mut places = BTreeMap::new();
        for (place, page) in (0..=u8::MAX).zip(&file.page) {
            if places.insert(page.id.clone(), place).is_some() {
                return Err(CourseError::Twice(page.id.clone()));
            }
        }
        let pages = file.page.into_iter().map(|page| resolved(page, &places)).collect::<Result<_, _>>()?;
        let course = Course { title: file.title, pages, size: text.len() as u64 };
        course.check()
    }

    /// The page at a place.
    pub fn page(&self, place: u8) -> Option<&Page> {
        self.pages.get(usize::from(place))
    }

    /// How many questions it asks.
    pub fn questions(&self) -> usize {
        self.pages.iter().filter(|page| page.question.is_some()).count()
    }

    fn check(self) -> Result<Course, CourseError> {
        let (mut reached, mut open) = (BTreeSet::from([0]), vec![0]);
        let mut ends = false;
        while let Some(page) = open.pop().and_then(|place| self.page(place)) {
            ends |= page.exits().any(|exit| exit.is_none());
            let ways = page.exits().flatten().chain(page.links.iter().copied());
            open.extend(ways.filter(|place| reached.insert(*place)));
        }
        let lonely = (0..=u8::MAX).zip(&self.pages).find(|(place, _)| !reached.contains(place));
        match lonely {
            Some((_, page)) => Err(CourseError::Unreachable(page.id.clone())),
            None if !ends => Err(CourseError::Endless),
            None => Ok(self),
        }
    }
}

impl Page {
    /// Where `next` may lead to from here; nothing is the end of the course.
    fn exits(&self) -> impl Iterator<Item = Option<u8>> {
        let choices = self.question.iter().flat_map(|question| &question.choices);
        let none = self.question.is_none().then_some(self.next);
        choices.map(|choice| choice.next.or(self.next)).chain(none)
    }
}

fn resolved(entry: PageEntry, places: &BTreeMap<String, u8>) -> Result<Page, CourseError> {
    let PageEntry { id, title, text, links, next, question } = entry;
    let place = |to: String| match places.get(&to) {
        Some(place) => Ok(*place),
        None => Err(CourseError::NoSuchPage { page: id.clone(), to }),
    };
    let choice = |ChoiceEntry { text, right, reason, next }| {
        Ok(Choice { text, right, reason, next: next.map(place).transpose()? })
    };
    let question = match question {
        Some(QuestionEntry { text, choices }) => {
            let choices = choices.into_iter().map(choice).collect::<Result<Vec<_>, _>>()?;
            if !(2..=CHOICES_MAX).contains(&choices.len()) || !choices.iter().any(|choice| choice.right) {
                return Err(CourseError::Question(id));
            }
            Some(Question { text, choices })
        }
        None => None,
    };
    let links = links.into_iter().map(place).collect::<Result<_, _>>()?;
    let next = next.map(place).transpose()?;
    Ok(Page { title, text: text.trim().to_owned(), links, next, question, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &str = "question = { text = '?', choices = [{ text = 'a', right = true, reason = '!' }, \
        { text = 'b', reason = '!', next = 'a' }] }";

    fn page(id: &str, rest: &str) -> String {
        format!("[[page]]\nid = '{id}'\ntitle = '{id}'\ntext = 'text'\n{rest}\n")
    }

    fn parsed(pages: &[String]) -> Result<Course, CourseError> {
        Course::parse(&format!("title = 'A course'\n{}", pages.concat()))
    }

    #[test]
    fn references_become_places() {
        let course = parsed(&[page("a", "next = 'b'\nlinks = ['b']"), page("b", QUESTION)]).unwrap();
        assert_eq!((course.pages[0].next, &course.pages[0].links), (Some(1), &vec![1]));
        let exits: Vec<_> = course.pages[1].exits().collect();
        assert_eq!(exits, [None, Some(0)]);
    }

    #[test]
    fn what_is_not_a_course_says_why() {
        let named = |id: &str| id.to_owned();
        let to_b = CourseError::NoSuchPage { page: named("a"), to: named("b") };
        for (pages, error) in [
            (vec![page("a", ""), page("a", "")], CourseError::Twice(named("a"))),
            (vec![page("a", "next = 'b'")], to_b.clone()),
            (vec![page("a", "links = ['b']")], to_b),
            (vec![page("a", ""), page("b", "")], CourseError::Unreachable(named("b"))),
            (vec![page("a", "next = 'b'"), page("b", "next = 'a'")], CourseError::Endless),
            (
                vec![page("a", &QUESTION.replace("right = true", "right = false"))],
                CourseError::Question(named("a")),
            ),
            (vec![String::from("page = []")], CourseError::Pages(0)),
        ] {
            assert_eq!(parsed(&pages), Err(error), "{pages:?}");
        }
        assert!(matches!(Course::parse("no course"), Err(CourseError::Syntax(_))));
    }
}
