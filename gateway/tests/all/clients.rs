//! What clients get, and what they are told when they are wrong.

use bytes::Bytes;
use proto::gateway::v1::Refusal;
use proto::gateway::v1::RefusalKind;
use proto::gateway::v1::deliver_request::Message as Say;
use proto::gateway::v1::deliver_response::Message as Told;
use proto::session::v1::{CloseSessionRequest, CreateSessionRequest, ListContentUnitsRequest};
use svc_kit::status::reason;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::bed::*;

fn judged(status: &Status) -> (Code, String) {
    (status.code(), reason(status).unwrap_or_default())
}

fn field(status: &Status) -> String {
    status.get_details_bad_request().unwrap().field_violations[0].field.clone()
}

#[tokio::test]
async fn a_gateway_without_a_daemon_is_not_serving() {
    let bed = Bed::start().await;
    let mut health = HealthClient::new(bed.channel.clone());
    let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::NotServing);
    assert_eq!(bed.status().await.process, "");
}

#[tokio::test]
async fn responses_come_in_order_with_cursors_and_the_stream_ends_after_the_last() {
    let bed = Bed::start().await;
    let mut server = bed.server("server-1").await;
    let (session, mut client) = playing(&bed, &mut server).await;
    server.started(&session, 0).await;
    let serving = client.serving().await;
    assert_eq!((serving.server.as_str(), serving.fence, serving.takeover), ("server-1", 1, false));
    for number in 1..=6 {
        let last = number == 6;
        let response = proto::gateway::v1::Response { last, ..response(&session, number) };
        server.say(Say::Response(response)).await;
        let got = client.response().await;
        assert_eq!((got.number, got.last), (number, last));
        assert_eq!(got.payload, format!("response {number}"));
        assert!(!got.cursor.is_empty());
    }
    assert_eq!(client.end().await.code(), Code::Ok);
    // What the client took was credited, and its leaving is an order to wait.
    let mut up_to = 0;
    let waiting = loop {
        match server.told().await {
            Told::Credit(credit) => up_to = credit.up_to,
            Told::Serve(serve) => break serve,
            told @ (Told::Hello(_) | Told::Fenced(_) | Told::Unknown(_)) => panic!("{told:?}"),
        }
    };
    assert!(up_to > WINDOW, "{up_to}");
    assert_eq!((waiting.credit, waiting.resume), (0, after(6, 0)));
}

#[tokio::test]
async fn a_client_goes_on_from_the_cursor_that_it_brings() {
    let bed = Bed::start().await;
    let mut server = bed.server("server-1").await;
    let (mut session, mut client) = playing(&bed, &mut server).await;
    server.started(&session, 0).await;
    client.serving().await;
    server.respond(&session, 1).await;
    server.respond(&session, 2).await;
    let first = client.response().await;
    client.response().await;
    let mut again = Client(bed.sessions().attach(session.attach(first.cursor)).await.unwrap().into_inner());
    assert_eq!(judged(&client.end().await), (Code::Aborted, "DISPLACED".into()));
    let serve = loop {
        if let Told::Serve(serve) = server.told().await {
            break serve;
        }
    };
    assert_eq!(serve.resume, after(1, 0));
    session.stream = serve.stream;
    server.started(&session, 1).await;
    server.respond(&session, 2).await;
    again.serving().await;
    assert_eq!(again.response().await.number, 2);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_others_are_not() {
    let bed = Bed::start().await;
    let mut server = bed.server("server-1").await;
    let (slow, mut slow_client) = playing(&bed, &mut server).await;
    let (other, mut other_client) = playing(&bed, &mut server).await;
    server.started(&slow, 0).await;
    server.started(&other, 0).await;
    // A server that does not care for credit, and payloads that fill every window of the transport.
    let payload = Bytes::from(vec![0; 256 * 1024]);
    for number in 1..=128 {
        let payload = payload.clone();
        let response = proto::gateway::v1::Response { payload, ..response(&slow, number) };
        server.say(Say::Response(response)).await;
    }
    server.respond(&other, 1).await;
    other_client.serving().await;
    assert_eq!(other_client.response().await.number, 1);
    assert_eq!(judged(&slow_client.end().await), (Code::ResourceExhausted, "CLIENT_TOO_SLOW".into()));
}

#[tokio::test]
async fn requests_are_acknowledged_when_they_are_applied() {
    let bed = Bed::start().await;
    let mut server = bed.server("server-1").await;
    let (session, _client) = playing(&bed, &mut server).await;
    server.started(&session, 0).await;
    let send = |number, position_ms| {
        let (mut sessions, request) = (bed.sessions(), session.seek(number, position_ms));
        tokio::spawn(async move { sessions.send_request(request).await })
    };
    let (numbered, repeated) = (send(1, 1000.0), send(1, 1000.0));
    bed.await_status(|status| status.sessions[0].requests_pending == 1).await;
    server.applied(&session, 1, 0, None).await;
    assert_eq!(soon(numbered).await.unwrap().unwrap().into_inner().number, 1);
    assert_eq!(soon(repeated).await.unwrap().unwrap().into_inner().number, 1);

    for (number, kind, judgement) in [
        (2, RefusalKind::Malformed, (Code::InvalidArgument, "MALFORMED_REQUEST")),
        (3, RefusalKind::OutOfRange, (Code::OutOfRange, "REQUEST_OUT_OF_RANGE")),
        (4, RefusalKind::Precondition, (Code::FailedPrecondition, "REQUEST_REFUSED")),
    ] {
        let unnumbered = send(0, -1.0);
        bed.await_status(|status| status.sessions[0].requests_pending == 1).await;
        let refusal = Refusal { kind: kind.into(), message: "no".into() };
        server.applied(&session, number, 0, Some(refusal)).await;
        let status = soon(unnumbered).await.unwrap().unwrap_err();
        assert_eq!(judged(&status), (judgement.0, judgement.1.to_owned()));
    }
    let gap = soon(send(9, 1.0)).await.unwrap().unwrap_err();
    assert_eq!(judged(&gap), (Code::FailedPrecondition, "REQUEST_GAP".into()));
}

#[tokio::test]
async fn what_a_client_gets_wrong_is_named() {
    let bed = Bed::start().await;
    let mut server = bed.server("server-1").await;
    let session = bed.open(&mut server, 1).await;
    let other = bed.open(&mut server, 1).await;
    let mut sessions = bed.sessions();

    let create = |parent: &str| CreateSessionRequest { parent: parent.into() };
    let status = sessions.create_session(create("films/1")).await.unwrap_err();
    assert_eq!(
        (judged(&status), field(&status)),
        ((Code::InvalidArgument, "BAD_FIELD".into()), "parent".into())
    );

    let attach = |session: &Session| session.attach(Bytes::new());
    let malformed = Session { name: "contentUnits/film-1/sessions/7".into(), ..session.clone() };
    let status = sessions.attach(attach(&malformed)).await.unwrap_err();
    assert_eq!(
        (judged(&status), field(&status)),
        ((Code::InvalidArgument, "BAD_FIELD".into()), "name".into())
    );
    let no_secret = Session { secret: "secret".into(), ..session.clone() };
    let status = sessions.attach(attach(&no_secret)).await.unwrap_err();
    assert_eq!(
        (judged(&status), field(&status)),
        ((Code::InvalidArgument, "BAD_FIELD".into()), "secret".into())
    );

    let wrong = Session { secret: other.secret.clone(), ..session.clone() };
    let wrong_secret = (Code::PermissionDenied, "WRONG_SECRET".to_owned());
    assert_eq!(judged(&sessions.attach(attach(&wrong)).await.unwrap_err()), wrong_secret);
    assert_eq!(judged(&sessions.send_request(wrong.seek(0, 1.0)).await.unwrap_err()), wrong_secret);
    let close = CloseSessionRequest { name: wrong.name.clone(), secret: wrong.secret.clone() };
    assert_eq!(judged(&sessions.close_session(close).await.unwrap_err()), wrong_secret);

    let not_a_cursor = session.attach(Bytes::from_static(b"somewhere"));
    let status = sessions.attach(not_a_cursor).await.unwrap_err();
    assert_eq!(
        (judged(&status), field(&status)),
        ((Code::InvalidArgument, "MALFORMED_CURSOR".into()), "cursor".into())
    );

    let digit = if session.name.ends_with('0') { '1' } else { '0' };
    let unknown = format!("{}{digit}", &session.name[..session.name.len() - 1]);
    let stranger = Session { name: unknown, ..session.clone() };
    let status = sessions.send_request(stranger.seek(0, 1.0)).await.unwrap_err();
    assert_eq!(judged(&status), (Code::NotFound, "UNKNOWN_SESSION".into()));

    let mut large = session.seek(0, 1.0);
    let text = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("x".repeat(70_000))) };
    large.operation.as_mut().unwrap().fields.insert("comment".into(), text);
    let status = sessions.send_request(large).await.unwrap_err();
    assert_eq!(
        (judged(&status), field(&status)),
        ((Code::InvalidArgument, "REQUEST_TOO_LARGE".into()), "operation".into())
    );
    let mut nothing = session.seek(0, 1.0);
    nothing.operation = None;
    let status = sessions.send_request(nothing).await.unwrap_err();
    assert_eq!(
        (judged(&status), field(&status)),
        ((Code::InvalidArgument, "BAD_FIELD".into()), "operation".into())
    );
}

#[tokio::test]
async fn a_cursor_of_another_session_is_refused() {
    let bed = Bed::start().await;
    let mut server = bed.server("server-1").await;
    let (session, mut client) = playing(&bed, &mut server).await;
    server.started(&session, 0).await;
    server.respond(&session, 1).await;
    client.serving().await;
    let cursor = client.response().await.cursor;
    let other = bed.open(&mut server, 1).await;
    let status = bed.sessions().attach(other.attach(cursor)).await.unwrap_err();
    assert_eq!(judged(&status), (Code::InvalidArgument, "MALFORMED_CURSOR".into()));
    assert_eq!(status.message(), "cursor: is a cursor of another session");
}

#[tokio::test]
async fn an_unknown_unit_is_unknown_once_a_server_says_so() {
    let bed = Bed::start().await;
    let server = bed.server("server-1").await;
    let mut sessions = bed.sessions();
    let unknown = tokio::spawn(async move {
        sessions.create_session(CreateSessionRequest { parent: "contentUnits/no-such-film".into() }).await
    });
    while !unknown.is_finished() {
        server.list_units().await;
        bed.status().await;
    }
    let status = unknown.await.unwrap().unwrap_err();
    assert_eq!(judged(&status), (Code::NotFound, "UNKNOWN_UNIT".into()));
}

#[tokio::test]
async fn without_a_server_calls_fail_in_time_and_say_when_to_try_again() {
    let mut impatient = config();
    impatient.sessions.no_replica_timeout = std::time::Duration::from_millis(50);
    impatient.sessions.retry = std::time::Duration::from_millis(10);
    let bed = Bed::with(impatient).await;
    let status = soon(bed.sessions().list_content_units(ListContentUnitsRequest {})).await.unwrap_err();
    assert_eq!(judged(&status), (Code::Unavailable, "NO_REPLICA".into()));
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
}

#[tokio::test]
async fn at_shutdown_clients_are_sent_elsewhere() {
    let bed = Bed::start().await;
    let mut server = bed.server("server-1").await;
    let (session, mut client) = playing(&bed, &mut server).await;
    server.started(&session, 0).await;
    client.serving().await;
    bed.shutdown.cancel();
    let status = client.end().await;
    assert_eq!(judged(&status), (Code::Unavailable, "DRAINING".into()));
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    assert_eq!(reason(&server.farewell().await).as_deref(), Some("DRAINING"));
    drop((client, server));
    soon(bed.running).await.unwrap().unwrap();
}
