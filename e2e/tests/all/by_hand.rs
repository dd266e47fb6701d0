//! The four services as the README starts them by hand: each from its own program, with flags, with the environment or
//! with a file. Its session in a shell is held with `buf curl`, which takes the same requests as `grpcurl`.

use std::path::Path;

use e2e::deadline::until;
use e2e::program::{Program, run};
use e2e::stock::{answer, buf, call};
use e2e::{Room, programs};
use model::Address;
use nix::sys::signal::Signal;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Starts a service. Its settings say where it is to listen, which `ready` tells then.
async fn start(
    service: &str,
    ready: &Path,
    prepare: impl FnOnce(&mut tokio::process::Command),
) -> (Program, Address) {
    let program = Program::start(programs::service(service), prepare);
    let address = until(service, async || std::fs::read_to_string(ready)).await;
    (program, Address::new(address.trim()))
}

async fn serves(address: &Address, service: &str) {
    let mut client = HealthClient::new(e2e::rpc::channel(address).await);
    until("the health of a service", async || {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = client.check(request).await.map_err(|status| status.message().to_owned())?;
        let status = status.into_inner().status();
        let serves = status == ServingStatus::Serving;
        serves.then_some(()).ok_or_else(|| format!("{service} at {address} is {}", status.as_str_name()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_services_started_by_hand_serve_a_session_that_is_held_in_a_shell() {
    let (_room, buf, dir) = (Room::take().await, buf().await, tempfile::tempdir().unwrap());
    let ready = |name: &str| dir.path().join(name);
    let (membership, membership_at) = start("membership-svc", &ready("membership"), |command| {
        command
            .args(["--name", "membership-1", "--listen", "127.0.0.1:0", "--ready-file"])
            .arg(ready("membership"));
    })
    .await;
    let (daemon, daemon_at) = start("gcs-svc", &ready("machine"), |command| {
        command.env("HANDOVER_NAME", "machine-1").env("HANDOVER_LISTEN", "127.0.0.1:0");
        command.env("HANDOVER_MEMBERSHIP", membership_at.to_string());
        command.env("HANDOVER_READY_FILE", ready("machine"));
    })
    .await;
    let file = ready("server.toml");
    let settings = format!(
        "name = 'server-1'\nlisten = '127.0.0.1:0'\ngcs = ['{daemon_at}']\ncontent = 'content'\nready_file = '{}'\n\n\
         [sessions]\nbackups = 2\nperiod = '250ms'\n",
        ready("server").display()
    );
    std::fs::write(&file, settings).unwrap();
    let (server, server_at) = start("server-svc", &ready("server"), |command| {
        command.arg("--config").arg(&file).current_dir(programs::workspace());
    })
    .await;
    let (gateway, gateway_at) = start("gateway", &ready("gateway"), |command| {
        command
            .args(["--name", "gateway-1", "--gcs", daemon_at.as_str(), "--ready-file"])
            .arg(ready("gateway"));
        command.env("HANDOVER_LISTEN", "127.0.0.1:0").env("HANDOVER_SESSIONS__DETACH_TTL", "5s");
    })
    .await;

    for (address, services) in [
        (
            &membership_at,
            &["handover.membership.v1.MembershipService", "handover.membership.v1.PeerService"][..],
        ),
        (&daemon_at, &["handover.gcs.v1.GroupService", "handover.gcs.v1.LinkService"]),
        (&server_at, &["handover.server.v1.ServerService"]),
        (
            &gateway_at,
            &[
                "handover.session.v1.SessionService",
                "handover.gateway.v1.DeliveryService",
                "handover.gateway.v1.GatewayService",
            ],
        ),
    ] {
        serves(address, "").await;
        let listed = run(&buf, |command| {
            command
                .args(["curl", "--protocol", "grpc", "--http2-prior-knowledge", "--list-services"])
                .arg(format!("http://{address}"));
        });
        let listed = listed.await;
        for service in services.iter().chain([&"grpc.health.v1.Health"]) {
            assert!(listed.output.iter().any(|line| line == service), "{service} is not in {listed:?}");
        }
        for service in services {
            serves(address, service).await;
        }
    }
    hold_a_session(&buf, &gateway_at).await;
    for program in [gateway, server, daemon, membership] {
        program.signal(Signal::SIGTERM);
        let ended = program.end().await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
}

async fn hold_a_session(buf: &Path, gateway: &Address) {
    let units = answer(buf, gateway, "ListContentUnits", serde_json::json!({})).await;
    let names: Vec<_> =
        units["contentUnits"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(
        names,
        ["gradients", "group-communication", "life", "lighthouse", "mandelbrot", "notes"]
            .map(|unit| format!("contentUnits/{unit}"))
    );
    let request = serde_json::json!({ "parent": "contentUnits/mandelbrot" });
    let created = answer(buf, gateway, "CreateSession", request).await;
    let mut session = serde_json::json!({ "name": created["name"], "secret": created["secret"] });
    let mut attached = call(buf, gateway, "Attach", &session);
    attached.says("who serves", |line| line.contains("\"server-1\"")).await;
    attached.says("the third response", |line| line.contains("\"number\"") && line.contains("\"3\"")).await;
    let closing = session.clone();
    session["operation"] = serde_json::json!({ "seek": { "position_ms": 30_000 } });
    let sent = answer(buf, gateway, "SendRequest", session).await;
    assert_eq!(sent["number"], "1");
    attached.says("a response after the request", |line| line.contains("\"requestsApplied\"")).await;
    answer(buf, gateway, "CloseSession", closing.clone()).await;
    let ended = attached.end().await;
    assert!(!ended.status.success() && ended.errors.contains("not_found"), "{ended:?}");
    let refused = call(buf, gateway, "Attach", &closing).end().await;
    assert!(refused.errors.contains("the session has ended"), "{refused:?}");
}
