//! The control stream of one agent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lastseen_proto::v1;
use lastseen_proto::v1::agent_message::Kind;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Context, Responses};
use crate::connections::Peer;
use crate::error::Error;
use crate::fleet::{self, CutOff};
use crate::limits;
use crate::quota::Place;
use crate::wire::{agent as wire, command};

/// Pings whose answers are still of interest.
const PINGS: usize = 16;

type Outbox = mpsc::Sender<Result<v1::CoordinatorMessage, Status>>;

/// The two ends of a control stream.
pub(super) struct Ends {
    /// Addresses of the coordinator, which agents must not capture.
    pub(super) coordinator: Vec<String>,
    /// The agent's.
    pub(super) peer: Arc<Peer>,
}

/// Starts a session; its end closes the stream.
pub(super) fn open(
    context: Context,
    node: String,
    ends: Ends,
    place: Place,
    inbox: Streaming<v1::AgentMessage>,
) -> Responses<v1::CoordinatorMessage> {
    let (outbox, stream) = mpsc::channel(limits::AGENT_QUEUE);
    tokio::spawn(async move {
        if let Err(status) = serve(context, &node, ends, inbox, &outbox).await {
            tracing::info!(node, reason = status.message(), "control stream ended");
            let _ = outbox.try_send(Err(status));
        }
        drop(place);
    });
    ReceiverStream::new(stream)
}

async fn serve(
    context: Context,
    node: &str,
    ends: Ends,
    mut inbox: Streaming<v1::AgentMessage>,
    outbox: &Outbox,
) -> Result<(), Status> {
    let register = context.stopping.run_until_cancelled(first(&mut inbox)).await.ok_or(Error::Stopping)??;
    let wire::Introduction { record, works_on, left, probes } =
        wire::register(register, node, context.clock.now())?;
    let incarnation = record.incarnation;
    tracing::info!(node, version = record.agent_version, incarnation, "agent connected");
    send(outbox, wire::registered()).await?;
    // One that has ended may stand on the board still while it closes its files; it tells nobody any more.
    let looked = context.jobs.board().learn(works_on.iter().chain(left.keys())).await;
    for id in works_on.iter().chain(left.keys()) {
        if !context.jobs.board().is_over(id) {
            continue;
        }
        if !looked {
            return Err(Error::Unseen.into());
        }
        send(outbox, command::forget(id.clone())).await?;
    }
    // Before anybody sees that this is another process: its captures wait for what the former one left.
    for (capture, left) in left {
        context.jobs.left(node, &capture, left).await;
    }
    let session = context.fleet.connect(record, works_on, &ends.peer.address);
    context.keeper.changed(node);
    context.probes.came(node, probes);
    let id = session.id;
    context.metrics.agents.inc();
    let mut stream = Session {
        context: context.clone(),
        node,
        incarnation,
        endpoints: ends.coordinator,
        peer: ends.peer,
        id,
        pings: VecDeque::new(),
        pinged: 0,
    };
    let result = stream.run(session, inbox, outbox).await;
    context.metrics.agents.dec();
    if context.fleet.disconnect(node, id) {
        context.keeper.changed(node);
    }
    result
}

async fn first(inbox: &mut Streaming<v1::AgentMessage>) -> Result<v1::Register, Status> {
    let message = timeout(limits::SILENCE, inbox.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no `register` within 10 s"))??;
    match message.and_then(|message| message.kind) {
        Some(Kind::Register(register)) => Ok(register),
        _ => Err(Status::invalid_argument("kind: the first message must be `register`")),
    }
}

async fn send(outbox: &Outbox, message: v1::CoordinatorMessage) -> Result<(), Status> {
    let sent = timeout(limits::SILENCE, outbox.send(Ok(message))).await;
    match sent {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Status::cancelled("the agent closed the stream")),
        Err(_) => Err(Status::deadline_exceeded("the agent takes no messages")),
    }
}

struct Session<'a> {
    context: Context,
    node: &'a str,
    incarnation: u64,
    endpoints: Vec<String>,
    peer: Arc<Peer>,
    id: u64,
    /// Number and time of the last pings; an agent's echo alone is not trusted.
    pings: VecDeque<(u64, i64)>,
    pinged: u64,
}

impl Session<'_> {
    async fn run(
        &mut self,
        mut session: fleet::Session,
        mut inbox: Streaming<v1::AgentMessage>,
        outbox: &Outbox,
    ) -> Result<(), Status> {
        let mut heard = Instant::now();
        let mut next_ping = Instant::now();
        loop {
            tokio::select! {
                () = self.context.stopping.cancelled() => return Err(Error::Stopping.into()),
                why = &mut session.cut_off => return Err(self.cut_off(why.ok())),
                message = inbox.message() => {
                    let now = self.context.clock.now();
                    let Some(message) = message? else { return Ok(()) };
                    heard = Instant::now();
                    self.turn().await;
                    self.context.fleet.heard(self.node, self.id, now);
                    self.take(message, now, outbox).await?;
                }
                command = session.commands.recv() => {
                    // A stream whose place is taken has lost both; why is said in one of them only.
                    let Some(command) = command else {
                        return Err(self.cut_off((&mut session.cut_off).await.ok()));
                    };
                    send(outbox, command::order(command, self.node, &self.endpoints)).await?;
                }
                () = tokio::time::sleep_until(next_ping) => {
                    send(outbox, self.ping()).await?;
                    next_ping += self.ping_interval();
                }
                () = tokio::time::sleep_until(heard + limits::SILENCE) => {
                    return Err(Status::deadline_exceeded("the agent was silent for 10 s"));
                }
            }
        }
    }

    /// Waits until the node may say something more. Nothing else of it is read meanwhile.
    async fn turn(&self) {
        let take = || self.context.messages.take(self.node, Instant::now());
        let Err(mut wait) = take() else { return };
        self.context.metrics.delayed_messages.inc();
        while let Err(more) = {
            tokio::time::sleep(wait).await;
            take()
        } {
            wait = more;
        }
    }

    fn cut_off(&self, why: Option<CutOff>) -> Status {
        let node = self.node;
        Status::aborted(match why {
            Some(CutOff::Replaced(peer)) => format!(
                "node {node} connected again from {peer}; one certificate serves one agent, so give each agent its own"
            ),
            Some(CutOff::Stuck) | None => format!("the agent of node {node} does not take its commands"),
        })
    }

    fn ping_interval(&self) -> Duration {
        if self.pinged < u64::from(limits::CLOCK_BURST) {
            limits::CLOCK_BURST_INTERVAL
        } else {
            limits::CLOCK_INTERVAL
        }
    }

    fn ping(&mut self) -> v1::CoordinatorMessage {
        self.pinged += 1;
        if self.pings.len() == PINGS {
            self.pings.pop_front();
        }
        let now = self.context.clock.now();
        self.pings.push_back((self.pinged, now));
        wire::ping(self.pinged, now)
    }

    async fn take(&mut self, message: v1::AgentMessage, now: i64, outbox: &Outbox) -> Result<(), Status> {
        match message.kind {
            Some(Kind::ClockReply(reply)) => self.clock(reply, now),
            Some(Kind::Heartbeat(beat)) => {
                self.context.fleet.heartbeat(self.node, self.id, beat.resident_bytes);
                if let Some(end) = wire::certificate_end(&beat) {
                    self.peer.renewed(end);
                }
            }
            Some(Kind::CaptureStatus(status)) => self.status(status, outbox).await?,
            Some(Kind::ProbeStatus(status)) => {
                self.context.probes.heard(self.node, wire::probe_status(status, self.node))?;
            }
            Some(Kind::ProbeFound(found)) => {
                self.context.probes.heard(self.node, wire::probe_found(found, self.node))?;
            }
            Some(Kind::Topology(topology)) => {
                let encoded = prost::Message::encode_to_vec(&topology).into();
                self.context.fleet.network(self.node, self.id, encoded);
                self.context.keeper.changed(self.node);
            }
            Some(Kind::Register(_)) => {
                return Err(Status::invalid_argument("kind: `register` comes once, as the first message"));
            }
            // From a newer agent.
            None => {}
        }
        Ok(())
    }

    fn clock(&mut self, reply: v1::ClockReply, now: i64) {
        let Some(at) = self.pings.iter().position(|ping| *ping == (reply.sequence, reply.ping_unix_nanos))
        else {
            return;
        };
        self.pings.remove(at);
        let exchange = wire::exchange(reply, now, self.context.clock.error_nanos());
        self.context.fleet.measured(self.node, self.id, &exchange);
    }

    async fn status(&self, message: v1::CaptureStatus, outbox: &Outbox) -> Result<(), Status> {
        let Some((capture, status)) = wire::status(message, self.incarnation) else {
            tracing::warn!(node = self.node, "status dropped: it has a state that no agent's part can be in");
            return Ok(());
        };
        let is_final = status.state.is_final();
        let is_known = self.context.jobs.status(self.node, &capture, status).await?;
        if is_known || is_final {
            return Ok(());
        }
        send(outbox, command::forget(capture)).await
    }
}
