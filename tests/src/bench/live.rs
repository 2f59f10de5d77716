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
use crate::fault::offload;
use crate::lab::Lab;
use crate::lab::node::{NIC, Node, OVERLAY};
use crate::product::fleet::Fleet;
use crate::scenario::run::window;

/// Length of every window.
const WINDOW: &str = "4s";
/// How long traffic lasts: it fits the window with room on both sides.
pub const FLOOD: Duration = Duration::from_secs(3);
/// Threads of the heaviest flood.
const SENDERS: usize = 2;
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
    /// Per cent of the packets that the coordinator never heard of.
    pub fn agent_share(self) -> f64 {
        share(self.agent_drops, self.packets.saturating_sub(self.agent_drops))
    }
}

/// `part` of `part` and `rest`, in per cent.
fn share(part: u64, rest: u64) -> f64 {
    100.0 * part as f64 / (part + rest).max(1) as f64
}

/// Builds the lab, measures in it, and takes it down.
pub fn measure(table: &mut Table, options: &Options) -> Result<()> {
    let lab = Lab::build(options.seed).context("build the lab")?;
    let fleet = Fleet::start(&lab).context("start the programs")?;
    let stage = Stage { fleet, sender: &lab.nodes[0], receiver: &lab.nodes[1] };
    idle_memory(table, &stage)?;
    wire_live::measure(table, &stage)?;
    spare_the_generator(&stage)?;
    for senders in 1..=SENDERS {
        drops_at_one_interface(table, &stage, senders, options.rounds)?;
    }
    whole_path(table, &stage, options.rounds)
}

/// Between the two underlay interfaces packets are small and many; before and behind they travel as super-packets, so
/// that most of the processor's time goes into packets that the captures see.
fn spare_the_generator(stage: &Stage<'_>) -> Result<()> {
    offload::software_segmentation(&stage.sender.netns, true)?;
    let merge = ["-K", OVERLAY, "gro", "on", "rx-udp-gro-forwarding", "on"];
    stage.receiver.netns.run("ethtool", &merge).map(drop)
}

fn idle_memory(table: &mut Table, stage: &Stage<'_>) -> Result<()> {
    let agents = stage.fleet.agents.iter().map(|agent| Ok(mib(Resident::of(agent.id())?.own)));
    let idle = Spread::from_takes(agents.collect::<Result<_>>()?)?;
    table.add(Row::new("agent memory, idle, MiB", format!("{idle:.1}")).aim("≤ 64"));
    Ok(())
}

/// Both programs watch the same interface with a ring of the same size, one after the other.
fn drops_at_one_interface(table: &mut Table, stage: &Stage<'_>, senders: usize, rounds: usize) -> Result<()> {
    let (mut ours, mut theirs) = (Flooded::default(), Flooded::default());
    let receiver = ["--nodes", &stage.receiver.plan.name, "--interfaces", NIC];
    for _ in 0..rounds.max(1) {
        let send = || flood::run(stage.sender, stage.receiver, senders, FLOOD);
        let (counted, sent) = stage.capture(&receiver, send)?;
        ours.add(sent, counted.packets, counted.kernel_drops);
        let (seen, sent) = tcpdump::capture(stage, send)?;
        theirs.add(sent, seen.captured, seen.dropped);
    }
    let name = format!("live capture at {NIC}, {senders} sending thread(s): kernel drops, rate reached");
    let beside = format!(
        "`tcpdump -i {NIC} -w /dev/null -s 192`, ring of the same size: {}",
        theirs.drops_and_records()?
    );
    table.add(Row::new(name, ours.drops_and_records()?).beside(beside));
    Ok(())
}

/// Every interface on the path, as a capture that names none takes it; memory is watched meanwhile.
fn whole_path(table: &mut Table, stage: &Stage<'_>, rounds: usize) -> Result<()> {
    let agent = stage.fleet.agent_of(stage.receiver)?.id();
    let nodes = [&*stage.sender.plan.name, &*stage.receiver.plan.name].join(",");
    let (mut flooded, mut queue, mut own, mut rings) = (Flooded::default(), Vec::new(), Vec::new(), 0);
    for _ in 0..rounds.max(1) {
        let watch = Watch::start(agent);
        let send = || flood::run(stage.sender, stage.receiver, SENDERS, FLOOD);
        let outcome = stage.capture(&["--nodes", &nodes], send);
        let memory = watch.finish()?;
        let (counted, sent) = outcome?;
        flooded.add(sent, counted.packets, counted.kernel_drops);
        queue.push(counted.agent_share());
        own.push(mib(memory.own));
        rings = rings.max(memory.rings);
    }
    let name = format!(
        "live capture on every interface of both nodes, {SENDERS} sending threads: kernel drops, rate"
    );
    let beside =
        format!("observations that found the agent's queue full: {:.2} %", Spread::from_takes(queue)?);
    table.add(Row::new(name, flooded.drops()?).beside(beside));
    let beside = format!("and {:.0} MiB of rings", mib(rings));
    let own = format!("{:.1}", Spread::from_takes(own)?);
    table.add(Row::new("agent memory under that load, MiB", own).aim("≤ 64").beside(beside));
    Ok(())
}

/// Several floods under one capturing program.
#[derive(Debug, Default)]
struct Flooded {
    rates: Vec<f64>,
    dropped: Vec<f64>,
    recorded: Vec<f64>,
}

impl Flooded {
    fn add(&mut self, sent: u64, recorded: u64, dropped: u64) {
        self.rates.push(sent as f64 / FLOOD.as_secs_f64() / 1e3);
        self.dropped.push(share(dropped, recorded));
        self.recorded.push(100.0 * recorded as f64 / sent.max(1) as f64);
    }

    /// Drops in per cent of what reached the ring, and the rate that the generator reached.
    fn drops(&self) -> Result<String> {
        let dropped = Spread::from_takes(self.dropped.clone())?;
        let rates = Spread::from_takes(self.rates.clone())?;
        Ok(format!("{dropped:.2} % at {rates:.0} k packets/s"))
    }

    /// The same, and how much of what was sent was recorded: the drop counter alone might not know.
    fn drops_and_records(&self) -> Result<String> {
        let recorded = Spread::from_takes(self.recorded.clone())?;
        Ok(format!("{}; recorded {recorded:.2} % of those sent", self.drops()?))
    }
}

impl Stage<'_> {
    /// Captures while `traffic` runs; the receiver's counters once the report is there.
    pub fn capture<T>(
        &self,
        arguments: &[&str],
        traffic: impl FnOnce() -> Result<T>,
    ) -> Result<(Counted, T)> {
        let (ctl, receiver) = (&self.fleet.ctl, &self.receiver.plan.name);
        let fixed = ["start-capture", "--duration", WINDOW, "--no-wait", "-o", "name"];
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
