//! The server's side of the fabric's TLS: a stream of accepted connections, and who is at the other end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::tls::Pki;

/// Handshakes under way at once; more wait in the kernel's backlog.
const HANDSHAKES: usize = 256;
/// A peer that has not finished its handshake by then is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after `accept` failed, as it does while the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of peers that proved a certificate of our authority; the others are logged and handed to `refused`. Ends
/// when the receiver is dropped.
pub fn incoming(
    listener: TcpListener,
    pki: Pki,
    refused: impl Fn(&Refusal) + Clone + Send + 'static,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (accepted, stream) = mpsc::channel(64);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
            let connection = tokio::select! {
                () = accepted.closed() => return,
                connection = listener.accept() => connection,
            };
            match connection {
                Ok((socket, peer)) => {
                    let (pki, accepted, refused) = (pki.clone(), accepted.clone(), refused.clone());
                    tokio::spawn(async move {
                        match handshake(socket, &pki).await {
                            Ok(stream) => drop(accepted.send(Ok(stream)).await),
                            Err(error) => {
                                let reason = Refusal::new(&error);
                                tracing::info!(%peer, "connection refused: {reason}");
                                refused(&reason);
                            }
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    ReceiverStream::new(stream)
}

async fn handshake(socket: TcpStream, pki: &Pki) -> io::Result<TlsStream<TcpStream>> {
    socket.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(pki.server_config());
    tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake within 10 s"))?
}

/// Who sent a request. `UNAUTHENTICATED` if the certificate names no identity.
pub fn peer_identity<T>(request: &Request<T>) -> Result<Identity, Status> {
    let certificates = request
        .peer_certs()
        .ok_or_else(|| Status::unauthenticated("no client certificate on this connection"))?;
    let leaf = certificates.first().ok_or_else(|| Status::unauthenticated("empty certificate chain"))?;
    Identity::from_certificate(leaf).map_err(|e| Status::unauthenticated(format!("client certificate: {e}")))
}
