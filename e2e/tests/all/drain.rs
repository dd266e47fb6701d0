//! Processes that are asked to end with SIGTERM: they take their leave first, and end with status 0.

use e2e::deadline::{until, within};
use e2e::program::run;
use e2e::rpc::{Client, assert_refused, channel, end, operation, responses};
use e2e::{Bed, Plan, programs};
use handover_cli::cluster::Service;
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{DrainRequest, GetOperationRequest, StartDrainRequest};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_hands_its_sessions_over_before_it_ends() {
    let mut bed = Bed::start().await;
    let mut viewers = Vec::new();
    for gateway in [1, 2, 1] {
        viewers.push(bed.viewer("mandelbrot", gateway).await);
    }
    for viewer in &mut viewers {
        viewer.hurry().await;
        viewer.goes_on(4).await;
    }
    let primary = viewers[0].server().await;
    let status = bed.terminate(primary).await;
    assert_eq!(status.code(), Some(0));
    for viewer in viewers {
        viewer.end().await;
        let seen = viewer.close().await;
        assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
        assert_ne!(seen.server(), Some(primary));
        assert!(seen.lost.is_empty(), "{seen:?}");
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_drains_servers_and_watches() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    viewer.goes_on(4).await;

    let first = viewer.server().await;
    let mut operator = ServerServiceClient::new(channel(&bed.address(first)).await);
    let mut progress =
        within("an answer", operator.drain(DrainRequest::default())).await.unwrap().into_inner();
    let mut left = Vec::new();
    while let Some(now) = within("progress", progress.message()).await.unwrap() {
        left.push(now.sessions);
    }
    assert_eq!(left.last(), Some(&0), "{left:?}");
    assert_eq!(bed.ended(first).await.code(), Some(0));
    bed.start_again(&[first]).await;

    let second = viewer.until("another server", |seen| seen.server() != Some(first)).await.server().unwrap();
    let address = bed.address(second).to_string();
    let drain = async |name: &str| {
        let args = ["drain", name, "--server", &address, "--output", "json"];
        run(programs::handover(), |command| _ = command.args(args)).await
    };
    let unknown = drain("server-9").await;
    assert_eq!(unknown.status.code(), Some(69), "{unknown:?}");
    let drained = drain(second.as_str()).await;
    assert_eq!(drained.status.code(), Some(0), "{drained:?}");
    let last: serde_json::Value = serde_json::from_str(drained.output.last().unwrap()).unwrap();
    assert_eq!(last, serde_json::json!({ "server": second.as_str(), "sessions": 0 }));
    assert_eq!(bed.ended(second).await.code(), Some(0));
    bed.start_again(&[second]).await;

    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    assert!(seen.lost.is_empty(), "{seen:?}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_an_operation_that_is_begun_once() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    viewer.goes_on(4).await;
    let first = viewer.server().await;
    let mut operator = ServerServiceClient::new(channel(&bed.address(first)).await);
    let name = format!("operations/drain-{first}");
    let unknown = operator.get_operation(GetOperationRequest { name: name.clone() }).await;
    assert_refused(unknown, (Code::NotFound, "UNKNOWN_OPERATION"));
    let long = operator.start_drain(StartDrainRequest { request_id: "x".repeat(65), force: false }).await;
    assert_refused(long, (Code::InvalidArgument, "BAD_FIELD"));
    let request = StartDrainRequest { request_id: "d41d".into(), force: false };
    let begun = operator.start_drain(request.clone()).await.unwrap().into_inner().operation.unwrap();
    let metadata = begun.metadata.unwrap();
    assert_eq!((begun.name.as_str(), metadata.sessions_total), (name.as_str(), 1));
    // It may have ended by now, and then nobody answers.
    if let Ok(again) = operator.start_drain(request).await {
        let again = again.into_inner().operation.unwrap();
        assert_eq!(again.metadata.unwrap().begin_time, metadata.begin_time);
    }
    while let Ok(now) = operator.get_operation(GetOperationRequest { name: name.clone() }).await {
        let now = now.into_inner().operation.unwrap();
        assert!(!now.done || now.metadata.unwrap().sessions_moved == 1);
    }
    assert_eq!(bed.ended(first).await.code(), Some(0));
    viewer.end().await;
    assert_eq!(viewer.close().await.stretches(), [(0, 120)], "every fragment once, in order");
    bed.start_again(&[first]).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_need_not_wait_for_a_drain() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    viewer.goes_on(4).await;
    let first = viewer.server().await;
    let address = bed.address(first).to_string();
    let args = ["drain", first.as_str(), "--no-wait", "--server", &address, "--output", "json"];
    let begun = run(programs::handover(), |command| _ = command.args(args)).await;
    assert_eq!(begun.status.code(), Some(0), "{begun:?}");
    let shown: serde_json::Value = serde_json::from_str(&begun.output.join("\n")).unwrap();
    let operation = format!("operations/drain-{first}");
    let expected = serde_json::json!({ "server": first.as_str(), "sessions": 1, "operation": operation });
    assert_eq!(shown, expected);
    assert_eq!(bed.ended(first).await.code(), Some(0));
    viewer.end().await;
    assert_eq!(viewer.close().await.stretches(), [(0, 120)], "every fragment once, in order");
    bed.start_again(&[first]).await;
    bed.finish().await;
}

/// One machine after the other ends as it should and comes back, and so do gateways and membership servers, while films
/// play.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_is_restarted_and_no_session_is_lost() {
    let mut bed = Bed::plan(Plan { membership_servers: 3, ..Plan::default() }).await;
    let mut viewers = Vec::new();
    for (unit, gateway) in [("mandelbrot", 1), ("life", 2), ("gradients", 1), ("mandelbrot", 2)] {
        let viewer = bed.viewer(unit, gateway).await;
        viewer.goes_on(2).await;
        viewers.push(viewer);
    }
    for number in 1..=3 {
        let all = [Service::Membership, Service::Server, Service::Daemon, Service::Gateway];
        let kinds = all.into_iter().filter(|kind| *kind != Service::Gateway || number <= 2);
        let names: Vec<_> = kinds.map(|kind| kind.name(number)).collect();
        for name in &names {
            assert_eq!(bed.terminate(*name).await.code(), Some(0), "{name}");
        }
        bed.start_again(&names).await;
    }
    for mut viewer in viewers {
        viewer.hurry().await;
        viewer.end().await;
        let seen = viewer.close().await;
        assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
        assert!(seen.servings.iter().all(|serving| serving.requests_lost == 0), "{seen:?}");
        assert!(seen.lost.iter().all(|(_, why)| why == "DRAINING"), "{seen:?}");
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_sends_its_clients_elsewhere_before_it_ends() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("life", 1).await;
    viewer.hurry().await;
    viewer.goes_on(4).await;
    let first = Service::Gateway.name(1);
    let mut client = Client::of(&bed.address(first)).await;
    let session = client.create("life").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    let cursor = responses(&mut stream, 3).await.pop().unwrap().cursor;
    bed.signal(first, nix::sys::signal::Signal::SIGTERM);
    let status = assert_refused(end(stream).await, (Code::Unavailable, "DRAINING"));
    let retry = tonic_types::StatusExt::get_details_retry_info(&status);
    assert!(retry.is_some_and(|retry| retry.retry_delay.is_some()), "it says when to try again: {status:?}");
    assert_eq!(bed.ended(first).await.code(), Some(0));
    let mut elsewhere = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let mut stream = elsewhere.attach(&session, cursor).await.unwrap();
    assert_eq!(responses(&mut stream, 1).await[0].number, 4);
    elsewhere.send(&session, 0, operation("pause", &[])).await.unwrap();
    elsewhere.close(&session).await.unwrap();
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    assert_eq!(seen.lost, [(bed.address(first), "DRAINING".to_owned())]);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_takes_leave_of_its_processes_before_it_ends() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("gradients", 1).await;
    viewer.hurry().await;
    viewer.goes_on(4).await;
    let primary = viewer.server().await;
    let daemon = crate::servers::daemon_of(primary);
    let status = bed.terminate(daemon).await;
    assert_eq!(status.code(), Some(0));
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    assert!(seen.lost.is_empty(), "{seen:?}");
    bed.kill(&[primary]).await;
    bed.start_again(&[daemon, primary]).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_membership_server_ends_when_asked_to_and_nobody_minds() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 2).await;
    viewer.hurry().await;
    viewer.goes_on(4).await;
    let before = configurations(&mut bed).await;
    let membership = Service::Membership.name(1);
    assert_eq!(bed.terminate(membership).await.code(), Some(0));
    viewer.goes_on(20).await;
    assert_eq!(configurations(&mut bed).await, before, "the running configuration goes on");
    bed.start_again(&[membership]).await;
    viewer.end().await;
    assert_eq!(viewer.close().await.stretches(), [(0, 120)]);
    bed.finish().await;
}

/// The configuration that each daemon is in.
async fn configurations(bed: &mut Bed) -> Vec<String> {
    until("all daemons to answer", async || {
        let snapshot = bed.snapshot().await;
        let configurations: Vec<_> = snapshot.up_daemons().map(|it| it.configuration.clone()).collect();
        if configurations.len() == 3 { Ok(configurations) } else { Err("not all do") }
    })
    .await
}
