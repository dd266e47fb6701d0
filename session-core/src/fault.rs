//! What a service does next in a session, and what is wrong with it if it cannot be sent: then the session is over, and
//! everything else goes on.

use alloc::string::String;

use model::Time;

use crate::edition::ContentId;
use crate::held::Scene;
use crate::service::{ContentService, Next, response_bytes_max};

/// Why a service cannot go on with a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It says so itself, or panicked.
    #[error("{0}")]
    Failed(String),
    /// A response is too long.
    #[error("a response takes {size} bytes, and may take {limit}")]
    ResponseTooLong {
        /// Its size.
        size: usize,
        /// How much it may be.
        limit: usize,
    },
}

impl<S: ContentService> Scene<'_, S> {
    /// What the service does next. Once it cannot go on it is not asked any more, and there is nothing to send.
    pub(crate) fn next(&mut self, content: &ContentId, context: &mut S::Context, now: Time) -> Next {
        if self.fault.is_some() {
            return Next::Idle;
        }
        let next = self.service.next(content, context, now);
        let limit = response_bytes_max(self.commit);
        self.fault = match &next {
            // Longer ones would break the stream that they go on, which is that of other sessions too.
            Next::Respond { payload, .. } if payload.len() > limit => {
                Some(Fault::ResponseTooLong { size: payload.len(), limit })
            }
            Next::Fail { why } => Some(Fault::Failed(why.clone())),
            Next::Respond { .. } | Next::At(_) | Next::Idle => None,
        };
        if self.fault.is_some() { Next::Idle } else { next }
    }
}
