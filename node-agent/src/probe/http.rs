//! GET over HTTP/1.1 (RFC 9112), with or without TLS. Redirects are told and not followed: each names another target.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lastseen_proto::target::Host;
use lastseen_proto::url::WebUrl;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::attempt::{Attempt, Outcome, Timing};
use super::certificate::Judge;
use super::report::Page;
use super::spec::Schedule;
use super::{series, tcp};
use crate::clock;

/// Of a body, nothing beyond is read.
const BODY_BYTES: u64 = 1 << 20;
/// Headers together are no longer, and no more of a body is held at once.
const HEADER_BYTES: usize = 16 << 10;
/// Of a redirect's address, nothing beyond is told.
const LOCATION_BYTES: usize = 200;
/// What servers' logs show.
const AGENT: &str = concat!("lastseen/", env!("CARGO_PKG_VERSION"));

/// Asks for one page again and again. The last that was seen comes with it.
pub(super) async fn run(
    url: &WebUrl,
    address: IpAddr,
    ca_pem: &str,
    schedule: &Schedule,
    begin: Instant,
) -> Result<(Vec<Attempt>, Option<Page>), String> {
    let name = match &url.server.host {
        Host::Name(name) if url.is_secure => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|_| format!("{name} is no name that a certificate can be for"))?,
        _ => ServerName::from(address),
    };
    let client = Client {
        address: SocketAddr::new(address, url.port()),
        judge: url.is_secure.then(|| Judge::new(ca_pem)).transpose()?,
        name,
        authority: url.authority(),
        path: url.path.clone(),
    };
    let done = series::run(schedule, begin, async || {
        let mut visit = Visit::new();
        let ended = timeout(schedule.timeout, client.visit(&mut visit)).await;
        (visit.attempt(ended.ok()), visit.page)
    });
    let done = done.await;
    let has_news = |page: &Page| page.status > 0 || page.certificate.is_some();
    let page = done.iter().rev().map(|(_, page)| page).find(|page| has_news(page)).cloned();
    Ok((done.into_iter().map(|(attempt, _)| attempt).collect(), page))
}

struct Client {
    address: SocketAddr,
    judge: Option<Judge>,
    name: ServerName<'static>,
    authority: String,
    path: String,
}

/// How far one request has come.
struct Visit {
    sent: i64,
    began: Instant,
    timing: Timing,
    page: Page,
    /// What is waited for, in words.
    step: &'static str,
    status: String,
}

/// What ended a request early.
enum Failure {
    /// Nothing could be asked.
    Here(io::Error),
    Connection(tcp::Failure),
    Tls(io::Error),
    Http(hyper::Error),
}

impl Visit {
    fn new() -> Self {
        Self {
            sent: clock::realtime_nanos(),
            began: Instant::now(),
            timing: Timing::default(),
            page: Page::default(),
            step: "connecting",
            status: String::new(),
        }
    }

    /// None: the time was up.
    fn attempt(&self, ended: Option<Result<(), Failure>>) -> Attempt {
        let delay = self.began.elapsed();
        let silent = Attempt { timing: Some(self.timing), ..Attempt::silent(self.sent) };
        let fault = self.page.certificate.as_ref().map(|certificate| certificate.fault.as_str());
        let fault = fault.filter(|fault| !fault.is_empty());
        match ended {
            Some(Ok(())) => {
                let fault = fault.map(|fault| format!("; certificate: {fault}")).unwrap_or_default();
                let detail = format!("{}{fault}", self.status);
                Attempt { outcome: Outcome::Answered, delay: Some(delay), detail, ..silent }
            }
            Some(Err(Failure::Connection(failure))) => {
                Attempt { timing: Some(self.timing), ..failure.attempt(self.sent, delay) }
            }
            Some(Err(Failure::Here(error))) => Attempt::not_sent(self.sent, &error),
            Some(Err(Failure::Tls(error))) => {
                let detail = format!("TLS: {error}");
                Attempt { outcome: Outcome::Refused, delay: Some(delay), detail, ..silent }
            }
            Some(Err(Failure::Http(error))) => {
                let detail = format!("{}: {error}", self.step);
                Attempt { outcome: Outcome::Refused, delay: Some(delay), detail, ..silent }
            }
            None => Attempt { detail: self.step.to_owned(), ..silent },
        }
    }
}

impl Client {
    async fn visit(&self, visit: &mut Visit) -> Result<(), Failure> {
        let (stream, _place) = tcp::connect(self.address).await.map_err(Failure::Connection)?;
        visit.timing.connected = Some(visit.began.elapsed());
        let Some(judge) = &self.judge else { return self.get(stream, visit).await };
        visit.step = "in the TLS handshake";
        let (config, seen) = judge.config().map_err(|error| Failure::Here(io::Error::other(error)))?;
        let secured = TlsConnector::from(Arc::new(config)).connect(self.name.clone(), stream).await;
        visit.page.certificate = seen.take();
        let stream = secured.map_err(Failure::Tls)?;
        visit.timing.secured = Some(visit.began.elapsed());
        if let Some(version) = stream.get_ref().1.protocol_version() {
            visit.page.tls_version = format!("{version:?}");
        }
        self.get(stream, visit).await
    }

    async fn get<S>(&self, stream: S, visit: &mut Visit) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        visit.step = "waiting for the answer";
        let mut client = http1::Builder::new();
        client.max_buf_size(HEADER_BYTES);
        let (mut requests, connection) =
            client.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(Failure::Http)?;
        let _connection = AbortOnDrop(tokio::spawn(connection).abort_handle());
        let request = Request::get(&self.path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, AGENT)
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(|error| Failure::Here(io::Error::other(error)))?;
        let mut answer = requests.send_request(request).await.map_err(Failure::Http)?;
        visit.timing.first_byte = Some(visit.began.elapsed());
        visit.page.status = answer.status().as_u16();
        visit.page.version = format!("{:?}", answer.version());
        visit.page.location = location(&answer);
        visit.status = answer.status().to_string();
        visit.step = "in the middle of the body";
        while let Some(frame) = answer.body_mut().frame().await {
            let frame = frame.map_err(Failure::Http)?;
            visit.page.body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if visit.page.body_bytes >= BODY_BYTES {
                visit.page.body_bytes = BODY_BYTES;
                break;
            }
        }
        Ok(())
    }
}

fn location<B>(answer: &Response<B>) -> String {
    let value = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.chars().take(LOCATION_BYTES).collect()
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
