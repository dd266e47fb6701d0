//! What waits for a client to read it: filled under one lock by the effects, and emptied all at once by the client's
//! stream, which is woken once for all that came together. It takes no memory to speak of while it is empty, and most
//! are, most of the time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::gateway::ClientEvent;
use tokio::sync::Notify;

/// A mailbox for up to `max` responses and other events.
pub(crate) fn mailbox(max: usize) -> (Slot, Mailbox) {
    let contents = Contents { events: Vec::new(), size: 0, ends: Ends::Both };
    let shared = Arc::new(Shared { max, contents: Mutex::new(contents), filled: Notify::new() });
    (Slot(shared.clone()), Mailbox(shared))
}

struct Shared {
    max: usize,
    contents: Mutex<Contents>,
    filled: Notify,
}

struct Contents {
    events: Vec<ClientEvent>,
    /// How many these are, each response counted.
    size: usize,
    ends: Ends,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Both,
    One,
}

impl Shared {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of(event: &ClientEvent) -> usize {
    match event {
        ClientEvent::Responses(responses) => responses.len(),
        ClientEvent::Serving { .. } | ClientEvent::Merged | ClientEvent::Rebuilt | ClientEvent::Over(_) => 1,
    }
}

/// Where events are put in. When it is dropped, nothing more comes.
pub(crate) struct Slot(Arc<Shared>);

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is the first that waits: the client has to be woken.
    First,
    /// It waits behind others.
    Behind,
    /// There is no room for it.
    Full,
    /// Nobody will read it.
    Gone,
}

impl Slot {
    /// Puts an event in. Nobody is woken yet.
    pub(crate) fn put(&self, event: ClientEvent) -> Put {
        let mut contents = self.0.contents();
        if contents.ends == Ends::One {
            return Put::Gone;
        }
        let size = contents.size + size_of(&event);
        if size > self.0.max {
            return Put::Full;
        }
        contents.size = size;
        contents.events.push(event);
        if contents.events.len() == 1 { Put::First } else { Put::Behind }
    }

    /// Wakes the client.
    pub(crate) fn wake(&self) {
        self.0.filled.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.contents().ends = Ends::One;
        self.wake();
    }
}

/// Where events are taken out.
pub(crate) struct Mailbox(Arc<Shared>);

impl Mailbox {
    /// All events that wait, once there are some. Nothing when no more will come.
    pub(crate) async fn take(&mut self) -> Option<Vec<ClientEvent>> {
        loop {
            let filled = self.0.filled.notified();
            {
                let mut contents = self.0.contents();
                if !contents.events.is_empty() {
                    contents.size = 0;
                    return Some(std::mem::take(&mut contents.events));
                }
                if contents.ends == Ends::One {
                    return None;
                }
            }
            filled.await;
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let mut contents = self.0.contents();
        contents.ends = Ends::One;
        contents.events = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;
    use session_core::message::{Cursor, Response};

    use super::*;

    #[tokio::test]
    async fn all_that_waits_is_taken_at_once_and_what_is_left_after_the_end() {
        let (slot, mut mailbox) = mailbox(3);
        assert_eq!(mailbox.take().now_or_never(), None);
        assert_eq!([0; 2].map(|_| slot.put(ClientEvent::Merged)), [Put::First, Put::Behind]);
        slot.wake();
        assert_eq!(mailbox.take().await.map(|events| events.len()), Some(2));
        assert_eq!([0; 4].map(|_| slot.put(ClientEvent::Merged))[2..], [Put::Behind, Put::Full]);
        drop(slot);
        assert_eq!(mailbox.take().await.map(|events| events.len()), Some(3));
        assert_eq!(mailbox.take().await, None);
    }

    #[tokio::test]
    async fn a_client_that_waits_is_woken_by_events_and_by_the_end() {
        let (slot, mut mailbox) = mailbox(3);
        let reading = tokio::spawn(async move {
            let mut read = 0;
            while let Some(events) = mailbox.take().await {
                read += events.len();
            }
            read
        });
        tokio::task::yield_now().await;
        assert_eq!(slot.put(ClientEvent::Merged), Put::First);
        slot.wake();
        tokio::task::yield_now().await;
        drop(slot);
        assert_eq!(reading.await.unwrap(), 1);
    }

    #[test]
    fn responses_that_come_together_take_the_room_of_each() {
        let (slot, _mailbox) = mailbox(3);
        let cursor = Cursor { responses: 1, requests: 0, context: Bytes::new() };
        let responses = vec![Response { cursor, payload: Bytes::new(), last: false }; 2];
        let put = || slot.put(ClientEvent::Responses(responses.clone()));
        assert_eq!([put(), put(), slot.put(ClientEvent::Merged)], [Put::First, Put::Full, Put::Behind]);
    }

    #[tokio::test]
    async fn what_nobody_reads_is_not_kept() {
        let (slot, mailbox) = mailbox(3);
        slot.put(ClientEvent::Merged);
        drop(mailbox);
        assert_eq!(slot.put(ClientEvent::Merged), Put::Gone);
        assert!(slot.0.contents().events.is_empty());
    }
}
