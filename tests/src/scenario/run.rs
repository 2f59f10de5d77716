//! One scenario through the real programs: inject, capture, send, collect, judge.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use lastseen_correlate::Ablation;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::ablation;
use super::casting::Staging;
use super::check::check;
use super::file::{Backend, Scenario, Segmentation, Span, Watched};
use super::finding::Finding;
use super::late;
use super::packets;
use super::report::Report;
use super::sample;
use super::truth::Truth;
use crate::fault::{Cast, Fault, Injected, nat, offload};
use crate::product::fleet::Fleet;
use crate::product::skew::Skew;
use crate::traffic;
use crate::traffic::ledger::Watch;
use crate::traffic::witness::{Passed, Witness};

/// Length of the window.
pub const WINDOW: &str = "4s";
const USUAL_SECONDS: f64 = 4.0;
/// How long datagrams are sent; with the two margins it fits the window.
pub const TRAFFIC_SECONDS: f64 = 2.6;
/// How long they are in the middle of the window.
const BRIEF_SECONDS: f64 = 0.3;
/// Longer than from before the window until after it.
const LONG_SECONDS: f64 = 8.0;
/// How long before its start the window is fixed where traffic begins before it.
const AHEAD: &str = "2s";
/// How long before the window's start traffic begins that goes across its edges, and how long after its end it ends.
const BEYOND: Duration = Duration::from_millis(700);
/// Between the start of the window and the first packet.
const LEAD: Duration = Duration::from_millis(300);
/// Between the last packet and the end of the window: nothing is in flight when it closes.
const SILENCE: Duration = Duration::from_millis(600);
/// How long a capture may take to be armed, and to complete after its window, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// What a run does beyond the scenario itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// SIGKILL the coordinator in the middle of the window and start it again on the same data.
    pub kill_coordinator: bool,
    /// Ideas of the method to judge the capture without as well.
    pub without: &'static [Ablation],
}

/// What happened was not what the scenario is about, so there is nothing to hold the report against.
#[derive(Debug, thiserror::Error)]
#[error("{0}: this machine is too busy to judge")]
pub struct Unfit(String);

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

impl Outcome {
    /// It says nothing of the product and may be tried again, in another lab.
    pub fn is_unfit(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is::<Unfit>())
    }
}

/// Runs `scenario` in the fleet's lab and puts the lab back as it was.
pub fn run(fleet: &mut Fleet<'_>, scenario: &Scenario, seed: u64, options: Options) -> Outcome {
    let staging = Staging::new(fleet.lab, scenario, seed, seconds(scenario));
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

/// How long datagrams are sent.
fn seconds(scenario: &Scenario) -> f64 {
    let longer = scenario.window_seconds.map_or(0.0, |seconds| f64::from(seconds) - USUAL_SECONDS);
    match scenario.traffic.span {
        Span::Inside => TRAFFIC_SECONDS + longer,
        Span::Brief => BRIEF_SECONDS,
        Span::Across => LONG_SECONDS,
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
    // What was injected last rests on what was injected before it.
    injected.into_iter().rev().try_for_each(Injected::undo).context("take the fault away")?;
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
    restart_all(fleet, scenario, &["--backend", "pcap"])?;
    let skew = skew(fleet, scenario, staging.cast)?;
    if let Fault::AgentAbsent { at } = scenario.fault {
        fleet.stop_agent(staging.cast.node(at))?;
    }
    let capture = if let Fault::AgentLate { at } = scenario.fault {
        let start = || start_for(fleet, scenario, staging.cast);
        late::start(fleet, staging.cast.node(at), staging.cast.bystander, start)?
    } else {
        start_for(fleet, scenario, staging.cast)?
    };
    let mut truth = observe(fleet, &capture, scenario, staging, injected, options)?;
    if let Some((node, skew)) = skew {
        let (start, end) = nanos(window(fleet, &capture)?)?;
        truth.clock_ahead = Some((node, skew.at(start.midpoint(end))));
    }
    let (report, text, exit_code) = report(fleet, &capture)?;
    check_drops(scenario, staging.cast, &report)?;
    if scenario.ring_bytes.is_some() {
        fleet.restart_agent(receiver, &[])?;
    }
    if let Fault::ControlDelayed { at, .. } | Fault::ClockOff { at, .. } = scenario.fault {
        fleet.restart_agent(staging.cast.node(at), &[])?;
    }
    restart_all(fleet, scenario, &[])?;
    truth.cut(&report);
    let mut finding = Finding { report: text, ..check(&truth, &report, exit_code) };
    finding.name_packets(&truth, &packets::list(&fleet.ctl, &capture)?);
    finding.without = ablation::findings(fleet, &capture, &truth, options.without)?;
    Ok((truth, finding))
}

/// Rings drop more than was meant where the machine stands still longer than the scenario has the agent do.
fn check_drops(scenario: &Scenario, cast: Cast<'_>, report: &Report) -> Result<()> {
    let (Fault::AgentPaused { at, .. }, Some([_, most])) =
        (&scenario.fault, scenario.expect.not_observable_percent)
    else {
        return Ok(());
    };
    let name = &cast.node(*at).plan.name;
    let node = report.nodes.iter().find(|node| node.node == *name).context("the paused node")?;
    let percent = 100.0 * node.kernel_drops as f64 / (node.packets + node.kernel_drops).max(1) as f64;
    if percent > most {
        bail!(Unfit(format!("the rings dropped {percent:.1} % where {most} % at most was meant")));
    }
    Ok(())
}

/// Restarts every agent with `flags` if the scenario names how they capture.
fn restart_all(fleet: &mut Fleet<'_>, scenario: &Scenario, flags: &[&str]) -> Result<()> {
    let Some(Backend::Pcap) = scenario.backend else { return Ok(()) };
    fleet.lab.nodes.iter().try_for_each(|node| fleet.restart_agent(node, flags))
}

/// Puts the clocks of a node off, if that is the fault, and says whose and how.
fn skew(fleet: &mut Fleet<'_>, scenario: &Scenario, cast: Cast<'_>) -> Result<Option<(String, Skew)>> {
    let Fault::ClockOff { at, millis, ppm } = scenario.fault else { return Ok(None) };
    let (node, skew) = (cast.node(at), Skew::new(millis, ppm));
    fleet.skew_agent(node, skew)?;
    Ok(Some((node.plan.name.clone(), skew)))
}

/// In nanoseconds since 1970.
fn nanos((start, end): (SystemTime, SystemTime)) -> Result<(i64, i64)> {
    let nanos = |time: SystemTime| Ok::<_, anyhow::Error>(time.duration_since(UNIX_EPOCH)?.as_nanos() as i64);
    Ok((nanos(start)?, nanos(end)?))
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
    let (first, last) = match scenario.traffic.span {
        Span::Inside => (start + LEAD, end - SILENCE),
        Span::Brief => (start + (end - LEAD).duration_since(start)? / 2, end - SILENCE),
        Span::Across => (start - BEYOND, end + BEYOND),
    };
    let witnesses = watch(scenario, staging)?;
    let ledger = scenario.sample.map(|_| Watch::start(staging.cast.lab)).transpose()?;
    sleep_until(first);
    let deadline = Instant::now() + left(last);
    let conversations = staging.conversations();
    let (logs, disturbed) = thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic::run(&conversations, deadline));
        let disturbed = disturb(fleet, scenario, staging.cast, options);
        (traffic.join(), disturbed)
    });
    disturbed?;
    let logs = logs.map_err(|_| anyhow!("the traffic panicked"))??;
    if left(end).is_zero() && last < end {
        bail!(Unfit("the traffic outlasted the window".to_owned()));
    }
    sleep_until(end);
    let struck: Vec<_> = injected.iter().map(Injected::struck).collect::<Result<_>>()?;
    let mut truth = Truth::new(scenario, staging, &struck, &logs)?;
    if scenario.traffic.udp_count.is_some_and(|count| truth.faulty.sent < count) {
        bail!(Unfit(format!("only {} datagrams were sent in time", truth.faulty.sent)));
    }
    if let (Some(interval), Some(ledger)) = (scenario.sample, ledger) {
        sample::narrow(&mut truth, fleet, capture, interval, &ledger.finish()?, &logs)?;
    }
    if let Some(witnesses) = witnesses {
        let passed: Vec<Vec<Passed>> = witnesses.into_iter().map(Witness::finish).collect::<Result<_>>()?;
        truth.cross(nanos((start, end))?, staging, &logs, &passed.concat())?;
    }
    Ok(truth)
}

/// Watches what both conversations send, where it matters when.
fn watch(scenario: &Scenario, staging: &Staging<'_>) -> Result<Option<[Witness; 2]>> {
    if scenario.traffic.span != Span::Across {
        return Ok(None);
    }
    let start = |conversation: &traffic::Conversation<'_>| {
        Witness::start(staging.node_of(conversation.from.address).context("traffic from nowhere")?)
    };
    Ok(Some([start(&staging.faulty)?, start(&staging.clean)?]))
}

/// What goes wrong in the middle of the window beside the fault in the network.
fn disturb(fleet: &mut Fleet<'_>, scenario: &Scenario, cast: Cast<'_>, options: Options) -> Result<()> {
    thread::sleep(Duration::from_millis(500));
    if let Fault::AgentPaused { at, millis, times } = scenario.fault {
        let agent = fleet.agent_of(cast.node(at))?;
        for _ in 0..times {
            agent.signal(Signal::SIGSTOP)?;
            thread::sleep(Duration::from_millis(millis));
            agent.signal(Signal::SIGCONT)?;
            thread::sleep(Duration::from_millis(millis));
        }
    }
    if let Fault::AgentLate { at } = scenario.fault {
        fleet.agent_of(cast.node(at))?.signal(Signal::SIGCONT)?;
    }
    if let Fault::AgentAbsent { at } = scenario.fault {
        fleet.start_agent(cast.node(at), &[])?;
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
    start_capture_with(fleet, name, &["--duration", WINDOW])
}

/// As [`start_capture`], with what the scenario asks for.
fn start_for(fleet: &Fleet<'_>, scenario: &Scenario, cast: Cast<'_>) -> Result<String> {
    let duration = scenario.window_seconds.map_or_else(|| WINDOW.to_owned(), |seconds| format!("{seconds}s"));
    let mut more = vec!["--duration", &duration];
    if scenario.traffic.span == Span::Across {
        more.extend(["--start-in", AHEAD]);
    }
    let filter = scenario.filter.clone().or_else(|| Some(filter(scenario.filter_on?, cast)));
    more.extend(filter.iter().flat_map(|filter| ["--filter", filter]));
    let sample = scenario.sample.map(|interval| format!("1/{interval}"));
    more.extend(sample.iter().flat_map(|sample| ["--sample", sample]));
    start_capture_with(fleet, &scenario.name, &more)
}

fn start_capture_with(fleet: &Fleet<'_>, name: &str, more: &[&str]) -> Result<String> {
    let name: String = name.chars().take(40).collect();
    let arguments = ["start-capture", "--all-nodes", "--name", &name, "--no-wait", "-o", "name"];
    let printed = fleet.ctl.ok(&[&arguments[..], more].concat())?;
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
