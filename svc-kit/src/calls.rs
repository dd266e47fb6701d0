//! Calls to a process, counted and timed by method and outcome, and as spans where spans are exported; both under the
//! names of OpenTelemetry's conventions for RPC. A caller that has a trace says so by `traceparent`, and the span is part
//! of it.
//!
//! A call is over here when the answer to a unary one, or the stream of a streaming one, begins: who wants to know of
//! streams that last for hours does not want to wait for their end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::future::BoxFuture;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::metrics::{Family, Histogram, Labels, Metrics, of_seconds};
use crate::telemetry;

/// What calls of methods that do not exist are counted as.
const NO_METHOD: &str = "_OTHER";

/// How long calls took, by method and outcome.
pub(crate) type Durations = Family<Labels<2>, Histogram, fn() -> Histogram>;

/// The durations of calls, among the metrics of a process.
pub(crate) fn durations(metrics: &mut Metrics) -> Durations {
    metrics.add_common(
        "rpc_server_call_duration_seconds",
        "How long callers waited for an answer, or for a stream to open",
        Durations::new_with_constructor(of_seconds),
    )
}

/// What stands before all services of a process, and watches.
#[derive(Clone)]
pub(crate) struct Calls {
    /// Each method as `package.Service/Method`, and whether it is worth a span: whether somebody is alive is asked all the
    /// time.
    methods: Arc<BTreeMap<&'static str, bool>>,
    durations: Durations,
}

impl Calls {
    /// Watches over calls of all methods in `descriptors`. Those of `services` are worth a span.
    pub(crate) fn new(
        descriptors: &[&[u8]],
        services: &[&'static str],
        durations: Durations,
    ) -> Result<Calls, tonic_reflection::server::Error> {
        let mut methods = BTreeMap::new();
        for encoded in descriptors {
            for file in FileDescriptorSet::decode(*encoded)?.file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    for method in &service.method {
                        // As long as the process.
                        let path = format!("{name}/{}", method.name()).leak();
                        methods.insert(&*path, services.contains(&name.as_str()));
                    }
                }
            }
        }
        Ok(Calls { methods: methods.into(), durations })
    }

    /// A call begins.
    fn begin<B>(&self, request: &Request<B>) -> Call {
        let path = request.uri().path().trim_start_matches('/');
        let (method, is_worth_it) = match self.methods.get_key_value(path) {
            Some((method, is_worth_it)) => (*method, *is_worth_it),
            None => (NO_METHOD, false),
        };
        let is_span = is_worth_it && telemetry::exports_spans();
        let span = if is_span { span(method, request.headers()) } else { Span::none() };
        Call { method, span, since: Instant::now() }
    }

    /// The call is answered.
    fn end(&self, call: &Call, code: Code) {
        let code_word = word(code);
        let labels = [("rpc_method", call.method), ("rpc_response_status_code", code_word)];
        self.durations.get_or_create(&labels).observe(call.since.elapsed().as_secs_f64());
        call.span.record("rpc.response.status_code", code_word);
        if code != Code::Ok {
            call.span.record("error.type", code_word);
        }
        if is_failure_of_server(code) {
            call.span.record("otel.status_code", "ERROR");
        }
    }
}

struct Call {
    method: &'static str,
    span: Span,
    since: Instant,
}

/// The span of a call, as part of the trace of the caller if it has one.
fn span(method: &'static str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        "call",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
        error.type = Empty,
    );
    let caller = TraceContextPropagator::new().extract(&Headers(headers));
    // It fails for spans that are exported to nobody.
    let _ = span.set_parent(caller);
    span
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| key.as_str()).collect()
    }
}

impl<S> Layer<S> for Calls {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched { calls: self.clone(), inner }
    }
}

/// Services whose calls are watched.
#[derive(Clone)]
pub(crate) struct Watched<S> {
    calls: Calls,
    inner: S,
}

impl<S, B, C> Service<Request<B>> for Watched<S>
where
    S: Service<Request<B>, Response = Response<C>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (calls, call) = (self.calls.clone(), self.calls.begin(&request));
        let span = call.span.clone();
        let answer = span.in_scope(|| self.inner.call(request));
        let watched = async move {
            let answer = answer.await?;
            // A status that comes after an answer has begun is of no unary call that failed.
            let code = answer.headers().get("grpc-status");
            calls.end(&call, code.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes())));
            Ok(answer)
        };
        Box::pin(watched.instrument(span))
    }
}

/// Whether the server is to blame, and not who calls it.
fn is_failure_of_server(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// A code as it is written.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_counted_by_method_and_outcome_and_strangers_cannot_make_up_methods() {
        let mut metrics = Metrics::new("test", "test".parse().unwrap(), "a".parse().unwrap());
        let described = [tonic_health::pb::FILE_DESCRIPTOR_SET];
        let calls = Calls::new(&described, &[], durations(&mut metrics)).unwrap();
        let answer = async |path: &str, status: Option<&str>| {
            let answer = Response::builder();
            let answer = status.into_iter().fold(answer, |answer, it| answer.header("grpc-status", it));
            let answer = std::future::ready(answer.body(()).map_err(|error| error.to_string()));
            let mut service = calls.layer(tower::service_fn(move |_| answer.clone()));
            service.call(Request::builder().uri(path).body(()).unwrap()).await.unwrap();
        };
        let check = "http://host/grpc.health.v1.Health/Check";
        answer(check, None).await;
        answer(check, None).await;
        answer(check, Some("5")).await;
        answer("http://host/grpc.health.v1.Health/Heal", Some("12")).await;
        answer("http://host/anything", Some("7")).await;
        let text = metrics.text().unwrap();
        for (method, code, count) in [
            ("grpc.health.v1.Health/Check", "OK", 2),
            ("grpc.health.v1.Health/Check", "NOT_FOUND", 1),
            ("_OTHER", "UNIMPLEMENTED", 1),
            ("_OTHER", "PERMISSION_DENIED", 1),
        ] {
            let labels = format!("rpc_method=\"{method}\",rpc_response_status_code=\"{code}\"");
            let line = format!("rpc_server_call_duration_seconds_count{{{labels}}} {count}");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}
