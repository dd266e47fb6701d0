//! A key-value store that all sessions share: it behaves like one copy, whichever servers die, and goes on with nobody who
//! has forgotten it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use check::linear::{Call, is_linearizable};
use e2e::deadline::until;
use e2e::rpc::{Client, assert_refused, channel, json, response};
use e2e::{Bed, Plan};
use futures::future::join_all;
use handover_cli::bundle;
use handover_cli::cluster::Service;
use handover_cli::snapshot::Snapshot;
use model::{Address, Name};
use proto::server::v1::server_service_client::ServerServiceClient;
use proto::server::v1::{FoundStateRequest, SharedState};
use proto::session::v1::{AttachResponse, CreateSessionResponse};
use serde_json::{Value, json};
use tonic::{Code, Status, Streaming};

const UNIT: &str = "notes";
/// Few, so that clients get into each other's way.
const KEYS: [&str; 2] = ["a", "b"];
const CLIENTS: u64 = 4;

async fn bed() -> Bed {
    Bed::plan(Plan { further: bundle::ALL.to_vec(), ..Plan::default() }).await
}

async fn found(server: &Address, anew: bool) -> Result<Vec<String>, Status> {
    let request = FoundStateRequest { name: format!("contentUnits/{UNIT}"), anew };
    let founded = ServerServiceClient::new(channel(server).await).found_state(request).await?;
    Ok(founded.into_inner().voters)
}

/// What each server says of the state, if all of them are in one group.
fn shared(snapshot: &Snapshot, servers: usize) -> Option<Vec<SharedState>> {
    let units = snapshot.up_servers().flat_map(|server| &server.units);
    let units: Vec<_> = units.filter(|unit| unit.name.ends_with(UNIT)).collect();
    let settled = units.len() == servers && units.iter().all(|it| it.agreed && it.members.len() == servers);
    settled.then(|| units.into_iter().filter_map(|unit| unit.shared_state.clone()).collect())
}

/// All servers of the unit are there, and the state is live.
async fn all_vote(bed: &mut Bed) {
    let is_live = |snapshot: &Snapshot| shared(snapshot, 3)?.iter().all(|state| state.live).then_some(());
    bed.until("all to be live", is_live).await;
}

/// What was done to a key, and what was answered, if anything was.
#[derive(Clone, Debug)]
struct Operation {
    verb: &'static str,
    expected: Option<String>,
    value: Option<String>,
    answer: Option<(Option<String>, bool)>,
}

/// What a single copy does, if it is what was answered.
fn step(before: &Option<String>, it: &Operation) -> Option<Option<String>> {
    let is_done = it.verb != "compare_and_put" || *before == it.expected;
    let after = if is_done && it.verb != "get" { it.value.clone() } else { before.clone() };
    let fits = it.answer.as_ref().is_none_or(|answer| *answer == (after.clone(), is_done));
    fits.then_some(after)
}

/// A client with a session of its own.
struct User {
    client: Client,
    session: CreateSessionResponse,
    stream: Streaming<AttachResponse>,
    requests: u64,
}

impl User {
    async fn of(gateway: &Address) -> User {
        let mut client = Client::of(gateway).await;
        let session = client.create(UNIT).await;
        let stream = client.attach(&session, "").await.unwrap();
        User { client, session, stream, requests: 0 }
    }

    /// Makes a request until it is acknowledged, and hears the answer.
    async fn ask(&mut self, request: Value) -> Value {
        self.requests += 1;
        let (client, session, number) = (&mut self.client, &self.session, self.requests);
        until("an acknowledgement", async || {
            client.send(session, number, json(request.clone())).await.map_err(|status| status.to_string())
        })
        .await;
        let response = response(&mut self.stream).await.unwrap().expect("an answer");
        serde_json::from_slice::<Value>(&response.payload).unwrap()["answer"].take()
    }
}

/// Does one thing after another until `end`. Every value that is put is another one.
async fn work(
    gateway: Address,
    who: u64,
    begin: Instant,
    end: Duration,
) -> BTreeMap<&'static str, Vec<Call<Operation>>> {
    let mut user = User::of(&gateway).await;
    let mut calls = BTreeMap::<_, Vec<_>>::new();
    let mut last = None;
    let mut turn = 0;
    while begin.elapsed() < end {
        turn += 1;
        let key = KEYS[((who + turn / 3) % 2) as usize];
        let value = format!("{who}.{turn}");
        let (verb, request, value) = match (turn * 7 + who) % 5 {
            0 => ("put", json!({ "put": { "key": key, "value": value } }), Some(value)),
            1 => ("delete", json!({ "delete": { "key": key } }), None),
            2 => {
                let compare = json!({ "key": key, "expected": last, "value": value });
                ("compare_and_put", json!({ "compare_and_put": compare }), Some(value))
            }
            _ => ("get", json!({ "get": { "key": key } }), None),
        };
        let micros = || begin.elapsed().as_micros() as u64;
        let called = micros();
        let answer = user.ask(request).await;
        assert_eq!(answer["key"], key);
        let now = answer["value"].as_str().map(str::to_owned);
        let done = answer["done"].as_bool().unwrap();
        let operation = Operation { verb, expected: last, value, answer: Some((now.clone(), done)) };
        calls.entry(key).or_default().push(Call { operation, called, answered: Some(micros()) });
        last = now;
    }
    user.client.close(&user.session).await.unwrap();
    calls
}

/// Each server dies once, one of them with its machine, and comes back without its memory.
async fn kill_each(bed: &mut Bed, servers: &[Name]) {
    for (number, &server) in servers.iter().enumerate() {
        let machine = (number == 1).then(|| Service::Daemon.name(number + 1));
        let victims: Vec<Name> = machine.into_iter().chain([server]).collect();
        bed.kill(&victims).await;
        bed.start_again(&victims).await;
        all_vote(bed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_behaves_like_one_copy_while_its_servers_are_killed() {
    let mut bed = bed().await;
    let servers = [1, 2, 3].map(|number| Service::Server.name(number));
    bed.until("a group of three", |snapshot| shared(snapshot, 3).map(drop)).await;
    let voters = found(&bed.address(servers[0]), false).await.unwrap();
    assert_eq!(voters, servers.map(|it| it.to_string()));
    let refused = found(&bed.address(servers[1]), false).await;
    assert_refused(refused, (Code::FailedPrecondition, "FOUNDED_BEFORE"));

    let begin = Instant::now();
    let end = Duration::from_secs(12);
    let users = (0..CLIENTS).map(|who| {
        let gateway = bed.address(Service::Gateway.name(1 + (who % 2) as usize));
        work(gateway, who, begin, end)
    });
    let (histories, ()) = tokio::join!(join_all(users.collect::<Vec<_>>()), kill_each(&mut bed, &servers));
    let mut calls = BTreeMap::<_, Vec<_>>::new();
    for (key, more) in histories.into_iter().flatten() {
        calls.entry(key).or_default().extend(more);
    }
    for (key, calls) in &calls {
        assert!(calls.len() > 100, "{} operations on {key} show little", calls.len());
        assert!(is_linearizable(None, calls, step), "not as a single copy: {key}: {calls:#?}");
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_most_voters_have_forgotten_waits_for_an_operator() {
    let mut bed = bed().await;
    let servers = [1, 2, 3].map(|number| Service::Server.name(number));
    bed.until("a group of three", |snapshot| shared(snapshot, 3).map(drop)).await;
    found(&bed.address(servers[0]), false).await.unwrap();
    let mut user = User::of(&bed.address(Service::Gateway.name(1))).await;
    user.ask(json!({ "put": { "key": "a", "value": "1" } })).await;

    let lost = &servers[..2];
    bed.kill(lost).await;
    let alone = |snapshot: &Snapshot| shared(snapshot, 1)?.iter().all(|state| !state.live).then_some(());
    bed.until("the last one to stop", alone).await;
    bed.start_again(lost).await;
    let states = bed.until("all to be together", |snapshot| shared(snapshot, 3)).await;
    assert!(
        states.iter().all(|state| !state.live && state.updates == 1 && state.voters.len() == 3),
        "{states:?}"
    );
    let refused = found(&bed.address(servers[0]), false).await;
    assert_refused(refused, (Code::FailedPrecondition, "FOUNDED_BEFORE"));

    found(&bed.address(servers[0]), true).await.unwrap();
    all_vote(&mut bed).await;
    let answer = user.ask(json!({ "get": { "key": "a" } })).await;
    assert_eq!((&answer["value"], &answer["revision"]), (&json!("1"), &json!(2)));
    user.client.close(&user.session).await.unwrap();
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_shared_is_founded() {
    let mut bed = bed().await;
    let mut films = bed.viewer("life", 1).await;
    films.hurry().await;
    let server = bed.address(Service::Server.name(1));
    let mut servers = ServerServiceClient::new(channel(&server).await);
    for (name, refusal) in [
        ("contentUnits/life", (Code::FailedPrecondition, "NOTHING_SHARED")),
        ("contentUnits/absent", (Code::NotFound, "UNKNOWN_UNIT")),
        ("life", (Code::InvalidArgument, "BAD_FIELD")),
    ] {
        let request = FoundStateRequest { name: name.to_owned(), anew: false };
        assert_refused(servers.found_state(request).await, refusal);
    }
    films.close().await;
    bed.finish().await;
}
