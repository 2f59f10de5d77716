//! The running product in the lab: bytes on the wire, memory, and what a flood makes the rings drop.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::flood;
use super::memory::{Resident, Watch};
use super::spread::Spread;
use super::table::{Row, Table};
use super::{Options, tcpdump, wire_live};
use crate::lab::Lab;
use crate::lab::node::{NIC, Node};
use crate::product::fleet::Fleet;
use crate::scenario::run::window;

/// Length of every window.
const WINDOW: &str = "4s";
/// How long a flood lasts: it fits the window with room on both sides.
pub const FLOOD: Duration = Duration::from_secs(3);
/// Between the start of the window and the flood.
const LEAD: Duration = Duration::from_millis(300);
/// How long a capture may take from its start to its report.
const PATIENCE: Duration = Duration::from_secs(90);

/// A lab, the product in it, and who sends to whom.
#[derive(Debug)]
pub struct Stage<'lab> {
    /// Coordinator, agents and `ctl`.
    pub fleet: Fleet<'lab>,
    /// Where the traffic comes from.
    pub sender: &'lab Node,
    /// Where it goes, and where drops are counted.
    pub receiver: &'lab Node,
}

/// A completed capture's counters on one node.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// Packets recorded.
    pub packets: u64,
    /// Packets that found the ring full.
    pub kernel_drops: u64,
    /// Observations that found the agent's queue full.
    pub agent_drops: u64,
}

impl Counted {
    /// Per cent of the packets that never reached the program.
    pub fn kernel_share(self) -> f64 {
        share(self.kernel_drops, self.packets)
    }

    /// Per cent of the packets that the coordinator never heard of.
    pub fn agent_share(self) -> f64 {
        share(self.agent_drops, self.packets.saturating_sub(self.agent_drops))
    }
}

/// `part` of `part` and `rest`, in per cent.
pub fn share(part: u64, rest: u64) -> f64 {
    100.0 * part as f64 / (part + rest).max(1) as f64
}

/// Builds the lab, measures in it, and takes it down.
pub fn measure(table: &mut Table, options: &Options) -> Result<()> {
    let lab = Lab::build(options.seed).context("build the lab")?;
    let fleet = Fleet::start(&lab).context("start the programs")?;
    let stage = Stage { fleet, sender: &lab.nodes[0], receiver: &lab.nodes[1] };
    idle_memory(table, &stage)?;
    wire_live::measure(table, &stage)?;
    for senders in 1..=2 {
        drops_at_one_interface(table, &stage, senders, options.rounds)?;
    }
    whole_path(table, &stage, options.rounds)
}

fn idle_memory(table: &mut Table, stage: &Stage<'_>) -> Result<()> {
    let agents = stage.fleet.agents.iter().map(|agent| Ok(mib(Resident::of(agent.id())?.own())));
    let idle = Spread::from_takes(agents.collect::<Result<_>>()?)?;
    table.add(Row::new("agent memory, idle, MiB", format!("{idle:.1}")).aim("≤ 64"));
    Ok(())
}

/// Both programs watch the same interface with a ring of the same size, one after the other.
fn drops_at_one_interface(table: &mut Table, stage: &Stage<'_>, senders: usize, rounds: usize) -> Result<()> {
    let (mut ours, mut theirs, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        let send = || flood::run(stage.sender, stage.receiver, senders, FLOOD);
        let (counted, sent) = stage.capture(&["--interfaces", NIC], send)?;
        eprintln!("  sent {sent}, Lastseen {counted:?}");
        ours.push(counted.kernel_share());
        rates.push(sent as f64 / FLOOD.as_secs_f64() / 1e3);
        let (seen, sent) = tcpdump::capture(stage, send)?;
        eprintln!("  sent {sent}, tcpdump {seen:?}");
        theirs.push(share(seen.dropped, seen.captured));
        rates.push(sent as f64 / FLOOD.as_secs_f64() / 1e3);
    }
    let (ours, theirs, rates) =
        (Spread::from_takes(ours)?, Spread::from_takes(theirs)?, Spread::from_takes(rates)?);
    let name = format!("kernel drops at {NIC}, % of packets, {senders} sender(s), {rates:.0} k packets/s");
    let beside = format!("`tcpdump -i {NIC} -w /dev/null -s 192`, the same ring: {theirs:.2}");
    table.add(Row::new(name, format!("{ours:.2}")).beside(beside));
    Ok(())
}

/// Every interface on the path, as a capture that names none takes it; memory is watched meanwhile.
fn whole_path(table: &mut Table, stage: &Stage<'_>, rounds: usize) -> Result<()> {
    let agent = stage.fleet.agent_of(stage.receiver)?.id();
    let (mut kernel, mut queue, mut rates, mut own) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut rings = 0;
    for _ in 0..rounds.max(1) {
        let watch = Watch::start(agent);
        let outcome = stage.capture(&[], || flood::run(stage.sender, stage.receiver, 1, FLOOD));
        let memory = watch.finish()?;
        let (counted, sent) = outcome?;
        eprintln!("  sent {sent}, Lastseen {counted:?}, {memory:?}");
        kernel.push(counted.kernel_share());
        queue.push(counted.agent_share());
        rates.push(sent as f64 / FLOOD.as_secs_f64() / 1e3);
        own.push(mib(memory.own()));
        rings = rings.max(memory.rings);
    }
    let (kernel, queue) = (Spread::from_takes(kernel)?, Spread::from_takes(queue)?);
    let (rates, own) = (Spread::from_takes(rates)?, Spread::from_takes(own)?);
    let name = format!("kernel drops on all interfaces of the receiver, %, 1 sender, {rates:.0} k packets/s");
    table.add(Row::new(name, format!("{kernel:.2}")));
    table.add(Row::new("the same, observations that found the agent's queue full, %", format!("{queue:.2}")));
    let beside = format!("and {:.0} MiB of rings", mib(rings));
    table.add(Row::new("agent memory under that load, MiB", format!("{own:.1}")).aim("≤ 64").beside(beside));
    Ok(())
}

impl Stage<'_> {
    /// Captures on sender and receiver while `traffic` runs; the receiver's counters once the report is there.
    pub fn capture<T>(
        &self,
        arguments: &[&str],
        traffic: impl FnOnce() -> Result<T>,
    ) -> Result<(Counted, T)> {
        let (ctl, receiver) = (&self.fleet.ctl, &self.receiver.plan.name);
        let nodes = format!("{},{receiver}", self.sender.plan.name);
        let fixed = ["start-capture", "--nodes", &nodes, "--duration", WINDOW, "--no-wait", "-o", "name"];
        let printed = ctl.ok(&[&fixed[..], arguments].concat())?;
        let id = printed.trim();
        let (start, _) = window(&self.fleet, id)?;
        thread::sleep((start + LEAD).duration_since(std::time::SystemTime::now()).unwrap_or_default());
        let outcome = traffic()?;
        let ended = |reply: &Value| {
            let state = reply["capture"]["state"].as_str()?;
            ["COMPLETED", "FAILED", "CANCELLED"].contains(&state).then(|| reply["capture"].clone())
        };
        let capture = ctl
            .wait_for("the capture's end", PATIENCE, &["show-capture", id], ended)
            .with_context(|| self.fleet.logs())?;
        if capture["state"] != "COMPLETED" {
            bail!("capture {id} ended {}: {}", capture["state"], capture["reason"]);
        }
        ctl.ok(&["delete-capture", id])?;
        Ok((counted(&capture, receiver)?, outcome))
    }
}

/// A node's counters in a capture.
fn counted(capture: &Value, node: &str) -> Result<Counted> {
    let nodes = capture["nodes"].as_array().context("a capture without nodes")?;
    let found = nodes.iter().find(|found| found["node"] == *node);
    let found = found.with_context(|| format!("capture {} does not list {node}", capture["id"]))?;
    Ok(Counted {
        packets: number(&found["packets"])?,
        kernel_drops: number(&found["kernelDrops"])?,
        agent_drops: number(&found["agentDrops"])?,
    })
}

/// A 64-bit integer of proto3 JSON: text, and absent when zero.
fn number(value: &Value) -> Result<u64> {
    match value {
        Value::Null => Ok(0),
        Value::String(text) => text.parse().with_context(|| format!("no counter: {text:?}")),
        other => other.as_u64().with_context(|| format!("no counter: {other}")),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
