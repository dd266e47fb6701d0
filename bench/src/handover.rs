//! Handover's daemons: one membership server and any number of `gcs-svc`, processes on ports that the system chooses.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use model::Address;
use proto::gcs::v1::GetStatusRequest;
use proto::gcs::v1::group_service_client::GroupServiceClient;
use svc_kit::dial::{self, Keepalive, MESSAGE_BYTES_MAX};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, Part, System};
use crate::child::{self, Child};
use crate::usage::Usage;

/// A process may be held up for seconds on a machine that others use too, and that is not what is measured.
pub const SILENCE: Duration = Duration::from_secs(20);
/// How often it is asked whether something is as it should be.
const POLL: Duration = Duration::from_millis(5);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Daemons that are together.
pub struct Cluster {
    dir: TempDir,
    /// Held, since it ends when it is dropped.
    _membership: Child,
    membership: SocketAddr,
    daemons: Vec<Daemon>,
}

struct Daemon {
    child: Child,
    address: SocketAddr,
    lives: u32,
}

impl Bed for Cluster {
    const SYSTEM: System = System::Handover;

    async fn start(daemons: usize) -> anyhow::Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("handover-bench-").tempdir()?;
        let at = TempDir::path(&dir);
        let ready = at.join("membership-1");
        let flags = ["membership-svc", "--name", "membership-1", "--listen", "127.0.0.1:0"];
        let mut command = child::myself()?;
        command.args(flags).args(["--keepalive-timeout", &silence()]).arg("--ready-file").arg(&ready);
        let mut membership_child = Child::logging(command, &ready.with_extension("log"))?;
        let membership = announced(&mut membership_child, &ready).await?;
        let mut cluster =
            Cluster { dir, _membership: membership_child, membership, daemons: Vec::with_capacity(daemons) };
        for number in 1..=daemons {
            let (child, address) = cluster.launch(number, 1, None).await?;
            cluster.daemons.push(Daemon { child, address, lives: 1 });
        }
        cluster.together().await?;
        Ok(cluster)
    }

    fn setup(&self) -> String {
        format!(
            "{} daemons and 1 membership server on the loopback interface, default settings but that connections may be \
             silent for {}; members over gRPC",
            self.daemons.len(),
            silence()
        )
    }

    fn member(&self, daemon: usize, part: Part) -> anyhow::Result<Child> {
        let mut command = self.member_command(daemon)?;
        command.args(part.args());
        Child::speaking(command)
    }

    fn usage(&self) -> anyhow::Result<Vec<Usage>> {
        self.daemons.iter().map(|daemon| daemon.child.usage()).collect()
    }

    async fn kill(&mut self, daemon: usize) -> anyhow::Result<Instant> {
        Ok(self.daemons[daemon - 1].child.kill()?)
    }

    async fn restart(&mut self, daemon: usize) -> anyhow::Result<()> {
        let Daemon { address, lives, .. } = self.daemons[daemon - 1];
        let (child, address) = self.launch(daemon, lives + 1, Some(address)).await?;
        let before =
            std::mem::replace(&mut self.daemons[daemon - 1], Daemon { child, address, lives: lives + 1 });
        before.child.end().await?;
        self.together().await
    }
}

impl Cluster {
    /// A member at a daemon, whose part is still to be said.
    pub fn member_command(&self, daemon: usize) -> anyhow::Result<Command> {
        let mut command = child::myself()?;
        command.args(["member", "--daemon", &self.daemons[daemon - 1].address.to_string()]);
        Ok(command)
    }

    /// Starts a daemon, and waits until it listens.
    async fn launch(
        &self,
        number: usize,
        life: u32,
        address: Option<SocketAddr>,
    ) -> anyhow::Result<(Child, SocketAddr)> {
        let name = format!("daemon-{number}");
        let listen = address.map_or("127.0.0.1:0".to_owned(), |address| address.to_string());
        let ready = self.dir.path().join(format!("{name}-{life}"));
        let mut command = child::myself()?;
        command
            .args(["gcs-svc", "--name", &name, "--listen", &listen])
            .args(["--membership", &self.membership.to_string(), "--keepalive-timeout", &silence()])
            .arg("--ready-file")
            .arg(&ready);
        let mut child = Child::logging(command, &ready.with_extension("log"))?;
        let address = announced(&mut child, &ready).await?;
        Ok((child, address))
    }

    /// Waits until each daemon is steady in a configuration of all.
    async fn together(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for daemon in &self.daemons {
            let address = Address::new(&daemon.address.to_string());
            let channel = dial::connect(&address, &Keepalive::default()).await?;
            let mut client = GroupServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            loop {
                let status = client.get_status(GetStatusRequest {}).await?.into_inner();
                if status.members.len() == self.daemons.len() && status.phase == "steady" {
                    break;
                }
                if Instant::now() > deadline {
                    bail!("the daemons have not come together after {} s", PATIENCE.as_secs());
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }
}

fn silence() -> String {
    format!("{}s", SILENCE.as_secs())
}

/// The address that a child puts into its ready file.
async fn announced(child: &mut Child, file: &Path) -> anyhow::Result<SocketAddr> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(text) = std::fs::read_to_string(file) {
            return text.trim().parse().context("a ready file has an address");
        }
        if child.has_ended()? || Instant::now() > deadline {
            let log = std::fs::read_to_string(file.with_extension("log")).unwrap_or_default();
            bail!("a daemon does not start: {log}");
        }
        sleep(POLL).await;
    }
}
