//! The control stream of an agent.

use std::collections::BTreeSet;

use bytes::Bytes;
use lastseen_proto::{PROTOCOL_VERSION, v1};
use prost::Message;

use super::{batch, bounded, capture};
use crate::clock::Exchange;
use crate::error::Error;
use crate::fleet::Command;
use crate::ingest::check_point;
use crate::jobs::Status;
use crate::limits;
use crate::model::{Capability, NodeRecord, State};

/// An agent's introduction, and the captures it still works on. `node` is the name in its certificate.
pub fn register(
    message: v1::Register,
    node: &str,
    now_nanos: i64,
) -> Result<(NodeRecord, BTreeSet<String>), Error> {
    if message.node_name != node {
        let shown = bounded(message.node_name);
        return Err(Error::Denied(format!(
            "node_name: {shown:?} is not the node of the certificate, {node:?}; start the agent with --node-name {node}"
        )));
    }
    check_version(&message)?;
    let works_on = message.capture_ids.into_iter().take(2 * limits::CAPTURES_PER_FABRIC).collect();
    let record = NodeRecord {
        name: message.node_name,
        agent_version: bounded(message.agent_version),
        kernel: bounded(message.kernel),
        incarnation: message.incarnation,
        last_seen_nanos: now_nanos,
        capabilities: message.capabilities.into_iter().take(limits::CAPABILITIES).map(capability).collect(),
        topology: message.topology.unwrap_or_default().encode_to_vec().into(),
    };
    Ok((record, works_on))
}

fn check_version(message: &v1::Register) -> Result<(), Error> {
    let (theirs, ours) = (message.protocol_version, PROTOCOL_VERSION);
    if theirs / 1000 == ours / 1000 {
        return Ok(());
    }
    let show = |version: u32| format!("{}.{}", version / 1000, version % 1000);
    Err(Error::Incompatible(format!(
        "protocol_version: the agent ({}) speaks {}, the coordinator ({}) {}; upgrade the older of the two",
        bounded(message.agent_version.clone()),
        show(theirs),
        env!("CARGO_PKG_VERSION"),
        show(ours)
    )))
}

fn capability(message: v1::Capability) -> Capability {
    Capability { name: bounded(message.name), available: message.available, reason: bounded(message.reason) }
}

/// The answer to an introduction.
pub fn registered() -> v1::CoordinatorMessage {
    message(v1::coordinator_message::Kind::Registered(v1::Registered {
        coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
        heartbeat_interval_millis: limits::HEARTBEAT.as_millis() as u32,
        max_batch_bytes: limits::BATCH_BYTES as u32,
    }))
}

/// A clock ping.
pub fn ping(sequence: u64, sent_unix_nanos: i64) -> v1::CoordinatorMessage {
    message(v1::coordinator_message::Kind::ClockPing(v1::ClockPing { sequence, sent_unix_nanos }))
}

/// A finished clock exchange.
pub fn exchange(reply: v1::ClockReply, received_nanos: i64) -> Exchange {
    Exchange {
        sent_nanos: reply.ping_unix_nanos,
        node_received_nanos: reply.received_monotonic_nanos,
        node_sent_nanos: reply.sent_monotonic_nanos,
        received_nanos,
        realtime_minus_monotonic_nanos: reply.realtime_minus_monotonic_nanos,
    }
}

/// What an agent says about its part of a capture. Absent when its state is none that an agent may have.
pub fn status(message: v1::CaptureStatus, incarnation: u64) -> Option<(String, Status)> {
    let state = State::from_number(message.state)?;
    if matches!(state, State::Pending | State::Arming | State::Correlating) {
        return None;
    }
    let points = message.points.into_iter().take(limits::POINTS_PER_NODE).filter_map(batch::point_status);
    let status = Status {
        incarnation,
        state,
        reason: bounded(message.reason),
        points: points.filter(|status| check_point(&status.point).is_ok()).collect(),
        coverage: message.coverage.into_iter().take(limits::COVERAGE_NOTES).map(bounded).collect(),
        translations: message.translations.filter(|_| state == State::Completed).map(translations),
    };
    Some((message.capture_id, status))
}

/// What is stored of the connections that a node translated: no more than a node may tell.
fn translations(mut told: v1::NodeTranslations) -> Bytes {
    let excess = told.connections.len().saturating_sub(limits::TRANSLATIONS);
    told.connections.truncate(limits::TRANSLATIONS);
    told.omitted = told.omitted.saturating_add(excess as u64);
    told.encode_to_vec().into()
}

/// A command as the agent hears it. `fabric_endpoints` are addresses that no agent may capture.
pub fn command(command: Command, fabric_endpoints: &[String]) -> v1::CoordinatorMessage {
    use v1::coordinator_message::Kind;
    message(match command {
        Command::Arm(job) => Kind::ArmCapture(v1::ArmCapture {
            capture_id: job.id.clone(),
            spec: Some(capture::spec_message(&job.spec)),
            identity_key: job.identity_key.0.to_vec().into(),
            fabric_endpoints: fabric_endpoints.to_vec(),
        }),
        Command::Commit { capture, start_monotonic_nanos, end_monotonic_nanos, start_nanos } => {
            Kind::CommitWindow(v1::CommitWindow {
                capture_id: capture,
                start_monotonic_nanos,
                end_monotonic_nanos,
                start_unix_nanos: start_nanos,
            })
        }
        Command::End { capture, end_monotonic_nanos } => {
            Kind::EndCapture(v1::EndCapture { capture_id: capture, end_monotonic_nanos })
        }
    })
}

/// Forget a capture.
pub fn forget(capture: String) -> v1::CoordinatorMessage {
    command(Command::End { capture, end_monotonic_nanos: None }, &[])
}

fn message(kind: v1::coordinator_message::Kind) -> v1::CoordinatorMessage {
    v1::CoordinatorMessage { kind: Some(kind) }
}
