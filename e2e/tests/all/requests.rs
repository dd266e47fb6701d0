//! Requests: applied once each, whatever happens to servers meanwhile.

use std::time::Duration;

use e2e::deadline::within;
use e2e::rpc::{Client, json, operation, response, responses};
use e2e::{Bed, seek_target};
use handover_cli::cluster::Service;

const FAR: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_in_the_middle_of_a_takeover_is_applied_once_and_the_stream_goes_on_from_there() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("life", 1).await;
    viewer.hurry().await;
    viewer.goes_on(8).await;
    let primary = viewer.server().await;
    bed.kill(&[primary]).await;
    within("an acknowledgement", viewer.remote().seek(FAR)).await.unwrap();
    viewer.end().await;
    let seen = viewer.close().await;
    let target = seek_target("life", FAR);
    let [(0, left), (came, 120)] = seen.stretches()[..] else {
        panic!("one jump is expected, not {:?}", seen.stretches());
    };
    assert_eq!(came, target);
    assert!(left < target, "the seek was acknowledged before the film came there by itself");
    assert_eq!((seen.applied, seen.takeovers()), (2, 1), "{seen:?}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_or_the_service_refuses_leaves_no_gap_before_the_next_request() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("life", 1).await;
    viewer.goes_on(1).await;
    let remote = viewer.remote();
    let number = |it| operation("seek", &[("position_ms", it)]);
    let long = json(serde_json::json!({ "seek": "x".repeat(70_000) }));
    for (wrong, reason) in [
        (number(f64::NAN), "BAD_FIELD"),
        (long, "REQUEST_TOO_LARGE"),
        (number(-1.0), "MALFORMED_REQUEST"),
        (number(1e9), "REQUEST_OUT_OF_RANGE"),
    ] {
        let refused = within("an answer", remote.send(wrong)).await.unwrap_err();
        assert!(refused.to_string().ends_with(&format!("({reason})")), "{refused}");
    }
    within("an acknowledgement", remote.seek(FAR)).await.unwrap();
    viewer
        .until("the film to go on there", |seen| seen.fragments.last() >= Some(&seek_target("life", FAR)))
        .await;
    viewer.close().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_stops_at_a_pause_and_goes_on_at_a_resume_where_it_stopped() {
    let bed = Bed::start().await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let session = client.create("mandelbrot").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    let before = responses(&mut stream, 3).await;
    let paused = client.send(&session, 0, operation("pause", &[])).await.unwrap();
    assert_eq!(paused, 1);
    // What was on its way when the pause was applied still comes; the context in all of it is an older one.
    // A seek does not set a paused film going, so the next response that reflects all three requests tells.
    let position = [("position_ms", 30_000.0)];
    assert_eq!(client.send(&session, 0, operation("seek", &position)).await.unwrap(), 2);
    assert_eq!(client.send(&session, 0, operation("resume", &[])).await.unwrap(), 3);
    let mut last = before.last().unwrap().clone();
    let after = loop {
        let next = response(&mut stream).await.unwrap().unwrap();
        assert_eq!(next.number, last.number + 1);
        assert!(
            [0, 3].contains(&next.requests_applied),
            "nothing is sent between pause and resume, but response {} reflects {} requests",
            next.number,
            next.requests_applied
        );
        if next.requests_applied == 3 {
            break next;
        }
        last = next;
    };
    assert!(after.number < 12, "a film at its normal rate has not come far by then");
    client.close(&session).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_repeated_under_its_number_is_applied_once() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("gradients", 1).await;
    viewer.hurry().await;
    viewer.goes_on(4).await;
    let session = proto::session::v1::CreateSessionResponse {
        name: viewer.session.name.clone(),
        secret: viewer.session.secret.clone(),
        ..Default::default()
    };
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let seek = operation("seek", &[("position_ms", FAR.as_millis() as f64)]);
    assert_eq!(client.send(&session, 2, seek.clone()).await.unwrap(), 2);
    viewer.until("the other part of the film", |seen| seen.stretches().len() == 2).await;
    let primary = viewer.server().await;
    assert_eq!(client.send(&session, 2, seek.clone()).await.unwrap(), 2);
    bed.kill(&[primary]).await;
    assert_eq!(client.send(&session, 2, seek).await.unwrap(), 2);
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.applied, 2, "{seen:?}");
    assert_eq!(seen.stretches().len(), 2, "one jump, though it was asked for three times: {seen:?}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_while_servers_are_killed_are_all_acknowledged_and_applied_once() {
    const REQUESTS: u64 = 50;
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 2).await;
    let mut remote = viewer.give_remote();
    viewer.goes_on(2).await;
    let (progress, mut acknowledged) = tokio::sync::watch::channel(0);
    let requests = tokio::spawn(async move {
        for number in 1..=REQUESTS {
            // Two rates in turn, so that each request changes the context.
            remote.rate(if number % 2 == 0 { 1.0 } else { 1.5 }).await.unwrap();
            progress.send_replace(number);
        }
    });
    for acknowledged_first in [5, 20, 35] {
        let reached = acknowledged.wait_for(|number| *number >= acknowledged_first);
        drop(within("acknowledgements", reached).await.unwrap());
        let primary = viewer.server().await;
        bed.kill(&[primary]).await;
        bed.start_again(&[primary]).await;
    }
    within("all acknowledgements", requests).await.unwrap();
    let seen = viewer.until("all requests in a response", |seen| seen.applied == REQUESTS).await;
    assert_eq!(seen.servings.iter().map(|it| it.requests_lost).sum::<u64>(), 0);
    let seen = viewer.close().await;
    assert_eq!((seen.stretches().len(), seen.applied), (1, REQUESTS), "{seen:?}");
    let report = bed.finish().await;
    assert_eq!(report.tally.requests, REQUESTS, "submitted once each: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_end_a_client_seeks_back_and_attaches_again() {
    let bed = Bed::start().await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let session = client.create("life").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    let near_the_end = operation("seek", &[("position_ms", 58_000.0)]);
    client.send(&session, 0, near_the_end).await.unwrap();
    let last = loop {
        let next = response(&mut stream).await.unwrap().unwrap();
        if next.last {
            break next;
        }
    };
    assert_eq!(response(&mut stream).await.unwrap(), None, "the stream ends well");
    let back = operation("seek", &[("position_ms", 0.0)]);
    client.send(&session, 0, back).await.unwrap();
    let mut stream = client.attach(&session, last.cursor).await.unwrap();
    let next = response(&mut stream).await.unwrap().unwrap();
    assert_eq!((next.number, next.requests_applied, next.last), (last.number + 1, 2, false));
    client.close(&session).await.unwrap();
    bed.finish().await;
}
