//! The other side of the agent's protocol, driven by the test: it sends what it is told to and remembers what comes.
#![allow(dead_code, unreachable_pub)] // Each test binary uses its own part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastseen_proto::v1::agent_message::Kind as Up;
use lastseen_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use lastseen_proto::v1::coordinator_message::Kind as Down;
use lastseen_proto::v1::{
    AgentMessage, BatchAck, CaptureStatus, CoordinatorMessage, ObservationBatch, RefusedBatch, Register,
    Registered,
};
use lastseen_runtime::server::{incoming, peer_identity};
use lastseen_runtime::tls::Pki;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// A test that waits for something that does not come fails by itself instead of hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// What batches are known by: point index, direction, sequence.
pub type Key = (u32, i32, u64);

#[derive(Default)]
pub struct State {
    down: Mutex<Option<mpsc::Sender<Result<CoordinatorMessage, Status>>>>,
    /// Every batch, by key.
    pub batches: Mutex<BTreeMap<Key, ObservationBatch>>,
    /// Batches that came again.
    pub repeated: AtomicU64,
    /// Batches that came again with other contents.
    pub altered: AtomicU64,
    pub acking: AtomicBool,
    /// Refuse this sequence of every point.
    pub refuse: Mutex<Option<u64>>,
    /// Answer that batches of this capture could not be stored.
    pub fail: Mutex<Option<String>>,
    /// How often that was answered.
    pub failed: AtomicU64,
    /// Leave registrations without an answer.
    pub mute: AtomicBool,
    /// Registrations that came.
    pub registrations: AtomicU64,
    /// Answer a registration with this error.
    pub deny: Mutex<Option<Status>>,
}

struct Service {
    state: Arc<State>,
    up: mpsc::Sender<Up>,
}

type Out<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl AgentService for Service {
    type ConnectStream = Out<CoordinatorMessage>;
    type PublishObservationsStream = Out<BatchAck>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Out<CoordinatorMessage>>, Status> {
        assert_eq!(peer_identity(&request)?.to_string(), "spiffe://test/agent/node-a");
        if let Some(status) = self.state.deny.lock().unwrap().clone() {
            return Err(status);
        }
        let (down, stream) = mpsc::channel(64);
        *self.state.down.lock().unwrap() = Some(down.clone());
        let (mut messages, up) = (request.into_inner(), self.up.clone());
        let state = self.state.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                let kind = message.kind.unwrap();
                let is_registration = matches!(kind, Up::Register(_));
                state.registrations.fetch_add(u64::from(is_registration), Ordering::Relaxed);
                if is_registration && !state.mute.load(Ordering::Relaxed) {
                    let registered = Registered {
                        coordinator_version: "test".into(),
                        heartbeat_interval_millis: 200,
                        max_batch_bytes: 1 << 20,
                    };
                    let _ =
                        down.send(Ok(CoordinatorMessage { kind: Some(Down::Registered(registered)) })).await;
                }
                if up.send(kind).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn publish_observations(
        &self,
        request: Request<Streaming<ObservationBatch>>,
    ) -> Result<Response<Out<BatchAck>>, Status> {
        let (acks, stream) = mpsc::channel(64);
        let (mut batches, state) = (request.into_inner(), self.state.clone());
        tokio::spawn(async move {
            while let Ok(Some(batch)) = batches.message().await {
                if let Some(ack) = state.take(&batch)
                    && acks.send(Ok(ack)).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl State {
    fn take(&self, batch: &ObservationBatch) -> Option<BatchAck> {
        let key = batch.key.clone().unwrap();
        if self.fail.lock().unwrap().as_ref() == Some(&key.capture_id) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Some(BatchAck { failed: vec![key], ..Default::default() });
        }
        if *self.refuse.lock().unwrap() == Some(key.sequence) {
            let refused = RefusedBatch { key: Some(key), reason: "by the test".into() };
            return Some(BatchAck { refused: vec![refused], ..Default::default() });
        }
        let point = key.point.clone().unwrap();
        let id = (point.index, point.direction, key.sequence);
        let old = self.batches.lock().unwrap().insert(id, batch.clone());
        if let Some(old) = old {
            self.repeated.fetch_add(1, Ordering::Relaxed);
            self.altered.fetch_add(u64::from(old != *batch), Ordering::Relaxed);
        }
        let ack = BatchAck { committed: vec![key], ..Default::default() };
        self.acking.load(Ordering::Relaxed).then_some(ack)
    }
}

/// The former listener is closed by its own task, a moment after it was stopped.
async fn bind(port: u16) -> TcpListener {
    let bound = async {
        loop {
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => return listener,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, bound).await.expect("the port of the former coordinator stays in use")
}

/// A running coordinator. It ends, with its connections, when it is stopped or dropped.
pub struct Coordinator {
    pub state: Arc<State>,
    up: mpsc::Receiver<Up>,
    down_with_it: CancellationToken,
    server: tokio::task::JoinHandle<()>,
    pub port: u16,
    pki_dir: PathBuf,
}

impl Coordinator {
    /// Listens on 127.0.0.1, on any port for 0.
    pub async fn start(pki_dir: &Path, port: u16) -> Self {
        Self::with(Arc::new(State::default()), pki_dir, port).await
    }

    async fn with(state: Arc<State>, pki_dir: &Path, port: u16) -> Self {
        let listener = bind(port).await;
        let port = listener.local_addr().unwrap().port();
        let connections = incoming(listener, Pki::open(pki_dir).unwrap(), |_| ());
        let (sender, up) = mpsc::channel(4096);
        let service = AgentServiceServer::new(Service { state: state.clone(), up: sender });
        let down_with_it = CancellationToken::new();
        let stop = down_with_it.clone();
        let server = tokio::spawn(async move {
            let serving =
                tonic::transport::Server::builder().add_service(service).serve_with_incoming(connections);
            let _ = stop.run_until_cancelled(serving).await;
        });
        Self { state, up, down_with_it, server, port, pki_dir: pki_dir.to_owned() }
    }

    /// Cuts every connection, as a kill does, and starts anew on the same port with an empty memory of the streams.
    pub async fn restart(self) -> Self {
        let Self { state, down_with_it, server, port, pki_dir, .. } = self;
        down_with_it.cancel();
        server.await.unwrap();
        *state.down.lock().unwrap() = None;
        Self::with(state, &pki_dir, port).await
    }

    pub async fn send(&self, kind: Down) {
        let down = self.state.down.lock().unwrap().clone().expect("an agent is connected");
        down.send(Ok(CoordinatorMessage { kind: Some(kind) })).await.unwrap();
    }

    /// Ends the control stream with an error.
    pub async fn end(&self, status: Status) {
        let down = self.state.down.lock().unwrap().take().expect("an agent is connected");
        down.send(Err(status)).await.unwrap();
    }

    /// The next message that `pick` wants; others are passed over.
    pub async fn next<T>(&mut self, pick: impl Fn(Up) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Some(picked) = pick(self.up.recv().await.expect("the server runs")) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the expected message did not come within 30 s")
    }

    pub async fn register(&mut self) -> Register {
        self.next(|up| if let Up::Register(register) = up { Some(register) } else { None }).await
    }

    /// The next status of `capture` in one of `states`.
    pub async fn status(
        &mut self,
        capture: &str,
        states: &[lastseen_proto::v1::CaptureState],
    ) -> CaptureStatus {
        self.next(|up| match up {
            Up::CaptureStatus(status) if status.capture_id == capture && states.contains(&status.state()) => {
                Some(status)
            }
            _ => None,
        })
        .await
    }

    /// Waits until `holds`, looking every few milliseconds.
    pub async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let wait = async {
            while !holds(&self.state) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not within 30 s: {what}"));
    }
}
