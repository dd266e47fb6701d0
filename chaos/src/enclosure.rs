//! Where a run happens: in namespaces of its own for the network, mounts and processes.
//!
//! What is in there cannot disturb the computer, and nothing of it is left when the run ends, however it ends: the
//! runner is the first process in there, the system kills all others when it is gone, and kills the runner when the
//! program that was started outside is killed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, bail};

const PROGRAM: &str = "unshare";
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Tools that a run needs, and what shows that they are there.
const TOOLS: [(&str, &str); 4] = [("ip", "-V"), ("tc", "-V"), ("nft", "--version"), (PROGRAM, "--version")];

/// Fails if a run is not possible here.
pub fn check() -> anyhow::Result<()> {
    for (tool, question) in TOOLS {
        let answer = Command::new(tool).arg(question).output();
        answer.with_context(|| format!("{tool} is missing; on Debian: apt-get install iproute2 nftables"))?;
    }
    let trial = Command::new(PROGRAM).args(NAMESPACES).arg("true").output()?;
    if !trial.status.success() {
        let reason = String::from_utf8_lossy(&trial.stderr);
        bail!(
            "no namespaces to be had ({}): run this as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN, or with `--on \
             processes`, which cuts no network",
            reason.trim()
        );
    }
    Ok(())
}

/// Becomes this program once more, with other arguments, inside. Returns only if that is not possible.
pub fn enter(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Error {
    let handover = match std::env::current_exe() {
        Ok(handover) => handover,
        Err(error) => return error.into(),
    };
    let error = Command::new(PROGRAM).args(NAMESPACES).arg(handover).args(arguments).exec();
    anyhow::Error::from(error).context("cannot run unshare")
}

/// Inside: hides where the computer keeps its own named namespaces.
pub fn furnish() -> anyhow::Result<()> {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "chaos", "/run"]).output();
    let mounted = mounted.context("cannot run mount")?;
    if !mounted.status.success() {
        bail!("cannot mount /run: {}", String::from_utf8_lossy(&mounted.stderr).trim());
    }
    Ok(())
}
