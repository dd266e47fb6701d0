//! Servers and machines that die, and come back.

use e2e::{Bed, Plan, Viewer};
use handover_cli::cluster::Service;
use model::Name;

/// The number of a server's machine.
pub fn number(server: Name) -> usize {
    server.as_str().rsplit('-').next().unwrap().parse().unwrap()
}

/// The daemon beside a server.
pub fn daemon_of(server: Name) -> Name {
    Service::Daemon.name(number(server))
}

/// The session went on at another server: the client was told so, and told the truth about who serves.
fn assert_taken_over(seen: &e2e::Seen, from: Name) {
    let takeover = seen.servings.iter().find(|serving| serving.takeover);
    let takeover = takeover.unwrap_or_else(|| panic!("nobody took over: {seen:?}"));
    assert_ne!(takeover.server, from);
    assert!(seen.servings.is_sorted_by(|a, b| a.fence < b.fence), "{seen:?}");
    assert!(seen.lost.is_empty(), "the gateway was not touched: {seen:?}");
}

/// Plays the film to its end, and expects all of it.
async fn assert_whole_film(viewer: Viewer) -> e2e::Seen {
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    assert_eq!(seen.servings.iter().map(|it| it.requests_lost).sum::<u64>(), 0);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_byte_for_byte_when_its_server_is_killed() {
    goes_on_when_its_server_is_killed(Bed::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_byte_for_byte_over_tls_when_its_server_is_killed() {
    goes_on_when_its_server_is_killed(Bed::plan(Plan { tls: true, ..Plan::default() }).await).await;
}

async fn goes_on_when_its_server_is_killed(mut bed: Bed) {
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    let primary = viewer.server().await;
    viewer.goes_on(8).await;
    bed.kill(&[primary]).await;
    viewer.until("a takeover", |seen| seen.takeovers() == 1).await;
    let seen = assert_whole_film(viewer).await;
    assert_taken_over(&seen, primary);
    let report = bed.finish().await;
    assert!(report.tally.takeovers >= 1, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_byte_for_byte_when_its_whole_machine_is_killed() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("life", 2).await;
    viewer.hurry().await;
    let primary = viewer.server().await;
    viewer.goes_on(8).await;
    bed.kill(&[primary, daemon_of(primary)]).await;
    viewer.until("a takeover", |seen| seen.takeovers() >= 1).await;
    let seen = assert_whole_film(viewer).await;
    assert_taken_over(&seen, primary);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_byte_for_byte_when_primary_and_backup_are_killed_at_once() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("gradients", 1).await;
    viewer.hurry().await;
    viewer.goes_on(8).await;
    let name = viewer.session.name.clone();
    let (primary, backup) = bed
        .until("a primary and a backup", |snapshot| {
            let servers = snapshot.servers_by_process();
            let session = snapshot
                .up_servers()
                .flat_map(|server| &server.units)
                .flat_map(|unit| &unit.sessions)
                .find(|session| session.name == name && session.backups.len() == 1)?;
            Some((*servers.get(session.primary.as_str())?, *servers.get(session.backups[0].as_str())?))
                .map(|(primary, backup)| (primary.parse().unwrap(), backup.parse().unwrap()))
        })
        .await;
    bed.kill(&[primary, backup]).await;
    let seen = viewer.until("a takeover", |seen| seen.takeovers() >= 1).await;
    assert!(![Some(primary), Some(backup)].contains(&seen.server()));
    let seen = assert_whole_film(viewer).await;
    assert_taken_over(&seen, primary);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_comes_back_takes_load_and_no_stream_is_disturbed() {
    let mut bed = Bed::start().await;
    let mut viewers = Vec::new();
    for gateway in [1, 2, 1, 2] {
        viewers.push(bed.viewer("life", gateway).await);
    }
    for viewer in &viewers {
        viewer.goes_on(4).await;
    }
    let victim = viewers[0].server().await;
    let before: Vec<_> = viewers.iter().map(|viewer| viewer.seen().takeovers()).collect();
    bed.kill(&[victim, daemon_of(victim)]).await;
    for viewer in &viewers {
        viewer.until("another server", |seen| seen.server() != Some(victim)).await;
    }
    bed.start_again(&[daemon_of(victim), victim]).await;
    let sessions: Vec<_> = viewers.iter().map(|viewer| viewer.session.name.clone()).collect();
    bed.until("load on the machine that came back", |snapshot| {
        let server = snapshot.up_servers().find(|server| server.name == victim.as_str())?;
        let held = server.units.iter().flat_map(|unit| &unit.sessions);
        held.into_iter()
            .find(|it| it.role() == proto::server::v1::Role::Primary && sessions.contains(&it.name))
            .map(drop)
    })
    .await;
    for viewer in &viewers {
        viewer.goes_on(2).await;
    }
    let mut moved_back = 0;
    for (viewer, before) in viewers.into_iter().zip(before) {
        let seen = viewer.close().await;
        assert_eq!(seen.stretches().len(), 1, "{seen:?}");
        assert!(seen.takeovers() >= before);
        moved_back += usize::from(seen.server() == Some(victim));
    }
    assert!(moved_back > 0, "clients are told who serves them now");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_survives_the_death_of_every_server_in_turn() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    double(&mut viewer).await;
    for _ in 0..4 {
        let primary = viewer.server().await;
        viewer.goes_on(4).await;
        bed.kill(&[primary]).await;
        viewer.until("another server", |seen| seen.server() != Some(primary)).await;
        viewer.goes_on(2).await;
        bed.start_again(&[primary]).await;
    }
    let seen = viewer.close().await;
    assert_eq!(seen.stretches().len(), 1);
    assert!(seen.takeovers() >= 4, "{seen:?}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_survive_the_death_of_a_machine_while_another_one_is_coming_back() {
    let mut bed = Bed::start().await;
    let mut viewers = Vec::new();
    for (unit, gateway) in [("mandelbrot", 1), ("life", 2), ("gradients", 1), ("life", 1)] {
        let mut viewer = bed.viewer(unit, gateway).await;
        double(&mut viewer).await;
        viewers.push(viewer);
    }
    for round in 0..3 {
        let [first, second] = [round, round + 1].map(|index| Service::Server.name(index % 3 + 1));
        bed.kill(&[first, daemon_of(first)]).await;
        bed.begin_again(&[daemon_of(first), first]).await;
        bed.kill(&[second, daemon_of(second)]).await;
        bed.start_again(&[daemon_of(second), second]).await;
        for viewer in &mut viewers {
            e2e::deadline::within("an acknowledgement", viewer.remote().rate(2.0)).await.unwrap();
            viewer.goes_on(2).await;
        }
    }
    for viewer in viewers {
        let seen = viewer.close().await;
        assert_eq!((seen.stretches().len(), seen.lost.len()), (1, 0), "{seen:?}");
        assert_eq!(seen.servings.iter().map(|it| it.requests_lost).sum::<u64>(), 0, "{seen:?}");
    }
    bed.finish().await;
}

/// Plays twice as fast: fast enough to see much, slow enough not to be at the end too soon.
async fn double(viewer: &mut Viewer) {
    e2e::deadline::within("an acknowledgement", viewer.remote().rate(2.0)).await.unwrap();
}
