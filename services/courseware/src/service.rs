//! The content service itself: the courses held here, and how what is due is told.

use std::collections::BTreeMap;

use model::Time;
use serde_json::{Value, json};
use session_core::{ContentId, ContentService, Next, Refusal, UnitInfo};

use crate::context::{Context, Due, Request, State};
use crate::course::Course;

/// A longer request is refused unread.
const REQUEST_BYTES_MAX: usize = 256;

const ALLOWED: &str = r#"{"next":{}}, {"answer":{"choice":1}}, {"visit":{"page":"ID"}} and {"report":{}}"#;

/// Courses.
#[derive(Clone, Debug)]
pub struct Courseware {
    courses: BTreeMap<ContentId, Course>,
}

impl Courseware {
    /// Serves these courses.
    pub fn new(courses: BTreeMap<ContentId, Course>) -> Courseware {
        Courseware { courses }
    }

    /// The course. The framework asks only for what [`ContentService::units`] names.
    fn course(&self, content: &ContentId) -> &Course {
        let Some(course) = self.courses.get(content) else {
            panic!("asked to serve {content}, which is not held here")
        };
        course
    }
}

impl ContentService for Courseware {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        let info = |(content, course): (&ContentId, &Course)| UnitInfo {
            size: course.size,
            edition: content.edition,
            ..UnitInfo::new(content.unit.clone(), &course.title, "application/json")
        };
        self.courses.iter().map(info).collect()
    }

    fn open(&self, content: &ContentId) -> Context {
        Context::new(self.course(content))
    }

    fn apply(&self, content: &ContentId, context: &mut Context, request: &[u8]) -> Result<(), Refusal> {
        let malformed = |what: &dyn std::fmt::Display| {
            Refusal::malformed(format_args!("not a request to a course: {what}; requests are {ALLOWED}"))
        };
        if request.len() > REQUEST_BYTES_MAX {
            return Err(malformed(&format_args!("{} bytes are too many", request.len())));
        }
        let request: Request = serde_json::from_slice(request).map_err(|error| malformed(&error))?;
        context.apply(self.course(content), request)
    }

    fn next(&self, content: &ContentId, context: &mut Context, _: Time) -> Next {
        let course = self.course(content);
        let Some(told) = context.due.front().and_then(|due| response(course, due)) else { return Next::Idle };
        context.due.pop_front();
        Next::Respond { payload: told.to_string().into(), last: false }
    }

    fn merge(&self, content: &ContentId, one: &Context, other: &Context) -> Option<Context> {
        Some(one.merged(other, self.course(content)))
    }
}

/// A response, as `proto/handover/courseware/v1` describes it; nothing, if the context is of another course.
fn response(course: &Course, due: &Due) -> Option<Value> {
    Some(match *due {
        Due::Page(place, state) => {
            let page = course.page(place)?;
            let links: Vec<_> = page.links.iter().filter_map(|place| link(course, *place)).collect();
            let question = page.question.as_ref().map(|question| {
                let choices: Vec<_> = question.choices.iter().map(|choice| &choice.text).collect();
                json!({ "text": question.text, "choices": choices })
            });
            json!({ "page": {
                "id": page.id, "title": page.title, "text": page.text, "links": links, "question": question,
                "progress": progress(course, state),
            } })
        }
        Due::Verdict(place, choice) => {
            let page = course.page(place)?;
            let choice = page.question.as_ref()?.choices.get(usize::from(choice))?;
            let next = choice.next.or(page.next).and_then(|place| link(course, place));
            json!({ "verdict": { "right": choice.right, "reason": choice.reason, "next": next } })
        }
        Due::Progress(state) => json!({ "progress": progress(course, state) }),
    })
}

fn link(course: &Course, place: u8) -> Option<Value> {
    course.page(place).map(|page| json!({ "page": page.id, "title": page.title }))
}

fn progress(course: &Course, State { seen, right, finished }: State) -> Value {
    let (pages, questions) = (course.pages.len(), course.questions());
    json!({ "seen": seen, "pages": pages, "right": right, "questions": questions, "finished": finished })
}

#[cfg(test)]
mod tests;
