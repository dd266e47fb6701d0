//! The policy of a unit, changed by an operator while a film plays.

use e2e::program::{Ended, run};
use e2e::{Bed, Plan, programs};
use handover_cli::cluster::Service;
use handover_cli::snapshot::Snapshot;
use proto::server::v1::UnitStatus;

/// As an operator at a terminal, who knows where the servers were when the cluster began.
async fn policy(bed: &Bed, args: &[&str]) -> Ended {
    let addresses: Vec<_> = (1..=3).map(|n| bed.address(Service::Server.name(n)).to_string()).collect();
    run(programs::handover(), |command| {
        command.arg("policy").args(args);
        for address in &addresses {
            command.args(["--server", address]);
        }
    })
    .await
}

/// What every server that holds the film says of it.
fn film(snapshot: &Snapshot) -> Vec<&UnitStatus> {
    let units = snapshot.up_servers().flat_map(|server| &server.units);
    units.filter(|unit| unit.name == "contentUnits/mandelbrot").collect()
}

/// Waits until so many servers say that their policy and each session have so many backups.
async fn all_have(bed: &mut Bed, servers: usize, backups: usize) {
    bed.until("backups as many as the policy says", |snapshot| {
        let units = film(snapshot);
        let follows = |unit: &&UnitStatus| {
            unit.agreed
                && unit.backups as usize == backups
                && unit.sessions.iter().all(|session| session.backups.len() == backups)
        };
        (units.len() == servers && units.iter().all(follows)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_changed_while_a_film_plays_holds_for_its_session_and_for_servers_that_come_later() {
    let mut bed = Bed::plan(Plan::default()).await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.goes_on(2).await;
    all_have(&mut bed, 3, 1).await;

    let changed =
        policy(&bed, &["mandelbrot", "--backups", "2", "--period", "120ms", "--output", "json"]).await;
    assert_eq!(changed.status.code(), Some(0), "{changed:?}");
    let shown: serde_json::Value = serde_json::from_str(&changed.output.join("\n")).unwrap();
    assert_eq!((&shown["backups"], &shown["period_ms"]), (&2.into(), &120.into()), "{shown}");
    all_have(&mut bed, 3, 2).await;
    viewer.goes_on(2).await;

    let primary = viewer.server().await;
    bed.kill(&[primary]).await;
    viewer.until("another server", |seen| seen.server().is_some_and(|server| server != primary)).await;
    bed.start_again(&[primary]).await;
    all_have(&mut bed, 3, 2).await;
    let seen = policy(&bed, &["mandelbrot"]).await;
    assert_eq!(
        seen.output,
        ["mandelbrot: 2 backups, contexts propagated every 120 ms, served by every component, uncertain \
          responses asked for at the gateway"],
        "{seen:?}"
    );

    assert_eq!(policy(&bed, &["mandelbrot", "--backups", "0"]).await.status.code(), Some(0));
    all_have(&mut bed, 3, 0).await;
    let odd = policy(&bed, &["mandelbrot", "--period", "2h"]).await;
    assert_eq!(odd.status.code(), Some(67), "{odd:?}");
    let unknown = policy(&bed, &["nothing-of-this-name", "--backups", "1"]).await;
    assert_eq!(unknown.status.code(), Some(69), "{unknown:?}");

    viewer.hurry().await;
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_that_only_the_primary_component_serves_stands_still_until_there_is_one() {
    let mut bed = Bed::plan(Plan { voting: Some("static"), ..Plan::default() }).await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.goes_on(2).await;
    let changed = policy(&bed, &["mandelbrot", "--components", "primary"]).await;
    assert!(changed.output[0].contains("served by only the primary component"), "{changed:?}");
    viewer.goes_on(2).await;

    let others: Vec<_> = [Service::Daemon, Service::Server]
        .into_iter()
        .flat_map(|service| [service.name(2), service.name(3)])
        .collect();
    bed.kill(&others).await;
    let passed_on = bed
        .until("silence", |snapshot| {
            let silent = film(snapshot).iter().all(|unit| !unit.may_serve && unit.members.len() == 1);
            let mut sessions = snapshot.up_gateways().flat_map(|gateway| &gateway.sessions);
            let session = sessions.next().filter(|session| silent && session.server.is_empty());
            session.map(|session| session.responses)
        })
        .await;
    bed.start_again(&others).await;
    viewer.goes_on(2).await;
    viewer.hurry().await;
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    let resumed = seen.servings.iter().find(|serving| serving.after as u64 >= passed_on);
    assert_eq!(resumed.map(|serving| serving.after as u64), Some(passed_on), "none came meanwhile");
    bed.finish().await;
}
