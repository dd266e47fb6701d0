//! Corrupted messages: what can be read of them is told to all replicas, which must go on, and stay the same.

use alloc::vec;
use core::panic::AssertUnwindSafe;

use super::*;
use crate::message::{
    Committed, Cursor, Remembered, ServiceMessage, SessionMessage, Standing, decode, encode,
};
use crate::service::UnitInfo;

/// So many cases meet the same replicas.
const CASES_TOGETHER: usize = 20;

/// Replicas of which one has just come, before anybody has told its database.
fn in_exchange() -> Group {
    let sharing = |name| (name, shared::sharing(name, 1));
    let mut group = Group { replicas: Vec::from(["a", "b"].map(sharing)), order: Vec::new(), told: 0 };
    group.view(1, &["a", "b"], &[]);
    group.settle();
    group.say("a", ContentMessage::Found { anew: false, ticket: 1 });
    (1..4).for_each(|id| drop(group.start(id)));
    group.replicas.push(sharing("c"));
    group.view(2, &["a", "b", "c"], &["a", "b"]);
    group
}

/// What is said in a content group, databases included.
fn every_content_message() -> Vec<ContentMessage> {
    let (session, secret, gateway) = (SessionId::new(1), Secret::new(1), gateway("g"));
    let group = in_exchange();
    let (fence, view) = (group.session(1).fence, group.replicas[0].1.view());
    let update = Update {
        session,
        version: Version { fence, number: 1 },
        context: context("new"),
        requests: 1,
        responses: 1,
    };
    let said = [
        ContentMessage::Start { session, secret, gateway: gateway.clone() },
        ContentMessage::Attach { session, secret, gateway: gateway.clone() },
        ContentMessage::Propagate { updates: vec![update.clone(), update] },
        ContentMessage::Inquire { session, secret, gateway: gateway.clone(), fence },
        ContentMessage::Rebuild { session, secret, gateway: gateway.clone(), cursor: None },
        ContentMessage::Stalled { session, secret, gateway: gateway.clone(), fence },
        ContentMessage::End { session, secret, gateway: Some(gateway.clone()) },
        ContentMessage::Expire { session, gateway },
        ContentMessage::Move { session, to: Some(server("b")), ticket: 1 },
        ContentMessage::Move { session, to: None, ticket: 2 },
        ContentMessage::Adjust {
            change: PolicyChange { backups: Some(2), ..PolicyChange::default() },
            ticket: 3,
        },
        ContentMessage::Publish { edition: 2, ticket: 4 },
        ContentMessage::Holds { editions: [Edition::ONLY].into(), ticket: 5 },
        ContentMessage::Found { anew: false, ticket: 6 },
        ContentMessage::Found { anew: true, ticket: 7 },
        ContentMessage::Intend { intent: Intent::Cordoned, ticket: 8 },
        ContentMessage::Dismiss { session, ticket: 9 },
        ContentMessage::Fail { session, fence: Fence::NONE },
        ContentMessage::Settle { view },
        ContentMessage::Adopt { view },
        ContentMessage::Update { view, session, number: 1, operation: Bytes::from_static(b"x") },
    ];
    said.into_iter().chain(group.order.into_iter().map(|(_, message)| message)).collect()
}

#[test]
fn replicas_that_are_told_the_same_nonsense_stay_the_same() {
    let samples: Vec<_> = every_content_message().iter().map(|message| encode(message).to_vec()).collect();
    let (mut group, mut cases) = (in_exchange(), 0);
    let mut told = AssertUnwindSafe(|bytes: &[u8]| {
        let Ok(message) = decode::<ContentMessage>(bytes) else { return false };
        assert_eq!(decode(&encode(&message)), Ok(message.clone()));
        cases += 1;
        // Every other time the exchange is over when the nonsense begins.
        if cases % CASES_TOGETHER == 0 {
            group = in_exchange();
            if cases % (2 * CASES_TOGETHER) == 0 {
                group.settle();
            }
        }
        let from = ["a", "b", "c", "g"][cases % 4];
        group.order.insert(0, (server(from), message));
        if cases % 5 == 0 {
            group.settle();
        } else {
            let rest = group.order.split_off(1);
            group.settle();
            group.order = rest;
        }
        true
    });
    fuzz::bytes(fuzz::target!(), &samples, |bytes| {
        let told = &mut told;
        told.0(bytes)
    });
}

#[test]
fn corrupted_group_messages_are_refused_or_read_back() {
    let unit = UnitInfo {
        unit: model::UnitId::new("film-1").unwrap(),
        edition: Edition::ONLY,
        title: "A film".into(),
        media_type: "video/mp4".into(),
        duration: Duration::from_secs(60),
        size: 1 << 20,
    };
    let samples = [
        encode(&ServiceMessage::Holds { units: vec![unit] }).to_vec(),
        encode(&ServiceMessage::List { gateway: gateway("g"), query: 7 }).to_vec(),
    ];
    fuzz::bytes(fuzz::target!(), &samples, |bytes| match decode::<ServiceMessage>(bytes) {
        Ok(message) => {
            assert_eq!(decode(&encode(&message)), Ok(message));
            true
        }
        Err(_) => false,
    });
}

#[test]
fn corrupted_session_messages_are_refused_or_read_back() {
    let request = SessionMessage::Request { number: 300, operation: Bytes::from_static(b"operation") };
    let response = Committed {
        requests: 2,
        context: Bytes::from_static(b"context"),
        payload: Bytes::from_static(b"payload"),
        last: false,
    };
    let fence = Fence::NONE;
    let cursor = Cursor { responses: 9, requests: 3, context: Bytes::from_static(b"context") };
    let (kept, operation) = (vec![(1, response.clone())], Bytes::from_static(b"operation"));
    let requests = vec![Remembered { number: 3, operation, outcome: Some(Ok(())) }];
    let standing =
        Standing { answers: None, knows: true, reign: fence, fence, cursor, kept, forgotten: 1, requests };
    let commit = SessionMessage::Commit { fence, first: 9, responses: vec![response] };
    let samples =
        [request, commit, SessionMessage::Standing(standing)].map(|message| encode(&message).to_vec());
    fuzz::bytes(fuzz::target!(), &samples, |bytes| match decode::<SessionMessage>(bytes) {
        Ok(message) => {
            assert_eq!(decode(&encode(&message)), Ok(message));
            true
        }
        Err(_) => false,
    });
}
