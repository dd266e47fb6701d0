//! The test bed: daemons, the membership service above them, processes on them, and a way to cut their connections.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gcs_client::{Attachment, Command, Event, Target};
use gcs_core::{Daemon, Input, Notice};
use gcs_svc::Enrolment;
use gcs_svc::config::{Config, Limits};
use model::{Address, Configuration, DaemonId, GroupName, GroupView, Name, StartId};
use proto::gcs::v1::group_service_client::GroupServiceClient;
use svc_kit::auth::AuthFiles;
use svc_kit::detection::Detection;
use svc_kit::dial::{Keepalive, Wire};
use svc_kit::driver::Handle;
use svc_kit::ops::Ops;
use svc_kit::shutdown::Failure;
use svc_kit::telemetry::Log;
use svc_kit::tls::{Role, TlsFiles};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Waits for something that has to happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let deadline = Duration::from_secs(20);
    tokio::time::timeout(deadline, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A membership service that tells every daemon a new configuration whenever one comes or goes.
#[derive(Clone, Default)]
pub struct Membership(Arc<Mutex<Enrolled>>);

#[derive(Default)]
struct Enrolled {
    counter: u64,
    members: BTreeMap<DaemonId, Member>,
}

struct Member {
    address: Address,
    machine: Handle<Daemon>,
    start: StartId,
    barred: watch::Sender<bool>,
}

impl Membership {
    async fn enrol(self, enrolment: Enrolment) -> Result<(), Failure> {
        let daemon = enrolment.daemon;
        let start = StartId::new(daemon.boot(), 0);
        let Enrolment { address, machine, barred, .. } = enrolment;
        let member = Member { address, machine, start, barred };
        self.change(|members| members.insert(daemon, member));
        enrolment.stop.cancelled().await;
        self.change(|members| members.remove(&daemon));
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<DaemonId, Member>) -> T) {
        change(&mut self.0.lock().unwrap().members);
        self.begin_change().complete();
    }

    /// Tells every daemon that a change has begun.
    pub fn begin_change(&self) -> Change {
        let mut enrolled = self.0.lock().unwrap();
        enrolled.counter += 1;
        let proposed: BTreeMap<_, _> =
            enrolled.members.iter().map(|(daemon, member)| (*daemon, member.address.clone())).collect();
        for member in enrolled.members.values_mut() {
            member.start = member.start.next();
            let change = Notice::StartChange { start: member.start, proposed: proposed.clone() };
            member.tell(change);
        }
        let starts = enrolled.members.iter().map(|(daemon, member)| (*daemon, member.start)).collect();
        Change { membership: self.clone(), view: Configuration::new(enrolled.counter, starts) }
    }

    /// Keeps a daemon out, or lets it in again; the others do not hear of it.
    pub fn bar(&self, daemon: DaemonId, barred: bool) {
        self.0.lock().unwrap().members[&daemon].barred.send_replace(barred);
    }

    fn find(&self, name: Name) -> Option<DaemonId> {
        self.0.lock().unwrap().members.keys().copied().find(|daemon| daemon.name() == name)
    }
}

impl Member {
    fn tell(&self, notice: Notice) {
        // A daemon that has ended needs no notices.
        let _ = self.machine.try_send(Input::Membership(notice));
    }
}

/// A change that has begun.
pub struct Change {
    membership: Membership,
    view: Configuration,
}

impl Change {
    /// Tells every daemon the view.
    pub fn complete(self) {
        for member in self.membership.0.lock().unwrap().members.values() {
            member.tell(Notice::View(self.view.clone()));
        }
    }
}

/// A running daemon.
pub struct Running {
    pub id: DaemonId,
    /// Where processes reach it.
    pub address: Address,
    pub stop: CancellationToken,
    pub task: JoinHandle<Result<(), Failure>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn config(name: &str) -> Config {
    Config {
        cluster: "test".parse().unwrap(),
        name: name.parse().unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        membership: Vec::new(),
        ready_file: None,
        trace: None,
        state_dir: None,
        drain_timeout: Duration::from_secs(5),
        limits: Limits::default(),
        detection: Detection::default(),
        keepalive: Keepalive::default(),
        tls: TlsFiles::default(),
        auth: AuthFiles::default(),
        insecure: false,
        ops: Ops::default(),
        log: Log::default(),
    }
}

/// Starts a daemon and waits until it is enrolled.
pub async fn start(membership: &Membership, mut config: Config) -> Running {
    let files = tempfile::tempdir().unwrap();
    let ready = files.path().join("ready");
    config.ready_file = Some(ready.clone());
    let (name, stop, above) = (config.name, CancellationToken::new(), membership.clone());
    let enrol = async move |enrolment| above.enrol(enrolment).await;
    let task = tokio::spawn(gcs_svc::run_with(config, stop.clone(), enrol));
    let enrolled = async {
        loop {
            if let Some(id) = membership.find(name) {
                return id;
            }
            tokio::task::yield_now().await;
        }
    };
    let id = soon("the daemon to enrol", enrolled).await;
    let address = Address::new(std::fs::read_to_string(ready).unwrap().trim());
    Running { id, address, stop, task }
}

/// Starts daemons `d1`, `d2`, ... and waits until they are together.
pub async fn cluster(membership: &Membership, count: usize) -> Vec<Running> {
    let mut daemons = Vec::new();
    for number in 1..=count {
        daemons.push(start(membership, config(&format!("d{number}"))).await);
    }
    for daemon in &daemons {
        together(daemon, count).await;
    }
    daemons
}

/// Waits until a daemon is at work in a configuration of `count`.
pub async fn together(daemon: &Running, count: usize) {
    let mut client = client(&daemon.address).await;
    let settled = async {
        loop {
            let status = client.get_status(proto::gcs::v1::GetStatusRequest {}).await.unwrap().into_inner();
            if status.members.len() == count && status.phase == "steady" {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    soon("a configuration of all daemons", settled).await;
}

pub async fn client(address: &Address) -> GroupServiceClient<Channel> {
    GroupServiceClient::new(Wire::default().connect(address, Role::Machine).await.unwrap())
}

pub fn target(daemon: &Running, name: &str) -> Target {
    Target {
        addresses: vec![daemon.address.clone()],
        cluster: "test".parse().unwrap(),
        name: name.parse().unwrap(),
        wire: Wire::default(),
    }
}

pub async fn attach(daemon: &Running, name: &str) -> Attachment {
    soon("an attachment", Attachment::connect(&target(daemon, name))).await.unwrap()
}

pub fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

pub async fn join(process: &Attachment, name: &str) {
    process.commands.send(Command::Join(vec![group(name)])).await;
}

pub async fn multicast(process: &Attachment, to: &str, text: String) {
    process.commands.send(Command::multicast(group(to), text.into())).await;
}

/// Waits for a view of `name` with `count` members.
pub async fn view_of(process: &mut Attachment, name: &str, count: usize) -> GroupView {
    let name = group(name);
    let view = async {
        loop {
            let event = process.events.next().await.expect("attached");
            if let Event::Lost(loss) = &event {
                panic!("lost: {loss}");
            }
            let Event::Views(views) = event else { continue };
            let found = views.into_iter().find(|view| view.group == name && view.members.len() == count);
            if let Some(view) = found {
                return view;
            }
        }
    };
    soon("a view", view).await
}

/// The next `count` messages, as texts.
pub async fn messages(process: &mut Attachment, count: usize) -> Vec<String> {
    let read = async {
        let mut read = Vec::new();
        while read.len() < count {
            let event = process.events.next().await.expect("attached");
            if let Event::Message { payload, .. } = &event {
                read.push(String::from_utf8(payload.to_vec()).unwrap());
            }
            assert!(!matches!(event, Event::Lost(_)), "{event:?}");
        }
        read
    };
    soon("messages", read).await
}

/// Passes connections on to another address, until it cuts them.
pub struct Proxy {
    pub address: Address,
    cuts: watch::Sender<u32>,
}

impl Proxy {
    /// A proxy whose destination becomes known later.
    pub async fn start(destination: watch::Receiver<Option<Address>>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&listener.local_addr().unwrap().to_string());
        let (cuts, cut) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(pass(from, destination.clone(), cut.clone()));
            }
        });
        Proxy { address, cuts }
    }

    /// Breaks all connections that there are.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn pass(
    mut from: TcpStream,
    mut destination: watch::Receiver<Option<Address>>,
    mut cut: watch::Receiver<u32>,
) {
    cut.mark_unchanged();
    let Ok(address) = destination.wait_for(Option::is_some).await.map(|address| address.clone().unwrap())
    else {
        return;
    };
    let mut to = TcpStream::connect(address.as_str()).await.unwrap();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
        _ = cut.changed() => {}
    }
}
