//! Takes connections, and shakes hands on each without holding up the others.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use super::Tls;

/// So many connections may be half open. More wait in the operating system's queue.
const HALF_OPEN_MAX: usize = 1024;

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);

/// Connections that are ready and not taken up yet.
const READY_MAX: usize = 64;

/// The connections that come, once it is known whose they are. It ends when it is dropped.
pub(crate) fn accept(listener: TcpListener, tls: Tls) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (ready, connections) = mpsc::channel(READY_MAX);
    tokio::spawn(async move {
        let half_open = Arc::new(Semaphore::new(HALF_OPEN_MAX));
        loop {
            let Ok(permit) = Arc::clone(&half_open).acquire_owned().await else { return };
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
            let (acceptor, ready) = (TlsAcceptor::from(tls.server()), ready.clone());
            tokio::spawn(async move {
                let shaken = async {
                    stream.set_nodelay(true)?;
                    acceptor.accept(stream).await
                };
                match tokio::time::timeout(HANDSHAKE_MAX, shaken).await {
                    // Whoever does not listen any more has closed the door.
                    Ok(Ok(connection)) => drop(ready.send(Ok(connection)).await),
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "no handshake"),
                    Err(_) => tracing::debug!(%peer, "the handshake takes too long"),
                }
                drop(permit);
            });
        }
    });
    ReceiverStream::new(connections)
}
