//! What is done to the cluster while films play, one thing after the other, and what it may look like to viewers.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use tokio::time::{sleep, timeout};

use super::cluster::Cluster;
use crate::viewers::{Moment, Viewers};

/// A drill. They are done in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drill {
    /// A content server crashes; the engine starts it again
    Server,
    /// A content server and its daemon crash; the engine starts them again
    Machine,
    /// A content server stands still for a while
    PausedServer,
    /// A machine stands still for a while
    PausedMachine,
    /// A machine is off the network for a while
    CutMachine,
    /// A gateway is off the network of the cluster for a while, and its clients still reach it
    CutGateway,
    /// A gateway crashes; the engine starts it again
    Gateway,
    /// A membership server is stopped, and while it is down a machine crashes
    Membership,
    /// A machine is taken out of the cluster in order, and brought in again
    StopStart,
    /// A fifth machine comes and goes
    Scale,
    /// Everything is restarted, machine by machine, server by server
    Rolling,
}

/// How long whoever is paused or cut off stays so, and longer if nobody has noticed by then.
const AWAY: Duration = Duration::from_secs(6);

/// How soon viewers have to notice. The longest is 13 s: a gateway finds all daemons out of reach after 3 s, and waits 10 s
/// for a server before it tells clients to try elsewhere.
const NOTICE_MAX: Duration = Duration::from_secs(60);

/// How often to look for somebody who has something to do.
const LOOK: Duration = Duration::from_millis(200);

impl Drill {
    /// What it is called in the report.
    pub fn title(self) -> &'static str {
        match self {
            Drill::Server => "content server killed",
            Drill::Machine => "machine killed",
            Drill::PausedServer => "content server paused",
            Drill::PausedMachine => "machine paused",
            Drill::CutMachine => "machine off the network",
            Drill::CutGateway => "gateway off the network",
            Drill::Gateway => "gateway killed",
            Drill::Membership => "membership server down, machine killed",
            Drill::StopStart => "machine stopped and started",
            Drill::Scale => "a fifth machine, and back",
            Drill::Rolling => "rolling restart of everything",
        }
    }

    /// What has to be seen of it; a drill of which nobody notices anything was none.
    pub fn mark(self) -> Option<Moment> {
        match self {
            Drill::Server
            | Drill::Machine
            | Drill::PausedServer
            | Drill::PausedMachine
            | Drill::CutMachine
            | Drill::Membership
            | Drill::StopStart
            | Drill::Rolling => Some(Moment::Takeover),
            Drill::CutGateway | Drill::Gateway => Some(Moment::Gateway),
            Drill::Scale => None,
        }
    }

    /// Does it, and waits until the cluster is well again.
    pub async fn perform(self, cluster: &Cluster, viewers: &Viewers) -> anyhow::Result<()> {
        match self {
            Drill::Server => cluster.kill(&[server(busiest(cluster).await?)]).await?,
            Drill::Machine => cluster.kill(&machine(busiest(cluster).await?)).await?,
            Drill::PausedServer => self.pause(&[server(busiest(cluster).await?)], cluster, viewers).await?,
            Drill::PausedMachine => self.pause(&machine(busiest(cluster).await?), cluster, viewers).await?,
            Drill::CutMachine => self.cut(&machine(busiest(cluster).await?), cluster, viewers).await?,
            Drill::CutGateway => self.cut(&[busiest_gateway(cluster).await?], cluster, viewers).await?,
            Drill::Gateway => cluster.kill(&[busiest_gateway(cluster).await?]).await?,
            Drill::Membership => {
                cluster.docker(&["stop"], "membership-1").await?;
                let victims = machine(busiest(cluster).await?);
                cluster.kill(&victims).await?;
                sleep(AWAY).await;
                cluster.docker(&["start"], "membership-1").await?;
            }
            Drill::StopStart => {
                let victims = machine(busiest(cluster).await?);
                stop(cluster, &victims).await?;
                start(cluster, &victims).await?;
            }
            Drill::Scale => scale(cluster).await?,
            Drill::Rolling => rolling(cluster).await?,
        }
        cluster.well().await
    }

    async fn pause(self, services: &[String], cluster: &Cluster, viewers: &Viewers) -> anyhow::Result<()> {
        let begun = Instant::now();
        for service in services {
            cluster.docker(&["pause"], service).await?;
        }
        let missed = self.away(viewers, begun).await;
        for service in services {
            cluster.docker(&["unpause"], service).await?;
        }
        missed
    }

    async fn cut(self, services: &[String], cluster: &Cluster, viewers: &Viewers) -> anyhow::Result<()> {
        let begun = Instant::now();
        for service in services {
            cluster.disconnect(service).await?;
        }
        let missed = self.away(viewers, begun).await;
        for service in services {
            cluster.connect(service).await?;
        }
        missed
    }

    /// Whoever is back before anybody has missed them was not away.
    async fn away(self, viewers: &Viewers, begun: Instant) -> anyhow::Result<()> {
        sleep(AWAY).await;
        match self.mark() {
            Some(mark) => {
                timeout(NOTICE_MAX, viewers.notice(mark, begun)).await.context("nobody noticed anything")
            }
            None => Ok(()),
        }
    }
}

fn server(number: usize) -> String {
    format!("server-{number}")
}

/// The processes of a machine, in the order in which they are stopped.
fn machine(number: usize) -> [String; 2] {
    [server(number), format!("machine-{number}")]
}

/// The machine that serves the most sessions, once any does.
async fn busiest(cluster: &Cluster) -> anyhow::Result<usize> {
    loop {
        if let Some(machine) = cluster.status().await?.busiest() {
            return Ok(machine);
        }
        sleep(LOOK).await;
    }
}

/// The gateway with the most clients, once there are any: those who had to leave one come back to it with the next film.
async fn busiest_gateway(cluster: &Cluster) -> anyhow::Result<String> {
    loop {
        if let Some(gateway) = cluster.status().await?.busiest_gateway() {
            return Ok(gateway.to_owned());
        }
        sleep(LOOK).await;
    }
}

/// Stops processes one after the other, each of which has to hand over what it has in time.
async fn stop(cluster: &Cluster, services: &[String]) -> anyhow::Result<()> {
    for service in services {
        cluster.docker(&["stop"], service).await?;
        let code = cluster.exit_code(service).await?;
        if code != "0" {
            bail!("{service}, asked to end, ended with {code}");
        }
    }
    Ok(())
}

async fn start(cluster: &Cluster, services: &[String]) -> anyhow::Result<()> {
    for service in services {
        cluster.docker(&["start"], service).await?;
    }
    Ok(())
}

async fn scale(cluster: &Cluster) -> anyhow::Result<()> {
    let fifth = machine(5);
    cluster.compose(&["--profile", "fifth", "up", "--detach", &fifth[0], &fifth[1]]).await?;
    cluster.well().await.context("with a fifth machine")?;
    stop(cluster, &fifth).await?;
    cluster.compose(&["--profile", "fifth", "rm", "--force", &fifth[0], &fifth[1]]).await.map(drop)
}

async fn rolling(cluster: &Cluster) -> anyhow::Result<()> {
    let machines = (1..=4).map(|number| machine(number).to_vec());
    let single = ["membership-1", "membership-2", "membership-3", "gateway-1", "gateway-2"];
    for services in machines.chain(single.map(|it| vec![it.to_owned()])) {
        stop(cluster, &services).await?;
        start(cluster, &services).await?;
        cluster.well().await.with_context(|| format!("after a restart of {services:?}"))?;
    }
    Ok(())
}
