//! One scenario through the real programs: inject, capture, send, collect, judge.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::casting::Staging;
use super::check::{Finding, check};
use super::file::{Scenario, Segmentation, Watched};
use super::report::Report;
use super::truth::Truth;
use crate::fault::{Cast, Fault, Injected, nat, offload};
use crate::product::fleet::Fleet;
use crate::traffic;

/// Length of the window.
pub const WINDOW: &str = "4s";
/// How long datagrams are sent; with the two margins it fits the window.
pub const TRAFFIC_SECONDS: f64 = 2.6;
/// Between the start of the window and the first packet.
const LEAD: Duration = Duration::from_millis(300);
/// Between the last packet and the end of the window: nothing is in flight when it closes.
const SILENCE: Duration = Duration::from_millis(600);
/// How long a capture may take to be armed, and to complete after its window.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a run does beyond the scenario itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// SIGKILL the coordinator in the middle of the window and start it again on the same data.
    pub kill_coordinator: bool,
}

/// How a scenario ended.
#[derive(Debug)]
pub enum Outcome {
    /// The report was held against the truth.
    Judged(Box<Truth>, Finding),
    /// No report came.
    Failed(anyhow::Error),
    /// The fault could not be set up here.
    Skipped(anyhow::Error),
}

/// Runs `scenario` in the fleet's lab and puts the lab back as it was.
pub fn run(fleet: &mut Fleet<'_>, scenario: &Scenario, seed: u64, options: Options) -> Outcome {
    let staging = Staging::new(fleet.lab, scenario, seed, TRAFFIC_SECONDS);
    let injected = match inject(scenario, staging.cast) {
        Ok(injected) => injected,
        Err(error) => return Outcome::Skipped(error),
    };
    let judged = judge(fleet, scenario, &staging, &injected, options);
    match (judged, undo(scenario, staging.cast, injected)) {
        (Err(error), _) | (Ok(_), Err(error)) => Outcome::Failed(error),
        (Ok((truth, finding)), Ok(())) => Outcome::Judged(Box::new(truth), finding),
    }
}

/// Brings the lab into the scenario's state; what fails here could not be set up on this machine.
pub fn inject<'lab>(scenario: &Scenario, cast: Cast<'lab>) -> Result<Vec<Injected<'lab>>> {
    cast.lab.warm_up()?;
    segment(scenario, cast, true)?;
    scenario.faults().map(|fault| fault.inject(cast)).collect()
}

/// Takes fault and conditions away again.
pub fn undo(scenario: &Scenario, cast: Cast<'_>, injected: Vec<Injected<'_>>) -> Result<()> {
    injected.into_iter().try_for_each(Injected::undo).context("take the fault away")?;
    segment(scenario, cast, false)
}

fn segment(scenario: &Scenario, cast: Cast<'_>, active: bool) -> Result<()> {
    cast.lab.nodes.iter().try_for_each(|node| match scenario.segmentation {
        Segmentation::Offloaded => Ok(()),
        Segmentation::Software => offload::software_segmentation(&node.netns, active),
        Segmentation::Merged => offload::merging_receiver(&cast.lab.switch, node, active),
    })
}

/// Captures while the traffic runs, and holds the report against what the lab knows.
fn judge(
    fleet: &mut Fleet<'_>,
    scenario: &Scenario,
    staging: &Staging<'_>,
    injected: &[Injected<'_>],
    options: Options,
) -> Result<(Truth, Finding)> {
    let receiver = staging.cast.receiver;
    if let Some(bytes) = scenario.ring_bytes {
        fleet.restart_agent(receiver, &["--ring-bytes", &bytes.to_string()])?;
    }
    if let Fault::ControlDelayed { at, millis } = scenario.fault {
        fleet.slow_agent(staging.cast.node(at), Duration::from_millis(millis))?;
    }
    let filter = scenario.filter.map(|watched| filter(watched, staging.cast));
    let capture = start_filtered(fleet, &scenario.name, filter.as_deref())?;
    let truth = observe(fleet, &capture, scenario, staging, injected, options)?;
    let (report, text, exit_code) = report(fleet, &capture)?;
    if scenario.ring_bytes.is_some() {
        fleet.restart_agent(receiver, &[])?;
    }
    if let Fault::ControlDelayed { at, .. } = scenario.fault {
        fleet.restart_agent(staging.cast.node(at), &[])?;
    }
    let finding = Finding { report: text, ..check(&truth, &report, exit_code) };
    Ok((truth, finding))
}

/// Sends the scenario's traffic inside the window of a started capture; returns when the window is over.
pub fn observe(
    fleet: &mut Fleet<'_>,
    capture: &str,
    scenario: &Scenario,
    staging: &Staging<'_>,
    injected: &[Injected<'_>],
    options: Options,
) -> Result<Truth> {
    let (start, end) = window(fleet, capture)?;
    sleep_until(start + LEAD);
    let deadline = Instant::now() + left(end - SILENCE);
    let conversations = [&staging.faulty, &staging.clean];
    let (logs, disturbed) = thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic::run(&conversations, deadline));
        let disturbed = disturb(fleet, scenario, staging.cast, options);
        (traffic.join(), disturbed)
    });
    disturbed?;
    let logs = logs.map_err(|_| anyhow!("the traffic panicked"))??;
    if left(end).is_zero() {
        bail!("the traffic outlasted the window: this machine is too busy to judge");
    }
    sleep_until(end);
    let struck: Vec<_> = injected.iter().map(Injected::struck).collect::<Result<_>>()?;
    Truth::new(scenario, staging, &struck, &logs)
}

/// What goes wrong in the middle of the window beside the fault in the network.
fn disturb(fleet: &mut Fleet<'_>, scenario: &Scenario, cast: Cast<'_>, options: Options) -> Result<()> {
    thread::sleep(Duration::from_millis(500));
    if let Fault::AgentPaused { at, millis } = scenario.fault {
        let agent = fleet.agent_of(cast.node(at))?;
        agent.signal(Signal::SIGSTOP)?;
        thread::sleep(Duration::from_millis(millis));
        agent.signal(Signal::SIGCONT)?;
    }
    if let Fault::AgentKilled { at } = scenario.fault {
        fleet.kill_agent(cast.node(at))?;
    }
    if options.kill_coordinator {
        fleet.kill_coordinator();
        thread::sleep(Duration::from_millis(500));
        fleet.start_coordinator()?;
    }
    Ok(())
}

fn filter(watched: Watched, cast: Cast<'_>) -> String {
    let watched = match watched {
        Watched::Sender => cast.sender.plan.pod,
        Watched::Service => nat::SERVICE,
    };
    format!("host {watched} or host {}", cast.bystander.plan.pod)
}

/// Starts a capture on all nodes and returns its id.
pub fn start_capture(fleet: &Fleet<'_>, name: &str) -> Result<String> {
    start_filtered(fleet, name, None)
}

fn start_filtered(fleet: &Fleet<'_>, name: &str, filter: Option<&str>) -> Result<String> {
    let name: String = name.chars().take(40).collect();
    let mut arguments = vec!["start-capture", "--all-nodes", "--duration", WINDOW, "--name", &name];
    arguments.extend(filter.iter().flat_map(|filter| ["--filter", *filter]));
    arguments.extend(["--no-wait", "-o", "name"]);
    let printed = fleet.ctl.ok(&arguments)?;
    Ok(printed.trim().to_owned())
}

/// Waits until the window of a capture is committed.
pub fn window(fleet: &Fleet<'_>, capture: &str) -> Result<(SystemTime, SystemTime)> {
    let committed = |capture: &Value| ended(capture) || !capture["windowStart"].is_null();
    let capture = wait_for_capture(fleet, capture, "the window", committed)?;
    Ok((time(&capture, "windowStart")?, time(&capture, "windowEnd")?))
}

/// Waits until a capture has completed, then returns its report, parsed and as it came, and the exit code of
/// `ctl diff-nodes`.
pub fn report(fleet: &Fleet<'_>, capture: &str) -> Result<(Report, String, i32)> {
    let last = wait_for_capture(fleet, capture, "the capture's end", ended)?;
    if last["state"] != "COMPLETED" {
        bail!("capture {capture} ended {}: {}", last["state"], last["reason"]);
    }
    let outcome = fleet.ctl.run(&["diff-nodes", capture, "-o", "json"])?;
    let report = serde_json::from_str(&outcome.stdout).with_context(|| {
        format!("diff-nodes {capture} exited {}: {}{}", outcome.code, outcome.stderr, outcome.stdout)
    })?;
    Ok((report, outcome.stdout, outcome.code))
}

fn wait_for_capture(
    fleet: &Fleet<'_>,
    capture: &str,
    what: &str,
    reached: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let found = |reply: &Value| Some(reply["capture"].clone()).filter(|capture| reached(capture));
    fleet.ctl.wait_for(what, PATIENCE, &["show-capture", capture], found)
}

fn ended(capture: &Value) -> bool {
    ["COMPLETED", "FAILED", "CANCELLED"].iter().any(|state| capture["state"] == *state)
}

fn time(capture: &Value, field: &str) -> Result<SystemTime> {
    let text = capture[field].as_str();
    let text = text.with_context(|| format!("capture {} has no {field}: {capture}", capture["id"]))?;
    let parsed: jiff::Timestamp = text.parse().with_context(|| format!("{field} {text:?}"))?;
    Ok(parsed.into())
}

fn left(until: SystemTime) -> Duration {
    until.duration_since(SystemTime::now()).unwrap_or_default()
}

fn sleep_until(when: SystemTime) {
    thread::sleep(left(when));
}
