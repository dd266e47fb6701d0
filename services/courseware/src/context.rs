//! What is remembered of a learner, and what a request does to it [FK:context].
//!
//! Every response is decided by the requests up to the one that it answers: what is due is put into the context with
//! all that it needs to be told, so that it does not matter which requests come before it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use session_core::Refusal;

use crate::course::{Choice, Course, Page, Question};

/// A learner, in a few bytes for each page that they have seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The place of the present page.
    page: u8,
    seen: BTreeSet<u8>,
    /// The last choice for each question, counted from 0.
    answers: BTreeMap<u8, u8>,
    finished: bool,
    /// What is to be told.
    pub(crate) due: VecDeque<Due>,
}

/// A response that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Due {
    Page(u8, State),
    Verdict(u8, u8),
    Progress(State),
}

/// How far a learner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) seen: u16,
    pub(crate) right: u16,
    pub(crate) finished: bool,
}

/// A request of a learner.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    Next {},
    Answer { choice: u8 },
    Visit { page: String },
    Report {},
}

impl Context {
    /// A learner who opens the course.
    pub(crate) fn new(course: &Course) -> Context {
        let mut context = Context {
            page: 0,
            seen: BTreeSet::new(),
            answers: BTreeMap::new(),
            finished: false,
            due: VecDeque::new(),
        };
        context.show(course, 0);
        context
    }

    /// Applies a request.
    pub(crate) fn apply(&mut self, course: &Course, request: Request) -> Result<(), Refusal> {
        let Some(page) = course.page(self.page) else {
            return Err(Refusal::precondition("the learner is on no page of this course"));
        };
        match request {
            Request::Next {} => match self.exit(page)? {
                Some(place) => self.show(course, place),
                None => {
                    self.finished = true;
                    self.due.push_back(Due::Progress(self.state(course)));
                }
            },
            Request::Answer { choice } => {
                let choice = chosen(page, choice)?;
                self.answers.insert(self.page, choice);
                self.due.push_back(Due::Verdict(self.page, choice));
            }
            Request::Visit { page: id } => {
                let place = (0..=u8::MAX).zip(&course.pages).find(|(_, page)| page.id == id);
                let Some((place, _)) = place else {
                    return Err(Refusal::out_of_range(format_args!("the course has no page `{id}`")));
                };
                if !page.links.contains(&place) && !self.seen.contains(&place) {
                    return Err(Refusal::precondition(format_args!(
                        "`{id}` was not seen yet, and `{}` has no link to it",
                        page.id
                    )));
                }
                self.show(course, place);
            }
            Request::Report {} => self.due.push_back(Due::Progress(self.state(course))),
        }
        Ok(())
    }

    /// What is remembered of a learner who was served by both sides of a partition: all pages that were seen, and of two
    /// answers to a question the right one. The learner goes on from the later of two pages, and is told which that is: what
    /// comes next must not be taken for an answer to the question of another one.
    pub(crate) fn merged(&self, other: &Context, course: &Course) -> Context {
        if self == other {
            return self.clone();
        }
        let mut answers = self.answers.clone();
        for (place, choice) in &other.answers {
            let rank = |choice: &u8| {
                let question = course.page(*place).and_then(|page| page.question.as_ref());
                let chosen = question.and_then(|question| question.choices.get(usize::from(*choice)));
                (chosen.is_some_and(|it| it.right), *choice)
            };
            let best = answers.entry(*place).or_insert(*choice);
            if rank(best) < rank(choice) {
                *best = *choice;
            }
        }
        let (page, finished) = (self.page.max(other.page), self.finished || other.finished);
        let seen = &self.seen | &other.seen;
        let mut both = Context { page, seen, answers, finished, due: VecDeque::new() };
        both.due.push_back(Due::Page(page, both.state(course)));
        both
    }

    fn show(&mut self, course: &Course, place: u8) {
        self.page = place;
        self.seen.insert(place);
        self.due.push_back(Due::Page(place, self.state(course)));
    }

    /// The page after this one, as the learner's answer has it.
    fn exit(&self, page: &Page) -> Result<Option<u8>, Refusal> {
        let Some(question) = &page.question else { return Ok(page.next) };
        match self.choice(self.page, question) {
            Some(choice) => Ok(choice.next.or(page.next)),
            None => {
                let message = format!("the question of `{}` comes first: answer with a choice", page.id);
                Err(Refusal::precondition(message))
            }
        }
    }

    fn choice<'a>(&self, place: u8, question: &'a Question) -> Option<&'a Choice> {
        question.choices.get(usize::from(*self.answers.get(&place)?))
    }

    fn state(&self, course: &Course) -> State {
        let is_right = |(place, page): (u8, &Page)| {
            page.question
                .as_ref()
                .and_then(|question| self.choice(place, question))
                .is_some_and(|it| it.right)
        };
        let right = (0..=u8::MAX).zip(&course.pages).filter(|it| is_right(*it)).count() as u16;
        State { seen: self.seen.len() as u16, right, finished: self.finished }
    }
}

/// A choice for the question of `page`, counted from 0.
fn chosen(page: &Page, choice: u8) -> Result<u8, Refusal> {
    let Some(question) = &page.question else {
        return Err(Refusal::precondition(format_args!("`{}` asks nothing", page.id)));
    };
    let count = question.choices.len();
    if !(1..=count).contains(&usize::from(choice)) {
        return Err(Refusal::out_of_range(format_args!("the choices are 1 to {count}, not {choice}")));
    }
    Ok(choice - 1)
}
