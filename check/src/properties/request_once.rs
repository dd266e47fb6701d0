//! A replica applies each request of a session once, in the order of their numbers and without a gap, to each context
//! that it has in the course of time: a context that replaces another one begins where it was taken, and a server that
//! has no part in the session any more has no context.
//! [FK:request-order]

use std::collections::BTreeMap;

use model::trace::{Event, Role};
use model::{ProcessId, SessionId};

use crate::property::{Breach, Position, Property, breach};

/// The context that a replica holds.
struct Context {
    lineage: u64,
    applied: u64,
    at: Position,
}

/// The checker.
#[derive(Default)]
pub(crate) struct RequestOnce {
    contexts: BTreeMap<(ProcessId, SessionId), Context>,
}

impl Property for RequestOnce {
    fn name(&self) -> &'static str {
        "request_once"
    }

    fn claim(&self) -> &'static str {
        "FK:request-order"
    }

    fn observe(&mut self, at: Position, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Role { server, session, role: Role::None, .. } => {
                self.contexts.remove(&(*server, *session));
                Ok(())
            }
            Event::Apply { server, session, lineage, request, .. } => {
                let context = Context { lineage: *lineage, applied: *request, at };
                match self.contexts.insert((*server, *session), context) {
                    Some(last) if last.lineage == *lineage && *request != last.applied + 1 => breach(
                        &[last.at, at],
                        format!(
                            "{server} applied request {request} of {session} after {} to one context",
                            last.applied
                        ),
                    ),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) fn cases() -> Vec<crate::script::Case> {
    use crate::script::*;
    let only = &["request_once"];
    let first = Script::new().applies("a/1", 1, 1);
    vec![
        rejected("a request is applied twice", only, first.clone().applies("a/1", 1, 1)),
        rejected("a request is left out", only, first.clone().applies("a/1", 1, 3)),
        rejected("requests change places", only, first.clone().applies("a/1", 1, 2).applies("a/1", 1, 1)),
        accepted(
            "a request is applied anew to an older context",
            first.applies("a/1", 2, 1).applies("a/1", 2, 2),
        ),
        accepted(
            "a backup is dismissed, and comes back with an older context",
            Script::new().applies("a/1", 0, 5).role("a/1", 1, Role::None).applies("a/1", 0, 3),
        ),
        accepted("a backup joins late", Script::new().applies("b/1", 1, 5).applies("b/1", 1, 6)),
    ]
}
