//! Servers that are set up wrongly: each is told, operators see it, and the others go on agreeing.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use membership_svc::Service;
use membership_svc::config::{Args, Config, Peer};
use model::{Address, ServerId};
use proto::membership::v1 as pb;
use proto::membership::v1::membership_service_client::MembershipServiceClient;
use proto::membership::v1::peer_service_client::PeerServiceClient;
use svc_kit::dial::Wire;
use svc_kit::process::CommonArgs;
use svc_kit::shutdown::Failure;
use svc_kit::tls::Role;
use svc_kit::{settings, status};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

/// Nothing here takes as long, unless it is broken.
const DEADLINE: Duration = Duration::from_secs(10);

/// A server with the settings `peers` and `voters`, not started yet.
async fn bound(name: &str, peers: &[(&str, &Address)], voters: &[&str]) -> Service {
    let common = CommonArgs {
        name: Some(name.to_owned()),
        listen: Some("127.0.0.1:0".to_owned()),
        ..CommonArgs::default()
    };
    let config: Config = settings::load(None, [], &Args { common, ..Args::default() }).unwrap();
    let peer = |(name, address): &(&str, &Address)| Peer {
        name: name.parse().unwrap(),
        address: (*address).clone(),
    };
    let voters = voters.iter().map(|name| name.parse().unwrap()).collect();
    Service::bind(Config { peers: peers.iter().map(peer).collect(), voters, ..config }).await.unwrap()
}

struct Server {
    address: Address,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Failure>>,
}

impl Server {
    async fn start(name: &str, peers: &[(&str, &Address)]) -> Server {
        Server::with_voters(name, peers, &[]).await
    }

    async fn with_voters(name: &str, peers: &[(&str, &Address)], voters: &[&str]) -> Server {
        let service = bound(name, peers, voters).await;
        let (address, stop) = (service.address().clone(), CancellationToken::new());
        let task = tokio::spawn(service.run(stop.clone()));
        Server { address, stop, task }
    }

    async fn membership(&self) -> pb::GetMembershipResponse {
        let channel = Wire::default().connect(&self.address, Role::Membership).await.unwrap();
        let mut client = MembershipServiceClient::new(channel);
        client.get_membership(pb::GetMembershipRequest {}).await.unwrap().into_inner()
    }

    /// Waits until this is how it sees the others.
    async fn until(
        &self,
        what: &str,
        is_it: impl Fn(&pb::GetMembershipResponse) -> bool,
    ) -> pb::GetMembershipResponse {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = self.membership().await;
            if is_it(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what}: {seen:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_warned(&self, reason: &str, name: &str) {
        self.until(reason, |seen| {
            seen.warnings.iter().any(|it| (it.reason.as_str(), it.name.as_str()) == (reason, name))
        })
        .await;
    }

    async fn until_agreeing_with(&self, names: &[&str]) -> pb::GetMembershipResponse {
        self.until("agreement", |seen| names_of(&seen.agrees_with) == names).await
    }

    async fn ended(self) -> Result<(), Failure> {
        timeout(DEADLINE, self.task).await.unwrap().unwrap()
    }

    /// As if by SIGTERM.
    async fn stop(self) {
        self.stop.cancel();
        self.ended().await.unwrap();
    }
}

fn names_of(servers: &[String]) -> Vec<&str> {
    servers.iter().map(|server| server.split_once('#').unwrap().0).collect()
}

/// An address at which nobody listens.
fn nowhere() -> Address {
    Address::new("127.0.0.1:1")
}

/// Servers m-2 and m-3, which agree. Whoever is called m-1 may call them.
async fn two() -> (Server, Server) {
    let third = Server::start("m-3", &[("m-1", &nowhere()), ("m-2", &nowhere())]).await;
    let second = Server::start("m-2", &[("m-1", &nowhere()), ("m-3", &third.address)]).await;
    second.until_agreeing_with(&["m-2", "m-3"]).await;
    third.until_agreeing_with(&["m-2", "m-3"]).await;
    (second, third)
}

fn link_hello(server: &str, to: &str) -> pb::LinkHello {
    pb::LinkHello {
        cluster: "handover".to_owned(),
        server: server.to_owned(),
        version: proto::MEMBERSHIP_VERSION,
        to: to.to_owned(),
        ..pb::LinkHello::default()
    }
}

/// A link that is made by hand, and what is said on it.
async fn link(
    address: &Address,
    hello: pb::LinkHello,
    messages: Vec<pb::peer_message::Message>,
) -> Result<(mpsc::Sender<pb::LinkRequest>, Streaming<pb::LinkResponse>), Status> {
    let (sender, queue) = mpsc::channel(8);
    sender.send(pb::LinkRequest { hello: Some(hello), message: None }).await.unwrap();
    for message in messages {
        let message = Some(pb::PeerMessage { message: Some(message) });
        sender.send(pb::LinkRequest { hello: None, message }).await.unwrap();
    }
    let channel = Wire::default().connect(address, Role::Membership).await.unwrap();
    let responses = PeerServiceClient::new(channel).link(ReceiverStream::new(queue)).await?.into_inner();
    Ok((sender, responses))
}

#[tokio::test]
async fn a_server_at_anothers_address_is_told_from_it() {
    let (second, third) = two().await;
    let first = Server::start("m-1", &[("m-2", &third.address)]).await;
    first.until_warned("WRONG_SERVER", "m-2").await;
    third.until_warned("WRONG_SERVER", "m-1").await;
    first.until_agreeing_with(&["m-1"]).await;
    second.until_agreeing_with(&["m-2", "m-3"]).await;
    assert_eq!(names_of(&third.until_agreeing_with(&["m-2", "m-3"]).await.peers), ["m-2"]);
    for server in [first, second, third] {
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_the_others_do_not_know_is_alone_and_both_sides_say_so() {
    let (second, third) = two().await;
    let stranger = Server::start("m-0", &[("m-2", &second.address), ("m-3", &third.address)]).await;
    for name in ["m-2", "m-3"] {
        stranger.until_warned("UNKNOWN_SERVER", name).await;
    }
    second.until_warned("UNKNOWN_SERVER", "m-0").await;
    third.until_warned("UNKNOWN_SERVER", "m-0").await;
    stranger.until_agreeing_with(&["m-0"]).await;
    second.until_agreeing_with(&["m-2", "m-3"]).await;
    for server in [stranger, second, third] {
        server.stop().await;
    }
}

#[tokio::test]
async fn servers_with_other_voters_do_not_agree_and_both_sides_say_why() {
    let third = Server::with_voters("m-3", &[("m-1", &nowhere()), ("m-2", &nowhere())], &["a", "b"]).await;
    let peers = [("m-1", &nowhere()), ("m-3", &third.address)];
    let second = Server::with_voters("m-2", &peers, &["b", "a"]).await;
    second.until_agreeing_with(&["m-2", "m-3"]).await;
    let first =
        Server::with_voters("m-1", &[("m-2", &second.address), ("m-3", &third.address)], &["a", "b", "c"])
            .await;
    for name in ["m-2", "m-3"] {
        first.until_warned("FOREIGN_RULE", name).await;
    }
    for server in [&second, &third] {
        server.until_warned("FOREIGN_RULE", "m-1").await;
        server.until_agreeing_with(&["m-2", "m-3"]).await;
    }
    first.until_agreeing_with(&["m-1"]).await;
    for server in [first, second, third] {
        server.stop().await;
    }
}

/// They are set to be called by m-1, which does not know of them.
#[tokio::test]
async fn a_server_that_never_calls_is_missed() {
    let (second, third) = two().await;
    second.until_warned("NO_LINK", "m-1").await;
    third.until_warned("NO_LINK", "m-1").await;
    let caller = Server::start("m-1", &[("m-2", &second.address), ("m-3", &third.address)]).await;
    let all = ["m-1", "m-2", "m-3"];
    caller.until_agreeing_with(&all).await;
    for server in [&second, &third] {
        assert_eq!(server.until_agreeing_with(&all).await.warnings, [], "it is gone when the link is there");
    }
    for server in [caller, second, third] {
        server.stop().await;
    }
}

#[tokio::test]
async fn links_are_refused_for_a_reason() {
    let (second, third) = two().await;
    let good = || link_hello("m-1#5", "m-2");
    for (hello, code, reason) in [
        (pb::LinkHello { version: 2, ..good() }, Code::FailedPrecondition, "WRONG_VERSION"),
        (pb::LinkHello { cluster: "other".into(), ..good() }, Code::FailedPrecondition, "FOREIGN_CLUSTER"),
        (pb::LinkHello { to: "m-3".into(), ..good() }, Code::FailedPrecondition, "WRONG_SERVER"),
        (pb::LinkHello { to: String::new(), ..good() }, Code::InvalidArgument, "BAD_FIELD"),
        (pb::LinkHello { latest: u64::MAX, ..good() }, Code::InvalidArgument, "BAD_FIELD"),
        (pb::LinkHello { rule: "majority of a".into(), ..good() }, Code::FailedPrecondition, "FOREIGN_RULE"),
        (link_hello("m-4#5", "m-2"), Code::FailedPrecondition, "UNKNOWN_SERVER"),
        // Of a server that is not to call, not even this is believed.
        (
            pb::LinkHello { latest: 1 << 60, ..link_hello("m-4#5", "m-2") },
            Code::FailedPrecondition,
            "UNKNOWN_SERVER",
        ),
    ] {
        let refused = link(&second.address, hello.clone(), Vec::new()).await.unwrap_err();
        assert_eq!((refused.code(), status::reason(&refused).as_deref()), (code, Some(reason)), "{hello:?}");
    }
    second.until_warned("UNKNOWN_SERVER", "m-4").await;
    let seen = second.until_agreeing_with(&["m-2", "m-3"]).await;
    assert_eq!(names_of(&seen.peers), ["m-3"]);
    for server in [second, third] {
        server.stop().await;
    }
}

#[tokio::test]
async fn of_two_servers_with_one_name_the_one_that_started_first_ends() {
    let (second, third) = two().await;
    let peers = [("m-2", &second.address), ("m-3", &third.address)];
    let all = ["m-1", "m-2", "m-3"];
    let old = Server::start("m-1", &peers).await;
    old.until_agreeing_with(&all).await;
    let new = Server::start("m-1", &peers).await;
    let ended = old.ended().await;
    assert!(matches!(ended, Err(Failure::Superseded(_))), "{ended:?}");
    let seen = new.until_agreeing_with(&all).await;
    for server in [&second, &third] {
        assert_eq!(server.until_agreeing_with(&all).await.agrees_with, seen.agrees_with);
    }
    for server in [new, second, third] {
        server.stop().await;
    }
}

/// A life of m-1 that was given a greater boot than the clock gives now is known to m-2, and is over.
#[tokio::test]
async fn a_server_whose_clock_was_set_back_comes_back() {
    let (second, third) = two().await;
    let past = ServerId::new("m-1".parse().unwrap(), model::Boot::new(1 << 60));
    let me = second.membership().await.server;
    let neighbours = vec![pb::Neighbours { server: past.to_string(), version: 1, linked: vec![me.clone()] }];
    let row = pb::peer_message::Message::Row(pb::Row { version: 1, ..pb::Row::default() });
    let links = pb::peer_message::Message::Links(pb::Links { neighbours });
    let hello = link_hello(&past.to_string(), "m-2");
    let (sender, responses) = link(&second.address, hello, vec![row, links]).await.unwrap();
    second.until("its past", |seen| seen.links.iter().any(|it| it.server == past.to_string())).await;
    drop((sender, responses));
    second.until_agreeing_with(&["m-2", "m-3"]).await;

    let again = Server::start("m-1", &[("m-2", &second.address), ("m-3", &third.address)]).await;
    let seen = again.until_agreeing_with(&["m-1", "m-2", "m-3"]).await;
    assert_eq!(seen.server, format!("m-1#{}", (1_u64 << 60) + 1));
    for server in [again, second, third] {
        server.stop().await;
    }
}
