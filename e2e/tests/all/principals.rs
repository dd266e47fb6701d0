//! Clients and operators who are known by a token: what each may do, and that a session is its client's alone.

use bytes::Bytes;
use e2e::deadline::{until, within};
use e2e::program::run;
use e2e::rpc::{assert_refused, channel, response};
use e2e::scrape::metrics;
use e2e::{Bed, Plan, programs};
use handover_cli::cluster::Service;
use model::Name;
use proto::gcs::v1 as gcs;
use proto::gcs::v1::group_service_client::GroupServiceClient;
use proto::server::v1 as server;
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::session::v1::session_service_client::SessionServiceClient;
use proto::session::v1::{
    AttachRequest, AttachResponse, CloseSessionRequest, CreateSessionRequest, CreateSessionResponse,
    ListContentUnitsRequest, SendRequestRequest,
};
use svc_kit::auth::tokens::Token;
use svc_kit::auth::{Bearer, Rank};
use svc_kit::dial::Wire;
use svc_kit::tls::{Role, TlsFiles};
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};

const FORBIDDEN: (Code, &str) = (Code::PermissionDenied, "WRONG_ROLE");
const NOT_YOURS: (Code, &str) = (Code::PermissionDenied, "WRONG_SECRET");
const NO_TOKEN: (Code, &str) = (Code::Unauthenticated, "NO_TOKEN");
const BAD_TOKEN: (Code, &str) = (Code::Unauthenticated, "BAD_TOKEN");

/// Everybody who has a token.
struct People {
    /// What makes their tokens good, each one's for itself.
    entries: Vec<String>,
    alice: Bearer,
    bob: Bearer,
    operator: Bearer,
    admin: Bearer,
}

impl People {
    fn new() -> People {
        let mut entries = Vec::new();
        let mut one = |name: &str, rank| {
            let token = Token::draw();
            entries.push(token.entry(name.parse().unwrap(), rank));
            Bearer::new(&token.to_string()).unwrap()
        };
        let (alice, bob) = (one("alice", Rank::Viewer), one("bob", Rank::Viewer));
        let (operator, admin) = (one("olga", Rank::Operator), one("ada", Rank::Admin));
        People { entries, alice, bob, operator, admin }
    }

    /// A cluster that knows them, on which alice watches.
    async fn bed(&self, gateway_flags: Vec<&'static str>) -> Bed {
        Bed::plan(Plan { tokens: self.known(), gateway_flags, ..Plan::default() }).await
    }

    fn known(&self) -> Option<(String, Bearer)> {
        Some((self.entries.concat(), self.alice.clone()))
    }
}

/// Alice watches still.
async fn end(mut bed: Bed) {
    let viewer = bed.viewer("life", 1).await;
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.finish().await;
}

/// Somebody at a gateway.
struct Client {
    stub: SessionServiceClient<Channel>,
    wire: Wire,
}

impl Client {
    async fn new(bed: &Bed, gateway: usize, token: Option<&Bearer>) -> Client {
        let address = bed.address(Service::Gateway.name(gateway));
        let wire = Wire { token: token.cloned(), ..Wire::default() };
        Client { stub: SessionServiceClient::new(channel(&address).await), wire }
    }

    async fn list(&mut self) -> Result<(), Status> {
        self.stub.list_content_units(self.wire.request(ListContentUnitsRequest {})).await.map(drop)
    }

    async fn create(&mut self) -> Result<CreateSessionResponse, Status> {
        let request = CreateSessionRequest { parent: "contentUnits/life".to_owned() };
        self.stub.create_session(self.wire.request(request)).await.map(Response::into_inner)
    }

    async fn attach(
        &mut self,
        session: &CreateSessionResponse,
        cursor: Bytes,
    ) -> Result<Streaming<AttachResponse>, Status> {
        let CreateSessionResponse { name, secret, .. } = session.clone();
        let request = AttachRequest { name, secret, cursor, resends: false };
        self.stub.attach(self.wire.request(request)).await.map(Response::into_inner)
    }

    async fn pause(&mut self, session: &CreateSessionResponse) -> Result<(), Status> {
        let CreateSessionResponse { name, secret, .. } = session.clone();
        let operation = Some(e2e::rpc::json(serde_json::json!({ "pause": {} })));
        let request = SendRequestRequest { name, secret, number: 0, operation };
        self.stub.send_request(self.wire.request(request)).await.map(drop)
    }

    async fn close(&mut self, session: &CreateSessionResponse) -> Result<(), Status> {
        let CreateSessionResponse { name, secret, .. } = session.clone();
        self.stub.close_session(self.wire.request(CloseSessionRequest { name, secret })).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_its_clients_alone_wherever_it_goes() {
    let people = People::new();
    let mut bed = people.bed(Vec::new()).await;
    let viewer = bed.viewer("life", 1).await;
    viewer.goes_on(2).await;

    let mut alice = Client::new(&bed, 1, Some(&people.alice)).await;
    let session = alice.create().await.unwrap();
    let mut stream = alice.attach(&session, session.cursor.clone()).await.unwrap();
    let cursor = response(&mut stream).await.unwrap().unwrap().cursor;
    for gateway in [1, 2] {
        let mut bob = Client::new(&bed, gateway, Some(&people.bob)).await;
        bob.list().await.unwrap();
        assert_refused(bob.attach(&session, Bytes::new()).await, NOT_YOURS);
        let replayed = bob.attach(&session, cursor.clone()).await;
        assert_refused(replayed, (Code::InvalidArgument, "FORGED_CURSOR"));
        let unknown = if gateway == 1 { NOT_YOURS } else { (Code::NotFound, "UNKNOWN_SESSION") };
        assert_refused(bob.pause(&session).await, unknown);
        assert_refused(bob.close(&session).await, NOT_YOURS);
    }
    alice.pause(&session).await.unwrap();

    // Its server and its gateway die, and it stays hers.
    let server = viewer.server().await;
    bed.kill(&[server, Service::Gateway.name(1)]).await;
    viewer.goes_on(3).await;
    let mut alice = Client::new(&bed, 2, Some(&people.alice)).await;
    let again = within("an answer", alice.attach(&session, cursor)).await;
    drop(again.unwrap());
    let mut bob = Client::new(&bed, 2, Some(&people.bob)).await;
    assert_refused(bob.attach(&session, Bytes::new()).await, NOT_YOURS);
    alice.close(&session).await.unwrap();
    viewer.close().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_token_or_one_of_too_low_a_rank_is_refused() {
    let people = People::new();
    let bed = people.bed(Vec::new()).await;
    let mut nobody = Client::new(&bed, 1, None).await;
    assert_refused(nobody.list().await, NO_TOKEN);
    assert_refused(nobody.create().await, NO_TOKEN);
    let stranger = Bearer::new(&Token::draw().to_string()).unwrap();
    assert_refused(Client::new(&bed, 1, Some(&stranger)).await.create().await, BAD_TOKEN);

    let server = bed.address(Service::Server.name(1));
    let mut server = ServerServiceClient::new(channel(&server).await);
    let as_whom = |token: Option<&Bearer>| Wire { token: token.cloned(), ..Wire::default() };
    for (token, moved, changed) in [
        (None, NO_TOKEN, NO_TOKEN),
        (Some(&people.alice), FORBIDDEN, FORBIDDEN),
        (Some(&people.operator), (Code::NotFound, "UNKNOWN_SESSION"), FORBIDDEN),
        (Some(&people.admin), (Code::NotFound, "UNKNOWN_SESSION"), (Code::InvalidArgument, "BAD_FIELD")),
    ] {
        let name = format!("contentUnits/life/sessions/{}", "0".repeat(32));
        let request = server::MoveSessionRequest { name, server: String::new() };
        assert_refused(server.move_session(as_whom(token).request(request)).await, moved);
        let request = server::ChangePolicyRequest::default();
        assert_refused(server.change_policy(as_whom(token).request(request)).await, changed);
    }
    let log = std::fs::read_to_string(bed.dir().join("logs/server-1.log")).unwrap();
    let admitted =
        log.lines().filter(|line| line.contains(" audit: ") && line.contains("token:olga (operator)"));
    assert_eq!(admitted.count(), 2, "{log}");
    assert!(!log.contains("Bearer"), "{log}");
    end(bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_taken_back_is_good_for_nothing_without_a_restart() {
    let people = People::new();
    let bed = people.bed(Vec::new()).await;
    let mut bob = Client::new(&bed, 1, Some(&people.bob)).await;
    bob.list().await.unwrap();
    let others = people.entries.iter().filter(|entry| !entry.contains("bob")).cloned();
    std::fs::write(bed.dir().join("tokens.toml"), others.collect::<String>()).unwrap();
    until("bob to be a stranger", async || match bob.list().await {
        Ok(()) => Err("he is known still"),
        Err(status) => {
            assert_refused::<()>(Err(status), BAD_TOKEN);
            Ok(())
        }
    })
    .await;
    end(bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_too_often_waits_and_holds_up_nobody_else() {
    let people = People::new();
    let bed = people.bed(vec!["--calls-per-second", "1", "--calls-at-once", "4"]).await;
    let (mut alice, mut bob) =
        (Client::new(&bed, 1, Some(&people.alice)).await, Client::new(&bed, 1, Some(&people.bob)).await);
    let mut calls = 0;
    let refused = loop {
        calls += 1;
        if let Err(refused) = bob.list().await {
            break refused;
        }
        assert!(calls < 1000, "bob calls as often as he likes");
    };
    assert_refused::<()>(Err(refused), (Code::ResourceExhausted, "TOO_MANY_CALLS"));
    alice.list().await.unwrap();
    let metrics = metrics(&bed.ops(Service::Gateway.name(1))).await;
    assert_eq!(metrics.sum("handover_admission_rejected_total", &["reason=\"TOO_MANY_CALLS\""]), 1.0);
    end(bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_connections_are_tls_a_token_will_do_for_an_operator_and_for_no_process() {
    let people = People::new();
    let bed = Bed::plan(Plan { tokens: people.known(), tls: true, ..Plan::default() }).await;
    let ca = TlsFiles { ca: Some(bed.dir().join("tls/ca.pem")), ..TlsFiles::default() };
    let tls = ca.open_as_named(Name::literal("e2e")).unwrap();
    let wire = |token: Option<&Bearer>| Wire { tls: tls.clone(), token: token.cloned(), ..Wire::default() };
    let (server, daemon) = (bed.address(Service::Server.name(1)), bed.address(Service::Daemon.name(1)));
    let connected = wire(None).connect(&server, Role::Server).await.unwrap();
    let mut stub = ServerServiceClient::new(connected);
    let mut status = async |wire: Wire| stub.get_status(wire.request(server::GetStatusRequest {})).await;
    assert_refused(status(wire(None)).await, NO_TOKEN);
    assert_refused(status(wire(Some(&people.alice))).await, FORBIDDEN);
    status(wire(Some(&people.operator))).await.unwrap();

    // Commands take the name in certificates from whoever calls them, and are refused for want of a token alone.
    let ended = run(programs::handover(), |command| {
        command.args(["status", "--cluster", "e2e", "--server", server.as_str()]);
        command.env("HANDOVER_TLS__CA", bed.dir().join("tls/ca.pem"));
    });
    let ended = ended.await;
    assert_eq!(ended.status.code(), Some(64 + Code::Unauthenticated as i32), "{ended:?}");

    let admin = wire(Some(&people.admin));
    let mut stub = GroupServiceClient::new(admin.connect(&daemon, Role::Machine).await.unwrap());
    assert_refused(stub.multicast(admin.request(gcs::MulticastRequest::default())).await, FORBIDDEN);
    end(bed).await;
}
