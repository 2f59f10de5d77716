//! One registered control stream.

use std::net::SocketAddr;
use std::time::Duration;

use lastseen_proto::limits::CAPTURE_ID_BYTES;
use lastseen_proto::v1::agent_message::Kind as Up;
use lastseen_proto::v1::agent_service_client::AgentServiceClient;
use lastseen_proto::v1::coordinator_message::Kind as Down;
use lastseen_proto::v1::{
    AgentMessage, ClockPing, ClockReply, CoordinatorMessage, Heartbeat, Register, Registered,
};
use lastseen_proto::{PROTOCOL_VERSION, v1};
use lastseen_runtime::client::explain_status;
use lastseen_runtime::process::resident_bytes;
use lastseen_runtime::tls::Pki;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::interfaces::Snapshot;
use crate::job::board::Posted;
use crate::job::{Command, Context, Jobs};
use crate::probe::{self, Probes};
use crate::retry::Trouble;
use crate::{clock, privileges, wire};

/// Messages on their way out. A full queue holds the session back, and nothing else.
const OUTGOING: usize = 64;
/// The coordinator answers a registration within this time.
const REGISTRATION: Duration = Duration::from_secs(10);
/// Bounds of what a coordinator may ask for.
const HEARTBEATS: std::ops::RangeInclusive<u32> = 100..=60_000;
/// News of probes that are told before other things have their turn.
const NEWS: usize = 16;
/// How often a stopping session looks whether it is done.
const IDLE_CHECK: Duration = Duration::from_millis(50);
/// How long the coordinator may take to close after we did.
const CLOSING: Duration = Duration::from_secs(1);

/// Why a session is over.
pub(crate) enum Ended {
    /// We were asked to stop, and are done.
    Stopped,
    /// The connection broke.
    Lost(String),
    /// The coordinator ended it in favour of another agent that came as this node.
    Replaced(String),
}

impl From<String> for Ended {
    fn from(reason: String) -> Self {
        Self::Lost(reason)
    }
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        let reason = explain_status(&status);
        if status.code() == Code::Aborted { Self::Replaced(reason) } else { Self::Lost(reason) }
    }
}

/// A stream on which the agent is registered.
pub(crate) struct Session {
    outgoing: mpsc::Sender<AgentMessage>,
    incoming: Streaming<CoordinatorMessage>,
    context: Context,
    pki: Pki,
    registered: Registered,
    dialed: Vec<SocketAddr>,
    network: watch::Receiver<Snapshot>,
    board: watch::Receiver<Posted>,
    /// Number of the last change of the board that was told here.
    told: u64,
    probes: watch::Receiver<probe::board::Posted>,
    /// Likewise, of the probes' board.
    told_of_probes: u64,
}

impl Session {
    /// Opens the stream and registers.
    pub(crate) async fn open(
        mut client: AgentServiceClient<Channel>,
        context: &Context,
        probe_ids: Vec<String>,
        pki: Pki,
        dialed: Vec<SocketAddr>,
    ) -> Result<Self, Trouble> {
        let mut network = context.network.subscribe();
        let register = register(context, probe_ids, &network.borrow_and_update());
        let (outgoing, stream) = mpsc::channel(OUTGOING);
        let queued = outgoing.send(AgentMessage { kind: Some(Up::Register(register)) }).await;
        queued.map_err(|_| Trouble::Unreachable("the stream closed at once".into()))?;
        let answer = async {
            let mut incoming = client.connect(ReceiverStream::new(stream)).await?.into_inner();
            let first = incoming.message().await?;
            Ok::<_, Status>((incoming, first))
        };
        let answered = tokio::time::timeout(REGISTRATION, answer).await;
        let (incoming, first) = answered
            .map_err(|_| Trouble::Unreachable("no answer to the registration within 10 s".into()))??;
        let Some(Down::Registered(registered)) = first.and_then(|message| message.kind) else {
            return Err(Trouble::Refused("it does not answer a registration as a coordinator does".into()));
        };
        let (board, probes) = (context.board.subscribe(), context.probes.subscribe());
        let context = context.clone();
        let (told, told_of_probes) = (0, 0);
        Ok(Self {
            outgoing,
            incoming,
            context,
            pki,
            registered,
            dialed,
            network,
            board,
            told,
            probes,
            told_of_probes,
        })
    }

    pub(crate) fn coordinator_version(&self) -> &str {
        &self.registered.coordinator_version
    }

    /// Serves the stream. After `shutdown` it ends the jobs and stops when their data is delivered, however long that
    /// takes.
    pub(crate) async fn run(
        mut self,
        jobs: &mut Jobs,
        probes: &mut Probes,
        shutdown: &CancellationToken,
    ) -> Ended {
        // What happened while we were away.
        self.board.mark_changed();
        self.probes.mark_changed();
        let mut heartbeat = self.heartbeats();
        let mut idle = interval(IDLE_CHECK);
        let mut stopping = false;
        loop {
            let served = tokio::select! {
                message = self.incoming.message() => self.receive(message, jobs, probes).await,
                Ok(()) = self.network.changed() => self.tell_network().await.map_err(Ended::from),
                Ok(()) = self.board.changed() => self.tell_statuses().await.map_err(Ended::from),
                Ok(()) = self.probes.changed() => self.tell_probes().await.map_err(Ended::from),
                _ = heartbeat.tick() => self.beat().await.map_err(Ended::from),
                () = shutdown.cancelled(), if !stopping => {
                    jobs.shutdown();
                    probes.shutdown();
                    stopping = true;
                    Ok(())
                }
                _ = idle.tick(), if stopping => {
                    if jobs.is_idle() && self.context.spool.waiting().0 == 0 && !self.has_news() && probes.is_idle() {
                        self.close().await;
                        return Ended::Stopped;
                    }
                    Ok(())
                }
            };
            if let Err(ended) = served {
                return ended;
            }
        }
    }

    fn heartbeats(&self) -> Interval {
        let millis = self.registered.heartbeat_interval_millis.clamp(*HEARTBEATS.start(), *HEARTBEATS.end());
        let mut heartbeat = interval(Duration::from_millis(u64::from(millis)));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat
    }

    fn has_news(&self) -> bool {
        !self.board.borrow().since(self.told).0.is_empty()
    }

    async fn receive(
        &mut self,
        message: Result<Option<CoordinatorMessage>, Status>,
        jobs: &mut Jobs,
        probes: &mut Probes,
    ) -> Result<(), Ended> {
        let arrived = clock::monotonic_nanos();
        let message = message?.ok_or_else(|| "the coordinator closed the connection".to_owned())?;
        match message.kind {
            Some(Down::ClockPing(ping)) => self.send(clock_reply(&ping, arrived)).await?,
            Some(Down::ArmCapture(arm)) => self.arm(arm, jobs),
            Some(Down::CommitWindow(commit)) => {
                let (start, end) = (commit.start_monotonic_nanos, commit.end_monotonic_nanos);
                jobs.tell(&commit.capture_id, Command::Commit { start, end });
            }
            Some(Down::EndCapture(end)) => {
                jobs.tell(&end.capture_id, Command::End { at: end.end_monotonic_nanos });
            }
            Some(Down::ArmProbe(arm)) => arm_probe(arm, probes),
            Some(Down::EndProbe(end)) => probes.end(&end.probe_id),
            Some(Down::ProbeStored(stored)) => {
                for report in stored.reports {
                    // A place that cannot be read was never reported from.
                    if let Ok(place) = report.netns.parse() {
                        probes.board().stored(&report.probe_id, report.run, &place);
                    }
                }
            }
            Some(Down::Registered(_)) | None => tracing::debug!("a message without meaning here"),
        }
        Ok(())
    }

    fn arm(&self, arm: v1::ArmCapture, jobs: &mut Jobs) {
        // Of one that is refused for its length, so much is enough to find it.
        let capture = arm.capture_id.chars().take(CAPTURE_ID_BYTES).collect();
        match wire::capture::spec(arm, &self.dialed) {
            Ok(spec) => jobs.arm(spec),
            Err(reason) => jobs.refuse(capture, reason),
        }
    }

    async fn tell_network(&mut self) -> Result<(), String> {
        let topology = self.network.borrow_and_update().topology.clone();
        self.send(Up::Topology(topology)).await
    }

    /// The network first: whoever is told that a capture is armed knows the interfaces it is armed on.
    async fn tell_statuses(&mut self) -> Result<(), String> {
        if self.network.has_changed().unwrap_or(false) {
            self.tell_network().await?;
        }
        let (statuses, last) = self.board.borrow_and_update().since(self.told);
        for status in statuses {
            self.send(Up::CaptureStatus(wire::capture::status(&status))).await?;
        }
        self.told = last;
        Ok(())
    }

    async fn tell_probes(&mut self) -> Result<(), String> {
        let (news, last) = self.probes.borrow_and_update().since(self.told_of_probes, NEWS);
        for news in news {
            self.send(wire::probe::news(&news)).await?;
        }
        if last > self.told_of_probes {
            self.told_of_probes = last;
            // There may be more, but pings and commands have their turn before it.
            self.probes.mark_changed();
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), String> {
        let certificate_not_after = Some(self.pki.not_after().into());
        self.send(Up::Heartbeat(Heartbeat { resident_bytes: resident_bytes(), certificate_not_after })).await
    }

    async fn send(&self, kind: Up) -> Result<(), String> {
        let sent = self.outgoing.send(AgentMessage { kind: Some(kind) }).await;
        sent.map_err(|_| "the control stream broke".to_owned())
    }

    /// Lets the coordinator read what is under way before the connection goes.
    async fn close(self) {
        let Self { outgoing, mut incoming, .. } = self;
        drop(outgoing);
        let rest = async { while let Ok(Some(_)) = incoming.message().await {} };
        let _ = tokio::time::timeout(CLOSING, rest).await;
    }
}

fn arm_probe(arm: v1::ArmProbe, probes: &mut Probes) {
    let probe: String = arm.probe_id.chars().take(CAPTURE_ID_BYTES).collect();
    let sources = arm.spec.as_ref().map(|spec| spec.sources.clone()).unwrap_or_default();
    match wire::probe::spec(arm) {
        Ok(spec) => probes.arm(spec),
        Err(reason) => {
            let places = sources.iter().filter_map(|source| source.netns.parse().ok());
            places.for_each(|place| probes.fail(&probe, &place, &reason));
        }
    }
}

fn register(context: &Context, probe_ids: Vec<String>, snapshot: &Snapshot) -> Register {
    Register {
        node_name: context.node.to_string(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_version: PROTOCOL_VERSION,
        incarnation: context.spool.incarnation(),
        kernel: kernel_release(),
        capabilities: privileges::report(),
        topology: Some(snapshot.topology.clone()),
        capture_ids: context.board.unfinished(),
        spooled: context.spool.left(),
        probe_ids,
    }
}

fn clock_reply(ping: &ClockPing, arrived: i64) -> Up {
    Up::ClockReply(ClockReply {
        sequence: ping.sequence,
        ping_unix_nanos: ping.sent_unix_nanos,
        received_monotonic_nanos: arrived,
        realtime_minus_monotonic_nanos: clock::realtime_minus_monotonic(),
        sent_monotonic_nanos: clock::monotonic_nanos(),
    })
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}
