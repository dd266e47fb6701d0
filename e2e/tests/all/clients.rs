//! Clients that go away, come back, and get in one another's way.

use e2e::deadline::until;
use e2e::rpc::{Client, assert_refused, end, operation, response, responses};
use e2e::{Bed, Plan};
use handover_cli::cluster::Service;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_with_its_cursor_goes_on_after_it_at_any_gateway() {
    let bed = Bed::start().await;
    let mut here = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let mut there = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let session = here.create("mandelbrot").await;
    let mut stream = here.attach(&session, "").await.unwrap();
    here.send(&session, 0, operation("rate", &[("factor", 8.0)])).await.unwrap();
    let first = responses(&mut stream, 6).await;
    drop(stream);
    // The client lost the last two of them, and says so.
    let cursor = first[3].cursor.clone();
    let mut stream = here.attach(&session, cursor).await.unwrap();
    let again = responses(&mut stream, 6).await;
    assert_eq!(again[0].number, 5);
    assert_eq!(again[0].payload, first[4].payload, "the same response under the same number");
    assert_eq!(again[1].payload, first[5].payload);
    drop(stream);
    let cursor = again.last().unwrap().cursor.clone();
    let mut stream = there.attach(&session, cursor).await.unwrap();
    assert_eq!(response(&mut stream).await.unwrap().unwrap().number, 11);
    there.close(&session).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_without_a_cursor_goes_on_after_what_its_gateway_passed_on() {
    let mut bed = Bed::start().await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let session = client.create("life").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    client.send(&session, 0, operation("rate", &[("factor", 8.0)])).await.unwrap();
    let last = responses(&mut stream, 6).await.last().unwrap().number;
    drop(stream);
    let detached = bed.until("the gateway to notice", |snapshot| {
        let session =
            snapshot.up_gateways().flat_map(|it| &it.sessions).find(|it| it.name == session.name)?;
        (!session.attached).then_some(session.responses)
    });
    let passed_on = detached.await;
    assert!(passed_on >= last, "{passed_on} were passed on, and {last} came");
    let mut stream = client.attach(&session, "").await.unwrap();
    let next = response(&mut stream).await.unwrap().unwrap().number;
    assert!(next > last && next <= passed_on + 1, "{next} comes after {passed_on}");
    client.close(&session).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_of_a_session_displaces_the_one_before_at_the_same_and_at_another_gateway() {
    let bed = Bed::start().await;
    let mut here = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let mut there = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let session = here.create("mandelbrot").await;
    let mut first = here.attach(&session, "").await.unwrap();
    responses(&mut first, 2).await;
    let mut second = here.attach(&session, "").await.unwrap();
    assert_refused(end(first).await, (Code::Aborted, "DISPLACED"));
    let cursor = response(&mut second).await.unwrap().unwrap().cursor;
    let mut third = there.attach(&session, cursor).await.unwrap();
    assert_refused(end(second).await, (Code::Aborted, "DISPLACED"));
    responses(&mut third, 2).await;
    there.close(&session).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_its_client_ends_after_a_while_and_is_not_found_from_then_on() {
    let plan = Plan { gateway_flags: vec!["--detach-ttl", "300ms"], ..Plan::default() };
    let mut bed = Bed::plan(plan).await;
    let mut here = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let mut there = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let (abandoned, never_attached) = (here.create("gradients").await, here.create("life").await);
    let mut stream = here.attach(&abandoned, "").await.unwrap();
    let cursor = response(&mut stream).await.unwrap().unwrap().cursor;
    drop(stream);
    bed.until("the end of both sessions", |snapshot| {
        let mut units = snapshot.up_servers().flat_map(|server| &server.units);
        units.all(|unit| unit.sessions.is_empty()).then_some(())
    })
    .await;
    for session in [&abandoned, &never_attached] {
        for client in [&mut here, &mut there] {
            let gone = client.attach(session, "").await.unwrap_err();
            assert_eq!(gone.code(), Code::NotFound, "{gone:?}");
        }
    }
    let gone = there.attach(&abandoned, cursor).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "a cursor does not raise the dead: {gone:?}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_session_stays_closed_and_closing_it_again_is_harmless() {
    let mut bed = Bed::start().await;
    let mut here = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let mut there = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let session = here.create("mandelbrot").await;
    let mut stream = here.attach(&session, "").await.unwrap();
    let cursor = response(&mut stream).await.unwrap().unwrap().cursor;
    here.close(&session).await.unwrap();
    assert_refused(end(stream).await, (Code::NotFound, "SESSION_ENDED"));
    here.close(&session).await.unwrap();
    there.close(&session).await.unwrap();
    for client in [&mut here, &mut there] {
        let gone = client.attach(&session, cursor.clone()).await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound, "{gone:?}");
        let gone = client.send(&session, 0, operation("pause", &[])).await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound, "{gone:?}");
    }
    until("the servers to forget it", async || {
        let snapshot = bed.snapshot().await;
        let left = snapshot.up_servers().flat_map(|it| &it.units).map(|it| it.sessions.len()).sum::<usize>();
        if left == 0 { Ok(()) } else { Err(format!("{left} sessions are left")) }
    })
    .await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_up_its_own_session_and_no_other() {
    let mut bed = Bed::start().await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let session = client.create("mandelbrot").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    client.send(&session, 0, operation("rate", &[("factor", 8.0)])).await.unwrap();
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    viewer.end().await;
    assert_eq!(viewer.close().await.stretches(), [(0, 120)]);
    let mut expected = 1;
    while let Some(next) = response(&mut stream).await.unwrap() {
        assert_eq!(next.number, expected);
        expected += 1;
    }
    assert_eq!(expected, 121, "the one who reads late has the whole film, too");
    client.close(&session).await.unwrap();
    bed.finish().await;
}
