//! A witness between agents and coordinator that no fault touches: it passes every message on and notes which batches
//! were sent and which acknowledged. Both sides speak mutual TLS with it, as they do with each other.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use lastseen_node_agent::clock::{Clock, Kernel};
use lastseen_proto::limits::MESSAGE_BYTES;
use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use lastseen_proto::v1::{AgentMessage, BatchAck, BatchKey, CoordinatorMessage, ObservationBatch};
use lastseen_runtime::client::connect;
use lastseen_runtime::server::{incoming, peer_identity};
use lastseen_runtime::tls::Pki;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

/// Messages of one stream on their way.
const UNDER_WAY: usize = 16;
/// How the coordinator notices dead connections, and so does the witness.
const KEEPALIVE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(10);

/// A batch: node, interface and direction, process and sequence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Node.
    pub node: String,
    /// Interface index.
    pub interface: u32,
    /// As in the observation point.
    pub direction: i32,
    /// Of the agent's process.
    pub incarnation: u64,
    /// Of the point and process.
    pub sequence: u64,
}

impl Name {
    fn of(node: &str, key: &BatchKey) -> Self {
        let (interface, direction) =
            key.point.as_ref().map_or((0, 0), |point| (point.index, point.direction));
        Self {
            node: node.to_owned(),
            interface,
            direction,
            incarnation: key.incarnation,
            sequence: key.sequence,
        }
    }
}

/// What was seen of the batches of a capture.
#[derive(Debug, Clone, Default)]
pub struct Witnessed {
    /// When each was first sent, on `CLOCK_REALTIME`.
    pub sent: HashMap<Name, i64>,
    /// When each was first acknowledged as committed.
    pub acked: HashMap<Name, i64>,
    /// Those refused, and why.
    pub refused: HashMap<Name, String>,
    /// Those the coordinator once answered it could not store.
    pub failed: HashSet<Name>,
}

/// What was seen of every capture, by whichever witness.
#[derive(Debug, Default)]
pub struct Log(Mutex<HashMap<String, Witnessed>>);

impl Log {
    /// What was seen of a capture's batches until now.
    pub fn witnessed(&self, capture: &str) -> Witnessed {
        self.lock().get(capture).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Witnessed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, node: &str, batch: &ObservationBatch) {
        let Some(key) = &batch.key else { return };
        let mut all = self.lock();
        let capture = all.entry(key.capture_id.clone()).or_default();
        capture.sent.entry(Name::of(node, key)).or_insert_with(|| Kernel.realtime_nanos());
    }

    fn answered(&self, node: &str, ack: &BatchAck) {
        let (now, mut all) = (Kernel.realtime_nanos(), self.lock());
        for key in &ack.committed {
            let capture = all.entry(key.capture_id.clone()).or_default();
            capture.acked.entry(Name::of(node, key)).or_insert(now);
        }
        for refused in &ack.refused {
            let Some(key) = &refused.key else { continue };
            let capture = all.entry(key.capture_id.clone()).or_default();
            capture.refused.insert(Name::of(node, key), refused.reason.clone());
        }
        for key in &ack.failed {
            all.entry(key.capture_id.clone()).or_default().failed.insert(Name::of(node, key));
        }
    }
}

/// Whose turn it is, if batches are to go one after the other.
#[derive(Debug)]
struct Turns {
    are_taken: AtomicBool,
    free: Semaphore,
}

impl Turns {
    fn new() -> Self {
        Self { are_taken: AtomicBool::new(false), free: Semaphore::new(1) }
    }

    async fn take(&self) {
        if self.are_taken.load(Ordering::Relaxed)
            && let Ok(turn) = self.free.acquire().await
        {
            turn.forget();
        }
    }

    fn give_back(&self, ack: &BatchAck) {
        if self.are_taken.load(Ordering::Relaxed) {
            self.free.add_permits(ack.committed.len() + ack.refused.len() + ack.failed.len());
        }
    }
}

/// Who agents are on the way to the coordinator, by node.
pub type Identities = Arc<Mutex<HashMap<String, Pki>>>;

/// The running witness.
#[derive(Debug)]
pub struct Tap {
    /// Where agents connect to.
    pub address: SocketAddr,
    turns: Arc<Turns>,
    _ends: DropGuard,
}

impl Tap {
    /// Listens as the coordinator would, and passes on to `coordinator`. What it sees goes to `log`.
    pub async fn start(pki: Pki, agents: Identities, coordinator: SocketAddr, log: Arc<Log>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("bind the witness")?;
        let address = listener.local_addr()?;
        let (turns, coordinator) = (Arc::new(Turns::new()), coordinator.to_string());
        let witness = Witness { log, turns: turns.clone(), agents, coordinator };
        let service = AgentServiceServer::new(witness)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let serving = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(SILENCE))
            .add_service(service)
            .serve_with_incoming(incoming(listener, pki, |_| ()));
        let ended = CancellationToken::new();
        let ending = ended.clone();
        tokio::spawn(async move { ending.run_until_cancelled(serving).await });
        Ok(Self { address, turns, _ends: ended.drop_guard() })
    }

    /// From now on a batch is passed on only once the one before is answered, whichever agent it is from.
    pub fn one_at_a_time(&self) {
        self.turns.are_taken.store(true, Ordering::Relaxed);
    }
}

struct Witness {
    log: Arc<Log>,
    turns: Arc<Turns>,
    agents: Identities,
    coordinator: String,
}

type Out<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl AgentService for Witness {
    type ConnectStream = Out<CoordinatorMessage>;
    type PublishObservationsStream = Out<BatchAck>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (_, mut client) = self.client(&request).await?;
        let up = pass(request.into_inner(), None, |_| ());
        let down = client.connect(up).await?.into_inner();
        Ok(Response::new(answer(down, client, |_| ())))
    }

    async fn publish_observations(
        &self,
        request: Request<Streaming<ObservationBatch>>,
    ) -> Result<Response<Self::PublishObservationsStream>, Status> {
        let (node, mut client) = self.client(&request).await?;
        let (sender, sent) = (node.clone(), self.log.clone());
        let turns = Some(self.turns.clone());
        let up = pass(request.into_inner(), turns, move |batch| sent.sent(&sender, batch));
        let down = client.publish_observations(up).await?.into_inner();
        let (answered, turns) = (self.log.clone(), self.turns.clone());
        let note = move |ack: &BatchAck| {
            answered.answered(&node, ack);
            turns.give_back(ack);
        };
        Ok(Response::new(answer(down, client, note)))
    }
}

impl Witness {
    /// The caller, and a connection to the coordinator in its name.
    async fn client<T>(&self, request: &Request<T>) -> Result<(String, AgentServiceClient<Channel>), Status> {
        let node = peer_identity(request)?.name;
        let pki = self.agents.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned();
        let pki = pki.ok_or_else(|| Status::unauthenticated(format!("{node} is no agent of this fleet")))?;
        let channel =
            connect(&self.coordinator, &pki).await.map_err(|e| Status::unavailable(e.to_string()))?;
        let client = AgentServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        Ok((node, client))
    }
}

/// Passes on what comes, each in its turn, until it ends, however it does.
fn pass<T: Send + 'static>(
    mut from: Streaming<T>,
    turns: Option<Arc<Turns>>,
    note: impl Fn(&T) + Send + 'static,
) -> ReceiverStream<T> {
    let (to, stream) = mpsc::channel(UNDER_WAY);
    tokio::spawn(async move {
        while let Ok(Some(message)) = from.message().await {
            if let Some(turns) = &turns {
                turns.take().await;
            }
            note(&message);
            if to.send(message).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(stream)
}

/// Passes on what is answered, with how it ends; the connection it comes on ends with it.
fn answer<T: Send + 'static>(
    mut from: Streaming<T>,
    connection: AgentServiceClient<Channel>,
    note: impl Fn(&T) + Send + 'static,
) -> Out<T> {
    let (to, stream) = mpsc::channel(UNDER_WAY);
    tokio::spawn(async move {
        loop {
            // Noted before it is passed on: what the agent knows, the witness knows.
            let message = tokio::select! {
                () = to.closed() => break,
                message = from.message() => message,
            };
            let Some(message) = message.transpose() else { break };
            if let Ok(message) = &message {
                note(message);
            }
            let is_over = message.is_err();
            if to.send(message).await.is_err() || is_over {
                break;
            }
        }
        drop(connection);
    });
    ReceiverStream::new(stream)
}
