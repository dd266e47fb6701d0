//! The trace of a session: its id is the session's own, so that whoever has to do with the session is part of the trace
//! without being told of it, and so is a server that takes it over from one that died
//! ([ADR 18](../../../docs/adr/0018-a-sessions-id-is-its-traces-id.md)).
//!
//! The ids of the spans that others refer to follow from the session and the fence: the one in which it was opened, and
//! those in which servers began to serve it.

use std::cell::Cell;

use model::{Digest, Fence, SessionId};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SamplingResult, ShouldSample};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A client opens it: the root of its trace.
    Open,
    /// A client attaches.
    Attach,
    /// The first server takes it up, under this fence.
    Start(Fence),
    /// A server takes it over, under this fence, from the one that had it under the other.
    TakeOver(Fence, Fence),
    /// Its client is served by the server with this fence, and was by another before.
    Switch(Fence),
    /// Its client closes it.
    Close,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Open => "session.open",
            Step::Attach => "session.attach",
            Step::Start(_) => "session.start",
            Step::TakeOver(..) => "session.takeover",
            Step::Switch(_) => "session.switch",
            Step::Close => "session.close",
        }
    }

    /// The id of its span, if others refer to that.
    fn id(self, session: SessionId) -> Option<SpanId> {
        match self {
            Step::Open => Some(span_id(session, Fence::NONE)),
            Step::Start(fence) | Step::TakeOver(fence, _) => Some(span_id(session, fence)),
            Step::Attach | Step::Switch(_) | Step::Close => None,
        }
    }

    /// Under which fence the server began to serve whose span this one is linked to.
    fn linked(self) -> Option<Fence> {
        match self {
            Step::TakeOver(_, before) => Some(before),
            Step::Switch(now) => Some(now),
            Step::Open | Step::Attach | Step::Start(_) | Step::Close => None,
        }
    }
}

/// The span of a step, which begins now. It is linked with the call that it is part of, if it is part of one. Nothing, if
/// no spans are exported.
pub fn span(step: Step, session: SessionId) -> Span {
    if !super::exports_spans() {
        return Span::none();
    }
    let call = Span::current();
    let span = tracing::info_span!(
        "session",
        otel.name = step.name(),
        otel.status_code = Empty,
        %session,
        unit = Empty,
        fence = Empty,
        from = Empty,
        to = Empty,
        reason = Empty,
        duration_ms = Empty,
        requests_lost = Empty,
        error.type = Empty,
    );
    let root = Context::new();
    let parent =
        if step == Step::Open { root } else { root.with_remote_span_context(context(session, Fence::NONE)) };
    // It fails for spans that are exported to nobody.
    let _ = span.set_parent(parent);
    if let Some(fence) = step.linked() {
        span.add_link(context(session, fence));
    }
    ASKED.set(Some(Asked { trace: trace_id(session), span: step.id(session) }));
    let own = span.context();
    ASKED.set(None);
    span.add_link(call.context().span().span_context().clone());
    call.add_link(own.span().span_context().clone());
    span
}

/// The span of a session in which it was opened, or in which a server began to serve it under this fence. Who refers to it
/// is sampled, and so is it: everybody decides by the session.
fn context(session: SessionId, fence: Fence) -> SpanContext {
    let (trace, span) = (trace_id(session), span_id(session, fence));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default())
}

fn trace_id(session: SessionId) -> TraceId {
    TraceId::from(session.bits())
}

fn span_id(session: SessionId, fence: Fence) -> SpanId {
    let digest = Digest::of(&session.bits().to_be_bytes()).and(fence.to_string().as_bytes());
    SpanId::from(digest.bits())
}

thread_local! {
    /// The ids of the span that this thread is about to make, if they are not left to chance.
    static ASKED: Cell<Option<Asked>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Asked {
    trace: TraceId,
    span: Option<SpanId>,
}

/// Gives spans the ids that were asked for, and others any.
#[derive(Debug, Default)]
pub(super) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        ASKED.get().map_or_else(|| self.0.new_trace_id(), |asked| asked.trace)
    }

    fn new_span_id(&self) -> SpanId {
        ASKED.get().and_then(|asked| asked.span).unwrap_or_else(|| self.0.new_span_id())
    }
}

/// Decides on a span of a session by the session alone, as if it were the first one: all processes decide alike.
#[derive(Clone, Debug)]
pub(super) struct Sampling(pub(super) Box<dyn ShouldSample>);

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let (parent, trace) = match ASKED.get() {
            Some(asked) => (None, evenly_spread(asked.trace)),
            None => (parent, trace),
        };
        self.0.should_sample(parent, trace, name, kind, attributes, links)
    }
}

/// Samplers that take a share go by the second half of an id. In a UUID that begins with what is the same in all and with a
/// counter; what is left to chance comes last.
fn evenly_spread(trace: TraceId) -> TraceId {
    TraceId::from(u128::from_be_bytes(trace.to_bytes()).rotate_left(32))
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::{Sampler, SamplingDecision};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_trace_of_a_session_has_its_id_and_each_fence_a_span() {
        let session: SessionId = "0198f3a2b4c57d6e8f90a1b2c3d4e5f6".parse().unwrap();
        assert_eq!(trace_id(session).to_string(), session.to_string());
        let fences = [Fence::NONE, "f1@v4.beef+3".parse().unwrap(), "f2@v4.beef+3".parse().unwrap()];
        let spans = fences.map(|fence| span_id(session, fence).to_string());
        // Processes of other versions have to come to the same ones.
        assert_eq!(spans, ["a3331b4862be57be", "d18622ab9afc8714", "06f25ee0fe4a4f75"]);
    }

    #[test]
    fn a_share_of_all_sessions_is_sampled_and_everybody_agrees_which() {
        let samplers = [0.25, 0.25].map(|share| Sampling(Box::new(Sampler::TraceIdRatioBased(share))));
        let decide = |sampling: &Sampling, session: SessionId, parent: &Context| {
            ASKED.set(Some(Asked { trace: trace_id(session), span: None }));
            let (trace, kind) = (trace_id(session), SpanKind::Internal);
            let result = sampling.should_sample(Some(parent), trace, "session.open", &kind, &[], &[]);
            ASKED.set(None);
            result.decision == SamplingDecision::RecordAndSample
        };
        let mut sampled = 0;
        for _ in 0..1000 {
            let session = SessionId::new(Uuid::now_v7().as_u128());
            let opened = decide(&samplers[0], session, &Context::new());
            let parent = Context::new().with_remote_span_context(context(session, Fence::NONE));
            assert_eq!(decide(&samplers[1], session, &parent), opened);
            sampled += u32::from(opened);
        }
        assert!((150..350).contains(&sampled), "{sampled} of 1000");
    }
}
