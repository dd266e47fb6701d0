//! A child process. It ends with its parent: its standard input is a pipe that it watches, and it is killed when its
//! [`Child`] is dropped.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use crate::usage::Usage;

/// Much longer than anything takes that a child is to say something about.
const PATIENCE: Duration = Duration::from_secs(300);

/// Ends this process as soon as its standard input ends.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        // Whether the pipe ends or fails, there is nobody at its other end.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(1);
    });
}

/// This program, as a child.
pub fn myself() -> io::Result<Command> {
    Ok(without_settings(Command::new(std::env::current_exe()?)))
}

/// This program, as a child that another one becomes.
pub fn myself_under(other: &[&str]) -> anyhow::Result<Command> {
    let (program, args) = other.split_first().context("no other program")?;
    let mut command = Command::new(program);
    command.args(args).arg(std::env::current_exe()?);
    Ok(without_settings(command))
}

fn without_settings(mut command: Command) -> Command {
    command.arg("--with-parent");
    // Settings of the user's own services are not meant for these.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HANDOVER_"))
    {
        command.env_remove(name);
    }
    command
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: tokio::process::Child,
    pid: u32,
    /// There if it speaks to us.
    lines: Option<Lines<BufReader<ChildStdout>>>,
    #[expect(dead_code, reason = "held, never used: its end is the end of the child")]
    lifeline: Option<ChildStdin>,
}

impl Child {
    /// Starts a child that speaks to us.
    pub fn speaking(mut command: Command) -> anyhow::Result<Child> {
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        Child::start(command)
    }

    /// Starts a child whose output goes to a file.
    pub fn logging(mut command: Command, log: &Path) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdout(log.try_clone()?).stderr(log);
        Child::start(command)
    }

    fn start(mut command: Command) -> anyhow::Result<Child> {
        command.stdin(Stdio::piped()).kill_on_drop(true).process_group(0);
        let name = format!("{:?}", command.as_std());
        let mut process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = process.id().context("the process has no id")?;
        let lines = process.stdout.take().map(|output| BufReader::new(output).lines());
        let lifeline = process.stdin.take();
        Ok(Child { name, process, pid, lines, lifeline })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.pid)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.process.try_wait()?.is_some())
    }

    /// The next line that it says.
    pub async fn line(&mut self) -> anyhow::Result<String> {
        let Some(lines) = &mut self.lines else { bail!("{} does not speak to us", self.name) };
        let line = timeout(PATIENCE, lines.next_line()).await;
        let line = line.with_context(|| format!("{} says nothing", self.name))??;
        line.with_context(|| format!("{} ended", self.name))
    }

    /// Waits until it says `wanted`. Returns when that was.
    pub async fn says(&mut self, wanted: &str) -> anyhow::Result<Instant> {
        while self.line().await? != wanted {}
        Ok(Instant::now())
    }

    /// All lines until it says `end`.
    pub async fn lines(&mut self) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if line == "end" {
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    /// Kills it. Returns when the signal was sent; it may be reaped later.
    pub fn kill(&mut self) -> io::Result<Instant> {
        let at = Instant::now();
        self.process.start_kill()?;
        Ok(at)
    }

    /// Kills it, and waits until nothing is left.
    pub async fn end(mut self) -> io::Result<()> {
        self.process.kill().await
    }
}
