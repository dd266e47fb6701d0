//! What a change of membership costs on real servers: messages between them, and the time until the last daemon knows.
//!
//! Servers are processes. Daemons are calls of this process that attach as `gcs-svc` does, each on a connection of its
//! own, and say whom they miss: so what is measured is the membership service and nothing beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use membership_svc::config::Protocol;
use model::Address;
use proto::membership::v1 as pb;
use proto::membership::v1::membership_service_client::MembershipServiceClient;
use proto::membership::v1::register_request::Request as Said;
use proto::membership::v1::register_response::Notice;
use serde::Serialize;
use svc_kit::dial::Wire;
use svc_kit::tls::Role;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

use crate::child::{self, Child};
use crate::handover::announced;
use crate::outcome::rounded;
use crate::samples::median;

/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Servers that have sent nothing but signs of life for this long have said all there was to say.
const CALM: Duration = Duration::from_millis(60);
/// What goes on without any change.
const SIGNS_OF_LIFE: [&str; 4] = ["beat", "beacon", "ping", "pong"];

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How membership servers agree
    #[arg(long, value_delimiter = ',', default_values_t = [Protocol::Moshe, Protocol::Wombat])]
    protocols: Vec<Protocol>,
    /// How many membership servers there are
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 5, 7])]
    servers: Vec<usize>,
    /// How many daemons there are before a change
    #[arg(long, value_delimiter = ',', default_values_t = [3, 8])]
    daemons: Vec<usize>,
    /// How often each change is tried
    #[arg(long, default_value_t = 9)]
    trials: usize,
    /// How many daemons join in a row in a cascade
    #[arg(long, default_value_t = 4)]
    joins: usize,
    /// How many milliseconds apart
    #[arg(long, default_value_t = 0.5)]
    apart: f64,
}

/// Messages by kind.
type Counts = BTreeMap<String, u64>;

/// What changes.
#[derive(Clone, Copy, Debug)]
enum Change {
    Join,
    Crash,
    Cascade,
}

/// What a change cost: medians of all trials.
#[derive(Debug, Serialize)]
struct Cost {
    change: String,
    protocol: String,
    servers: usize,
    daemons: usize,
    trials: usize,
    /// Between servers, signs of life aside.
    messages: f64,
    /// The same by kind, of all trials.
    kinds: Counts,
    /// Told to a daemon that is there before and after.
    configurations: f64,
    /// From the event, in a cascade the first of them, until the last daemon knows.
    milliseconds: f64,
    max_ms: f64,
}

/// Runs it.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let mut table = Vec::new();
    for &daemons in &args.daemons {
        for &servers in &args.servers {
            for &protocol in &args.protocols {
                let mut cluster = Cluster::start(protocol, servers, daemons).await?;
                for change in [Change::Join, Change::Crash, Change::Cascade] {
                    let cost = measure(&mut cluster, change, args).await?;
                    println!("{}", serde_json::to_string(&cost)?);
                    table.push(line(&cost));
                }
            }
        }
    }
    eprintln!("\n{}", table.join("\n"));
    Ok(())
}

fn line(cost: &Cost) -> String {
    let Cost { change, protocol, servers, daemons, .. } = cost;
    format!(
        "{change:26} {daemons} daemons, {servers} servers, {protocol:6} {:>4} messages, {} configurations, {} ms, at \
         most {} ms",
        cost.messages,
        cost.configurations,
        rounded(cost.milliseconds),
        rounded(cost.max_ms)
    )
}

async fn measure(cluster: &mut Cluster, change: Change, args: &Args) -> anyhow::Result<Cost> {
    let (mut messages, mut configurations, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let mut kinds = Counts::new();
    for _ in 0..args.trials {
        let before = cluster.calm().await?;
        cluster.note_all();
        cluster.views = 0;
        let took = match change {
            Change::Join => cluster.join(1, Duration::ZERO).await?,
            Change::Crash => cluster.crash().await?,
            Change::Cascade => cluster.join(args.joins, Duration::from_secs_f64(args.apart / 1e3)).await?,
        };
        times.push(took.as_micros() as f64 / 1e3);
        let mut sent = cluster.calm().await?;
        cluster.note_all();
        configurations.push(cluster.views as f64);
        sent.iter_mut().for_each(|(kind, count)| *count -= before.get(kind).copied().unwrap_or(0));
        messages.push(sent.values().sum::<u64>() as f64);
        sent.into_iter().for_each(|(kind, count)| *kinds.entry(kind).or_default() += count);
        cluster.restore().await?;
    }
    let middle = |figures: &[f64]| median(figures).context("no trial");
    Ok(Cost {
        change: match change {
            Change::Join => "a daemon joins".to_owned(),
            Change::Crash => "a daemon crashes".to_owned(),
            Change::Cascade => format!("{} join, {} ms apart", args.joins, args.apart),
        },
        protocol: cluster.protocol.to_string(),
        servers: cluster.servers.len(),
        daemons: cluster.size,
        trials: args.trials,
        messages: middle(&messages)?,
        kinds,
        configurations: middle(&configurations)?,
        milliseconds: middle(&times)?,
        max_ms: times.iter().copied().fold(0.0, f64::max),
    })
}

/// Servers that agree, and daemons that are in one configuration.
struct Cluster {
    protocol: Protocol,
    /// How many daemons there are between two changes.
    size: usize,
    servers: Vec<Server>,
    daemons: BTreeMap<u64, Daemon>,
    /// The number of the next daemon: each is a new one, for who leaves too often has to wait.
    next: u64,
    tell: mpsc::UnboundedSender<Told>,
    told: mpsc::UnboundedReceiver<Told>,
    /// Configurations that the first daemon was told.
    views: u64,
    _dir: TempDir,
}

struct Server {
    client: MembershipServiceClient<Channel>,
    address: Address,
    _child: Child,
}

struct Daemon {
    say: mpsc::UnboundedSender<pb::RegisterRequest>,
    /// What it was told last: the name of the configuration and its size.
    view: Option<(String, usize)>,
    hearing: AbortHandle,
}

/// A daemon is told a configuration.
struct Told {
    number: u64,
    at: Instant,
    id: String,
    size: usize,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.hearing.abort();
    }
}

/// One life each.
fn id(number: u64) -> String {
    format!("daemon-{number}#{}", 1_000 + number)
}

impl Cluster {
    async fn start(protocol: Protocol, servers: usize, size: usize) -> anyhow::Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("handover-bench-").tempdir()?;
        let name = |number: usize| format!("membership-{number}");
        // The lesser of two names calls, so only those that are greater have to be known.
        let mut peers: Vec<String> =
            (1..=servers).map(|number| format!("{}=127.0.0.1:{number}", name(number))).collect();
        let mut started = Vec::new();
        for number in (1..=servers).rev() {
            let ready = dir.path().join(name(number));
            let mut command = child::myself()?;
            command.args(["membership-svc", "--name", &name(number), "--listen", "127.0.0.1:0"]);
            command.args(["--protocol", &protocol.to_string(), "--settle", "0s"]);
            command.args(["--peers", &peers.join(",")]).arg("--ready-file").arg(&ready);
            let mut child = Child::logging(command, &ready.with_extension("log"))?;
            let address = announced(&mut child, &ready).await?;
            peers[number - 1] = format!("{}={address}", name(number));
            let address = Address::new(&address.to_string());
            let client =
                MembershipServiceClient::new(Wire::default().connect(&address, Role::Membership).await?);
            started.insert(0, Server { client, address, _child: child });
        }
        let (tell, told) = mpsc::unbounded_channel();
        let mut cluster = Cluster {
            protocol,
            size,
            servers: started,
            daemons: BTreeMap::new(),
            next: 1,
            tell,
            told,
            views: 0,
            _dir: dir,
        };
        timeout(PATIENCE, cluster.agreed()).await.context("the servers do not agree")??;
        cluster.join(size, Duration::ZERO).await?;
        Ok(cluster)
    }

    /// Waits until all servers agree with all.
    async fn agreed(&mut self) -> anyhow::Result<()> {
        let count = self.servers.len();
        loop {
            let mut agreeing = 0;
            for server in &mut self.servers {
                let seen = server.client.get_membership(pb::GetMembershipRequest {}).await?.into_inner();
                agreeing += usize::from(seen.agrees_with.len() == count);
            }
            if agreeing == count {
                return Ok(());
            }
            sleep(CALM).await;
        }
    }

    /// Waits until all has been said, and returns how many messages servers have sent to each other so far.
    async fn calm(&mut self) -> anyhow::Result<Counts> {
        let mut before = None;
        loop {
            let mut sent = Counts::new();
            for server in &mut self.servers {
                let seen = server.client.get_membership(pb::GetMembershipRequest {}).await?.into_inner();
                for (kind, count) in seen.sent {
                    if !SIGNS_OF_LIFE.contains(&kind.as_str()) {
                        *sent.entry(kind).or_default() += count;
                    }
                }
            }
            if before.as_ref() == Some(&sent) {
                return Ok(sent);
            }
            before = Some(sent);
            sleep(CALM).await;
        }
    }

    /// So many daemons attach, each at the next server, on connections that are open.
    async fn join(&mut self, count: usize, apart: Duration) -> anyhow::Result<Duration> {
        let mut channels = Vec::new();
        for number in self.next..self.next + count as u64 {
            let server = &self.servers[number as usize % self.servers.len()];
            channels.push(Wire::default().connect(&server.address, Role::Membership).await?);
        }
        let start = Instant::now();
        for channel in channels {
            self.attach(channel);
            // Timers are too coarse for this.
            let next = Instant::now() + apart;
            while Instant::now() < next {
                yield_now().await;
            }
        }
        self.until_together(start).await
    }

    fn attach(&mut self, channel: Channel) {
        let (number, tell) = (self.next, self.tell.clone());
        self.next += 1;
        let (say, said) = mpsc::unbounded_channel();
        let hello = pb::RegisterHello {
            cluster: svc_kit::settings::default_cluster().to_string(),
            daemon: id(number),
            address: "127.0.0.1:1".to_owned(),
            version: proto::MEMBERSHIP_VERSION,
            ..pb::RegisterHello::default()
        };
        // Nobody has hung up yet.
        let _ = say.send(pb::RegisterRequest { request: Some(Said::Hello(hello)) });
        let hearing = tokio::spawn(async move {
            if let Err(error) = hear(number, channel, said, &tell).await {
                eprintln!("daemon-{number}: {error:#}");
            }
        });
        self.daemons.insert(number, Daemon { say, view: None, hearing: hearing.abort_handle() });
    }

    /// The last daemon is gone without a word, and all others miss it.
    async fn crash(&mut self) -> anyhow::Result<Duration> {
        let (number, victim) = self.daemons.pop_last().context("no daemon")?;
        let start = Instant::now();
        drop(victim);
        let gone =
            pb::Unreachable { daemon: id(number), doubt: pb::Doubt::Doubtful.into(), ..Default::default() };
        self.all_say(&Said::Reach(pb::Reach { unreachable: vec![gone] }));
        self.until_together(start).await
    }

    fn all_say(&self, request: &Said) {
        for daemon in self.daemons.values() {
            // Whoever is not there any more is noticed by not being told configurations.
            let _ = daemon.say.send(pb::RegisterRequest { request: Some(request.clone()) });
        }
    }

    /// As many daemons as before: the newest leave, or one joins.
    async fn restore(&mut self) -> anyhow::Result<()> {
        while self.daemons.len() > self.size {
            let (_, daemon) = self.daemons.pop_last().context("no daemon")?;
            let _ = daemon.say.send(pb::RegisterRequest { request: Some(Said::Goodbye(pb::Goodbye {})) });
            self.until_together(Instant::now()).await?;
        }
        if self.daemons.len() < self.size {
            self.all_say(&Said::Reach(pb::Reach::default()));
            self.join(1, Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Waits until all daemons are told one configuration of just them. How long after `start` the last one was.
    async fn until_together(&mut self, start: Instant) -> anyhow::Result<Duration> {
        let mut last = start;
        while !self.are_together() {
            let told =
                timeout(PATIENCE, self.told.recv()).await.context("the daemons do not come together")?;
            let told = told.context("nobody is told anything any more")?;
            last = told.at;
            self.note(told);
        }
        Ok(last - start)
    }

    fn note(&mut self, told: Told) {
        let Told { number, id, size, .. } = told;
        self.views += u64::from(self.daemons.keys().next() == Some(&number));
        if let Some(daemon) = self.daemons.get_mut(&number) {
            daemon.view = Some((id, size));
        }
    }

    /// Takes note of everything that daemons have been told.
    fn note_all(&mut self) {
        while let Ok(told) = self.told.try_recv() {
            self.note(told);
        }
    }

    fn are_together(&self) -> bool {
        let mut views = self.daemons.values().map(|daemon| daemon.view.as_ref());
        let Some(Some((id, size))) = views.next() else { return false };
        *size == self.daemons.len() && views.all(|view| view.is_some_and(|(other, _)| other == id))
    }
}

/// Passes on every configuration that a daemon is told, until its call ends.
async fn hear(
    number: u64,
    channel: Channel,
    said: mpsc::UnboundedReceiver<pb::RegisterRequest>,
    tell: &mpsc::UnboundedSender<Told>,
) -> anyhow::Result<()> {
    let mut client = MembershipServiceClient::new(channel);
    let mut notices = client.register(UnboundedReceiverStream::new(said)).await?.into_inner();
    while let Some(notice) = notices.message().await? {
        if let Some(Notice::View(view)) = notice.notice {
            let told = Told { number, at: Instant::now(), id: view.id, size: view.members.len() };
            if tell.send(told).is_err() {
                bail!("nobody wants to know");
            }
        }
    }
    Ok(())
}
