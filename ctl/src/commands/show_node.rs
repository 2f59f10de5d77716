//! `show-node`.

mod table;

use std::io::Write;

use clap::Args;
use lastseen_proto::v1::{
    GetNodeRequest, GetNodeResponse, Interface, InterfaceKind, Node, NodeTopology, OverlayReport,
};

use crate::Outcome;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::table::Table;
use crate::output::{self, Format, View, escape, names, units};
use crate::rpc::{self, Fabric};

/// Show one node: its agent, clock, capabilities and interfaces; or a table of its kernel, as it is now.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl show-node $(ctl list-nodes -o name | head -1)
  ctl show-node node-a -o wide        # with routes and neighbours
  ctl show-node node-a --sockets --grep :53
  ctl show-node node-a --routes --netns cni-1f2e
  ctl show-node node-a --filters --pid 4711")]
pub struct Arguments {
    /// Node name, as list-nodes shows it.
    name: String,
    #[command(flatten)]
    table: table::Options,
}

pub(super) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    if let Some(table) = arguments.table.table() {
        return table::run(arguments.name, table, arguments.table, context, out).await;
    }
    let fabric = Fabric::connect(&context.global).await?;
    let request = rpc::request(GetNodeRequest { name: arguments.name });
    let answer = fabric.fleet().get_node(request).await;
    output::print(answer.map_err(|status| fabric.failed(&status))?.get_ref(), context, out)?;
    Ok(Exit::Done)
}

impl View for GetNodeResponse {
    fn text(&self, context: &Context) -> String {
        let Some(node) = &self.node else { return String::new() };
        let mut text = facts(node);
        text += &troubles(node);
        if let Some(topology) = &node.topology {
            text += &interfaces(topology);
            if context.global.output == Format::Wide {
                text += &routes(topology);
                text += &neighbors(topology);
            }
        }
        text
    }

    fn names(&self) -> Vec<String> {
        self.node.iter().map(|node| node.name.clone()).collect()
    }
}

fn facts(node: &Node) -> String {
    let usable = node.capabilities.iter().filter(|capability| capability.available);
    let can: Vec<&str> = usable.map(|capability| capability.name.as_str()).collect();
    let facts = [
        ("node", node.name.clone()),
        ("state", names::node_state(node.state)),
        ("version", node.agent_version.clone()),
        ("kernel", node.kernel.clone()),
        ("clock offset", units::clock(node.clock_offset_nanos, node.clock_error_nanos)),
        ("round trip", node.round_trip_nanos.map_or_else(String::new, units::delay)),
        ("memory", node.resident_bytes.map_or_else(String::new, units::bytes)),
        ("last seen", units::second(node.last_seen_at.as_ref())),
        ("capabilities", can.join(", ")),
    ];
    output::facts(&facts)
}

/// What the node lacks, and what else is wrong with it; nothing of a node that is well.
fn troubles(node: &Node) -> String {
    let lacking = node.capabilities.iter().filter(|capability| !capability.available);
    let lacking = lacking.map(|capability| {
        let because = if capability.reason.is_empty() { "" } else { ": " };
        format!("{} missing{because}{}", capability.name, capability.reason)
    });
    let lines: String = lacking
        .chain(node.notes.iter().cloned())
        .map(|line| format!("  {}\n", escape::line(&line)))
        .collect();
    if lines.is_empty() { lines } else { format!("\nneeds attention\n{lines}") }
}

/// Interfaces by kind, those where packets of pods pass first.
fn interfaces(topology: &NodeTopology) -> String {
    let mut table = Table::new(&["INTERFACE", "KIND", "NETNS", "STATE", ">MTU", "ADDRESSES", "DETAIL"]);
    let mut sorted: Vec<&Interface> = topology.interfaces.iter().collect();
    sorted.sort_by_key(|interface| (interface.kind, &interface.netns, interface.index));
    for interface in sorted {
        let state = match (interface.up, interface.running) {
            (false, _) => "down",
            (true, false) => "no carrier",
            (true, true) => "up",
        };
        table.row([
            interface.name.clone(),
            names::interface_kind(interface.kind),
            interface.netns.clone(),
            state.to_owned(),
            interface.mtu.to_string(),
            interface.addresses.join(","),
            detail(interface, topology),
        ]);
    }
    format!("\n{}", table.text())
}

fn detail(interface: &Interface, topology: &NodeTopology) -> String {
    let by_index = |index: u32| {
        let same_netns = |other: &&Interface| other.index == index && other.netns == interface.netns;
        topology
            .interfaces
            .iter()
            .find(same_netns)
            .map_or_else(|| format!("#{index}"), |other| other.name.clone())
    };
    let mut parts = Vec::new();
    if let Some(device) = &interface.overlay {
        parts.push(names::overlay(&OverlayReport { kind: device.kind, id: device.id }));
        parts.extend((device.port != 0).then(|| format!("port {}", device.port)));
        parts.extend((!device.local.is_empty()).then(|| format!("local {}", device.local)));
        parts.extend((!device.remote.is_empty()).then(|| format!("remote {}", device.remote)));
        parts.extend(device.underlay_index.map(|index| format!("over {}", by_index(index))));
    }
    parts.extend(interface.master_index.map(|index| format!("port of {}", by_index(index))));
    let is_pod = interface.kind == InterfaceKind::PodVeth as i32;
    parts.extend(interface.peer_index.filter(|_| is_pod).map(|index| format!("peer #{index}")));
    parts.join(" ")
}

fn routes(topology: &NodeTopology) -> String {
    let mut table = Table::new(&["ROUTE", "TYPE", "VIA", "DEVICE", ">METRIC", "TABLE"]);
    for route in &topology.routes {
        let device = route.output_index.map_or_else(String::new, |index| host_interface(topology, index));
        table.row([
            route.destination.clone(),
            route.r#type.clone(),
            route.gateway.clone(),
            device,
            route.metric.to_string(),
            table_name(route.table),
        ]);
    }
    format!("\n{}", table.text())
}

/// As `ip route` calls it (`rtnetlink(7)`).
fn table_name(table: u32) -> String {
    match table {
        253 => "default".to_owned(),
        254 => "main".to_owned(),
        255 => "local".to_owned(),
        other => other.to_string(),
    }
}

fn neighbors(topology: &NodeTopology) -> String {
    let mut table = Table::new(&["NEIGHBOR", "MAC", "DEVICE", "STATE"]);
    for neighbor in &topology.neighbors {
        let device = host_interface(topology, neighbor.index);
        table.row([&neighbor.address, &neighbor.mac, &device, &neighbor.state]);
    }
    format!("\n{}", table.text())
}

/// Name of an interface of the host's namespace.
fn host_interface(topology: &NodeTopology, index: u32) -> String {
    let found = topology.interfaces.iter().find(|other| other.index == index && other.netns.is_empty());
    found.map_or_else(|| format!("#{index}"), |other| other.name.clone())
}
