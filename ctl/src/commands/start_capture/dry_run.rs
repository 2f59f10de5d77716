//! What `start-capture --dry-run` tells: what each node would capture on, or why it cannot.

use anyhow::bail;
use lastseen_proto::v1::{Capture, CaptureNode, CaptureState};

use crate::Outcome;
use crate::commands::show_capture;
use crate::exit::Exit;
use crate::follow;
use crate::output::{self, escape, names};

/// What a dry run found.
pub(super) fn plan(capture: &Capture) -> String {
    let mut facts = show_capture::job(&capture.spec.clone().unwrap_or_default());
    let nodes: Vec<&str> = capture.nodes.iter().map(|node| node.node.as_str()).collect();
    facts.push(("nodes", nodes.join(",")));
    let mut text = format!("dry run: nothing was started\n\n{}\n", output::facts(&facts));
    for node in &capture.nodes {
        for line in std::iter::once(&prospect(node)).chain(&node.coverage) {
            text += &format!("{}: {}\n", escape::line(&node.node), escape::line(line));
        }
    }
    text
}

/// What a node would do, or why it cannot.
fn prospect(node: &CaptureNode) -> String {
    match (can_capture(node), node.interfaces.len(), node.reason.as_str()) {
        (true, 1, _) => "would capture on 1 interface".to_owned(),
        (true, count, _) => format!("would capture on {count} interfaces"),
        (false, _, "") => format!("not ready, but {}", names::capture_state(node.state)),
        (false, _, reason) => reason.to_owned(),
    }
}

fn can_capture(node: &CaptureNode) -> bool {
    node.state == CaptureState::Armed as i32
}

/// Done if every node can; otherwise an error that names the first nodes and their reasons.
pub(super) fn rehearsed(capture: &Capture) -> Outcome {
    let cannot: Vec<_> = capture.nodes.iter().filter(|node| !can_capture(node)).collect();
    if cannot.is_empty() {
        return Ok(Exit::Done);
    }
    let first = cannot.iter().take(follow::NAMED);
    let reasons: Vec<_> = first.map(|node| format!("{}: {}", node.node, prospect(node))).collect();
    let (count, all) = (cannot.len(), capture.nodes.len());
    bail!("dry run: {count} of {all} nodes cannot capture: {}", escape::line(&reasons.join("; ")))
}
