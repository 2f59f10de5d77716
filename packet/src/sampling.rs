//! Hash-based selection of packets (PSAMP, RFC 5475 §6.2), alike at every hop.
//!
//! Selected is what the hash of Ks is small enough for. Ks is the part of a canonical segment that every hop sees alike,
//! whatever is translated, encapsulated, segmented, merged or fragmented on the way, so all points select the same
//! segments without a word between them; and what a lower threshold selects a higher one selects too.

use crate::identity::{IdentityKey, k0};
use crate::observation::{FlowKey, Observation, marks, protocol};
use crate::segment::segment_count;

/// What separates selection from the keys of packets and datagrams.
const SELECTION: u64 = 1 << 63;

/// The share of segments that is selected: those whose hash is at most this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(u64);

impl Default for Threshold {
    fn default() -> Self {
        Self::ALL
    }
}

impl Threshold {
    /// Selects everything.
    pub const ALL: Self = Self(u64::MAX);

    /// One in `interval` segments; of none, all.
    pub const fn one_in(interval: u32) -> Self {
        Self(u64::MAX / if interval == 0 { 1 } else { interval as u64 })
    }

    /// The largest hash that is selected, as batches carry it.
    pub const fn largest_hash(self) -> u64 {
        self.0
    }

    /// From the largest hash that is selected.
    pub const fn up_to(largest_hash: u64) -> Self {
        Self(largest_hash)
    }

    /// Of how many segments one is selected, rounded down; what [`Threshold::one_in`] was given.
    pub fn interval(self) -> u32 {
        u64::MAX.checked_div(self.0).and_then(|interval| u32::try_from(interval).ok()).unwrap_or(u32::MAX)
    }

    /// True if everything is selected.
    pub const fn is_all(self) -> bool {
        self.0 == u64::MAX
    }

    /// True if a segment with this [`Ks::hash`] is selected.
    #[inline]
    pub const fn selects(self, hash: u64) -> bool {
        hash <= self.0
    }
}

/// What of a segment decides whether it is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ks {
    /// TCP with payload: the sequence number of its first byte, so that a retransmission is selected with its original
    /// and a fragment with its whole.
    Sequence(u32),
    /// IPv4 but TCP: fragments have it as the whole datagram does.
    Identification {
        /// IANA protocol number.
        protocol: u8,
        /// Not 0.
        ip_id: u16,
    },
    /// K0, of what is never fragmented on its way and has neither: TCP without payload, whose sequence number stands
    /// still, IPv4 without identification (RFC 6864 §4.1) and IPv6.
    Identity(u64),
}

/// What [`Ks`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct Basis {
    /// IANA protocol number.
    pub protocol: u8,
    /// IPv4, else IPv6.
    pub is_ipv4: bool,
    /// A fragment of a datagram; of TCP the first, which has the sequence number.
    pub is_fragment: bool,
    /// Has transport payload.
    pub has_payload: bool,
    /// TCP sequence number.
    pub tcp_seq: u32,
    /// IP identification.
    pub ip_id: u16,
}

impl Ks {
    /// Absent for fragments of which the whole shows nothing that they show. `k0` is asked for only where it counts; its
    /// lowest bit does not.
    #[inline]
    pub fn of(basis: &Basis, k0: impl FnOnce() -> Option<u64>) -> Option<Self> {
        let &Basis { protocol, is_ipv4, is_fragment, has_payload, tcp_seq, ip_id } = basis;
        if protocol == protocol::TCP && (has_payload || is_fragment) {
            Some(Self::Sequence(tcp_seq))
        } else if protocol != protocol::TCP && is_ipv4 && ip_id != 0 {
            Some(Self::Identification { protocol, ip_id })
        } else if is_fragment {
            None
        } else {
            k0().map(|k0| Self::Identity(k0 >> 1))
        }
    }

    /// The hash that is held against a [`Threshold`].
    #[inline]
    pub fn hash(self, key: &IdentityKey) -> u64 {
        let (kind, value) = match self {
            Self::Sequence(seq) => (0, u64::from(seq)),
            Self::Identification { protocol, ip_id } => (1, u64::from(protocol) | u64::from(ip_id) << 8),
            Self::Identity(k0) => (2, k0),
        };
        key.hash_words([SELECTION | kind, value])
    }
}

/// Selects the rows of one capture.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    key: IdentityKey,
    threshold: Threshold,
}

impl Sampler {
    /// Selects under the secret of the capture.
    pub fn new(key: IdentityKey, threshold: Threshold) -> Self {
        Self { key, threshold }
    }

    /// The threshold.
    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// Whether any segment of `row` is selected. What has no Ks always is, and what has one that the snap length cut.
    #[inline]
    pub fn keeps(&self, flow: &FlowKey, row: &Observation) -> bool {
        self.threshold.is_all() || self.keeps_some(flow, row)
    }

    fn keeps_some(&self, flow: &FlowKey, row: &Observation) -> bool {
        let selects = |ks: Ks| self.threshold.selects(ks.hash(&self.key));
        match segment_count(flow.protocol, row) {
            1 => self.ks(flow, row).is_none_or(selects),
            count => {
                let seq = |index: u32| row.tcp_seq.wrapping_add(index.wrapping_mul(row.gso_size.into()));
                (0..count).any(|index| selects(Ks::Sequence(seq(index))))
            }
        }
    }

    fn ks(&self, flow: &FlowKey, row: &Observation) -> Option<Ks> {
        let is_later_tcp = flow.protocol == protocol::TCP && row.fragment_offset != 0;
        if is_later_tcp || row.marks & marks::OUTER_FRAGMENT != 0 {
            return None;
        }
        let basis = Basis {
            protocol: flow.protocol,
            is_ipv4: row.marks & marks::IPV4 != 0,
            is_fragment: row.is_fragment(),
            has_payload: row.payload_length != 0,
            tcp_seq: row.tcp_seq,
            ip_id: row.ip_id,
        };
        Ks::of(&basis, || (row.marks & marks::HASH_TRUNCATED == 0).then(|| k0(&self.key, flow, row)))
    }
}
