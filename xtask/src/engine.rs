//! A Docker engine: the one that runs on this computer, or else one that is started for the time, from Debian's packages.
//!
//! An engine of our own is enclosed in namespaces for the network, mounts and processes, together with whoever uses it. So it
//! changes nothing on the computer, and nothing of it is left when it is over, however it ends.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::steps::{install, run};

/// The argument with which this program is called inside.
pub const INSIDE: &str = "compose-inside";

const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// What an engine of our own says.
const LOG: &str = "target/engine.log";

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(30);

/// Does `work` beside an engine: the one that is there, or else in this program, called once more inside.
pub fn beside(work: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    if !runs() && !is_there("dockerd", &["--version"]) {
        install(&["docker.io", "iptables", "iproute2"])?;
    }
    if runs() {
        return work();
    }
    run(Command::new("unshare").args(NAMESPACES).arg(std::env::current_exe()?).arg(INSIDE))
        .context("an engine of our own needs root")
}

/// Inside: starts an engine, does `work`, and ends the engine.
pub fn inside(work: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    // Sockets, containers and images: in memory, and hidden from outside.
    run(Command::new("mount").args(["-t", "tmpfs", "engine", "/run"]))?;
    let mut engine = start()?;
    let done = await_start(&mut engine).and_then(|()| work());
    // With SIGTERM it ends its containers, too.
    run(Command::new("kill").arg(engine.id().to_string()))?;
    engine.wait()?;
    done
}

fn start() -> anyhow::Result<Child> {
    let log = File::create(LOG).context(LOG)?;
    let mut command = Command::new("dockerd");
    command.args(["--data-root", "/run/docker-data"]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot run dockerd")
}

fn await_start(engine: &mut Child) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_MAX;
    while !runs() {
        if engine.try_wait()?.is_some() || Instant::now() > deadline {
            bail!("dockerd does not start; {LOG} says more");
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Whether an engine answers.
fn runs() -> bool {
    is_there("docker", &["info"])
}

fn is_there(program: &str, question: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
