//! Flow records within a limit: a flood of flows must not become a flood of rows.
//!
//! Half of the rows go to the flows with most packets. The others, which in a flood have a packet or two each, are summed
//! by the prefix of their source, or more coarsely where that leaves too many.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Flow, Flows};
use crate::input::Job;
use crate::report::text::grouped;
use crate::report::{Aggregate, FlowRecord, OverlayReport};

/// How much of an address sets records apart.
#[derive(Clone, Copy)]
enum Keep {
    All,
    /// The subnet: /24 or /64.
    Prefix,
    Nothing,
}

/// What sets records apart, of the source and of the destination; from fine to coarse.
const LEVELS: [[Keep; 2]; 3] =
    [[Keep::Prefix, Keep::All], [Keep::Prefix, Keep::Prefix], [Keep::Nothing, Keep::Nothing]];

/// What the flows of one record have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    point: u16,
    overlay: Option<OverlayReport>,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    destination_port: u16,
}

impl Flows {
    /// The records by point, then by tuple; and of more than `most` flows the sums behind them, and what to say of it.
    pub(crate) fn records(&self, job: &Job, most: usize) -> (Vec<FlowRecord>, Option<String>) {
        let mut flows = self.listed(job);
        let all = flows.len();
        if all <= most {
            return (single(&flows, job), None);
        }
        let singles = most / 2;
        // Stable: of equals the first.
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.packets));
        let rest = flows.split_off(singles);
        flows.sort_unstable_by(|a, b| order(a, b, job));
        let mut records = single(&flows, job);
        let sums = summed(&rest, job, most - singles);
        records.extend(sums);
        let note = format!(
            "{} flow records are more than the {} that are kept: the {} with most packets are listed one by one, the \
             others summed by prefix (/24, /64 or all) in {}",
            grouped(all as u64),
            grouped(most as u64),
            grouped(singles as u64),
            grouped((records.len() - singles) as u64)
        );
        (records, Some(note))
    }

    /// Flows that have a record: packets, and a point that tells its directions apart.
    fn listed(&self, job: &Job) -> Vec<&Flow> {
        let has_record =
            |flow: &&Flow| flow.packets > 0 && job.points[usize::from(flow.point)].direction.is_some();
        let mut flows: Vec<_> = self.all.iter().filter(has_record).collect();
        flows.sort_unstable_by(|a, b| order(a, b, job));
        flows
    }
}

fn order(a: &Flow, b: &Flow, job: &Job) -> std::cmp::Ordering {
    let name = |flow: &Flow| {
        let point = &job.points[usize::from(flow.point)];
        (&job.nodes[point.node].name, &point.interface, point.direction)
    };
    (name(a), a.point, a.key).cmp(&(name(b), b.point, b.key))
}

fn single(flows: &[&Flow], job: &Job) -> Vec<FlowRecord> {
    flows.iter().filter_map(|flow| flow.record(job)).collect()
}

/// At most `most` records of all `flows`, as fine as that allows.
fn summed(flows: &[&Flow], job: &Job, most: usize) -> Vec<FlowRecord> {
    let fine = LEVELS.into_iter().find_map(|level| sums(flows, job, level, most));
    // With so many points that even one each is too many.
    fine.unwrap_or_default()
}

/// The sums at one level; none if there are more than `most`.
fn sums(flows: &[&Flow], job: &Job, level: [Keep; 2], most: usize) -> Option<Vec<FlowRecord>> {
    let mut sums: BTreeMap<Group, FlowRecord> = BTreeMap::new();
    for flow in flows {
        let (group, lengths) = group(flow, level);
        if let Some(sum) = sums.get_mut(&group) {
            flow.add_to(sum);
            continue;
        }
        if sums.len() == most {
            return None;
        }
        let [source_prefix_length, destination_prefix_length] = lengths;
        sums.insert(
            group,
            FlowRecord {
                source_address: group.source,
                destination_address: group.destination,
                source_transport_port: 0,
                destination_transport_port: group.destination_port,
                protocol_identifier: group.protocol,
                overlay: group.overlay,
                aggregate: Some(Aggregate { flows: 1, source_prefix_length, destination_prefix_length }),
                ..flow.record(job)?
            },
        );
    }
    Some(sums.into_values().collect())
}

fn group(flow: &Flow, level: [Keep; 2]) -> (Group, [u8; 2]) {
    let [source, destination] = level;
    let (source, source_length) = kept(flow.key.source, source);
    let (address, destination_length) = kept(flow.key.destination, destination);
    let is_coarsest = matches!(destination, Keep::Nothing);
    let group = Group {
        point: flow.point,
        overlay: flow.overlay().filter(|_| !is_coarsest),
        protocol: if is_coarsest { 0 } else { flow.key.protocol },
        source,
        destination: address,
        destination_port: if matches!(destination, Keep::All) { flow.key.destination_port } else { 0 },
    };
    (group, [source_length, destination_length])
}

/// An address without what is not kept of it, and how many bits are.
fn kept(address: IpAddr, keep: Keep) -> (IpAddr, u8) {
    match (address, keep) {
        (IpAddr::V4(_), Keep::All) => (address, 32),
        (IpAddr::V6(_), Keep::All) => (address, 128),
        (IpAddr::V4(v4), Keep::Prefix) => (Ipv4Addr::from_bits(v4.to_bits() & (!0 << 8)).into(), 24),
        (IpAddr::V6(v6), Keep::Prefix) => (Ipv6Addr::from_bits(v6.to_bits() & (!0 << 64)).into(), 64),
        (IpAddr::V4(_), Keep::Nothing) => (Ipv4Addr::UNSPECIFIED.into(), 0),
        (IpAddr::V6(_), Keep::Nothing) => (Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

impl Flow {
    fn add_to(&self, sum: &mut FlowRecord) {
        if let Some(aggregate) = &mut sum.aggregate {
            aggregate.flows += 1;
        }
        sum.packet_delta_count = sum.packet_delta_count.saturating_add(self.packets);
        sum.octet_delta_count = sum.octet_delta_count.saturating_add(self.octets);
        sum.segments = sum.segments.saturating_add(self.segments);
        sum.flow_start_nanos = sum.flow_start_nanos.min(self.first);
        sum.flow_end_nanos = sum.flow_end_nanos.max(self.last);
        sum.tcp_control_bits |= self.flags;
        sum.retransmissions = sum.retransmissions.saturating_add(self.retransmissions);
        sum.out_of_order = sum.out_of_order.saturating_add(self.out_of_order);
        sum.minimum_ip_total_length = sum.minimum_ip_total_length.min(self.length.0);
        sum.maximum_ip_total_length = sum.maximum_ip_total_length.max(self.length.1);
        sum.minimum_ttl = sum.minimum_ttl.min(self.ttl.0);
        sum.maximum_ttl = sum.maximum_ttl.max(self.ttl.1);
    }
}

#[cfg(test)]
mod tests {
    use lastseen_packet::IdentityKey;
    use lastseen_packet::observation::{FlowKey, Observation, protocol};

    use super::*;
    use crate::fabric::topology::{Direction, InterfaceKind};
    use crate::input::{CaptureState, GUARD_NANOS, Node, Point, Window};

    /// Two points of a node.
    fn job() -> Job {
        let point = |index| Point {
            node: 0,
            netns: String::new(),
            interface: format!("eth{index}"),
            index,
            direction: Some(Direction::In),
            kind: InterfaceKind::Physical,
            mtu: 1500,
            gso_known: true,
        };
        let node = Node { name: "a".into(), state: CaptureState::Completed, ..Node::default() };
        Job {
            capture_id: "c".into(),
            name: String::new(),
            filter: String::new(),
            named_interfaces: false,
            partial: false,
            from_files: false,
            window: Window { start_nanos: 0, end_nanos: 10 },
            guard_nanos: GUARD_NANOS,
            key: IdentityKey([7; 16]),
            nodes: vec![node],
            points: vec![point(0), point(1)],
        }
    }

    /// `packets` packets from each of `sources`, seen at `point`.
    fn see(flows: &mut Flows, point: u16, sources: impl IntoIterator<Item = [u8; 4]>, packets: u32) {
        for source in sources {
            let key = FlowKey {
                source: source.into(),
                destination: [10, 9, 9, 9].into(),
                protocol: protocol::TCP,
                source_port: 1_000 + u16::from(source[3]),
                destination_port: 80,
                ..FlowKey::UNSPECIFIED
            };
            let flow = flows.intern(point, &key);
            for _ in 0..packets {
                flows.count(flow, &Observation { ip_length: 40, time_nanos: 5, ..Observation::default() }, 0);
            }
        }
    }

    /// Four of many packets, and 200 from each of three subnets of one.
    fn flood() -> Flows {
        let mut flows = Flows::new([0; 16]);
        see(&mut flows, 0, (1..5).map(|host| [10, 0, 0, host]), 9);
        for subnet in 1..4 {
            see(&mut flows, 0, (0..200).map(|host| [198, 51, subnet, host]), 1);
        }
        flows
    }

    fn packets(records: &[FlowRecord]) -> u64 {
        records.iter().map(|record| record.packet_delta_count).sum()
    }

    #[test]
    fn up_to_the_limit_every_flow_has_its_record_and_beyond_it_some_are_summed() {
        let mut flows = Flows::new([0; 16]);
        see(&mut flows, 0, (0..9).map(|host| [10, 0, 0, host]), 1);
        for most in [10, 9] {
            let (records, note) = flows.records(&job(), most);
            assert!(records.len() == 9 && records.iter().all(|record| record.aggregate.is_none()));
            assert_eq!(note, None);
        }
        let (records, note) = flows.records(&job(), 8);
        assert_eq!((records.len(), packets(&records), note.is_some()), (5, 9, true));
        assert_eq!(records[4].aggregate.unwrap().flows, 5);
    }

    #[test]
    fn a_flood_is_summed_by_subnet_and_nothing_of_it_is_lost() {
        let flows = flood();
        let (records, note) = flows.records(&job(), 8);
        assert_eq!((records.len(), packets(&records)), (7, 4 * 9 + 600));
        assert!(records[..4].iter().all(|record| record.aggregate.is_none()), "{records:?}");
        let sums: Vec<_> =
            records[4..].iter().map(|sum| (sum.source_address.to_string(), sum.aggregate)).collect();
        let aggregate =
            Some(Aggregate { flows: 200, source_prefix_length: 24, destination_prefix_length: 32 });
        assert_eq!(sums, [1, 2, 3].map(|subnet| (format!("198.51.{subnet}.0"), aggregate)));
        assert_eq!((records[4].source_transport_port, records[4].destination_transport_port), (0, 80));
        assert_eq!(
            note.unwrap(),
            "604 flow records are more than the 8 that are kept: the 4 with most packets are listed one by one, the \
             others summed by prefix (/24, /64 or all) in 3"
        );
    }

    #[test]
    fn what_comes_from_everywhere_is_summed_more_coarsely() {
        let mut flows = flood();
        see(&mut flows, 1, [[203, 0, 113, 1]], 1);
        let (records, _) = flows.records(&job(), 6);
        let places: Vec<_> =
            records[3..].iter().map(|sum| (sum.interface.as_str(), sum.aggregate.unwrap().flows)).collect();
        assert_eq!(places, [("eth0", 601), ("eth1", 1)]);
        assert_eq!((packets(&records), records[3].source_address), (4 * 9 + 601, [0, 0, 0, 0].into()));
        let subnets = |records: Vec<FlowRecord>| records.iter().filter(|r| r.aggregate.is_some()).count();
        assert_eq!(subnets(flows.records(&job(), 8).0), 4, "as fine as there is room");
    }
}
