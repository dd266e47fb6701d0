//! What the processes of a cluster tell whoever watches over them.

use std::collections::{BTreeMap, BTreeSet};

use e2e::deadline::until;
use e2e::{Bed, Plan, scrape};
use handover_cli::cluster::Service;

use crate::servers::daemon_of;

/// The page that lists all metrics.
const PAGE: &str = include_str!("../../../docs/observability.md");

/// The metrics of the page and their types: rows of tables that begin with a name in backquotes.
fn documented() -> BTreeMap<String, String> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?.to_owned();
        Some((name, cells.next()?.to_owned()))
    };
    PAGE.lines().filter_map(row).filter(|(name, _)| name.contains('_')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_those_of_the_page_and_tell_of_a_takeover() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    let primary = viewer.server().await;
    viewer.goes_on(8).await;
    let at_primary = scrape::metrics(&bed.ops(primary)).await;
    assert!(at_primary.sum("handover_sessions", &["role=\"primary\""]) >= 1.0, "{at_primary:?}");
    assert!(at_primary.sum("handover_responses_sent_total", &[]) >= 8.0, "{at_primary:?}");

    bed.kill(&[primary]).await;
    viewer.until("a takeover", |seen| seen.takeovers() == 1).await;
    let gateway = bed.ops(Service::Gateway.name(1));
    let at_gateway = scrape::metrics(&gateway).await;
    let count = |name: &str, labels: &[&str]| at_gateway.sum(name, labels);
    // Lost, or moved if the gateway heard of the next server first.
    let migrations = |reason: &str| {
        count("handover_session_migrations_total", &[&format!("reason=\"{reason}\""), "outcome=\"complete\""])
    };
    assert_eq!(migrations("lost") + migrations("moved"), 1.0);
    assert_eq!(count("handover_session_migrations_total", &[]), 1.0);
    assert_eq!(count("handover_migration_gap_seconds_count", &[]), 1.0);
    assert!((0.0..30.0).contains(&count("handover_migration_gap_seconds_sum", &[])), "{at_gateway:?}");
    assert_eq!(count("handover_gateway_streams", &[]), 1.0);
    assert!(count("handover_responses_delivered_total", &[]) >= 8.0, "{at_gateway:?}");
    assert_eq!(count("handover_serving", &[]), 1.0);

    let mut found = BTreeMap::new();
    let others = [Service::Membership.name(1), daemon_of(primary), Service::Gateway.name(2)];
    let servers = (1..=3).map(|number| Service::Server.name(number)).filter(|it| *it != primary);
    for process in others.into_iter().chain(servers) {
        let address = bed.ops(process);
        assert_eq!(scrape::fetch(&address, "/livez").await.0, 200, "{process}");
        assert_eq!(scrape::fetch(&address, "/readyz").await.0, 200, "{process}");
        let metrics = scrape::metrics(&address).await;
        assert_eq!(metrics.sum("handover_machine_answers", &[]), 1.0, "{process}");
        assert_eq!(metrics.sum("handover_build_info", &[&format!("name=\"{process}\"")]), 1.0, "{process}");
        found.extend(metrics.types);
    }
    let at_daemon = scrape::metrics(&bed.ops(daemon_of(primary))).await;
    for peer in (1..=3).map(|number| Service::Daemon.name(number)).filter(|it| *it != daemon_of(primary)) {
        let rtt = at_daemon.sum("handover_peer_rtt_seconds", &[&format!("peer=\"{peer}\"")]);
        assert!(rtt > 0.0 && rtt < 30.0, "{peer}: {rtt} s");
    }
    assert_eq!(found, documented(), "what processes show, and what the page lists");

    viewer.end().await;
    viewer.close().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_count_views_by_what_changed_and_know_how_long_they_took() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("life", 2).await;
    viewer.hurry().await;
    let primary = viewer.server().await;
    let (daemon, watched) =
        (daemon_of(primary), if daemon_of(primary) == Service::Daemon.name(1) { 2 } else { 1 });
    let watched = bed.ops(Service::Daemon.name(watched));
    let before = scrape::metrics(&watched).await;
    assert_eq!(before.sum("handover_members", &[]), 3.0);
    bed.kill(&[primary, daemon]).await;
    viewer.until("a takeover", |seen| seen.takeovers() >= 1).await;
    until("a view without the daemon", async || {
        let now = scrape::metrics(&watched).await;
        let round_trip = now.sum("handover_peer_rtt_seconds", &[&format!("peer=\"{daemon}\"")]);
        let is_forgotten = now.sum("handover_members", &[]) == 2.0 && round_trip == 0.0;
        is_forgotten.then_some(()).ok_or(format!("{now:?}"))
    })
    .await;
    let after = scrape::metrics(&watched).await;
    let views = |seen: &scrape::Metrics| seen.sum("handover_views_total", &["cause=\"left\""]);
    assert_eq!(views(&after), views(&before) + 1.0);
    let changes = |seen: &scrape::Metrics| seen.sum("handover_view_change_seconds_count", &[]);
    assert!(changes(&after) > changes(&before));
    viewer.end().await;
    viewer.close().await;
    bed.finish().await;
}

/// A line of the log of a process.
type Line = serde_json::Map<String, serde_json::Value>;

/// The lines of a log that say `msg`.
fn saying<'a>(lines: &'a [Line], msg: &str) -> Vec<&'a Line> {
    lines.iter().filter(|line| line["msg"] == msg).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_say_once_what_happened_in_lines_of_json_with_the_agreed_fields() {
    let mut bed = Bed::plan(Plan { log_format: "json", ..Plan::default() }).await;
    let mut viewer = bed.viewer("gradients", 1).await;
    viewer.hurry().await;
    let primary = viewer.server().await;
    viewer.goes_on(8).await;
    bed.kill(&[primary, daemon_of(primary)]).await;
    viewer.until("a takeover", |seen| seen.takeovers() == 1).await;
    let next = viewer.server().await;
    assert!(bed.terminate(next).await.success());
    viewer.until("a second takeover", |seen| seen.takeovers() == 2).await;
    let session = viewer.session.clone();
    viewer.end().await;
    viewer.close().await;

    let mut logs = BTreeMap::new();
    for file in std::fs::read_dir(bed.dir().join("logs")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&session.secret), "{name} tells a secret");
        let line = |line: &str| -> Line {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        let lines: Vec<Line> = text.lines().map(line).collect();
        for line in &lines {
            for field in ["ts", "level", "msg", "target", "role"] {
                assert!(line[field].as_str().is_some_and(|it| !it.is_empty()), "{field}: {line:?}");
            }
            assert_eq!((line["cluster"].as_str(), line["name"].as_str()), (Some("e2e"), Some(&*name)));
        }
        logs.insert(name, lines);
    }
    let takeovers = saying(&logs["gateway-1"], "taken over");
    let reasons: Vec<_> = takeovers.iter().map(|it| it["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), 2, "one line for each takeover");
    // Lost, if the gateway saw the stream break before it heard of the next server: on a busy computer it may not.
    assert!(reasons.iter().all(|reason| ["lost", "moved"].contains(reason)), "{reasons:?}");
    for takeover in takeovers {
        assert!(session.name.ends_with(takeover["session"].as_str().unwrap()), "{takeover:?}");
        assert!(takeover["peer"].is_string() && takeover["fence"].is_string(), "{takeover:?}");
        assert!(takeover["duration_ms"].as_f64().is_some_and(|it| it >= 0.0), "{takeover:?}");
    }
    for daemon in (1..=3).map(|number| Service::Daemon.name(number)) {
        let views = saying(&logs[daemon.as_str()], "installed");
        let ids: BTreeSet<_> = views.iter().map(|it| it["view_id"].as_str().unwrap()).collect();
        assert!(!ids.is_empty() && ids.len() == views.len(), "one line for each view: {views:?}");
    }
    let drained = &logs[next.as_str()];
    assert_eq!(saying(drained, "sessions are handed over").len(), 1);
    assert_eq!(saying(drained, "all that could be were")[0]["sessions"], 0);
    bed.finish().await;
}
