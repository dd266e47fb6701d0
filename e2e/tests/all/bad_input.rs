//! What clients may get wrong at a gateway: each mistake is told plainly, and nobody else is harmed by it.

use std::collections::BTreeMap;

use e2e::Bed;
use e2e::deadline::within;
use e2e::rpc::{Client, Refusal, assert_refused, operation, response};
use handover_cli::cluster::Service;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::session::v1::{CreateSessionRequest, CreateSessionResponse, SendRequestRequest};
use tonic::Code;

const BAD_FIELD: Refusal = (Code::InvalidArgument, "BAD_FIELD");
const UNKNOWN_SESSION: Refusal = (Code::NotFound, "UNKNOWN_SESSION");
const WRONG_SECRET: Refusal = (Code::PermissionDenied, "WRONG_SECRET");
const MALFORMED_REQUEST: Refusal = (Code::InvalidArgument, "MALFORMED_REQUEST");
const OUT_OF_RANGE: Refusal = (Code::OutOfRange, "REQUEST_OUT_OF_RANGE");
const MALFORMED_CURSOR: Refusal = (Code::InvalidArgument, "MALFORMED_CURSOR");

/// A request with a text of this length in it.
fn wordy(bytes: usize) -> Struct {
    let text = Value { kind: Some(Kind::StringValue("x".repeat(bytes))) };
    Struct { fields: BTreeMap::from([("seek".to_owned(), text)]) }
}

/// A request that is nested this deep.
fn deep(levels: usize) -> Struct {
    let nest = |inner: Struct, _| {
        let inner = Value { kind: Some(Kind::StructValue(inner)) };
        Struct { fields: BTreeMap::from([("seek".to_owned(), inner)]) }
    };
    (0..levels).fold(Struct::default(), nest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_opened_on_a_unit_that_exists_and_on_nothing_else() {
    let mut bed = Bed::start().await;
    let viewer = bed.viewer("life", 1).await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let long = format!("contentUnits/{}", "x".repeat(100_000));
    for (parent, refusal) in [
        ("contentUnits/no-such-film", (Code::NotFound, "UNKNOWN_UNIT")),
        ("", BAD_FIELD),
        ("contentUnits/", BAD_FIELD),
        ("contentUnits/No Film", BAD_FIELD),
        ("contentUnits/life/sessions/1", BAD_FIELD),
        ("films/life", BAD_FIELD),
        (&long, BAD_FIELD),
    ] {
        let request = CreateSessionRequest { parent: parent.to_owned() };
        let answer = within("an answer", client.stub.create_session(request)).await;
        let status = assert_refused(answer, refusal);
        assert!(status.message().len() < 1000, "a long name is not repeated in full");
    }
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_for_the_client_that_has_its_name_and_its_secret() {
    let mut bed = Bed::start().await;
    let viewer = bed.viewer("mandelbrot", 1).await;
    viewer.goes_on(2).await;
    let mut here = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let mut there = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let (name, secret) = (viewer.session.name.clone(), viewer.session.secret.clone());
    let session = |name: &str, secret: &str| {
        let (name, secret, cursor) = (name.to_owned(), secret.to_owned(), bytes::Bytes::new());
        CreateSessionResponse { name, secret, cursor }
    };
    let other = here.create("mandelbrot").await;
    let unknown = format!("contentUnits/mandelbrot/sessions/{}", "ab".repeat(16));
    for (session, refusal) in [
        (session(&unknown, &secret), UNKNOWN_SESSION),
        (session(&name, &other.secret), WRONG_SECRET),
        (session(&name, ""), BAD_FIELD),
        (session(&name, "not a secret"), BAD_FIELD),
        (session("", &secret), BAD_FIELD),
        (session("contentUnits/mandelbrot/sessions/1", &secret), BAD_FIELD),
        (session("contentUnits/mandelbrot", &secret), BAD_FIELD),
    ] {
        for client in [&mut here, &mut there] {
            assert_refused(client.attach(&session, "").await, refusal);
        }
        assert_refused(here.send(&session, 0, operation("pause", &[])).await, refusal);
        if refusal != UNKNOWN_SESSION {
            assert_refused(here.close(&session).await, refusal);
        }
    }
    // Whoever closes a session that does not exist has what it wants.
    here.close(&session(&unknown, &secret)).await.unwrap();
    viewer.goes_on(2).await;
    let seen = viewer.close().await;
    assert_eq!((seen.applied, seen.lost.len()), (0, 0), "nobody else paused it or displaced its client");
    here.close(&other).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_is_refused_with_its_reason_and_does_not_disturb_the_session() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("gradients", 1).await;
    viewer.hurry().await;
    viewer.goes_on(2).await;
    let session = CreateSessionResponse {
        name: viewer.session.name.clone(),
        secret: viewer.session.secret.clone(),
        ..Default::default()
    };
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let (mut accepted, mut number) = (1, 1);
    for (operation, refusal) in [
        (operation("fly", &[]), MALFORMED_REQUEST),
        (operation("seek", &[]), MALFORMED_REQUEST),
        (operation("seek", &[("position_ms", -1.0)]), MALFORMED_REQUEST),
        (operation("seek", &[("position_ms", f64::NAN)]), BAD_FIELD),
        (operation("seek", &[("position_ms", 1.0), ("more", 1.0)]), MALFORMED_REQUEST),
        (Struct::default(), MALFORMED_REQUEST),
        (deep(20), BAD_FIELD),
        (wordy(1000), MALFORMED_REQUEST),
        (wordy(70_000), (Code::InvalidArgument, "REQUEST_TOO_LARGE")),
        (operation("seek", &[("position_ms", 60_000.0)]), OUT_OF_RANGE),
        (operation("seek", &[("position_ms", 1e15)]), OUT_OF_RANGE),
        (operation("rate", &[("factor", 100.0)]), OUT_OF_RANGE),
        (operation("rate", &[("factor", 0.0)]), OUT_OF_RANGE),
    ] {
        assert_refused(client.send(&session, 0, operation).await, refusal);
        number = client.send(&session, 0, rate()).await.unwrap();
        assert!(number > accepted, "the next one is accepted");
        accepted = number;
    }
    let gap = client.send(&session, number + 2, rate()).await;
    assert_refused(gap, (Code::FailedPrecondition, "REQUEST_GAP"));
    let gap = client.send(&session, u64::MAX, rate()).await;
    assert_refused(gap, (Code::FailedPrecondition, "REQUEST_GAP"));
    assert_eq!(client.send(&session, number + 1, rate()).await.unwrap(), number + 1);
    let CreateSessionResponse { name, secret, .. } = session.clone();
    let nothing = SendRequestRequest { name, secret, number: 0, operation: None };
    assert_refused(within("an answer", client.stub.send_request(nothing)).await, BAD_FIELD);
    let huge = client.send(&session, 0, wordy(5 << 20)).await.unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange, "{huge:?}");
    assert!(huge.message().contains("4194304"), "it says how much is allowed: {huge:?}");
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)]);
    bed.finish().await;
}

/// A request that changes nothing: it asks for the rate that the film has.
fn rate() -> Struct {
    operation("rate", &[("factor", 8.0)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_good_for_the_session_that_it_came_from_and_only_as_it_came() {
    let mut bed = Bed::start().await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let mut there = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let (session, other) = (client.create("life").await, client.create("life").await);
    let mut stream = client.attach(&session, "").await.unwrap();
    let cursor = response(&mut stream).await.unwrap().unwrap().cursor.to_vec();
    let mut others_stream = client.attach(&other, "").await.unwrap();
    let others = response(&mut others_stream).await.unwrap().unwrap().cursor.to_vec();
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut cursor = cursor.clone();
        change(&mut cursor);
        cursor
    };
    for bad in [
        b"not a cursor".to_vec(),
        vec![1],
        vec![1; 9000],
        others,
        changed(|it| it.truncate(20)),
        changed(|it| it.push(0)),
        changed(|it| it[0] = 9),
        changed(|it| it.extend([0; 10_000])),
    ] {
        for client in [&mut client, &mut there] {
            assert_refused(client.attach(&session, bad.clone()).await, MALFORMED_CURSOR);
        }
    }
    let next = response(&mut stream).await.unwrap().unwrap();
    assert_eq!(next.number, 2, "the client with the good cursor was not displaced");
    client.close(&session).await.unwrap();
    client.close(&other).await.unwrap();
    bed.all_live().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_with_a_context_that_no_service_wrote_is_refused_and_harms_nobody() {
    let mut bed = Bed::start().await;
    let viewer = bed.viewer("life", 2).await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let session = client.create("life").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    let cursor = response(&mut stream).await.unwrap().unwrap().cursor.to_vec();
    drop(stream);
    let mut forged = cursor.clone();
    let context = forged.len() - 8;
    forged[context..].fill(0xff);
    let attached = match client.attach(&session, forged).await {
        Ok(mut stream) => response(&mut stream).await.map(|response| response.map(|it| it.number)),
        Err(status) => Err(status),
    };
    assert_refused(attached, (Code::InvalidArgument, "FORGED_CURSOR"));
    bed.all_live().await;
    viewer.goes_on(2).await;
    viewer.close().await;
    client.close(&session).await.unwrap();
    bed.finish().await;
}
