//! The sending ends of all streams, by number.
//!
//! Bounds: each has a queue of [`QUEUE_MAX`] messages, and room for the reason of its end. Who lets the queue fill up is
//! too slow, and loses the stream.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::status;
use crate::switchboard::StreamNumber;

/// The most messages that wait in one stream.
pub const QUEUE_MAX: usize = 1024;

/// All streams that carry messages of type `T` away from here.
pub struct Streams<T> {
    open: Mutex<BTreeMap<StreamNumber, Outlet<T>>>,
}

struct Outlet<T> {
    queue: mpsc::Sender<Result<T, Status>>,
    ended: CancellationToken,
}

/// What reads a stream's queue.
pub struct Opened<T> {
    /// What is to go out. A status is the last.
    pub queue: mpsc::Receiver<Result<T, Status>>,
    /// Cancelled when nothing more will be queued.
    pub ended: CancellationToken,
}

impl<T> Outlet<T> {
    /// Queues what there is room for. If the reader is gone, its end is about to be heard.
    fn put(&self, item: Result<T, Status>) {
        let _ = self.queue.try_send(item);
    }
}

impl<T> Default for Streams<T> {
    fn default() -> Streams<T> {
        Streams { open: Mutex::default() }
    }
}

impl<T> Streams<T> {
    fn open_streams(&self) -> MutexGuard<'_, BTreeMap<StreamNumber, Outlet<T>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the queue of `stream`.
    pub fn open(&self, stream: StreamNumber) -> Opened<T> {
        let (sender, queue) = mpsc::channel(QUEUE_MAX + 1);
        let ended = CancellationToken::new();
        self.open_streams().insert(stream, Outlet { queue: sender, ended: ended.clone() });
        Opened { queue, ended }
    }

    /// Queues a message; if there is no room, ends the stream.
    pub fn send(&self, stream: StreamNumber, message: T) {
        let mut open = self.open_streams();
        let Some(outlet) = open.get(&stream) else { return };
        if outlet.queue.capacity() > 1 {
            outlet.put(Ok(message));
        } else {
            tracing::warn!(stream = stream.0, "the other end does not read what it is told");
            outlet.put(Err(status::too_slow()));
            close(&mut open, stream);
        }
    }

    /// Ends the stream, and says why.
    pub fn end(&self, stream: StreamNumber, why: Status) {
        let mut open = self.open_streams();
        if let Some(outlet) = open.get(&stream) {
            outlet.put(Err(why));
            close(&mut open, stream);
        }
    }

    /// Forgets the stream: the other end is gone.
    pub fn forget(&self, stream: StreamNumber) {
        close(&mut self.open_streams(), stream);
    }
}

fn close<T>(open: &mut BTreeMap<StreamNumber, Outlet<T>>, stream: StreamNumber) {
    if let Some(outlet) = open.remove(&stream) {
        outlet.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamNumber = StreamNumber(1);

    #[tokio::test]
    async fn who_does_not_read_loses_the_stream() {
        let streams = Streams::default();
        let mut opened = streams.open(STREAM);
        for message in 0..=QUEUE_MAX {
            assert!(!opened.ended.is_cancelled());
            streams.send(STREAM, message);
        }
        assert!(opened.ended.is_cancelled());
        for message in 0..QUEUE_MAX {
            assert_eq!(opened.queue.recv().await.unwrap().unwrap(), message);
        }
        let why = opened.queue.recv().await.unwrap().unwrap_err();
        assert_eq!(why.code(), tonic::Code::ResourceExhausted);
        assert!(opened.queue.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_ends_with_the_reason() {
        let streams = Streams::default();
        let mut opened = streams.open(STREAM);
        streams.send(STREAM, 7);
        streams.end(STREAM, Status::aborted("enough"));
        streams.send(STREAM, 8);
        assert_eq!(opened.queue.recv().await.unwrap().unwrap(), 7);
        assert_eq!(opened.queue.recv().await.unwrap().unwrap_err().message(), "enough");
        assert!(opened.queue.recv().await.is_none());
    }
}
