//! A line of the log as one JSON object, for machines. Every line says when, how bad, what, and which process of which
//! cluster; further fields are those of the event.

use std::fmt;
use std::time::SystemTime;

use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::Who;

/// Writes events as lines of JSON.
pub(super) struct Lines(pub(super) Who);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line(Map::new());
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ts = humantime::format_rfc3339_micros(SystemTime::UNIX_EPOCH + since_epoch);
        let metadata = event.metadata();
        for (name, value) in [
            ("ts", ts.to_string()),
            ("level", metadata.level().to_string()),
            ("msg", String::new()),
            ("target", metadata.target().to_owned()),
            ("role", self.0.role.to_owned()),
            ("cluster", self.0.cluster.to_string()),
            ("name", self.0.name.to_string()),
        ] {
            line.0.insert(name.to_owned(), value.into());
        }
        event.record(&mut line);
        line.0.extend(span_of_event());
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

/// The span in which something is logged, if it is one of those that are exported.
fn span_of_event() -> Vec<(String, Value)> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let ids = span.span_context();
    if !ids.is_valid() {
        return Vec::new();
    }
    [("trace_id", ids.trace_id().to_string()), ("span_id", ids.span_id().to_string())]
        .map(|(name, id)| (name.to_owned(), id.into()))
        .into()
}

/// What is gathered of an event.
struct Line(Map<String, Value>);

impl Line {
    /// A field of an event that is called as one of the line itself does not take its place.
    fn put(&mut self, field: &Field, value: Value) {
        let name = match field.name() {
            "message" => {
                self.0.insert("msg".to_owned(), value);
                return;
            }
            taken @ ("ts" | "level" | "msg" | "target" | "role" | "cluster" | "name") => {
                format!("event.{taken}")
            }
            free => free.to_owned(),
        };
        self.0.insert(name, value);
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}
