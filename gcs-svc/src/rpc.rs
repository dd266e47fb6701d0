//! What processes and operators call: `GroupService`. Requests become facts for the machine, or questions to it.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use gcs_core::{Daemon, Input, Params, Throttle};
use model::{DaemonId, GroupName, Name, Outcome, ProcessId, Time};
use proto::encoded::{AttachResponse, WatchResponse};
use proto::gcs::v1 as pb;
use proto::gcs::v1::group_service_server::GroupService;
use svc_kit::access::Caller;
use svc_kit::driver::{Clock, Handle, Stopped};
use svc_kit::status;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::effects::{Mode, Standing};
use crate::history::History;
use crate::links::Links;
use crate::processes::{Admitted, Call, Processes};
use crate::refusals::{self, Refusals};
use crate::wire::{self, Malformed};

/// What processes have said and the machine has not performed, in bytes; every command counts for at least
/// [`COMMAND_MIN`]. Small against the machine's own queue, so that what comes after the machine has ordered to hold
/// always fits.
pub const FLIGHT_MAX: usize = 4 << 20;
const COMMAND_MIN: usize = 2 << 10;
/// As many commands are handed to the machine at a time.
const CHUNK: usize = 64;

/// The service, as gRPC calls it.
#[derive(Clone)]
pub struct GroupServer {
    /// Who we are.
    pub me: DaemonId,
    /// The cluster that we belong to.
    pub cluster: Name,
    /// The settings of the machine.
    pub params: Params,
    /// The machine.
    pub machine: Handle<Daemon>,
    /// Attached processes.
    pub processes: Arc<Processes>,
    /// The tasks that serve them.
    pub serving: TaskTracker,
    /// Of [`FLIGHT_MAX`].
    pub flight: Arc<Semaphore>,
    /// Our streams to other daemons.
    pub links: Arc<Links>,
    /// The views that processes were told.
    pub history: Arc<History>,
    /// What was refused.
    pub refusals: Arc<Refusals>,
    /// What the machine has ordered the whole process to be.
    pub mode: watch::Receiver<Mode>,
    /// The time.
    pub clock: Clock,
    /// When the daemon started.
    pub started: Time,
}

impl GroupServer {
    /// Checks that a process of `cluster` may come in.
    fn check_entry(&self, cluster: Name) -> Result<(), Status> {
        if cluster != self.cluster {
            self.refusals.count("FOREIGN_CLUSTER");
            return Err(refusals::foreign_cluster(self.cluster));
        }
        match self.mode.borrow().standing {
            Standing::Alone => Err(refusals::no_configuration()),
            Standing::Member => Ok(()),
        }
    }

    fn page_size(&self, given: i32) -> Result<usize, Status> {
        const DEFAULT: usize = 100;
        const MAX: usize = 1000;
        match usize::try_from(given) {
            Ok(0) => Ok(DEFAULT),
            Ok(size) if size <= MAX => Ok(size),
            Ok(_) | Err(_) => {
                let rule = format!("must be between 0 and {MAX}");
                Err(self.malformed(Malformed::new("page_size", rule)))
            }
        }
    }

    fn malformed(&self, malformed: Malformed) -> Status {
        self.refusals.count("MALFORMED_REQUEST");
        malformed.into()
    }

    /// Serves a process until its call ends, from either side.
    async fn serve(self, mut process: Process) -> Result<(), Stopped> {
        let connection = process.connection;
        self.machine.send(Input::Attach { connection, name: process.name }).await?;
        let call = Arc::clone(&process.call);
        tokio::select! {
            biased;
            () = call.over() => {}
            ended = self.read(&mut process) => match ended? {
                Some(reason) => self.processes.end(connection, reason),
                None => self.processes.close(connection),
            },
        }
        self.processes.close(connection);
        self.machine.send(Input::Detach { connection }).await
    }

    /// Reads commands until the process has said its last, or something that ends its call.
    async fn read(&self, process: &mut Process) -> Result<Option<Status>, Stopped> {
        loop {
            let mut commands = std::mem::take(&mut process.commands).into_iter().enumerate().peekable();
            while commands.peek().is_some() {
                let read = |(place, command)| {
                    wire::command(process.connection, command, &self.params)
                        .map_err(|malformed| malformed.inside(&format!("commands[{place}]")))
                };
                let mut facts = Vec::new();
                let chunk = commands.by_ref().take(CHUNK).map(read);
                let ended = chunk.map(|fact| fact.map(|fact| facts.push(fact))).find_map(Result::err);
                self.processes.catch_up(&process.call).await;
                self.hand_over(facts).await?;
                if let Some(malformed) = ended {
                    return Ok(Some(self.malformed(malformed)));
                }
            }
            match process.requests.message().await {
                Ok(Some(request)) if request.hello.is_some() => {
                    let again = Malformed::new("hello", "must be in the first request only");
                    return Ok(Some(self.malformed(again)));
                }
                Ok(Some(request)) => process.commands = request.commands,
                Ok(None) => return Ok(None),
                Err(status) => return Ok(Some(self.refusals.unreadable(status))),
            }
        }
    }
}

impl GroupServer {
    /// Tells the machine what a process said, as soon as it wants to hear it.
    async fn hand_over(&self, facts: Vec<Input>) -> Result<(), Stopped> {
        let bytes: usize = facts.iter().map(|fact| wire::command_cost(fact).max(COMMAND_MIN)).sum();
        let permits = u32::try_from(bytes.min(FLIGHT_MAX)).unwrap_or(u32::MAX);
        let flight = Arc::clone(&self.flight).acquire_many_owned(permits).await.map_err(|_| Stopped)?;
        let mut mode = self.mode.clone();
        mode.wait_for(|mode| mode.throttle == Throttle::Go).await.map_err(|_| Stopped)?;
        self.machine.send_all(facts).await?;
        self.machine.afterwards(move || drop(flight)).await
    }
}

/// A process that is being served.
struct Process {
    connection: u32,
    name: Name,
    call: Arc<Call>,
    commands: Vec<pb::Command>,
    requests: Streaming<pb::AttachRequest>,
}

/// A process that exists for the time of a unary call. When the caller goes away, so does it.
struct Guest<'a> {
    admitted: Admitted,
    server: &'a GroupServer,
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let connection = self.admitted.connection;
        self.server.processes.close(connection);
        let machine = self.server.machine.clone();
        // A machine that has stopped has nobody attached.
        self.server.serving.spawn(async move { machine.send(Input::Detach { connection }).await });
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl GroupService for GroupServer {
    type AttachStream = Responses<AttachResponse>;
    type WatchStream = Responses<WatchResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let caller = Caller::of(&request);
        let mut requests = request.into_inner();
        let first = requests.message().await.map_err(|status| self.refusals.unreadable(status))?;
        let first = first.unwrap_or_default();
        let (cluster, name) = wire::hello(first.hello).map_err(|malformed| self.malformed(malformed))?;
        self.check_entry(cluster)?;
        caller.speaks_for(name)?;
        let admitted = self.processes.admit()?;
        let (connection, call) = (admitted.connection, admitted.call);
        let process = Process { connection, name, call, commands: first.commands, requests };
        // It ends with the call or with the machine, and has nobody to report to.
        self.serving.spawn(self.clone().serve(process));
        let responses = admitted.told.responses(ProcessId::new(self.me, connection));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn multicast(
        &self,
        request: Request<pb::MulticastRequest>,
    ) -> Result<Response<pb::MulticastResponse>, Status> {
        let request = request.into_inner();
        let read = || {
            let cluster = wire::parse(&request.cluster, "cluster")?;
            let name = wire::parse(&request.name, "name")?;
            let group = wire::group_name(&request.group, "group")?;
            let payload = wire::payload(request.payload.clone(), "payload", &self.params)?;
            let terms = wire::terms(request.level, request.only_in.clone(), true)?;
            Ok((cluster, name, group, payload, terms))
        };
        let (cluster, name, group, payload, terms) = read().map_err(|malformed| self.malformed(malformed))?;
        self.check_entry(cluster)?;
        if self.mode.borrow().throttle == Throttle::Hold {
            return Err(refusals::holding());
        }
        let mut guest = Guest { admitted: self.processes.admit()?, server: self };
        let connection = guest.admitted.connection;
        let sent = async {
            self.machine.send(Input::Attach { connection, name }).await?;
            let multicast = Input::Multicast { connection, group: group.clone(), payload, terms };
            self.hand_over(vec![multicast]).await
        };
        sent.await.map_err(|Stopped| refusals::draining())?;
        match guest.admitted.told.outcome().await {
            Some(Outcome::Delivered { view, level }) => Ok(Response::new(pb::MulticastResponse {
                sender: ProcessId::new(self.me, connection).to_string(),
                view: Some(wire::group_view_id(view)),
                level: wire::write_level(level).into(),
            })),
            Some(Outcome::NoMembers) => Err(refusals::no_members(&group)),
            Some(Outcome::OtherView { view }) => Err(refusals::other_view(&group, view)),
            // Only members are blocked, and a guest is none; nor does its call end without a reason.
            Some(Outcome::Blocked) | None => {
                Err(guest.admitted.call.reason().unwrap_or_else(refusals::draining))
            }
        }
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let prefix: Arc<str> = request.into_inner().prefix.into();
        let admitted = self.processes.admit()?;
        let connection = admitted.connection;
        let watching = self.machine.send(Input::Watch { connection, prefix }).await;
        watching.map_err(|Stopped| refusals::draining())?;
        let machine = self.machine.clone();
        let (processes, call) = (Arc::clone(&self.processes), admitted.call);
        self.serving.spawn(async move {
            call.over().await;
            processes.close(connection);
            machine.send(Input::Detach { connection }).await
        });
        Ok(Response::new(Box::pin(admitted.told.seen())))
    }

    async fn list_groups(
        &self,
        request: Request<pb::ListGroupsRequest>,
    ) -> Result<Response<pb::ListGroupsResponse>, Status> {
        let request = request.into_inner();
        let size = self.page_size(request.page_size)?;
        let page = self.machine.ask(move |daemon| {
            let wanted = daemon
                .groups()
                .filter(|(name, _)| name.as_str() > request.page_token.as_str())
                .filter(|(name, _)| name.as_str().starts_with(&request.prefix))
                .map(|(name, members)| wire::group(name, daemon.view_of(name), members));
            wanted.take(size + 1).collect::<Vec<_>>()
        });
        let mut groups = page.await.map_err(|Stopped| refusals::draining())?;
        let more = groups.len() > size;
        groups.truncate(size);
        let last = groups.last().filter(|_| more);
        let next_page_token = last.map(|group| group.name.clone()).unwrap_or_default();
        Ok(Response::new(pb::ListGroupsResponse { groups, next_page_token }))
    }

    async fn get_group(
        &self,
        request: Request<pb::GetGroupRequest>,
    ) -> Result<Response<pb::GetGroupResponse>, Status> {
        let name = wire::group_name(&request.into_inner().name, "name");
        let name: GroupName = name.map_err(|malformed| self.malformed(malformed))?;
        let wanted = name.clone();
        let found = self.machine.ask(move |daemon| {
            let mut groups = daemon.groups();
            groups
                .find(|(name, _)| **name == wanted)
                .map(|(name, members)| wire::group(name, daemon.view_of(name), members))
        });
        match found.await.map_err(|Stopped| refusals::draining())? {
            Some(group) => Ok(Response::new(pb::GetGroupResponse { group: Some(group) })),
            None => Err(status::not_found("group", name.as_str())),
        }
    }

    async fn list_views(
        &self,
        request: Request<pb::ListViewsRequest>,
    ) -> Result<Response<pb::ListViewsResponse>, Status> {
        let request = request.into_inner();
        let size = self.page_size(request.page_size)?;
        let group = wire::group_name(&request.group, "group").map_err(|it| self.malformed(it))?;
        let before = match request.page_token.as_str() {
            "" => None,
            token => Some(wire::view_token(token, "page_token").map_err(|it| self.malformed(it))?),
        };
        let mut views = self.history.of(&group, before, size + 1);
        if views.is_empty() && before.is_none() {
            return Err(status::not_found("group", group.as_str()));
        }
        let has_more = views.len() > size;
        views.truncate(size);
        let last = views.last().filter(|_| has_more);
        let next_page_token = last.map(|(_, view)| view.id.to_string()).unwrap_or_default();
        let views = views.into_iter().map(|(time, view)| wire::past_view(time, &view)).collect();
        Ok(Response::new(pb::ListViewsResponse { views, next_page_token }))
    }

    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        let of_machine = self.machine.ask(|daemon| {
            let windows = daemon.windows();
            pb::GetStatusResponse {
                configuration: daemon.configuration().id.to_string(),
                members: daemon.configuration().members.keys().map(ToString::to_string).collect(),
                phase: daemon.phase().to_owned(),
                groups: daemon.groups().count() as u64,
                windows: Some(pb::Windows {
                    unstable: windows.unstable as u64,
                    unstable_bytes: windows.unstable_bytes as u64,
                    waiting: windows.waiting as u64,
                    held: windows.held as u64,
                    unacknowledged: windows.unacknowledged as u64,
                    late: windows.late,
                }),
                ..pb::GetStatusResponse::default()
            }
        });
        let of_machine = of_machine.await.map_err(|Stopped| refusals::draining())?;
        let link = |link: crate::links::LinkStatus| pb::Link {
            peer: link.peer.to_string(),
            address: link.address.to_string(),
            up: link.up,
            opened: link.opened,
        };
        let uptime = self.clock.now().since(self.started);
        Ok(Response::new(pb::GetStatusResponse {
            daemon: self.me.to_string(),
            cluster: self.cluster.to_string(),
            processes: self.processes.count() as u32,
            links: self.links.status().into_iter().map(link).collect(),
            refused: self.refusals.counts().into_iter().map(|(word, n)| (word.to_owned(), n)).collect(),
            uptime: prost_types::Duration::try_from(uptime).ok(),
            holding: self.mode.borrow().throttle == Throttle::Hold,
            ..of_machine
        }))
    }
}
