//! Gateways that die: clients go on at another one, with the last cursor that they have.

use e2e::Bed;
use handover_cli::cluster::Service;

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
    let seen = viewer.goes_on(20).await;
    assert_ne!(seen.server(), Some(primary));
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
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
