//! A daemon with one process, and groups that have no member but that.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use model::Address;
use prost::Message as _;
use proto::encoded::AttachResponse;
use proto::gcs::v1 as pb;
use proto::gcs::v1::command::Command;
use proto::gcs::v1::event::Event;
use proto::gcs::v1::group_service_server::{GroupService, GroupServiceServer};
use serde::Serialize;
use svc_kit::access::Access;
use svc_kit::serve::{Listener, Services};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::bed::soon;

type Told = mpsc::Sender<Result<AttachResponse, Status>>;

/// The daemon.
pub struct Daemon {
    pub address: Address,
    attached: mpsc::Receiver<Process>,
    _stop: tokio_util::sync::DropGuard,
}

/// An attachment of the server.
pub struct Process {
    pub id: String,
    pub hello: pb::AttachHello,
    told: Told,
    /// What it did, as it did it: `join content/film`.
    did: mpsc::Receiver<String>,
}

impl Daemon {
    pub async fn start() -> Daemon {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let (address, stop) = (listener.advertised().clone(), CancellationToken::new());
        let (attaches, attached) = mpsc::channel(8);
        let service = Service { attaches, connections: Arc::default() };
        let services = Services::new().with(GroupServiceServer::new(service), |_| Access::Anybody);
        let server = crate::bed::server(services).await;
        tokio::spawn(server.serve(listener, stop.clone()));
        Daemon { address, attached, _stop: stop.drop_guard() }
    }

    /// The next attachment of the server.
    pub async fn process(&mut self) -> Process {
        soon(self.attached.recv()).await.unwrap()
    }
}

impl Process {
    /// Waits until the process does this.
    pub async fn does(&mut self, what: &str) {
        let mut before = Vec::new();
        let found = soon(async {
            while let Some(did) = self.did.recv().await {
                if did == what {
                    return true;
                }
                before.push(did);
            }
            false
        });
        assert!(found.await, "it does not {what}, but {before:?}");
    }

    /// Delivers a multicast of somebody else.
    pub async fn deliver<M: Serialize>(&self, group: &str, message: &M) {
        let payload = postcard::to_extend(message, vec![1]).unwrap().into();
        self.deliver_bytes(group, payload).await;
    }

    pub async fn deliver_bytes(&self, group: &str, payload: Bytes) {
        let event = message("machine-9#1/1", 1, group, payload);
        self.told.send(Ok(response(&[event]))).await.unwrap();
    }

    /// The process is lost, as after a crash of the daemon.
    pub async fn lose(self) {
        self.told.send(Err(Status::unavailable("the daemon is gone"))).await.unwrap();
    }

    /// The process is told that what it says makes no sense.
    pub async fn refuse(self) {
        self.told.send(Err(Status::invalid_argument("that is too long"))).await.unwrap();
    }
}

fn response(events: &[pb::Event]) -> AttachResponse {
    let events = events.iter().map(|event| event.encode_to_vec().into()).collect();
    AttachResponse { attached: None, events }
}

fn view_id(position: u64) -> Option<pb::GroupViewId> {
    Some(pb::GroupViewId { configuration: "v1.beef".into(), position })
}

fn message(sender: &str, number: u64, group: &str, payload: Bytes) -> pb::Event {
    let (group, sender, view, level) = (group.into(), sender.into(), view_id(1), pb::Level::Agreed.into());
    pb::Event { event: Some(Event::Message(pb::Message { group, sender, number, view, payload, level })) }
}

#[derive(Clone)]
struct Service {
    attaches: mpsc::Sender<Process>,
    connections: Arc<AtomicU32>,
}

impl Service {
    async fn attend(self, mut requests: Streaming<pb::AttachRequest>, told: Told) -> Result<(), Status> {
        let hello = requests.message().await?.and_then(|first| first.hello).unwrap();
        let connection = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let id = format!("machine-1#1/{connection}");
        let attached =
            AttachResponse { attached: Some(pb::Attached { process: id.clone() }), events: vec![] };
        told.send(Ok(attached)).await.unwrap();
        let (does, did) = mpsc::channel(1024);
        let process = Process { id: id.clone(), hello, told: told.clone(), did };
        self.attaches.send(process).await.unwrap();
        let (mut groups, mut position) = (BTreeSet::new(), 0);
        while let Some(request) = requests.message().await? {
            for command in request.commands {
                let (done, events) = perform(&id, command.command.unwrap(), &mut groups, &mut position);
                for it in done {
                    // A test that has seen enough does not look any more.
                    drop(does.send(it).await);
                }
                if told.send(Ok(response(&events))).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn perform(
    process: &str,
    command: Command,
    groups: &mut BTreeSet<String>,
    position: &mut u64,
) -> (Vec<String>, Vec<pb::Event>) {
    *position += 1;
    match command {
        Command::Join(join) => {
            let member =
                || pb::Member { process: process.into(), name: "s".into(), joined: true, transitional: true };
            let view = |group: &String| pb::GroupView {
                group: group.clone(),
                id: view_id(*position),
                members: vec![member()],
                left: vec![],
                primary: false,
            };
            groups.extend(join.groups.iter().cloned());
            let views = join.groups.iter().map(view).collect();
            let event = pb::Event { event: Some(Event::Views(pb::Views { views, continued: false })) };
            (join.groups.iter().map(|group| format!("join {group}")).collect(), vec![event])
        }
        Command::Leave(leave) => {
            groups.retain(|group| !leave.groups.contains(group));
            (leave.groups.iter().map(|group| format!("leave {group}")).collect(), vec![])
        }
        Command::Multicast(multicast) => {
            let pb::Multicast { group, payload, .. } = multicast;
            let back = groups.contains(&group).then(|| message(process, *position, &group, payload));
            (vec![format!("multicast to {group}")], back.into_iter().collect())
        }
        Command::Blocked(_) | Command::State(_) => unreachable!("a server's groups are of the plain kind"),
    }
}

#[tonic::async_trait]
impl GroupService for Service {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;
    type WatchStream = futures::stream::Empty<Result<proto::encoded::WatchResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (told, responses) = mpsc::channel(1024);
        tokio::spawn(self.clone().attend(request.into_inner(), told));
        // An error is the last thing that a call says.
        let responses = ReceiverStream::new(responses).scan(false, |over, response| {
            let go_on = !*over;
            *over = response.is_err();
            std::future::ready(go_on.then_some(response))
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn watch(&self, _: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn multicast(
        &self,
        _: Request<pb::MulticastRequest>,
    ) -> Result<Response<pb::MulticastResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_groups(
        &self,
        _: Request<pb::ListGroupsRequest>,
    ) -> Result<Response<pb::ListGroupsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_views(
        &self,
        _: Request<pb::ListViewsRequest>,
    ) -> Result<Response<pb::ListViewsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_group(
        &self,
        _: Request<pb::GetGroupRequest>,
    ) -> Result<Response<pb::GetGroupResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
