//! Watches the groups while films play, and tells the stage of every new view.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Address, ConfigurationId, DaemonId, Name};
use proto::gcs::v1::{GetStatusResponse, Group};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::snapshot::{Probe, STEADY};

/// How often daemons are asked.
const POLL: Duration = Duration::from_millis(100);

/// A view that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Of daemons.
    Configuration { id: ConfigurationId, members: Vec<Name> },
    /// Of the servers that hold a unit.
    Content { unit: String, id: String, servers: Vec<String> },
}

/// Asks the daemons again and again, until nobody listens to `views`.
pub async fn observe(daemons: Vec<Address>, views: mpsc::Sender<View>) -> anyhow::Result<()> {
    let mut probe = Probe::default();
    let (mut configuration, mut contents) = (None, BTreeMap::<String, View>::new());
    while !views.is_closed() {
        let answers = probe.daemons(&daemons).await?;
        let steady =
            answers.into_iter().filter_map(|(address, answer)| Some((address, steady(&answer.ok()?)?)));
        // A daemon that has just started is in a configuration of its own for a moment.
        let latest = steady.max_by_key(|(_, view)| id_of(view));
        if let Some((address, view)) = latest {
            if configuration.as_ref() != Some(&view) {
                configuration = Some(view.clone());
                let _ = views.send(view).await;
            }
            for group in probe.content_groups(&address).await?.unwrap_or_default() {
                let (name, view) = content_view(group);
                if contents.get(&name) != Some(&view) {
                    contents.insert(name, view.clone());
                    let _ = views.send(view).await;
                }
            }
        }
        sleep(POLL).await;
    }
    Ok(())
}

fn steady(status: &GetStatusResponse) -> Option<View> {
    let id = status.configuration.parse().ok()?;
    let name = |daemon: &String| Some(daemon.parse::<DaemonId>().ok()?.name());
    let members = status.members.iter().filter_map(name).collect();
    (status.phase == STEADY).then_some(View::Configuration { id, members })
}

fn id_of(view: &View) -> Option<(u64, usize)> {
    match view {
        View::Configuration { id, members } => Some((id.counter(), members.len())),
        View::Content { .. } => None,
    }
}

fn content_view(group: Group) -> (String, View) {
    let unit = group.name.rsplit('/').next().unwrap_or_default().to_owned();
    let id = group.view.unwrap_or_default();
    let configuration = id.configuration.split('.').next().unwrap_or_default();
    let id = format!("{configuration}:{}", id.position);
    let servers = group.members.into_iter().map(|member| member.name).collect();
    (group.name, View::Content { unit, id, servers })
}
