//! A service that may panic: only the session in which it does comes to harm. Without this, the server would end, and so
//! would each one that takes the session over.

use bytes::Bytes;
use model::{Level, Time};
use session_core::{ContentId, ContentService, Next, Refusal, SharedState, UnitInfo};
use svc_kit::process;

use crate::{LoadError, Service};

/// A service, and what is said in its place where it panics.
pub(crate) struct Guarded<S>(S);

impl<S: Service> Guarded<S> {
    /// Guards a service that can say what it holds, and open a session on each of it: without that nothing can be served.
    pub(crate) fn new(service: S) -> Result<Guarded<S>, LoadError> {
        attempt(|| {
            for info in service.units() {
                let content = info.content();
                drop((service.open(&content), service.commit(&content), service.shared(&content)));
            }
        })
        .map_err(|why| format!("the service panics when it opens a session: {why}"))?;
        Ok(Guarded(service))
    }
}

/// What comes of a call of the service, or what it said when it panicked. Contexts are given by reference, and what is left of
/// one is nobody's: refused requests are undone, and sessions that fail are over.
fn attempt<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    process::attempt(call).map_err(|said| format!("the service panicked: {said}"))
}

/// Tells an operator of a panic that changes only what a service is asked for, and says what goes for an answer.
fn or_tell<T>(outcome: Result<T, String>, instead: T) -> T {
    outcome.unwrap_or_else(|why| {
        tracing::error!("{why}");
        instead
    })
}

impl<S: Service> ContentService for Guarded<S> {
    type Context = S::Context;

    fn units(&self) -> Vec<UnitInfo> {
        self.0.units()
    }

    fn open(&self, content: &ContentId) -> S::Context {
        self.0.open(content)
    }

    fn apply(&self, content: &ContentId, context: &mut S::Context, request: &[u8]) -> Result<(), Refusal> {
        attempt(|| self.0.apply(content, context, request)).unwrap_or_else(|why| {
            tracing::error!(unit = %content.unit, "a request is refused: {why}");
            Err(Refusal::failed("the service failed on this request"))
        })
    }

    fn commit(&self, content: &ContentId) -> Option<Level> {
        self.0.commit(content)
    }

    fn shared(&self, content: &ContentId) -> Option<Box<dyn SharedState>> {
        self.0.shared(content).map(GuardedState::boxed)
    }

    fn restore(&self, content: &ContentId, snapshot: &[u8]) -> Option<Box<dyn SharedState>> {
        or_tell(attempt(|| self.0.restore(content, snapshot)), None).map(GuardedState::boxed)
    }

    fn next(&self, content: &ContentId, context: &mut S::Context, now: Time) -> Next {
        attempt(|| self.0.next(content, context, now)).unwrap_or_else(|why| Next::Fail { why })
    }

    fn merge(&self, content: &ContentId, one: &S::Context, other: &S::Context) -> Option<S::Context> {
        or_tell(attempt(|| self.0.merge(content, one, other)), None)
    }

    fn is_essential(&self, content: &ContentId, response: &[u8]) -> bool {
        or_tell(attempt(|| self.0.is_essential(content, response)), true)
    }
}

/// A shared state that may panic. All servers of the unit carry out the same requests, and would all end.
#[derive(Clone, Debug)]
struct GuardedState(Box<dyn SharedState>);

impl GuardedState {
    fn boxed(state: Box<dyn SharedState>) -> Box<dyn SharedState> {
        Box::new(GuardedState(state))
    }
}

impl SharedState for GuardedState {
    /// Nothing comes of a request on which the service panics; what it had changed by then, it has changed at all servers.
    fn update(&mut self, request: &[u8]) -> Bytes {
        or_tell(attempt(|| self.0.update(request)), Bytes::new())
    }

    fn snapshot(&self) -> Bytes {
        self.0.snapshot()
    }
}
