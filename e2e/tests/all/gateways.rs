//! Gateways that die: clients go on at another one, with the last cursor that they have.

use std::path::PathBuf;

use e2e::deadline::until;
use e2e::rpc::{Client, channel, responses};
use e2e::{Bed, Plan};
use handover_cli::cluster::Service;
use proto::server::v1::CloseSessionRequest;
use proto::server::v1::server_service_client::ServerServiceClient;

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_killed_gateway_go_on_at_another_one_byte_for_byte() {
    let mut bed = Bed::start().await;
    let mut viewers = Vec::new();
    for unit in ["mandelbrot", "life", "gradients"] {
        viewers.push(bed.viewer(unit, 1).await);
    }
    let mut elsewhere = bed.viewer("life", 2).await;
    for viewer in viewers.iter_mut().chain([&mut elsewhere]) {
        viewer.hurry().await;
        viewer.goes_on(6).await;
    }
    let victim = Service::Gateway.name(1);
    bed.kill(&[victim]).await;
    for viewer in viewers {
        viewer.end().await;
        let seen = viewer.close().await;
        assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
        assert_eq!(seen.lost[0].0, bed.address(victim));
    }
    elsewhere.end().await;
    let seen = elsewhere.close().await;
    assert_eq!((seen.stretches(), seen.lost), (vec![(0, 120)], vec![]), "who was elsewhere saw nothing");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_byte_for_byte_when_its_gateway_and_its_server_are_killed_at_once() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 2).await;
    viewer.hurry().await;
    viewer.goes_on(10).await;
    let primary = viewer.server().await;
    bed.kill(&[Service::Gateway.name(2), primary]).await;
    // What had come by then is seen first.
    viewer.until("another server", |seen| seen.server() != Some(primary)).await;
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_gateway_knows_nothing_of_its_former_life_is_told_once() {
    let variables = vec![("HANDOVER_LOG__LEVEL".to_owned(), "info,server_svc=debug".to_owned())];
    let mut bed = Bed::plan(Plan { variables, ..Plan::default() }).await;
    let gateway = Service::Gateway.name(1);
    let mut client = Client::of(&bed.address(gateway)).await;
    let session = client.create("life").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    responses(&mut stream, 2).await;
    // The client does not come back, so that servers keep its session, and the gateway's former life with it.
    bed.kill(&[gateway]).await;
    bed.start_again(&[gateway]).await;
    let logs: Vec<_> =
        (1..=3).map(|n| bed.dir().join(format!("logs/{}.log", Service::Server.name(n)))).collect();
    let count = |log: &PathBuf, what: &str| std::fs::read_to_string(log).unwrap().matches(what).count();
    for log in &logs {
        until("that a server is refused again", async || {
            (count(log, "the gateway still refuses") > 0).then_some(()).ok_or("it is not")
        })
        .await;
        assert_eq!(count(log, "the gateway refuses this server"), 1);
    }
    assert_eq!(count(&bed.dir().join("logs/gateway-1.log"), "a content server is refused"), 0);
    let mut operator = ServerServiceClient::new(channel(&bed.address(Service::Server.name(1))).await);
    operator.close_session(CloseSessionRequest { name: session.name }).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_serves_clients_of_the_other_one_when_that_dies() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("gradients", 1).await;
    let [first, second] = [1, 2].map(|number| Service::Gateway.name(number));
    viewer.hurry().await;
    viewer.goes_on(4).await;
    bed.kill(&[first]).await;
    viewer.goes_on(8).await;
    bed.start_again(&[first]).await;
    bed.kill(&[second]).await;
    viewer.goes_on(8).await;
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    assert_eq!(seen.lost.len(), 2, "{seen:?}");
    bed.finish().await;
}
