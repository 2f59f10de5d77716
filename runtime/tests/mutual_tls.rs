//! Who may talk to whom, over real sockets and real TLS.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lastseen_runtime::client::{connect, explain_status};
use lastseen_runtime::refusal::Refusal;
use lastseen_runtime::server::{incoming, peer_identity};
use lastseen_runtime::tls::{Pki, TlsError};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    string::Ia5String,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes the three files for `uri`, valid until `days` from now.
    fn issue(&self, dir: &Path, uri: &str, days: i64) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            vec![SanType::URI(Ia5String::try_from(uri).unwrap()), SanType::IpAddress([127, 0, 0, 1].into())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = OffsetDateTime::now_utc() - time::Duration::days(30);
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days);
        fs::write(dir.join("tls.crt"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
        fs::write(dir.join("ca.crt"), &self.pem).unwrap();
    }

    fn pki(&self, uri: &str, days: i64) -> (TempDir, Pki) {
        let dir = TempDir::new().unwrap();
        self.issue(dir.path(), uri, days);
        let pki = Pki::open(dir.path()).unwrap();
        (dir, pki)
    }
}

/// Answers every call with a refusal that names the caller.
async fn serve(pki: Pki) -> SocketAddr {
    serve_and_tell(pki, |_| ()).await
}

/// As [`serve`]; `refused` hears of those that did not get through the handshake.
async fn serve_and_tell(pki: Pki, refused: impl Fn(&Refusal) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = tonic_health::server::HealthService::from_health_reporter(
        tonic_health::server::HealthReporter::new(),
    );
    let name_caller = |request: Request<()>| -> Result<Request<()>, Status> {
        Err(Status::permission_denied(peer_identity(&request)?.to_string()))
    };
    let service = InterceptedService::new(HealthServer::new(health), name_caller);
    let incoming = incoming(listener, pki, refused);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    address
}

/// What the server calls us, or why there was no call.
async fn call(address: SocketAddr, pki: &Pki) -> String {
    let channel = match connect(&address.to_string(), pki).await {
        Ok(channel) => channel,
        Err(error) => return error.to_string(),
    };
    let status = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap_err();
    explain_status(&status)
}

const COORDINATOR: &str = "spiffe://lastseen/coordinator";

#[tokio::test]
async fn the_server_learns_who_calls() {
    let authority = Authority::new();
    let (_server_dir, server) = authority.pki(COORDINATOR, 30);
    let address = serve(server).await;
    for uri in ["spiffe://lastseen/agent/node-a", "spiffe://lastseen/operator/eve"] {
        let (_dir, pki) = authority.pki(uri, 30);
        assert_eq!(call(address, &pki).await, uri);
    }
}

#[tokio::test]
async fn an_agents_certificate_cannot_serve() {
    let authority = Authority::new();
    let (_server_dir, impostor) = authority.pki("spiffe://lastseen/agent/node-a", 30);
    let (_dir, pki) = authority.pki("spiffe://lastseen/agent/node-b", 30);
    let answer = call(serve(impostor).await, &pki).await;
    assert!(answer.contains("belongs to spiffe://lastseen/agent/node-a, not to spiffe://"), "{answer}");
}

#[tokio::test]
async fn a_coordinator_of_another_trust_domain_is_not_ours() {
    let authority = Authority::new();
    let (_server_dir, other) = authority.pki("spiffe://elsewhere/coordinator", 30);
    let (_dir, pki) = authority.pki("spiffe://lastseen/operator/eve", 30);
    let answer = call(serve(other).await, &pki).await;
    assert!(answer.contains("belongs to spiffe://elsewhere/coordinator"), "{answer}");
}

#[tokio::test]
async fn another_authority_is_refused_on_either_side() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (_server_dir, server) = ours.pki(COORDINATOR, 30);
    let address = serve(server).await;
    let (dir, stranger) = theirs.pki("spiffe://lastseen/agent/node-a", 30);
    let answer = call(address, &stranger).await;
    assert!(answer.contains("its certificate was not signed by our ca.crt"), "{answer}");
    fs::write(dir.path().join("ca.crt"), &ours.pem).unwrap();
    let answer = call(address, &Pki::open(dir.path()).unwrap()).await;
    assert!(answer.contains("it refused our certificate: signed by another authority"), "{answer}");
}

#[tokio::test]
async fn expired_certificates_are_refused_by_name() {
    let authority = Authority::new();
    let (_server_dir, server) = authority.pki(COORDINATOR, -1);
    let (_dir, pki) = authority.pki("spiffe://lastseen/viewer/v", 30);
    let answer = call(serve(server).await, &pki).await;
    assert!(answer.contains("its certificate has expired"), "{answer}");
    let (dir, pki) = authority.pki("spiffe://lastseen/viewer/v", -1);
    let answer = connect("127.0.0.1:1", &pki).await.unwrap_err().to_string();
    assert!(answer.contains("has expired") && answer.contains(&dir.path().display().to_string()), "{answer}");
    // Nobody needs to be told that it was renewed.
    authority.issue(dir.path(), "spiffe://lastseen/viewer/v", 30);
    let answer = connect("127.0.0.1:1", &pki).await.unwrap_err().to_string();
    assert!(answer.contains("connection refused"), "{answer}");
}

#[tokio::test]
async fn a_replaced_certificate_is_used_for_the_next_connection() {
    let authority = Authority::new();
    let (_server_dir, server) = authority.pki(COORDINATOR, 30);
    let address = serve(server).await;
    let (dir, pki) = authority.pki("spiffe://lastseen/operator/before", 30);
    assert_eq!(call(address, &pki).await, "spiffe://lastseen/operator/before");
    authority.issue(dir.path(), "spiffe://lastseen/operator/after", 30);
    assert_eq!(call(address, &pki).await, "spiffe://lastseen/operator/after");
    // Half a rotation: the key does not fit the certificate, so the pair in use stays.
    fs::write(dir.path().join("tls.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert_eq!(call(address, &pki).await, "spiffe://lastseen/operator/after");
}

#[tokio::test]
async fn garbage_and_silence_leave_the_server_up() {
    let authority = Authority::new();
    let (_server_dir, server) = authority.pki(COORDINATOR, 30);
    let address = serve(server).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut noisy = TcpStream::connect(address).await.unwrap();
    noisy.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), noisy.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the server must hang up on garbage");
    let (_dir, pki) = authority.pki("spiffe://lastseen/viewer/v", 30);
    assert_eq!(call(address, &pki).await, "spiffe://lastseen/viewer/v");
}

#[tokio::test]
async fn refused_peers_are_told_apart() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (_server_dir, server) = ours.pki(COORDINATOR, 30);
    let (tell, mut told) = tokio::sync::mpsc::channel(16);
    let address = serve_and_tell(server, move |refusal| drop(tell.try_send(refusal.clone()))).await;
    let mut next = async || {
        let refusal: Refusal =
            tokio::time::timeout(Duration::from_secs(5), told.recv()).await.unwrap().unwrap();
        (refusal.kind, refusal.to_string())
    };

    let (dir, stranger) = theirs.pki("spiffe://lastseen/agent/node-a", 30);
    call(address, &stranger).await;
    let (kind, text) = next().await;
    assert!(kind == "refuses_us" && text.contains("trust our authority?"), "{kind}: {text}");

    fs::write(dir.path().join("ca.crt"), &ours.pem).unwrap();
    call(address, &Pki::open(dir.path()).unwrap()).await;
    let (kind, text) = next().await;
    assert!(kind == "unknown_authority" && text.contains("`ctl pki issue`"), "{kind}: {text}");

    TcpStream::connect(address).await.unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(next().await, ("not_tls", "it does not speak TLS".to_owned()));

    drop(TcpStream::connect(address).await.unwrap());
    assert_eq!(next().await.0, "closed");
}

#[tokio::test]
async fn unreachable_servers_and_bad_addresses_say_what_to_do() {
    let (_dir, pki) = Authority::new().pki("spiffe://lastseen/viewer/v", 30);
    // Bound, so that nobody else takes it, and without anybody who listens.
    let port = tokio::net::TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let free = port.local_addr().unwrap();
    let error = connect(&free.to_string(), &pki).await.unwrap_err().to_string();
    assert!(error.contains("connection refused; is the coordinator running"), "{error}");
    for bad in ["coordinator", "a b:1", "host:1/path", ""] {
        let error = connect(bad, &pki).await.unwrap_err().to_string();
        assert!(error.contains("is not HOST:PORT"), "{bad}: {error}");
    }
}

#[test]
fn unusable_files_are_named() {
    let dir = TempDir::new().unwrap();
    let error = Pki::open(dir.path()).err().unwrap();
    assert!(matches!(error, TlsError::Unreadable { .. }) && error.to_string().contains("ca.crt"), "{error}");
    let authority = Authority::new();
    authority.issue(dir.path(), "spiffe://lastseen/viewer/v", 30);
    fs::write(dir.path().join("tls.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = Pki::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("tls.key") && error.contains("must be the key of"), "{error}");
    authority.issue(dir.path(), "https://example.org", 30);
    let error = Pki::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("tls.crt") && error.contains("spiffe://"), "{error}");
}
