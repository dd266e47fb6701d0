//! Whether the cluster has come to rest: everybody is where the others are, and nothing is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail};
use model::{DaemonId, ProcessId};
use proto::gcs::v1::group_service_client::GroupServiceClient;
use proto::gcs::v1::{self as gcs, GetStatusResponse};
use proto::membership::v1::membership_service_client::MembershipServiceClient;
use proto::membership::v1::{self as membership, GetMembershipResponse};
use svc_kit::dial::Wire;
use svc_kit::tls::Role;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use crate::plan::{Node, Plan, Who};
use crate::report::Rest;
use crate::stage::{GROUPS, Stage};

/// How long the cluster may take after the last fault. It takes a few seconds.
const DEADLINE: Duration = Duration::from_secs(180);

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Waits until the cluster is at rest, and returns its daemons.
pub async fn awaited(stage: &mut Stage) -> anyhow::Result<Vec<DaemonId>> {
    let deadline = Instant::now() + DEADLINE;
    let network = &stage.network;
    let channel =
        |node| Ok((node, Wire::default().endpoint(&network.service(node), Role::Machine)?.connect_lazy()));
    let channels: BTreeMap<Node, Channel> =
        stage.plan().nodes.iter().copied().map(channel).collect::<anyhow::Result<_>>()?;
    loop {
        stage.all_run()?;
        stage.listen();
        // Members first: what daemons say after that about messages on their way covers all that members wait for.
        let seen = match members(stage.plan(), &stage.rests) {
            Ok(()) => look(stage.plan(), &channels).await,
            Err(missing) => Err(missing),
        };
        match seen {
            Ok(daemons) => return Ok(daemons),
            Err(missing) if Instant::now() > deadline => {
                return Err(
                    missing.context(format!("not at rest {} s after the last fault", DEADLINE.as_secs()))
                );
            }
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// All members rest, have been given all their own messages, and are in one view of each group.
fn members(plan: &Plan, rests: &BTreeMap<Who, Rest>) -> anyhow::Result<()> {
    for who in &plan.members {
        let rest = rests.get(who).with_context(|| format!("{who} does not rest"))?;
        if rest.owed + rest.unreported > 0 {
            let Rest { process, owed, unreported, .. } = rest;
            bail!("{who} ({process}) was not given {owed} of its own messages, and not told of {unreported}");
        }
    }
    let all: BTreeSet<ProcessId> = rests.values().map(|rest| rest.process).collect();
    for group in GROUPS {
        let views = rests.iter().map(|(who, rest)| {
            let view = rest.views.iter().find(|(name, _)| name.as_str() == group).map(|(_, view)| view);
            Ok((who, view.with_context(|| format!("{who} is told no view of {group}"))?))
        });
        let views = views.collect::<anyhow::Result<Vec<_>>>()?;
        for (who, view) in &views {
            if view.members.iter().copied().collect::<BTreeSet<_>>() != all {
                bail!("{who} sees {:?} in {} of {group}, while there are {all:?}", view.members, view.id);
            }
            if view.id != views[0].1.id {
                bail!("{who} is in {} of {group}, but {} in {}", view.id, views[0].0, views[0].1.id);
            }
        }
    }
    Ok(())
}

/// All daemons and membership servers are in one configuration, and no daemon has anything left to do.
async fn look(plan: &Plan, channels: &BTreeMap<Node, Channel>) -> anyhow::Result<Vec<DaemonId>> {
    let mut daemons = BTreeMap::new();
    for node in plan.machines() {
        daemons.insert(node, daemon(&channels[&node]).await.with_context(|| node.to_string())?);
    }
    let mut servers = BTreeMap::new();
    for node in plan.servers() {
        servers.insert(node, server(&channels[&node]).await.with_context(|| node.to_string())?);
    }
    let all: Vec<String> = daemons.values().map(|status| status.daemon.clone()).collect();
    let first = daemons.values().next().map(|status| status.configuration.clone()).unwrap_or_default();
    for (node, status) in &daemons {
        if status.configuration != first || status.members != all {
            let (here, members) = (&status.configuration, &status.members);
            bail!(
                "{node} is in {here} of {members:?}, while there are {all:?} and another one is in {first}"
            );
        }
        let windows = status.windows.unwrap_or_default();
        if status.phase != "steady" || windows.unstable + windows.waiting + windows.held > 0 {
            bail!("{node} is {} and has messages on their way: {windows:?}", status.phase);
        }
    }
    for (node, status) in &servers {
        let apart = status.daemons.iter().find(|daemon| daemon.configuration != first);
        if let Some(apart) = apart {
            bail!("{node} has {} in {:?}, while daemons are in {first}", apart.daemon, apart.configuration);
        }
        if status.peers.len() + 1 != servers.len() || status.agrees_with.len() != servers.len() {
            bail!("{node} has the peers {:?} and agrees with {:?}", status.peers, status.agrees_with);
        }
    }
    all.iter().map(|daemon| daemon.parse().map_err(|_| anyhow::anyhow!("{daemon} is not a daemon"))).collect()
}

async fn daemon(channel: &Channel) -> anyhow::Result<GetStatusResponse> {
    let mut client = GroupServiceClient::new(channel.clone());
    let answer =
        timeout(ANSWER, client.get_status(gcs::GetStatusRequest {})).await.context("does not answer")?;
    Ok(answer?.into_inner())
}

async fn server(channel: &Channel) -> anyhow::Result<GetMembershipResponse> {
    let mut client = MembershipServiceClient::new(channel.clone());
    let asked = client.get_membership(membership::GetMembershipRequest {});
    Ok(timeout(ANSWER, asked).await.context("does not answer")??.into_inner())
}
