//! A fabric of flannel-style nodes made of tables, and the observations its packets leave behind.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use lastseen_correlate::input::{Direction, InterfaceKind};
use lastseen_correlate::topology::{
    ForwardingEntry, Interface, MacAddress, Neighbor, OverlayDevice, Prefix, Route, RouteType, Topology,
};
use lastseen_correlate::{
    Correlator, GUARD_NANOS, Job, Node, Outcome, Point, Scratch, Slice, SliceCounters, Window,
};
use lastseen_packet::IdentityKey;
use lastseen_packet::observation::{
    Columns, ColumnsBuilder, FlowKey, Observation, Overlay, OverlayKind, marks, protocol,
};

pub const SECOND: i64 = 1_000_000_000;
pub const MILLI: i64 = 1_000_000;
pub const MICRO: i64 = 1_000;
/// Start and end of the window.
pub const T0: i64 = 1_000 * SECOND;
pub const T1: i64 = T0 + 10 * SECOND;
/// Points of one node, in the order of its part of the job.
pub const POINTS: usize = 8;

/// Points of a path from pod to pod on two nodes, in order.
pub const HOPS: usize = 8;

const VETH: u32 = 5;
const BRIDGE: u32 = 4;
const OVERLAY: u32 = 3;
const NIC: u32 = 2;

/// Interfaces in the order of the points: each has `in`, then `out`.
const DEVICES: [(&str, u32, InterfaceKind, u32); 4] = [
    ("veth", VETH, InterfaceKind::PodVeth, 1450),
    ("cni0", BRIDGE, InterfaceKind::Bridge, 1450),
    ("flannel.1", OVERLAY, InterfaceKind::Overlay, 1450),
    ("eth0", NIC, InterfaceKind::Physical, 1500),
];

pub fn pod(node: usize) -> IpAddr {
    Ipv4Addr::new(10, 244, node as u8, 10).into()
}

pub fn subnet(node: usize) -> IpAddr {
    Ipv4Addr::new(10, 244, node as u8, 0).into()
}

pub fn underlay(node: usize) -> IpAddr {
    Ipv4Addr::new(192, 168, 0, node as u8 + 1).into()
}

fn mac(node: usize, device: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, node as u8, device])
}

fn prefix(address: IpAddr, length: u8) -> Prefix {
    Prefix { address, length }
}

/// The tables of one node of a flannel fabric.
pub fn topology(node: usize, nodes: usize) -> Topology {
    let gateway = Ipv4Addr::new(10, 244, node as u8, 1).into();
    let mut interfaces: Vec<_> = DEVICES
        .iter()
        .map(|&(name, index, kind, mtu)| Interface {
            index,
            name: name.to_owned(),
            kind,
            mac: Some(mac(node, index as u8)),
            mtu,
            up: true,
            running: true,
            ..Interface::default()
        })
        .collect();
    interfaces[0].master_index = Some(BRIDGE);
    interfaces[0].peer_index = Some(2);
    interfaces[1].addresses = vec![prefix(gateway, 24)];
    interfaces[2].addresses = vec![prefix(subnet(node), 32)];
    interfaces[2].overlay = Some(OverlayDevice {
        kind: OverlayKind::Vxlan,
        id: 1,
        port: 8472,
        local: Some(underlay(node)),
        remote: None,
        underlay_index: Some(NIC),
    });
    interfaces[3].addresses = vec![prefix(underlay(node), 24)];
    interfaces.push(Interface {
        index: 2,
        name: "eth0".to_owned(),
        netns: "pod".to_owned(),
        kind: InterfaceKind::Veth,
        mac: Some(mac(node, 100)),
        mtu: 1450,
        addresses: vec![prefix(pod(node), 24)],
        peer_index: Some(VETH),
        ..Interface::default()
    });
    let mut topology = Topology { interfaces, ..Topology::default() };
    topology.routes.push(route(prefix(subnet(node), 24), None, BRIDGE));
    topology.routes.push(route(prefix(underlay(0), 24), None, NIC));
    for peer in (0..nodes).filter(|&peer| peer != node) {
        topology.routes.push(route(prefix(subnet(peer), 24), Some(subnet(peer)), OVERLAY));
        let peer_mac = mac(peer, OVERLAY as u8);
        topology.neighbors.push(Neighbor {
            address: subnet(peer),
            mac: Some(peer_mac),
            index: OVERLAY,
            is_unresolved: false,
        });
        topology.forwarding.push(ForwardingEntry {
            mac: peer_mac,
            index: OVERLAY,
            remote: Some(underlay(peer)),
            vlan: 0,
        });
    }
    topology
}

fn route(destination: Prefix, gateway: Option<IpAddr>, output: u32) -> Route {
    Route {
        destination,
        gateway,
        output_index: Some(output),
        table: 254,
        metric: 0,
        kind: RouteType::Unicast,
    }
}

/// A job and what its points have seen.
#[derive(Clone)]
pub struct Lab {
    pub job: Job,
    seen: BTreeMap<usize, Vec<(FlowKey, Observation)>>,
    /// Slices of points that are not the default, one over all the recording.
    pub slices: BTreeMap<usize, Vec<Slice>>,
}

impl Lab {
    /// Nodes `a`, `b`, … with one pod each and every interface captured.
    pub fn new(nodes: usize) -> Self {
        let name = |node: usize| char::from(b'a' + node as u8).to_string();
        let nodes_of_job = (0..nodes).map(|node| Node {
            name: name(node),
            topology: topology(node, nodes),
            clock_offset_nanos: Some(0),
            clock_error_nanos: Some(200 * MICRO),
            ..Node::default()
        });
        let points = (0..nodes).flat_map(points_of);
        let job = Job {
            capture_id: "c-test".to_owned(),
            name: "test".to_owned(),
            filter: String::new(),
            named_interfaces: false,
            partial: false,
            from_files: false,
            window: Window { start_nanos: T0, end_nanos: T1 },
            guard_nanos: GUARD_NANOS,
            key: IdentityKey([7; 16]),
            nodes: nodes_of_job.collect(),
            points: points.collect(),
        };
        Self { job, seen: BTreeMap::new(), slices: BTreeMap::new() }
    }

    /// The points from the pod of `from` to the pod of `to`.
    pub fn path(from: usize, to: usize) -> [usize; HOPS] {
        let (a, b) = (from * POINTS, to * POINTS);
        [a, a + 2, a + 5, a + 7, b + 6, b + 4, b + 3, b + 1]
    }

    /// One sighting at a point.
    pub fn see(&mut self, point: usize, flow: FlowKey, mut row: Observation, time: i64) {
        row.time_nanos = time;
        self.seen.entry(point).or_default().push((flow, row));
    }

    /// A packet between two pods that is seen at the hops of `mask`, 10 µs apart and 200 µs between the nodes.
    pub fn send(&mut self, ends: (usize, usize), packet: &Packet, time: i64, mask: u32) {
        for (hop, point) in Self::path(ends.0, ends.1).into_iter().enumerate() {
            if mask & 1 << hop != 0 {
                let flow = packet.flow(ends, hop == 3 || hop == 4);
                let delay = hop as i64 * 10 * MICRO + if hop >= 4 { 200 * MICRO } else { 0 };
                self.see(point, flow, packet.row, time + delay);
            }
        }
    }

    /// One batch per point.
    pub fn batches(&self) -> Vec<(usize, Slice, Columns)> {
        self.batches_of(usize::MAX)
    }

    /// Batches of at most `rows` rows per point, all with the slices of their point.
    pub fn batches_of(&self, rows: usize) -> Vec<(usize, Slice, Columns)> {
        let mut batches = Vec::new();
        for point in 0..self.job.points.len() {
            let empty = Vec::new();
            let seen = self.seen.get(&point).unwrap_or(&empty);
            let whole = vec![whole(seen.len() as u64)];
            for slice in self.slices.get(&point).unwrap_or(&whole) {
                batches.push((point, *slice, Columns::default()));
            }
            for chunk in seen.chunks(rows.max(1)) {
                let first = self.slices.get(&point).unwrap_or(&whole).first();
                let nothing =
                    Slice { counters: SliceCounters::default(), ..first.copied().unwrap_or_default() };
                batches.push((point, nothing, columns(chunk)));
            }
        }
        batches
    }

    /// What is found, which is the same where memory has room for next to nothing.
    pub fn run(&self) -> Outcome {
        let outcome = run(self.job.clone(), self.batches());
        let within = self.run_within(LITTLE, Bytes::default());
        assert_eq!(format!("{within:?}"), format!("{outcome:?}"), "within {LITTLE} bytes");
        outcome
    }

    /// What is found within so many bytes of memory.
    pub fn run_within(&self, bytes: usize, scratch: impl Scratch + 'static) -> Outcome {
        let correlator = Correlator::new(self.job.clone()).expect("a valid job");
        feed(correlator.within(bytes, Box::new(scratch)), self.batches())
    }
}

/// Memory in which the observations of no test have room.
const LITTLE: usize = 512;

/// Scratch space that is in memory.
#[derive(Debug, Default)]
pub struct Bytes(Mutex<BTreeMap<u64, Vec<u8>>>);

impl Scratch for Bytes {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.lock().unwrap().insert(offset, bytes.to_vec());
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        bytes.copy_from_slice(&self.0.lock().unwrap()[&offset][..bytes.len()]);
        Ok(())
    }
}

/// A slice over the whole recording.
pub fn whole(received: u64) -> Slice {
    let counters = SliceCounters { received, ..SliceCounters::default() };
    Slice { start_nanos: T0 - SECOND, end_nanos: T1 + GUARD_NANOS, counters }
}

pub fn run(job: Job, batches: Vec<(usize, Slice, Columns)>) -> Outcome {
    feed(Correlator::new(job).expect("a valid job"), batches)
}

pub fn feed(mut correlator: Correlator, batches: Vec<(usize, Slice, Columns)>) -> Outcome {
    for (point, slice, columns) in batches {
        correlator.add(point, slice, 0, &columns).expect("a valid batch");
    }
    correlator.finish().unwrap()
}

fn columns(seen: &[(FlowKey, Observation)]) -> Columns {
    let mut builder = ColumnsBuilder::new(seen.len(), [1; 16]);
    for (flow, row) in seen {
        builder.push(flow, *row);
    }
    builder.columns().clone()
}

fn points_of(node: usize) -> impl Iterator<Item = Point> {
    DEVICES.iter().flat_map(move |&(name, index, kind, mtu)| {
        [Direction::In, Direction::Out].map(|direction| Point {
            node,
            netns: String::new(),
            interface: name.to_owned(),
            index,
            direction: Some(direction),
            kind,
            mtu,
            gso_known: true,
        })
    })
}

/// What stays the same of a packet at every hop.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub row: Observation,
    pub protocol: u8,
    pub ports: (u16, u16),
    pub vni: u32,
}

impl Packet {
    /// A UDP datagram that its id makes unique.
    pub fn udp(id: u32, payload: u32) -> Self {
        let row = Observation {
            ip_id: id as u16,
            ip_length: payload + 28,
            payload_length: payload,
            transport_hash: u64::from(id) + 1,
            ttl: 64,
            marks: marks::IPV4,
            ..Observation::default()
        };
        Self { row, protocol: protocol::UDP, ports: (4000, 53), vni: 1 }
    }

    /// A TCP segment.
    pub fn tcp(ip_id: u16, seq: u32, payload: u32) -> Self {
        let row = Observation {
            ip_id,
            ip_length: payload + 52,
            payload_length: payload,
            tcp_seq: seq,
            tcp_flags: 0x10,
            ttl: 64,
            marks: marks::IPV4 | marks::TCP_TIMESTAMPS,
            ..Observation::default()
        };
        Self { row, protocol: protocol::TCP, ports: (41822, 80), vni: 1 }
    }

    pub fn flow(&self, (from, to): (usize, usize), is_tunnelled: bool) -> FlowKey {
        let overlay = Overlay {
            kind: OverlayKind::Vxlan,
            id: self.vni,
            source: underlay(from),
            destination: underlay(to),
            port: 8472,
        };
        FlowKey {
            overlay: is_tunnelled.then_some(overlay),
            source: pod(from),
            destination: pod(to),
            protocol: self.protocol,
            source_port: self.ports.0,
            destination_port: self.ports.1,
        }
    }
}

/// So many milliseconds into the window.
pub fn time_of(index: u32) -> i64 {
    T0 + i64::from(index) * MILLI
}

/// Hops below `end`.
pub fn up_to(end: usize) -> u32 {
    (1 << end) - 1
}

/// Every hop.
pub const ALL: u32 = 0xff;

/// `states` add up to the segments.
pub fn assert_sums(outcome: &Outcome) {
    let add_up = |t: &lastseen_correlate::report::SegmentTotals| {
        assert_eq!(
            t.segments,
            t.delivered + t.lost + t.not_observable + t.ambiguous + t.in_flight + t.transformed,
            "{t:?}"
        );
    };
    add_up(&outcome.report.totals);
    for path in &outcome.report.paths {
        add_up(&path.totals);
        assert_eq!(path.losses.iter().map(|loss| loss.count).sum::<u64>(), path.totals.lost);
        assert_eq!(path.hops.iter().map(|hop| hop.missing_after).sum::<u64>(), path.totals.lost);
    }
    assert_eq!(outcome.lost.len() as u64 + outcome.omitted_lost, outcome.report.totals.lost);
}

/// The single loss of the first path as `from node interface → to node interface` with its count.
pub fn leg(outcome: &Outcome) -> (String, u64) {
    let losses: Vec<_> = outcome.report.paths.iter().flat_map(|path| &path.losses).collect();
    assert_eq!(losses.len(), 1, "{losses:#?}");
    let to = losses[0].to.as_ref().expect("a next point");
    let text = format!("{} {} → {} {}", losses[0].from.node, losses[0].from.interface, to.node, to.interface);
    (text, losses[0].count)
}

/// Sends `count` datagrams, of which every `nth` gets no further than hop `end`.
pub fn udp(lab: &mut Lab, count: u32, nth: u32, end: usize) {
    for id in 0..count {
        let mask = if nth != 0 && id % nth == 0 { up_to(end) } else { ALL };
        lab.send((0, 1), &Packet::udp(id, 100), T0 + i64::from(id) * MILLI, mask);
    }
}
