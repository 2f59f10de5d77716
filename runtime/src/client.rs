//! The client's side: a gRPC channel to a coordinator over mutual TLS, and what a failed one means.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

use crate::tls::Pki;

/// TCP and TLS together must be done by then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer is asked this often whether it lives, by HTTP/2 pings.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// A peer that does not answer for this long is gone, or frozen.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(6);

/// No connection, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("server: {0:?} is not HOST:PORT[,HOST:PORT]; give for example coordinator.lastseen:7443")]
    Address(String),
    /// Our own certificate has run out.
    #[error("pki-dir: the certificate in {0} has expired; issue a new one with `ctl pki issue`")]
    Expired(String),
    /// The server was not reached or not trusted, or did not trust us.
    #[error("coordinator {server}: {reason}")]
    Refused {
        /// As given.
        server: String,
        /// What happened and what to do.
        reason: String,
    },
}

/// Connects to the coordinator at `server` (`host:port`), or to the first of several, separated by commas, that answers.
/// The channel reconnects by itself, to the next when one does not answer, each time with the certificate that is then
/// on disk.
pub async fn connect(server: &str, pki: &Pki) -> Result<Channel, ConnectError> {
    let servers = server.split(',').map(address).collect::<Option<Vec<Uri>>>();
    let servers = servers.ok_or_else(|| ConnectError::Address(server.to_owned()))?;
    let first = servers[0].clone();
    // A certificate that has run out may have been renewed since.
    pki.reload();
    if pki.not_after() <= SystemTime::now() {
        return Err(ConnectError::Expired(pki.dir().display().to_string()));
    }
    let pki = pki.clone();
    let (servers, last) = (Arc::new(servers), Arc::new(AtomicUsize::new(0)));
    let connector = service_fn(move |_: Uri| open_any(servers.clone(), last.clone(), pki.clone()));
    Endpoint::from(first)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| ConnectError::Refused { server: server.to_owned(), reason: explain(&error) })
}

fn address(server: &str) -> Option<Uri> {
    let uri: Uri = format!("http://{}", server.trim()).parse().ok()?;
    (uri.port_u16().is_some() && uri.path() == "/").then_some(uri)
}

type Stream = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;

/// A connection to the first that answers, beginning with the one that did `last`. The error is that of the last try.
async fn open_any(servers: Arc<Vec<Uri>>, last: Arc<AtomicUsize>, pki: Pki) -> io::Result<Stream> {
    let silence = || {
        let advice = "no connection within 5 s; check address and firewall";
        io::Error::new(io::ErrorKind::TimedOut, advice)
    };
    let begin = last.load(Ordering::Relaxed);
    let mut index = begin;
    loop {
        let opening = tokio::time::timeout(CONNECT_TIMEOUT, open(&servers[index], &pki));
        let opened = opening.await.unwrap_or_else(|_| Err(silence()));
        let next = (index + 1) % servers.len();
        if opened.is_ok() || next == begin {
            last.store(index, Ordering::Relaxed);
            return opened;
        }
        index = next;
    }
}

async fn open(uri: &Uri, pki: &Pki) -> io::Result<Stream> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let socket = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or_default())).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(host).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let mut stream = TlsConnector::from(pki.client_config()).connect(name, socket).await?;
    // In TLS 1.3 the server judges our certificate after our handshake is done (RFC 8446 §2). Its first bytes, the
    // HTTP/2 preface or an alert, say how; later the alert is lost behind "connection closed".
    if stream.fill_buf().await?.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(TokioIo::new(stream))
}

/// Whether a call has no answer because the connection broke, or the coordinator is about to stop or no longer leads
/// what it was asked about. Another one may have the answer.
pub fn is_gone(status: &Status) -> bool {
    let is_broken = matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled);
    status.code() == Code::Unavailable || is_broken && status.source().is_some()
}

/// What a failed call means to the person who made it: the server's own words, or what broke the connection.
pub fn explain_status(status: &Status) -> String {
    match status.source() {
        Some(source)
            if matches!(
                status.code(),
                Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
            ) =>
        {
            explain(source)
        }
        _ => status.message().to_owned(),
    }
}

/// The one line that says why a connection failed and what to do: the innermost cause this module knows, else the
/// innermost there is.
pub fn explain(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error.to_string();
    let mut next = Some(error);
    while let Some(error) = next {
        innermost = error.to_string();
        let io = error.downcast_ref::<io::Error>();
        // An io::Error hides what it wraps from `source`: it shows that error's own source instead.
        let wrapped = io.and_then(io::Error::get_ref).map(|e| e as &(dyn StdError + 'static));
        let tls = error.downcast_ref().or_else(|| wrapped.and_then(|e| e.downcast_ref::<rustls::Error>()));
        if let Some(tls) = tls {
            return explain_tls(tls);
        }
        if let Some(io) = io.filter(|_| wrapped.is_none()) {
            return explain_io(io);
        }
        next = wrapped.or_else(|| error.source());
    }
    // h2 keeps an I/O error's text and drops what it wrapped.
    match innermost.strip_prefix("received fatal alert: ") {
        Some(alert) => explain_alert(alert),
        None if innermost.contains("close_notify") => CUT.to_owned(),
        None => innermost,
    }
}

/// A process that was killed, or a network that cut the connection, ends TLS without its last message, RFC 8446 §6.1.
const CUT: &str = "the connection was cut off; is the coordinator still running?";

/// What an alert of the server, RFC 8446 §6.2, says about our certificate.
fn explain_alert(alert: &str) -> String {
    let reason = match alert {
        "CertificateExpired" => "expired, or not valid yet; issue a new one with `ctl pki issue`",
        // A CA of the same name with another key fails at the signature.
        "UnknownCA" | "DecryptError" => "signed by another authority; issue one with the fabric's CA",
        "CertificateRequired" => "missing; set --pki-dir",
        "CertificateRevoked" => "it is on the coordinator's deny list; ask who runs the coordinator",
        "UnsupportedCertificate" => "not made for a client; issue one with `ctl pki issue`",
        other => other,
    };
    format!("it refused our certificate: {reason}")
}

fn explain_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused; is the coordinator running, and is this its --listen address?".into()
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            format!("the connection was closed ({error}); is this the coordinator's gRPC port?")
        }
        _ => error.to_string(),
    }
}

fn explain_tls(error: &rustls::Error) -> String {
    use rustls::CertificateError as Cert;
    match error {
        rustls::Error::AlertReceived(alert) => explain_alert(&format!("{alert:?}")),
        rustls::Error::InvalidCertificate(Cert::UnknownIssuer | Cert::BadSignature) => {
            "its certificate was not signed by our ca.crt; do both sides use the same authority?".into()
        }
        rustls::Error::InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. }) => {
            "its certificate has expired; issue a new one for the coordinator".into()
        }
        rustls::Error::InvalidCertificate(Cert::NotValidForName | Cert::NotValidForNameContext { .. }) => {
            "its certificate does not name this host; issue it with --dns or --ip for this address".into()
        }
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS; is this the coordinator's gRPC port?".into()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_was_cut_off_is_told_without_the_words_of_a_library() {
        let cut = "peer closed connection without sending TLS close_notify: https://example.com/manual";
        let io = io::Error::new(io::ErrorKind::UnexpectedEof, cut);
        assert_eq!(explain(&io), CUT);
        assert_eq!(explain(&io::Error::other(io)), CUT);
    }
}
