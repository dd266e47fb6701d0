//! One attachment of a process to a daemon: a call with commands one way and events the other way.
//!
//! Queues: [`COMMANDS_MAX`] commands wait for the daemon to read them; then [`Commands::send`] waits and
//! [`Commands::try_send`] gives back. Events wait at the daemon, which evicts a process that lets too many of them
//! wait.

use std::vec;

use bytes::Bytes;
use futures::{Stream, stream};
use model::{Address, Name, ProcessId};
use prost::Message;
use proto::encoded::AttachResponse;
use proto::gcs::v1 as pb;
use proto::gcs::v1::group_service_client::GroupServiceClient;
use svc_kit::dial::{self, Backoff, DialError, MESSAGE_BYTES_MAX, Wire};
use svc_kit::status;
use svc_kit::tls::Role;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use crate::wire::{self, Reader};
use crate::{Command, Event, Loss};

/// How many commands may wait to be sent.
const COMMANDS_MAX: usize = 4096;
/// Commands go out together up to about this many bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// What to attach to, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// Daemons, the preferred one first.
    pub addresses: Vec<Address>,
    /// The cluster that this process belongs to.
    pub cluster: Name,
    /// What this process calls itself.
    pub name: Name,
    /// How it is connected.
    pub wire: Wire,
}

/// Why trying again is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// There is no daemon to attach to.
    #[error("no daemon is given")]
    NoAddress,
    /// An address has no legal form.
    #[error(transparent)]
    BadAddress(#[from] dial::BadAddress),
    /// A daemon refuses this process, and so would the others: wrong cluster, for one.
    #[error("{address} refuses: {message}")]
    Refused {
        /// Who refuses.
        address: Address,
        /// Why.
        message: String,
    },
}

/// A process that is attached to a daemon. It is so for as long as both halves are kept.
#[derive(Debug)]
pub struct Attachment {
    /// The id of the process for this life of it.
    pub process: ProcessId,
    /// The daemon.
    pub address: Address,
    /// What it wants done.
    pub commands: Commands,
    /// What it is told.
    pub events: Events,
}

enum Attempt {
    Hopeless(ConnectError),
    Failed(String),
}

impl Attachment {
    /// Attaches to the first daemon of `target` that takes the process. As long as none does, all are tried again,
    /// after pauses that grow to half a second.
    pub async fn connect(target: &Target) -> Result<Attachment, ConnectError> {
        if target.addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let mut backoff = Backoff::new();
        loop {
            for address in &target.addresses {
                match attach(target, address).await {
                    Ok(attachment) => {
                        tracing::info!(process = %attachment.process, %address, "attached");
                        return Ok(attachment);
                    }
                    Err(Attempt::Hopeless(error)) => return Err(error),
                    Err(Attempt::Failed(reason)) => tracing::debug!(%address, reason, "not attached"),
                }
            }
            backoff.pause().await;
        }
    }
}

async fn attach(target: &Target, address: &Address) -> Result<Attachment, Attempt> {
    let channel = target.wire.connect(address, Role::Machine).await.map_err(|error| match error {
        DialError::Address(bad) => Attempt::Hopeless(ConnectError::BadAddress(bad)),
        DialError::Unreachable { .. } => Attempt::Failed(error.to_string()),
    })?;
    let failed = |status: Status| {
        let message = status.message().to_owned();
        if is_final(status.code()) {
            Attempt::Hopeless(ConnectError::Refused { address: address.clone(), message })
        } else {
            Attempt::Failed(message)
        }
    };
    let (commands, queue) = mpsc::channel(COMMANDS_MAX);
    let hello = pb::AttachHello { cluster: target.cluster.to_string(), name: target.name.to_string() };
    let mut client = GroupServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut responses = client.attach(requests(hello, queue)).await.map_err(failed)?.into_inner();
    let first = responses.message().await.map_err(failed)?.unwrap_or_default();
    let attached =
        first.attached.ok_or_else(|| Attempt::Failed("the daemon did not say who we are".into()))?;
    let process = wire::parse(&attached.process, "attached.process")
        .map_err(|malformed| Attempt::Failed(malformed.to_string()))?;
    let events = Events {
        responses,
        waiting: first.events.into_iter(),
        reader: Reader::default(),
        state: State::Attached,
    };
    Ok(Attachment { process, address: address.clone(), commands: Commands(commands), events })
}

/// The requests of an attachment: hello, then whatever commands are queued, in batches.
fn requests(hello: pb::AttachHello, queue: mpsc::Receiver<Command>) -> impl Stream<Item = pb::AttachRequest> {
    let hello = pb::AttachRequest { hello: Some(hello), commands: Vec::new() };
    stream::unfold((Some(hello), queue), async |(hello, mut queue)| match hello {
        Some(hello) => Some((hello, (None, queue))),
        None => {
            let first = queue.recv().await?;
            Some((batch(first, &mut queue), (None, queue)))
        }
    })
}

fn batch(first: Command, queue: &mut mpsc::Receiver<Command>) -> pb::AttachRequest {
    let mut commands = vec![wire::command(first)];
    let mut bytes = commands[0].encoded_len();
    while bytes < BATCH_BYTES
        && let Ok(next) = queue.try_recv()
    {
        let next = wire::command(next);
        bytes += next.encoded_len();
        commands.push(next);
    }
    pb::AttachRequest { hello: None, commands }
}

/// The half of an attachment that takes commands. Copies share one queue.
#[derive(Clone, Debug)]
pub struct Commands(mpsc::Sender<Command>);

/// Why a command was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryCommandError {
    /// The daemon does not read as fast as commands come. Here is the command.
    #[error("too many commands are waiting")]
    Full(Command),
    /// The attachment is over; the events say why.
    #[error("the attachment is over")]
    Lost,
}

impl Commands {
    /// Queues a command, waiting for room. A command to an attachment that is over has no effect: its loss is an
    /// event.
    pub async fn send(&self, command: Command) {
        // The one way to fail is that the call has ended.
        drop(self.0.send(command).await);
    }

    /// Queues a command if there is room.
    pub fn try_send(&self, command: Command) -> Result<(), TryCommandError> {
        self.0.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(command) => TryCommandError::Full(command),
            mpsc::error::TrySendError::Closed(_) => TryCommandError::Lost,
        })
    }
}

/// The half of an attachment that tells events.
#[derive(Debug)]
pub struct Events {
    responses: Streaming<AttachResponse>,
    /// Of the last response, each encoded.
    waiting: vec::IntoIter<Bytes>,
    reader: Reader,
    state: State,
}

#[derive(Debug)]
enum State {
    Attached,
    Over,
}

impl Events {
    /// The next event; nothing after [`Event::Lost`]. Nothing is lost if the caller stops waiting.
    pub async fn next(&mut self) -> Option<Event> {
        match self.state {
            State::Over => None,
            State::Attached => match self.read().await {
                Ok(event) => Some(event),
                Err(loss) => {
                    self.state = State::Over;
                    Some(Event::Lost(loss))
                }
            },
        }
    }

    async fn read(&mut self) -> Result<Event, Loss> {
        loop {
            for event in &mut self.waiting {
                let event = pb::Event::decode(event).map_err(|error| Loss::Broken(error.to_string()))?;
                let event = self.reader.read(event).map_err(|error| Loss::Broken(error.to_string()))?;
                if let Some(event) = event {
                    return Ok(event);
                }
            }
            match self.responses.message().await {
                Ok(Some(response)) => self.waiting = response.events.into_iter(),
                Ok(None) => return Err(Loss::Broken("the daemon ended the call".into())),
                Err(status) => return Err(loss(&status)),
            }
        }
    }
}

/// Whether every daemon of the cluster would answer the same.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}

fn loss(status: &Status) -> Loss {
    let message = status.message().to_owned();
    if status::reason(status).as_deref() == Some("DRAINING") {
        Loss::Draining
    } else if status.code() == Code::ResourceExhausted {
        Loss::Evicted(message)
    } else if is_final(status.code()) {
        Loss::Refused(message)
    } else {
        Loss::Broken(message)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::time::Duration;

    use model::GroupName;
    use proto::gcs::v1::group_service_server::{GroupService, GroupServiceServer};
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response};

    use super::*;

    /// A daemon that plays one fixed part: `answer` follows the first request of a call.
    #[derive(Clone)]
    struct Scripted {
        answer: Result<Vec<AttachResponse>, Status>,
        end: Option<Status>,
        heard: mpsc::Sender<pb::AttachRequest>,
    }

    type Responses = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

    #[tonic::async_trait]
    impl GroupService for Scripted {
        type AttachStream = Responses;
        type WatchStream = futures::stream::Empty<Result<proto::encoded::WatchResponse, Status>>;

        async fn attach(
            &self,
            request: Request<Streaming<pb::AttachRequest>>,
        ) -> Result<Response<Responses>, Status> {
            let answer = self.answer.clone()?;
            let (mut requests, heard) = (request.into_inner(), self.heard.clone());
            tokio::spawn(async move {
                while let Ok(Some(request)) = requests.message().await {
                    heard.send(request).await.unwrap();
                }
            });
            let end = self.end.clone().map(Err);
            Ok(Response::new(Box::pin(stream::iter(answer.into_iter().map(Ok).chain(end)))))
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

    async fn start(
        answer: Result<Vec<AttachResponse>, Status>,
        end: Option<Status>,
    ) -> (Address, mpsc::Receiver<pb::AttachRequest>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&listener.local_addr().unwrap().to_string());
        let (heard, requests) = mpsc::channel(64);
        let server = GroupServiceServer::new(Scripted { answer, end, heard });
        let server = tonic::transport::Server::builder().add_service(server);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (address, requests)
    }

    fn target(addresses: &[&Address]) -> Target {
        Target {
            addresses: addresses.iter().map(|address| (*address).clone()).collect(),
            cluster: "test".parse().unwrap(),
            name: "me".parse().unwrap(),
            wire: Wire::default(),
        }
    }

    fn attached() -> AttachResponse {
        let attached = pb::Attached { process: "machine-1#7/3".into() };
        AttachResponse { attached: Some(attached), events: Vec::new() }
    }

    fn told(events: &[pb::Event]) -> AttachResponse {
        let events = events.iter().map(|event| event.encode_to_vec().into()).collect();
        AttachResponse { attached: None, events }
    }

    fn message(number: u64) -> pb::Event {
        let id = pb::GroupViewId { configuration: "v4.beef".into(), position: 2 };
        let message = pb::Message {
            group: "g".into(),
            sender: "machine-1#7/3".into(),
            number,
            view: Some(id),
            payload: bytes::Bytes::from_static(b"hello"),
            level: pb::Level::Agreed.into(),
        };
        pb::Event { event: Some(pb::event::Event::Message(message)) }
    }

    async fn connect(addresses: &[&Address]) -> Result<Attachment, ConnectError> {
        let target = target(addresses);
        tokio::time::timeout(Duration::from_secs(10), Attachment::connect(&target)).await.unwrap()
    }

    #[tokio::test]
    async fn hello_comes_first_and_commands_follow_in_order() {
        let (address, mut heard) = start(Ok(vec![attached()]), None).await;
        let attachment = connect(&[&address]).await.unwrap();
        assert_eq!(attachment.process.to_string(), "machine-1#7/3");
        let group = GroupName::new("g").unwrap();
        attachment.commands.send(Command::Join(vec![group.clone()])).await;
        let payload = bytes::Bytes::from_static(b"hello");
        attachment.commands.try_send(Command::multicast(group, payload)).unwrap();
        let hello = heard.recv().await.unwrap().hello.unwrap();
        assert_eq!((hello.cluster.as_str(), hello.name.as_str()), ("test", "me"));
        let mut commands = Vec::new();
        while commands.len() < 2 {
            commands.extend(heard.recv().await.unwrap().commands);
        }
        assert!(matches!(commands[0].command, Some(pb::command::Command::Join(_))));
        assert!(matches!(commands[1].command, Some(pb::command::Command::Multicast(_))));
    }

    #[tokio::test]
    async fn the_next_daemon_is_tried_when_one_is_gone_or_draining() {
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Address::new(&listener.local_addr().unwrap().to_string())
        };
        let draining = status::unavailable("DRAINING", "draining", Duration::ZERO);
        let (draining, _heard) = start(Err(draining), None).await;
        let (living, _heard) = start(Ok(vec![attached()]), None).await;
        assert_eq!(connect(&[&gone, &draining, &living]).await.unwrap().address, living);
    }

    #[tokio::test]
    async fn a_refusal_is_not_tried_again() {
        let wrong = status::because(Code::FailedPrecondition, "FOREIGN_CLUSTER", "this is cluster other");
        let (address, _heard) = start(Err(wrong), None).await;
        let refused =
            ConnectError::Refused { address: address.clone(), message: "this is cluster other".into() };
        assert_eq!(connect(&[&address]).await.err(), Some(refused));
        assert_eq!(connect(&[]).await.err(), Some(ConnectError::NoAddress));
    }

    #[tokio::test]
    async fn a_loss_is_one_event_and_the_last() {
        let draining = status::unavailable("DRAINING", "draining", Duration::ZERO);
        let slow = status::exhausted("PROCESS_TOO_SLOW", "too slow", Duration::ZERO);
        for (end, loss) in [
            (Some(draining), Loss::Draining),
            (Some(slow), Loss::Evicted("too slow".into())),
            (Some(Status::invalid_argument("bad group")), Loss::Refused("bad group".into())),
            (None, Loss::Broken("the daemon ended the call".into())),
        ] {
            let events = told(&[message(1), message(2)]);
            let (address, _heard) = start(Ok(vec![attached(), events]), end).await;
            let mut events = connect(&[&address]).await.unwrap().events;
            for number in [1, 2] {
                let Some(Event::Message { id, .. }) = events.next().await else { panic!("no message") };
                assert_eq!(id.number(), number);
            }
            assert_eq!(events.next().await, Some(Event::Lost(loss)));
            assert_eq!(events.next().await, None);
        }
    }

    #[tokio::test]
    async fn a_malformed_event_is_a_loss() {
        let events = told(&[pb::Event { event: None }]);
        let (address, _heard) = start(Ok(vec![attached(), events]), None).await;
        let mut events = connect(&[&address]).await.unwrap().events;
        let lost = Event::Lost(Loss::Broken("event is missing or malformed".into()));
        assert_eq!(events.next().await, Some(lost));
    }
}
