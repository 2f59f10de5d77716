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
    incoming_within(HANDSHAKE_TIMEOUT, listener, pki, refused)
}

fn incoming_within(
    patience: Duration,
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
                        match handshake(socket, &pki, patience).await {
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

async fn handshake(socket: TcpStream, pki: &Pki, patience: Duration) -> io::Result<TlsStream<TcpStream>> {
    socket.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(pki.server_config());
    tokio::time::timeout(patience, acceptor.accept(socket))
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A certificate that signed itself is enough for a server that nobody gets to know.
    fn pki(dir: &std::path::Path) -> Pki {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("spiffe://x/coordinator".try_into().unwrap())];
        let pem = params.self_signed(&key).unwrap().pem();
        for (file, text) in [("ca.crt", &pem), ("tls.crt", &pem), ("tls.key", &key.serialize_pem())] {
            std::fs::write(dir.join(file), text).unwrap();
        }
        Pki::open(dir).unwrap()
    }

    #[tokio::test]
    async fn no_more_handshakes_are_under_way_than_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, mut told) = mpsc::channel(HANDSHAKES + 1);
        let refused = move |_: &Refusal| {
            let _ = tell.try_send(());
        };
        let _accepted = incoming_within(Duration::from_hours(1), listener, pki(dir.path()), refused);
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"this is no TLS record at all").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(200), told.recv()).await;
        assert!(early.is_err(), "there was room for another");
        drop(silent.pop());
        for _ in 0..2 {
            tokio::time::timeout(Duration::from_secs(30), told.recv()).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_handshake_that_never_ends_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, mut told) = mpsc::channel(1);
        let refused = move |refusal: &Refusal| {
            let _ = tell.try_send(refusal.kind);
        };
        let _accepted = incoming_within(Duration::from_millis(50), listener, pki(dir.path()), refused);
        let mut silent = TcpStream::connect(address).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(30), silent.read_u8()).await;
        assert_eq!(ended.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(told.recv().await, Some("timeout"));
    }
}
