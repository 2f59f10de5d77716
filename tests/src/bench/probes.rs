//! Probes and traced paths in the lab, beside the programs that people use for the same.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Options;
use super::cpu;
use super::spread::Spread;
use super::table::{Row, Table};
use crate::fault::{Cast, Fault};
use crate::lab::Lab;
use crate::lab::node::{Node, OVERLAY};
use crate::lab::plan::Family;
use crate::product::fleet::Fleet;

/// Echoes of one take.
const ECHOES: &str = "100";
/// Probes of one agent at the same time: as many as a node takes, but for a few that others make.
const PROBES: usize = 28;
/// Attempts of each in a run: ten targets a hundred times, ten milliseconds apart.
const TARGETS: u64 = 10;
const COUNT: u64 = 100;
/// A run of a second, and what it takes to end.
const EVERY: &str = "1500ms";
/// How long they run.
const RUNNING: Duration = Duration::from_secs(9);

/// Builds the lab, measures in it, and takes it down.
pub fn measure(table: &mut Table, options: &Options) -> Result<()> {
    let lab = Lab::build(options.seed).context("build the lab")?;
    let fleet = Fleet::start(&lab).context("start the programs")?;
    delay(table, &lab, &fleet, options.rounds)?;
    path_mtu(table, &lab, &fleet)?;
    trace_path(table, &lab, &fleet, options.rounds)?;
    rate(table, &lab, &fleet)
}

/// To a pod on another node, in turns with ping, as many echoes at the same pace.
fn delay(table: &mut Table, lab: &Lab, fleet: &Fleet<'_>, rounds: usize) -> Result<()> {
    let (from, to) = (&lab.nodes[0], lab.nodes[1].plan.pod.to_string());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        let arguments = ["run-probe", "icmp", &to, "--from", &from.pod_source(), "--count", ECHOES];
        let probe = fleet.ctl.json(&[&arguments[..], &["--interval", "10ms"]].concat())?;
        let delays = attempts(&probe)?.iter().map(|attempt| nanos(&attempt["delayNanos"]) / 1e6).collect();
        ours.push(Spread::from_takes(delays)?.median);
        let said = from.pod.run("ping", &["-c", ECHOES, "-i", "0.01", &to])?;
        let delays =
            said.lines().filter_map(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok());
        theirs.push(Spread::from_takes(delays.collect())?.median);
    }
    let (ours, theirs) = (Spread::from_takes(ours)?, Spread::from_takes(theirs)?);
    let name = format!("delay to a pod on another node, ms, medians of {ECHOES} echoes");
    let row = Row::new(name, format!("{ours:.3}")).beside(format!("`ping -i 0.01`: {theirs:.3}"));
    table.add(row.ratio(ours.median / theirs.median));
    Ok(())
}

/// A path whose MTU is known.
struct Known {
    what: &'static str,
    mtu: u64,
    ours: Option<u64>,
    theirs: Option<u64>,
}

/// What one of the two found.
type Mtu = fn(&Known) -> Option<u64>;

/// Paths of known MTU: the interface's, ones that a router tells, and one that nobody tells.
fn path_mtu(table: &mut Table, lab: &Lab, fleet: &Fleet<'_>) -> Result<()> {
    let (from, to) = (&lab.nodes[0], &lab.nodes[1]);
    let mut known = vec![found("interface", 1_450, from, to, fleet)?];
    let set = |node: &Node, device: &str, mtu: u64| node.netns.ip(&format!("link set {device} mtu {mtu}\n"));
    for (what, node, device, mtu) in [
        ("told by the source's node", from, OVERLAY, 1_350),
        ("told by the target's node", to, "cni0", 1_280),
    ] {
        let before = 1_450;
        set(node, device, mtu)?;
        let one = found(what, mtu, from, to, fleet);
        set(node, device, before)?;
        forget(from)?;
        known.push(one?);
    }
    let hole = Fault::MtuBlackHole.inject(Cast::first(lab))?;
    // 1,400 bytes of the underlay carry 1,350 of IP; its port lets an Ethernet header's four more through.
    let one = found("black hole", 1_354, from, to, fleet);
    hole.undo()?;
    known.push(one?);
    let right = |of: Mtu| known.iter().filter(|one| of(one) == Some(one.mtu)).count();
    let shown = |of: Mtu| -> String {
        let each = known.iter().map(|one| {
            let mtu = of(one).map_or_else(|| "nothing".to_owned(), |mtu| mtu.to_string());
            format!("{} {mtu}", one.what)
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let ours: Mtu = |one| one.ours;
    let theirs: Mtu = |one| one.theirs;
    let name = format!("path MTU right, of {} paths", known.len());
    let row = Row::new(name, format!("{}: {}", right(ours), shown(ours)));
    table.add(row.beside(format!("`tracepath -n`: {}: {}", right(theirs), shown(theirs))));
    Ok(())
}

/// What both find.
fn found(what: &'static str, mtu: u64, from: &Node, to: &Node, fleet: &Fleet<'_>) -> Result<Known> {
    let target = to.plan.pod_in(Family::V4).to_string();
    forget(from)?;
    let said = from.pod.run("tracepath", &["-n", "-m", "6", &target])?;
    let last = said
        .lines()
        .rev()
        .find_map(|line| line.split_once("pmtu ")?.1.split_whitespace().next()?.parse().ok());
    let reached = said.contains("reached");
    forget(from)?;
    let answer = fleet.ctl.json(&["run-probe", "mtu", &target, "--from", &from.pod_source()])?;
    let ours = &answer["probe"]["reports"][0]["results"][0]["pathMtu"]["mtu"];
    forget(from)?;
    Ok(Known { what, mtu, ours: ours.as_u64(), theirs: last.filter(|_| reached) })
}

/// What the pod and its node believe of path MTUs (ip-route(8), `cache`).
fn forget(node: &Node) -> Result<()> {
    node.pod.ip("route flush cache\n")?;
    node.netns.ip("route flush cache\n")
}

/// From the command to the verdict, of a path that is well and of a black hole.
fn trace_path(table: &mut Table, lab: &Lab, fleet: &Fleet<'_>, rounds: usize) -> Result<()> {
    let (from, to) = (lab.nodes[0].pod_source(), lab.nodes[1].plan.pod.to_string());
    let take = |code: i32| {
        let began = Instant::now();
        let outcome = fleet.ctl.run(&["trace-path", &from, &to])?;
        ensure!(outcome.code == code, "trace-path: {outcome:?}");
        Ok(began.elapsed().as_secs_f64())
    };
    let well = Spread::of(rounds, || take(0))?;
    let hole = Fault::SwitchLoss { percent: 100 }.inject(Cast::first(lab))?;
    let broken = Spread::of(rounds, || take(1));
    hole.undo()?;
    let name = "trace-path of 50 packets a pod to a pod, from the command to the verdict, s";
    let row = Row::new(name, well).aim("≤ 3 and the guard");
    table.add(row.beside(format!("through a black hole {}", broken?)));
    Ok(())
}

/// As many probes as a node takes, each at the highest rate there is.
fn rate(table: &mut Table, lab: &Lab, fleet: &Fleet<'_>) -> Result<()> {
    let node = &lab.nodes[0];
    // Each address of the loopback network answers.
    let targets: Vec<String> =
        (1..=TARGETS).map(|last| IpAddr::from([127, 0, 0, last as u8]).to_string()).collect();
    let count = COUNT.to_string();
    let name = node.plan.name.as_str();
    let mut ids = Vec::new();
    for _ in 0..PROBES {
        let common = ["--nodes", name, "--count", &count, "--interval", "10ms", "--timeout", "200ms"];
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        let arguments =
            [&["run-probe", "icmp"], &targets[..], &common, &["--every", EVERY, "--no-wait"]].concat();
        ids.push(fleet.ctl.ok(&arguments)?.trim().to_owned());
    }
    let agent = fleet.agent_of(node)?.id();
    let (began, before) = (Instant::now(), cpu::seconds(agent)?);
    thread::sleep(RUNNING);
    let busy = (cpu::seconds(agent)? - before) / began.elapsed().as_secs_f64();
    let (mut sent, mut answered, mut seconds) = (0_u64, 0_u64, 0_f64);
    for id in &ids {
        fleet.ctl.ok(&["stop-probe", id])?;
        let shown = fleet.ctl.json(&["show-probe", id, "--runs", "4"])?;
        let attempts = attempts(&shown)?;
        let out = |attempt: &&Value| attempt["outcome"] != "PROBE_NOT_SENT";
        sent += attempts.iter().filter(out).count() as u64;
        answered += attempts.iter().filter(|attempt| attempt["outcome"] == "PROBE_ANSWERED").count() as u64;
        let runs = shown["probe"]["reports"].as_array().map_or(0, Vec::len);
        seconds += runs as f64 * 1.5;
    }
    if sent == 0 {
        bail!("no probe was sent");
    }
    // Probes run at the same time: their seconds are one another's.
    let per_second = sent as f64 / (seconds / PROBES as f64);
    let name = format!("probes a second of one agent: {PROBES} of 1,000 a second, two thirds of the time");
    let row =
        Row::new(name, format!("{per_second:.0}, {:.2} % answered", 100.0 * answered as f64 / sent as f64));
    table.add(row.beside(format!("asked for {:.0}; {busy:.2} of a core", PROBES as f64 * 1_000.0 / 1.5)));
    Ok(())
}

fn attempts(answer: &Value) -> Result<Vec<Value>> {
    let reports = answer["probe"]["reports"].as_array().context("no reports")?;
    let results = reports.iter().filter_map(|report| report["results"].as_array()).flatten();
    Ok(results.filter_map(|result| result["attempts"].as_array()).flatten().cloned().collect())
}

fn nanos(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}
