//! Sessions that an operator moves, while a film plays in them.

use e2e::deadline::within;
use e2e::program::{Ended, run};
use e2e::rpc::{assert_refused, channel};
use e2e::{Bed, Plan, Seen, Viewer, programs, scrape};
use handover_cli::cluster::Service;
use model::Name;
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{MoveSessionRequest, MoveSessionResponse, ReloadContentRequest};
use tonic::{Code, Status};

/// The servers that hold the film, and one that does not.
struct Servers {
    holders: Vec<Name>,
    stranger: Name,
}

async fn servers(bed: &mut Bed) -> Servers {
    let snapshot = bed.snapshot().await;
    let holds = |unit: &str| unit == "contentUnits/mandelbrot";
    let (holders, others): (Vec<_>, Vec<_>) =
        snapshot.up_servers().partition(|server| server.units.iter().any(|unit| holds(&unit.name)));
    let name = |server: &proto::server::v1::GetStatusResponse| server.name.parse().unwrap();
    let [stranger] = others[..] else { panic!("one of three does not hold the film") };
    Servers { holders: holders.into_iter().map(name).collect(), stranger: name(stranger) }
}

/// Asks a server to move a session.
async fn order(bed: &Bed, asked: Name, session: &str, to: &str) -> Result<MoveSessionResponse, Status> {
    let mut operator = ServerServiceClient::new(channel(&bed.address(asked)).await);
    let request = MoveSessionRequest { name: session.to_owned(), server: to.to_owned() };
    within("an answer", operator.move_session(request)).await.map(tonic::Response::into_inner)
}

/// As an operator at a terminal.
async fn command(bed: &Bed, args: &[&str]) -> Ended {
    let addresses: Vec<_> = (1..=3).map(|n| bed.address(Service::Server.name(n)).to_string()).collect();
    run(programs::handover(), |command| {
        command.arg("move").args(args);
        for address in &addresses {
            command.args(["--server", address]);
        }
    })
    .await
}

/// Waits until this server serves, and then for some more of the film.
async fn serves(viewer: &Viewer, server: Name) {
    viewer.until("the server that was asked for", |seen| seen.server() == Some(server)).await;
    viewer.goes_on(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_goes_on_while_its_session_is_moved_there_and_back() {
    let mut bed = Bed::plan(Plan { replicas: 2, ..Plan::default() }).await;
    let Servers { holders, stranger } = servers(&mut bed).await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    viewer.goes_on(4).await;
    let (first, session) = (viewer.server().await, viewer.session.name.clone());
    let second = *holders.iter().find(|server| **server != first).unwrap();

    let moved = order(&bed, first, &session, &format!("servers/{second}")).await.unwrap();
    assert_ne!(moved.from, moved.to);
    serves(&viewer, second).await;
    let id = session.rsplit('/').next().unwrap();
    let back = command(&bed, &[id, "--to", first.as_str(), "--output", "json"]).await;
    assert_eq!(back.status.code(), Some(0), "{back:?}");
    let shown: serde_json::Value = serde_json::from_str(&back.output.join("\n")).unwrap();
    for (key, expected) in
        [("session", id), ("unit", "mandelbrot"), ("from", second.as_str()), ("to", first.as_str())]
    {
        assert_eq!(shown[key], expected, "{shown}");
    }
    serves(&viewer, first).await;

    let to = |server: Name| format!("servers/{server}");
    let unknown = format!("contentUnits/mandelbrot/sessions/{:032x}", 1);
    for (asked, session, to, refusal) in [
        (first, &session, to(first), (Code::FailedPrecondition, "ALREADY_PRIMARY")),
        (second, &session, to(stranger), (Code::FailedPrecondition, "NOT_A_REPLICA")),
        (first, &session, "servers/server-9".to_owned(), (Code::NotFound, "UNKNOWN_SERVER")),
        (second, &unknown, to(first), (Code::NotFound, "UNKNOWN_SESSION")),
        (stranger, &session, to(second), (Code::NotFound, "UNKNOWN_UNIT")),
    ] {
        assert_refused(order(&bed, asked, session, &to).await, refusal);
    }
    let refused = command(&bed, &[id, "--to", stranger.as_str()]).await;
    assert_eq!(refused.status.code(), Some(73), "{refused:?}");
    assert!(refused.errors.contains("NOT_A_REPLICA"), "{refused:?}");

    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    let mut served: Vec<Name> = seen.servings.iter().map(|serving| serving.server).collect();
    served.dedup();
    assert_eq!(served, [first, second, first], "those who were asked for");
    assert!(
        seen.servings.iter().all(|serving| serving.requests_lost == 0) && seen.lost.is_empty(),
        "{seen:?}"
    );
    bed.finish().await;
}

/// Has a server look into its directory again.
async fn reload(bed: &Bed, server: Name) {
    let mut operator = ServerServiceClient::new(channel(&bed.address(server)).await);
    within("an answer", operator.reload_content(ReloadContentRequest {})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_goes_on_while_its_edition_and_then_its_unit_are_taken_from_the_server_that_plays_it() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    viewer.goes_on(4).await;
    let first = viewer.server().await;
    let file = |bed: &Bed, server| bed.content(server).join("mandelbrot.mp4");
    let film = file(&bed, first);
    std::fs::rename(&film, film.with_file_name("mandelbrot@2.mp4")).unwrap();
    reload(&bed, first).await;
    let elsewhere = |seen: &Seen, than: Name| seen.server().is_some_and(|server| server != than);
    viewer.until("a server that holds the edition", |seen| elsewhere(seen, first)).await;
    viewer.goes_on(4).await;
    let second = viewer.server().await;
    std::fs::remove_file(file(&bed, second)).unwrap();
    reload(&bed, second).await;
    viewer.until("a server that holds the unit", |seen| elsewhere(seen, second)).await;
    viewer.end().await;

    let gateway = scrape::metrics(&bed.ops(Service::Gateway.name(1))).await;
    let moved =
        |reason: &str| gateway.sum("handover_session_migrations_total", &[&format!("reason=\"{reason}\"")]);
    assert_eq!(
        (moved("moved"), moved("suspended"), moved("lost")),
        (2.0, 0.0, 0.0),
        "each server went on until then"
    );
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    let third = seen.server().unwrap();
    assert!(third != first && third != second, "{seen:?}");
    bed.finish().await;
}
