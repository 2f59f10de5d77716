//! Segment sizes of TCP super-packets that were captured without them, by libpcap or into a file.
//!
//! Over IPv4 the identification tells: a socket counts one up for each segment, so a packet and the next one of its
//! flow say how many segments the packet stands for, and the largest quotient of length and number is the size. Packets
//! lost or not captured in between only make a quotient smaller. Where there is no identification, the longest packet
//! at the point that shows the shortest ones is one segment: some point lies behind segmentation. So it is where
//! identifications say little less, because the packet behind the longest one was lost each time.
//!
//! A wrong size cannot make a loss: points still count as unable to tell segments apart.

use std::collections::{BTreeMap, HashMap};

use lastseen_packet::observation::{Columns, FlowKey, Observation, SipKey, gso, marks, protocol};

use crate::evidence::flows::FLOW_LIMIT;

/// Most segments of one packet that identifications are believed about.
const MOST_SEGMENTS: u16 = 512;

/// Sizes of all flows of a run.
#[derive(Debug)]
pub struct SegmentSizes {
    flows: HashMap<FlowKey, Evidence, SipKey>,
}

#[derive(Debug, Default)]
struct Evidence {
    /// Largest quotient of length and number of identifications.
    by_identification: u32,
    /// By point: the longest payload.
    longest: BTreeMap<usize, u32>,
    /// By point: the last packet's identification and payload length.
    last: BTreeMap<usize, (u16, u32)>,
}

impl SegmentSizes {
    /// Nothing is known yet. Flows are hashed with `key`.
    pub fn new(key: [u8; 16]) -> Self {
        Self { flows: HashMap::with_hasher(SipKey(key)) }
    }

    /// Takes in rows of a point in the order of their capture.
    pub fn learn(&mut self, point: usize, columns: &Columns) {
        for index in 0..columns.len() {
            let row = columns.row(index);
            let flow = &columns.flows[row.flow as usize];
            let flow = bare(flow);
            let has_room = self.flows.len() < FLOW_LIMIT || self.flows.contains_key(&flow);
            if has_room && is_counted(&flow, &row) {
                self.flows.entry(flow).or_default().add(point, &row);
            }
        }
    }

    /// Gives super-packets their segment size.
    pub fn restore(&self, columns: &mut Columns) {
        for index in 0..columns.len() {
            let row = columns.row(index);
            let flow = &columns.flows[row.flow as usize];
            let size = self.flows.get(&bare(flow)).and_then(Evidence::size);
            if let Some(size) =
                size.filter(|&size| is_counted(flow, &row) && row.payload_length > u32::from(size))
            {
                columns.gso_type[index] = if row.marks & marks::IPV4 == 0 { gso::TCPV6 } else { gso::TCPV4 };
                columns.gso_size[index] = size;
            }
        }
    }
}

/// TCP of which nobody said how it is segmented.
fn is_counted(flow: &FlowKey, row: &Observation) -> bool {
    flow.protocol == protocol::TCP
        && row.gso_type == gso::UNKNOWN
        && row.fragment_offset == 0
        && row.marks & (marks::MORE_FRAGMENTS | marks::OUTER_FRAGMENT) == 0
}

fn bare(flow: &FlowKey) -> FlowKey {
    FlowKey { overlay: None, ..*flow }
}

impl Evidence {
    fn add(&mut self, point: usize, row: &Observation) {
        let longest = self.longest.entry(point).or_default();
        *longest = row.payload_length.max(*longest);
        if row.marks & marks::IPV4 == 0 {
            return;
        }
        if let Some((id, length)) = self.last.insert(point, (row.ip_id, row.payload_length)) {
            let segments = row.ip_id.wrapping_sub(id);
            if (1..=MOST_SEGMENTS).contains(&segments) {
                self.by_identification = length.div_ceil(segments.into()).max(self.by_identification);
            }
        }
    }

    fn size(&self) -> Option<u16> {
        let shortest = self.longest.values().copied().min().unwrap_or(0);
        // The longest packet may have been followed by lost ones every time. A super-packet has at least two segments.
        let size = match self.by_identification {
            0 => shortest,
            least if (least..2 * least).contains(&shortest) => shortest,
            least => least,
        };
        u16::try_from(size).ok().filter(|size| *size > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(rows: &[(u16, u32)], is_ipv4: bool) -> Columns {
        let flow = FlowKey { protocol: protocol::TCP, ..FlowKey::UNSPECIFIED };
        let mut columns = Columns { flows: vec![flow], ..Columns::default() };
        for &(ip_id, payload_length) in rows {
            let marks = if is_ipv4 { marks::IPV4 } else { 0 };
            let gso_type = gso::UNKNOWN;
            columns.push(&Observation { ip_id, payload_length, marks, gso_type, ..Observation::default() });
        }
        columns
    }

    fn sizes(points: &[&Columns]) -> SegmentSizes {
        let mut sizes = SegmentSizes::new([0; 16]);
        for (point, columns) in points.iter().enumerate() {
            sizes.learn(point, columns);
        }
        sizes
    }

    #[test]
    fn identifications_tell_the_size_also_where_packets_are_missing() {
        // Ten segments, then seven of which the last is short, then two that were not captured, then one.
        let mut seen = columns(&[(65_530, 14_000), (4, 9_000), (13, 1_400), (14, 0)], true);
        sizes(&[&seen]).restore(&mut seen);
        assert_eq!((seen.gso_size.as_slice(), seen.gso_type[0]), (&[1_400, 1_400, 0, 0][..], gso::TCPV4));
    }

    #[test]
    fn a_packet_lost_behind_the_longest_one_makes_no_two_segments_of_it() {
        let mut seen = columns(&[(1, 1_200), (2, 1_300), (4, 900), (5, 0)], true);
        sizes(&[&seen]).restore(&mut seen);
        assert_eq!(seen.gso_size, [0; 4]);
        let mut whole = columns(&[(1, 2_600), (3, 1_300), (4, 0)], true);
        sizes(&[&whole]).restore(&mut whole);
        assert_eq!(whole.gso_size, [1_300, 0, 0], "two whole segments are a super-packet");
    }

    #[test]
    fn without_identifications_the_point_with_the_shortest_packets_tells() {
        let mut whole = columns(&[(0, 14_000), (0, 900)], false);
        let cut = columns(&[(0, 1_400), (0, 1_400), (0, 900)], false);
        sizes(&[&whole, &cut]).restore(&mut whole);
        assert_eq!((whole.gso_size.as_slice(), whole.gso_type[0]), (&[1_400, 0][..], gso::TCPV6));
        let mut alone = columns(&[(0, 14_000)], false);
        sizes(&[&alone.clone()]).restore(&mut alone);
        assert_eq!(alone.gso_size, [0], "one packet may be one segment");
    }

    #[test]
    fn what_carries_its_size_is_left_alone() {
        let mut known = columns(&[(1, 14_000), (11, 14_000)], true);
        known.gso_type = vec![gso::NONE; 2];
        sizes(&[&known.clone()]).restore(&mut known);
        assert_eq!(known.gso_size, [0, 0]);
    }
}
