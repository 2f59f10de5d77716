//! Two nodes of a flannel fabric as capture files: the packets that each point would have seen, written by hand.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lastseen_proto::v1;

pub const SECOND: i64 = 1_000_000_000;
/// When the first packet is sent.
pub const START: i64 = 1_700_000_000 * SECOND;
/// Packets each way, 20 ms apart.
pub const PACKETS: u16 = 300;

/// Points in the order in which packets from a to b meet them, and how much later each stamps, nanoseconds. Stamps of
/// one frame on its way up are equal, as the kernel's are.
const HOPS: [(&str, &str, i64); 6] = [
    ("a", "veth", 0),
    ("a", "flannel.1", 12_000),
    ("a", "eth0", 25_000),
    ("b", "eth0", 190_000),
    ("b", "flannel.1", 190_000),
    ("b", "veth", 210_000),
];

/// Where a packet vanishes: of those whose number is a multiple of `every`, behind hop `after`.
#[derive(Clone, Copy)]
pub struct Fault {
    pub every: u16,
    pub after: usize,
}

/// The files of a run.
#[derive(Default)]
pub struct Wire {
    pub fault: Option<Fault>,
    /// Node b's clock less node a's.
    pub ahead_nanos: i64,
    /// Packets go from a to b only.
    pub is_one_way: bool,
}

/// A frame with its stamp.
pub type Stamped = (i64, Vec<u8>);

impl Wire {
    /// Frames by point.
    pub fn frames(&self) -> BTreeMap<(&'static str, &'static str), Vec<Stamped>> {
        let mut frames: BTreeMap<_, Vec<Stamped>> = BTreeMap::new();
        for number in 0..PACKETS {
            let sent = START + i64::from(number) * 20_000_000;
            let is_hit = |fault: &Fault| number.is_multiple_of(fault.every);
            let reach = self.fault.filter(is_hit).map_or(HOPS.len(), |fault| fault.after + 1);
            for (hop, &(node, interface, delay)) in HOPS.iter().enumerate().take(reach) {
                let time = sent + delay + self.ahead(node);
                frames.entry((node, interface)).or_default().push((time, frame(hop, 1, number)));
            }
            if self.is_one_way {
                continue;
            }
            let back = HOPS.iter().rev().enumerate();
            for (hop, &(node, interface, _)) in back {
                let time = sent + 10_000_000 + HOPS[hop].2 + self.ahead(node);
                frames.entry((node, interface)).or_default().push((time, frame(hop, 2, number)));
            }
        }
        for frames in frames.values_mut() {
            frames.sort_by_key(|frame| frame.0);
        }
        frames
    }

    fn ahead(&self, node: &str) -> i64 {
        if node == "b" { self.ahead_nanos } else { 0 }
    }

    /// Writes a nanosecond pcap per point and returns the arguments that name them.
    pub fn write(&self, dir: &Path) -> Vec<String> {
        let write = |((node, interface), frames): (_, Vec<Stamped>)| {
            let file = dir.join(format!("{node}-{interface}.pcap"));
            fs::write(&file, pcap(&frames)).unwrap();
            format!("{node}/{interface}={}", file.display())
        };
        self.frames().into_iter().map(write).collect()
    }
}

/// A capture file with nanosecond stamps.
pub fn pcap(frames: &[Stamped]) -> Vec<u8> {
    let mut bytes = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat();
    for (time, frame) in frames {
        let words = [(time / SECOND) as u32, (time % SECOND) as u32, frame.len() as u32, frame.len() as u32];
        bytes.extend(words.map(u32::to_le_bytes).concat());
        bytes.extend(frame);
    }
    bytes
}

/// A datagram from the pod of node `from` as the point at `hop` of its way sees it.
fn frame(hop: usize, from: u8, number: u16) -> Vec<u8> {
    let to = 3 - from;
    let id = number + u16::from(from) * 1_000;
    let payload = [&b"datagram "[..], &id.to_be_bytes(), &[7; 60]].concat();
    let datagram = udp(40_000, 9, &payload);
    let ttl = [64, 63, 63, 63, 63, 62][hop];
    let packet = ip([10, 244, from, 10], [10, 244, to, 10], id, ttl, &datagram);
    match hop {
        0 => ethernet(mac(from, 100), mac(from, 4), &packet),
        1 | 4 => ethernet(mac(from, 3), mac(to, 3), &packet),
        2 | 3 => {
            let inner = ethernet(mac(from, 3), mac(to, 3), &packet);
            let vxlan = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &inner].concat();
            let outer =
                ip([192, 168, 0, from], [192, 168, 0, to], id ^ 0x5555, 64, &udp(50_000, 8472, &vxlan));
            ethernet(mac(from, 2), mac(to, 2), &outer)
        }
        _ => ethernet(mac(to, 4), mac(to, 100), &packet),
    }
}

fn mac(node: u8, device: u8) -> [u8; 6] {
    [2, 0, 0, 0, node, device]
}

fn ethernet(source: [u8; 6], destination: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &[8, 0], packet].concat()
}

fn ip(source: [u8; 4], destination: [u8; 4], id: u16, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let id = id.to_be_bytes();
    let header = [0x45, 0, length[0], length[1], id[0], id[1], 0x40, 0, ttl, 17, 0, 0];
    [&header[..], &source, &destination, payload].concat()
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &length, &[0, 0], payload].concat()
}

/// The topology of both nodes, written as `export-topology` does.
pub fn topology(dir: &Path) -> PathBuf {
    let fabric = v1::FabricTopology { capture_id: "c-1".into(), nodes: vec![node("a", 1), node("b", 2)] };
    let file = dir.join("fabric.json");
    fs::write(&file, lastseen_ctl::output::json::pretty(&fabric).unwrap()).unwrap();
    file
}

fn mac_text(node: u8, device: u8) -> String {
    mac(node, device).map(|byte| format!("{byte:02x}")).join(":")
}

fn node(name: &str, number: u8) -> v1::NodeSnapshot {
    let peer = 3 - number;
    let interface = |index: u32, name: &str, kind: v1::InterfaceKind, addresses: &[String]| v1::Interface {
        index,
        name: name.into(),
        kind: kind.into(),
        mac: mac_text(number, index as u8),
        mtu: 1_450,
        addresses: addresses.to_vec(),
        up: true,
        running: true,
        ..Default::default()
    };
    let underlay = format!("192.168.0.{number}");
    let mut nic = interface(2, "eth0", v1::InterfaceKind::Physical, &[format!("{underlay}/24")]);
    nic.mtu = 1_500;
    let mut tunnel =
        interface(3, "flannel.1", v1::InterfaceKind::Overlay, &[format!("10.244.{number}.0/32")]);
    tunnel.overlay = Some(v1::OverlayDevice {
        kind: v1::OverlayKind::Vxlan.into(),
        id: 1,
        port: 8472,
        local: underlay,
        remote: String::new(),
        underlay_index: Some(2),
    });
    let bridge = interface(4, "cni0", v1::InterfaceKind::Bridge, &[format!("10.244.{number}.1/24")]);
    let mut veth = interface(5, "veth", v1::InterfaceKind::PodVeth, &[]);
    veth.master_index = Some(4);
    let route = |destination: String, gateway: String, output: u32| v1::Route {
        destination,
        gateway,
        output_index: Some(output),
        table: 254,
        metric: 0,
        r#type: "unicast".into(),
    };
    let neighbor = |address: String, mac: String, index: u32| v1::Neighbor {
        address,
        mac,
        index,
        state: "permanent".into(),
    };
    let entry = |mac: String, index: u32, remote: String| v1::ForwardingEntry { mac, index, remote, vlan: 0 };
    let topology = v1::NodeTopology {
        interfaces: vec![nic, tunnel, bridge, veth],
        routes: vec![
            route(format!("10.244.{number}.0/24"), String::new(), 4),
            route("192.168.0.0/24".into(), String::new(), 2),
            route(format!("10.244.{peer}.0/24"), format!("10.244.{peer}.0"), 3),
        ],
        neighbors: vec![
            neighbor(format!("10.244.{peer}.0"), mac_text(peer, 3), 3),
            neighbor(format!("10.244.{number}.10"), mac_text(number, 100), 4),
        ],
        forwarding: vec![
            entry(mac_text(peer, 3), 3, format!("192.168.0.{peer}")),
            entry(mac_text(number, 100), 5, String::new()),
            entry(mac_text(number, 5), 5, String::new()),
        ],
        taken_unix_nanos: 0,
    };
    v1::NodeSnapshot { node: name.into(), topology: Some(topology) }
}
