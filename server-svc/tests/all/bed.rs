//! The content server under test, with one film.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Address;
use proto::server::v1 as pb;
use proto::server::v1::server_service_client::ServerServiceClient;
use server_svc::config::{Config, Sessions};
use server_svc::{LoadError, Service};
use svc_kit::auth::AuthFiles;
use svc_kit::dial::{Keepalive, Wire};
use svc_kit::metrics::Metrics;
use svc_kit::ops::Ops;
use svc_kit::serve::{Listener, Server, Services};
use svc_kit::shutdown::Failure;
use svc_kit::telemetry::Log;
use svc_kit::tls::{Role, TlsFiles};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Waits for what has to happen soon.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it has to happen soon")
}

/// A server of these services.
pub async fn server(services: Services) -> Server {
    let mut metrics = Metrics::new("test", "test".parse().unwrap(), "test".parse().unwrap());
    let server = services.server(&Wire::default(), proto::FILE_DESCRIPTOR_SET, &mut metrics).await;
    server.unwrap().0
}

/// A film of this repository.
pub fn film(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../content").join(format!("{name}.mp4"))
}

pub struct Bed {
    pub content: tempfile::TempDir,
    pub operator: ServerServiceClient<Channel>,
    pub channel: Channel,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<Result<(), Failure>>,
}

pub fn config(daemon: &Address, content: &Path) -> Config {
    Config {
        cluster: "test".parse().unwrap(),
        name: "server-1".parse().unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        gcs: vec![daemon.clone()],
        content: content.to_owned(),
        units: Vec::new(),
        sessions: Sessions::default(),
        // As much as there is credit for, at once.
        lead: Duration::from_secs(3600),
        ready_file: None,
        trace: None,
        hang_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_millis(100),
        keepalive: Keepalive::default(),
        tls: TlsFiles::default(),
        auth: AuthFiles::default(),
        insecure: false,
        ops: Ops::default(),
        log: Log::default(),
    }
}

impl Bed {
    pub async fn start(daemon: &Address) -> Bed {
        Bed::of(daemon, server_svc::bundled::load).await
    }

    /// A server of another service.
    pub async fn of<S: Service>(
        daemon: &Address,
        load: impl Fn(&Config) -> Result<S, LoadError> + Send + Sync + 'static,
    ) -> Bed {
        let content = tempfile::tempdir().unwrap();
        std::fs::copy(film("life"), content.path().join("life.mp4")).unwrap();
        let config = config(daemon, content.path());
        let listener = Listener::bind(config.listen, None).await.unwrap();
        let address = listener.advertised().clone();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server_svc::serve(config, listener, shutdown.clone(), load));
        let channel = Wire::default().connect(&address, Role::Server).await.unwrap();
        let operator = ServerServiceClient::new(channel.clone());
        Bed { content, operator, channel, shutdown, running }
    }

    pub async fn status(&mut self) -> pb::GetStatusResponse {
        soon(self.operator.get_status(pb::GetStatusRequest {})).await.unwrap().into_inner()
    }

    /// Waits until the status of the server is as it has to be.
    pub async fn await_status(&mut self, as_it_has_to_be: impl Fn(&pb::GetStatusResponse) -> bool) {
        soon(async { while !as_it_has_to_be(&self.status().await) {} }).await;
    }
}
