//! What the pods send, and which of it vanishes.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::case::Case;
use super::cast::Cast;

/// When the first packet is sent, on node a's clock.
const START_NANOS: i64 = 1_750_000_000_000_000_000;
const MILLISECOND: i64 = 1_000_000;
/// A fault strikes packets sent in this stretch, milliseconds after the start: all of it is judged.
const STRUCK: std::ops::Range<i64> = 500..4_000;
/// Pings begin and end the files.
const LAST_MILLIS: i64 = 6_000;
/// How long a packet takes from pod to pod.
const WAY_NANOS: i64 = 210_000;
/// A lost segment is sent again after this time.
const RETRANSMIT_MILLIS: i64 = 200;

/// What a packet carries.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// UDP payload.
    Datagram(Vec<u8>),
    /// TCP.
    Segment(Segment),
    /// ICMP echo request from the first node's pod, reply from the second's: sequence number.
    Echo(u16),
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) is_syn: bool,
    pub(super) length: usize,
    /// `TSval` and `TSecr`, milliseconds.
    pub(super) stamps: (u32, u32),
}

/// A packet as a pod sends it.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// Node of the pod: 0 or 1.
    pub(super) from: usize,
    /// On node a's clock.
    pub(super) sent_nanos: i64,
    pub(super) ip_id: u16,
    pub(super) content: Content,
    pub(super) is_lost: bool,
}

impl Packet {
    /// `udp`, `tcp` or `icmp`.
    pub(super) fn protocol(&self) -> &'static str {
        match self.content {
            Content::Datagram(_) => "udp",
            Content::Segment(_) => "tcp",
            Content::Echo(_) => "icmp",
        }
    }
}

/// All packets in the order in which they are sent.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    pub(super) packets: Vec<Packet>,
}

impl Traffic {
    pub(super) fn new(case: &Case, cast: &Cast, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x7472_6166);
        let mut packets = pings(&mut random);
        packets.extend(datagrams(case, cast, &mut random));
        if !case.is_total {
            packets.extend(Tcp::new(case, cast, &mut random).converse());
        }
        packets.sort_by_key(|packet| packet.sent_nanos);
        Self { packets }
    }

    /// Packets of a protocol that vanish.
    pub(super) fn lost(&self, protocol: &str) -> u64 {
        self.packets.iter().filter(|packet| packet.is_lost && packet.protocol() == protocol).count() as u64
    }
}

fn at(millis: i64) -> i64 {
    START_NANOS + millis * MILLISECOND
}

/// True for every so manieth packet while the fault strikes.
fn is_struck(case: &Case, cast: &Cast, sent_nanos: i64, number: u64) -> bool {
    let is_time = STRUCK.contains(&((sent_nanos - START_NANOS) / MILLISECOND));
    case.lost_after.is_some() && is_time && (case.is_total || number.is_multiple_of(cast.every))
}

/// Two there and two back: files begin and end with a packet through every point.
fn pings(random: &mut StdRng) -> Vec<Packet> {
    let first: u16 = random.random();
    let one = |(number, millis): (u16, i64)| {
        [0, 1].map(|from| Packet {
            from,
            sent_nanos: at(millis) + from as i64 * 2 * WAY_NANOS,
            ip_id: first.wrapping_add(number * 2 + from as u16),
            content: Content::Echo(number),
            is_lost: false,
        })
    };
    [(1, 0), (2, 40), (3, LAST_MILLIS - 40), (4, LAST_MILLIS)].into_iter().flat_map(one).collect()
}

/// A datagram each 10 ms and an answer to each that arrives. A black hole begins after the pings and swallows all.
fn datagrams(case: &Case, cast: &Cast, random: &mut StdRng) -> Vec<Packet> {
    let (first, back): (u16, u16) = (random.random(), random.random());
    let span = if case.is_total { STRUCK } else { 60..LAST_MILLIS - 60 };
    let mut packets = Vec::new();
    for (number, millis) in span.step_by(10).enumerate() {
        let sent_nanos = at(millis) + random.random_range(0..3) * MILLISECOND;
        let is_lost = is_struck(case, cast, sent_nanos, number as u64);
        let payload: Vec<u8> = (0..random.random_range(12..900)).map(|_| random.random()).collect();
        let packet = |from, sent_nanos, ip_id: u16, is_lost| Packet {
            from,
            sent_nanos,
            ip_id,
            content: Content::Datagram(payload.clone()),
            is_lost,
        };
        packets.push(packet(0, sent_nanos, first.wrapping_add(number as u16), is_lost));
        if !is_lost {
            let answered = sent_nanos + 3 * WAY_NANOS;
            packets.push(packet(1, answered, back.wrapping_add(number as u16), false));
        }
    }
    packets
}

/// A connection: the first node's pod sends, the second's acknowledges.
struct Tcp {
    packets: Vec<Packet>,
    next_id: [u16; 2],
    first: [u32; 2],
}

impl Tcp {
    fn new(case: &Case, cast: &Cast, random: &mut StdRng) -> Self {
        let mut tcp = Self { packets: Vec::new(), next_id: random.random(), first: random.random() };
        let mut data = Vec::new();
        let mut seq = tcp.first[0].wrapping_add(1);
        for (number, millis) in (220..LAST_MILLIS - 300).step_by(13).enumerate() {
            let length = random.random_range(1..1_300);
            let sent_nanos = at(millis);
            let is_lost = is_struck(case, cast, sent_nanos, number as u64);
            data.push((sent_nanos, seq, length, is_lost));
            if is_lost {
                data.push((sent_nanos + RETRANSMIT_MILLIS * MILLISECOND, seq, length, false));
            }
            seq = seq.wrapping_add(length as u32);
        }
        data.sort_unstable();
        tcp.hand_shake();
        for (sent_nanos, seq, length, is_lost) in data {
            let ack = Some(tcp.first[1].wrapping_add(1));
            tcp.push(0, sent_nanos, Segment { seq, ack, length, ..Segment::default() }, is_lost);
        }
        tcp
    }

    fn hand_shake(&mut self) {
        let [here, there] = self.first;
        let syn = Segment { seq: here, is_syn: true, ..Segment::default() };
        self.push(0, at(200), syn, false);
        let syn_ack =
            Segment { seq: there, ack: Some(here.wrapping_add(1)), is_syn: true, ..Segment::default() };
        self.push(1, at(201), syn_ack, false);
        let (seq, ack) = (here.wrapping_add(1), Some(there.wrapping_add(1)));
        self.push(0, at(202), Segment { seq, ack, ..Segment::default() }, false);
    }

    /// Numbers and stamps a segment. A SYN-ACK has identification 0, as Linux sends it.
    fn push(&mut self, from: usize, sent_nanos: i64, segment: Segment, is_lost: bool) {
        let millis = ((sent_nanos - START_NANOS) / MILLISECOND) as u32;
        let stamps = (1_000_000 * (from as u32 + 1) + millis, segment.stamps.1);
        let is_syn_ack = segment.is_syn && segment.ack.is_some();
        let ip_id = if is_syn_ack { 0 } else { self.next_id[from] };
        self.next_id[from] = self.next_id[from].wrapping_add(1);
        let content = Content::Segment(Segment { stamps, ..segment });
        self.packets.push(Packet { from, sent_nanos, ip_id, content, is_lost });
    }

    /// Acknowledges what arrives, in order: RFC 9293 §3.10.7.4, with the stamp that RFC 7323 §4.3 keeps.
    fn converse(mut self) -> Vec<Packet> {
        let (mut next, mut recent) = (self.first[0].wrapping_add(1), 0);
        let mut waiting = std::collections::BTreeMap::new();
        for packet in self.packets.clone() {
            let Content::Segment(Segment { seq, length, stamps, .. }) = packet.content else { continue };
            if packet.is_lost || length == 0 {
                continue;
            }
            waiting.insert(seq.wrapping_sub(self.first[0]), length as u32);
            recent = if seq == next { stamps.0 } else { recent };
            while let Some(length) = waiting.remove(&next.wrapping_sub(self.first[0])) {
                next = next.wrapping_add(length);
            }
            let answer = Segment {
                seq: self.first[1].wrapping_add(1),
                ack: Some(next),
                stamps: (0, recent),
                ..Segment::default()
            };
            self.push(1, packet.sent_nanos + 3 * WAY_NANOS, answer, false);
        }
        self.packets
    }
}
