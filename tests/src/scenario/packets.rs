//! Losses packet by packet: the ids that the generators miss against the packets that `ctl list-lost` names.
//!
//! A datagram's id lies beyond the bytes that the product hashes, so the two are brought together by the identification,
//! which a connected socket counts up by one for each datagram and of which the sender's interface shows one, and by
//! length and time. TCP has no ids here, and IPv6 no identification: what they lose is compared by leg and count only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::Result;
use jiff::Timestamp;
use lastseen_correlate::LOST_LIMIT;
use serde::{Deserialize, Serialize};

use crate::product::ctl::Ctl;
use crate::traffic::ConversationLog;
use crate::traffic::udp::UdpPlan;

/// Clocks are off by less, and so late is no datagram after its stamp on a busy machine, nanoseconds. Identifications come
/// round later still.
const STAMP_NANOS: i64 = 5_000_000_000;

/// Largest payload that pods send in one packet: the overlay's MTU less the headers of IPv4 and UDP.
const LARGEST_WHOLE: u32 = 1_422;

/// What the generators know of the datagrams of one stream.
#[derive(Debug, Clone)]
pub struct Oracle {
    source: SocketAddr,
    destination: SocketAddr,
    sent: Vec<Datagram>,
    /// Datagrams that are handed to the kernel at once.
    step: usize,
    /// Identification of the first.
    base: u16,
    /// Places in `sent` of those that did not arrive.
    lost: BTreeSet<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Datagram {
    at: i64,
    payload: u32,
}

/// Lost datagrams, as the generators know them and as the product names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Score {
    /// Truly lost.
    pub lost: u64,
    /// Named as lost.
    pub named: u64,
    /// Named rightly, each once.
    pub right: u64,
}

/// A lost packet as `ctl list-lost -o json` prints it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LostPacket {
    first_seen: String,
    source: String,
    destination: String,
    protocol: String,
    ip_id: Option<u16>,
    payload_length: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Listed {
    packets: Vec<LostPacket>,
}

/// Every lost packet of a capture.
pub fn list(ctl: &Ctl<'_>, capture: &str) -> Result<Vec<LostPacket>> {
    parse(&ctl.ok(&["list-lost", capture, "-o", "json"])?)
}

/// Reads a `ListLostPacketsResponse`.
pub fn parse(text: &str) -> Result<Vec<LostPacket>> {
    Ok(serde_json::from_str::<Listed>(text)?.packets)
}

impl Oracle {
    /// Absent where nothing was sent, or datagrams cannot be told apart: by equal ids, or over IPv6, which numbers none.
    /// `arrives` says that what the log misses was lost where no point is: behind the last or before the first.
    pub fn new(log: &ConversationLog, plan: Option<&UdpPlan>, arrives: bool) -> Option<Self> {
        let (udp, plan) = (log.udp.as_ref()?, plan?);
        let (numbered, step) = (udp.numbered?, plan.step() as usize);
        let places: BTreeMap<u64, usize> = udp.sent.iter().copied().zip(0..).collect();
        let base = numbered.ip_id.wrapping_sub((*places.get(&numbered.id)? / step) as u16);
        let lost = if arrives { Vec::new() } else { udp.lost() };
        let datagram = |(id, at): (&u64, &i64)| Datagram { at: *at, payload: plan.size(*id) as u32 };
        Some(Self {
            step,
            base,
            source: SocketAddr::new(log.source, plan.source_port),
            destination: log.destination,
            sent: udp.sent.iter().zip(&udp.sent_at).map(datagram).collect(),
            lost: lost.iter().filter_map(|id| places.get(id).copied()).collect(),
        })
    }

    /// Leaves of the lost those that are selected, by source and id; `logs` has the stream's own.
    pub fn select(&mut self, logs: &[ConversationLog], is_selected: impl Fn(SocketAddr, u64) -> bool) {
        let is_own =
            |log: &&ConversationLog| (log.source, log.destination) == (self.source.ip(), self.destination);
        let ids = logs.iter().find(is_own).and_then(|log| log.udp.as_ref()).map(|udp| &udp.sent);
        let source = self.source;
        self.lost.retain(|place| ids.is_some_and(|ids| is_selected(source, ids[*place])));
    }

    /// Holds the packets named as lost against those that were.
    pub fn score(&self, named: &[LostPacket]) -> Score {
        let own: Vec<_> = named.iter().filter(|packet| self.is_own(packet)).collect();
        let frames = Frames::new(&own);
        let mut right = BTreeSet::new();
        for packet in &own {
            let place = frames.of(packet).map(|frame| self.place(frame));
            right.extend(place.filter(|place| self.lost.contains(place) && self.is_like(*place, packet)));
        }
        // The list names the earliest.
        let lost = self.lost.len().min(LOST_LIMIT);
        Score { lost: lost as u64, named: own.len() as u64, right: right.len() as u64 }
    }

    /// The kernel counts what it is handed, and the datagrams of a super-frame on from its number.
    fn place(&self, (first, nth): (u16, u16)) -> usize {
        usize::from(first.wrapping_sub(self.base)) * self.step + usize::from(nth)
    }

    fn is_own(&self, packet: &LostPacket) -> bool {
        let ends = [self.source, self.destination].map(|end| end.to_string());
        packet.protocol == "udp" && [&packet.source, &packet.destination] == [&ends[0], &ends[1]]
    }

    fn is_like(&self, place: usize, packet: &LostPacket) -> bool {
        let sent = self.sent[place];
        sent.is_as_long_as(packet)
            && packet.nanos().is_some_and(|at| at.abs_diff(sent.at) < STAMP_NANOS.unsigned_abs())
    }
}

/// Packets that were seen at the same time, which only those of one super-frame are.
#[derive(Debug)]
struct Frames<'l>(BTreeSet<(&'l str, u16)>);

impl<'l> Frames<'l> {
    fn new(named: &[&'l LostPacket]) -> Self {
        Self(named.iter().filter_map(|packet| Some((&*packet.first_seen, packet.ip_id?))).collect())
    }

    /// Identification of the first packet of a packet's super-frame, and its number in there.
    fn of(&self, packet: &LostPacket) -> Option<(u16, u16)> {
        let ip_id = packet.ip_id?;
        let is_in = |nth: u16| self.0.contains(&(&packet.first_seen, ip_id.wrapping_sub(nth)));
        let nth = (0..u16::MAX).take_while(|nth| is_in(nth + 1)).count() as u16;
        Some((ip_id.wrapping_sub(nth), nth))
    }
}

impl Datagram {
    /// A datagram in fragments is named by its first one.
    fn is_as_long_as(self, packet: &LostPacket) -> bool {
        let is_cut = self.payload > LARGEST_WHOLE && packet.payload_length < self.payload;
        is_cut || self.payload == packet.payload_length
    }
}

impl LostPacket {
    fn nanos(&self) -> Option<i64> {
        i64::try_from(self.first_seen.parse::<Timestamp>().ok()?.as_nanosecond()).ok()
    }
}

impl Score {
    /// Over several streams.
    #[must_use]
    pub fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            lost: sum.lost + one.lost,
            named: sum.named + one.named,
            right: sum.right + one.right,
        })
    }

    /// Truly lost, and not named.
    pub fn missed(&self) -> u64 {
        self.lost - self.right
    }

    /// Named, and not lost, or named before.
    pub fn wrong(&self) -> u64 {
        self.named - self.right
    }
}

#[cfg(test)]
mod tests {
    use super::{LostPacket, Oracle, Score};
    use crate::traffic::ConversationLog;
    use crate::traffic::log::UdpLog;
    use crate::traffic::numbering::Numbered;
    use crate::traffic::udp::UdpPlan;

    const START: i64 = 1_700_000_000_000_000_000;
    const BASE: u16 = 65_530;

    /// Twenty datagrams of two sizes, 10 ms apart, of which numbers 3 and 8 do not arrive.
    fn oracle() -> Oracle {
        let plan =
            UdpPlan { source_port: 5, sizes: vec![50, 60], per_second: 100, count: 20, ..UdpPlan::default() };
        let received = (0..20).filter(|id| ![3, 8].contains(id)).collect();
        let udp = UdpLog {
            sent: (0..20).collect(),
            received,
            sent_at: (0..20).map(|id| START + id * 10_000_000).collect(),
            numbered: Some(Numbered { id: 2, ip_id: BASE.wrapping_add(2) }),
        };
        let log = ConversationLog {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2:6".parse().unwrap(),
            udp: Some(udp),
            tcp: Vec::new(),
        };
        Oracle::new(&log, Some(&plan), false).unwrap()
    }

    fn named(id: u16, payload: u32, ip_id: Option<u16>) -> LostPacket {
        let at = jiff::Timestamp::from_nanosecond(i128::from(START + i64::from(id) * 10_000_000 - 40_000));
        LostPacket {
            first_seen: at.unwrap().to_string(),
            source: "10.0.0.1:5".into(),
            destination: "10.0.0.2:6".into(),
            protocol: "udp".into(),
            ip_id,
            payload_length: payload,
        }
    }

    fn packet(id: u16) -> LostPacket {
        named(id, if id.is_multiple_of(2) { 50 } else { 60 }, Some(BASE.wrapping_add(id)))
    }

    #[test]
    fn the_right_packets_are_recognised() {
        let score = oracle().score(&[packet(3), packet(8)]);
        assert_eq!(score, Score { lost: 2, named: 2, right: 2 });
    }

    #[test]
    fn a_neighbour_in_place_of_the_lost_is_wrong() {
        let score = oracle().score(&[packet(3), packet(9)]);
        assert_eq!((score.right, score.missed(), score.wrong()), (1, 1, 1));
    }

    /// Their identifications overlap: each begins one behind the super-frame before it.
    #[test]
    fn the_datagrams_of_lost_super_frames_are_recognised() {
        let plan =
            UdpPlan { source_port: 5, sizes: vec![50], segments: 64, count: 6_400, ..UdpPlan::default() };
        let lost = |id: &u64| [10, 11, 99].contains(&(id / 64));
        let udp = UdpLog {
            sent: (0..6_400).collect(),
            received: (0..6_400).filter(|id| !lost(id)).collect(),
            sent_at: (0..6_400).map(|id| START + id / 64 * 10_000_000).collect(),
            numbered: Some(Numbered { id: 128, ip_id: BASE.wrapping_add(2) }),
        };
        let (source, destination) = ("10.0.0.1".parse().unwrap(), "10.0.0.2:6".parse().unwrap());
        let log = ConversationLog { source, destination, udp: Some(udp), tcp: Vec::new() };
        let oracle = Oracle::new(&log, Some(&plan), false).unwrap();
        let frame = |frame: u16, first: u16| {
            (0..64).map(move |nth| named(frame, 50, Some(BASE.wrapping_add(first + nth))))
        };
        let right: Vec<_> = [10, 11, 99].into_iter().flat_map(|number| frame(number, number)).collect();
        assert_eq!(oracle.score(&right), Score { lost: 192, named: 192, right: 192 });
        let neighbor: Vec<_> = [10, 11, 98].into_iter().flat_map(|number| frame(number, number)).collect();
        assert_eq!(oracle.score(&neighbor).right, 128);
        let shifted: Vec<_> = right[..128].iter().cloned().chain(frame(99, 100)).collect();
        assert_eq!(oracle.score(&shifted).right, 128);
    }

    #[test]
    fn one_packet_named_twice_is_right_once() {
        let score = oracle().score(&[packet(3), packet(3)]);
        assert_eq!((score.right, score.wrong()), (1, 1));
    }

    #[test]
    fn a_packet_without_identification_is_not_recognised() {
        let bare = |id| LostPacket { ip_id: None, ..packet(id) };
        assert_eq!(oracle().score(&[bare(8), bare(3)]).right, 0);
    }

    #[test]
    fn packets_of_others_do_not_count() {
        let other = LostPacket { source: "10.0.0.3:5".into(), ..packet(3) };
        assert_eq!(oracle().score(&[other]).named, 0);
    }
}
