//! The HTTP port for operations, beside the gRPC port and off unless it is asked for: `/metrics` for Prometheus,
//! `/livez` while the process runs, `/readyz` while it serves. It is plain text and takes no orders.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::serve::{Health, announce};
use crate::shutdown::Failure;

/// How long a machine may take to say how it is, before metrics are shown as they were.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// What `/metrics` is written in.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The table `ops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ops {
    /// Where metrics and health are served over HTTP. Nowhere, if it is not set; port 0 picks a free one.
    pub listen: Option<SocketAddr>,
    /// Where to put the address that was bound. It is there before the ready file is.
    pub ready_file: Option<PathBuf>,
}

/// The flags of the table `ops`.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub struct OpsArgs {
    /// Serve metrics and health over HTTP at this address; port 0 picks a free one
    #[arg(long = "ops-listen", id = "ops_listen", value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Write the address that was bound for metrics and health to this file
    #[arg(long = "ops-ready-file", id = "ops_ready_file", value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

impl Ops {
    /// Serves `metrics` and `health` until `stop` is cancelled, if that is wanted. Whenever somebody wants to see the
    /// metrics, `look` brings up to date those that are not counted.
    pub async fn serve<L>(
        &self,
        mut metrics: Metrics,
        health: Health,
        stop: CancellationToken,
        look: impl Fn() -> L + Send + Sync + 'static,
    ) -> Result<(), Failure>
    where
        L: Future<Output = ()> + Send + 'static,
    {
        let Some(listen) = self.listen else { return Ok(()) };
        let bind_failed = |source| Failure::Bind { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(bind_failed)?;
        let bound = listener.local_addr().map_err(bind_failed)?;
        let desk = Desk {
            serving: metrics.gauge("serving", "Whether it serves: 1 or 0"),
            answers: metrics.gauge("machine_answers", "Whether its machine answered in time: 1 or 0"),
            metrics,
            health,
            look: Box::new(move || Box::pin(look())),
        };
        let routes = Router::new()
            .route("/metrics", get(show))
            .route("/livez", get("live\n"))
            .route("/readyz", get(ready))
            .with_state(Arc::new(desk));
        if let Some(file) = &self.ready_file {
            announce(file, bound)?;
        }
        tracing::info!("metrics and health are at http://{bound}");
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "metrics and health are served no more");
            }
        }));
        Ok(())
    }
}

type Looking = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

struct Desk {
    metrics: Metrics,
    serving: Gauge,
    answers: Gauge,
    health: Health,
    look: Box<dyn Fn() -> Looking + Send + Sync>,
}

async fn show(State(desk): State<Arc<Desk>>) -> Response {
    let looked = tokio::time::timeout(LOOK_MAX, (desk.look)()).await;
    desk.answers.set(looked.is_ok().into());
    desk.serving.set(desk.health.is_serving().into());
    match desk.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(desk): State<Arc<Desk>>) -> (StatusCode, &'static str) {
    match desk.health.is_serving() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::dial::Wire;
    use crate::serve::Services;

    async fn fetch(address: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    #[tokio::test]
    async fn readiness_follows_health_and_metrics_are_looked_at_when_they_are_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ops");
        let ops = Ops { listen: Some("127.0.0.1:0".parse().unwrap()), ready_file: Some(file.clone()) };
        let mut metrics = Metrics::new("test", "test".parse().unwrap(), "a".parse().unwrap());
        let (_server, health) = Services::new().server(&Wire::default(), &[], &mut metrics).await.unwrap();
        let looks = metrics.gauge("looks", "How often it was looked at");
        let (seen, stop) = (looks.clone(), CancellationToken::new());
        let look = move || {
            seen.inc();
            std::future::ready(())
        };
        ops.serve(metrics, health.clone(), stop.clone(), look).await.unwrap();
        let address = std::fs::read_to_string(&file).unwrap().trim().to_owned();

        assert_eq!(fetch(&address, "/livez").await.0, 200);
        assert_eq!(fetch(&address, "/readyz").await.0, 503);
        health.serving().await;
        assert_eq!(fetch(&address, "/readyz").await.0, 200);
        assert_eq!(looks.get(), 0);
        let (status, text) = fetch(&address, "/metrics").await;
        assert_eq!((status, looks.get()), (200, 1));
        for line in ["handover_looks 1", "handover_serving 1", "handover_machine_answers 1", "# EOF"] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(fetch(&address, "/elsewhere").await.0, 404);
    }

    #[tokio::test]
    async fn nothing_is_served_unless_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ops");
        let ops = Ops { listen: None, ready_file: Some(file.clone()) };
        let mut metrics = Metrics::new("test", "test".parse().unwrap(), "a".parse().unwrap());
        let (_server, health) = Services::new().server(&Wire::default(), &[], &mut metrics).await.unwrap();
        ops.serve(metrics, health, CancellationToken::new(), async || ()).await.unwrap();
        assert!(!file.exists());
    }
}
