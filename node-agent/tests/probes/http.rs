//! Web servers that answer, refuse, stall and show certificates of every kind.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lastseen_node_agent::probe::attempt::{Attempt, Outcome};
use lastseen_node_agent::probe::report::{Finding, Found, Page};
use lastseen_node_agent::probe::spec::{Aim, Kind, Schedule, Spec};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::crypto::ring;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;

use crate::support::{PATIENCE, V4, V6, apart, once, run};

/// Answers a request by its path, and says whether to close.
fn answer(stream: &mut (impl Read + Write)) {
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    let _ = reader.read_line(&mut line);
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
        header.clear();
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let stream = reader.get_mut();
    let reply = match path.as_str() {
        "/busy" => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy",
        "/moved" => "HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
        "/stall" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "/nonsense" => "HELO mail\r\n\r\n",
        "/mute" => "",
        "/long" => "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    };
    let _ = stream.write_all(reply.as_bytes()).and_then(|()| stream.flush());
    if path == "/long" {
        let _ = stream.write_all(&vec![b'x'; 3_000_000]);
    }
    if matches!(path.as_str(), "/stall" | "/mute") {
        thread::sleep(Duration::from_secs(2));
    }
}

/// A server until the test ends.
fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tls) = (stream.unwrap(), tls.clone());
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            thread::spawn(move || match tls {
                None => answer(&mut stream),
                Some(config) => {
                    let connection = ServerConnection::new(config).unwrap();
                    answer(&mut StreamOwned::new(connection, stream));
                }
            });
        }
    });
    at
}

/// Less than the server waits where it says nothing.
const SHORT: Duration = Duration::from_millis(500);

/// From a server that answers, however long that takes on a busy machine.
fn get(url: &str, ca_pem: &str) -> (Outcome, String, Option<Page>, Attempt) {
    get_within(PATIENCE, url, ca_pem)
}

fn get_within(timeout: Duration, url: &str, ca_pem: &str) -> (Outcome, String, Option<Page>, Attempt) {
    let spec = once(Kind::Http { ca_pem: ca_pem.to_owned() }, &[]);
    let spec = Spec { schedule: Schedule { timeout, ..spec.schedule }, ..spec };
    let report = run(Spec { targets: vec![Aim::Url(url.parse().unwrap())], ..spec });
    let Found { attempts, finding, reason, .. } = report.results[0].clone();
    assert_eq!((attempts.len(), reason.as_str()), (3, ""), "{report:?}");
    let first = attempts[0].clone();
    for attempt in &attempts {
        assert_eq!((attempt.outcome, &attempt.detail), (first.outcome, &first.detail), "{report:?}");
    }
    let page = finding.map(|finding| match finding {
        Finding::Http(page) => page,
        other => panic!("{other:?}"),
    });
    (first.outcome, first.detail.clone(), page, first)
}

#[test]
fn a_page_has_a_status_and_every_step_its_time() {
    apart(|| {
        for address in [V4, V6] {
            let at = serve(TcpListener::bind((address, 0)).unwrap(), None);
            let (outcome, detail, page, attempt) = get(&format!("http://{at}/"), "");
            let page = page.unwrap();
            assert_eq!((outcome, detail.as_str()), (Outcome::Answered, "200 OK"));
            assert_eq!((page.status, page.version.as_str(), page.body_bytes), (200, "HTTP/1.1", 2));
            let timing = attempt.timing.unwrap();
            assert!(timing.connected.unwrap() <= timing.first_byte.unwrap());
            assert!(timing.first_byte <= attempt.delay && timing.secured.is_none());
            let (outcome, detail, ..) = get(&format!("http://{at}/busy"), "");
            assert_eq!((outcome, detail.as_str()), (Outcome::Answered, "503 Service Unavailable"));
            let (_, detail, page, _) = get(&format!("http://{at}/moved"), "");
            assert_eq!(
                (detail.as_str(), page.unwrap().location.as_str()),
                ("302 Found", "http://elsewhere/")
            );
        }
    });
}

#[test]
fn where_it_stops_is_said() {
    apart(|| {
        let at = serve(TcpListener::bind((V4, 0)).unwrap(), None);
        let (outcome, detail, ..) = get_within(SHORT, &format!("http://{at}/mute"), "");
        assert_eq!((outcome, detail.as_str()), (Outcome::Silent, "waiting for the answer"));
        let (outcome, detail, page, _) = get_within(SHORT, &format!("http://{at}/stall"), "");
        assert_eq!((outcome, detail.as_str()), (Outcome::Silent, "in the middle of the body"));
        assert_eq!(page.unwrap().body_bytes, 4);
        let (outcome, detail, page, _) = get(&format!("http://{at}/nonsense"), "");
        assert_eq!((outcome, page), (Outcome::Refused, None));
        assert!(detail.starts_with("waiting for the answer: "), "{detail}");
        let (outcome, ..) = get("http://127.0.0.1:9/", "");
        assert_eq!(outcome, Outcome::Refused);
        let mail = TcpListener::bind((V4, 0)).unwrap();
        let at = mail.local_addr().unwrap();
        thread::spawn(move || {
            for stream in mail.incoming() {
                // The rest is read, or what was written would be lost in a reset.
                let mut stream = stream.unwrap();
                stream.write_all(b"220 mail ready\r\n").unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
            }
        });
        let (outcome, detail, ..) = get(&format!("https://{at}/"), "");
        assert_eq!(outcome, Outcome::Refused, "no TLS there");
        assert!(detail.starts_with("TLS: "), "{detail}");
    });
}

#[test]
fn of_a_long_page_no_more_is_read_than_the_limit() {
    apart(|| {
        let at = serve(TcpListener::bind((V4, 0)).unwrap(), None);
        let (outcome, _, page, _) = get(&format!("http://{at}/long"), "");
        assert_eq!((outcome, page.unwrap().body_bytes), (Outcome::Answered, 1 << 20));
    });
}

/// An authority's certificate, and a server's of it.
struct Certificates {
    ca_pem: String,
    config: Arc<ServerConfig>,
}

fn certificates(is_over: bool, address: std::net::IpAddr) -> Certificates {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "test authority");
    let ca_key = KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let mut leaf = CertificateParams::new(vec!["web.test".to_owned()]).unwrap();
    leaf.subject_alt_names.push(SanType::IpAddress(address));
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.distinguished_name.push(DnType::CommonName, "web");
    if is_over {
        (leaf.not_before, leaf.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    Certificates { ca_pem: ca_certificate.pem(), config: Arc::new(config) }
}

#[test]
fn a_certificate_is_shown_and_what_is_wrong_with_it_is_said() {
    apart(|| {
        let good = certificates(false, V4);
        let at = serve(TcpListener::bind((V4, 0)).unwrap(), Some(good.config.clone()));
        let (outcome, detail, page, attempt) = get(&format!("https://{at}/"), &good.ca_pem);
        let page = page.unwrap();
        assert_eq!((outcome, detail.as_str()), (Outcome::Answered, "200 OK"));
        assert_eq!((page.status, page.tls_version.as_str()), (200, "TLSv1_3"));
        let certificate = page.certificate.unwrap();
        assert_eq!(
            (certificate.subject.as_str(), certificate.issuer.as_str()),
            ("CN=web", "CN=test authority")
        );
        assert_eq!(
            (certificate.names, certificate.fault),
            (vec!["web.test".to_owned(), V4.to_string()], String::new())
        );
        let timing = attempt.timing.unwrap();
        assert!(timing.connected < timing.secured && timing.secured < timing.first_byte, "{timing:?}");
        // Of the web's authorities none has issued it.
        let (outcome, detail, page, _) = get(&format!("https://{at}/"), "");
        assert_eq!(outcome, Outcome::Answered, "it is asked all the same");
        assert!(detail.starts_with("200 OK; certificate: nobody trusted has issued it"), "{detail}");
        assert_eq!(page.unwrap().status, 200);
        let elsewhere = certificates(false, V6);
        let at = serve(TcpListener::bind((V4, 0)).unwrap(), Some(elsewhere.config));
        let (_, detail, ..) = get(&format!("https://{at}/"), &elsewhere.ca_pem);
        assert_eq!(detail, "200 OK; certificate: it is not for 127.0.0.1");
        let over = certificates(true, V4);
        let at = serve(TcpListener::bind((V4, 0)).unwrap(), Some(over.config));
        let (_, detail, page, _) = get(&format!("https://{at}/"), &over.ca_pem);
        assert_eq!(detail, "200 OK; certificate: it has expired");
        assert!(page.unwrap().certificate.unwrap().not_after < std::time::SystemTime::now());
    });
}
