//! Who does not keep up, or fails, holds up nobody else: clients that do not read, servers that stand still, services that
//! panic, and gateways that have as much to do as they may.

use e2e::deadline::{until, within};
use e2e::program::Program;
use e2e::rpc::{Client, Refusal, assert_refused, channel, json, operation, response, responses};
use e2e::stock::{answer, buf};
use e2e::{Bed, Plan, Viewer, programs};
use handover_cli::cluster::Service;
use handover_cli::snapshot::Snapshot;
use model::Name;
use nix::sys::signal::Signal;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::gateway::v1::{GetStatusRequest, SessionStatus};
use proto::server::v1::MoveSessionRequest;
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::session::v1::attach_response::Event;
use proto::session::v1::{AttachResponse, CreateSessionResponse, Serving};
use tokio::io::{AsyncBufReadExt, BufReader};
use tonic::{Code, Streaming};

/// A gateway with room for two sessions, each of which may have two requests that wait.
const NARROW: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/narrow.toml");

const TOO_MANY_SESSIONS: Refusal = (Code::ResourceExhausted, "TOO_MANY_SESSIONS");
const TOO_MANY_REQUESTS: Refusal = (Code::ResourceExhausted, "TOO_MANY_REQUESTS");
const SERVICE_FAILED: Refusal = (Code::Aborted, "SERVICE_FAILED");
const CLIENT_TOO_SLOW: Refusal = (Code::ResourceExhausted, "CLIENT_TOO_SLOW");

/// The size of a response, and how many make a flood.
const BYTES: usize = 64 << 10;
const FLOOD: u64 = 1000;
/// What clients that do not read may cost a process, together: a good deal less than the flood.
const GROWTH_MAX: u64 = 24 << 20;

fn unruly() -> Plan {
    Plan { server: Some(programs::service("unruly")), ..Plan::default() }
}

fn narrow() -> Plan {
    Plan { gateway_flags: vec!["--config", NARROW], ..Plan::default() }
}

fn flood(count: u64) -> prost_types::Struct {
    json(serde_json::json!({ "flood": { "count": count, "bytes": BYTES } }))
}

/// A session as its gateway knows it.
fn at_gateway(snapshot: &Snapshot, name: &str) -> Option<SessionStatus> {
    snapshot.up_gateways().flat_map(|it| &it.sessions).find(|it| it.name == name).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_that_stops_reading_costs_little_memory_and_has_all_of_it_when_it_reads_again() {
    let mut bed = Bed::plan(unruly()).await;
    let (gateway, buf) = (Service::Gateway.name(1), buf().await);
    let address = bed.address(gateway);
    let created =
        answer(&buf, &address, "CreateSession", serde_json::json!({ "parent": "contentUnits/unruly" }));
    let created = created.await;
    let text = |key: &str| created[key].as_str().unwrap().to_owned();
    let session = CreateSessionResponse { name: text("name"), secret: text("secret"), ..Default::default() };
    // What it prints goes into a pipe. Whoever does not read that stops it, and its connection lives on.
    let attach = serde_json::json!({ "name": session.name, "secret": session.secret }).to_string();
    let pipe = bed.dir().join("pipe");
    let url = format!("http://{address}/handover.session.v1.SessionService/Attach");
    let stopped = Program::start("sh", |command| {
        let curl = r#"mkfifo "$1" && exec "$0" curl --protocol grpc --http2-prior-knowledge --data "$2" "$3" > "$1""#;
        command.args(["-c", curl]).arg(&buf).arg(&pipe).args([&attach, &url]);
    });
    until("the pipe", async || std::fs::metadata(&pipe)).await;
    let pipe = within("somebody who writes into the pipe", tokio::fs::File::open(&pipe)).await.unwrap();
    bed.until("the client to be attached", |snapshot| {
        at_gateway(snapshot, &session.name).filter(|it| it.attached)
    })
    .await;

    let watched: Vec<Name> = (1..=3).map(|n| Service::Server.name(n)).chain([gateway]).collect();
    let before: Vec<u64> = watched.iter().map(|name| bed.memory(*name)).collect();
    let mut client = Client::of(&address).await;
    client.send(&session, 0, flood(FLOOD)).await.unwrap();
    // Meanwhile another one, at the same gateway and on the same unit, has all of its own flood.
    let other = client.create("unruly").await;
    let mut stream = client.attach(&other, "").await.unwrap();
    client.send(&other, 0, flood(FLOOD)).await.unwrap();
    let came = responses(&mut stream, usize::try_from(FLOOD).unwrap()).await;
    assert!(came.iter().zip(1..).all(|(response, number)| response.number == number));
    let passed_on = at_gateway(&bed.snapshot().await, &session.name).unwrap().responses;
    assert!(passed_on < FLOOD, "nobody reads, and {passed_on} responses were passed on");
    for (name, before) in watched.iter().zip(before) {
        let grown = bed.memory(*name).saturating_sub(before);
        assert!(grown < GROWTH_MAX, "{name} has grown by {grown} bytes, {passed_on} were passed on");
    }

    let (mut lines, mut numbers) = (BufReader::new(pipe).lines(), Vec::new());
    while numbers.last() != Some(&FLOOD) {
        let line = within("a line", lines.next_line()).await.unwrap().expect("the film is longer");
        let number = line.trim().strip_prefix("\"number\": \"").and_then(|rest| rest.split('"').next());
        numbers.extend(number.map(|number| number.parse::<u64>().unwrap()));
    }
    assert_eq!(numbers, (1..=FLOOD).collect::<Vec<_>>(), "each response once, and in order");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    client.close(&session).await.unwrap();
    client.close(&other).await.unwrap();
    stopped.end().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_while_servers_come_and_go_is_cut_off_and_comes_back_to_all_of_it() {
    const COUNT: u64 = 300;
    let mut bed = Bed::plan(unruly()).await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let session = client.create("unruly").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    client.send(&session, 0, flood(COUNT)).await.unwrap();
    // Each move is an event for the client, which does not read.
    let mut operator = ServerServiceClient::new(channel(&bed.address(Service::Server.name(1))).await);
    until("the client to be cut off", async || {
        let fence = at_gateway(&bed.snapshot().await, &session.name).unwrap().fence;
        let request = MoveSessionRequest { name: session.name.clone(), server: String::new() };
        within("an answer", operator.move_session(request)).await.unwrap();
        let served = bed.until("another server", |snapshot| {
            at_gateway(snapshot, &session.name).filter(|it| it.fence != fence && !it.server.is_empty())
        });
        if served.await.attached { Err("it is attached") } else { Ok(()) }
    })
    .await;
    let mut cursor = session.cursor.clone();
    let mut number = 0;
    let cut_off = loop {
        match response(&mut stream).await {
            Ok(Some(response)) => {
                number += 1;
                assert_eq!(response.number, number);
                cursor = response.cursor;
            }
            Ok(None) => panic!("the stream has no end"),
            Err(status) => break status,
        }
    };
    assert_refused::<()>(Err(cut_off), CLIENT_TOO_SLOW);
    assert!(number < COUNT, "it did not read");
    let mut stream = client.attach(&session, cursor).await.unwrap();
    for response in responses(&mut stream, usize::try_from(COUNT - number).unwrap()).await {
        number += 1;
        assert_eq!(response.number, number);
    }
    client.close(&session).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_which_its_service_panics_is_over_and_no_server_is() {
    let mut bed = Bed::plan(unruly()).await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let (session, other) = (client.create("unruly").await, client.create("unruly").await);
    let mut stream = client.attach(&session, "").await.unwrap();
    client.send(&session, 0, json(serde_json::json!({ "panic": {} }))).await.unwrap();
    assert_refused(response(&mut stream).await, SERVICE_FAILED);
    assert_refused(client.attach(&session, "").await, SERVICE_FAILED);
    assert_eq!(bed.snapshot().await.up_servers().count(), 3);
    let mut stream = client.attach(&other, "").await.unwrap();
    client.send(&other, 0, flood(3)).await.unwrap();
    assert_eq!(responses(&mut stream, 3).await.len(), 3);
    client.close(&other).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_full_takes_no_more_sessions_and_takes_one_when_another_is_closed() {
    let bed = Bed::plan(narrow()).await;
    let mut here = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let mut there = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let (first, second) = (here.create("life").await, here.create("gradients").await);
    let mut stream = here.attach(&first, "").await.unwrap();
    let request = proto::session::v1::CreateSessionRequest { parent: "contentUnits/life".to_owned() };
    assert_refused(within("an answer", here.stub.create_session(request)).await, TOO_MANY_SESSIONS);
    let elsewhere = there.create("mandelbrot").await;
    let refused = assert_refused(here.attach(&elsewhere, "").await, TOO_MANY_SESSIONS);
    assert!(tonic_types::StatusExt::get_details_retry_info(&refused).is_some(), "it may try again");
    responses(&mut stream, 2).await;
    here.close(&second).await.unwrap();
    let mut moved = here.attach(&elsewhere, elsewhere.cursor.clone()).await.unwrap();
    assert_eq!(response(&mut moved).await.unwrap().unwrap().number, 1);
    here.close(&elsewhere).await.unwrap();
    here.close(&first).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_may_wait_are_refused_and_the_others_are_applied_when_the_server_goes_on() {
    let mut bed = Bed::plan(narrow()).await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let session = client.create("life").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    responses(&mut stream, 2).await;
    let server: Name = at_gateway(&bed.snapshot().await, &session.name).unwrap().server.parse().unwrap();
    bed.halt(server).await;
    let seek = |seconds: f64| operation("seek", &[("position_ms", seconds * 1000.0)]);
    let send = |number: u64| {
        let (mut client, session) = (client.clone(), session.clone());
        tokio::spawn(async move { client.send(&session, number, seek(number as f64)).await })
    };
    let mut waiting = Vec::new();
    // The server that stands still is not asked how it is, for that takes longer than others take to replace it.
    let mut gateway = GatewayServiceClient::new(channel(&bed.address(Service::Gateway.name(1))).await);
    for number in 1..=2_u32 {
        waiting.push(send(number.into()));
        until("a request that waits", async || {
            let status =
                gateway.get_status(GetStatusRequest {}).await.map_err(|status| status.to_string())?;
            let pending = status.into_inner().sessions[0].requests_pending;
            if pending == number { Ok(()) } else { Err(format!("{pending} wait")) }
        })
        .await;
    }
    assert_refused(client.send(&session, 3, seek(3.0)).await, TOO_MANY_REQUESTS);
    bed.signal(server, Signal::SIGCONT);
    for (waiting, number) in waiting.into_iter().zip(1..) {
        assert_eq!(waiting.await.unwrap().unwrap(), number);
    }
    assert_eq!(client.send(&session, 3, seek(3.0)).await.unwrap(), 3);
    client.close(&session).await.unwrap();
    bed.finish().await;
}

/// Plays twice as fast: fast enough to see much, slow enough not to be at the end too soon.
async fn double(viewer: &mut Viewer) {
    within("an acknowledgement", viewer.remote().rate(2.0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_stands_still_is_replaced_and_reaches_nobody_when_it_goes_on() {
    // The gateway does not mind that the stream of that server is silent: what it says when it goes on arrives there.
    let gateway_flags = vec!["--keepalive-timeout", "60s"];
    let mut bed = Bed::plan(Plan { gateway_flags, ..Plan::default() }).await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    let mut other = bed.viewer("life", 1).await;
    double(&mut viewer).await;
    double(&mut other).await;
    viewer.goes_on(6).await;
    other.goes_on(6).await;
    let stopped = viewer.server().await;
    let process = |snapshot: &Snapshot| {
        snapshot.up_servers().find(|it| it.name == stopped.as_str()).map(|it| it.process.clone())
    };
    let life = process(&bed.snapshot().await);
    bed.halt(stopped).await;
    viewer.until("another server", |seen| seen.server() != Some(stopped)).await;
    viewer.goes_on(6).await;
    other.until("a server that goes on", |seen| seen.server() != Some(stopped)).await;
    bed.signal(stopped, Signal::SIGCONT);
    bed.until("the one that stood still to attach again", |snapshot| {
        process(snapshot).filter(|now| !now.is_empty() && Some(now) != life.as_ref())
    })
    .await;
    viewer.goes_on(12).await;
    other.goes_on(6).await;
    for viewer in [viewer, other] {
        let seen = viewer.close().await;
        assert_eq!((seen.stretches().len(), seen.lost.len()), (1, 0), "{seen:?}");
        assert_eq!(seen.servings.iter().map(|it| it.requests_lost).sum::<u64>(), 0, "{seen:?}");
        assert!(seen.servings.is_sorted_by(|a, b| a.fence < b.fence), "{seen:?}");
    }
    bed.finish().await;
}

/// A server that hangs is noticed after this time.
const STALL: &str = "2s";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_server_hangs_in_the_service_goes_on_at_another_one_and_its_client_is_told_why() {
    let gateway_flags = vec!["--stall-timeout", STALL];
    let server_flags = vec!["--hang-timeout", "4s"];
    let mut bed = Bed::plan(Plan { gateway_flags, server_flags, ..unruly() }).await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let session = client.create("unruly").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    let first = serving(&mut stream).await;
    assert!(!first.takeover && !first.stalled, "{first:?}");
    client.send(&session, 0, flood(10)).await.unwrap();
    responses(&mut stream, 10).await;

    let hang = json(serde_json::json!({ "hang": { "server": first.server } }));
    client.send(&session, 0, hang).await.unwrap();
    client.send(&session, 0, flood(10)).await.unwrap();
    let second = serving(&mut stream).await;
    assert!(second.takeover && second.stalled, "{second:?}");
    assert!(second.fence > first.fence && second.server != first.server, "{second:?}");
    for (response, number) in responses(&mut stream, 10).await.into_iter().zip(11..) {
        assert_eq!(response.number, number);
    }
    let told = at_gateway(&bed.snapshot().await, &session.name).unwrap();
    assert!(told.stalls >= 1, "{told:?}");
    bed.until("word of the move at the servers, and the one that hangs in no group", |snapshot| {
        let servers = snapshot.servers_by_process();
        let unit = snapshot.up_servers().find(|it| it.name == second.server)?.units.first()?;
        let moved = unit.sessions.iter().any(|it| it.name == session.name && it.stalls == 1);
        let others = unit.members.iter().all(|it| servers.contains_key(it.as_str()));
        (moved && others && unit.members.len() == 2).then_some(())
    })
    .await;
    // What hangs does not end when it is asked to.
    let hangs = [first.server.parse().unwrap()];
    bed.kill(&hangs).await;
    bed.start_again(&hangs).await;
    client.close(&session).await.unwrap();
    bed.finish().await;
}

/// Who serves next.
async fn serving(stream: &mut Streaming<AttachResponse>) -> Serving {
    loop {
        let told = within("word of a server", stream.message()).await.unwrap().expect("the stream goes on");
        if let Some(Event::Serving(serving)) = told.event {
            return serving;
        }
    }
}
