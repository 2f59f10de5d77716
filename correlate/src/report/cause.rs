//! What probably happened on a leg: bounded by the two points around it, and named where the topology or the sizes of
//! what was lost give evidence. Codes are stable.
//!
//! Ingress taps sit after XDP and before netfilter, egress taps after netfilter and the queueing discipline, so the
//! gap between two points bounds the mechanism.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lastseen_packet::observation::{Overlay, OverlayKind};

use crate::fabric::network::{Network, Role};
use crate::fabric::topology::{Interface, RouteType};
use crate::input::Job;
use crate::losses::testimony::LegLoss;
use crate::path::Path;
use crate::report::Cause;
use crate::report::text::grouped;

/// A leg with a loss.
pub(crate) struct Leg<'l, 'a> {
    pub(crate) job: &'l Job,
    pub(crate) network: &'l Network<'a>,
    pub(crate) path: &'l Path,
    pub(crate) loss: &'l LegLoss,
    pub(crate) destination: IpAddr,
    /// The tunnels the packets were seen in at or before the leg.
    pub(crate) carriers: &'l BTreeSet<Overlay>,
    /// Inner IP length of the longest segment that passed, where the pattern is that everything longer is lost.
    pub(crate) size_limit: Option<u16>,
    /// The lost are pieces of super-packets: their lengths say nothing.
    pub(crate) is_in_pieces: bool,
}

/// The cause the evidence supports best.
pub(crate) fn find(leg: &Leg<'_, '_>) -> Option<Cause> {
    use Role::{BridgeIn, BridgeOut, OverlayIn, OverlayOut, PhysicalIn, PhysicalOut, PodIn, PodOut};
    match (leg.role(leg.loss.from), leg.role(leg.loss.to)) {
        (PhysicalOut, PhysicalIn) => Some(leg.underlay()),
        (PodIn | BridgeIn, OverlayOut) => Some(leg.tunnel_entry()),
        (OverlayOut, PhysicalOut) => Some(leg.sending_tunnel()),
        (PhysicalIn, OverlayIn) => Some(leg.receiving_tunnel()),
        (PhysicalOut, OverlayIn) => leg.id_mismatch(),
        (OverlayIn, BridgeOut | PodOut) => Some(leg.forwarding_in()),
        (PhysicalIn, BridgeOut | PodOut) => leg.id_mismatch().or_else(|| Some(leg.forwarding_in())),
        (BridgeIn | PodIn, PhysicalOut) => Some(leg.forwarding_out()),
        (PodIn, BridgeIn) => Some(leg.before_routing()),
        (BridgeOut, PodOut) => Some(leg.bridge()),
        (PodIn | BridgeIn, PodOut | BridgeOut) => Some(leg.same_node()),
        _ => None,
    }
}

fn cause(code: &'static str, text: impl Into<String>, evidence: Vec<String>) -> Cause {
    Cause { code: code.into(), text: text.into(), evidence }
}

impl<'a> Leg<'_, 'a> {
    fn point(&self, at: u32) -> usize {
        self.path.points[at as usize]
    }

    fn role(&self, at: u32) -> Role {
        self.network.stations[self.point(at)].role
    }

    fn node(&self, at: u32) -> usize {
        self.job.points[self.point(at)].node
    }

    fn node_name(&self, at: u32) -> &str {
        &self.job.nodes[self.node(at)].name
    }

    fn interface(&self, at: u32) -> &str {
        &self.job.points[self.point(at)].interface
    }

    fn mtu(&self, at: u32) -> u32 {
        self.job.points[self.point(at)].mtu
    }

    fn sizes(&self) -> Vec<String> {
        let LegLoss { missing, longest_passed, .. } = self.loss;
        let longest_passed = self.size_limit.unwrap_or(*longest_passed);
        vec![
            format!("shortest lost: {} bytes (inner IP packet)", grouped(missing.shortest.into())),
            format!("longest that passed: {} bytes", grouped(longest_passed.into())),
        ]
    }

    fn underlay(&self) -> Cause {
        let (from, to) = (self.loss.from, self.loss.to);
        if let Some(limit) = self.size_limit {
            let mtu = |at| {
                format!("{} {} MTU {}", self.node_name(at), self.interface(at), grouped(self.mtu(at).into()))
            };
            let largest = format!("largest inner packet that arrived {}", grouped(limit.into()));
            let evidence = vec![mtu(from), mtu(to), largest];
            return cause("mtu_black_hole", "MTU black hole on the underlay", evidence);
        }
        cause(
            "underlay_loss",
            "lost between the nodes: a switch, a link or a filter on the underlay",
            vec![format!("{} sent them, {} did not receive them", self.node_name(from), self.node_name(to))],
        )
    }

    /// The next hop of the route to the destination on the sending node, and the tunnel device it leads to.
    fn tunnel_hop(&self) -> Option<(IpAddr, &'a Interface)> {
        let tables = &self.network.tables[self.node(self.loss.from)];
        let route = tables.route(self.destination)?;
        let device = tables.interface(self.path.overlay?)?;
        (route.output_index == Some(device.index))
            .then(|| (route.gateway.unwrap_or(self.destination), device))
    }

    fn tunnel_entry(&self) -> Cause {
        let mtu = self.mtu(self.loss.to);
        let is_longer = !self.is_in_pieces && u32::from(self.loss.missing.shortest) > mtu;
        if self.size_limit.is_some() || is_longer {
            return self.too_big_for_tunnel(mtu);
        }
        if let Some(special) = self.special_route(self.node(self.loss.from)) {
            return special;
        }
        let node = self.node_name(self.loss.from);
        let name = self.interface(self.loss.to);
        let Some((hop, device)) = self.tunnel_hop() else {
            let text = format!("no route into the tunnel for {} on {node}", self.destination);
            return cause(
                "no_route",
                text,
                vec![format!("no route on {node} leads {} to {name}", self.destination)],
            );
        };
        let neighbor = self.network.tables[self.node(self.loss.from)].neighbor(hop, device.index);
        if device.mac.is_some()
            && neighbor.is_none_or(|neighbor| neighbor.mac.is_none() || neighbor.is_unresolved)
        {
            let evidence = vec![format!("no neighbour entry for {hop} on {name}")];
            let text = format!("{node} cannot resolve the next hop {hop} on {name}");
            return cause("neighbor_missing", text, evidence);
        }
        cause(
            "forwarding_dropped",
            format!("dropped by forwarding on {node}: FORWARD chain, rp_filter, TTL or a policy"),
            Vec::new(),
        )
    }

    fn too_big_for_tunnel(&self, mtu: u32) -> Cause {
        let name = self.interface(self.loss.to);
        let mut evidence = self.sizes();
        evidence.push(format!("MTU of {name}: {}", grouped(mtu.into())));
        let text = format!(
            "packets larger than the MTU of {name} ({}) are dropped and the sender does not adapt",
            grouped(mtu.into())
        );
        cause("packet_too_big", text, evidence)
    }

    fn sending_tunnel(&self) -> Cause {
        let node = self.node_name(self.loss.from);
        let name = self.interface(self.loss.from);
        let tables = &self.network.tables[self.node(self.loss.from)];
        if let Some((hop, device)) = self.tunnel_hop()
            && let Some(mac) = tables.neighbor(hop, device.index).and_then(|neighbor| neighbor.mac)
            && device.overlay.is_some_and(|overlay| overlay.remote.is_none())
            && tables.remote_of(mac, device.index).is_none()
        {
            let text = format!("{name} does not know where to send: forwarding entry missing");
            return cause(
                "fdb_missing",
                text,
                vec![format!("no FDB entry for {mac} (next hop {hop}) on {name}")],
            );
        }
        let port = Self::port_of(name, tables);
        cause(
            "tunnel_output_dropped",
            format!(
                "tunnel packets do not leave {node}: {port} filtered in OUTPUT, no route to the remote, or a full queue"
            ),
            Vec::new(),
        )
    }

    fn port_of(name: &str, tables: &crate::fabric::tables::NodeTables<'_>) -> String {
        let device = tables.overlays().find(|device| device.name == name);
        match device.and_then(|device| device.overlay).map(|overlay| overlay.port).filter(|port| *port != 0) {
            Some(port) => format!("UDP port {port}"),
            None => "the tunnel protocol".to_owned(),
        }
    }

    fn receiving_tunnel(&self) -> Cause {
        let node = self.node_name(self.loss.to);
        if let Some(mismatch) = self.id_mismatch() {
            return mismatch;
        }
        let tables = &self.network.tables[self.node(self.loss.to)];
        let ports = |kind| {
            let devices = tables.overlays().filter_map(|device| device.overlay);
            devices.filter(|o| o.kind == kind).map(|o| o.port).collect::<BTreeSet<_>>()
        };
        let is_unheard = |seen: &&Overlay| {
            let ports = ports(seen.kind);
            seen.port != 0 && !ports.is_empty() && !ports.contains(&seen.port)
        };
        if let Some(Overlay { port, kind, .. }) = self.carriers.iter().find(is_unheard) {
            let evidence = vec![format!(
                "the packets go to UDP port {port}; {node} listens on {}",
                list(ports(*kind).iter())
            )];
            let text = format!("{node} does not listen on UDP port {port}");
            return cause("tunnel_port_mismatch", text, evidence);
        }
        let text = format!("the tunnel packets reached {node} and were not decapsulated");
        match self.carriers.first() {
            None => cause("not_decapsulated", text, Vec::new()),
            Some(Overlay { port: 0, .. }) => cause("tunnel_input_dropped", text, Vec::new()),
            Some(Overlay { port, .. }) => cause(
                "tunnel_input_dropped",
                format!("{text}: UDP port {port} filtered in INPUT"),
                Vec::new(),
            ),
        }
    }

    /// The packets carry an id that the receiving node does not have.
    fn id_mismatch(&self) -> Option<Cause> {
        let node = self.node_name(self.loss.to);
        let mut carriers = self.carriers.iter();
        let (seen, word, theirs) =
            carriers.find_map(|seen| Some((seen, id_word(seen.kind)?, self.other_ids(seen)?)))?;
        let text = format!("sent with {word} {}, {node} has {word} {}", seen.id, list(theirs.iter()));
        let kind = seen.kind.name();
        let evidence = vec![
            format!("{kind} packets from {} to {} carry {word} {}", seen.source, seen.destination, seen.id),
            format!("{kind} {word} on {node}: {}", list(theirs.iter())),
        ];
        Some(cause("vni_mismatch", text, evidence))
    }

    /// The ids the receiving node has instead of that of `seen`; absent if it has that one, or may have.
    ///
    /// What it sends with itself tells more than its snapshot: an id that is not in there was changed since.
    fn other_ids(&self, seen: &Overlay) -> Option<BTreeSet<u32>> {
        let node = self.node(self.loss.to);
        let devices = self.network.tables[node].overlays().filter_map(|device| device.overlay);
        let known: BTreeSet<u32> = devices.filter(|o| o.kind == seen.kind).map(|o| o.id).collect();
        let sent: BTreeSet<u32> = self.network.tunnels.sent(node, seen.kind).collect();
        let is_outdated = !sent.is_subset(&known);
        let has = if known.contains(&seen.id) {
            !is_outdated || known.len() > 1 && sent.contains(&seen.id)
        } else {
            known.contains(&0) || known.is_empty() && (sent.is_empty() || sent.contains(&seen.id))
        };
        let others = if is_outdated && known.len() < 2 { sent } else { &known | &sent };
        (!has).then(|| others.into_iter().filter(|id| *id != seen.id).collect())
    }

    /// A route that drops on purpose.
    fn special_route(&self, node: usize) -> Option<Cause> {
        let route = self.network.tables[node].deciding_route(self.destination)?;
        let kind = match route.kind {
            RouteType::Blackhole => "blackhole",
            RouteType::Unreachable => "unreachable",
            RouteType::Prohibit => "prohibit",
            RouteType::Unicast | RouteType::Other => return None,
        };
        let name = &self.job.nodes[node].name;
        let evidence = vec![format!("{kind} {} on {name}", route.destination)];
        Some(cause("route_drops", format!("a {kind} route on {name} drops them"), evidence))
    }

    fn forwarding_in(&self) -> Cause {
        let node = self.node(self.loss.to);
        let name = self.node_name(self.loss.to);
        if let Some(special) = self.special_route(node) {
            return special;
        }
        let tables = &self.network.tables[node];
        if tables.route(self.destination).is_none() {
            return cause("no_route", format!("{name} has no route to {}", self.destination), Vec::new());
        }
        let output = tables.route(self.destination).and_then(|route| route.output_index);
        let neighbor = output.and_then(|output| tables.neighbor(self.destination, output));
        if neighbor.is_some_and(|neighbor| neighbor.is_unresolved) {
            let evidence =
                vec![format!("neighbour entry for {} on {name} is failed or incomplete", self.destination)];
            return cause(
                "neighbor_unresolved",
                format!("{} does not answer ARP or NDP on {name}", self.destination),
                evidence,
            );
        }
        let text = format!(
            "decapsulated on {name} and not forwarded: FORWARD chain, rp_filter, ip_forward, a route or the inner MAC address"
        );
        cause("forwarding_dropped", text, Vec::new())
    }

    fn forwarding_out(&self) -> Cause {
        let node = self.node(self.loss.from);
        let text = || {
            format!(
                "dropped by forwarding on {}: FORWARD chain, rp_filter, TTL or a policy",
                self.node_name(self.loss.from)
            )
        };
        self.special_route(node).unwrap_or_else(|| cause("forwarding_dropped", text(), Vec::new()))
    }

    fn before_routing(&self) -> Cause {
        let node = self.node_name(self.loss.from);
        cause(
            "prerouting_dropped",
            format!("dropped on {node} between the pod's veth and routing: tc, bridge or PREROUTING filter"),
            Vec::new(),
        )
    }

    fn bridge(&self) -> Cause {
        let tables = &self.network.tables[self.node(self.loss.to)];
        let station = self.network.stations[self.point(self.loss.to)];
        let veth = station.index.and_then(|index| tables.interface(index));
        if let Some(veth) = veth.filter(|veth| !veth.up || !veth.running) {
            let evidence =
                vec![format!("{} is {}", veth.name, if veth.up { "without carrier" } else { "down" })];
            return cause(
                "interface_down",
                format!("the pod's interface {} cannot send", veth.name),
                evidence,
            );
        }
        cause(
            "bridge_dropped",
            format!(
                "dropped on {} between the bridge and the pod's veth: bridge filter, port state or tc",
                self.node_name(self.loss.to)
            ),
            Vec::new(),
        )
    }

    fn same_node(&self) -> Cause {
        let node = self.node_name(self.loss.from);
        cause(
            "forwarding_dropped",
            format!("dropped between two interfaces of {node}: FORWARD chain, bridge filter or a policy"),
            Vec::new(),
        )
    }
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// What a protocol calls the id that both ends must share; absent for those without one.
fn id_word(kind: OverlayKind) -> Option<&'static str> {
    match kind {
        OverlayKind::Vxlan | OverlayKind::VxlanGpe | OverlayKind::Geneve => Some("vni"),
        OverlayKind::Gre => Some("key"),
        _ => None,
    }
}
