//! Who waits for what the machine orders: callers by ticket, clients' streams by attachment, content servers by link.
//! The machine knows the numbers, this desk the queues behind them.
//!
//! Handlers put themselves on it and take themselves off; the effects look them up. The lock is held for a look-up,
//! never while anybody waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::gateway::{Attachment, Failure, LinkId, Reply, Ticket};
use session_core::message::ToServer;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::mailbox::Slot;

/// A caller: where its answer goes, and, if it attaches, where the events after that go.
pub(crate) struct Caller {
    pub(crate) answer: oneshot::Sender<Result<Reply, Failure>>,
    pub(crate) events: Option<Slot>,
}

/// A content server's stream: what it is to be told, and how it is told that it did not keep up.
pub(crate) struct Link {
    pub(crate) queue: mpsc::Sender<ToServer>,
    pub(crate) broken: CancellationToken,
}

/// Everybody who waits.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) callers: BTreeMap<Ticket, Caller>,
    pub(crate) clients: BTreeMap<Attachment, Slot>,
    pub(crate) links: BTreeMap<LinkId, Link>,
}

/// The desk.
#[derive(Default)]
pub(crate) struct Desk {
    waiting: Mutex<Waiting>,
    last: AtomicU64,
}

impl Desk {
    /// Everybody who waits.
    pub(crate) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Puts a caller on the desk for as long as it waits.
    pub(crate) fn call(self: &Arc<Self>, events: Option<Slot>) -> Call {
        let (answer, answered) = oneshot::channel();
        let ticket = Ticket(self.number());
        self.waiting().callers.insert(ticket, Caller { answer, events });
        Call { ticket, answered, desk: self.clone() }
    }

    /// Puts a content server's stream on the desk for as long as the guard lives. Up to `queue_max` messages wait for
    /// the server to read them; more break the stream.
    pub(crate) fn link(self: &Arc<Self>, queue_max: usize) -> (LinkGuard, mpsc::Receiver<ToServer>) {
        let (sender, queue) = mpsc::channel(queue_max);
        let (id, broken) = (LinkId(self.number()), CancellationToken::new());
        self.waiting().links.insert(id, Link { queue: sender, broken: broken.clone() });
        (LinkGuard { id, broken, desk: self.clone() }, queue)
    }
}

/// A caller's place on the desk.
pub(crate) struct Call {
    pub(crate) ticket: Ticket,
    answered: oneshot::Receiver<Result<Reply, Failure>>,
    desk: Arc<Desk>,
}

impl Call {
    /// The answer; nothing if the machine has stopped.
    pub(crate) async fn answer(mut self) -> Option<Result<Reply, Failure>> {
        (&mut self.answered).await.ok()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.desk.waiting().callers.remove(&self.ticket);
    }
}

/// A content server's place on the desk.
pub(crate) struct LinkGuard {
    pub(crate) id: LinkId,
    /// Cancelled when the server did not keep up.
    pub(crate) broken: CancellationToken,
    desk: Arc<Desk>,
}

impl Drop for LinkGuard {
    fn drop(&mut self) {
        self.desk.waiting().links.remove(&self.id);
    }
}
