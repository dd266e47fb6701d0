//! The cluster of `docker-compose.yml` under a project name of its own, by the commands that an operator types.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use model::Address;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long the cluster may take until everybody is well and together again.
const WELL_MAX: Duration = Duration::from_secs(60);

/// How often to look.
const LOOK: Duration = Duration::from_millis(250);

/// The cluster. Whoever starts it takes it [down](Cluster::down).
pub struct Cluster {
    /// `docker-compose`, or `docker compose`.
    compose: Vec<&'static str>,
    project: String,
    /// What describes it together: later files add to earlier ones.
    files: Vec<PathBuf>,
    /// Where the gateways are published.
    ports: [u16; 2],
}

/// What `handover status` says of the cluster.
#[derive(Debug, Deserialize)]
pub struct Status {
    daemons: Vec<Daemon>,
    units: Vec<Unit>,
    sessions: Vec<Session>,
    gateways: Vec<Gateway>,
}

#[derive(Debug, Deserialize)]
struct Daemon {
    configuration: String,
    members: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Unit {
    unit: String,
    servers: Vec<String>,
    agreed: bool,
}

#[derive(Debug, Deserialize)]
struct Session {
    primary: String,
}

#[derive(Debug, Deserialize)]
struct Gateway {
    gateway: String,
    attached: usize,
}

impl Status {
    /// The number of the machine whose content server serves the most sessions.
    pub fn busiest(&self) -> Option<usize> {
        let mut served = BTreeMap::<usize, usize>::new();
        for session in &self.sessions {
            if let Some(Ok(machine)) = session.primary.strip_prefix("server-").map(str::parse) {
                *served.entry(machine).or_default() += 1;
            }
        }
        served.into_iter().max_by_key(|(_, sessions)| *sessions).map(|(machine, _)| machine)
    }

    /// The gateway with the most clients, if there are any.
    pub fn busiest_gateway(&self) -> Option<&str> {
        let gateway = self.gateways.iter().filter(|it| it.attached > 0).max_by_key(|it| it.attached)?;
        Some(&gateway.gateway)
    }

    /// Whether all `machines` are together, and each of them holds every unit.
    fn is_whole(&self, machines: usize) -> anyhow::Result<()> {
        let configurations: BTreeSet<_> = self.daemons.iter().map(|it| &it.configuration).collect();
        if self.daemons.len() != machines || configurations.len() != 1 {
            bail!("{} of {machines} daemons are in {configurations:?}", self.daemons.len());
        }
        if let Some(daemon) = self.daemons.iter().find(|it| it.members.len() != machines) {
            bail!("{} has {:?}", daemon.configuration, daemon.members);
        }
        match self.units.iter().find(|it| it.servers.len() != machines || !it.agreed) {
            Some(unit) => bail!("{} is on {:?}, agreed: {}", unit.unit, unit.servers, unit.agreed),
            None => Ok(()),
        }
    }
}

impl Cluster {
    /// The cluster that `file` describes. Nothing is started.
    pub async fn of(file: &Path) -> anyhow::Result<Cluster> {
        let old = Command::new("docker-compose").arg("version").output().await;
        let compose = if old.is_ok() { vec!["docker-compose"] } else { vec!["docker", "compose"] };
        // Both are taken at the same time, so that they differ; somebody else may take one before the gateway does.
        let free = || TcpListener::bind("127.0.0.1:0");
        let (one, other) = (free()?, free()?);
        let ports = [one.local_addr()?.port(), other.local_addr()?.port()];
        let project = format!("handover-drill-{}", std::process::id());
        Ok(Cluster { compose, project, files: vec![file.to_owned()], ports })
    }

    /// Has all processes write traces to `dir`/trace, by a further file in `dir`.
    pub async fn trace(&mut self, dir: &Path) -> anyhow::Result<PathBuf> {
        let traces = dir.join("trace");
        fs::create_dir(&traces)?;
        // Processes run as a user who does not own it.
        fs::set_permissions(&traces, Permissions::from_mode(0o777))?;
        let services = self.compose(&["--profile", "fifth", "config", "--services"]).await?;
        let traced = |service: &str| {
            let volume = format!("{}:/trace", traces.display());
            (
                service.to_owned(),
                json!({ "environment": { "HANDOVER_TRACE": "/trace" }, "volumes": [volume] }),
            )
        };
        let services: serde_json::Map<_, _> = services.lines().map(traced).collect();
        let file = dir.join("traces.json");
        // JSON is YAML.
        fs::write(&file, json!({ "services": services }).to_string())?;
        self.files.push(file);
        Ok(traces)
    }

    /// Where clients reach the gateways.
    pub fn gateways(&self) -> Vec<Address> {
        self.ports.iter().map(|port| Address::new(&format!("127.0.0.1:{port}"))).collect()
    }

    /// Runs a command of docker-compose on it.
    pub async fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.compose[0]);
        command.args(&self.compose[1..]).args(["--project-name", &self.project]);
        for file in &self.files {
            command.arg("--file").arg(file);
        }
        for (number, port) in (1..).zip(self.ports) {
            command.env(format!("HANDOVER_PORT_{number}"), port.to_string());
        }
        output(command.args(arguments), "").await
    }

    /// Runs a command of docker on one of its containers, which is named last.
    pub async fn docker(&self, arguments: &[&str], service: &str) -> anyhow::Result<String> {
        output(Command::new("docker").args(arguments).arg(self.container(service).await?), "").await
    }

    /// All containers: service, id and state.
    async fn containers(&self) -> anyhow::Result<Vec<(String, String, String)>> {
        let label = format!("label=com.docker.compose.project={}", self.project);
        let format = "{{.Label \"com.docker.compose.service\"}}\t{{.ID}}\t{{.Status}}";
        let mut command = Command::new("docker");
        command.args(["ps", "--all", "--filter", &label, "--format", format]);
        let row = |line: &str| {
            let mut cells = line.split('\t').map(str::to_owned);
            Some((cells.next()?, cells.next()?, cells.next()?))
        };
        Ok(output(&mut command, "").await?.lines().filter_map(row).collect())
    }

    async fn container(&self, service: &str) -> anyhow::Result<String> {
        let mut all = self.containers().await?.into_iter();
        let found = all.find(|(name, ..)| name == service);
        Ok(found.with_context(|| format!("{service} has no container"))?.1)
    }

    /// Builds the image, starts everything that is not in a profile, and says how long it took from there until all were
    /// healthy.
    pub async fn up(&self) -> anyhow::Result<Duration> {
        self.compose(&["build"]).await?;
        let start = Instant::now();
        self.compose(&["up", "--detach"]).await?;
        self.healthy().await?;
        Ok(start.elapsed())
    }

    /// Removes it with all that it wrote.
    pub async fn down(&self) -> anyhow::Result<()> {
        self.compose(&["--profile", "fifth", "down", "--volumes", "--timeout", "1"]).await.map(drop)
    }

    /// Waits until every container is up and healthy.
    async fn healthy(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + WELL_MAX;
        loop {
            let all = self.containers().await?;
            let ill: Vec<_> = all.iter().filter(|(.., state)| !state.contains("(healthy)")).collect();
            if ill.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("not healthy after {} s: {ill:?}", WELL_MAX.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until every container is healthy, and all machines are together.
    pub async fn well(&self) -> anyhow::Result<()> {
        self.healthy().await?;
        let deadline = Instant::now() + WELL_MAX;
        let machines = self.containers().await?.iter().filter(|(it, ..)| it.starts_with("machine-")).count();
        loop {
            match self.status().await?.is_whole(machines) {
                Ok(()) => return Ok(()),
                Err(missing) if Instant::now() > deadline => {
                    return Err(missing.context(format!("not together after {} s", WELL_MAX.as_secs())));
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Runs `handover` where the processes are among themselves.
    pub async fn handover(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let services: Vec<_> = self.containers().await?.into_iter().map(|(service, ..)| service).collect();
        let list = |stem: &str, port: u16| {
            let named = services.iter().filter(|it| it.starts_with(stem)).map(|it| format!("{it}:{port}"));
            named.collect::<Vec<_>>().join(",")
        };
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive"]);
        for (variable, stem, port) in
            [("DAEMONS", "machine-", 7410), ("SERVERS", "server-", 7430), ("GATEWAYS", "gateway-", 7400)]
        {
            command.args(["--env", &format!("HANDOVER_{variable}={}", list(stem, port))]);
        }
        command.args([&self.container("gateway-1").await?, "/handover"]).args(arguments);
        output(&mut command, input).await
    }

    /// Who serves what.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let said = self.handover(&["status", "--output", "json"], "").await?;
        serde_json::from_str(&said).context("what `handover status` says")
    }

    /// Kills processes with SIGKILL, from outside of their containers: what a crash looks like to the engine. Returns when
    /// the engine has noticed, for until then it says that they are well.
    pub async fn kill(&self, services: &[String]) -> anyhow::Result<()> {
        let mut victims = Vec::new();
        for service in services {
            let pid = self.pid(service).await?;
            victims.push((service, pid.with_context(|| format!("{service} does not run"))?));
        }
        victims.iter().try_for_each(|(_, pid)| kill(*pid, Signal::SIGKILL))?;
        let deadline = Instant::now() + WELL_MAX;
        for (service, pid) in victims {
            while self.pid(service).await? == Some(pid) {
                if Instant::now() > deadline {
                    bail!("the engine does not notice that {service} was killed, {pid}");
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// The process of a container, if it runs.
    async fn pid(&self, service: &str) -> anyhow::Result<Option<Pid>> {
        let pid = self.docker(&["inspect", "--format", "{{.State.Pid}}"], service).await?;
        let pid = pid.trim().parse().with_context(|| format!("`{pid}` is no process id"))?;
        Ok((pid != 0).then(|| Pid::from_raw(pid)))
    }

    /// The status with which a container that is down ended.
    pub async fn exit_code(&self, service: &str) -> anyhow::Result<String> {
        let code = self.docker(&["inspect", "--format", "{{.State.ExitCode}}"], service).await?;
        Ok(code.trim().to_owned())
    }

    /// What the engine knows of a container, as JSON.
    pub async fn inspect(&self, service: &str) -> anyhow::Result<serde_json::Value> {
        let described = self.docker(&["inspect", "--format", "{{json .}}"], service).await?;
        Ok(serde_json::from_str(&described)?)
    }

    /// Takes a container off the network on which the processes are among themselves.
    pub async fn disconnect(&self, service: &str) -> anyhow::Result<()> {
        let network = format!("{}_core", self.project);
        self.docker(&["network", "disconnect", &network], service).await.map(drop)
    }

    /// Brings it back, under its name.
    pub async fn connect(&self, service: &str) -> anyhow::Result<()> {
        let network = format!("{}_core", self.project);
        self.docker(&["network", "connect", "--alias", service, &network], service).await.map(drop)
    }

    /// The names of all services that have a container.
    pub async fn services(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.containers().await?.into_iter().map(|(service, ..)| service).collect())
    }
}

/// What a command says, if it ends well. It reads `input`.
async fn output(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.as_std()).replace('"', "");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot run `{shown}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("`{shown}`: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
