//! What operators see and do, by gRPC and at a terminal, while sessions go on.

use std::process::Stdio;

use e2e::deadline::{until, within};
use e2e::program::{Ended, run};
use e2e::rpc::{Client, assert_refused, channel, end, responses};
use e2e::{Bed, Plan, programs};
use handover_cli::cluster::Service;
use proto::gcs::v1::group_service_client::GroupServiceClient;
use proto::gcs::v1::{ListViewsRequest, ListViewsResponse};
use proto::server::v1 as pb;
use proto::server::v1::server_service_client::ServerServiceClient;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tonic::Code;
use tonic::transport::Channel;

const BAD_FIELD: (Code, &str) = (Code::InvalidArgument, "BAD_FIELD");

/// As an operator at a terminal, who knows where the servers are.
async fn handover(bed: &Bed, args: &[&str]) -> Ended {
    let addresses: Vec<_> = (1..=3).map(|n| bed.address(Service::Server.name(n)).to_string()).collect();
    run(programs::handover(), |command| {
        command.args(args);
        for address in &addresses {
            command.args(["--server", address]);
        }
    })
    .await
}

async fn shown(bed: &Bed, args: &[&str]) -> Value {
    let ended = handover(bed, &[args, &["--output", "json"]].concat()).await;
    assert_eq!(ended.status.code(), Some(0), "{args:?}: {ended:?}");
    serde_json::from_str(&ended.output.join("\n")).unwrap()
}

async fn server(bed: &Bed, number: usize) -> ServerServiceClient<Channel> {
    ServerServiceClient::new(channel(&bed.address(Service::Server.name(number))).await)
}

fn list(parent: &str, page_size: i32, page_token: &str, filter: &str) -> pb::ListSessionsRequest {
    pb::ListSessionsRequest {
        parent: parent.into(),
        page_size,
        page_token: page_token.into(),
        filter: filter.into(),
        order_by: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_in_pages_and_filtered_and_known_by_whether_their_client_is_there() {
    let bed = Bed::start().await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let (mut sessions, mut streams) = (Vec::new(), Vec::new());
    for unit in ["mandelbrot", "mandelbrot", "life", "mandelbrot"] {
        let session = client.create(unit).await;
        let mut stream = client.attach(&session, "").await.unwrap();
        responses(&mut stream, 1).await;
        sessions.push(session);
        streams.push(stream);
    }
    let mut names: Vec<_> = sessions.iter().map(|session| session.name.clone()).collect();
    names.sort();

    let mut operator = server(&bed, 1).await;
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let page =
            within("a page", operator.list_sessions(list("", 1, &token, ""))).await.unwrap().into_inner();
        assert_eq!(page.sessions.len(), 1);
        paged.extend(page.sessions.into_iter().map(|it| it.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, names);
    let films = operator.list_sessions(list("contentUnits/life", 0, "", "state != UNSERVED")).await.unwrap();
    let film = films.into_inner().sessions.remove(0);
    assert_eq!(film.name, names[0]);
    let served = format!("unit = \"life\" AND primary = \"{}\" AND gateway = gateway-1", film.primary_server);
    let found = operator.list_sessions(list("", 0, "", &served)).await.unwrap().into_inner();
    assert_eq!(found.sessions.len(), 1, "{served}");

    let bad = assert_refused(
        operator.list_sessions(list("", 0, "", "unit = life AND primry = x")).await,
        BAD_FIELD,
    );
    assert!(bad.message().contains("filter: at character 17: expected a field"), "{bad}");
    assert_refused(operator.list_sessions(list("", 1001, "", "")).await, BAD_FIELD);
    let nowhere = operator.list_sessions(list("contentUnits/nothing", 0, "", "")).await;
    assert_refused(nowhere, (Code::NotFound, "UNKNOWN_UNIT"));
    let name = format!("contentUnits/life/sessions/{:032x}", 1);
    let unknown = operator.get_session(pb::GetSessionRequest { name }).await;
    assert_refused(unknown, (Code::NotFound, "UNKNOWN_SESSION"));

    let id = film.name.rsplit('/').next().unwrap().to_owned();
    let listed = shown(&bed, &["session", "ls", "--filter", "client = ATTACHED AND state = ACTIVE"]).await;
    assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(4), "{listed}");
    drop(streams.remove(sessions.iter().position(|session| session.name == film.name).unwrap()));
    until("the client to be missed", async || {
        let now = shown(&bed, &["session", "get", &id[..12]]).await;
        (now["client"] == "detached" && now["state"] == "active").then_some(()).ok_or(now.to_string())
    })
    .await;
    let mistake = handover(&bed, &["session", "ls", "--filter", "unit >"]).await;
    assert_eq!(mistake.status.code(), Some(67), "{mistake:?}");
    assert!(mistake.errors.contains("at character 6: expected = or !="), "{mistake:?}");
    assert_eq!(handover(&bed, &["session", "get", "x"]).await.status.code(), Some(69));
    for session in &sessions {
        client.close(session).await.unwrap();
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_in_the_order_that_an_operator_asks_for_page_by_page() {
    let bed = Bed::start().await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let mut sessions = Vec::new();
    for unit in ["life", "mandelbrot", "gradients", "life"] {
        let session = client.create(unit).await;
        let mut stream = client.attach(&session, "").await.unwrap();
        responses(&mut stream, 1).await;
        sessions.push(session);
    }
    let mut names: Vec<_> = sessions.iter().map(|session| session.name.clone()).collect();
    let unit_of = |name: &str| name.split('/').nth(1).unwrap().to_owned();
    names.sort_by(|one, other| unit_of(other).cmp(&unit_of(one)).then(other.cmp(one)));

    let mut operator = server(&bed, 1).await;
    let ordered = |page_token: &str, order_by: &str| pb::ListSessionsRequest {
        order_by: order_by.into(),
        ..list("", 1, page_token, "state != UNSERVED")
    };
    let (mut paged, mut token) = (Vec::new(), String::new());
    while paged.len() < names.len() {
        let page =
            operator.list_sessions(ordered(&token, "unit desc, session desc")).await.unwrap().into_inner();
        paged.extend(page.sessions.into_iter().map(|it| it.name));
        token = page.next_page_token;
        assert_eq!(token.is_empty(), paged.len() == names.len(), "{paged:?}");
    }
    assert_eq!(paged, names);
    let first = operator.list_sessions(ordered("", "unit")).await.unwrap().into_inner();
    let token = first.next_page_token;
    assert_refused(operator.list_sessions(ordered(&token, "unit, session")).await, BAD_FIELD);
    let bad = assert_refused(operator.list_sessions(ordered("", "unit, colour desc")).await, BAD_FIELD);
    assert!(bad.message().contains("order_by: \"colour desc\" is not one of session, unit"), "{bad}");

    let listed = shown(&bed, &["session", "ls", "--order-by", "unit desc, session desc"]).await;
    let ids: Vec<_> =
        listed["sessions"].as_array().unwrap().iter().map(|it| it["session"].as_str()).collect();
    assert_eq!(ids, names.iter().map(|name| name.rsplit('/').next()).collect::<Vec<_>>());
    let mistake = handover(&bed, &["session", "ls", "--order-by", "colour"]).await;
    assert_eq!(mistake.status.code(), Some(67), "{mistake:?}");
    for session in &sessions {
        client.close(session).await.unwrap();
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_watched_is_shown_again_until_nobody_reads_it() {
    let mut bed = Bed::start().await;
    for command in [&["session", "ls"][..], &["status"]] {
        let mut watching = Command::new(programs::handover())
            .args(command)
            .args([
                "--watch",
                "20ms",
                "--output",
                "json",
                "--server",
                bed.address(Service::Server.name(1)).as_str(),
            ])
            .args(["--server", bed.address(Service::Server.name(2)).as_str()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
        let mut read = async |what: &str| loop {
            let line = within(what, lines.next_line()).await.unwrap().expect("it goes on");
            if line.contains(what) {
                return;
            }
        };
        read("\"sessions\": []").await;
        let viewer = bed.viewer("life", 1).await;
        viewer.goes_on(2).await;
        read(viewer.session.name.rsplit('/').next().unwrap()).await;
        drop(lines);
        let ended = within("the end of the command", watching.wait_with_output()).await.unwrap();
        let errors = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), errors.as_str()), (Some(141), ""), "{command:?}");
        viewer.close().await;
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_with_their_members() {
    let mut bed = Bed::start().await;
    let viewer = bed.viewer("life", 1).await;
    viewer.goes_on(2).await;
    let daemons = [1, 2].map(|n| bed.address(Service::Daemon.name(n)).to_string()).join(",");
    let ls = async |args: &[&str]| {
        let args = [&["group", "ls"][..], args].concat();
        run(programs::handover(), |command| _ = command.args(args)).await
    };
    let groups = async |prefix: &str| -> Value {
        let ended = ls(&[prefix, "--daemon", &daemons, "--output", "json"]).await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        serde_json::from_str(&ended.output.join("\n")).unwrap()
    };
    let films = groups("content/l").await;
    let [film] = &films["groups"].as_array().unwrap()[..] else { panic!("one group in {films:#}") };
    assert_eq!((&film["group"], film["members"].as_array().unwrap().len()), (&"content/life".into(), 3));
    let all = groups("").await;
    let session = viewer.session.name.rsplit('/').next().unwrap();
    let of_session = |it: &Value| it["group"].as_str().is_some_and(|name| name.contains(session));
    assert!(all["groups"].as_array().unwrap().iter().any(of_session), "{all:#}");
    assert_eq!(groups("nothing").await["groups"], serde_json::json!([]));
    let nowhere = ls(&["--daemon", "127.0.0.1:1"]).await;
    assert_eq!(nowhere.status.code(), Some(69), "{nowhere:?}");
    viewer.close().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_to_a_session_is_told_with_its_reasons_even_when_it_is_over() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.goes_on(2).await;
    let (first, name) = (viewer.server().await, viewer.session.name.clone());
    let id = name.rsplit('/').next().unwrap().to_owned();
    let moved = handover(&bed, &["move", &id]).await;
    assert_eq!(moved.status.code(), Some(0), "{moved:?}");
    let second = viewer.until("another server", |seen| seen.server() != Some(first)).await.server().unwrap();
    viewer.goes_on(2).await;
    bed.kill(&[second]).await;
    let third = viewer.until("a third one", |seen| seen.server() != Some(second)).await.server().unwrap();
    viewer.hurry().await;
    viewer.end().await;
    viewer.close().await;

    let told = shown(&bed, &["session", "events", &id]).await;
    let events = told["events"].as_array().unwrap();
    let primaries: Vec<_> = events.iter().filter(|it| it["event"] == "primary").collect();
    let passed: Vec<_> = primaries.iter().map(|it| [&it["from"], &it["to"], &it["reason"]]).collect();
    let (first, second, third) = (first.as_str(), second.as_str(), third.as_str());
    let expected: [[Value; 3]; 3] = [
        [Value::Null, first.into(), "vacant".into()],
        [first.into(), second.into(), "ordered".into()],
        [second.into(), third.into(), "lost".into()],
    ];
    assert_eq!(passed, expected.iter().map(|it| it.each_ref()).collect::<Vec<_>>(), "{told:#}");
    let kinds: Vec<_> = events.iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"opened"), Some(&"closed")), "{told:#}");
    assert!(kinds.contains(&"serving") && kinds.contains(&"backups"), "{told:#}");
    let table = handover(&bed, &["session", "events", &name]).await;
    assert!(
        table.output.iter().any(|line| line.ends_with(&format!("{second} -> {third}, lost"))),
        "{table:?}"
    );
    let unknown = handover(&bed, &["session", "events", &format!("{:032x}", 1)]).await;
    assert_eq!(unknown.status.code(), Some(69), "{unknown:?}");
    bed.start_again(&[second.parse().unwrap()]).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_shows_its_settings_with_their_origins_and_logs_more_for_a_while() {
    let gateway_flags = vec!["--detach-ttl", "33s"];
    let bed = Bed::plan(Plan { gateway_flags, ..Plan::default() }).await;
    let ask = async |args: &[&str], of: Service| {
        let address = bed.address(of.name(1)).to_string();
        let args = [args, &["--of", &address]].concat();
        run(programs::handover(), |command| _ = command.args(args)).await
    };
    for service in [Service::Membership, Service::Daemon, Service::Server, Service::Gateway] {
        let shown = ask(&["config", "show", "--output", "json"], service).await;
        assert_eq!(shown.status.code(), Some(0), "{service}: {shown:?}");
        let shown: Value = serde_json::from_str(&shown.output.join("\n")).unwrap();
        let settings = shown["settings"].as_array().unwrap();
        let setting = |key: &str| settings.iter().find(|it| it["key"] == key).cloned().unwrap_or_default();
        assert_eq!(setting("name")["origin"], "--name", "{shown:#}");
        assert_eq!(setting("log.level")["origin"], "default", "{shown:#}");
        if service == Service::Gateway {
            let ttl = setting("sessions.detach_ttl");
            assert_eq!((&ttl["value"], &ttl["origin"]), (&"33s".into(), &"--detach-ttl".into()), "{shown:#}");
            let keys = setting("cursors.keys");
            assert_eq!(keys["value"], serde_json::json!(["(hidden)"]), "{shown:#}");
        }
    }
    let level = async |args: &[&str]| {
        let ended = ask(&[&["log-level"], args].concat(), Service::Gateway).await;
        (ended.status.code(), ended.output.join("\n"))
    };
    let configured = level(&[]).await;
    assert_eq!(level(&["warn,gateway=debug"]).await, (Some(0), "warn,gateway=debug".to_owned()));
    assert_eq!(level(&[]).await, (Some(0), "warn,gateway=debug".to_owned()));
    assert_eq!(level(&["trace", "--for", "1ms"]).await.0, Some(0));
    until("the level to go back", async || {
        let now = level(&[]).await;
        (now == configured).then_some(()).ok_or(format!("{now:?}"))
    })
    .await;
    assert_eq!(level(&["=,="]).await.0, Some(67));
    assert_eq!(level(&["info", "--for", "25h"]).await.0, Some(2), "by the command itself");

    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let session = client.create("life").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    responses(&mut stream, 1).await;
    client.close(&session).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_server_keeps_its_sessions_and_gets_no_others_and_an_operator_closes_some() {
    let mut bed = Bed::start().await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let (mut sessions, mut streams) = (Vec::new(), Vec::new());
    let mut open = async |count: usize| {
        for _ in 0..count {
            let session = client.create("mandelbrot").await;
            let mut stream = client.attach(&session, "").await.unwrap();
            responses(&mut stream, 1).await;
            sessions.push(session);
            streams.push(stream);
        }
    };
    open(3).await;
    let cordoned = Service::Server.name(1);
    let served = async |bed: &Bed, filter: &str| {
        let filter = format!("{filter} = {cordoned}");
        let listed = shown(bed, &["session", "ls", "--filter", &filter]).await;
        listed["sessions"].as_array().unwrap().iter().map(|it| it["session"].clone()).collect::<Vec<_>>()
    };
    let before = (served(&bed, "primary").await, served(&bed, "backup").await);
    assert_eq!(before.0.len(), 1, "they are spread evenly");
    for _ in 0..2 {
        let ended = handover(&bed, &["cordon", cordoned.as_str()]).await;
        assert_eq!(ended.output, ["server-1 takes no new sessions"], "{ended:?}");
    }
    open(4).await;
    assert_eq!((served(&bed, "primary").await, served(&bed, "backup").await), before);

    // Another one comes back, and sessions are moved for balance: not to the one that is cordoned.
    let other = Service::Server.name(2);
    bed.kill(&[other]).await;
    bed.start_again(&[other]).await;
    bed.until("load for who came back", |snapshot| {
        let mut servers = snapshot.up_servers();
        let back = servers.find(|it| it.name == other.as_str())?;
        let serves = |it: &&pb::SessionStatus| it.primary_server == other.as_str();
        (back.units.iter().flat_map(|unit| &unit.sessions).filter(serves).count() > 1).then_some(())
    })
    .await;
    let first = before.0[0].as_str().unwrap();
    assert!(served(&bed, "primary").await.contains(&first.into()), "it keeps what it had");
    let snapshot = bed.snapshot().await;
    let is_cordoned = |it: &&pb::GetStatusResponse| it.cordoned;
    assert_eq!(
        snapshot.up_servers().filter(is_cordoned).map(|it| &it.name).collect::<Vec<_>>(),
        [cordoned.as_str()]
    );
    assert_eq!(handover(&bed, &["uncordon", cordoned.as_str()]).await.status.code(), Some(0));

    let at = sessions.iter().position(|session| session.name.ends_with(first)).unwrap();
    let (closed, stream) = (sessions.remove(at), streams.remove(at));
    let ended = handover(&bed, &["session", "close", first]).await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_refused(end(stream).await, (Code::NotFound, "SESSION_ENDED"));
    assert_refused(client.attach(&closed, "").await.map(drop), (Code::NotFound, "SESSION_ENDED"));
    assert_eq!(handover(&bed, &["session", "close", first]).await.status.code(), Some(69));
    let told = shown(&bed, &["session", "events", first]).await;
    assert_eq!(told["events"].as_array().unwrap().last().unwrap()["event"], "dismissed", "{told:#}");

    // Who drains says so, and what it served is not called lost.
    let session = sessions[0].name.rsplit('/').next().unwrap().to_owned();
    let primary = shown(&bed, &["session", "get", &session]).await["primary"].as_str().unwrap().to_owned();
    assert_eq!(handover(&bed, &["drain", &primary]).await.status.code(), Some(0));
    let drained = primary.parse().unwrap();
    assert_eq!(bed.ended(drained).await.code(), Some(0));
    let told = shown(&bed, &["session", "events", &session]).await;
    let is_drain = |it: &Value| it["from"] == primary.as_str() && it["reason"] == "drained";
    assert!(told["events"].as_array().unwrap().iter().any(is_drain), "{told:#}");
    bed.start_again(&[drained]).await;
    for session in &sessions {
        client.close(session).await.unwrap();
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_views_of_a_group_are_remembered_with_their_causes() {
    let mut bed = Bed::start().await;
    let viewer = bed.viewer("life", 1).await;
    viewer.goes_on(2).await;
    let views = async |bed: &Bed| {
        let address = bed.address(Service::Daemon.name(2)).to_string();
        let args = ["group", "views", "content/life", "--daemon", &address, "--output", "json"];
        let ended = run(programs::handover(), |command| _ = command.args(args)).await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let shown: Value = serde_json::from_str(&ended.output.join("\n")).unwrap();
        shown["views"].as_array().unwrap().clone()
    };
    let last = async |bed: &Bed, what: &str, is_it: &dyn Fn(&Value) -> bool| {
        until(what, async || {
            let now = views(bed).await;
            now.last().filter(|it| is_it(it)).map(|_| ()).ok_or(format!("{now:?}"))
        })
        .await;
    };
    let left = serde_json::json!(["server-1"]);
    bed.kill(&[Service::Server.name(1)]).await;
    last(&bed, "that a process ended", &|it| it["cause"] == "processes" && it["left"] == left).await;
    bed.start_again(&[Service::Server.name(1)]).await;
    last(&bed, "that it came back", &|it| it["cause"] == "processes" && it["joined"] == left).await;
    bed.kill(&[Service::Daemon.name(1), Service::Server.name(1)]).await;
    last(&bed, "that a machine is gone", &|it| {
        it["left"] == left && it["members"].as_array().unwrap().len() == 2
    })
    .await;
    bed.start_again(&[Service::Daemon.name(1), Service::Server.name(1)]).await;

    let mut daemon = GroupServiceClient::new(channel(&bed.address(Service::Daemon.name(2))).await);
    let ask = |group: &str, page_size, page_token: &str| ListViewsRequest {
        group: group.into(),
        page_size,
        page_token: page_token.into(),
    };
    let first = daemon.list_views(ask("content/life", 1, "")).await.unwrap().into_inner();
    let second =
        daemon.list_views(ask("content/life", 1, &first.next_page_token)).await.unwrap().into_inner();
    let when = |page: &ListViewsResponse| page.views[0].time.map(|time| (time.seconds, time.nanos));
    assert!(when(&second) < when(&first), "the latest comes first");
    assert_refused(daemon.list_views(ask("nobody", 0, "")).await, (Code::NotFound, "NOT_FOUND"));
    assert_refused(daemon.list_views(ask("content/life", 0, "x")).await, BAD_FIELD);
    viewer.close().await;
    bed.finish().await;
}
