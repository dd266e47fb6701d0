//! Takes connections, without letting some of them hold up others: each has a bounded time to show who it is, where
//! connections are TLS, and to say that it speaks HTTP/2. From there on it has to give signs of life.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::hosts::{Guest, Hosts, PerHost};

/// So many connections may be open. More wait in the operating system's queue.
const OPEN_MAX: usize = 16 * 1024;

/// So many of them may be in a handshake.
const HALF_OPEN_MAX: usize = 1024;

/// How long a handshake may take, and how long it may take after that until HTTP/2 begins.
const BEGINNING_MAX: Duration = Duration::from_secs(3);

/// With so many bytes every HTTP/2 connection begins.
const PREFACE_BYTES: usize = 24;

/// Connections that are ready and not taken up yet.
const READY_MAX: usize = 64;

/// The connections that come, after `shake` has shaken hands on each. It ends when it is dropped.
pub(crate) fn accept<S, F>(
    listener: TcpListener,
    per_host: Option<PerHost>,
    shake: impl Fn(TcpStream) -> F + Send + 'static,
) -> ReceiverStream<io::Result<Connection<S>>>
where
    S: Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let (ready, connections) = mpsc::channel(READY_MAX);
    tokio::spawn(async move {
        let (open, half_open) = (Arc::new(Semaphore::new(OPEN_MAX)), Arc::new(Semaphore::new(HALF_OPEN_MAX)));
        let mut hosts = Hosts::new(per_host);
        loop {
            let Ok(place) = Arc::clone(&open).acquire_owned().await else { return };
            let Ok(in_handshake) = Arc::clone(&half_open).acquire_owned().await else { return };
            let taken = tokio::select! {
                taken = listener.accept() => taken,
                () = ready.closed() => return,
            };
            let (stream, peer) = match taken {
                Ok(taken) => taken,
                Err(error) => {
                    // Too many open files, for one: it may be better in a moment.
                    tracing::warn!(%error, "no connection can be taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(guest) = hosts.enter(peer.ip()) else { continue };
            let (nodelay, ready) = (stream.set_nodelay(true), ready.clone());
            let shaken = shake(stream);
            tokio::spawn(async move {
                match tokio::time::timeout(BEGINNING_MAX, async { nodelay.and(shaken.await) }).await {
                    Ok(Ok(stream)) => {
                        drop(in_handshake);
                        // Whoever does not listen any more has closed the door.
                        drop(ready.send(Ok(Connection::new(stream, (place, guest)))).await);
                    }
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "no handshake"),
                    Err(_) => tracing::debug!(%peer, "the handshake takes too long"),
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

/// A connection that is closed unless HTTP/2 begins on it soon.
pub(crate) struct Connection<S> {
    stream: S,
    /// Until it has begun: how many bytes are still to come, and how long they may take.
    beginning: Option<(usize, Pin<Box<Sleep>>)>,
    _place: (OwnedSemaphorePermit, Guest),
}

impl<S> Connection<S> {
    fn new(stream: S, place: (OwnedSemaphorePermit, Guest)) -> Connection<S> {
        let deadline = Box::pin(tokio::time::sleep(BEGINNING_MAX));
        Connection { stream, beginning: Some((PREFACE_BYTES, deadline)), _place: place }
    }
}

impl<S: Connected> Connected for Connection<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some((missing, deadline)) = &mut self.beginning else { return polled };
        *missing = missing.saturating_sub(buf.filled().len() - before);
        if *missing == 0 {
            self.beginning = None;
        } else if polled.is_pending() && deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A client of a listener, and its connection as that listener sees it.
    async fn pair() -> (TcpStream, Connection<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = accept(listener, None, |stream| std::future::ready(Ok(stream)));
        let (client, connection) = tokio::join!(TcpStream::connect(address), connections.next());
        (client.unwrap(), connection.unwrap().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_begins_is_over() {
        let (_silent, mut connection) = pair().await;
        assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut slow, mut connection) = pair().await;
        slow.write_all(&[7]).await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), 7);
        assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_that_has_begun_may_be_silent() {
        let (mut client, mut connection) = pair().await;
        client.write_all(&[0; PREFACE_BYTES]).await.unwrap();
        connection.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        assert!(connection.beginning.is_none());
        client.write_all(&[9]).await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), 9);
    }
}
