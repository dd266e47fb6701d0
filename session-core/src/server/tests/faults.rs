//! Services that cannot go on with a session.

use super::*;
use crate::edition::size_of;
use crate::message::AttachRefusal;

/// Both servers, each under another name for what it does.
fn over(fault: &str) -> [String; 4] {
    [format!("a: {fault}"), "a: None".into(), "a: Failed".into(), "b: None".into()]
}

#[test]
fn a_session_that_its_service_cannot_go_on_with_is_over_everywhere_and_its_client_is_told() {
    for commit in [None, Some(Level::Agreed)] {
        let mut cluster = Cluster::playing_with(&Counter { commit, ..counter() });
        cluster.grant("a", 1, Resume::Beginning, 0);
        cluster.request(1, "1311");
        // What was to be committed before goes with it.
        let sent = commit.map_or(Some("a: response 1 is 1312".into()), |_| None);
        let seen: Vec<String> = sent.into_iter().chain(over("unlucky")).collect();
        assert_eq!(cluster.credit("a", 1, 5), seen, "{commit:?}");
        assert!(["a", "b"].iter().all(|name| cluster.servers[name].sessions().next().is_none()));
    }
}

#[test]
fn a_response_that_is_too_long_to_be_sent_ends_the_session() {
    for (commit, limit) in [(None, 1 << 20), (Some(Level::Agreed), 1 << 19)] {
        let mut cluster = Cluster::playing_with(&Counter { commit, ..counter() });
        cluster.grant("a", 1, Resume::Beginning, 0);
        cluster.request(1, "1048575");
        let fault = format!("a response takes {} bytes, and may take {limit}", ENDLESS + 7);
        assert_eq!(cluster.credit("a", 1, 5), over(&fault), "{commit:?}");
    }
}

#[test]
fn a_context_that_is_too_large_to_travel_ends_the_session() {
    for commit in [None, Some(Level::Agreed)] {
        let mut cluster = Cluster::playing_with(&Counter { commit, ..counter() });
        let limit = size_of(&(127_u32, Some(Time::ZERO)));
        cluster.servers.values_mut().for_each(|server| server.params.context_bytes_max = limit);
        cluster.grant("a", 1, Resume::Beginning, 0);
        cluster.request(1, "126");
        let fault = format!("the context takes {} bytes after a response, and may take {limit}", limit + 1);
        let sent = commit.map_or(Some("a: response 1 is 127".into()), |_| None);
        let seen: Vec<String> = sent.into_iter().chain(over(&fault)).collect();
        assert_eq!(cluster.credit("a", 1, 5), seen, "{commit:?}");
    }
}

#[test]
fn who_comes_to_a_session_that_failed_is_told_that_it_did() {
    let mut cluster = Cluster::playing();
    cluster.request(1, "1312");
    assert_eq!(cluster.grant("a", 1, after(0, 1, 1312), 1)[1..], over("unlucky"));
    let (session, secret, gateway) = (SESSION, SECRET, gateway("g"));
    let attach = ContentMessage::Attach { session, secret, gateway };
    assert_eq!(cluster.multicast(attach), [format!("a: {:?}", AttachRefusal::Failed)]);
}

#[test]
fn only_the_word_of_the_primary_ends_a_session() {
    let mut cluster = Cluster::playing();
    let fail = |fence| ContentMessage::Fail { session: SESSION, fence };
    let fence = cluster.fence;
    assert_eq!(cluster.multicast(fail(fence)), NOTHING, "it is said by the gateway");
    let group = Purpose::Content(unit()).group();
    cluster.multicasts.push_back((process("a"), group, encode(&fail(Fence::NONE))));
    assert_eq!(cluster.run(), NOTHING, "it was said before somebody else was appointed");
    assert_eq!(cluster.status("a").session.primary, Some(process("a")));
}
