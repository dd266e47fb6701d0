//! Processes that do not belong here, and servers that do not know that they are not primary any more.

use e2e::Bed;
use e2e::deadline::{until, within};
use e2e::rpc::{Refusal, assert_refused, channel};
use handover_cli::cluster::Service;
use model::{Address, Name};
use proto::gateway::v1 as gateway;
use proto::gateway::v1::delivery_service_client::DeliveryServiceClient;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::gateway::v1::{deliver_request, deliver_response};
use proto::gcs::v1 as gcs;
use proto::gcs::v1::group_service_client::GroupServiceClient;
use proto::gcs::v1::link_service_client::LinkServiceClient;
use proto::membership::v1 as membership;
use proto::membership::v1::membership_service_client::MembershipServiceClient;
use proto::membership::v1::peer_service_client::PeerServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming};

const FOREIGN_CLUSTER: Refusal = (Code::FailedPrecondition, "FOREIGN_CLUSTER");
const BAD_FIELD: Refusal = (Code::InvalidArgument, "BAD_FIELD");

/// The requests of a stream: these, and then silence for as long as the sender is kept.
async fn requests<T>(messages: Vec<T>) -> (mpsc::Sender<T>, ReceiverStream<T>) {
    let (sender, queue) = mpsc::channel(64);
    for message in messages {
        assert!(sender.send(message).await.is_ok());
    }
    (sender, ReceiverStream::new(queue))
}

/// How a stream ends.
async fn end<T: std::fmt::Debug>(responses: Result<Response<Streaming<T>>, Status>) -> Result<(), Status> {
    let mut responses = responses?.into_inner();
    within("the end of a stream", async {
        while responses.message().await?.is_some() {}
        Ok(())
    })
    .await
}

/// Which life of a gateway runs: its trace is called so.
fn boot(bed: &Bed, gateway: Name) -> u64 {
    let files = std::fs::read_dir(bed.dir().join("trace")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let boots = names
        .filter_map(|name| name.strip_prefix(&format!("{gateway}-"))?.strip_suffix(".jsonl")?.parse().ok());
    boots.max().expect("it writes a trace")
}

fn server_hello(cluster: &str, gateway: Name, gateway_boot: u64) -> gateway::DeliverRequest {
    let hello = gateway::ServerHello {
        cluster: cluster.to_owned(),
        server: "impostor".to_owned(),
        gateway: gateway.to_string(),
        gateway_boot,
    };
    from_server(deliver_request::Message::Hello(hello))
}

fn from_server(message: deliver_request::Message) -> gateway::DeliverRequest {
    gateway::DeliverRequest { message: Some(message) }
}

async fn gateway_status(address: &Address) -> gateway::GetStatusResponse {
    let mut client = GatewayServiceClient::new(channel(address).await);
    within("a status", client.get_status(gateway::GetStatusRequest {})).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_stale_fence_is_fenced_off_and_what_it_says_is_ignored_and_counted() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    viewer.goes_on(4).await;
    let name = Service::Gateway.name(1);
    let address = bed.address(name);
    let session = bytes::Bytes::copy_from_slice(&viewer.session.id.bits().to_be_bytes());
    let (sender, queue) = requests(vec![server_hello("e2e", name, boot(&bed, name))]).await;
    let mut client = DeliveryServiceClient::new(channel(&address).await);
    let mut told = within("a hello", client.deliver(queue)).await.unwrap().into_inner();
    let before = gateway_status(&address).await;
    let stale = gateway::Fence { counter: 0, configuration_counter: 1, ..Default::default() };
    let claim = gateway::Claim {
        unit: "mandelbrot".to_owned(),
        session: session.clone(),
        fence: Some(stale),
        requests: 0,
    };
    let cursor = gateway::Cursor { responses: 1, requests: 0, context: bytes::Bytes::new() };
    let response = gateway::Response {
        session: session.clone(),
        stream: 1,
        cursor: Some(cursor),
        payload: bytes::Bytes::from_static(b"not of the film"),
        last: true,
    };
    for message in [
        deliver_request::Message::Claim(claim),
        deliver_request::Message::Response(response),
        deliver_request::Message::Moved(gateway::Moved { session: session.clone() }),
    ] {
        sender.send(from_server(message)).await.unwrap();
    }
    let fenced = within("a refusal", async {
        loop {
            let told = told.message().await.unwrap().expect("the stream goes on").message;
            if let Some(deliver_response::Message::Fenced(fenced)) = told {
                return fenced;
            }
        }
    });
    let fenced = fenced.await;
    assert_eq!((fenced.session, fenced.fence), (session, Some(stale)));
    until("stale messages to be counted", async || {
        let counted = gateway_status(&address).await.stale_messages - before.stale_messages;
        if counted > 0 { Ok(()) } else { Err("none is") }
    })
    .await;
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "the session is unharmed");
    assert_eq!((seen.servings.len(), seen.lost.len()), (1, 0), "{seen:?}");
    drop(sender);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_takes_servers_of_its_own_cluster_that_mean_it_and_make_sense() {
    let mut bed = Bed::start().await;
    let viewer = bed.viewer("life", 1).await;
    viewer.goes_on(1).await;
    let name = Service::Gateway.name(1);
    let (address, boot) = (bed.address(name), boot(&bed, name));
    let before = gateway_status(&address).await.refused_messages;
    let good = || server_hello("e2e", name, boot);
    let short = gateway::Ended { session: bytes::Bytes::from_static(b"short") };
    let no_fence =
        gateway::Claim { unit: "life".into(), session: [7; 16].to_vec().into(), ..Default::default() };
    let wrong_incarnation = (Code::FailedPrecondition, "WRONG_INCARNATION");
    let cases = [
        (vec![server_hello("elsewhere", name, boot)], FOREIGN_CLUSTER),
        (vec![server_hello("e2e", name, boot - 1)], wrong_incarnation),
        (vec![server_hello("e2e", Service::Gateway.name(2), boot)], wrong_incarnation),
        (vec![server_hello("Not A Name", name, boot)], BAD_FIELD),
        (vec![gateway::DeliverRequest::default()], BAD_FIELD),
        (vec![good(), gateway::DeliverRequest::default()], BAD_FIELD),
        (vec![good(), good()], BAD_FIELD),
        (vec![good(), from_server(deliver_request::Message::Ended(short))], BAD_FIELD),
        (vec![good(), from_server(deliver_request::Message::Claim(no_fence))], BAD_FIELD),
    ];
    let count = cases.len() as u64;
    for (messages, refusal) in cases {
        let (_sender, queue) = requests(messages).await;
        let mut client = DeliveryServiceClient::new(channel(&address).await);
        let responses = within("an answer", client.deliver(queue)).await;
        assert_refused(end(responses).await, refusal);
    }
    assert_eq!(gateway_status(&address).await.refused_messages, before + count);
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.finish().await;
}

fn link_hello(cluster: &str, from: &str, to: &str) -> gcs::OpenRequest {
    let hello = gcs::LinkHello { cluster: cluster.into(), from: from.into(), to: to.into(), epoch: 1 };
    gcs::OpenRequest { hello: Some(hello), frames: Vec::new() }
}

async fn daemon_status(address: &Address) -> gcs::GetStatusResponse {
    let mut client = GroupServiceClient::new(channel(address).await);
    within("a status", client.get_status(gcs::GetStatusRequest {})).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_takes_frames_and_processes_of_its_own_cluster_only_and_counts_the_others() {
    let mut bed = Bed::start().await;
    let viewer = bed.viewer("gradients", 1).await;
    viewer.goes_on(1).await;
    let address = bed.address(Service::Daemon.name(1));
    let me = daemon_status(&address).await.daemon;
    for (hello, refusal) in [
        (link_hello("elsewhere", "intruder#5", &me), FOREIGN_CLUSTER),
        (link_hello("e2e", "intruder#5", "machine-1#5"), (Code::FailedPrecondition, "WRONG_DAEMON")),
        (link_hello("e2e", "nobody", &me), BAD_FIELD),
        (gcs::OpenRequest::default(), BAD_FIELD),
    ] {
        let (_sender, queue) = requests(vec![hello]).await;
        let mut client = LinkServiceClient::new(channel(&address).await);
        let responses = within("an answer", client.open(queue)).await;
        assert_refused(end(responses).await, refusal);
    }
    let attach = |cluster: &str| {
        let hello = gcs::AttachHello { cluster: cluster.to_owned(), name: "stranger".to_owned() };
        gcs::AttachRequest { hello: Some(hello), commands: Vec::new() }
    };
    let (_sender, queue) = requests(vec![attach("elsewhere")]).await;
    let mut client = GroupServiceClient::new(channel(&address).await);
    let responses = within("an answer", client.attach(queue)).await;
    assert_refused(end(responses).await, FOREIGN_CLUSTER);
    let multicast = gcs::MulticastRequest {
        cluster: "elsewhere".to_owned(),
        name: "stranger".to_owned(),
        group: "content/gradients".to_owned(),
        payload: bytes::Bytes::from_static(b"nonsense"),
        ..gcs::MulticastRequest::default()
    };
    assert_refused(within("an answer", client.multicast(multicast)).await, FOREIGN_CLUSTER);
    let refused = daemon_status(&address).await.refused;
    assert!(refused["FOREIGN_CLUSTER"] >= 2 && refused["WRONG_DAEMON"] == 1, "{refused:?}");
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_foreign_configuration_are_refused_and_counted_and_delivered_to_nobody() {
    let mut bed = Bed::start().await;
    let mut viewer = bed.viewer("life", 1).await;
    viewer.hurry().await;
    viewer.goes_on(2).await;
    let address = bed.address(Service::Daemon.name(2));
    let before = daemon_status(&address).await;
    let entry = gcs::entry::Entry::Multicast(gcs::EntryMulticast {
        connection: 1,
        number: 1,
        group: "content/life".to_owned(),
        payload: bytes::Bytes::from_static(b"nonsense"),
        ..gcs::EntryMulticast::default()
    });
    let entries = vec![gcs::Entry { entry: Some(entry) }];
    let configuration = Some(gcs::ConfigurationId { counter: 99, digest: 1 });
    let forward = gcs::Forward { configuration, origin: 0, first: 1, entries: entries.clone() };
    let old = Some(gcs::ConfigurationId { counter: 1, digest: 1 });
    let forward_old = gcs::Forward { configuration: old, origin: 0, first: 1, entries: entries.clone() };
    let own = gcs::Entries { configuration: old, first: 1, stable: 0, entries };
    let frames = [
        gcs::frame::Message::Forward(forward),
        gcs::frame::Message::Forward(forward_old),
        gcs::frame::Message::Entries(own),
    ];
    let frames = (1..).zip(frames).map(|(number, message)| gcs::Frame { number, message: Some(message) });
    let hello = link_hello("e2e", "intruder#5", &before.daemon);
    let (_sender, queue) =
        requests(vec![hello, gcs::OpenRequest { hello: None, frames: frames.collect() }]).await;
    let mut client = LinkServiceClient::new(channel(&address).await);
    let mut responses = within("an answer", client.open(queue)).await.unwrap().into_inner();
    within("an acknowledgement of all frames", async {
        while responses.message().await.unwrap().expect("the stream goes on").received < 3 {}
    })
    .await;
    let after = daemon_status(&address).await;
    assert!(after.refused["FOREIGN_CONFIGURATION"] >= 1, "{:?}", after.refused);
    assert_eq!(after.configuration, before.configuration);
    viewer.end().await;
    assert_eq!(viewer.close().await.stretches(), [(0, 120)]);
    let servers = bed.snapshot().await;
    let refused: u64 = servers.up_servers().map(|server| server.refused_messages).sum();
    assert_eq!(refused, 0, "no server was told the nonsense");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_membership_service_takes_daemons_and_servers_of_its_own_cluster_only() {
    let mut bed = Bed::start().await;
    let viewer = bed.viewer("mandelbrot", 2).await;
    viewer.goes_on(1).await;
    let address = bed.address(Service::Membership.name(1));
    let register = |cluster: &str, daemon: &str, at: &str| {
        let hello = membership::RegisterHello {
            cluster: cluster.to_owned(),
            daemon: daemon.to_owned(),
            address: at.to_owned(),
            version: proto::MEMBERSHIP_VERSION,
            ..Default::default()
        };
        let hello = membership::register_request::Request::Hello(hello);
        membership::RegisterRequest { request: Some(hello) }
    };
    for (request, refusal) in [
        (register("elsewhere", "intruder#5", "127.0.0.1:1"), FOREIGN_CLUSTER),
        (register("e2e", "nobody", "127.0.0.1:1"), BAD_FIELD),
        (register("e2e", "intruder#5", ""), BAD_FIELD),
        (membership::RegisterRequest::default(), BAD_FIELD),
    ] {
        let (_sender, queue) = requests(vec![request]).await;
        let mut client = MembershipServiceClient::new(channel(&address).await);
        let responses = within("an answer", client.register(queue)).await;
        assert_refused(end(responses).await, refusal);
    }
    let peer = |cluster: &str, server: &str, protocol: &str| membership::LinkRequest {
        hello: Some(membership::LinkHello {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            protocol: protocol.to_owned(),
            rule: "none".to_owned(),
            version: proto::MEMBERSHIP_VERSION,
            to: "membership-1".to_owned(),
            latest: 0,
        }),
        message: None,
    };
    for (request, refusal) in [
        (peer("elsewhere", "a#5", ""), FOREIGN_CLUSTER),
        (peer("e2e", "a#5", "wombat"), (Code::FailedPrecondition, "FOREIGN_PROTOCOL")),
        (peer("e2e", "a#5", "paxos"), BAD_FIELD),
        (peer("e2e", "a#5", "moshe"), (Code::FailedPrecondition, "UNKNOWN_SERVER")),
    ] {
        let (_sender, queue) = requests(vec![request]).await;
        let mut client = PeerServiceClient::new(channel(&address).await);
        let responses = within("an answer", client.link(queue)).await;
        assert_refused(end(responses).await, refusal);
    }
    let mut client = MembershipServiceClient::new(channel(&address).await);
    let seen = within("the membership", client.get_membership(membership::GetMembershipRequest {})).await;
    let seen = seen.unwrap().into_inner();
    assert_eq!(seen.attached.len(), 3, "nobody came in: {:?}", seen.attached);
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.finish().await;
}
