//! From the attachment to the drain.

use std::time::{Duration, Instant};

use bytes::Bytes;
use model::SessionId;
use proto::gateway::v1 as pb;
use proto::gateway::v1::deliver_request::Message as Said;
use proto::gateway::v1::deliver_response::Message as Say;
use proto::server::v1::{MoveSessionRequest, ReloadContentRequest, Role};
use session_core::message::{ContentMessage, Secret, ServiceMessage, SessionMessage};
use svc_kit::shutdown::{Exit, Failure};
use svc_kit::status::reason;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::bed::{Bed, film, soon};
use crate::daemon::{Daemon, Process};
use crate::gateway::{Delivery, Gateway};

pub const CONTENT: &str = "content/life";
const SESSION: SessionId = SessionId::new(7);
const SESSION_GROUP: &str = "session/life/00000000000000000000000000000007";

/// A server that is attached and in its groups.
async fn attached(daemon: &mut Daemon) -> (Bed, Process) {
    let bed = Bed::start(&daemon.address).await;
    let mut process = daemon.process().await;
    process.does("join service").await;
    process.does("join content/life").await;
    (bed, process)
}

/// A session, claimed at the gateway.
async fn claimed(process: &mut Process, gateway: &mut Gateway) -> (Delivery, pb::Claim) {
    let (session, secret, at) = (SESSION, Secret::new(1), gateway.id());
    process.deliver(CONTENT, &ContentMessage::Start { session, secret, gateway: at }).await;
    process.does(&format!("join {SESSION_GROUP}")).await;
    let mut stream = gateway.stream().await;
    let claim = stream.claimed().await;
    (stream, claim)
}

pub fn grant(claim: &pb::Claim, stream: u64, credit: u64) -> Say {
    Say::Serve(pb::Serve {
        session: claim.session.clone(),
        fence: claim.fence,
        stream,
        resume: Some(pb::serve::Resume::Beginning(pb::Beginning {})),
        attached: credit > 0,
        credit,
        credit_bytes: u64::MAX,
        repeats_from: 1,
    })
}

#[tokio::test]
async fn it_is_healthy_while_it_is_attached() {
    let mut daemon = Daemon::start().await;
    let (mut bed, process) = attached(&mut daemon).await;
    assert_eq!((process.hello.cluster.as_str(), process.hello.name.as_str()), ("test", "server-1"));
    let status = bed.status().await;
    assert_eq!((status.name.as_str(), &status.process), ("server-1", &process.id));
    assert_eq!(status.units[0].name, "contentUnits/life");
    let mut health = HealthClient::new(bed.channel.clone());
    let mut check = async || {
        let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
        answer.into_inner().status()
    };
    assert_eq!(check().await, ServingStatus::Serving);
    let before = process.id.clone();
    process.lose().await;
    let mut again = daemon.process().await;
    assert_ne!(again.id, before);
    again.does("join content/life").await;
    assert_eq!(check().await, ServingStatus::Serving);
}

#[tokio::test]
async fn a_server_that_is_refused_takes_its_time_before_it_comes_again() {
    let mut daemon = Daemon::start().await;
    let (_bed, mut process) = attached(&mut daemon).await;
    let start = Instant::now();
    for _ in 0..7 {
        process.refuse().await;
        process = daemon.process().await;
    }
    // It waits for 5 ms, then twice as long each time.
    assert!(start.elapsed() >= Duration::from_millis(635), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_film_is_streamed_as_far_as_there_is_credit() {
    let (mut daemon, mut gateway) = (Daemon::start().await, Gateway::start().await);
    let (mut bed, mut process) = attached(&mut daemon).await;
    let (mut stream, claim) = claimed(&mut process, &mut gateway).await;
    let hello = pb::ServerHello {
        cluster: "test".into(),
        server: "server-1".into(),
        gateway: "gateway-1".into(),
        gateway_boot: 7,
    };
    assert_eq!(stream.hello, hello);
    assert_eq!((claim.unit.as_str(), claim.requests), ("life", 0));

    stream.say(grant(&claim, 1, 2)).await;
    assert!(matches!(stream.said().await, Some(Said::Started(started)) if started.stream == 1));
    let mut received = Vec::new();
    let mut number = 0;
    loop {
        let response = stream.response().await;
        number += 1;
        assert_eq!(response.cursor.unwrap().responses, number);
        received.extend_from_slice(&response.payload);
        if response.last {
            break;
        }
        let (up_to, bytes_up_to) = (number + 2, u64::MAX);
        let credit = pb::Credit { session: claim.session.clone(), stream: 1, up_to, bytes_up_to };
        stream.say(Say::Credit(credit)).await;
    }
    assert_eq!(received, std::fs::read(film("life")).unwrap(), "the film, byte for byte");
    bed.await_status(|status| status.units[0].sessions[0].role == i32::from(Role::Primary)).await;
    assert_eq!(bed.status().await.units[0].sessions[0].responses, number);
}

#[tokio::test]
async fn requests_are_acknowledged_to_the_gateway() {
    let (mut daemon, mut gateway) = (Daemon::start().await, Gateway::start().await);
    let (_bed, mut process) = attached(&mut daemon).await;
    let (mut stream, claim) = claimed(&mut process, &mut gateway).await;
    stream.say(grant(&claim, 1, 0)).await;
    assert!(matches!(stream.said().await, Some(Said::Started(_))));
    for (number, operation, kind) in [
        (1, r#"{"seek":{"position_ms":1000}}"#, None),
        (2, r#"{"seek":{"position_ms":9999999}}"#, Some(pb::RefusalKind::OutOfRange)),
        (3, "what?", Some(pb::RefusalKind::Malformed)),
    ] {
        let operation = Bytes::from_static(operation.as_bytes());
        process.deliver(SESSION_GROUP, &SessionMessage::Request { number, operation }).await;
        let Some(Said::Applied(applied)) = stream.said().await else { panic!("a request is acknowledged") };
        assert_eq!((applied.number, applied.refusal.map(|it| it.kind())), (number, kind));
    }
}

#[tokio::test]
async fn a_stream_that_breaks_is_opened_again_and_the_session_claimed() {
    let (mut daemon, mut gateway) = (Daemon::start().await, Gateway::start().await);
    let (_bed, mut process) = attached(&mut daemon).await;
    let (stream, claim) = claimed(&mut process, &mut gateway).await;
    stream.say(grant(&claim, 1, 2)).await;
    drop(stream);
    let mut again = gateway.stream().await;
    assert_eq!(again.claimed().await.fence, claim.fence);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_counted() {
    let (mut daemon, mut gateway) = (Daemon::start().await, Gateway::start().await);
    let (mut bed, mut process) = attached(&mut daemon).await;
    process.deliver_bytes(CONTENT, Bytes::from_static(b"\x09")).await;
    process.deliver_bytes("service", Bytes::from_static(b"\x01\xff")).await;
    process.deliver_bytes("somebody-elses", Bytes::from_static(b"\x09")).await;
    bed.await_status(|status| status.refused_messages == 2).await;
    let (stream, _) = claimed(&mut process, &mut gateway).await;
    stream.say(Say::Credit(pb::Credit::default())).await;
    stream.closed().await;
    bed.await_status(|status| status.refused_messages == 3).await;
}

#[tokio::test]
async fn a_server_without_a_daemon_leaves_its_gateways() {
    let (mut daemon, mut gateway) = (Daemon::start().await, Gateway::start().await);
    let (_bed, mut process) = attached(&mut daemon).await;
    let (stream, claim) = claimed(&mut process, &mut gateway).await;
    stream.say(grant(&claim, 1, 2)).await;
    process.lose().await;
    stream.closed().await;
}

#[tokio::test]
async fn it_tells_gateways_which_units_there_are() {
    let (mut daemon, mut gateway) = (Daemon::start().await, Gateway::start().await);
    let (_bed, process) = attached(&mut daemon).await;
    process.deliver("service", &ServiceMessage::List { gateway: gateway.id(), query: 3 }).await;
    let Some(Said::Units(units)) = gateway.stream().await.said().await else {
        panic!("a question is answered")
    };
    let film = &units.units[0];
    assert_eq!((units.query, film.unit.as_str(), film.media_type.as_str()), (3, "life", "video/mp4"));
    assert_eq!(film.size_bytes, std::fs::metadata(crate::bed::film("life")).unwrap().len());
}

#[tokio::test]
async fn an_operator_is_told_why_a_session_cannot_be_moved() {
    let (mut daemon, mut gateway) = (Daemon::start().await, Gateway::start().await);
    let (mut bed, mut process) = attached(&mut daemon).await;
    let (_stream, _) = claimed(&mut process, &mut gateway).await;
    let life = |id: u32| format!("contentUnits/life/sessions/{id:032x}");
    let elsewhere = "contentUnits/gradients/sessions/00000000000000000000000000000007".to_owned();
    for (name, server, expected) in [
        (life(7), "", (Code::FailedPrecondition, "NO_OTHER_REPLICA")),
        (life(7), "servers/s", (Code::FailedPrecondition, "ALREADY_PRIMARY")),
        (life(7), "servers/server-9", (Code::NotFound, "UNKNOWN_SERVER")),
        (life(8), "servers/s", (Code::NotFound, "UNKNOWN_SESSION")),
        (elsewhere, "servers/s", (Code::NotFound, "UNKNOWN_UNIT")),
        ("contentUnits/life".to_owned(), "", (Code::InvalidArgument, "BAD_FIELD")),
        (life(7), "s", (Code::InvalidArgument, "BAD_FIELD")),
    ] {
        let request = MoveSessionRequest { name: name.clone(), server: server.to_owned() };
        let status = soon(bed.operator.move_session(request)).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_deref()),
            (expected.0, Some(expected.1)),
            "{name} {server}"
        );
    }
    process.lose().await;
    bed.await_status(|status| status.process.is_empty()).await;
    let request = MoveSessionRequest { name: life(7), server: String::new() };
    let status = soon(bed.operator.move_session(request)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_deref()), (Code::Unavailable, Some("UNSETTLED")));
}

#[tokio::test]
async fn content_is_loaded_again_or_stays_as_it_is() {
    let mut daemon = Daemon::start().await;
    let (mut bed, mut process) = attached(&mut daemon).await;
    std::fs::copy(film("gradients"), bed.content.path().join("gradients.mp4")).unwrap();
    let reloaded = soon(bed.operator.reload_content(ReloadContentRequest {})).await.unwrap().into_inner();
    assert_eq!(reloaded.content_units, ["contentUnits/gradients", "contentUnits/life"]);
    process.does("join content/gradients").await;

    std::fs::remove_file(bed.content.path().join("life.mp4")).unwrap();
    std::fs::write(bed.content.path().join("bad.mp4"), "no film").unwrap();
    let status = soon(bed.operator.reload_content(ReloadContentRequest {})).await.unwrap_err();
    assert_eq!(reason(&status).as_deref(), Some("BAD_CONTENT"));
    assert!(status.message().contains("bad.mp4"), "{status}");
    assert_eq!(bed.status().await.units.len(), 2);

    std::fs::remove_file(bed.content.path().join("bad.mp4")).unwrap();
    soon(bed.operator.reload_content(ReloadContentRequest {})).await.unwrap();
    process.does("leave content/life").await;
}

#[tokio::test]
async fn without_sessions_the_drain_is_done_at_once() {
    let mut daemon = Daemon::start().await;
    let (bed, mut process) = attached(&mut daemon).await;
    bed.shutdown.cancel();
    process.does("leave service").await;
    drop((bed.channel, bed.operator));
    soon(bed.running).await.unwrap().unwrap();
}

#[tokio::test]
async fn sessions_that_nobody_takes_over_are_reported_at_the_end() {
    let (mut daemon, mut gateway) = (Daemon::start().await, Gateway::start().await);
    let (bed, mut process) = attached(&mut daemon).await;
    let (mut stream, claim) = claimed(&mut process, &mut gateway).await;
    stream.say(grant(&claim, 1, 2)).await;
    assert!(matches!(stream.said().await, Some(Said::Started(_))));
    bed.shutdown.cancel();
    drop((bed.channel, bed.operator));
    let failure = soon(bed.running).await.unwrap().unwrap_err();
    assert!(matches!(failure, Failure::Undrained(_)), "{failure}");
    assert_eq!(failure.exit(), Exit::Undrained);
    assert_eq!(failure.to_string(), "the drain was cut short: sessions without another server: 1");
}
