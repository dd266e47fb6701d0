//! Courseware: content units are courses, whose pages have links and questions; what a learner answers decides what
//! comes next.
//!
//! [`Course`] is one course, [`Context`] what is remembered of a learner, [`Courseware`] the content service over both.
//! What is said in a session is described in `proto/handover/courseware/v1`.
#![deny(missing_docs)]

mod context;
mod course;
mod service;

pub use context::Context;
pub use course::{Choice, Course, CourseError, Page, Question};
pub use service::Courseware;
