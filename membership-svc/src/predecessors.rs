//! Which life of this server is the next one. Boots are start times, and a clock that was set back gives one that is less
//! than that of the life before: other servers would take this server for what is left of its own past. So it asks
//! them first which lives of it they know.

use std::time::Duration;

use futures::future::join_all;
use model::{Boot, Name, ServerId};
use proto::membership::v1 as pb;
use proto::membership::v1::membership_service_client::MembershipServiceClient;
use svc_kit::dial::Wire;
use svc_kit::tls::Role;

use crate::config::Peer;

/// How long others may take for an answer. Whoever does not answer tells its knowledge when there is a link.
const PATIENCE: Duration = Duration::from_millis(500);

/// The boot of the server called `name` that starts at `boot` by its clock: greater than all that `others` know of it.
pub async fn next_boot(name: Name, boot: Boot, others: impl Iterator<Item = &Peer>, wire: &Wire) -> Boot {
    let asked = others.map(async |peer| tokio::time::timeout(PATIENCE, known(peer, name, wire)).await);
    let known = join_all(asked).await.into_iter().filter_map(|answer| answer.ok().flatten()).max();
    let Some(known) = known.filter(|known| *known >= boot) else { return boot };
    tracing::warn!(reason = "CLOCK_SET_BACK", %name, known = known.number(), "others know a later life of this server");
    Boot::new(known.number().saturating_add(1))
}

/// The greatest boot of `name` that `peer` knows.
async fn known(peer: &Peer, name: Name, wire: &Wire) -> Option<Boot> {
    let channel = wire.connect(&peer.address, Role::Membership).await.ok()?;
    let request = pb::GetMembershipRequest {};
    let answer = MembershipServiceClient::new(channel).get_membership(request).await.ok()?.into_inner();
    let servers = answer.links.iter().flat_map(|links| links.linked.iter().chain([&links.server]));
    let lives = servers.filter_map(|server| server.parse::<ServerId>().ok());
    lives.filter(|server| server.name() == name).map(|server| server.boot()).max()
}
