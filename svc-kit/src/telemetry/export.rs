//! Spans on their way to a collector: a queue that is bounded, a thread that empties it, and nobody who waits for either.
//! What finds no room is dropped. All of it is set by OpenTelemetry's own variables.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter as Otlp, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Config, SdkTracerProvider, SpanData, SpanExporter};
use tonic::transport::ClientTlsConfig;

use super::Who;
use super::sessions::{Ids, Sampling};

/// What spans are made by and go through, on behalf of this process.
pub(super) fn provider(
    who: &Who,
    tls: Option<ClientTlsConfig>,
) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = Otlp::builder().with_tonic();
    let exporter = match tls {
        Some(tls) => exporter.with_tls_config(tls),
        None => exporter,
    };
    let exporter = exporter.build()?;
    let resource = Resource::builder()
        .with_service_name(who.role)
        .with_attributes([
            KeyValue::new("service.instance.id", who.name.to_string()),
            KeyValue::new("service.namespace", who.cluster.to_string()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(Watched { exporter, fails: AtomicBool::new(false) })
        .with_id_generator(Ids::default())
        .with_sampler(Sampling(Config::default().sampler))
        .with_resource(resource)
        .build())
}

/// An exporter that says when the collector does not take spans any more, and when it does again.
#[derive(Debug)]
struct Watched {
    exporter: Otlp,
    fails: AtomicBool,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        let failed = self.fails.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !failed => {
                tracing::warn!(%error, spans, "spans are dropped: the collector does not take them");
            }
            Ok(()) if failed => tracing::info!("the collector takes spans again"),
            Ok(()) | Err(_) => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
