//! Corosync's daemons: each in a network namespace of its own with a private `/run`, joined by a bridge in one more
//! namespace, so that nothing of the host's network is touched. The member is `peers/cpg.c`, compiled when it is
//! needed.
//!
//! Needs root, and `apt-get install corosync libcpg-dev gcc iproute2`.

use std::fmt::Write as _;
use std::fs;
use std::process::Command as Blocking;
use std::time::Duration;

use anyhow::{bail, ensure};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, Part, System};
use crate::child::Child;
use crate::namespaces::{Namespaces, address, succeeds};
use crate::usage::Usage;

const MEMBER_SOURCE: &str = include_str!("../peers/cpg.c");
const POLL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

/// How a daemon starts in its namespace: everything that it shares with others of its kind is its own.
const LAUNCH: &str = "mount --make-rprivate / && mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs /run && \
    mount -t tmpfs tmpfs /var/lib/corosync && mkdir /run/corosync && mount --bind \"$0\" /etc/corosync && \
    exec corosync -f";

/// Why there is no Corosync to measure.
pub fn missing() -> Option<String> {
    let tools = [("corosync", "-v"), ("gcc", "--version"), ("ip", "-V"), ("nsenter", "-V")];
    let there = |(tool, flag): &(&str, &str)| Blocking::new(tool).arg(flag).output().is_ok();
    if let Some((tool, _)) = tools.iter().find(|tool| !there(tool)) {
        return Some(format!("`{tool}` is missing; `apt-get install corosync libcpg-dev gcc iproute2`"));
    }
    (!nix::unistd::geteuid().is_root()).then(|| "network namespaces need root".to_owned())
}

/// Daemons that are together.
pub struct Cluster {
    dir: TempDir,
    namespaces: Namespaces,
    daemons: Vec<Child>,
}

impl Bed for Cluster {
    const SYSTEM: System = System::Corosync;

    async fn start(daemons: usize) -> anyhow::Result<Cluster> {
        if let Some(reason) = missing() {
            bail!("Corosync cannot be measured: {reason}");
        }
        let dir = tempfile::Builder::new().prefix("corosync-bench-").tempdir()?;
        let source = dir.path().join("cpg.c");
        fs::write(&source, MEMBER_SOURCE)?;
        let program = dir.path().join("cpg");
        succeeds(Blocking::new("gcc").arg("-O2").arg("-o").arg(&program).arg(&source).arg("-lcpg"))?;
        let namespaces = Namespaces::create(daemons)?;
        let mut cluster = Cluster { dir, namespaces, daemons: Vec::new() };
        for number in 1..=daemons {
            let daemon = cluster.launch(number, daemons)?;
            cluster.daemons.push(daemon);
        }
        cluster.together().await?;
        Ok(cluster)
    }

    fn setup(&self) -> String {
        format!(
            "{} daemons in network namespaces, knet with default settings but no encryption and no real-time \
             scheduling; members over shared memory",
            self.daemons.len()
        )
    }

    fn member(&self, daemon: usize, part: Part) -> anyhow::Result<Child> {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--target", &self.daemons[daemon - 1].pid().to_string(), "--"]);
        command.arg(self.dir.path().join("cpg")).args(part.args());
        Child::speaking(command)
    }

    fn usage(&self) -> anyhow::Result<Vec<Usage>> {
        self.daemons.iter().map(Child::usage).collect()
    }

    async fn kill(&mut self, daemon: usize) -> anyhow::Result<Instant> {
        Ok(self.daemons[daemon - 1].kill()?)
    }

    async fn restart(&mut self, daemon: usize) -> anyhow::Result<()> {
        let child = self.launch(daemon, self.daemons.len())?;
        std::mem::replace(&mut self.daemons[daemon - 1], child).end().await?;
        self.together().await
    }
}

impl Cluster {
    fn launch(&self, number: usize, daemons: usize) -> anyhow::Result<Child> {
        let etc = self.dir.path().join(format!("etc-{number}"));
        fs::create_dir_all(etc.join("uidgid.d"))?;
        fs::write(etc.join("corosync.conf"), configuration(daemons)?)?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespaces.name(number), "sh", "-c", LAUNCH]).arg(&etc);
        Child::logging(command, &self.dir.path().join(format!("{number}.log")))
    }

    /// Waits until each daemon sees all.
    async fn together(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let wanted = format!("{}", self.daemons.len());
        for daemon in &mut self.daemons {
            let pid = daemon.pid().to_string();
            while nodes_seen(&pid).as_ref() != Some(&wanted) {
                ensure!(
                    !daemon.has_ended()?,
                    "corosync does not start; see its log in {}",
                    self.dir.path().display()
                );
                ensure!(Instant::now() < deadline, "Corosync's daemons have not come together");
                sleep(POLL).await;
            }
        }
        Ok(())
    }
}

/// How many daemons the one with this process id sees.
fn nodes_seen(pid: &str) -> Option<String> {
    let args = ["--mount", "--net", "--target", pid, "--", "corosync-quorumtool", "-s"];
    let said = Blocking::new("nsenter").args(args).output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    Some(said.lines().find_map(|line| line.strip_prefix("Nodes:"))?.trim().to_owned())
}

/// The settings that have no default, and those that `setup` names.
fn configuration(daemons: usize) -> anyhow::Result<String> {
    let mut text = String::from(
        "totem {\n version: 2\n cluster_name: bench\n transport: knet\n crypto_cipher: none\n crypto_hash: none\n}\n\
         system {\n sched_rr: no\n}\n\
         logging {\n to_stderr: yes\n to_syslog: no\n}\n\
         quorum {\n provider: corosync_votequorum\n}\n\
         nodelist {\n",
    );
    for number in 1..=daemons {
        let address = address(number);
        writeln!(text, " node {{\n  name: n{number}\n  nodeid: {number}\n  ring0_addr: {address}\n }}")?;
    }
    text.push_str("}\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_daemon_is_in_the_configuration() {
        let text = configuration(3).unwrap();
        assert_eq!(text.matches("ring0_addr").count(), 3);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
