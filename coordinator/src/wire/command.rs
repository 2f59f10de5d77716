//! What an agent is told.

use lastseen_proto::v1;

use super::{capture, probe};
use crate::fleet::{Command, Order};

/// What the agent of `node` is told. `fabric_endpoints` are addresses that no agent may capture.
pub fn order(order: Order, node: &str, fabric_endpoints: &[String]) -> v1::CoordinatorMessage {
    match order {
        Order::Capture(told) => command(told, fabric_endpoints),
        Order::Probe(told) => message(probe::command(told, node)),
    }
}

/// A command as the agent hears it. `fabric_endpoints` are addresses that no agent may capture.
fn command(command: Command, fabric_endpoints: &[String]) -> v1::CoordinatorMessage {
    use v1::coordinator_message::Kind;
    message(match command {
        Command::Arm(job) => Kind::ArmCapture(v1::ArmCapture {
            capture_id: job.id.clone(),
            spec: Some(capture::spec_message(&job.spec)),
            identity_key: job.identity_key.0.to_vec().into(),
            fabric_endpoints: fabric_endpoints.to_vec(),
            traceparent: job.spec.traceparent.clone().unwrap_or_default(),
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
