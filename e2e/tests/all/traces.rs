//! What becomes of a session as a trace, collected over OTLP.

use e2e::collector::{Collector, Span};
use e2e::deadline::within;
use e2e::program::run;
use e2e::rpc::{Client, responses};
use e2e::{Bed, Plan, programs};
use handover_cli::certs::{Authority, Terms};
use handover_cli::cluster::Service;
use model::Name;
use proto::session::v1::attach_response::Event;
use proto::session::v1::{AttachResponse, CreateSessionRequest};
use svc_kit::tls::Role;
use tonic::Streaming;

use crate::servers::daemon_of;

const CLIENT_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN: &str = "b7ad6b7169203331";

/// The server that serves next, as the client is told.
async fn serving(stream: &mut Streaming<AttachResponse>, takeover: bool) -> Name {
    loop {
        let told = within("news of a server", stream.message()).await.unwrap().expect("the film goes on");
        if let Some(Event::Serving(serving)) = told.event
            && serving.takeover == takeover
        {
            return serving.server.parse().unwrap();
        }
    }
}

fn is_of(span: &Span, trace: &str, name: &str) -> bool {
    (span.trace.as_str(), span.name.as_str()) == (trace, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_when_the_primary_is_killed() {
    let collector = Collector::start().await;
    let plan = Plan { variables: collector.variables(), log_format: "json", ..Plan::default() };
    let mut bed = Bed::plan(plan).await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let mut request = tonic::Request::new(CreateSessionRequest { parent: "contentUnits/life".to_owned() });
    let traceparent = format!("00-{CLIENT_TRACE}-{CLIENT_SPAN}-01");
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    let session = within("a session", client.stub.create_session(request)).await.unwrap().into_inner();
    let trace = session.name.rsplit('/').next().unwrap().to_owned();
    let mut stream = client.attach(&session, "").await.unwrap();
    let first = serving(&mut stream, false).await;
    responses(&mut stream, 2).await;

    let open = collector.span("the opening", |span| is_of(span, &trace, "session.open")).await;
    assert_eq!((open.by.as_str(), open.parent.as_str()), ("e2e/gateway/gateway-1", ""));
    assert_eq!(open.attribute("unit"), Some("life"));
    let is_call = |span: &Span| span.trace == CLIENT_TRACE && open.links.contains(&span.id);
    let call = collector.span("the client's call", is_call).await;
    assert_eq!(call.name, "handover.session.v1.SessionService/CreateSession");
    assert_eq!((call.parent.as_str(), call.links.as_slice()), (CLIENT_SPAN, &[open.id.clone()][..]));
    assert_eq!(call.attribute("rpc.response.status_code"), Some("OK"));
    let start = collector.span("the start", |span| is_of(span, &trace, "session.start")).await;
    assert_eq!((start.by, start.parent), (format!("e2e/server-svc/{first}"), open.id.clone()));

    bed.kill(&[first, daemon_of(first)]).await;
    let second = serving(&mut stream, true).await;
    let takeover = collector.span("the takeover", |span| is_of(span, &trace, "session.takeover")).await;
    assert_eq!((&takeover.by, &takeover.parent), (&format!("e2e/server-svc/{second}"), &open.id));
    assert_eq!(takeover.links, [start.id], "it is linked with what the first server did");
    assert_eq!(takeover.attribute("reason"), Some("gone"));
    assert_eq!(takeover.attribute("to"), Some(second.as_str()));
    assert!(takeover.attribute("from").is_some_and(|from| from.starts_with(daemon_of(first).as_str())));
    let switch = collector.span("the gateway's part", |span| is_of(span, &trace, "session.switch")).await;
    assert_eq!((&switch.by, &switch.links), (&open.by, &vec![takeover.id.clone()]));

    assert!(bed.terminate(second).await.success());
    let third = serving(&mut stream, true).await;
    let by_third = |span: &Span| is_of(span, &trace, "session.takeover") && span.by.ends_with(third.as_str());
    let next = collector.span("a second takeover", by_third).await;
    assert_eq!(next.links, [takeover.id], "and so on");

    client.close(&session).await.unwrap();
    let close = collector.span("the end", |span| is_of(span, &trace, "session.close")).await;
    assert_eq!(close.parent, open.id);
    let secret = |span: &Span| format!("{span:?}").contains(&session.secret);
    assert!(!collector.spans().iter().any(secret), "no span tells a secret");

    let log = std::fs::read_to_string(bed.dir().join("logs/gateway-1.log")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let told: Vec<_> = lines.filter(|line| line["msg"] == "taken over").collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((&told[0]["trace_id"], &told[0]["span_id"]), (&trace.into(), &switch.id.into()));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_told_by_tls_once_both_have_shown_who_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path(), Name::literal("e2e")).unwrap();
    let issue = |name| authority.issue(Role::Gateway, Name::literal(name), &Terms::default()).unwrap();
    let (collector, own) = (Collector::start_with_tls(&issue("collector")).await, issue("exporter"));
    let mut variables = collector.variables();
    let files = [("CERTIFICATE", own.ca), ("CLIENT_CERTIFICATE", own.cert), ("CLIENT_KEY", own.key)];
    variables.extend(files.map(|(name, file)| {
        (format!("OTEL_EXPORTER_OTLP_{name}"), file.unwrap().into_os_string().into_string().unwrap())
    }));
    let mut bed = Bed::plan(Plan { variables, ..Plan::default() }).await;
    let viewer = bed.viewer("life", 1).await;
    viewer.goes_on(2).await;
    collector.span("the opening", |span| span.name == "session.open").await;
    viewer.close().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_files_that_are_of_use_for_tls_with_the_collector_a_process_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let missing = dir.path().join("missing.pem");
    for (name, file, reason) in [
        ("CERTIFICATE", &empty, "there is no certificate in it"),
        ("CERTIFICATE", &missing, "No such file"),
        ("CLIENT_KEY", &missing, "a key its certificate"),
    ] {
        for flags in [&[][..], &["--check-config"]] {
            let ended = run(programs::handover(), |command| {
                command.args(["gateway", "--name", "gateway-1", "--listen", "127.0.0.1:0"]).args(flags);
                command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1");
                command.env(format!("OTEL_EXPORTER_OTLP_{name}"), file);
            });
            let ended = ended.await;
            assert_eq!(ended.status.code(), Some(78), "{name} {flags:?}: {ended:?}");
            let begins = ended.errors.starts_with("gateway: no TLS with the collector of spans: ");
            assert!(begins && ended.errors.contains(reason), "{name} {flags:?}: {ended:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_missed_in_the_log_and_nowhere_else() {
    let mut variables = Collector::start().await.variables();
    variables.push(("OTEL_TRACES_SAMPLER".to_owned(), "always_on".to_owned()));
    let mut bed = Bed::plan(Plan { variables, log_format: "json", ..Plan::default() }).await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    viewer.goes_on(8).await;
    let first = viewer.server().await;
    bed.kill(&[first]).await;
    viewer.until("a takeover", |seen| seen.takeovers() == 1).await;
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    let gateway = Service::Gateway.name(1);
    assert!(bed.terminate(gateway).await.success());
    let log = std::fs::read_to_string(bed.dir().join("logs/gateway-1.log")).unwrap();
    assert_eq!(log.matches("the collector does not take them").count(), 1, "{log}");
    bed.finish().await;
}
