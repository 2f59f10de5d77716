//! Bytes per observation of a real capture of mixed traffic, stored and on the wire.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::live::{FLOOD, Stage};
use super::program::line_after;
use super::table::{Row, Table};
use crate::lab::netns::Netns;
use crate::lab::node::{MANAGEMENT, Node};
use crate::product::admin;
use crate::traffic::sink::Reader;
use crate::traffic::tcp::TcpPlan;
use crate::traffic::udp::UdpPlan;
use crate::traffic::{self, Conversation, End};

/// Port of the receiving pod.
const PORT: u16 = 8080;

/// What the coordinator has committed, and what the agents' management interfaces have sent.
#[derive(Debug, Clone, Copy)]
struct Totals {
    observations: f64,
    stored: f64,
    sent: f64,
}

/// Adds the bytes per observation of one capture.
pub fn measure(table: &mut Table, stage: &Stage<'_>) -> Result<()> {
    let before = totals(stage)?;
    stage.capture(&["--all-nodes"], || talk(stage))?;
    let after = totals(stage)?;
    let observations = after.observations - before.observations;
    let (stored, sent) = (after.stored - before.stored, after.sent - before.sent);
    let name = format!("bytes per observation, live TCP and UDP, {:.0} k observations", observations / 1e3);
    let beside = format!("{:.1} as sent: gRPC, TLS, TCP, control stream", sent / observations.max(1.0));
    let figure = format!("{:.1}", stored / observations.max(1.0));
    table.add(Row::new(name, figure).aim("≤ 16").beside(beside));
    Ok(())
}

/// Large messages, small ones, and datagrams of several sizes.
fn talk<'lab>(stage: &Stage<'lab>) -> Result<()> {
    let end = |node: &'lab Node| End { netns: &node.pod, address: node.plan.pod.into() };
    let (from, to) = (end(stage.sender), end(stage.receiver));
    let mut tcp = vec![TcpPlan { messages: 60, request: 1 << 20, answer: 100 }];
    tcp.extend(vec![TcpPlan { messages: 20, request: 300, answer: 4_000 }; 200]);
    let count = 10_000 * FLOOD.as_secs();
    let udp = UdpPlan {
        source_port: 0,
        sizes: vec![64, 200, 512, 1_200],
        per_second: 10_000,
        count,
        ..UdpPlan::default()
    };
    let conversation =
        Conversation { from, to, dialled: None, port: PORT, udp: Some(udp), tcp, reader: Reader::Attentive };
    traffic::run(&[&conversation], Instant::now() + FLOOD).map(drop)
}

fn totals(stage: &Stage<'_>) -> Result<Totals> {
    let metrics = admin::get(&stage.fleet.lab.management, admin::COORDINATOR, "/metrics")?;
    let metric = |name: &str| -> Result<f64> {
        line_after(&metrics, &format!("lastseen_coordinator_{name} "))?.trim().parse().context("a metric")
    };
    let mut sent = 0;
    for node in &stage.fleet.lab.nodes {
        sent += sent_bytes(&node.netns)?;
    }
    Ok(Totals {
        observations: metric("committed_observations_total")?,
        stored: metric("committed_bytes_total")?,
        sent: sent as f64,
    })
}

/// Bytes that a node's management interface has sent.
fn sent_bytes(netns: &Netns) -> Result<u64> {
    let text = netns.run("ip", &["-s", "-j", "link", "show", "dev", MANAGEMENT])?;
    let json: Value = serde_json::from_str(&text).context("read ip's JSON")?;
    json[0]["stats64"]["tx"]["bytes"].as_u64().with_context(|| format!("ip shows no bytes of {MANAGEMENT}"))
}
