//! What content servers may say, and what is refused and counted.

use proto::gateway::v1 as pb;
use proto::gateway::v1::deliver_request::Message as Say;
use proto::gateway::v1::deliver_response::Message as Told;
use svc_kit::status::reason;
use tonic::{Code, Status};

use crate::bed::*;

fn judged(status: &Status) -> (Code, String) {
    (status.code(), reason(status).unwrap_or_default())
}

#[tokio::test]
async fn a_server_that_means_somebody_else_is_refused_and_counted() {
    let bed = Bed::start().await;
    let hello = bed.hello("server-1");
    for (hello, code, reason) in [
        (
            pb::ServerHello { cluster: "other".into(), ..hello.clone() },
            Code::FailedPrecondition,
            "FOREIGN_CLUSTER",
        ),
        (
            pb::ServerHello { gateway_boot: bed.boot - 1, ..hello.clone() },
            Code::FailedPrecondition,
            "WRONG_INCARNATION",
        ),
        (
            pb::ServerHello { gateway: "gateway-2".into(), ..hello.clone() },
            Code::FailedPrecondition,
            "WRONG_INCARNATION",
        ),
        (pb::ServerHello { server: "Not a name".into(), ..hello }, Code::InvalidArgument, "BAD_FIELD"),
    ] {
        let refused = bed.call(hello).await.err().unwrap();
        assert_eq!(judged(&refused), (code, reason.to_owned()));
    }
    let status = bed.status().await;
    assert_eq!((status.refused_messages, status.servers.len()), (4, 0));
}

#[tokio::test]
async fn a_malformed_message_ends_the_stream_and_nothing_else() {
    let bed = Bed::start().await;
    let mut good = bed.server("server-1").await;
    let (session, mut client) = playing(&bed, &mut good).await;
    let mut bad = bed.server("server-2").await;
    let nobody = pb::Started {
        uncertain: false,
        merged: false,
        rebuilt: false,
        session: vec![1, 2, 3].into(),
        stream: 1,
        requests_lost: 0,
        cursor: Some(cursor(0, 0)),
    };
    bad.say(Say::Started(nobody)).await;
    let farewell = bad.farewell().await;
    assert_eq!(judged(&farewell), (Code::InvalidArgument, "BAD_FIELD".into()));
    assert_eq!(farewell.message(), "started.session: does not have 16 bytes");
    bed.await_status(|status| status.servers == ["server-1"] && status.refused_messages == 1).await;
    good.started(&session, 0).await;
    assert_eq!(client.serving().await.server, "server-1");
}

#[tokio::test]
async fn an_older_fence_is_refused() {
    let bed = Bed::start().await;
    let mut newer = bed.server("server-1").await;
    let session = bed.open(&mut newer, 5).await;
    let mut older = bed.server("server-2").await;
    older.claim(&session.name, 4).await;
    let Told::Fenced(fenced) = older.told().await else { panic!("a claim under an older fence is refused") };
    assert_eq!((fenced.session, fenced.fence), (session.id, fence(4)));
    assert_eq!(bed.status().await.sessions[0].server, "server-1");
}

#[tokio::test]
async fn a_takeover_cuts_off_the_server_before_and_goes_on_from_the_cursor() {
    let bed = Bed::start().await;
    let mut first = bed.server("server-1").await;
    let (mut session, mut client) = playing(&bed, &mut first).await;
    first.started(&session, 0).await;
    first.respond(&session, 1).await;
    client.serving().await;
    client.response().await;

    let mut second = bed.server("server-2").await;
    second.claim(&session.name, 2).await;
    let serve = second.granted().await;
    assert_eq!(serve.resume, after(1, 0));
    let fenced = loop {
        match first.told().await {
            Told::Fenced(fenced) => break fenced,
            Told::Credit(_) => {}
            told @ (Told::Hello(_) | Told::Serve(_) | Told::Unknown(_)) => panic!("{told:?}"),
        }
    };
    assert_eq!(fenced.fence, fence(1));
    // The first one goes on nevertheless, as one does that is cut off from the groups.
    first.respond(&session, 2).await;
    bed.await_status(|status| status.stale_messages == 1).await;

    session.stream = serve.stream;
    second.started(&session, 1).await;
    second.respond(&session, 2).await;
    let serving = client.serving().await;
    assert_eq!((serving.server.as_str(), serving.takeover), ("server-2", true));
    assert_eq!(client.response().await.number, 2);
    // Neither a repetition nor a gap passes.
    second.respond(&session, 2).await;
    second.respond(&session, 4).await;
    second.respond(&session, 3).await;
    assert_eq!(client.response().await.number, 3);
    assert_eq!(bed.status().await.stale_messages, 3);
}

#[tokio::test]
async fn a_claim_for_a_session_that_nobody_opened_is_unknown() {
    let bed = Bed::start().await;
    let mut server = bed.server("server-1").await;
    let name = format!("{PARENT}/sessions/{}", "0".repeat(32));
    server.claim(&name, 1).await;
    assert!(matches!(server.told().await, Told::Unknown(_)));
}

#[tokio::test]
async fn a_server_that_is_gone_serves_nobody() {
    let bed = Bed::start().await;
    let mut server = bed.server("server-1").await;
    let (_session, _client) = playing(&bed, &mut server).await;
    assert_eq!(bed.status().await.sessions[0].server, "server-1");
    drop(server);
    bed.await_status(|status| status.servers.is_empty() && status.sessions[0].server.is_empty()).await;
}
