//! Streams between daemons: resets, and callers that are wrong.

use proto::gcs::v1 as pb;
use proto::gcs::v1::link_service_client::LinkServiceClient;
use svc_kit::dial::Wire;
use svc_kit::status;
use svc_kit::tls::Role;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::bed::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_link_goes_on_and_loses_nothing() {
    const MESSAGES: usize = 300;
    let membership = Membership::default();
    let (destination_set, destination) = watch::channel(None);
    let proxy = Proxy::start(destination).await;
    let first = start(&membership, config("d1")).await;
    let mut behind = config("d2");
    behind.advertise = Some(proxy.address.clone());
    let second = start(&membership, behind).await;
    destination_set.send_replace(Some(second.address.clone()));
    together(&first, 2).await;
    together(&second, 2).await;

    let (mut a, mut b) = (attach(&first, "a").await, attach(&second, "b").await);
    join(&a, "g").await;
    join(&b, "g").await;
    let before = view_of(&mut a, "g", 2).await;
    view_of(&mut b, "g", 2).await;
    for round in 0..3 {
        for number in 0..MESSAGES {
            multicast(&a, "g", format!("a{round}{number:03}")).await;
            if number == MESSAGES / 2 {
                proxy.cut();
            }
        }
        let at_a = messages(&mut a, MESSAGES).await;
        assert_eq!(messages(&mut b, MESSAGES).await, at_a);
        assert!(at_a.is_sorted());
    }
    let mut client = client(&first.address).await;
    let status = client.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert!(status.links[0].opened > 1, "the link was opened again: {status:?}");
    assert_eq!(status.configuration, before.id.configuration.to_string(), "a reset is not a departure");
    assert!(status.refused.is_empty(), "{status:?}");
}

fn hello(cluster: &str, from: &str, to: &str, epoch: u64) -> pb::OpenRequest {
    let hello = pb::LinkHello { cluster: cluster.into(), from: from.into(), to: to.into(), epoch };
    pb::OpenRequest { hello: Some(hello), frames: Vec::new() }
}

fn frame(number: u64, message: Option<pb::frame::Message>) -> pb::OpenRequest {
    pb::OpenRequest { hello: None, frames: vec![pb::Frame { number, message }] }
}

fn progress(counter: u64) -> Option<pb::frame::Message> {
    let configuration = Some(pb::ConfigurationId { counter, digest: 1 });
    Some(pb::frame::Message::Progress(pb::Progress { configuration, ..pb::Progress::default() }))
}

type Responses = Result<Streaming<pb::OpenResponse>, Status>;

async fn open(
    daemon: &Running,
    requests: Vec<pb::OpenRequest>,
) -> (mpsc::Sender<pb::OpenRequest>, Responses) {
    let (sender, queue) = mpsc::channel(64);
    for request in requests {
        sender.send(request).await.unwrap();
    }
    let mut client =
        LinkServiceClient::new(Wire::default().connect(&daemon.address, Role::Machine).await.unwrap());
    let responses = soon("a response", client.open(ReceiverStream::new(queue))).await;
    (sender, responses.map(tonic::Response::into_inner))
}

async fn end_of(responses: Responses) -> (Code, Option<String>) {
    let end = async {
        let mut responses = responses?;
        while responses.message().await?.is_some() {}
        Ok::<(), Status>(())
    };
    let status = soon("the end of the call", end).await.unwrap_err();
    (status.code(), status::reason(&status))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_meant_for_this_daemon_is_refused_and_counted() {
    let membership = Membership::default();
    let daemon = start(&membership, config("d1")).await;
    together(&daemon, 1).await;
    let me = daemon.id.to_string();
    let earlier = format!("d1#{}", daemon.id.boot().number() - 1);
    let compact = pb::frame::Message::Sync(pb::Sync::default());
    let nameless = pb::EntryJoin { connection: 1, name: "No Name".into(), groups: vec!["g".into()] };
    let nameless = pb::Entry { entry: Some(pb::entry::Entry::Join(nameless)) };
    let configuration = Some(pb::ConfigurationId { counter: 1, digest: 1 });
    let entries = pb::Entries { configuration, first: 1, stable: 0, entries: vec![nameless] };
    let nameless = pb::frame::Message::Entries(entries);
    let good = || hello("test", "x#5", &me, 1);
    for (requests, code, reason) in [
        (vec![hello("other", "x#5", &me, 1)], Code::FailedPrecondition, "FOREIGN_CLUSTER"),
        (vec![hello("test", "x#5", &earlier, 1)], Code::FailedPrecondition, "WRONG_DAEMON"),
        (vec![hello("test", "x#5", "d2#5", 1)], Code::FailedPrecondition, "WRONG_DAEMON"),
        (vec![hello("test", "nobody", &me, 1)], Code::InvalidArgument, "BAD_FIELD"),
        (vec![pb::OpenRequest::default()], Code::InvalidArgument, "BAD_FIELD"),
        (vec![good(), frame(1, None)], Code::InvalidArgument, "BAD_FIELD"),
        (vec![good(), frame(1, Some(compact))], Code::InvalidArgument, "BAD_FIELD"),
        (vec![good(), frame(1, Some(nameless))], Code::InvalidArgument, "BAD_FIELD"),
        (vec![good(), frame(7, progress(1))], Code::Aborted, "REFUSED"),
        (vec![hello("test", "x#4", &me, 1)], Code::Aborted, "REFUSED"),
        (vec![hello("test", "x#5", &me, 0)], Code::Aborted, "REFUSED"),
    ] {
        let (_requests, responses) = open(&daemon, requests).await;
        assert_eq!(end_of(responses).await, (code, Some(reason.to_owned())));
    }
    let mut client = client(&daemon.address).await;
    let counted = client.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner().refused;
    let expected = [
        ("FOREIGN_CLUSTER", 1),
        ("WRONG_DAEMON", 2),
        ("MALFORMED_HELLO", 2),
        ("MALFORMED_FRAME", 3),
        ("FRAME_GAP", 1),
        ("OUT_OF_DATE_INCARNATION", 1),
        ("WRONG_EPOCH", 1),
    ];
    assert_eq!(counted, expected.map(|(reason, count)| (reason.to_owned(), count)).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_foreign_configuration_is_counted_and_the_stream_goes_on() {
    let membership = Membership::default();
    let daemon = start(&membership, config("d1")).await;
    together(&daemon, 1).await;
    let configuration = Some(pb::ConfigurationId { counter: 99, digest: 1 });
    let entry = pb::Entry { entry: Some(pb::entry::Entry::Gone(pb::EntryGone { connection: 1 })) };
    let forward = pb::Forward { configuration, origin: 0, first: 1, entries: vec![entry] };
    let foreign = Some(pb::frame::Message::Forward(forward));
    let requests =
        vec![hello("test", "x#5", &daemon.id.to_string(), 1), frame(1, foreign), frame(2, progress(1))];
    let (_requests, responses) = open(&daemon, requests).await;
    let mut responses = responses.unwrap();
    let acknowledged =
        async { while responses.message().await.unwrap().expect("the stream goes on").received < 2 {} };
    soon("the acknowledgement of both frames", acknowledged).await;
    let mut client = client(&daemon.address).await;
    let status = client.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.refused, [("FOREIGN_CONFIGURATION".to_owned(), 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_replaces_the_one_before() {
    let membership = Membership::default();
    let daemon = start(&membership, config("d1")).await;
    together(&daemon, 1).await;
    let hello = || hello("test", "x#5", &daemon.id.to_string(), 1);
    let (_first_requests, first) = open(&daemon, vec![hello()]).await;
    let (_second_requests, second) = open(&daemon, vec![hello(), frame(1, progress(1))]).await;
    assert_eq!(end_of(first).await, (Code::Aborted, Some("REPLACED".into())));
    let mut second = second.unwrap();
    assert_eq!(soon("the start", second.message()).await.unwrap().unwrap().received, 0);
}
