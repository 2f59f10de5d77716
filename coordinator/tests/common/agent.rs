//! An agent that answers clock pings by itself and does everything else when told.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lastseen_packet::observation::{Columns, ColumnsBuilder, FlowKey, Observation, protocol};
use lastseen_proto::batch::Encoder;
use lastseen_proto::v1::agent_message::Kind;
use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_proto::v1::coordinator_message::Kind as Told;
use lastseen_proto::{PROTOCOL_VERSION, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::Fabric;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The machine's monotonic clock, some way into its life.
pub fn monotonic_nanos() -> i64 {
    START.elapsed().as_nanos() as i64 + 1_000_000_000_000
}

pub fn realtime_nanos() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

pub struct Agent {
    pub node: String,
    pub incarnation: u64,
    pub client: AgentServiceClient<Channel>,
    outbox: mpsc::Sender<v1::AgentMessage>,
    told: mpsc::Receiver<Result<Told, Status>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for Agent {
    /// As a dead process: the stream ends.
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Agent {
    /// Connects and registers; ready when this returns.
    pub async fn connect(fabric: &Fabric, node: &str, incarnation: u64, works_on: &[&str]) -> Self {
        let agent = Self::register(fabric, node, node, incarnation, works_on, PROTOCOL_VERSION).await;
        fabric.ready(&[node]).await;
        agent
    }

    pub async fn register(
        fabric: &Fabric,
        certificate: &str,
        node: &str,
        incarnation: u64,
        works_on: &[&str],
        protocol_version: u32,
    ) -> Self {
        let register = v1::Register {
            node_name: node.into(),
            agent_version: "0.1.0".into(),
            protocol_version,
            incarnation,
            capture_ids: works_on.iter().map(|&id| id.to_owned()).collect(),
            topology: Some(v1::NodeTopology::default()),
            ..Default::default()
        };
        Self::introduce(fabric, certificate, register).await
    }

    /// Another process in place of one of incarnation 1 that made `batches` batches and had some of them to send.
    pub async fn anew(fabric: &Fabric, node: &str, incarnation: u64, capture: &str, batches: u64) -> Self {
        let spooled =
            v1::SpooledPoint { capture_id: capture.into(), incarnation: 1, point: Some(point()), batches };
        let register = v1::Register {
            node_name: node.into(),
            agent_version: "0.1.0".into(),
            protocol_version: PROTOCOL_VERSION,
            incarnation,
            topology: Some(v1::NodeTopology::default()),
            spooled: vec![spooled],
            ..Default::default()
        };
        Self::introduce(fabric, node, register).await
    }

    /// As [`Agent::connect`], on a connection of the test's own.
    pub async fn connect_on(fabric: &Fabric, node: &str, channel: Channel) -> Self {
        let register = v1::Register {
            node_name: node.into(),
            protocol_version: PROTOCOL_VERSION,
            incarnation: 1,
            topology: Some(v1::NodeTopology::default()),
            ..Default::default()
        };
        let agent = Self::introduce_on(channel, register).await;
        fabric.ready(&[node]).await;
        agent
    }

    async fn introduce(fabric: &Fabric, certificate: &str, register: v1::Register) -> Self {
        Self::introduce_on(fabric.channel("agent", certificate).await, register).await
    }

    async fn introduce_on(channel: Channel, register: v1::Register) -> Self {
        Self::join(channel, register).await.unwrap()
    }

    /// Registers over a connection to any coordinator.
    pub async fn join(channel: Channel, register: v1::Register) -> Result<Self, Status> {
        let mut client = AgentServiceClient::new(channel);
        let (outbox, messages) = mpsc::channel(64);
        let (node, incarnation) = (register.node_name.clone(), register.incarnation);
        outbox.send(v1::AgentMessage { kind: Some(Kind::Register(register)) }).await.unwrap();
        let inbox = client.connect(ReceiverStream::new(messages)).await?.into_inner();
        let (tell, told) = mpsc::channel(64);
        let listening = tokio::spawn(listen(inbox, outbox.clone(), tell));
        Ok(Self { node, incarnation, client, outbox, told, listening })
    }

    /// The next message that is no ping.
    pub async fn told(&mut self) -> Result<Told, Status> {
        self.told.recv().await.unwrap_or_else(|| Err(Status::cancelled("the stream ended")))
    }

    pub async fn arm(&mut self) -> v1::ArmCapture {
        loop {
            match self.told().await.unwrap() {
                Told::ArmCapture(arm) => return arm,
                Told::Registered(_) => {}
                other => panic!("expected to be armed: {other:?}"),
            }
        }
    }

    pub async fn commit(&mut self) -> v1::CommitWindow {
        loop {
            match self.told().await.unwrap() {
                Told::CommitWindow(window) => return window,
                Told::Registered(_) => {}
                other => panic!("expected a window: {other:?}"),
            }
        }
    }

    pub async fn end(&mut self) -> v1::EndCapture {
        loop {
            match self.told().await.unwrap() {
                Told::EndCapture(end) => return end,
                Told::Registered(_) | Told::CommitWindow(_) => {}
                other => panic!("expected an end: {other:?}"),
            }
        }
    }

    pub async fn status(&self, capture: &str, state: v1::CaptureState, reason: &str, batches: u64) {
        let points = if state == v1::CaptureState::Failed {
            Vec::new()
        } else {
            let counters = Some(v1::PointCounters { received: batches * 4, ..Default::default() });
            vec![v1::PointStatus { point: Some(point()), counters, batches }]
        };
        let status = v1::CaptureStatus {
            capture_id: capture.into(),
            state: state.into(),
            reason: reason.into(),
            points,
            coverage: Vec::new(),
            translations: None,
        };
        // A stream that broke takes nothing; its coordinator is gone.
        let _ = self.outbox.send(v1::AgentMessage { kind: Some(Kind::CaptureStatus(status)) }).await;
    }

    /// Says that its part of a capture is complete, with a translated connection.
    pub async fn translated(&self, capture: &str) {
        let connections = vec![v1::TranslatedConnection { protocol: 6, ..Default::default() }];
        let status = v1::CaptureStatus {
            capture_id: capture.into(),
            state: v1::CaptureState::Completed.into(),
            translations: Some(v1::NodeTranslations { connections, omitted: 0 }),
            ..Default::default()
        };
        self.outbox.send(v1::AgentMessage { kind: Some(Kind::CaptureStatus(status)) }).await.unwrap();
    }

    /// Says when the certificate ends that it has now.
    pub async fn say(&self, kind: Kind) {
        self.outbox.send(v1::AgentMessage { kind: Some(kind) }).await.unwrap();
    }

    pub async fn beat(&self, certificate_not_after: SystemTime) {
        let beat =
            v1::Heartbeat { resident_bytes: 1, certificate_not_after: Some(certificate_not_after.into()) };
        self.outbox.send(v1::AgentMessage { kind: Some(Kind::Heartbeat(beat)) }).await.unwrap();
    }

    /// Tells of a network, recognisable by the name of its only interface.
    pub async fn network(&self, interface: &str) {
        let interfaces = vec![v1::Interface { name: interface.into(), ..Default::default() }];
        let topology = v1::NodeTopology { interfaces, ..Default::default() };
        self.outbox.send(v1::AgentMessage { kind: Some(Kind::Topology(topology)) }).await.unwrap();
    }

    /// Opens the stream of batches.
    pub async fn publish(&mut self) -> Publisher {
        self.try_publish().await.unwrap()
    }

    /// As [`Agent::publish`], where it may be refused.
    pub async fn try_publish(&mut self) -> Result<Publisher, Status> {
        let (batches, stream) = mpsc::channel(256);
        let acks = self.client.publish_observations(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Publisher { batches, acks })
    }

    pub fn batch(&self, capture: &str, sequence: u64) -> v1::ObservationBatch {
        let now = realtime_nanos();
        let columns = columns(4, now, sequence);
        batch(capture, self.incarnation, sequence, now, &columns)
    }
}

async fn listen(
    mut inbox: Streaming<v1::CoordinatorMessage>,
    outbox: mpsc::Sender<v1::AgentMessage>,
    tell: mpsc::Sender<Result<Told, Status>>,
) {
    loop {
        let kind = match inbox.message().await {
            Ok(Some(message)) => message.kind.unwrap(),
            Ok(None) => return,
            Err(status) => return drop(tell.send(Err(status)).await),
        };
        if let Told::ClockPing(ping) = kind {
            let received = monotonic_nanos();
            let reply = v1::ClockReply {
                sequence: ping.sequence,
                ping_unix_nanos: ping.sent_unix_nanos,
                received_monotonic_nanos: received,
                sent_monotonic_nanos: monotonic_nanos(),
                realtime_minus_monotonic_nanos: realtime_nanos() - received,
            };
            let _ = outbox.send(v1::AgentMessage { kind: Some(Kind::ClockReply(reply)) }).await;
        } else if tell.send(Ok(kind)).await.is_err() {
            return;
        }
    }
}

pub struct Publisher {
    pub batches: mpsc::Sender<v1::ObservationBatch>,
    pub acks: Streaming<v1::BatchAck>,
}

impl Publisher {
    /// The next message of answers.
    pub async fn answer(&mut self) -> v1::BatchAck {
        self.acks.message().await.unwrap().unwrap()
    }

    /// Sends and waits for the answers to all: sequences committed, and sequences refused with their reasons.
    pub async fn send(&mut self, batches: Vec<v1::ObservationBatch>) -> (Vec<u64>, Vec<(u64, String)>) {
        let (mut committed, mut refused) = (Vec::new(), Vec::new());
        let expected = batches.len();
        for batch in batches {
            self.batches.send(batch).await.unwrap();
        }
        while committed.len() + refused.len() < expected {
            let acks = self.answer().await;
            assert!(acks.failed.is_empty(), "{acks:?}");
            committed.extend(acks.committed.iter().map(|key| key.sequence));
            refused.extend(acks.refused.into_iter().map(|batch| (batch.key.unwrap().sequence, batch.reason)));
        }
        committed.sort_unstable();
        refused.sort();
        (committed, refused)
    }
}

pub fn point() -> v1::ObservationPoint {
    v1::ObservationPoint {
        netns: String::new(),
        interface: "eth0".into(),
        index: 2,
        direction: v1::Direction::In.into(),
        kind: v1::InterfaceKind::Physical.into(),
        mtu: 1500,
        gso_known: true,
    }
}

/// Rows of a bulk transfer: full segments of a few flows, as a busy interface shows them.
pub fn columns(rows: usize, start_nanos: i64, seed: u64) -> Columns {
    let mut builder = ColumnsBuilder::new(rows, [7; 16]);
    for index in 0..rows as u64 {
        let flow = (seed + index) % 16;
        let key = FlowKey {
            source: [10, 244, 1, flow as u8].into(),
            destination: [10, 244, 2, 10].into(),
            protocol: protocol::TCP,
            source_port: 40_000 + flow as u16,
            destination_port: 80,
            ..FlowKey::UNSPECIFIED
        };
        let step = (seed * rows as u64 + index) / 16;
        builder.push(
            &key,
            Observation {
                time_nanos: start_nanos + (index * 2_000 + index % 7 * 90) as i64,
                ip_length: 1_500,
                payload_length: 1_448,
                ip_id: step as u16,
                ttl: 64,
                tcp_flags: 0x10,
                tcp_window: 501,
                tcp_seq: (step * 1_448) as u32,
                tcp_ack: 1_000 + flow as u32,
                ts_value: (step / 10) as u32,
                ts_echo: (step / 11) as u32,
                marks: 0x26,
                ..Observation::default()
            },
        );
    }
    builder.columns().clone()
}

pub fn batch(
    capture: &str,
    incarnation: u64,
    sequence: u64,
    start_nanos: i64,
    columns: &Columns,
) -> v1::ObservationBatch {
    v1::ObservationBatch {
        key: Some(v1::BatchKey { capture_id: capture.into(), point: Some(point()), incarnation, sequence }),
        slice_start_nanos: start_nanos,
        slice_end_nanos: start_nanos + 50_000_000,
        realtime_minus_monotonic_nanos: realtime_nanos() - monotonic_nanos(),
        counters: Some(v1::PointCounters { received: columns.len() as u64, ..Default::default() }),
        rows: columns.len() as u32,
        columns: Encoder::new().unwrap().encode(columns).unwrap().into(),
        sampling_threshold: None,
    }
}
