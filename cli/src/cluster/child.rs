//! One child process: a service that this very program runs as a subcommand, or a program of its own.
//!
//! Three things keep a child from outliving its parent. It is killed when its [`Child`] is dropped, which covers
//! errors and panics. Its standard input is a pipe that it watches (`--with-parent`), which covers a parent that is
//! killed. And it is in a process group of its own, so that Ctrl-C in a terminal reaches the parent alone, which then
//! stops its children in good order.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use model::{Address, Name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{ChildStdin, Command};
use tokio::time::{Instant, timeout};

use super::layout::Service;

/// How long a child may take until it listens. Much longer than it does, even on a busy machine.
const START_MAX: Duration = Duration::from_secs(30);

/// How often the parent looks whether the child listens.
const START_POLL: Duration = Duration::from_millis(2);

/// How many of the last lines of its log tell what became of a child.
const TAIL_LINES: usize = 20;

/// As many bytes of a log hold that many lines.
const TAIL_BYTES: u64 = 16 * 1024;

/// What a child runs.
#[derive(Clone, Debug)]
pub(super) enum Program {
    /// The `handover` binary, with the subcommand of the service.
    Handover(PathBuf),
    /// A program that is this service and nothing else.
    Own(PathBuf),
}

/// What a child is started with.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) name: Name,
    pub(super) service: Service,
    pub(super) program: Program,
    /// The directory of the cluster: logs and ready files are in it.
    pub(super) dir: PathBuf,
    /// How it writes its log: `text` or `json`.
    pub(super) log_format: &'static str,
    pub(super) flags: Vec<String>,
    /// In its environment: settings that are not for everybody who can list processes, among others.
    pub(super) variables: Vec<(String, String)>,
}

impl Spec {
    /// What is said if it cannot be started.
    fn failure(&self) -> String {
        let (Program::Handover(exe) | Program::Own(exe)) = &self.program;
        let found = match exe.components().count() {
            1 => ", which is looked up on PATH, for there is no slash in it",
            _ => "",
        };
        format!("cannot start {}: it runs {}{found}", self.name, exe.display())
    }
}

/// A child process, or the place of one that is not running now.
#[derive(Debug)]
pub(super) struct Child {
    spec: Spec,
    /// How often it was started.
    lives: u32,
    /// Where it listens: chosen by the system in its first life, and the same in later ones, since others know it.
    address: Option<Address>,
    /// Likewise, where its metrics are.
    ops: Option<Address>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: tokio::process::Child,
    pid: u32,
    /// Its end is the end of the child.
    #[allow(dead_code, reason = "held, never used")]
    lifeline: Option<ChildStdin>,
}

/// A child that ended without being asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Its name.
    pub name: Name,
    /// How it ended.
    pub status: ExitStatus,
    /// The last lines of its log.
    pub last_lines: String,
    /// All of its log.
    pub log: PathBuf,
}

impl Death {
    /// Whether somebody killed it with SIGKILL, which no process does to itself.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::SIGKILL as i32)
    }
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} ended by itself ({}); the last lines of {}:",
            self.name,
            self.status,
            self.log.display()
        )?;
        for line in self.last_lines.lines() {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Death {}

impl Child {
    pub(super) fn new(spec: Spec) -> Child {
        Child { spec, lives: 0, address: None, ops: None, running: None }
    }

    pub(super) fn service(&self) -> Service {
        self.spec.service
    }

    /// Gives `flag` another value, from its next life on.
    pub(super) fn set_flag(&mut self, flag: &str, value: &str) {
        let given = self.spec.flags.iter().position(|it| it == flag);
        if let Some(old) = given.and_then(|at| self.spec.flags.get_mut(at + 1)) {
            value.clone_into(old);
        }
    }

    /// Where it listens, or last did.
    pub(super) fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// Where its metrics and its health are, or last were.
    pub(super) fn ops(&self) -> Option<&Address> {
        self.ops.as_ref()
    }

    /// Its process id while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.pid)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.spec.dir.join("logs").join(format!("{}.log", self.spec.name))
    }

    /// Starts it, in a new life, and waits until it listens.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        assert!(self.running.is_none(), "{} runs already", self.spec.name);
        self.lives += 1;
        let ready = self.spec.dir.join("ready").join(format!("{}-{}", self.spec.name, self.lives));
        let mut running = self.spawn(&ready).with_context(|| self.spec.failure())?;
        let deadline = Instant::now() + START_MAX;
        let address = loop {
            if let Ok(text) = fs::read_to_string(&ready) {
                break Address::new(text.trim());
            }
            if let Ok(status) = timeout(START_POLL, running.process.wait()).await {
                return Err(self.death(status?).into());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} does not listen after {} s; see {}",
                    self.spec.name,
                    START_MAX.as_secs(),
                    self.log().display()
                );
            }
        };
        let ops = fs::read_to_string(ops_file(&ready)).ok();
        self.ops = ops.map(|text| Address::new(text.trim())).or(self.ops.take());
        self.address = Some(address);
        self.running = Some(running);
        Ok(())
    }

    fn spawn(&self, ready: &Path) -> io::Result<Running> {
        let log = self.log();
        let output = File::options().create(true).append(true).open(log)?;
        let [listen, ops] =
            [&self.address, &self.ops].map(|known| known.as_ref().map_or("127.0.0.1:0", Address::as_str));
        let (Program::Handover(exe) | Program::Own(exe)) = &self.spec.program;
        let mut command = Command::new(exe);
        command.arg("--with-parent");
        if let Program::Handover(_) = self.spec.program {
            command.arg(self.spec.service.subcommand());
        }
        command
            .args(["--log-format", self.spec.log_format])
            .args(["--name", self.spec.name.as_str(), "--listen", listen])
            .arg("--ready-file")
            .arg(ready)
            .args(["--ops-listen", ops, "--ops-ready-file"])
            .arg(ops_file(ready))
            .args(&self.spec.flags)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        // Settings of the user's own services are not meant for these.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HANDOVER_"))
        {
            command.env_remove(name);
        }
        command.envs(self.spec.variables.iter().map(|(name, value)| (name, value)));
        let mut process = command.spawn()?;
        let pid = process.id().ok_or_else(|| io::Error::other("the process has no id"))?;
        // Waiting for a process closes its standard input, unless somebody else holds it.
        let lifeline = process.stdin.take();
        Ok(Running { process, pid, lifeline })
    }

    /// Sends SIGKILL. The process is gone for everybody when this returns; [`Child::reap`] removes what is left.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        match &mut self.running {
            Some(running) => running.process.start_kill(),
            None => Ok(()),
        }
    }

    /// Waits for the end of a process that was killed.
    pub(super) async fn reap(&mut self) -> io::Result<()> {
        if let Some(mut running) = self.running.take() {
            running.process.wait().await?;
        }
        Ok(())
    }

    /// Asks it to drain and end, and kills it if that takes longer than `patience`. Returns how it ended.
    pub(super) async fn stop(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let Some(mut running) = self.running.take() else { return Ok(None) };
        // It was not waited for, so its id is its own still.
        kill(Pid::from_raw(running.pid.cast_signed()), Signal::SIGTERM)?;
        match timeout(patience, running.process.wait()).await {
            Ok(status) => Ok(Some(status?)),
            Err(_) => {
                running.process.kill().await?;
                Ok(None)
            }
        }
    }

    /// Waits until it ends. Never returns while it is not running. If this future is dropped, nothing is lost.
    pub(super) async fn died(&mut self) -> io::Result<Death> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let status = running.process.wait().await?;
        // No waiting from here on: who drops this future now would never hear of it.
        self.running = None;
        Ok(self.death(status))
    }

    /// How it ended, and what it said before.
    pub(super) fn death(&self, status: ExitStatus) -> Death {
        let log = self.log();
        let last_lines = tail(&log).unwrap_or_else(|error| format!("(cannot read it: {error})"));
        Death { name: self.spec.name, status, last_lines, log }
    }
}

/// Where a child says where its metrics are, beside its ready file, and before it.
fn ops_file(ready: &Path) -> PathBuf {
    ready.with_extension("ops")
}

/// The last lines of a file.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    Ok(lines.get(from..).unwrap_or_default().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Puts what it is told to listen on into its ready file, and goes on as `then` says.
    fn fake(dir: &Path, then: &str) -> Child {
        let script = format!(
            "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --listen) listen=$2;; --ready-file) ready=$2;; esac; shift; \
             done\necho \"I am told $listen\"\n{then}\n"
        );
        let (text, exe) = (dir.join("fake.sh"), dir.join("fake"));
        fs::write(&text, script).unwrap();
        // Another process writes what is run: whatever a test beside this one starts meanwhile might hold a file of ours
        // open, and what is open for writing cannot be run.
        let installed =
            std::process::Command::new("install").args(["-m", "755"]).args([&text, &exe]).status();
        assert!(installed.unwrap().success());
        for part in ["logs", "ready"] {
            fs::create_dir(dir.join(part)).unwrap();
        }
        let (name, service, dir) = ("fake-1".parse().unwrap(), Service::Server, dir.to_owned());
        Child::new(Spec {
            name,
            service,
            program: Program::Handover(exe),
            dir,
            log_format: "text",
            flags: Vec::new(),
            variables: Vec::new(),
        })
    }

    const LISTEN: &str = "echo 127.0.0.1:4242 > $ready.draft; mv $ready.draft $ready; cat; exit 3";

    #[tokio::test]
    async fn a_death_is_told_even_if_nobody_listens_at_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = fake(dir.path(), LISTEN);
        child.start().await.unwrap();
        assert_eq!(child.address(), Some(&Address::new("127.0.0.1:4242")));
        child.running.as_mut().unwrap().lifeline = None;
        let deadline = Instant::now() + PATIENCE;
        let death = loop {
            if let Ok(death) = timeout(Duration::from_micros(100), child.died()).await {
                break death.unwrap();
            }
            assert!(Instant::now() < deadline, "its death is never told");
        };
        assert_eq!((death.status.code(), death.was_killed()), (Some(3), false));
        assert_eq!(death.last_lines, "I am told 127.0.0.1:0");
        assert_eq!(child.pid(), None);
    }

    #[tokio::test]
    async fn who_comes_back_keeps_its_address() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = fake(dir.path(), LISTEN);
        child.start().await.unwrap();
        let first = child.pid();
        child.kill().unwrap();
        child.reap().await.unwrap();
        assert_eq!((child.pid(), child.address().is_some()), (None, true));
        child.start().await.unwrap();
        assert_ne!(child.pid(), first);
        assert_eq!(tail(&child.log()).unwrap(), "I am told 127.0.0.1:0\nI am told 127.0.0.1:4242");
    }

    #[tokio::test]
    async fn who_ends_before_it_listens_is_an_error_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = fake(dir.path(), "echo no luck >&2; exit 7").start().await.unwrap_err().to_string();
        for part in ["fake-1", "exit status: 7", "no luck"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = fake(dir.path(), LISTEN);
        for (program, said) in [
            ("no/such", "cannot start fake-1: it runs no/such: No such file"),
            (
                "nosuch",
                "it runs nosuch, which is looked up on PATH, for there is no slash in it: No such file",
            ),
        ] {
            child.spec.program = Program::Own(program.into());
            let error = format!("{:#}", child.start().await.unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for (lines, first) in [(0, None), (3, Some("line 1")), (5000, Some("line 4981"))] {
            let text: String = (1..=lines).map(|n| format!("line {n}\n")).collect();
            fs::write(&path, text).unwrap();
            let tail = tail(&path).unwrap();
            assert_eq!(tail.lines().next(), first, "{lines}");
            assert!(tail.lines().count() <= TAIL_LINES);
        }
    }
}
