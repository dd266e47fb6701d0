//! Servers of two sides of a partition that meet, and what the client is told of it.

use super::*;

/// A server that has the session on its own side of a partition, since another one is gone.
pub(super) fn alone(name: &'static str, service: &Counter) -> Cluster {
    let mut cluster = Cluster::new(&[name, "z"], service);
    let (session, secret) = (SESSION, SECRET);
    cluster.multicast(ContentMessage::Start { session, secret, gateway: gateway("g") });
    cluster.views = 100;
    cluster.kill("z");
    cluster.tell(name, Input::GatewayUp(gateway("g")));
    cluster.fence = cluster.status(name).session.fence;
    cluster
}

/// `a` serves the session on one side of a partition, and `c`, which counts by tens, on the other; then all are together.
fn met() -> Cluster {
    let service = Counter { merges: true, ..counter() };
    let mut other = alone("c", &Counter { step: 10, ..service.clone() });
    other.grant("c", 1, Resume::Beginning, 5);
    other.wait(PERIOD);

    let mut cluster = Cluster::playing_with(&service);
    cluster.grant("a", 1, Resume::Beginning, 3);
    cluster.wait(PERIOD);
    cluster.views = 200;
    cluster.servers.extend(other.servers);
    for group in other.groups.into_keys() {
        cluster.change(group, "c", true);
    }
    cluster.run();
    cluster.fence = cluster.status("c").session.fence;
    cluster
}

#[test]
fn a_client_that_comes_again_before_it_was_told_is_told_again_and_has_what_both_sides_have() {
    let mut cluster = met();
    let known = cluster.status("b").session;
    assert_eq!((known.merged, known.primary), (true, Some(process("c"))), "it has sent more");
    assert_eq!(cluster.grant("c", 2, after(3, 0, 3), 0), ["c: start 2 after 3/0, merged"]);
    cluster.wait(PERIOD);
    assert!(!cluster.status("b").session.merged, "all know that it is served");
    // The gateway had opened another stream when that came to it.
    assert_eq!(
        cluster.grant("c", 3, after(3, 0, 3), 1),
        ["c: start 3 after 3/0, merged", "c: response 4 is 60"]
    );
    assert_eq!(cluster.grant("c", 4, after(4, 0, 60), 0), ["c: start 4 after 4/0"], "it has been told");
}
