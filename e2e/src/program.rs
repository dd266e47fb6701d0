//! A program that a test starts as a person would: with its flags, its environment and its output, line by line.

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::deadline::{DEADLINE, within};

/// A running program. It is killed when this is dropped.
pub struct Program {
    name: String,
    child: Child,
    pid: u32,
    output: Lines,
    errors: Lines,
}

/// How a program ended, and what it had to say.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// The lines of its standard output.
    pub output: Vec<String>,
    /// Its standard error.
    pub errors: String,
}

impl Program {
    /// Starts a program. No setting of the environment that the tests run in reaches it.
    pub fn start(program: impl AsRef<OsStr>, prepare: impl FnOnce(&mut Command)) -> Program {
        let mut command = Command::new(program);
        let is_setting = |name: &OsStr| name.as_encoded_bytes().starts_with(b"HANDOVER_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
            command.env_remove(name);
        }
        prepare(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let name = format!("{:?}", command.as_std());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let pid = child.id().expect("it was just started");
        let output = Lines::of(child.stdout.take().expect("it is piped"));
        let errors = Lines::of(child.stderr.take().expect("it is piped"));
        Program { name, child, pid, output, errors }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid.cast_signed()), signal).expect("it runs");
    }

    /// The lines of its output so far.
    pub fn output(&self) -> Vec<String> {
        self.output.seen.borrow().clone()
    }

    /// Waits until a line of its output is as it should be, and returns that line.
    ///
    /// # Panics
    /// If that does not happen in time, or the program ends.
    pub async fn says(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let found = |lines: &[String]| lines.iter().find(|line| is_it(line)).cloned();
        let awaited =
            tokio::time::timeout(DEADLINE, self.output.seen.wait_for(|lines| found(lines).is_some()));
        let line = match awaited.await {
            Ok(Ok(lines)) => found(&lines),
            Ok(Err(_)) | Err(_) => None,
        };
        line.unwrap_or_else(|| {
            let (output, errors) = (self.output.text(), self.errors.text());
            panic!("{} does not say {what}, but {output:?} and {errors:?}", self.name)
        })
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn end(mut self) -> Ended {
        let (name, said) = (self.name.clone(), self.output.seen.clone());
        let ended = tokio::time::timeout(2 * DEADLINE, async {
            let status = self.child.wait().await.expect("it can be waited for");
            Ended { status, output: self.output.rest().await, errors: self.errors.rest().await.join("\n") }
        });
        ended.await.unwrap_or_else(|_| panic!("{name} does not end, and said {:?}", said.borrow()))
    }
}

/// Runs a program to its end.
pub async fn run(program: impl AsRef<OsStr>, prepare: impl FnOnce(&mut Command)) -> Ended {
    Program::start(program, prepare).end().await
}

/// The lines of a stream as they come.
struct Lines {
    seen: watch::Receiver<Vec<String>>,
    reading: JoinHandle<()>,
}

impl Lines {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Lines {
        let (sender, seen) = watch::channel(Vec::new());
        let reading = tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|seen| seen.push(line));
            }
        });
        Lines { seen, reading }
    }

    fn text(&self) -> String {
        self.seen.borrow().join("\n")
    }

    /// All lines, once there are no more.
    async fn rest(&mut self) -> Vec<String> {
        within("the end of the output", &mut self.reading).await.expect("reading does not panic");
        self.seen.borrow().clone()
    }
}

/// Whether a process is running. One that has ended and that its parent has not noticed yet is not.
pub async fn is_running(pid: u32) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().await;
    let state = String::from_utf8(state.expect("ps runs").stdout).expect("ps writes text");
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}
