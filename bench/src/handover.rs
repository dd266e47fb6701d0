//! Handover's daemons: one membership server and any number of `gcs-svc`, processes on ports that the system chooses.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use detector::Profile;
use model::Address;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::gcs::v1::GetStatusRequest;
use proto::gcs::v1::group_service_client::GroupServiceClient;
use svc_kit::dial::{MESSAGE_BYTES_MAX, Wire};
use svc_kit::tls::Role;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, Part, System};
use crate::child::{self, Child};
use crate::namespaces::{self, Namespaces};
use crate::usage::Usage;

/// A process may be held up for seconds on a machine that others use too, and that is not what is measured.
pub const SILENCE: Duration = Duration::from_secs(20);
/// How often it is asked whether something is as it should be.
const POLL: Duration = Duration::from_millis(5);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How daemons are set up.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// How they judge silence.
    pub profile: Profile,
    /// Whether each has a network namespace of its own. That takes root.
    pub apart: bool,
}

/// Daemons that are together.
pub struct Cluster {
    dir: TempDir,
    setting: Setting,
    /// The membership server has the one after those of the daemons.
    namespaces: Option<Namespaces>,
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
        let cluster = Cluster::launch_all(daemons, Setting { profile: Profile::Wan, apart: false }).await?;
        cluster.together().await?;
        Ok(cluster)
    }

    fn setup(&self) -> String {
        format!(
            "{} daemons and 1 membership server on the loopback interface, default settings but that silence is \
             judged as by the profile wan and connections may be silent for {}; members over gRPC",
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
    /// Starts daemons. They may not be together yet.
    pub async fn launch_all(daemons: usize, setting: Setting) -> anyhow::Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("handover-bench-").tempdir()?;
        let at = TempDir::path(&dir);
        let ready = at.join("membership-1");
        let namespaces = if setting.apart { Some(Namespaces::create(daemons + 1)?) } else { None };
        let listen = listening(namespaces.as_ref(), daemons + 1);
        let mut command = child_in(namespaces.as_ref(), daemons + 1)?;
        command.args(["membership-svc", "--name", "membership-1", "--listen", &listen]);
        command.args(flags(setting)).arg("--ready-file").arg(&ready);
        let mut child = Child::logging(command, &ready.with_extension("log"))?;
        let membership = announced(&mut child, &ready).await?;
        let (daemons_max, daemons) = (daemons, Vec::with_capacity(daemons));
        let mut cluster = Cluster { dir, setting, namespaces, _membership: child, membership, daemons };
        for number in 1..=daemons_max {
            let (child, address) = cluster.launch(number, 1, None).await?;
            cluster.daemons.push(Daemon { child, address, lives: 1 });
        }
        Ok(cluster)
    }

    /// Stops a daemon, which does not know of it. Returns when that was.
    pub fn stop(&self, daemon: usize) -> anyhow::Result<Instant> {
        let (pid, at) = (i32::try_from(self.daemons[daemon - 1].child.pid())?, Instant::now());
        kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
        Ok(at)
    }

    /// Cuts a daemon off from others and, if that is said, from the membership server. Returns when that was.
    pub fn cut(&self, daemon: usize, others: &[usize], from_membership: bool) -> anyhow::Result<Instant> {
        let namespaces = self.namespaces.as_ref().context("daemons are not apart")?;
        let membership = from_membership.then_some(self.daemons.len() + 1);
        // The rules are set one after the other; what is measured begins before the first.
        let at = Instant::now();
        namespaces.cut(daemon, others.iter().copied().chain(membership))?;
        Ok(at)
    }

    /// How often daemons and the membership server took somebody for silent so far.
    pub fn suspicions(&self) -> anyhow::Result<usize> {
        const SAID: [&str; 3] =
            ["breaking a silent link", "the server has been silent", "the other end has been silent"];
        let mut count = 0;
        for entry in std::fs::read_dir(self.dir.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read_to_string(&path)?;
                count += log.lines().filter(|line| SAID.iter().any(|said| line.contains(said))).count();
            }
        }
        Ok(count)
    }

    /// A member at a daemon, whose part is still to be said.
    pub fn member_command(&self, daemon: usize) -> anyhow::Result<Command> {
        let mut command = child_in(self.namespaces.as_ref(), daemon)?;
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
        let fresh = || listening(self.namespaces.as_ref(), number);
        let listen = address.map_or_else(fresh, |address| address.to_string());
        let ready = self.dir.path().join(format!("{name}-{life}"));
        let mut command = child_in(self.namespaces.as_ref(), number)?;
        command
            .args(["gcs-svc", "--name", &name, "--listen", &listen])
            .args(["--membership", &self.membership.to_string()])
            .args(flags(self.setting))
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
            let channel = Wire::default().connect(&address, Role::Machine).await?;
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

/// What every process of a setting is told.
fn flags(setting: Setting) -> [String; 4] {
    ["--detection-profile".into(), setting.profile.to_string(), "--keepalive-timeout".into(), silence()]
}

/// A child of the namespace of this number, if there are any.
fn child_in(namespaces: Option<&Namespaces>, number: usize) -> anyhow::Result<Command> {
    Ok(match namespaces {
        None => child::myself()?,
        Some(namespaces) => child::myself_under(&["ip", "netns", "exec", &namespaces.name(number)])?,
    })
}

/// Where it listens.
fn listening(namespaces: Option<&Namespaces>, number: usize) -> String {
    match namespaces {
        None => "127.0.0.1:0".to_owned(),
        Some(_) => format!("{}:7400", namespaces::address(number)),
    }
}

fn silence() -> String {
    format!("{}s", SILENCE.as_secs())
}

/// The address that a child puts into its ready file.
pub async fn announced(child: &mut Child, file: &Path) -> anyhow::Result<SocketAddr> {
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
