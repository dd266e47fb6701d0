//! The state file of a running cluster: how a command in another terminal finds it.
//!
//! Each cluster has a directory of its own, `$XDG_STATE_HOME/handover/NAME` (without that variable
//! `~/.local/state/handover/NAME`, without a home `./.handover/NAME`). Whoever runs the cluster holds a lock in it for
//! as long as it lives, so that what a dead one left behind is never mistaken for a cluster.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use model::{Address, Name};
use serde::{Deserialize, Serialize};

use super::layout::Service;

const LOCK: &str = "lock";
const STATE: &str = "cluster.json";
const CURSOR_KEY: &str = "cursor.key";

/// A running cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its name, which every one of its processes is given.
    pub cluster: Name,
    /// The process that runs it.
    pub pid: u32,
    /// How many machines hold each unit.
    pub replicas: usize,
    /// Its processes, in the order in which they were started.
    pub processes: Vec<Process>,
}

/// A process of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub service: Service,
    /// The machine that it belongs to, for daemons and servers.
    pub machine: Option<Name>,
    /// Its process id; nothing while it is not running.
    pub pid: Option<u32>,
    /// Where it listens.
    pub address: Option<Address>,
    /// Where its metrics and its health are, over HTTP.
    pub ops: Option<Address>,
    /// Its log.
    pub log: PathBuf,
    /// The directory of its films, for servers.
    pub content: Option<PathBuf>,
}

impl State {
    /// The process called `name`.
    pub fn process(&self, name: Name) -> Option<&Process> {
        self.processes.iter().find(|process| process.name == name)
    }

    /// The processes of a kind.
    pub fn all(&self, service: Service) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(move |process| process.service == service)
    }

    /// The addresses of those processes of a kind that are running.
    pub fn addresses(&self, service: Service) -> Vec<Address> {
        let running = self.all(service).filter(|process| process.pid.is_some());
        running.filter_map(|process| process.address.clone()).collect()
    }
}

/// The directory of a cluster, held by whoever runs it.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    cursor_key: String,
    _lock: File,
}

impl Home {
    /// Takes `dir`, which is made if need be, and empties it of what an earlier cluster left.
    ///
    /// # Errors
    /// If a cluster is running there.
    pub fn take(dir: &Path) -> anyhow::Result<Home> {
        let made = fs::create_dir_all(dir);
        made.with_context(|| {
            format!("cannot make {}; set XDG_STATE_HOME to a directory of yours", dir.display())
        })?;
        let lock = File::create(dir.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "a cluster is running in {} already; stop it, or choose another name with --cluster",
                dir.display()
            ),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        for part in ["logs", "ready", "content", "trace", "state"] {
            let part = dir.join(part);
            if part.exists() {
                fs::remove_dir_all(&part)?;
            }
        }
        for part in ["logs", "ready"] {
            fs::create_dir(dir.join(part))?;
        }
        let cursor_key = cursor_key(&dir.join(CURSOR_KEY))?;
        Ok(Home { dir: dir.to_owned(), cursor_key, _lock: lock })
    }

    /// The key that gateways seal cursors with: the same for every cluster that runs here, so that clients of one that was
    /// stopped go on in the next.
    pub fn cursor_key(&self) -> &str {
        &self.cursor_key
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lets other commands know what is running.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn publish(&self, state: &State) -> anyhow::Result<()> {
        let draft = self.dir.join("cluster.draft");
        fs::write(&draft, serde_json::to_vec_pretty(state)?)?;
        Ok(fs::rename(&draft, self.dir.join(STATE))?)
    }

    /// Removes the directory and all that is in it.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(self) -> anyhow::Result<()> {
        Ok(fs::remove_dir_all(&self.dir)?)
    }
}

/// The key in a file that nobody else may read, which is made if need be.
fn cursor_key(file: &Path) -> anyhow::Result<String> {
    if let Ok(key) = fs::read_to_string(file) {
        return Ok(key);
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).context("no random numbers")?;
    let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    File::options().write(true).create_new(true).mode(0o600).open(file)?.write_all(key.as_bytes())?;
    Ok(key)
}

/// The directory in which each cluster has one.
pub fn base() -> PathBuf {
    let dir_of = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || dir_of("HOME").filter(|home| home.is_dir()).map(|home| home.join(".local/state"));
    let state = dir_of("XDG_STATE_HOME").or_else(home);
    state.map_or_else(|| PathBuf::from(".handover"), |state| state.join("handover"))
}

/// There is no cluster to talk to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCluster {
    /// None is running at all.
    #[error("no cluster is running on this computer; start one with `handover up`")]
    None,
    /// None of this name.
    #[error("no cluster `{0}` is running on this computer; start it with `handover up --cluster {0}`")]
    NoneCalled(Name),
    /// Several are, and it is not clear which one is meant.
    #[error("several clusters are running: {}; say which with --cluster", .0.join(", "))]
    Several(Vec<String>),
}

/// The running cluster called `cluster`, or the only one.
///
/// # Errors
/// [`NoCluster`] if there is none, or if more than one could be meant.
pub fn find(base: &Path, cluster: Option<Name>) -> anyhow::Result<State> {
    let mut running = Vec::new();
    for entry in fs::read_dir(base).into_iter().flatten() {
        let dir = entry?.path();
        if is_held(&dir)
            && let Ok(text) = fs::read(dir.join(STATE))
        {
            let state: State = serde_json::from_slice(&text)
                .with_context(|| format!("{} was written by another version", dir.join(STATE).display()))?;
            running.push(state);
        }
    }
    if let Some(name) = cluster {
        let called = running.into_iter().find(|state| state.cluster == name);
        return Ok(called.ok_or(NoCluster::NoneCalled(name))?);
    }
    match (running.pop(), running.is_empty()) {
        (None, _) => Err(NoCluster::None.into()),
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            running.push(last);
            let mut names: Vec<String> = running.iter().map(|state| state.cluster.to_string()).collect();
            names.sort();
            Err(NoCluster::Several(names).into())
        }
    }
}

/// Whether somebody runs a cluster in `dir`.
fn is_held(dir: &Path) -> bool {
    let Ok(lock) = File::open(dir.join(LOCK)) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str) -> State {
        let cluster = name.parse().unwrap();
        State { cluster, pid: 1, replicas: 3, processes: Vec::new() }
    }

    fn run(base: &Path, name: &str) -> Home {
        let home = Home::take(&base.join(name)).unwrap();
        home.publish(&state(name)).unwrap();
        home
    }

    #[test]
    fn a_cluster_is_found_while_it_runs() {
        let base = tempfile::tempdir().unwrap();
        let found = |name: Option<&str>| {
            let found = find(base.path(), name.map(|name| name.parse().unwrap()));
            found.map(|state| state.cluster.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(found(None).unwrap_err(), NoCluster::None.to_string());
        let one = run(base.path(), "one");
        assert_eq!(found(None).unwrap(), "one");
        let two = run(base.path(), "two");
        let several = "several clusters are running: one, two; say which with --cluster";
        assert_eq!(found(None).unwrap_err(), several);
        assert_eq!(found(Some("two")).unwrap(), "two");
        drop(one);
        assert_eq!(found(None).unwrap(), "two");
        assert!(found(Some("one")).is_err());
        two.remove().unwrap();
        assert!(found(None).is_err());
    }

    #[test]
    fn a_directory_is_taken_once() {
        let base = tempfile::tempdir().unwrap();
        let first = run(base.path(), "one");
        fs::write(first.dir().join("logs/old.log"), "old").unwrap();
        assert!(Home::take(first.dir()).is_err());
        let dir = first.dir().to_owned();
        drop(first);
        Home::take(&dir).unwrap();
        assert!(!dir.join("logs/old.log").exists());
    }

    #[test]
    fn processes_are_found_by_kind() {
        let process = |service: Service, pid| Process {
            name: service.name(1),
            service,
            machine: None,
            pid,
            address: Some(Address::new("127.0.0.1:1")),
            ops: None,
            log: PathBuf::new(),
            content: None,
        };
        let mut state = state("one");
        state.processes = vec![process(Service::Daemon, Some(2)), process(Service::Gateway, None)];
        assert_eq!(state.addresses(Service::Daemon).len(), 1);
        assert_eq!(state.addresses(Service::Gateway).len(), 0);
        assert_eq!(state.process(Service::Gateway.name(1)).unwrap().pid, None);
    }
}
