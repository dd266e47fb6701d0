//! Who comes in where processes show each other who they are, and who does not.

use std::future::poll_fn;

use bytes::Bytes;
use e2e::deadline::{until, within};
use e2e::rpc::assert_refused;
use e2e::scrape::metrics;
use e2e::{Bed, Plan};
use futures::future::join_all;
use handover_cli::certs::{Authority, Terms};
use handover_cli::cluster::Service;
use model::{Address, Name};
use proto::membership::v1 as membership;
use proto::membership::v1::membership_service_client::MembershipServiceClient;
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{DrainRequest, GetStatusRequest};
use svc_kit::dial::Wire;
use svc_kit::tls::{Role, TlsFiles};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::AbortHandle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const CLUSTER: Name = Name::literal("e2e");

async fn bed() -> Bed {
    Bed::plan(Plan { tls: true, ..Plan::default() }).await
}

/// The authority of the cluster.
fn authority(bed: &Bed) -> Authority {
    Authority::open(&bed.dir().join("tls"), CLUSTER).unwrap_or_else(|error| panic!("{error:#}"))
}

fn wire(files: &TlsFiles) -> Wire {
    let tls = files.open_as_named(CLUSTER).unwrap_or_else(|error| panic!("{error}"));
    Wire { tls, ..Wire::default() }
}

/// Those who belong there come in still.
async fn end(mut bed: Bed) {
    let viewer = bed.viewer("life", 1).await;
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.finish().await;
}

/// A daemon that says it is `name`.
async fn register(channel: Channel, name: &str) -> Result<(), Status> {
    let hello = membership::RegisterHello {
        cluster: CLUSTER.to_string(),
        daemon: format!("{name}#5"),
        address: "127.0.0.1:1".to_owned(),
        version: proto::MEMBERSHIP_VERSION,
        ..Default::default()
    };
    let hello = membership::register_request::Request::Hello(hello);
    let request = membership::RegisterRequest { request: Some(hello) };
    let answer = MembershipServiceClient::new(channel).register(futures::stream::iter([request])).await?;
    answer.into_inner().message().await.map(drop)
}

async fn is_healthy(channel: Channel) -> Result<(), Status> {
    HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await.map(drop)
}

/// The first call over a connection: with TLS 1.3 a client learns there that its certificate is of no use.
async fn can_call(wire: &Wire, address: &Address, role: Role) -> Result<(), String> {
    let channel = wire.connect(address, role).await.map_err(|error| error.to_string())?;
    is_healthy(channel).await.map_err(|status| status.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_is_who_its_certificate_says_and_may_do_what_its_role_may() {
    let bed = bed().await;
    let authority = authority(&bed);
    let at = |service: Service| bed.address(service.name(1));
    let issued =
        |role, name: &str| wire(&authority.issue(role, name.parse().unwrap(), &Terms::default()).unwrap());
    let connect =
        async |wire: &Wire, service: Service| wire.connect(&at(service), service.role()).await.unwrap();

    let gateway = issued(Role::Gateway, "gateway-9");
    let refused = register(connect(&gateway, Service::Membership).await, "gateway-9").await;
    assert_refused(refused, (Code::PermissionDenied, "WRONG_ROLE"));
    let machine = issued(Role::Machine, "machine-9");
    let refused = register(connect(&machine, Service::Membership).await, "machine-1").await;
    assert_refused(refused, (Code::PermissionDenied, "WRONG_NAME"));
    let mut server = ServerServiceClient::new(connect(&machine, Service::Server).await);
    assert_refused(server.drain(DrainRequest::default()).await, (Code::PermissionDenied, "WRONG_ROLE"));
    server.get_status(GetStatusRequest {}).await.unwrap();
    let log = std::fs::read_to_string(bed.dir().join("logs/server-1.log")).unwrap();
    let audit: Vec<&str> = log.lines().filter(|line| line.contains(" audit: ")).collect();
    let [refused] = audit[..] else { panic!("one line of {log}") };
    assert!(refused.contains("refused") && refused.contains("/machine/machine-9"), "{refused}");

    let posing = gateway.connect(&at(Service::Gateway), Role::Membership).await;
    assert!(posing.is_err(), "a gateway is not taken for a membership server");
    end(bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_the_cluster_that_is_still_good_nothing_is_open_but_what_clients_need() {
    let bed = bed().await;
    let authority = authority(&bed);
    let address = bed.address(Service::Server.name(1));
    let files = authority.files(Name::literal("server-1"));

    let ca = Certificate::from_pem(std::fs::read(files.ca.unwrap()).unwrap());
    let anonymous = ClientTlsConfig::new().ca_certificate(ca).domain_name(Role::Server.dns_name(CLUSTER));
    let anonymous =
        Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(anonymous).unwrap();
    let anonymous = anonymous.connect().await.unwrap();
    is_healthy(anonymous.clone()).await.unwrap();
    let refused = ServerServiceClient::new(anonymous).get_status(GetStatusRequest {}).await;
    assert_refused(refused, (Code::Unauthenticated, "NO_CERTIFICATE"));

    let operator = Name::literal("operator-2");
    let late = Terms { days: -1, ..Terms::default() };
    let expired = wire(&authority.issue(Role::Operator, operator, &late).unwrap());
    can_call(&expired, &address, Role::Server).await.unwrap_err();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::open(elsewhere.path(), CLUSTER).unwrap();
    let stranger = other.issue(Role::Operator, operator, &Terms::default()).unwrap();
    can_call(&wire(&stranger), &address, Role::Server).await.unwrap_err();
    // It knows the right authority, and was certified by the other one.
    let stranger = TlsFiles { ca: authority.files(operator).ca, ..stranger };
    can_call(&wire(&stranger), &address, Role::Server).await.unwrap_err();
    can_call(&Wire::default(), &address, Role::Server).await.unwrap_err();
    can_call(bed.wire(), &address, Role::Server).await.unwrap();
    end(bed).await;
}

/// Many connections on which nothing happens.
async fn silence(bed: Bed) {
    let address = bed.address(Service::Gateway.name(1));
    let silent = join_all((0..200).map(|_| TcpStream::connect(address.as_str()))).await;
    within("an answer beside them", can_call(bed.wire(), &address, Role::Gateway)).await.unwrap();
    for stream in silent {
        let mut stream = stream.unwrap();
        // Without TLS the other end has said how it speaks, before it gave up.
        drop(within("the end of a connection", stream.read_to_end(&mut Vec::new())).await);
    }
    end(bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_show_nothing_hold_up_nobody_and_are_closed() {
    silence(bed().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_hold_up_nobody_and_are_closed() {
    silence(Bed::start().await).await;
}

/// A connection of another host than everybody else is on, if it is taken. It is closed by aborting it.
async fn visit(address: &Address) -> Result<AbortHandle, String> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream =
        socket.connect(address.as_str().parse().unwrap()).await.map_err(|error| error.to_string())?;
    let (_client, mut connection) = h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
    let mut ping = connection.ping_pong().unwrap();
    let connection = tokio::spawn(async move {
        let _client = _client;
        connection.await
    });
    within("an answer", ping.ping(h2::Ping::opaque())).await.map_err(|error| error.to_string())?;
    Ok(connection.abort_handle())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_has_so_many_connections_and_takes_nobody_elses() {
    const MAX: usize = 20;
    let flags = vec!["--connections-per-host", "20"];
    let bed = Bed::plan(Plan { gateway_flags: flags, ..Plan::default() }).await;
    let gateway = Service::Gateway.name(1);
    let address = bed.address(gateway);
    let mut visits = Vec::new();
    for _ in 0..MAX {
        visits.push(visit(&address).await.unwrap());
    }
    for _ in 0..MAX {
        visit(&address).await.unwrap_err();
    }
    let seen = metrics(&bed.ops(gateway)).await;
    let refused = seen.sum("handover_admission_rejected_total", &["reason=\"TOO_MANY_CONNECTIONS\""]);
    assert_eq!(refused, MAX as f64);
    let log = std::fs::read_to_string(bed.dir().join("logs/gateway-1.log")).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("too many connections")).collect();
    assert!(matches!(told[..], [line] if line.contains("127.0.0.2")), "{told:?}");
    can_call(bed.wire(), &address, Role::Gateway).await.unwrap();
    visits.pop().unwrap().abort();
    until("room for another one", async || visit(&address).await).await;
    visits.iter().for_each(AbortHandle::abort);
    end(bed).await;
}

/// What comes of a call of CreateSession, over a connection of its own, whose body is `chunk` again and again until the other end
/// has had enough, or does not take any more.
async fn flood(address: &Address, headers: usize, chunk: &'static [u8]) -> Result<Option<String>, h2::Error> {
    let stream = TcpStream::connect(address.as_str()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let request = tonic::codegen::http::Request::post(format!(
        "http://{address}/handover.session.v1.SessionService/CreateSession"
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .header("x-padding", "x".repeat(headers));
    let (response, mut body) = client.send_request(request.body(()).unwrap(), false)?;
    let flooding = tokio::spawn(async move {
        loop {
            body.reserve_capacity(chunk.len());
            let Some(Ok(_)) = poll_fn(|cx| body.poll_capacity(cx)).await else { return };
            if body.send_data(Bytes::from_static(chunk), false).is_err() {
                return;
            }
        }
    });
    let response = response.await?;
    let status = match response.headers().get("grpc-status") {
        Some(status) => Some(status.clone()),
        None => response.into_body().trailers().await?.and_then(|it| it.get("grpc-status").cloned()),
    };
    flooding.abort();
    connection.abort();
    Ok(status.map(|status| status.to_str().unwrap().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_headers_without_end_are_refused_and_cost_no_memory() {
    /// The beginning of a message of 4 GiB, less one byte, and what may be any part of it.
    const ENDLESS: &[u8] = &{
        let mut chunk = [0xff; 16 * 1024];
        chunk[0] = 0;
        chunk
    };
    /// An empty message, and so one after the other.
    const EMPTY: &[u8] = &[0; 5];
    let bed = Bed::start().await;
    let (gateway, name) = (bed.address(Service::Gateway.name(1)), Service::Gateway.name(1));
    let before = bed.memory(name);
    let out_of_range = Some((Code::OutOfRange as i32).to_string());
    for _ in 0..20 {
        assert_eq!(within("an answer", flood(&gateway, 0, ENDLESS)).await.unwrap(), out_of_range);
        // There is one message in a call: whoever sends more is told what is wrong with the first, or is cut off.
        let refused = within("an answer", flood(&gateway, 0, EMPTY)).await;
        assert_ne!(refused.ok().flatten().as_deref(), Some("0"));
        within("an answer", flood(&gateway, 64 * 1024, EMPTY)).await.unwrap_err();
    }
    let grown = bed.memory(name).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    end(bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_issued_again_is_used_without_a_restart() {
    let bed = bed().await;
    let (authority, address) = (authority(&bed), bed.address(Service::Gateway.name(2)));
    let call = async || can_call(bed.wire(), &address, Role::Gateway).await;
    let issue = |days| {
        let terms = Terms { days, ..Terms::default() };
        authority.issue(Role::Gateway, Service::Gateway.name(2), &terms).unwrap()
    };
    call().await.unwrap();
    issue(-1);
    until("nobody to accept the expired one", async || match call().await {
        Ok(()) => Err("it is in use still".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
    issue(365);
    until("the new one to be in use", call).await;
    end(bed).await;
}
