//! What operators are told of sessions, beside what is in the unit database.

use super::*;
use crate::unit_db::Happening;

#[test]
fn operators_are_told_what_only_the_primary_knows() {
    let mut cluster = Cluster::playing();
    let mut serve = |stream, credit| {
        let (fence, resume) = (cluster.fence, Resume::Beginning);
        let message =
            ToServer::Serve { session: SESSION, fence, stream, resume, credit, repeats_from: u64::MAX };
        let out = cluster.handle("a", Input::Gateway(gateway("g"), message));
        let told = out.into_iter().filter_map(|it| {
            let Output::Happened { session: SESSION, happening, .. } = it else { return None };
            Some(happening)
        });
        told.collect::<Vec<_>>()
    };
    let served = Happening::Served { responses: 0, attached: false };
    assert_eq!(serve(1, Credit::NONE), [served]);
    assert_eq!(serve(2, Credit::responses(2)), [Happening::ClientCame]);
    assert_eq!(serve(3, Credit::responses(2)), []);
    assert_eq!(serve(4, Credit::NONE), [Happening::ClientLeft]);
    assert_eq!(cluster.status("a").client, Some(false));
    assert_eq!(cluster.status("b").client, None, "a backup does not know");
    assert_eq!(cluster.status("b").primary, Some("a".parse().unwrap()));
}
