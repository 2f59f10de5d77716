//! Following a capture to its end, through restarts of the coordinator.

mod changes;
mod display;
mod moving;

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use lastseen_proto::v1::{Capture, CaptureNode, CaptureState, WatchCaptureRequest, WatchCaptureResponse};
use lastseen_runtime::backoff::Backoff;
use lastseen_runtime::telemetry;
use tonic::{Code, Request, Status};

pub use display::Display;

use crate::Outcome;
use crate::exit::Exit;
use crate::output::{escape, names};
use crate::rpc::Fabric;

/// How long nothing may be heard of a capture before following is given up. The capture itself does not depend on it.
const PATIENCE: Duration = Duration::from_mins(2);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const SLOWEST_RETRY: Duration = Duration::from_secs(5);
/// Nodes that an error names: more would hide what they have in common.
pub(crate) const NAMED: usize = 3;

/// Follows the capture `id` to its end and hands each answer to `observe`. Ends early, with an error that says what
/// becomes of the capture, at an interrupt.
pub async fn to_end(
    fabric: &Fabric,
    id: &str,
    observe: &mut dyn FnMut(&WatchCaptureResponse) -> anyhow::Result<()>,
) -> anyhow::Result<Capture> {
    tokio::select! {
        ended = watch(fabric, id, observe) => ended,
        _ = tokio::signal::ctrl_c() => bail!(
            "interrupted; capture {id} goes on: stop it with `ctl stop-capture {id}`, follow it with `ctl follow-capture {id}`"
        ),
    }
}

async fn watch(
    fabric: &Fabric,
    id: &str,
    observe: &mut dyn FnMut(&WatchCaptureResponse) -> anyhow::Result<()>,
) -> anyhow::Result<Capture> {
    let mut backoff = Backoff::new(FIRST_RETRY, SLOWEST_RETRY);
    let mut last_heard = Instant::now();
    loop {
        let mut heard = |answer: &WatchCaptureResponse| {
            last_heard = Instant::now();
            backoff.reset();
            observe(answer)
        };
        match watch_once(fabric, id, &mut heard).await {
            Ok(Some(capture)) => return Ok(capture),
            Ok(None) => tracing::debug!(id, "the coordinator ended the stream"),
            Err(Broken::Observer(error)) => return Err(error),
            Err(Broken::Call(status)) if !is_transient(&status) => return Err(fabric.failed(&status)),
            Err(Broken::Call(status)) if last_heard.elapsed() > PATIENCE => {
                return Err(gave_up(fabric, id, &status));
            }
            Err(Broken::Call(status)) => tracing::debug!(id, %status, "following again"),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

enum Broken {
    Call(Status),
    Observer(anyhow::Error),
}

/// Until the capture has ended (the capture), or the stream has without it (none).
async fn watch_once(
    fabric: &Fabric,
    id: &str,
    observe: &mut dyn FnMut(&WatchCaptureResponse) -> anyhow::Result<()>,
) -> Result<Option<Capture>, Broken> {
    let mut request = Request::new(WatchCaptureRequest { capture_id: id.to_owned() });
    telemetry::inject(request.metadata_mut());
    let mut answers = fabric.captures().watch_capture(request).await.map_err(Broken::Call)?.into_inner();
    while let Some(answer) = answers.message().await.map_err(Broken::Call)? {
        observe(&answer).map_err(Broken::Observer)?;
        if let Some(capture) = answer.capture.filter(|capture| is_ended(capture.state)) {
            return Ok(Some(capture));
        }
    }
    Ok(None)
}

/// Codes of a connection that broke or a coordinator that restarts.
fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted
    )
}

fn gave_up(fabric: &Fabric, id: &str, status: &Status) -> anyhow::Error {
    let why = fabric.failed(status);
    anyhow!(
        "{why}; gave up following after 2 minutes, capture {id} goes on by itself: `ctl follow-capture {id}`"
    )
}

/// Whether a capture, or a node's part, will not change any more.
pub fn is_ended(state: i32) -> bool {
    use CaptureState::{Cancelled, Completed, Failed};
    matches!(CaptureState::try_from(state), Ok(Completed | Failed | Cancelled))
}

/// Done if the capture completed on every node; otherwise an error that names the first nodes and their reasons.
pub fn outcome(capture: &Capture) -> Outcome {
    let completed = |state: i32| state == CaptureState::Completed as i32;
    let id = escape::line(&capture.id);
    let mut parts = Vec::new();
    let troubled: Vec<&CaptureNode> = capture.nodes.iter().filter(|node| !completed(node.state)).collect();
    if !completed(capture.state) {
        parts.push(with_reason(names::capture_state(capture.state), &capture.reason));
    } else if !troubled.is_empty() {
        let all = capture.nodes.len();
        parts.push(format!("completed on {} of {all} nodes", all - troubled.len()));
    }
    for node in troubled.iter().take(NAMED) {
        parts.push(format!("{} {}", node.node, with_reason(names::capture_state(node.state), &node.reason)));
    }
    if let Some(more @ 1..) = troubled.len().checked_sub(NAMED) {
        parts.push(format!("and {more} more; see `ctl show-capture {id}`"));
    }
    if parts.is_empty() {
        return Ok(Exit::Done);
    }
    Err(anyhow!("capture {id}: {}", parts.join("; ")))
}

fn with_reason(state: String, reason: &str) -> String {
    if reason.is_empty() { state } else { format!("{state}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(state: CaptureState, nodes: &[(&str, CaptureState, &str)]) -> Capture {
        let node = |(node, state, reason): &(&str, CaptureState, &str)| CaptureNode {
            node: (*node).to_owned(),
            state: *state as i32,
            reason: (*reason).to_owned(),
            ..Default::default()
        };
        let nodes = nodes.iter().map(node).collect();
        Capture { id: "c-1".into(), state: state as i32, nodes, ..Default::default() }
    }

    #[test]
    fn completed_everywhere_is_success() {
        let capture = capture(CaptureState::Completed, &[("a", CaptureState::Completed, "")]);
        assert_eq!(outcome(&capture).unwrap(), Exit::Done);
    }

    #[test]
    fn a_node_that_failed_is_named_with_its_reason() {
        let nodes =
            [("a", CaptureState::Completed, ""), ("b", CaptureState::Failed, "eth9: no such interface")];
        let error = outcome(&capture(CaptureState::Completed, &nodes)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "capture c-1: completed on 1 of 2 nodes; b failed: eth9: no such interface"
        );
    }

    #[test]
    fn of_many_nodes_the_first_are_named_and_the_others_counted() {
        let names: Vec<String> = (1..=40).map(|i| format!("n{i}")).collect();
        let nodes: Vec<_> =
            names.iter().map(|name| (name.as_str(), CaptureState::Failed, "offline")).collect();
        let told = |nodes: &[_]| outcome(&capture(CaptureState::Completed, nodes)).unwrap_err().to_string();
        assert_eq!(
            told(&nodes),
            "capture c-1: completed on 0 of 40 nodes; n1 failed: offline; n2 failed: offline; n3 failed: offline; and 37 more; see `ctl \
             show-capture c-1`"
        );
        assert!(told(&nodes[..3]).ends_with("n3 failed: offline"));
    }

    #[test]
    fn only_final_states_end() {
        assert!(is_ended(CaptureState::Cancelled as i32) && !is_ended(CaptureState::Correlating as i32));
        assert!(!is_ended(0) && !is_ended(77));
    }
}
