//! The processes of a run on their network, and what is done to them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use membership_core::Protocol;
use model::trace::Event;
use model::{Address, Boot, Name};
use nix::sys::signal::Signal;
use player::films;
use svc_kit::driver::Clock;
use svc_kit::shutdown::Exit;
use svc_kit::trace::TraceWriter;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::member::REST;
use crate::network::{Ground, Network, Weather};
use crate::plan::{Edge, Fault, Node, Plan, Who};
use crate::process::{LOOK, PATIENCE, Process};
use crate::report::{Report, Rest};

const CLUSTER: &str = "chaos";
const PORT: u16 = 7400;
const CONTENT_PORT: u16 = 7500;
const GATEWAY_PORT: u16 = 7600;

/// The groups that members join and send to.
pub const GROUPS: [&str; 5] = ["red", "green", "blue", "strict:orders", "state:notes"];

/// Another process may be silent for about this long before it counts as gone. Half of it passes before it is asked
/// for a sign of life, the other half until it has to have given one.
const SILENCE: Duration = Duration::from_millis(1000);

/// The name under which the runner writes its own trace.
const NAME: Name = Name::literal("chaos");

/// Everything on its feet.
pub struct Stage {
    plan: Plan,
    /// Where everybody is.
    pub network: Network,
    clock: Clock,
    trace: TraceWriter,
    processes: BTreeMap<Who, Process>,
    /// Incidents that go on.
    present: BTreeSet<usize>,
    /// Who was asked to end, and is started again as soon as it has.
    leaving: BTreeSet<Who>,
    /// How many drains were cut short: there may be nobody to hand a session to while faults go on.
    pub undrained: usize,
    inbox: mpsc::UnboundedReceiver<(Who, Report)>,
    /// What members have reported, in the order in which it came.
    pub reports: Vec<Report>,
    /// How those members stand who rest.
    pub rests: BTreeMap<Who, Rest>,
}

/// Where things are.
pub struct Places {
    /// This program, which is every service too.
    pub program: PathBuf,
    /// On which network.
    pub on: Ground,
    /// Where everything is written.
    pub dir: PathBuf,
    /// How membership servers agree.
    pub protocol: Protocol,
}

impl Places {
    /// Where content servers find their films.
    fn content(&self) -> PathBuf {
        self.dir.join("content")
    }

    /// Where traces are written.
    pub fn traces(&self) -> PathBuf {
        self.dir.join("trace")
    }
}

impl Network {
    /// Where the service of a node takes calls.
    pub fn service(&self, node: Node) -> Address {
        self.listening(node, PORT)
    }

    /// Where the gateway of a machine takes calls.
    pub fn gateway(&self, gateway: Who) -> Address {
        self.listening(gateway.node(), GATEWAY_PORT)
    }

    fn listening(&self, node: Node, port: u16) -> Address {
        Address::new(&format!("{}:{port}", self.address(node)))
    }
}

impl Stage {
    /// Lays the network and starts all processes.
    pub async fn set(plan: &Plan, places: &Places) -> anyhow::Result<Stage> {
        for part in ["trace", "logs", "ready", "members", "content"] {
            fs::create_dir_all(places.dir.join(part))?;
        }
        for film in films::ALL {
            fs::write(places.content().join(film.unit).with_extension("mp4"), film.bytes)?;
        }
        let network = Network::lay(places.on, &plan.nodes).await.context("the network cannot be made")?;
        let (reports, inbox) = mpsc::unbounded_channel();
        let whos = plan.nodes.iter().copied().map(Who::Service).chain(plan.attached());
        let process = |who: Who| {
            let mut command = network.command_at(who.node(), &places.program);
            command.extend(command_line(who, plan, places, &network));
            (who, Process::new(who, command, &places.dir, reports.clone()))
        };
        let processes = whos.map(process).collect();
        let (present, leaving) = (BTreeSet::new(), BTreeSet::new());
        let (reports, rests) = (Vec::new(), BTreeMap::new());
        let (plan, clock) = (plan.clone(), Clock::start());
        let trace = TraceWriter::create(Some(&places.traces()), NAME, Boot::new(clock.now().as_micros()))?;
        let undrained = 0;
        let mut stage = Stage {
            plan,
            network,
            clock,
            trace,
            processes,
            present,
            leaving,
            undrained,
            inbox,
            reports,
            rests,
        };
        for process in stage.processes.values_mut() {
            process.start().await?;
        }
        Ok(stage)
    }

    /// An incident begins, or is over.
    pub async fn perform(&mut self, edge: Edge, place: usize) -> anyhow::Result<()> {
        match edge {
            Edge::Begin => self.present.insert(place),
            Edge::End => self.present.remove(&place),
        };
        match (&self.plan.incidents[place].fault.clone(), edge) {
            (Fault::Cut(_) | Fault::Loss(..) | Fault::Delay(..), _) => {
                let faults = self.present.iter().map(|place| &self.plan.incidents[*place].fault);
                Weather::of(faults).set().await
            }
            (Fault::Stop(who), Edge::Begin) => self.each(who, |process| process.signal(Signal::SIGSTOP)),
            (Fault::Stop(who), Edge::End) => self.each(who, |process| process.signal(Signal::SIGCONT)),
            (Fault::Kill(who), Edge::Begin) => {
                for who in who {
                    self.process(*who)?.kill().await?;
                    self.leaving.remove(who);
                    self.rests.remove(who);
                    self.note_end_of(*who)?;
                }
                Ok(())
            }
            (Fault::Kill(who), Edge::End) => {
                for who in who {
                    self.process(*who)?.start().await?;
                }
                Ok(())
            }
            (Fault::Drain(who), Edge::Begin) => self.each(who, |process| process.ask_to_end()),
            (Fault::Drain(who), Edge::End) => {
                self.leaving.extend(who);
                Ok(())
            }
        }
    }

    /// Starts those again who have ended since they were asked to. A drain takes as long as it takes, and other faults come
    /// and go in the meantime.
    pub async fn bring_back(&mut self) -> anyhow::Result<()> {
        for who in self.leaving.clone() {
            let Some(status) = self.process(who)?.ended()? else { continue };
            match status.code() {
                Some(0) => {}
                Some(code) if code == Exit::Undrained as i32 => self.undrained += 1,
                Some(_) | None => anyhow::bail!("{who}, drained, ended with {status}"),
            }
            self.note_end_of(who)?;
            self.process(who)?.start().await?;
            self.leaving.remove(&who);
        }
        Ok(())
    }

    /// Waits until nobody is about to end any more.
    pub async fn all_back(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.leaving.is_empty() {
            if Instant::now() > deadline {
                let who: Vec<_> = self.leaving.iter().map(Who::to_string).collect();
                anyhow::bail!("{}, drained, do not end", who.join(", "));
            }
            sleep(LOOK).await;
            self.bring_back().await?;
        }
        Ok(())
    }

    /// The checkers have to know which gateways forgot everything.
    fn note_end_of(&mut self, who: Who) -> anyhow::Result<()> {
        if let Who::Gateway(_) = who {
            self.note(Event::GatewayCrash { gateway: who.to_string().parse()? });
        }
        Ok(())
    }

    /// Writes what the runner alone knows.
    pub fn note(&mut self, event: Event) {
        self.trace.record(self.clock.now(), event);
        self.trace.flush();
    }

    /// Fails if a process has ended that nobody killed.
    pub fn all_run(&mut self) -> anyhow::Result<()> {
        for process in self.processes.values_mut() {
            if let Some(death) = process.fallen()? {
                anyhow::bail!(death);
            }
        }
        Ok(())
    }

    /// Asks all members to rest.
    pub async fn rest(&mut self) -> anyhow::Result<()> {
        for who in self.plan.members.clone() {
            self.process(who)?.tell(REST).await?;
        }
        Ok(())
    }

    /// Takes in what members have reported.
    pub fn listen(&mut self) {
        while let Ok((who, report)) = self.inbox.try_recv() {
            match &report {
                Report::Resting(rest) => drop(self.rests.insert(who, rest.clone())),
                Report::Attached { .. } | Report::Lost { .. } => drop(self.rests.remove(&who)),
                Report::Moved(_) | Report::Wrong { .. } => {}
            }
            self.reports.push(report);
        }
    }

    /// Ends all processes in good order: gateways, content servers, members, daemons, membership servers. Returns who did not end well.
    pub async fn strike(&mut self) -> anyhow::Result<Vec<String>> {
        let mut ill = Vec::new();
        for (who, process) in self.processes.iter_mut().rev() {
            if let Some(status) = process.end().await?.filter(|status| !status.success()) {
                ill.push(format!("{who}, asked to end, ended with {status}"));
            }
        }
        Ok(ill)
    }

    /// What is planned.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn process(&mut self, who: Who) -> anyhow::Result<&mut Process> {
        self.processes.get_mut(&who).with_context(|| format!("{who} is nobody"))
    }

    fn each(&mut self, who: &[Who], act: impl Fn(&mut Process) -> anyhow::Result<()>) -> anyhow::Result<()> {
        who.iter().try_for_each(|who| act(self.process(*who)?))
    }
}

/// What the program is told for it to be `who`.
fn command_line(who: Who, plan: &Plan, places: &Places, network: &Network) -> Vec<OsString> {
    let half = format!("{}ms", SILENCE.as_millis() / 2);
    let service = |name: &str, address: Address| {
        let mut line = vec!["--with-parent".into(), name.into()];
        line.extend(arguments(&[
            ("--name", who.to_string()),
            ("--cluster", CLUSTER.to_owned()),
            ("--listen", address.to_string()),
            ("--keepalive-interval", half.clone()),
            ("--keepalive-timeout", half.clone()),
            ("--log-level", "debug,h2=info,hyper=info,tonic=info,tower=info,hyper_util=info".to_owned()),
            ("--log-format", "text".to_owned()),
        ]));
        line.extend(["--insecure".into(), "--trace".into(), places.traces().into()]);
        line
    };
    let servers: Vec<Node> = plan.servers().collect();
    match who {
        Who::Service(node @ Node::Server(_)) => {
            let peers: Vec<_> =
                servers.iter().map(|peer| format!("{peer}={}", network.service(*peer))).collect();
            let own = arguments(&[("--peers", peers.join(",")), ("--protocol", places.protocol.to_string())]);
            [service("membership-svc", network.service(node)), own].concat()
        }
        Who::Service(node @ Node::Machine(number)) => {
            // Not everybody prefers the same server.
            let mut servers: Vec<_> = servers.into_iter().map(|it| network.service(it).to_string()).collect();
            let preferred = usize::from(number) % servers.len();
            servers.rotate_left(preferred);
            let own = arguments(&[("--membership", servers.join(","))]);
            [service("gcs-svc", network.service(node)), own].concat()
        }
        Who::Content(machine) => {
            let daemon = network.service(Node::Machine(machine)).to_string();
            let content = places.content().display().to_string();
            let own = arguments(&[("--gcs", daemon), ("--content", content)]);
            [service("server-svc", network.listening(who.node(), CONTENT_PORT)), own].concat()
        }
        Who::Gateway(machine) => {
            let own = arguments(&[("--gcs", network.service(Node::Machine(machine)).to_string())]);
            [service("gateway", network.gateway(who)), own].concat()
        }
        Who::Member(machine, _) => {
            let arguments = arguments(&[
                ("--name", who.to_string()),
                ("--cluster", CLUSTER.to_owned()),
                ("--daemon", network.service(Node::Machine(machine)).to_string()),
                ("--groups", GROUPS.join(",")),
                ("--silence", SILENCE.as_millis().to_string()),
            ]);
            [vec!["chaos".into(), "member".into()], arguments].concat()
        }
    }
}

fn arguments(pairs: &[(&str, String)]) -> Vec<OsString> {
    pairs.iter().flat_map(|(flag, value)| [OsString::from(flag), value.into()]).collect()
}
