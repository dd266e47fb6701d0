//! The processes below the servers: daemons and the membership service.

use e2e::Bed;
use handover_cli::cluster::Service;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_survive_the_death_of_a_daemon_alone_and_its_server_joins_again_when_it_is_back() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("life", 1).await;
    viewer.hurry().await;
    viewer.goes_on(8).await;
    let primary = viewer.server().await;
    let daemon = crate::servers::daemon_of(primary);
    bed.kill(&[daemon]).await;
    viewer.goes_on(20).await;
    bed.start_again(&[daemon]).await;
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    let back = bed.until("the server to be a member again", |snapshot| {
        let server = snapshot.up_servers().find(|server| server.name == primary.as_str())?;
        server.units.iter().all(|unit| unit.agreed && unit.members.len() == 3).then_some(())
    });
    back.await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_survive_the_death_of_the_daemon_that_orders() {
    let mut bed = Bed::start().await;
    let mut viewers = [bed.viewer("life", 1).await, bed.viewer("mandelbrot", 2).await];
    for viewer in &mut viewers {
        viewer.hurry().await;
        viewer.goes_on(4).await;
    }
    // The least member of a configuration orders. It is also the one that gateway 1 is attached to.
    let daemon = Service::Daemon.name(1);
    bed.kill(&[daemon]).await;
    let mut requests = 0;
    for viewer in &mut viewers {
        e2e::deadline::within("an acknowledgement", viewer.remote().rate(4.0)).await.unwrap();
        requests += viewer.until("the request in a response", |seen| seen.applied == 2).await.applied;
    }
    assert_eq!(requests, 4);
    bed.start_again(&[daemon]).await;
    for viewer in viewers {
        viewer.goes_on(4).await;
        assert_eq!(viewer.close().await.stretches().len(), 1);
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_membership_service_films_go_on_and_after_its_restart_servers_are_taken_over_again() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("gradients", 1).await;
    e2e::deadline::within("an acknowledgement", viewer.remote().rate(2.0)).await.unwrap();
    viewer.goes_on(4).await;
    let membership = Service::Membership.name(1);
    let members = |snapshot: &handover_cli::snapshot::Snapshot| {
        let configurations: Vec<_> = snapshot.up_daemons().map(|it| it.configuration.clone()).collect();
        (configurations.len() == 3).then_some(configurations)
    };
    let before = bed.until("three daemons", members).await;
    bed.kill(&[membership]).await;
    viewer.goes_on(4).await;
    assert_eq!(bed.until("three daemons", members).await, before, "the running configuration goes on");
    let server = viewer.server().await;
    // A server is no daemon: its death needs no change of the configuration.
    bed.kill(&[server]).await;
    viewer.until("a takeover without the membership service", |seen| seen.server() != Some(server)).await;
    viewer.goes_on(2).await;
    bed.start_again(&[membership, server]).await;
    let address = bed.address(membership);
    let mut client = proto::membership::v1::membership_service_client::MembershipServiceClient::new(
        e2e::rpc::channel(&address).await,
    );
    e2e::deadline::until("the daemons to come back", async || {
        let request = proto::membership::v1::GetMembershipRequest {};
        let attached = client.get_membership(request).await.unwrap().into_inner().attached;
        if attached.len() == 3 { Ok(()) } else { Err(format!("{attached:?} are back")) }
    })
    .await;
    let server = viewer.server().await;
    bed.kill(&[server, crate::servers::daemon_of(server)]).await;
    viewer.until("another takeover", |seen| seen.server() != Some(server)).await;
    viewer.goes_on(4).await;
    bed.start_again(&[crate::servers::daemon_of(server), server]).await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches().len(), 1, "{seen:?}");
    bed.finish().await;
}
