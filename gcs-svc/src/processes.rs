//! The attached processes: what waits for each of them, and how each call ends.
//!
//! Bounds: a process that lets more events wait than `limits.events`, or more of their bytes than
//! `limits.event_bytes`, is evicted with `PROCESS_TOO_SLOW`. The others do not notice. Before that, from half of a
//! limit on, its commands are read slowly, so that who sends more than it reads slows down in time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use gcs_core::ProcessEvent;
use model::{Outcome, ProcessId};
use proto::encoded::{AttachResponse, WatchResponse};
use proto::gcs::v1 as pb;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::config::Limits;
use crate::events::Writer;
use crate::refusals;

/// Events go out together up to about this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// How long the commands of a process that is behind with its events are held up. Not for ever: it may be waiting for
/// us to read them before it reads on.
const HOLD_UP_MAX: Duration = Duration::from_secs(1);

/// What an event costs beside its bytes, roughly.
const OVERHEAD: usize = 128;

/// Events that were told together, shared by all who were told.
#[derive(Clone, Debug)]
struct Chunk {
    /// How much of `limits.event_bytes` it takes. Every event takes at least its share by number.
    cost: usize,
    bytes: usize,
    /// Each encoded.
    events: Arc<[Bytes]>,
    /// What became of the process's last multicast, if it is told so together with these.
    outcome: Option<Outcome>,
}

/// All attached processes.
#[derive(Debug)]
pub struct Processes {
    limits: Limits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Connections are never used twice.
    last: u32,
    attached: HashMap<u32, Outbox>,
    doors: Doors,
    writer: Writer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Doors {
    #[default]
    Open,
    /// An operator keeps the daemon out of the cluster.
    Barred,
    /// The daemon is about to end.
    Closed,
}

/// The end of a process's queue at which events go in.
#[derive(Debug)]
struct Outbox {
    events: mpsc::Sender<Chunk>,
    call: Arc<Call>,
}

/// The call of a process: both of its directions end together.
#[derive(Debug, Default)]
pub struct Call {
    /// Of `limits.event_bytes`.
    waiting: AtomicUsize,
    /// Some of it was sent.
    sent: Notify,
    over: CancellationToken,
    reason: OnceLock<Status>,
}

impl Call {
    /// Waits for the end.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Why the daemon ended it, if it did.
    pub fn reason(&self) -> Option<Status> {
        self.reason.get().cloned()
    }

    /// Waits until less than `limit` waits for the process, but not for ever.
    async fn catch_up(&self, limit: usize) {
        let below = async {
            while self.waiting.load(Ordering::Relaxed) >= limit {
                self.sent.notified().await;
            }
        };
        // Who has not caught up by then will be evicted when its queue is full.
        drop(tokio::time::timeout(HOLD_UP_MAX, below).await);
    }

    fn end(&self, reason: Status) {
        // Whoever is first to end a call says why.
        drop(self.reason.set(reason));
        self.over.cancel();
    }
}

/// A process that was let in.
pub struct Admitted {
    /// Its connection.
    pub connection: u32,
    /// Its call.
    pub call: Arc<Call>,
    /// What it will be told.
    pub told: Told,
}

/// The other end of the queue.
pub struct Told {
    events: mpsc::Receiver<Chunk>,
    call: Arc<Call>,
}

impl Processes {
    /// Nobody yet.
    pub fn new(limits: Limits) -> Processes {
        Processes { limits, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a process in, under a connection of its own.
    pub fn admit(&self) -> Result<Admitted, Status> {
        let mut table = self.table();
        match table.doors {
            Doors::Open => {}
            Doors::Barred => return Err(refusals::barred()),
            Doors::Closed => return Err(refusals::draining()),
        }
        table.last += 1;
        let connection = table.last;
        let (sender, events) = mpsc::channel(self.limits.events);
        let call = Arc::new(Call::default());
        table.attached.insert(connection, Outbox { events: sender, call: Arc::clone(&call) });
        Ok(Admitted { connection, call: Arc::clone(&call), told: Told { events, call } })
    }

    /// Waits until a process is not far behind with its events, but not for ever.
    pub async fn catch_up(&self, call: &Call) {
        call.catch_up(self.limits.event_bytes / 2).await;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table().attached.len()
    }

    /// Queues events for each of `connections`, and evicts those whose queue is full.
    pub fn tell(&self, connections: &[u32], events: impl IntoIterator<Item = ProcessEvent>) {
        let mut table = self.table();
        let (mut written, mut last) = (Vec::new(), None);
        for event in events {
            if let ProcessEvent::Outcome { outcome, .. } = &event {
                last = Some(*outcome);
            }
            table.writer.write(event, &mut written);
        }
        for chunk in chunks(written, self.limits.event_bytes / self.limits.events, last) {
            for connection in connections {
                table.queue(*connection, &chunk, self.limits.event_bytes);
            }
        }
    }

    /// Ends the call of a process.
    pub fn end(&self, connection: u32, reason: Status) {
        if let Some(outbox) = self.table().attached.remove(&connection) {
            outbox.call.end(reason);
        }
    }

    /// The process has said that it is done: it gets what waits for it, and its call ends well.
    pub fn close(&self, connection: u32) {
        self.table().attached.remove(&connection);
    }

    /// Ends the calls of all processes, and lets nobody in any more.
    pub fn drain(&self) {
        self.dismiss(Doors::Closed, &refusals::draining());
    }

    /// Ends the calls of all processes, and lets nobody in until [`Processes::let_in`].
    pub fn bar(&self) {
        self.dismiss(Doors::Barred, &refusals::barred());
    }

    /// Lets processes in again.
    pub fn let_in(&self) {
        self.table().doors = Doors::Open;
    }

    fn dismiss(&self, doors: Doors, reason: &Status) {
        let mut table = self.table();
        table.doors = doors;
        for (_, outbox) in table.attached.drain() {
            outbox.call.end(reason.clone());
        }
    }
}

impl Table {
    /// Queues a chunk for a process, or evicts it.
    fn queue(&mut self, connection: u32, chunk: &Chunk, limit: usize) {
        let Some(outbox) = self.attached.get(&connection) else { return };
        let waiting = outbox.call.waiting.fetch_add(chunk.cost, Ordering::Relaxed);
        let fits = waiting == 0 || waiting + chunk.cost <= limit;
        if !fits || outbox.events.try_send(chunk.clone()).is_err() {
            tracing::warn!(connection, waiting, "evicted: the process does not read its events");
            outbox.call.end(refusals::process_too_slow());
            self.attached.remove(&connection);
        }
    }
}

/// Events in chunks of about [`BATCH_BYTES`]. Each event takes at least `share` of the limit.
fn chunks(written: Vec<Bytes>, share: usize, outcome: Option<Outcome>) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut written = written.into_iter().peekable();
    while written.peek().is_some() {
        let (mut events, mut bytes, mut cost) = (Vec::new(), 0, 0);
        while let Some(event) = written.next_if(|_| bytes < BATCH_BYTES) {
            bytes += event.len();
            cost += share.max(OVERHEAD + event.len());
            events.push(event);
        }
        chunks.push(Chunk { cost, bytes, events: events.into(), outcome });
    }
    chunks
}

impl Told {
    /// The responses of the call: first who the process is, then its events, then why it ended. When the caller goes
    /// away, the call is over.
    pub fn responses(self, process: ProcessId) -> impl Stream<Item = Result<AttachResponse, Status>> + Send {
        let attached = pb::Attached { process: process.to_string() };
        let first = AttachResponse { attached: Some(attached), events: Vec::new() };
        let gone = self.call.over.clone().drop_guard();
        let events = stream::unfold((Some(self), gone), async |(told, gone): (Option<Told>, DropGuard)| {
            let mut told = told?;
            let response = told.next().await?;
            let told = response.is_ok().then_some(told);
            Some((response, (told, gone)))
        });
        stream::once(std::future::ready(Ok(first))).chain(events)
    }

    /// The responses of a call that watches.
    pub fn seen(self) -> impl Stream<Item = Result<WatchResponse, Status>> + Send {
        let gone = self.call.over.clone().drop_guard();
        stream::unfold((Some(self), gone), async |(told, gone): (Option<Told>, DropGuard)| {
            let mut told = told?;
            let response = told.next().await?.map(|response| WatchResponse { events: response.events });
            let told = response.is_ok().then_some(told);
            Some((response, (told, gone)))
        })
    }

    /// Waits for what became of the process's only multicast. The call may end before.
    pub async fn outcome(&mut self) -> Option<Outcome> {
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.call.over() => None,
                chunk = self.events.recv() => chunk,
            };
            if let Some(outcome) = chunk?.outcome {
                return Some(outcome);
            }
        }
    }

    async fn next(&mut self) -> Option<Result<AttachResponse, Status>> {
        tokio::select! {
            biased;
            () = self.call.over() => self.call.reason().map(Err),
            chunk = self.events.recv() => match chunk {
                Some(chunk) => Some(Ok(self.batch(chunk))),
                // A call that was ended has its reason before its queue is gone.
                None => self.call.reason().map(Err),
            },
        }
    }

    fn batch(&mut self, first: Chunk) -> AttachResponse {
        let mut response = AttachResponse::default();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(chunk) = next {
            self.call.waiting.fetch_sub(chunk.cost, Ordering::Relaxed);
            bytes += chunk.bytes;
            response.events.extend(chunk.events.iter().cloned());
            next = if bytes < BATCH_BYTES { self.events.try_recv().ok() } else { None };
        }
        self.call.sent.notify_one();
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{ConfigurationId, GroupName, GroupView, GroupViewId, MessageId};
    use prost::Message as _;
    use svc_kit::dial::MESSAGE_BYTES_MAX;
    use tokio::time::Instant;
    use tonic::Code;

    use super::*;

    const KIB: usize = 1024;

    fn processes() -> Processes {
        Processes::new(Limits { events: 16, event_bytes: 16 * KIB, ..Limits::default() })
    }

    fn message(bytes: usize) -> ProcessEvent {
        let configuration = ConfigurationId::new(1, 1);
        ProcessEvent::Message {
            group: GroupName::new("g").unwrap(),
            id: MessageId::new("d1#1/1".parse().unwrap(), 1),
            view: GroupViewId { configuration, position: 1 },
            level: model::Level::Agreed,
            payload: vec![0; bytes].into(),
        }
    }

    #[tokio::test]
    async fn either_limit_evicts_and_the_others_stay() {
        for (bytes, fit) in [(1, 16), (4 * KIB, 3)] {
            let processes = processes();
            let (slow, quick) = (processes.admit().unwrap(), processes.admit().unwrap());
            let mut quick_told = quick.told;
            for _ in 0..fit {
                processes.tell(&[slow.connection, quick.connection], [message(bytes)]);
                assert!(quick_told.next().await.is_some_and(|response| response.is_ok()));
            }
            assert!(slow.call.reason().is_none(), "{fit} events of {bytes} bytes fit");
            processes.tell(&[slow.connection, quick.connection], [message(bytes)]);
            let status = slow.call.reason().unwrap();
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert!(quick.call.reason().is_none());
            assert_eq!(processes.count(), 1);
        }
    }

    #[tokio::test]
    async fn a_step_with_very_many_views_takes_several_responses() {
        const COUNT: usize = 50_000;
        let view = |number| GroupView {
            group: GroupName::new(&format!("session/film-1/{number:032}")).unwrap(),
            id: GroupViewId { configuration: ConfigurationId::new(1, 1), position: 1 },
            members: Vec::new(),
            joined: Vec::new(),
            left: vec!["d1#1/1".parse().unwrap(); 3],
            transitional: Vec::new(),
            primary: false,
        };
        let processes = Processes::new(Limits::default());
        let Admitted { connection, mut told, .. } = processes.admit().unwrap();
        processes.tell(&[connection], [ProcessEvent::Views((0..COUNT).map(view).map(Arc::new).collect())]);
        processes.close(connection);
        let (mut views, mut responses) = (0, 0);
        while let Some(response) = told.next().await {
            let response = response.unwrap();
            assert!(response.encoded_len() <= MESSAGE_BYTES_MAX / 2);
            responses += 1;
            for event in response.events {
                let event = pb::Event::decode(event).unwrap().event;
                let Some(pb::event::Event::Views(part)) = event else { panic!("not views") };
                views += part.views.len();
            }
        }
        assert_eq!(views, COUNT);
        assert!(responses > 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_is_held_up_until_it_has_caught_up_but_not_for_ever() {
        let processes = processes();
        let Admitted { connection, call, mut told } = processes.admit().unwrap();
        let start = Instant::now();
        processes.catch_up(&call).await;
        assert_eq!(start.elapsed(), Duration::ZERO, "nothing waits");
        for _ in 0..8 {
            processes.tell(&[connection], [message(KIB - 200)]);
        }
        processes.catch_up(&call).await;
        assert_eq!(start.elapsed().as_secs(), HOLD_UP_MAX.as_secs());
        let reads_later = async {
            tokio::time::sleep(HOLD_UP_MAX / 4).await;
            told.next().await.map(|response| response.map(|response| response.events.len()).ok())
        };
        let ((), read) = tokio::join!(processes.catch_up(&call), reads_later);
        assert_eq!(read, Some(Some(8)));
        assert!(start.elapsed() < HOLD_UP_MAX + HOLD_UP_MAX / 2);
    }

    #[tokio::test]
    async fn whoever_ends_a_call_first_says_why() {
        let processes = processes();
        let Admitted { connection, call, mut told } = processes.admit().unwrap();
        processes.end(connection, Status::invalid_argument("bad"));
        processes.drain();
        assert_eq!(call.reason().map(|status| status.code()), Some(Code::InvalidArgument));
        let last = told.next().await.and_then(Result::err);
        assert_eq!(last.map(|status| status.code()), Some(Code::InvalidArgument));
        assert_eq!(processes.admit().err().map(|status| status.code()), Some(Code::Unavailable));
    }
}
