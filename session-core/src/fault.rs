//! What a service does next in a session, and what is wrong with it if it cannot be sent: then the session is over, and
//! everything else goes on.

use alloc::string::String;

use model::Time;

use crate::edition::{ContentId, size_of};
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
    /// A response left a context that is too large to travel.
    #[error("the context takes {size} bytes after a response, and may take {limit}")]
    ContextTooLarge {
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
        self.fault = match &next {
            Next::Respond { payload, .. } => self.too_much(payload.len(), size_of(context)),
            Next::Fail { why } => Some(Fault::Failed(why.clone())),
            Next::At(_) | Next::Idle => None,
        };
        if self.fault.is_some() { Next::Idle } else { next }
    }

    /// What is wrong with a response of so many bytes and the context after it. Larger ones would break the streams that
    /// they go on, which are those of other sessions too.
    fn too_much(&self, payload: usize, context: usize) -> Option<Fault> {
        let (payload_max, context_max) = (response_bytes_max(self.commit), self.limits.context_bytes_max);
        if payload > payload_max {
            Some(Fault::ResponseTooLong { size: payload, limit: payload_max })
        } else if context > context_max {
            Some(Fault::ContextTooLarge { size: context, limit: context_max })
        } else {
            None
        }
    }
}
