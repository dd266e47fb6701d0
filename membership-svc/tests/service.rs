//! The service on a free port, and real clients.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use membership_core::Protocol;
use membership_svc::Service;
use membership_svc::config::{Args, Config, Peer};
use model::{Address, ConfigurationId, StartId};
use proto::membership::v1 as pb;
use proto::membership::v1::membership_service_client::MembershipServiceClient;
use proto::membership::v1::peer_service_client::PeerServiceClient;
use proto::membership::v1::register_request::Request as Said;
use proto::membership::v1::register_response::Notice;
use svc_kit::dial::Wire;
use svc_kit::process::CommonArgs;
use svc_kit::tls::Role;
use svc_kit::{settings, status};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Nothing here takes as long, unless it is broken.
const DEADLINE: Duration = Duration::from_secs(10);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

fn config(name: &str) -> Config {
    let common = CommonArgs {
        name: Some(name.to_owned()),
        listen: Some("127.0.0.1:0".to_owned()),
        ..CommonArgs::default()
    };
    settings::load(None, [], &Args { common, ..Args::default() }).unwrap()
}

struct Server {
    address: Address,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(config: Config) -> Server {
        let service = Service::bind(config).await.unwrap();
        let (address, stop) = (service.address().clone(), CancellationToken::new());
        let shutdown = stop.clone();
        let task = tokio::spawn(async move { service.run(shutdown).await.unwrap() });
        Server { address, stop, task }
    }

    async fn client(&self) -> MembershipServiceClient<Channel> {
        MembershipServiceClient::new(Wire::default().connect(&self.address, Role::Membership).await.unwrap())
    }

    async fn membership(&self) -> pb::GetMembershipResponse {
        self.client().await.get_membership(pb::GetMembershipRequest {}).await.unwrap().into_inner()
    }

    /// As if by SIGTERM.
    async fn stop(self) {
        self.stop.cancel();
        soon("the server stops", self.task).await.unwrap();
    }
}

fn hello(daemon: &str) -> pb::RegisterHello {
    pb::RegisterHello {
        cluster: "handover".to_owned(),
        daemon: daemon.to_owned(),
        address: "127.0.0.1:7410".to_owned(),
        version: proto::MEMBERSHIP_VERSION,
        ..pb::RegisterHello::default()
    }
}

fn says(said: Said) -> pb::RegisterRequest {
    pb::RegisterRequest { request: Some(said) }
}

/// A daemon that is attached, and what it was told last.
struct Daemon {
    name: String,
    attempt: u64,
    members: u32,
    requests: mpsc::Sender<pb::RegisterRequest>,
    notices: Streaming<pb::RegisterResponse>,
    start: String,
    configuration: String,
}

impl Daemon {
    async fn attach(server: &Server, hello: pb::RegisterHello) -> Result<Daemon, Status> {
        let (name, attempt) = (hello.daemon.clone(), hello.attempt);
        let (requests, queue) = mpsc::channel(4);
        requests.send(says(Said::Hello(hello))).await.unwrap();
        let mut client = server.client().await;
        let notices = soon("register", client.register(ReceiverStream::new(queue))).await?.into_inner();
        let (start, configuration) = (String::new(), String::new());
        Ok(Daemon { name, attempt, members: 0, requests, notices, start, configuration })
    }

    async fn next(&mut self) -> Result<Option<Notice>, Status> {
        let response = soon("a notice", self.notices.message()).await?;
        Ok(response.map(|response| response.notice.unwrap()))
    }

    /// Waits for a view of exactly `members`; each view comes after a start change that proposes its members.
    async fn until_in(&mut self, members: &[&str]) {
        let mut proposed = Vec::new();
        loop {
            match self.next().await.unwrap().unwrap() {
                Notice::StartChange(change) => {
                    proposed = change.proposed.into_iter().map(|endpoint| endpoint.daemon).collect();
                    assert!(proposed.contains(&self.name));
                    self.start = change.start;
                }
                Notice::Attempt(_) => panic!("nobody votes"),
                Notice::View(view) => {
                    let me = view.members.iter().find(|member| member.daemon == self.name).unwrap();
                    assert_eq!(me.start, self.start);
                    assert!(view.members.iter().all(|member| proposed.contains(&member.daemon)));
                    self.configuration = view.id;
                    self.members = u32::try_from(view.members.len()).unwrap();
                    if view.members.iter().map(|member| member.daemon.as_str()).eq(members.iter().copied()) {
                        return;
                    }
                }
                Notice::Beat(_) => {}
            }
        }
    }

    fn counter(&self) -> u64 {
        self.configuration.parse::<ConfigurationId>().unwrap().counter()
    }

    async fn until_ended(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the call ended without a status"),
                Err(status) => return status,
            }
        }
    }

    fn again(&self) -> pb::RegisterHello {
        let (last_start, last_configuration) = (self.start.clone(), self.configuration.clone());
        let (attempt, last_members) = (self.attempt + 1, self.members);
        pb::RegisterHello { last_start, last_configuration, last_members, attempt, ..hello(&self.name) }
    }

    /// Leaves for good, and waits until the server has heard that.
    async fn goodbye(mut self) {
        self.requests.send(says(Said::Goodbye(pb::Goodbye {}))).await.unwrap();
        while let Ok(Some(_)) = self.next().await {}
    }
}

#[tokio::test]
async fn daemons_are_told_who_comes_and_who_goes() {
    let server = Server::start(config("m-1")).await;
    let mut a = Daemon::attach(&server, hello("a#1")).await.unwrap();
    a.until_in(&["a#1"]).await;
    let mut b = Daemon::attach(&server, hello("b#1")).await.unwrap();
    a.until_in(&["a#1", "b#1"]).await;
    b.until_in(&["a#1", "b#1"]).await;
    assert_eq!(a.configuration, b.configuration);

    b.goodbye().await;
    a.until_in(&["a#1"]).await;
    let seen = server.membership().await;
    let current = seen.current.unwrap();
    assert_eq!((seen.cluster.as_str(), seen.attached.as_slice()), ("handover", &["a#1".to_owned()][..]));
    assert_eq!(current.configurations, [a.configuration]);
    assert_eq!(current.left.len(), 1);
    assert_eq!(current.left[0].daemon, "b#1");
    assert_eq!(current.left[0].cause, "it said goodbye");
    assert_eq!(current.members[0].address, "127.0.0.1:7410");
    assert_eq!(current.members[0].server, seen.server);
    assert_eq!(seen.history.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn whoever_watches_is_told_each_view() {
    let server = Server::start(config("m-1")).await;
    let mut client = server.client().await;
    let mut views = client.watch(pb::WatchRequest {}).await.unwrap().into_inner();
    for daemon in ["a#1", "b#1"] {
        let mut attached = Daemon::attach(&server, hello(daemon)).await.unwrap();
        attached.until_in(&[daemon]).await;
        let view = soon("a view", views.message()).await.unwrap().unwrap().view.unwrap();
        assert_eq!(view.configurations, std::slice::from_ref(&attached.configuration));
        assert_eq!(view.joined, [daemon]);
        attached.goodbye().await;
        let view = soon("a view", views.message()).await.unwrap().unwrap().view.unwrap();
        assert_eq!(view.left[0].daemon, daemon);
        assert!(view.members.is_empty());
    }
    server.stop().await;
    assert!(soon("the end", views.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn who_does_not_belong_here_is_refused() {
    let server = Server::start(config("m-1")).await;
    let mut a = Daemon::attach(&server, hello("a#2")).await.unwrap();
    a.until_in(&["a#2"]).await;
    let before = server.membership().await.current;
    let cases = [
        (
            pb::RegisterHello { cluster: "other".into(), ..hello("b#1") },
            Code::FailedPrecondition,
            "FOREIGN_CLUSTER",
        ),
        (pb::RegisterHello { version: 2, ..hello("b#1") }, Code::FailedPrecondition, "WRONG_VERSION"),
        (pb::RegisterHello { address: String::new(), ..hello("b#1") }, Code::InvalidArgument, "BAD_FIELD"),
        (hello("B"), Code::InvalidArgument, "BAD_FIELD"),
        (pb::RegisterHello { last_start: "2:1".into(), ..hello("b#1") }, Code::InvalidArgument, "BAD_FIELD"),
        (hello("a#1"), Code::Aborted, "SUPERSEDED"),
    ];
    for (hello, code, reason) in cases {
        let refused = match Daemon::attach(&server, hello.clone()).await {
            Ok(mut daemon) => daemon.until_ended().await,
            Err(status) => status,
        };
        assert_eq!((refused.code(), status::reason(&refused).as_deref()), (code, Some(reason)), "{hello:?}");
    }
    let after = server.membership().await;
    assert_eq!(after.current, before, "nothing has changed for the others");
    assert_eq!(after.refused.get("SUPERSEDED"), Some(&1));

    a.requests.send(says(Said::Hello(hello("a#2")))).await.unwrap();
    assert_eq!(a.until_ended().await.code(), Code::InvalidArgument, "hello is said once");
    server.stop().await;
}

#[tokio::test]
async fn a_new_life_of_a_daemon_replaces_the_old_one() {
    let server = Server::start(config("m-1")).await;
    let mut old = Daemon::attach(&server, hello("a#1")).await.unwrap();
    old.until_in(&["a#1"]).await;
    let mut new = Daemon::attach(&server, hello("a#2")).await.unwrap();
    new.until_in(&["a#2"]).await;
    let ended = old.until_ended().await;
    assert_eq!(status::reason(&ended).as_deref(), Some("SUPERSEDED"));
    server.stop().await;
}

#[tokio::test]
async fn daemons_survive_a_restart_of_the_only_server() {
    let server = Server::start(config("m-1")).await;
    let mut a = Daemon::attach(&server, hello("a#1")).await.unwrap();
    let mut b = Daemon::attach(&server, hello("b#1")).await.unwrap();
    a.until_in(&["a#1", "b#1"]).await;
    b.until_in(&["a#1", "b#1"]).await;
    server.stop().await;
    for daemon in [&mut a, &mut b] {
        let ended = daemon.until_ended().await;
        assert_eq!(status::reason(&ended).as_deref(), Some("DRAINING"), "nobody is told that somebody left");
    }

    let server = Server::start(config("m-1")).await;
    let again = [a.again(), b.again()];
    for hello in again {
        let _attached = Daemon::attach(&server, hello).await.unwrap();
    }
    // Nobody is told anything: they are in the configuration that they are to be in.
    let c = Daemon::attach(&server, hello("c#1")).await.unwrap();
    let mut daemons = [
        Daemon::attach(&server, pb::RegisterHello { attempt: 2, ..a.again() }).await.unwrap(),
        Daemon::attach(&server, pb::RegisterHello { attempt: 2, ..b.again() }).await.unwrap(),
        c,
    ];
    let before = a.counter();
    until_agreed(&mut daemons, &["a#1", "b#1", "c#1"]).await;
    assert!(daemons[0].counter() > before);
    assert!(daemons[0].start.parse::<StartId>().unwrap() > a.start.parse::<StartId>().unwrap());
    server.stop().await;
}

/// Waits until all daemons are in one configuration of exactly `members`. Before connections are stable there may be
/// several with the same members.
async fn until_agreed(daemons: &mut [Daemon], members: &[&str]) {
    for daemon in daemons.iter_mut() {
        daemon.until_in(members).await;
    }
    loop {
        let newest = daemons.iter().map(Daemon::counter).max();
        let Some(behind) = daemons.iter_mut().find(|daemon| Some(daemon.counter()) < newest) else { break };
        behind.until_in(members).await;
    }
    assert!(daemons.iter().all(|daemon| daemon.configuration == daemons[0].configuration));
}

#[tokio::test]
async fn several_servers_agree_and_take_over_from_each_other() {
    agree_and_take_over(Protocol::Moshe).await;
}

#[tokio::test]
async fn several_servers_follow_one_and_take_over_from_each_other() {
    agree_and_take_over(Protocol::Wombat).await;
}

async fn agree_and_take_over(protocol: Protocol) {
    // Of two servers the one with the lesser name calls, so that the others' addresses do not matter to the last.
    let names = ["m-1", "m-2", "m-3"];
    let unused = Address::new("127.0.0.1:1");
    let mut peers: Vec<Peer> =
        names.map(|name| Peer { name: name.parse().unwrap(), address: unused.clone() }).to_vec();
    let mut servers = Vec::new();
    for (index, name) in names.iter().enumerate().rev() {
        let grace = Some(Duration::from_secs(30));
        let server = Server::start(Config { protocol, peers: peers.clone(), grace, ..config(name) }).await;
        peers[index].address = server.address.clone();
        servers.insert(0, server);
    }

    let all = ["a#1", "b#1", "c#1"];
    let mut daemons = Vec::new();
    for (name, server) in all.iter().zip(&servers) {
        daemons.push(Daemon::attach(server, hello(name)).await.unwrap());
    }
    until_agreed(&mut daemons, &all).await;
    let seen = servers[1].membership().await;
    assert_eq!(seen.peers.len(), 2);
    assert_eq!(seen.agrees_with.len(), 3);
    let homes: Vec<_> = seen.current.unwrap().members.into_iter().map(|member| member.server).collect();
    assert_eq!(homes[1], seen.server);

    // A daemon whose server is gone attaches to another one, and nobody hears of it.
    let configuration = daemons[0].configuration.clone();
    servers.remove(0).stop().await;
    daemons[0] = Daemon::attach(&servers[0], daemons[0].again()).await.unwrap();
    let seen = servers[0].membership().await;
    let moved = &seen.daemons[0];
    assert_eq!((moved.daemon.as_str(), &moved.server), ("a#1", &seen.server));
    assert_eq!(moved.configuration, configuration);

    // What is told next is the next change.
    let mut client = servers[1].client().await;
    let maintenance = pb::SetMaintenanceRequest { name: "c".to_owned(), maintenance: true };
    client.set_maintenance(maintenance).await.unwrap();
    let ended = daemons.pop().unwrap().until_ended().await;
    assert_eq!(status::reason(&ended).as_deref(), Some("BARRED"));
    let next = daemons[0].next().await.unwrap();
    let Some(Notice::StartChange(change)) = next else { panic!("{next:?}") };
    assert_eq!(change.proposed.len(), 2);
    for server in servers {
        server.stop().await;
    }
}

/// Else each would wait for words that the other does not know.
#[tokio::test]
async fn servers_that_agree_in_another_way_are_refused() {
    let peers = vec![Peer { name: "m-0".parse().unwrap(), address: Address::new("127.0.0.1:1") }];
    let server = Server::start(Config { peers, protocol: Protocol::Wombat, ..config("m-1") }).await;
    let wire = Wire::default();
    let channel = wire.connect(&server.address, Role::Membership).await.unwrap();
    let mut client = PeerServiceClient::new(channel);
    for (protocol, is_welcome) in [("wombat", true), ("moshe", false), ("", false)] {
        let hello = pb::LinkHello {
            cluster: "handover".to_owned(),
            server: "m-0#1".to_owned(),
            protocol: protocol.to_owned(),
            version: proto::MEMBERSHIP_VERSION,
            to: "m-1".to_owned(),
            ..pb::LinkHello::default()
        };
        let request = pb::LinkRequest { hello: Some(hello), message: None };
        let answer = soon("an answer", client.link(tokio_stream::iter([request]))).await;
        let refused = answer.err().and_then(|status| status::reason(&status));
        assert_eq!(refused.is_none(), is_welcome, "{protocol}: {refused:?}");
        assert!(is_welcome || refused.as_deref() == Some("FOREIGN_PROTOCOL"), "{refused:?}");
    }
    server.stop().await;
}
