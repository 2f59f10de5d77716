//! Flow records: one per observation point and flow, and the conversations they belong to.

mod rows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use lastseen_packet::Segment;
use lastseen_packet::observation::{FlowKey, Observation, OverlayKind, SipKey, protocol};

use crate::clock::Clocks;
use crate::evidence::bytes_seen::{Arrival, BytesSeen};
use crate::evidence::class::Class;
use crate::evidence::sighting::Sighting;
use crate::fabric::domain::Domain;
use crate::input::Job;
use crate::matching::acks::{REPEAT_LIMIT, Repeat};
use crate::report::{FlowRecord, OverlayReport};
use crate::translation::{Joins, Onward};

/// Most flows of a run, of all points.
pub(crate) const FLOW_LIMIT: usize = 1 << 22;

/// One direction of a 5-tuple within a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Conversation {
    pub(crate) domain: Domain,
    /// The 5-tuple, without a tunnel unless it is one that cannot be looked into.
    pub(crate) tuple: FlowKey,
}

impl Conversation {
    /// The other direction.
    pub(crate) fn reversed(mut self) -> Self {
        let tuple = &mut self.tuple;
        (tuple.source, tuple.destination) = (tuple.destination, tuple.source);
        (tuple.source_port, tuple.destination_port) = (tuple.destination_port, tuple.source_port);
        self
    }
}

/// A flow at a point while it is counted.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) point: u16,
    /// Set by [`Flows::converse`].
    pub(crate) conversation: u32,
    pub(crate) key: FlowKey,
    pub(crate) segments: u64,
    pub(crate) packets: u64,
    octets: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    flags: u8,
    retransmissions: u64,
    out_of_order: u64,
    length: (u32, u32),
    /// Lowest and highest.
    pub(crate) ttl: (u8, u8),
    class: Class,
}

/// By flow, which bytes one point has seen.
pub(crate) type Streams = HashMap<u32, BytesSeen, SipKey>;

/// All flows of a run.
#[derive(Debug)]
pub(crate) struct Flows {
    pub(crate) all: Vec<Flow>,
    pub(crate) conversations: Vec<Conversation>,
    /// What every conversation that was joined to others was joined to: itself, or the one whose tuple was first.
    heads: HashMap<u32, u32, SipKey>,
    /// The further tuples of conversations that were translated, in the order packets have them.
    later: BTreeMap<u32, Vec<FlowKey>>,
    /// Of these, those whose last tuple nobody saw, and the node that gives it to them.
    onward: BTreeMap<u32, usize>,
    /// Conversations that may go on unseen: nothing is known beyond the last point that saw them.
    pub(crate) doubtful: HashSet<u32>,
    /// Conversations that may have been translated behind the last point that saw them.
    pub(crate) vanished: HashSet<u32>,
    by_key: HashMap<(u16, FlowKey), u32, SipKey>,
}

impl Flows {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self {
            all: Vec::new(),
            conversations: Vec::new(),
            heads: HashMap::with_hasher(SipKey(key)),
            later: BTreeMap::new(),
            onward: BTreeMap::new(),
            doubtful: HashSet::new(),
            vanished: HashSet::new(),
            by_key: HashMap::with_hasher(SipKey(key)),
        }
    }

    /// The index of a flow at a point.
    pub(crate) fn intern(&mut self, point: u16, key: &FlowKey) -> u32 {
        *self.by_key.entry((point, *key)).or_insert_with(|| {
            self.all.push(Flow::new(point, *key));
            self.all.len() as u32 - 1
        })
    }

    /// Groups the flows into conversations, once all are known.
    pub(crate) fn converse(&mut self, mut domain: impl FnMut(usize, &FlowKey) -> Domain) {
        let mut known: HashMap<Conversation, u32, SipKey> = HashMap::with_hasher(*self.by_key.hasher());
        // Unknown tunnels and bridges are numbered as they come up: not in the order in which batches came.
        let mut all: Vec<&mut Flow> = self.all.iter_mut().collect();
        all.sort_unstable_by(|a, b| (a.point, &a.key).cmp(&(b.point, &b.key)));
        for flow in all {
            let domain = domain(usize::from(flow.point), &flow.key);
            let conversation = Conversation { domain, tuple: bare(&flow.key) };
            flow.conversation = *known.entry(conversation).or_insert_with(|| {
                self.conversations.push(conversation);
                self.conversations.len() as u32 - 1
            });
        }
        self.number();
    }

    /// Numbers the conversations in their own order, not in that in which batches came.
    fn number(&mut self) {
        let mut order: Vec<u32> = (0..self.conversations.len() as u32).collect();
        order.sort_unstable_by_key(|&old| self.conversations[old as usize]);
        let mut numbers = vec![0; order.len()];
        for (&old, new) in order.iter().zip(0_u32..) {
            numbers[old as usize] = new;
        }
        self.conversations.sort_unstable();
        for flow in &mut self.all {
            flow.conversation = numbers[flow.conversation as usize];
        }
    }

    /// Makes translated conversations one, under the first of their tuples.
    pub(crate) fn join(&mut self, joins: Joins) {
        for chain in joins.chains {
            let Some((&head, rest)) = chain.split_first() else { continue };
            self.heads.extend(chain.iter().map(|&member| (member, head)));
            let tuples = rest.iter().map(|&member| self.conversations[member as usize].tuple);
            self.later.insert(head, tuples.collect());
        }
        for Onward { conversation, tuple, node } in joins.onward {
            self.later.entry(conversation).or_default().push(tuple);
            self.onward.insert(conversation, node);
        }
        self.doubtful = joins.doubtful;
        if !self.heads.is_empty() {
            for flow in &mut self.all {
                flow.conversation = self.heads.get(&flow.conversation).copied().unwrap_or(flow.conversation);
            }
        }
    }

    /// The tuples a conversation has beyond translations, in order.
    pub(crate) fn later_tuples(&self, conversation: u32) -> &[FlowKey] {
        self.later.get(&conversation).map_or(&[], Vec::as_slice)
    }

    /// The node that gives a conversation the last of its tuples, with which nobody saw it.
    pub(crate) fn onward(&self, conversation: u32) -> Option<usize> {
        self.onward.get(&conversation).copied()
    }

    /// The address at which the packets of a conversation arrive, translations undone.
    pub(crate) fn destination(&self, conversation: u32) -> IpAddr {
        let own = &self.conversations[conversation as usize].tuple;
        self.later_tuples(conversation).last().unwrap_or(own).destination
    }

    /// Conversations that were translated, each with all its tuples.
    pub(crate) fn translated(&self) -> impl Iterator<Item = (u32, Vec<FlowKey>)> {
        self.later.iter().map(|(&head, later)| {
            let first = self.conversations[head as usize].tuple;
            (head, [first].into_iter().chain(later.iter().copied()).collect())
        })
    }

    /// The conversation that stands for this one: its own, or the one with the first of its tuples.
    pub(crate) fn head(&self, conversation: u32) -> u32 {
        self.heads.get(&conversation).copied().unwrap_or(conversation)
    }

    /// Counts one captured packet of flow `index`.
    pub(crate) fn count(&mut self, index: u32, row: &Observation, shift_nanos: i64) {
        let flow = &mut self.all[index as usize];
        let time = row.time_nanos.saturating_add(shift_nanos);
        flow.packets += 1;
        flow.octets += u64::from(row.ip_length);
        flow.first = flow.first.min(time);
        flow.last = flow.last.max(time);
        flow.flags |= row.tcp_flags;
        flow.length = (flow.length.0.min(row.ip_length), flow.length.1.max(row.ip_length));
        flow.ttl = (flow.ttl.0.min(row.ttl), flow.ttl.1.max(row.ttl));
        flow.class.add(row.traffic_class);
    }

    /// Puts first and last times onto the coordinator's clock.
    pub(crate) fn correct(&mut self, job: &Job, clocks: &Clocks) {
        for flow in self.all.iter_mut().filter(|flow| flow.packets > 0) {
            let node = job.points[usize::from(flow.point)].node;
            flow.first = clocks.correct(node, flow.first);
            flow.last = clocks.correct(node, flow.last);
        }
    }

    /// The streams of a point, of which nothing was seen yet.
    pub(crate) fn streams(&self) -> Streams {
        HashMap::with_hasher(*self.by_key.hasher())
    }

    /// Retransmissions and late arrivals of one point, whose sightings are in order of time and name their flow. Bytes
    /// that were seen before are added to `repeats`.
    pub(crate) fn follow_streams(
        &mut self,
        streams: &mut Streams,
        sightings: &[Sighting],
        repeats: &mut Vec<Repeat>,
    ) {
        for sighting in sightings {
            let flow = &mut self.all[sighting.owner as usize];
            let length = sighting.payload_length();
            if flow.key.protocol != protocol::TCP || length == 0 {
                continue;
            }
            let arrival = streams.entry(sighting.owner).or_default().add(sighting.tcp_seq, length);
            match arrival {
                Arrival::InOrder => continue,
                Arrival::OutOfOrder { .. } => flow.out_of_order += 1,
                Arrival::Retransmission => flow.retransmissions += 1,
            }
            if arrival != (Arrival::OutOfOrder { overlaps: false }) && repeats.len() < REPEAT_LIMIT {
                let Sighting { owner, tcp_seq: seq, time, point, .. } = *sighting;
                repeats.push(Repeat { owner, seq, length, time, point });
            }
        }
    }

    /// DSCP and ECN of every conversation, as the first point of its path saw them.
    pub(crate) fn classes(&self, position: impl Fn(u32, u16) -> Option<u32>) -> Vec<Class> {
        let mut nearest = vec![(u32::MAX, Class::default()); self.conversations.len()];
        for flow in self.all.iter().filter(|flow| flow.packets > 0) {
            let at = position(flow.conversation, flow.point).unwrap_or(u32::MAX - 1);
            let known = &mut nearest[flow.conversation as usize];
            match at.cmp(&known.0) {
                std::cmp::Ordering::Less => *known = (at, flow.class),
                std::cmp::Ordering::Equal => known.1.merge(flow.class),
                std::cmp::Ordering::Greater => {}
            }
        }
        nearest.into_iter().map(|(_, class)| class).collect()
    }
}

impl Flow {
    fn new(point: u16, key: FlowKey) -> Self {
        Self {
            point,
            conversation: u32::MAX,
            key,
            segments: 0,
            packets: 0,
            octets: 0,
            first: i64::MAX,
            last: i64::MIN,
            flags: 0,
            retransmissions: 0,
            out_of_order: 0,
            length: (u32::MAX, 0),
            ttl: (u8::MAX, 0),
            class: Class::default(),
        }
    }

    /// The tunnel the flow was seen in.
    pub(crate) fn overlay(&self) -> Option<OverlayReport> {
        self.key.overlay.map(|overlay| OverlayReport { kind: overlay.kind, id: overlay.id })
    }

    /// Nothing at a point that does not tell its directions apart.
    fn record(&self, job: &Job) -> Option<FlowRecord> {
        let point = &job.points[usize::from(self.point)];
        Some(FlowRecord {
            node: job.nodes[point.node].name.clone(),
            interface: point.interface.clone(),
            direction: point.direction?,
            source_address: self.key.source,
            destination_address: self.key.destination,
            protocol_identifier: self.key.protocol,
            source_transport_port: self.key.source_port,
            destination_transport_port: self.key.destination_port,
            overlay: self.overlay(),
            packet_delta_count: self.packets,
            octet_delta_count: self.octets,
            segments: self.segments,
            flow_start_nanos: self.first,
            flow_end_nanos: self.last,
            tcp_control_bits: self.flags,
            retransmissions: self.retransmissions,
            out_of_order: self.out_of_order,
            minimum_ip_total_length: self.length.0,
            maximum_ip_total_length: self.length.1,
            minimum_ttl: self.ttl.0,
            maximum_ttl: self.ttl.1,
            aggregate: None,
        })
    }
}

/// The tuple without the tunnel around it. Where the tunnel is opaque it is all there is.
pub(crate) fn bare(key: &FlowKey) -> FlowKey {
    let overlay = key.overlay.filter(|overlay| crate::fabric::domain::is_opaque(overlay.kind));
    FlowKey { overlay, ..*key }
}

/// `vxlan 1`, or `inner` where there is no tunnel.
pub(crate) fn view(overlay: Option<OverlayReport>) -> String {
    let Some(OverlayReport { kind, id }) = overlay else { return "inner".to_owned() };
    match kind {
        OverlayKind::None => "inner".to_owned(),
        OverlayKind::IpInIp => kind.name().to_owned(),
        _ => format!("{} {id}", kind.name()),
    }
}

/// True for the segments that are matched: of a datagram in fragments, the one with the transport header. It is what
/// makes a datagram useful, and the only piece that names its flow at every hop.
pub(crate) fn is_matched(segment: &Segment) -> bool {
    segment.fragment_offset == 0 && segment.marks & lastseen_packet::observation::marks::OUTER_FRAGMENT == 0
}
