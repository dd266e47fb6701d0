//! Operators who wait for what becomes of their order. The machine knows the numbers of the orders,
//! this the calls behind them; the lock is held for a look-up, never while anybody waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::{OrderRefusal, Ordered};
use tokio::sync::oneshot;

/// What became of an order.
type Outcome = Result<Ordered, OrderRefusal>;

/// The orders under way.
#[derive(Default)]
pub(crate) struct Orders {
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Outcome>>>,
    last: AtomicU64,
}

impl Orders {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new order, which counts for as long as it is kept.
    pub(crate) fn begin(self: &Arc<Self>) -> Order {
        let ticket = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = oneshot::channel();
        self.waiting().insert(ticket, answer);
        Order { ticket, answered, orders: self.clone() }
    }

    /// Tells who waits for it what became of an order. If nobody does any more, nobody is told.
    pub(crate) fn answer(&self, ticket: u64, outcome: Outcome) {
        if let Some(answer) = self.waiting().remove(&ticket) {
            let _ = answer.send(outcome);
        }
    }
}

/// An order under way.
pub(crate) struct Order {
    pub(crate) ticket: u64,
    answered: oneshot::Receiver<Outcome>,
    orders: Arc<Orders>,
}

impl Order {
    /// What became of it; nothing if the machine has stopped.
    pub(crate) async fn outcome(mut self) -> Option<Outcome> {
        (&mut self.answered).await.ok()
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        self.orders.waiting().remove(&self.ticket);
    }
}
