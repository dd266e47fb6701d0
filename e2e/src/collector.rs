//! A collector of spans: takes them over OTLP as any other does, and keeps them.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::Link;
use svc_kit::tls::TlsFiles;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::deadline::until;

/// A span, as far as tests look at it. Ids are in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The process that made it, as `service.namespace/service.name/service.instance.id`.
    pub by: String,
    /// What it is of.
    pub name: String,
    /// Its trace.
    pub trace: String,
    /// Itself.
    pub id: String,
    /// The span that it is part of; nothing for the first of a trace.
    pub parent: String,
    /// The spans that it refers to.
    pub links: Vec<String>,
    /// Its attributes, as text.
    pub attributes: Vec<(String, String)>,
}

impl Span {
    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A collector.
#[derive(Debug)]
pub struct Collector {
    endpoint: String,
    spans: Spans,
    serving: JoinHandle<()>,
}

impl Collector {
    /// One that has nothing yet.
    ///
    /// # Panics
    /// If there is no port for it.
    pub async fn start() -> Collector {
        Collector::serve("http", Server::builder()).await
    }

    /// One that shows who it is, and demands the same.
    ///
    /// # Panics
    /// If there is no port for it, or the files are of no use.
    pub async fn start_with_tls(files: &TlsFiles) -> Collector {
        let read = |file: &Option<PathBuf>| std::fs::read(file.as_ref().unwrap()).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read(&files.cert), read(&files.key)))
            .client_ca_root(Certificate::from_pem(read(&files.ca)));
        Collector::serve("https", Server::builder().tls_config(tls).unwrap()).await
    }

    async fn serve(scheme: &str, mut server: Server) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("{scheme}://{}", listener.local_addr().unwrap());
        let spans = Spans::default();
        let service = TraceServiceServer::new(spans.clone());
        let serving = server.add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        let serving = tokio::spawn(async { serving.await.unwrap() });
        Collector { endpoint, spans, serving }
    }

    /// What makes processes export to it, and that soon.
    pub fn variables(&self) -> Vec<(String, String)> {
        [("OTEL_EXPORTER_OTLP_ENDPOINT", self.endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.all().clone()
    }

    /// Waits for a span.
    ///
    /// # Panics
    /// If it does not come.
    pub async fn span(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Span {
        let found = async || {
            let spans = self.spans();
            spans.iter().find(|span| is_it(span)).cloned().ok_or_else(|| format!("there are {spans:#?}"))
        };
        until(what, found).await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

impl Spans {
    fn all(&self) -> MutexGuard<'_, Vec<Span>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for process in request.into_inner().resource_spans {
            let resource = texts(process.resource.unwrap_or_default().attributes);
            let part =
                |name: &str| resource.iter().find(|(key, _)| key == name).map_or("?", |(_, value)| value);
            let by = ["service.namespace", "service.name", "service.instance.id"].map(part).join("/");
            for span in process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.all().push(Span {
                    by: by.clone(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    links: span.links.iter().map(|Link { span_id, .. }| hex(span_id)).collect(),
                    attributes: texts(span.attributes),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let text = |value: AnyValue| match value.value {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|it| (it.key, text(it.value.unwrap_or_default()))).collect()
}
