//! S7: a key-value store that all sessions share: each session puts, or gets, and does so again when it is told what came of
//! it. Which servers may serve is for those to say who vote on the state, so policies make no difference.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::try_join_all;
use model::Address;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::server::v1::FoundStateRequest;
use proto::server::v1::server_service_client::ServerServiceClient;
use svc_kit::dial::Wire;
use svc_kit::tls::Role;
use tokio::time::Instant;

use super::bare::WARM_UP;
use super::client::Client;
use super::place::{Place, STORE, STORE_REPLICAS, cpu};
use super::{Args, Outcome};
use crate::samples::Samples;

/// What it is called.
pub const NAME: &str = "store";

/// So many keys there are.
const KEYS: u64 = 1000;

/// So long a value is, in bytes.
const VALUE_BYTES: usize = 100;

/// Runs it on a cluster: nobody else has anything like it.
pub async fn run(args: &Args) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &sessions in &args.sessions {
        for verb in ["put", "get"] {
            let time = Duration::from_secs(args.seconds);
            outcomes.push(measure(&Place::store().await?, sessions, verb, time).await?);
        }
    }
    Ok(outcomes)
}

async fn measure(
    place: &Place,
    sessions: usize,
    verb: &'static str,
    time: Duration,
) -> anyhow::Result<Outcome> {
    found(&place.server()?).await?;
    let mut clients = Client::attach_many(&place.gateways(), STORE, sessions).await?;
    ask_until(&mut clients, verb, Instant::now() + WARM_UP).await?;
    let (before, began) = (place.usage()?, Instant::now());
    let nanos = ask_until(&mut clients, verb, began + time).await?;
    let (after, elapsed, count) = (place.usage()?, began.elapsed(), nanos.len() as f64);
    let samples = Samples::of_nanos(nanos)?;
    Ok(Outcome::new(NAME, format!("{sessions} sessions, {verb}"), place)
        .with("p50_us", samples.quantile(0.5) / 1e3)
        .with("p99_us", samples.quantile(0.99) / 1e3)
        .with("per_second", count / elapsed.as_secs_f64())
        .with("cpu_us_each", cpu(&before, &after).as_secs_f64() * 1e6 / count))
}

/// An operator founds the store.
async fn found(server: &Address) -> anyhow::Result<()> {
    let channel = Wire::default().connect(server, Role::Server).await?;
    let request = FoundStateRequest { name: format!("contentUnits/{STORE}"), anew: false };
    let founded = ServerServiceClient::new(channel).found_state(request).await?.into_inner();
    if founded.voters.len() != STORE_REPLICAS {
        bail!("{} servers vote on the store", founded.voters.len());
    }
    Ok(())
}

/// How long it took, for each request that was made before `end`, until its client was told what came of it.
async fn ask_until(clients: &mut [Client], verb: &str, end: Instant) -> anyhow::Result<Vec<u64>> {
    let asking = (0u64..).zip(clients).map(async |(number, client)| {
        let mut nanos = Vec::new();
        for turn in 0.. {
            let began = Instant::now();
            if began >= end {
                break;
            }
            let asked = operation(verb, (number * 7919 + turn * 31) % KEYS);
            let Client { remote, stream } = &mut *client;
            let (acknowledged, told) = tokio::join!(remote.ask(asked), super::client::response(stream));
            acknowledged?;
            told.context("no answer")?;
            nanos.push(began.elapsed().as_nanos() as u64);
        }
        anyhow::Ok(nanos)
    });
    Ok(try_join_all(asking).await?.into_iter().flatten().collect())
}

/// `{verb: {"key": ..., "value": ...}}`
fn operation(verb: &str, key: u64) -> Struct {
    let text = |text: String| Value { kind: Some(Kind::StringValue(text)) };
    let mut fields = BTreeMap::from([("key".to_owned(), text(format!("k{key}")))]);
    if verb == "put" {
        fields.insert("value".to_owned(), text("v".repeat(VALUE_BYTES)));
    }
    let arguments = Value { kind: Some(Kind::StructValue(Struct { fields })) };
    Struct { fields: BTreeMap::from([(verb.to_owned(), arguments)]) }
}
