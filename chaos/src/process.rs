//! One process of a run: started, stopped, continued, killed, asked to end, started again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::plan::Who;
use crate::report::Report;

/// How long a service may take until it listens, or until it has ended. Much longer than it does.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look whether it listens, or has ended.
pub const LOOK: Duration = Duration::from_millis(5);

/// Where reports of group processes go.
pub type Reports = mpsc::UnboundedSender<(Who, Report)>;

/// A process, or the place of one that is not running now.
pub struct Process {
    who: Who,
    /// What it runs, wherever it is.
    command: Vec<OsString>,
    dir: PathBuf,
    reports: Reports,
    /// How often it was started.
    lives: u64,
    running: Option<Running>,
}

struct Running {
    child: Child,
    pid: Pid,
    /// It ends with this.
    input: Option<ChildStdin>,
    /// It was asked to end.
    asked: bool,
}

impl Process {
    /// A process that is not running. What it says goes to files in `dir`, and what a group process reports also to
    /// `reports`.
    pub fn new(who: Who, command: Vec<OsString>, dir: &Path, reports: Reports) -> Process {
        Process { who, command, dir: dir.to_owned(), reports, lives: 0, running: None }
    }

    /// Starts it, in a new life. A service listens when this returns.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.lives += 1;
        let log = File::options().create(true).append(true).open(self.log())?;
        let (program, arguments) = self.command.split_first().context("no command")?;
        let mut command = Command::new(program);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HANDOVER_"))
        {
            command.env_remove(name);
        }
        // Ctrl-C is meant for the runner alone.
        command.args(arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stderr(log.try_clone()?);
        let ready = self.dir.join("ready").join(format!("{}-{}", self.who, self.lives));
        match self.who {
            Who::Service(_) | Who::Content(_) | Who::Gateway(_) => {
                command.arg("--ready-file").arg(&ready).stdout(log)
            }
            Who::Member(..) => command.args(["--seed", &self.lives.to_string()]).stdout(Stdio::piped()),
        };
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.who))?;
        let pid = child.id().with_context(|| format!("{} has no id", self.who))?;
        let input = child.stdin.take();
        if let Some(output) = child.stdout.take() {
            let journal = File::options()
                .create(true)
                .append(true)
                .open(self.dir.join("members").join(format!("{}.jsonl", self.who)))?;
            tokio::spawn(listen(self.who, output, journal, self.reports.clone()));
        }
        self.running = Some(Running { child, pid: Pid::from_raw(pid.cast_signed()), input, asked: false });
        if !matches!(self.who, Who::Member(..)) {
            self.listens(&ready).await?;
        }
        Ok(())
    }

    async fn listens(&mut self, ready: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !fs::exists(ready)? {
            if let Some(death) = self.fallen()? {
                bail!(death);
            }
            if Instant::now() > deadline {
                bail!(
                    "{} does not listen after {} s; see {}",
                    self.who,
                    PATIENCE.as_secs(),
                    self.log().display()
                );
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// What it says for people.
    fn log(&self) -> PathBuf {
        self.dir.join("logs").join(format!("{}.log", self.who))
    }

    /// How it ended, if it did by itself since it was started.
    pub fn fallen(&mut self) -> anyhow::Result<Option<String>> {
        let Some(running) = self.running.as_mut().filter(|it| !it.asked) else { return Ok(None) };
        let Some(status) = running.child.try_wait()? else { return Ok(None) };
        self.running = None;
        Ok(Some(format!("{} ended by itself ({status}); see {}", self.who, self.log().display())))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        if let Some(running) = &self.running {
            kill(running.pid, signal).with_context(|| format!("cannot send {signal} to {}", self.who))?;
        }
        Ok(())
    }

    /// Tells a group process something.
    pub async fn tell(&mut self, order: &str) -> anyhow::Result<()> {
        if let Some(Running { input: Some(input), .. }) = &mut self.running {
            input.write_all(format!("{order}\n").as_bytes()).await?;
        }
        Ok(())
    }

    /// Kills it, and waits until it is gone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut running) = self.running.take() {
            running.child.kill().await?;
        }
        Ok(())
    }

    /// Asks it to end.
    pub fn ask_to_end(&mut self) -> anyhow::Result<()> {
        match (self.who, &mut self.running) {
            (Who::Member(..), Some(running)) => drop(running.input.take()),
            (Who::Service(_) | Who::Content(_) | Who::Gateway(_), Some(running)) if !running.asked => {
                self.signal(Signal::SIGTERM)?;
            }
            _ => {}
        }
        if let Some(running) = &mut self.running {
            running.asked = true;
        }
        Ok(())
    }

    /// How it ended, if it was asked to and has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(running) = self.running.as_mut().filter(|it| it.asked) else { return Ok(None) };
        let status = running.child.try_wait()?;
        if status.is_some() {
            self.running = None;
        }
        Ok(status)
    }

    /// Asks it to end, unless it was asked before, and waits until it has.
    pub async fn end(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.ask_to_end()?;
        let Some(Running { mut child, input: _input, .. }) = self.running.take() else { return Ok(None) };
        let ended = timeout(PATIENCE, child.wait()).await;
        ended.with_context(|| format!("{} does not end", self.who))?.map(Some).map_err(Into::into)
    }
}

/// Hands on what a group process reports, and keeps it for people.
async fn listen(who: Who, output: ChildStdout, mut journal: File, reports: Reports) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Err(error) = std::io::Write::write_all(&mut journal, format!("{line}\n").as_bytes()) {
            eprintln!("the journal of {who} cannot be written: {error}");
        }
        // Half a line is the last word of a process that was killed.
        if let Ok(report) = serde_json::from_str(&line) {
            // Whoever does not listen any more has seen enough.
            drop(reports.send((who, report)));
        }
    }
}
