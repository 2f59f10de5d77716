//! Captures that one agent joins late.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::node::Node;
use crate::product::fleet::Fleet;

/// How long the agent may take to get ready.
const PATIENCE: Duration = Duration::from_secs(4);

/// Runs `start`, which starts a capture and returns its id once every node is armed, such that the agent of `late` is
/// armed, stands still, and has yet to hear when the window is. Until then the agent of `holding` keeps the window from
/// being fixed.
pub(super) fn start(
    fleet: &Fleet<'_>,
    late: &Node,
    holding: &Node,
    start: impl FnOnce() -> Result<String> + Send,
) -> Result<String> {
    let known = newest(&fleet.ctl.json(&["list-captures", "--limit", "1"])?);
    fleet.agent_of(holding)?.signal(Signal::SIGSTOP)?;
    thread::scope(|scope| {
        let starting = scope.spawn(start);
        let armed = fleet.ctl.wait_for(
            "the late agent armed",
            PATIENCE,
            &["list-captures", "--limit", "1"],
            |reply| {
                let is_new = newest(reply) != known;
                (is_new && state(reply, late)? == "ARMED").then_some(())
            },
        );
        let stopped = armed.and_then(|()| fleet.agent_of(late)?.signal(Signal::SIGSTOP));
        fleet.agent_of(holding)?.signal(Signal::SIGCONT)?;
        stopped?;
        starting.join().map_err(|_| anyhow!("starting a capture panicked"))?
    })
}

fn newest(reply: &Value) -> Value {
    reply["captures"][0]["id"].clone()
}

fn state<'reply>(reply: &'reply Value, node: &Node) -> Option<&'reply str> {
    let nodes = reply["captures"][0]["nodes"].as_array()?;
    nodes.iter().find(|part| part["node"] == *node.plan.name)?["state"].as_str()
}
