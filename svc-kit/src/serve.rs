//! The gRPC server of a process: its services, health of each and of the whole, reflection, and keepalive, on a
//! listener that is bound first, so that port 0 works.
//!
//! A parent process learns the port from the *ready file*: it names a file that does not exist, the child puts its
//! address there in one atomic step, and until then the child's exit is the only other thing that can happen.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::Address;
use proto::process::v1::process_service_server::ProcessServiceServer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::accept::accept;
use crate::access::{Access, Gate, Guard};
use crate::administration::Process;
use crate::auth::Auth;
use crate::calls::{self, Calls};
use crate::dial::{FRAME_BYTES_MAX, Wire};
use crate::hosts::PerHost;
use crate::metrics::Metrics;
use crate::shutdown::Failure;

/// A bound listener, and the address that others use.
pub struct Listener {
    tcp: TcpListener,
    bound: SocketAddr,
    advertised: Address,
}

impl Listener {
    /// Takes `listen`. Others are told `advertise`, or else the address that was bound.
    pub async fn bind(listen: SocketAddr, advertise: Option<&Address>) -> Result<Listener, Failure> {
        let bind_failed = |source| Failure::Bind { address: listen, source };
        let tcp = TcpListener::bind(listen).await.map_err(bind_failed)?;
        let bound = tcp.local_addr().map_err(bind_failed)?;
        let advertised = advertise.cloned().unwrap_or_else(|| Address::new(&bound.to_string()));
        Ok(Listener { tcp, bound, advertised })
    }

    /// The address that was bound.
    pub fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// The address under which others reach this process.
    pub fn advertised(&self) -> &Address {
        &self.advertised
    }
}

/// Tells a parent that connections are taken at `address`: `file` appears with that one line in it.
pub fn announce(file: &Path, address: SocketAddr) -> Result<(), Failure> {
    let written = || {
        let draft = file.with_extension("draft");
        std::fs::write(&draft, format!("{address}\n"))?;
        std::fs::rename(&draft, file)
    };
    written().map_err(|source| Failure::Write { path: file.to_owned(), source })
}

/// Health of the process and of each of its services: they serve together or not at all.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    services: Arc<[&'static str]>,
    /// As it was reported last.
    serves: Arc<AtomicBool>,
}

impl Health {
    /// Reports `SERVING`.
    pub async fn serving(&self) {
        self.report(ServingStatus::Serving).await;
    }

    /// Reports `NOT_SERVING`.
    pub async fn not_serving(&self) {
        self.report(ServingStatus::NotServing).await;
    }

    /// What was reported last.
    pub fn is_serving(&self) -> bool {
        self.serves.load(Ordering::Relaxed)
    }

    async fn report(&self, status: ServingStatus) {
        self.serves.store(status == ServingStatus::Serving, Ordering::Relaxed);
        self.reporter.set_service_status("", status).await;
        for service in self.services.iter() {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

/// The services of a server to be.
#[derive(Default)]
pub struct Services {
    routes: Routes,
    gates: Vec<(&'static str, Gate)>,
    auth: Option<Auth>,
    per_host: Option<PerHost>,
}

impl Services {
    /// None yet.
    pub fn new() -> Services {
        Services::default()
    }

    /// Adds a service. Where it is known who calls, its methods are for those whom `access` says, given the method's name.
    #[must_use]
    pub fn with<S>(mut self, service: S, access: fn(&str) -> Access) -> Services
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.gates.push((S::NAME, access));
        self.routes = self.routes.add_service(service);
        self
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.gates.iter().map(|(name, _)| *name)
    }

    /// Asks clients and operators for tokens, if `auth` knows any.
    #[must_use]
    pub fn asking(mut self, auth: Option<Auth>) -> Services {
        self.auth = auth;
        self
    }

    /// Bounds the connections that each host has.
    #[must_use]
    pub fn bounding(mut self, per_host: PerHost) -> Services {
        self.per_host = Some(per_host);
        self
    }

    /// The server of these services, and of the one that every process has for operators, with health (not serving yet) and
    /// with reflection, v1 and v1alpha, as `descriptors` describe the services.
    pub async fn server(
        self,
        wire: &Wire,
        descriptors: &[u8],
        metrics: &mut Metrics,
    ) -> Result<(Server, Health), Failure> {
        let per_host = self.per_host.clone();
        let this = self.with(ProcessServiceServer::new(Process), |_| Access::Operators);
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let reflection = || {
            let names = this.names().chain(["grpc.health.v1.Health"]);
            let described = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            names.fold(described, tonic_reflection::server::Builder::with_service_name)
        };
        let names: Arc<[&'static str]> = this.names().collect();
        let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
        let routes = this.routes.add_service(health_service).add_service(v1).add_service(v1alpha).prepare();
        let described = [
            descriptors,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let calls = Calls::new(&described, &names, calls::durations(metrics))?;
        let health = Health { reporter, services: names, serves: Arc::default() };
        health.not_serving().await;
        let guard = Guard::new(wire.tls.as_ref(), this.auth, this.gates);
        Ok((Server { wire: wire.clone(), per_host, calls, guard, routes }, health))
    }
}

/// A server that is ready to run.
pub struct Server {
    wire: Wire,
    per_host: Option<PerHost>,
    calls: Calls,
    guard: Guard,
    routes: Routes,
}

impl Server {
    /// Serves until `stop` is cancelled and every call has ended. A call that does not end within a second after that
    /// is left behind: somebody who watches health does not keep a process alive.
    pub async fn serve(self, listener: Listener, stop: CancellationToken) -> Result<(), Failure> {
        const GRACE: Duration = Duration::from_secs(1);
        tracing::info!(advertised = %listener.advertised, "listening on {}", listener.bound);
        let (Wire { keepalive, tls, .. }, per_host) = (self.wire, self.per_host);
        let router = tonic::transport::Server::builder()
            .max_frame_size(Some(FRAME_BYTES_MAX))
            .http2_keepalive_interval(Some(keepalive.interval))
            .http2_keepalive_timeout(Some(keepalive.timeout))
            .layer(self.calls)
            .layer(self.guard)
            .add_routes(self.routes);
        let stopped = stop.clone().cancelled_owned();
        let serving = async {
            match tls {
                Some(tls) => {
                    // Without a certificate to show, nobody is let in.
                    let shake = move |stream| {
                        let config = tls.server();
                        async move { TlsAcceptor::from(config?).accept(stream).await }
                    };
                    let connections = accept(listener.tcp, per_host, shake);
                    router.serve_with_incoming_shutdown(connections, stopped).await
                }
                None => {
                    let connections = accept(listener.tcp, per_host, |stream| std::future::ready(Ok(stream)));
                    router.serve_with_incoming_shutdown(connections, stopped).await
                }
            }
        };
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => Ok(served?),
            () = late => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;
    use crate::tls::Role;

    fn metrics() -> Metrics {
        Metrics::new("test", "test".parse().unwrap(), "a".parse().unwrap())
    }

    #[tokio::test]
    async fn a_server_on_port_0_announces_itself_reports_health_and_stops() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ready");
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        announce(&file, listener.bound()).unwrap();
        let address = Address::new(std::fs::read_to_string(&file).unwrap().trim());
        assert_eq!(&address, listener.advertised());

        let wire = Wire::default();
        let (server, health) = Services::new().server(&wire, &[], &mut metrics()).await.unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(server.serve(listener, stop.clone()));
        let mut client = HealthClient::new(wire.connect(&address, Role::Server).await.unwrap());
        let mut check = async || {
            let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap();
            answer.into_inner().status()
        };
        assert_eq!(check().await, ServingStatus::NotServing);
        health.serving().await;
        assert_eq!(check().await, ServingStatus::Serving);
        let watching = client.watch(HealthCheckRequest { service: String::new() }).await.unwrap();
        stop.cancel();
        served.await.unwrap().unwrap();
        drop(watching);
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let second = Listener::bind(first.bound(), None).await.err().unwrap();
        assert!(second.to_string().starts_with(&format!("cannot listen on {}: ", first.bound())), "{second}");
    }
}
