//! Everybody starts again: servers and gateways have forgotten all sessions, and clients have their cursors.

use e2e::rpc::{Client, Refusal, assert_refused, response, responses};
use e2e::{Bed, Plan};
use handover_cli::cluster::Service;
use model::Name;
use tonic::Code;

const UNKNOWN_SESSION: Refusal = (Code::NotFound, "UNKNOWN_SESSION");
const FORGED_CURSOR: Refusal = (Code::InvalidArgument, "FORGED_CURSOR");
const UNKNOWN_CURSOR_KEY: Refusal = (Code::InvalidArgument, "UNKNOWN_CURSOR_KEY");
const MALFORMED_CURSOR: Refusal = (Code::InvalidArgument, "MALFORMED_CURSOR");
const WRONG_SECRET: Refusal = (Code::PermissionDenied, "WRONG_SECRET");

fn allowed() -> Plan {
    Plan { server_flags: vec!["--rebuild", "allowed"], ..Plan::default() }
}

/// All that knows of sessions.
fn everybody() -> Vec<Name> {
    let servers = (1..=3).map(|number| Service::Server.name(number));
    servers.chain((1..=2).map(|number| Service::Gateway.name(number))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_goes_on_byte_for_byte_when_all_servers_and_gateways_are_killed_and_start_again() {
    let mut bed = Bed::plan(allowed()).await;
    let mut viewer = bed.viewer("mandelbrot", 1).await;
    viewer.hurry().await;
    viewer.goes_on(8).await;
    bed.kill(&everybody()).await;
    bed.start_again(&everybody()).await;
    viewer.end().await;
    let seen = viewer.close().await;
    assert_eq!(seen.stretches(), [(0, 120)], "every fragment once, in order");
    assert_eq!(seen.rebuilt, 1, "{seen:?}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_lost_with_all_servers_where_its_unit_does_not_make_it_anew() {
    let mut bed = Bed::start().await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let session = client.create("life").await;
    let mut stream = client.attach(&session, "").await.unwrap();
    let cursor = response(&mut stream).await.unwrap().unwrap().cursor;
    bed.kill(&everybody()).await;
    bed.start_again(&everybody()).await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    assert_refused(client.attach(&session, cursor).await, UNKNOWN_SESSION);
    bed.all_live().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_this_cluster_did_not_give_to_this_client_brings_nothing_back() {
    let mut bed = Bed::plan(allowed()).await;
    let mut client = Client::of(&bed.address(Service::Gateway.name(1))).await;
    let (session, other) = (client.create("life").await, client.create("life").await);
    let mut stream = client.attach(&session, "").await.unwrap();
    let cursor = responses(&mut stream, 3).await[2].cursor.to_vec();
    let mut others_stream = client.attach(&other, "").await.unwrap();
    let others = response(&mut others_stream).await.unwrap().unwrap().cursor.to_vec();
    bed.kill(&everybody()).await;
    bed.start_again(&everybody()).await;

    let mut client = Client::of(&bed.address(Service::Gateway.name(2))).await;
    let changed = |place: usize| {
        let mut cursor = cursor.clone();
        cursor[place] ^= 1;
        cursor
    };
    let content = &cursor[5..cursor.len() - 16];
    let unsealed = [&[1][..], content].concat();
    let middle = cursor.len() / 2;
    for (bad, refusal) in [
        (changed(middle), FORGED_CURSOR),
        (changed(cursor.len() - 1), FORGED_CURSOR),
        (changed(1), UNKNOWN_CURSOR_KEY),
        (unsealed, FORGED_CURSOR),
        (others, MALFORMED_CURSOR),
        (b"not a cursor".to_vec(), MALFORMED_CURSOR),
    ] {
        assert_refused(client.attach(&session, bad).await, refusal);
    }
    let mut thief = session.clone();
    thief.secret = other.secret.clone();
    assert_refused(client.attach(&thief, cursor.clone()).await, FORGED_CURSOR);
    // The one that it is of goes on where it was; after that the secret decides.
    let mut stream = client.attach(&session, cursor).await.unwrap();
    assert_eq!(response(&mut stream).await.unwrap().unwrap().number, 4);
    assert_refused(client.attach(&thief, "").await, WRONG_SECRET);
    client.close(&session).await.unwrap();
    bed.all_live().await;
    bed.finish().await;
}
