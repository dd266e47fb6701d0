//! Groups with a mode: strict ones, and ones with state transfer.

use bytes::Bytes;
use gcs_client::{Attachment, Command, Event, Loss};

use crate::bed::*;

async fn next(process: &mut Attachment) -> Event {
    soon("an event", process.events.next()).await.expect("attached")
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_strict_group_stop_before_its_view_changes() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 2).await;
    let mut old = attach(&daemons[0], "old").await;
    let name = group("strict:orders");
    join(&old, name.as_str()).await;
    view_of(&mut old, name.as_str(), 1).await;
    let mut new = attach(&daemons[1], "new").await;
    join(&new, name.as_str()).await;
    assert_eq!(next(&mut old).await, Event::Block(vec![name.clone()]));
    multicast(&old, name.as_str(), "last".into()).await;
    old.commands.send(Command::Blocked(vec![name.clone()])).await;
    assert!(matches!(next(&mut old).await, Event::Message { .. }));
    assert!(matches!(next(&mut old).await, Event::Views(views) if views[0].members.len() == 2));
    assert_eq!(next(&mut old).await, Event::Unblock(vec![name]));
    assert!(matches!(next(&mut new).await, Event::Views(_)), "the newcomer saw nothing of the old view");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_stop_is_evicted_with_a_reason() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 1).await;
    let mut hung = attach(&daemons[0], "hung").await;
    join(&hung, "strict:orders").await;
    view_of(&mut hung, "strict:orders", 1).await;
    let mut other = attach(&daemons[0], "other").await;
    join(&other, "strict:orders").await;
    let view = view_of(&mut other, "strict:orders", 1).await;
    assert_eq!(view.members[0].name.as_str(), "other");
    let lost = loop {
        if let Event::Lost(loss) = next(&mut hung).await {
            break loss;
        }
    };
    assert!(matches!(&lost, Loss::Refused(reason) if reason.contains("did not stop")), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_is_brought_up_to_date() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 2).await;
    let mut old = attach(&daemons[0], "old").await;
    join(&old, "state:notes").await;
    view_of(&mut old, "state:notes", 1).await;
    let mut new = attach(&daemons[1], "new").await;
    join(&new, "state:notes").await;
    view_of(&mut old, "state:notes", 2).await;
    let Event::StateWanted { group, view } = next(&mut old).await else { panic!("asked for its state") };
    for (part, last) in [("one", false), ("two", true)] {
        let part = Bytes::from_static(part.as_bytes());
        old.commands.send(Command::State { group: group.clone(), view, part, last }).await;
    }
    view_of(&mut new, "state:notes", 2).await;
    let mut parts = Vec::new();
    while let Event::State { part, .. } = next(&mut new).await {
        parts.push(part);
    }
    assert_eq!(parts, ["one", "two"]);
    assert_eq!(next(&mut old).await, Event::UpToDate { group, view });
}
