//! The client's side: a gRPC channel to a coordinator over mutual TLS, and what a failed one means.

use std::error::Error as StdError;
use std::io;
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
/// A peer that answers no HTTP/2 ping for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// No connection, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("server: {0:?} is not HOST:PORT; give for example coordinator.lastseen:7443")]
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

/// Connects to the coordinator at `server` (`host:port`). The channel reconnects by itself, each time with the
/// certificate that is then on disk.
pub async fn connect(server: &str, pki: &Pki) -> Result<Channel, ConnectError> {
    let bad_address = || ConnectError::Address(server.to_owned());
    let uri: Uri = format!("http://{server}").parse().map_err(|_| bad_address())?;
    if uri.port_u16().is_none() || uri.path() != "/" {
        return Err(bad_address());
    }
    if pki.not_after() <= SystemTime::now() {
        return Err(ConnectError::Expired(pki.dir().display().to_string()));
    }
    let pki = pki.clone();
    let connector = service_fn(move |uri: Uri| {
        let pki = pki.clone();
        async move {
            tokio::time::timeout(CONNECT_TIMEOUT, open(&uri, &pki)).await.map_err(|_| {
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no connection within 5 s; check address and firewall",
                )
            })?
        }
    });
    Endpoint::from(uri)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| ConnectError::Refused { server: server.to_owned(), reason: explain(&error) })
}

async fn open(uri: &Uri, pki: &Pki) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
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
        None => innermost,
    }
}

/// What an alert of the server, RFC 8446 §6.2, says about our certificate.
fn explain_alert(alert: &str) -> String {
    let reason = match alert {
        "CertificateExpired" => "expired; issue a new one with `ctl pki issue`",
        // A CA of the same name with another key fails at the signature.
        "UnknownCA" | "DecryptError" => "signed by another authority; issue one with the fabric's CA",
        "CertificateRequired" => "missing; set --pki-dir",
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
