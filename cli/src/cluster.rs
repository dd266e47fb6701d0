//! A cluster of real processes on this computer: membership servers, machines (a daemon and a content server each) and
//! gateways, on loopback ports that the system chooses.
//!
//! A [`Cluster`] owns its processes: they are gone when it is dropped, and when the process that has it is gone. It
//! kills them by name, starts them again under the same name and address, and says when one dies by itself. Every
//! change is written to the [state file](state), where other commands look for it.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use handover_cli::cluster::{Cluster, Options, Service};
//!
//! let options = Options::new("test".parse()?, std::path::Path::new("/tmp/handover-test"));
//! let mut cluster = Cluster::start(options).await?;
//! let killed_at = cluster.kill_server(1).await?;
//! cluster.start_server(1).await?;
//! cluster.ready().await?;
//! cluster.stop().await?;
//! # Ok(())
//! # }
//! ```

mod child;
mod layout;
mod ready;
pub mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, bail};
use futures::future::{join_all, select_all, try_join_all};
use model::{Address, Name};

use crate::bundle::ContentFile;
use crate::certs::{Authority, Terms};
use child::{Child, Program, Spec};
use player::films::{self, FilmFile};
use state::{Home, Process, State};
use svc_kit::auth::{AuthArgs, Bearer};
use svc_kit::dial::Wire;
use svc_kit::tls::{Role, TlsFiles};

pub use child::Death;
pub use layout::{Service, holders};
pub use membership_svc::config::Protocol;

/// The name of whoever administers it.
const OPERATOR: Name = Name::literal("operator");

/// How long a process may take to drain before it is killed.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name.
    pub name: Name,
    /// Its directory.
    pub dir: PathBuf,
    /// The `handover` binary.
    pub exe: PathBuf,
    /// The program of the content servers, if it is not `handover`.
    pub server: Option<PathBuf>,
    /// How many membership servers there are.
    pub membership_servers: usize,
    /// How they agree.
    pub protocol: Protocol,
    /// Whether the primary component has a majority of all machines, or one of the primary component before it; `static`
    /// or `dynamic`. Without a rule there is none.
    pub voting: Option<String>,
    /// How many machines there are.
    pub machines: usize,
    /// How many gateways there are.
    pub gateways: usize,
    /// How many machines hold each film.
    pub replicas: usize,
    /// How many servers beside the primary apply every request of a session.
    pub backups: u8,
    /// How often contexts are propagated to all replicas.
    pub period: Duration,
    /// What there is to be seen.
    pub films: Vec<FilmFile>,
    /// What there is besides.
    pub further: Vec<ContentFile>,
    /// How processes write their logs: `text` or `json`.
    pub log_format: &'static str,
    /// Where every process writes a trace.
    pub trace: Option<PathBuf>,
    /// Whether processes show each other who they are, with certificates by an authority in the directory.
    pub tls: bool,
    /// Which tokens are good: if any are, clients and operators are asked for one.
    pub auth: AuthArgs,
    /// What is shown to the processes in return.
    pub token: Option<Bearer>,
    /// Further flags for all processes of a kind.
    pub flags: BTreeMap<Service, Vec<String>>,
    /// Further variables in the environment of all processes.
    pub variables: Vec<(String, String)>,
}

impl Options {
    /// A cluster of this binary with everything at its default: 4 machines, 2 gateways, 3 films on 3 machines each, and
    /// nothing besides.
    pub fn new(name: Name, dir: &Path) -> Options {
        Options {
            name,
            dir: dir.to_owned(),
            exe: std::env::current_exe().unwrap_or_else(|_| "handover".into()),
            server: None,
            membership_servers: 1,
            protocol: Protocol::default(),
            voting: None,
            machines: 4,
            gateways: 2,
            replicas: 3,
            backups: 1,
            period: Duration::from_millis(500),
            films: films::ALL.to_vec(),
            further: Vec::new(),
            log_format: "text",
            trace: None,
            tls: false,
            auth: AuthArgs::default(),
            token: None,
            flags: BTreeMap::new(),
            variables: Vec::new(),
        }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    home: Home,
    authority: Option<Authority>,
    wire: Wire,
    /// In the order in which they are started.
    children: Vec<(Name, Child)>,
}

impl Cluster {
    /// Starts all processes, and returns once every film is served by all machines that hold it.
    ///
    /// # Errors
    /// If a process cannot be started or ends, or if the cluster does not come together in time.
    pub async fn start(options: Options) -> anyhow::Result<Cluster> {
        assert!(
            options.membership_servers > 0
                && options.machines > 0
                && options.gateways > 0
                && options.replicas > 0,
            "a cluster has one of each"
        );
        let units = options.films.len() + options.further.len();
        let is_idle = |machine: &usize| {
            !(0..units).any(|unit| holders(unit, options.machines, options.replicas).contains(machine))
        };
        // A service of the user's own knows itself which units there are.
        if let (None, Some(machine)) = (&options.server, (1..=options.machines).find(is_idle)) {
            let name = Service::Daemon.name(machine);
            bail!(
                "{name} would have nothing to serve: there are {units} units; ask for fewer machines or more replicas"
            );
        }
        let home = Home::take(&options.dir)?;
        let authority =
            options.tls.then(|| Authority::open(&options.dir.join("tls"), options.name)).transpose()?;
        let mut wire = Wire { token: options.token.clone(), ..Wire::default() };
        if let Some(authority) = &authority {
            wire.tls =
                authority.issue(Role::Operator, OPERATOR, &Terms::default())?.open_as_named(options.name)?;
        }
        let mut cluster = Cluster { options, home, authority, wire, children: Vec::new() };
        cluster.lay_out_content()?;
        cluster.launch_membership().await?;
        let membership = cluster.list(Service::Membership);
        let state = cluster.options.dir.join("state").display().to_string();
        let join = |number| {
            flags([
                ("--membership", rotated(&membership, number - 1).join(",")),
                ("--state-dir", state.clone()),
            ])
        };
        cluster.launch(Service::Daemon, cluster.options.machines, join).await?;
        let options = cluster.options.clone();
        let serve = |number| {
            let daemon = cluster.address(Service::Daemon.name(number)).map(Address::to_string);
            flags([
                ("--gcs", daemon.unwrap_or_default()),
                ("--content", content_dir(&options.dir, number).display().to_string()),
                ("--backups", options.backups.to_string()),
                ("--period", humantime::format_duration(options.period).to_string()),
            ])
        };
        let servers: Vec<_> = (1..=options.machines).map(serve).collect();
        cluster.launch(Service::Server, options.machines, |number| servers[number - 1].clone()).await?;
        let daemons = cluster.list(Service::Daemon);
        let attach = |number| flags([("--gcs", rotated(&daemons, number - 1).join(","))]);
        cluster.launch(Service::Gateway, options.gateways, attach).await?;
        cluster.ready().await?;
        Ok(cluster)
    }

    fn lay_out_content(&self) -> io::Result<()> {
        for machine in 1..=self.options.machines {
            fs::create_dir_all(content_dir(&self.options.dir, machine))?;
        }
        if self.options.server.is_some() {
            return Ok(());
        }
        let films = self.options.films.iter().map(|film| (format!("{}.mp4", film.unit), film.bytes));
        let further = self.options.further.iter().map(|file| (file.name.to_owned(), file.text.as_bytes()));
        for (index, (name, bytes)) in films.chain(further).enumerate() {
            for machine in holders(index, self.options.machines, self.options.replicas) {
                fs::write(content_dir(&self.options.dir, machine).join(&name), bytes)?;
            }
        }
        Ok(())
    }

    /// Starts the membership servers, the last one first: of two, the one with the lesser name calls, and has to know
    /// where the other one listens, which is known once it does. When they are started again they know of all.
    async fn launch_membership(&mut self) -> anyhow::Result<()> {
        let count = self.options.membership_servers;
        let peer = |name: Name, address: &str| format!("{name}={address}");
        let mut peers: Vec<String> = (1..=count)
            .map(|number| peer(Service::Membership.name(number), &format!("127.0.0.1:{number}")))
            .collect();
        let mut servers = Vec::new();
        for number in (1..=count).rev() {
            let name = Service::Membership.name(number);
            let mut own =
                flags([("--peers", peers.join(",")), ("--protocol", self.options.protocol.to_string())]);
            if let Some(voting) = &self.options.voting {
                let voters: Vec<String> =
                    (1..=self.options.machines).map(|it| Service::Daemon.name(it).to_string()).collect();
                own.extend(flags([("--voters", voters.join(",")), ("--voting", voting.clone())]));
            }
            let mut child = self.child(Service::Membership, number, own)?;
            child.start().await?;
            if let Some(address) = child.address() {
                peers[number - 1] = peer(name, address.as_str());
            }
            servers.insert(0, (name, child));
        }
        for (_, child) in &mut servers {
            child.set_flag("--peers", &peers.join(","));
        }
        self.children.append(&mut servers);
        self.publish()
    }

    /// Process number `number` of a kind, not started yet.
    fn child(&self, service: Service, number: usize, own_flags: Vec<String>) -> anyhow::Result<Child> {
        let options = &self.options;
        let mut flags = flags([("--cluster", options.name.to_string())]);
        if let Some(dir) = &options.trace {
            flags.extend(["--trace".to_owned(), dir.display().to_string()]);
        }
        flags.extend(own_flags);
        if let Some(authority) = &self.authority {
            let files = authority.issue(service.role(), service.name(number), &Terms::default())?;
            for (flag, file) in [("--tls-ca", files.ca), ("--tls-cert", files.cert), ("--tls-key", files.key)]
            {
                flags.extend(file.into_iter().flat_map(|file| [flag.to_owned(), file.display().to_string()]));
            }
        }
        flags.extend(auth_flags(&options.auth));
        flags.extend(options.flags.get(&service).into_iter().flatten().cloned());
        let program = match &options.server {
            Some(server) if service == Service::Server => Program::Own(server.clone()),
            Some(_) | None => Program::Handover(options.exe.clone()),
        };
        let (name, dir) = (service.name(number), options.dir.clone());
        let keys = ("HANDOVER_CURSORS__KEYS".to_owned(), self.home.cursor_key().to_owned());
        let keys = (service == Service::Gateway).then_some(keys);
        let variables = options.variables.iter().cloned().chain(keys).collect();
        let log_format = options.log_format;
        Ok(Child::new(Spec { name, service, program, dir, log_format, flags, variables }))
    }

    /// Starts `count` processes of a kind at the same time.
    async fn launch(
        &mut self,
        service: Service,
        count: usize,
        own_flags: impl Fn(usize) -> Vec<String>,
    ) -> anyhow::Result<()> {
        let child =
            |number: usize| Ok((service.name(number), self.child(service, number, own_flags(number))?));
        let mut children = (1..=count).map(child).collect::<anyhow::Result<Vec<_>>>()?;
        try_join_all(children.iter_mut().map(|(_, child)| child.start())).await?;
        self.children.append(&mut children);
        self.publish()
    }

    /// Waits until every running process serves, and every film is served by all running machines that hold it.
    ///
    /// # Errors
    /// If that does not happen in time, or a process dies meanwhile.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let state = self.state();
        tokio::select! {
            ready = ready::await_ready(&state, self.wire.clone()) => ready,
            death = self.died() => Err(death?.into()),
        }
    }

    /// What other commands are told.
    pub fn state(&self) -> State {
        let options = &self.options;
        let machine = |service, name: &Name| {
            let number = (1..=options.machines).find(|number| service_of(service, *number) == Some(*name));
            number.map(|number| (Service::Daemon.name(number), content_dir(&options.dir, number)))
        };
        let process = |(name, child): &(Name, Child)| {
            let (machine, content) = machine(child.service(), name).unzip();
            Process {
                name: *name,
                service: child.service(),
                machine,
                pid: child.pid(),
                address: child.address().cloned(),
                ops: child.ops().cloned(),
                log: child.log(),
                content: content.filter(|_| child.service() == Service::Server),
            }
        };
        let processes = self.children.iter().map(process).collect();
        State { cluster: options.name, pid: std::process::id(), replicas: options.replicas, processes }
    }

    fn publish(&self) -> anyhow::Result<()> {
        self.home.publish(&self.state())
    }

    /// How its operator connects to its processes.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The files that show who its operator is, if its processes show who they are.
    pub fn operator(&self) -> Option<TlsFiles> {
        Some(self.authority.as_ref()?.files(OPERATOR))
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where a process listens, whether it is running or not.
    pub fn address(&self, name: Name) -> Option<&Address> {
        self.children.iter().find(|(it, _)| *it == name)?.1.address()
    }

    /// The addresses of all gateways.
    pub fn gateways(&self) -> Vec<Address> {
        let gateways = (1..=self.options.gateways).map(|number| Service::Gateway.name(number));
        gateways.filter_map(|name| self.address(name).cloned()).collect()
    }

    /// Whether a process is running.
    pub fn is_running(&self, name: Name) -> bool {
        self.children.iter().any(|(it, child)| *it == name && child.pid().is_some())
    }

    fn list(&self, service: Service) -> Vec<String> {
        let of_kind = self.children.iter().filter(|(_, child)| child.service() == service);
        of_kind.filter_map(|(_, child)| child.address()).map(Address::to_string).collect()
    }

    /// Kills the content server of machine `number` with SIGKILL. Returns when the signal was sent.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn kill_server(&mut self, number: usize) -> anyhow::Result<Instant> {
        self.kill(&[Service::Server.name(number)]).await
    }

    /// Kills the content server and the daemon of machine `number` with SIGKILL, at the same time.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn kill_machine(&mut self, number: usize) -> anyhow::Result<Instant> {
        self.kill(&[Service::Daemon.name(number), Service::Server.name(number)]).await
    }

    /// Kills processes with SIGKILL, at the same time. Returns when the signals were sent. One that is not running is
    /// passed over.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn kill(&mut self, names: &[Name]) -> anyhow::Result<Instant> {
        let mut victims: Vec<_> = self
            .children
            .iter_mut()
            .filter(|(name, _)| names.contains(name))
            .map(|(_, child)| child)
            .collect();
        if victims.len() < names.len() {
            bail!("not all of {names:?} are processes of this cluster");
        }
        let at = Instant::now();
        for child in &mut victims {
            child.kill()?;
        }
        for child in victims {
            child.reap().await?;
        }
        self.publish()?;
        Ok(at)
    }

    /// Starts the content server of machine `number` again.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start_server(&mut self, number: usize) -> anyhow::Result<()> {
        self.start_again(&[Service::Server.name(number)]).await
    }

    /// Starts the daemon and the content server of machine `number` again, whichever is not running.
    ///
    /// # Errors
    /// If one of them cannot be started.
    pub async fn start_machine(&mut self, number: usize) -> anyhow::Result<()> {
        self.start_again(&[Service::Daemon.name(number), Service::Server.name(number)]).await
    }

    /// Starts processes again, one after the other, each in a new life under its old name and address. One that is
    /// running is passed over. Returns once they listen; see [`Cluster::ready`].
    ///
    /// # Errors
    /// If one of them cannot be started.
    pub async fn start_again(&mut self, names: &[Name]) -> anyhow::Result<()> {
        for name in names {
            let Some((_, child)) = self.children.iter_mut().find(|(it, _)| it == name) else {
                bail!("{name} is not a process of this cluster");
            };
            if child.pid().is_none() {
                child.start().await?;
            }
        }
        self.publish()
    }

    /// Waits until a process ends that nobody killed through this cluster. If this future is dropped, nothing is lost.
    ///
    /// # Errors
    /// If the system does not tell.
    pub async fn died(&mut self) -> anyhow::Result<Death> {
        let deaths = self.children.iter_mut().map(|(_, child)| Box::pin(child.died()));
        let (death, ..) = select_all(deaths).await;
        let death = death.context("cannot wait for a child process")?;
        self.publish()?;
        Ok(death)
    }

    /// Asks all processes to drain and end, gateways first, and kills those that take too long. Returns those that
    /// ended with another status than success.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn stop(&mut self) -> anyhow::Result<Vec<(Name, ExitStatus)>> {
        let mut failed = Vec::new();
        for service in [Service::Gateway, Service::Server, Service::Daemon, Service::Membership] {
            let of_kind = self.children.iter_mut().filter(|(_, child)| child.service() == service);
            let stops =
                of_kind.map(async |(name, child)| Ok::<_, io::Error>((*name, child.stop(STOP_MAX).await?)));
            for stopped in join_all(stops).await {
                let (name, status) = stopped?;
                failed.extend(status.filter(|status| !status.success()).map(|status| (name, status)));
            }
        }
        self.publish()?;
        Ok(failed)
    }

    /// Kills all processes, and removes everything that they wrote into the directory of the cluster.
    ///
    /// # Errors
    /// If the directory cannot be removed.
    pub fn remove(self) -> anyhow::Result<()> {
        drop(self.children);
        self.home.remove()
    }
}

/// All of `items`, beginning with the one at `first`: so that not everybody prefers the same one.
pub(crate) fn rotated<T: Clone>(items: &[T], first: usize) -> Vec<T> {
    let mut items = items.to_vec();
    let by = first % items.len().max(1);
    items.rotate_left(by);
    items
}

/// The directory of the content of machine `number`.
fn content_dir(dir: &Path, number: usize) -> PathBuf {
    dir.join("content").join(Service::Daemon.name(number).as_str())
}

/// The process of a kind on machine `number`, if machines have that kind.
fn service_of(service: Service, number: usize) -> Option<Name> {
    matches!(service, Service::Daemon | Service::Server).then(|| service.name(number))
}

/// The flags with which every process is told the same.
fn auth_flags(auth: &AuthArgs) -> Vec<String> {
    let AuthArgs { tokens, jwks, issuer, audience } = auth.clone();
    let file = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
    [
        ("--auth-tokens", file(tokens)),
        ("--auth-jwks", file(jwks)),
        ("--auth-issuer", issuer),
        ("--auth-audience", audience),
    ]
    .into_iter()
    .filter_map(|(flag, value)| Some([flag.to_owned(), value?]))
    .flatten()
    .collect()
}

fn flags<const N: usize>(pairs: [(&str, String); N]) -> Vec<String> {
    pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}
