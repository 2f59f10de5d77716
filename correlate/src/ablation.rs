//! The method with one of its ideas taken away, to measure what that idea is worth. For measurement only: no program
//! offers it, and no report made with one is to be believed.

use std::collections::HashSet;

use lastseen_packet::observation::{Observation, SipKey, gso, marks};

use crate::evidence::sighting::Sighting;
use crate::input::Window;

/// An idea that a run does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ablation {
    /// The identity leaves out the IP identification.
    IpId,
    /// Identities are a set: of the copies that a point saw, only the first counts.
    Multiset,
    /// Super-packets are one segment.
    Gso,
    /// Recording ends with the window: there is no guard behind it.
    Guard,
}

impl Ablation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::IpId, Self::Multiset, Self::Gso, Self::Guard];

    /// The row as a method without the idea sees it, which came at `time` on the coordinator's clock; absent if it
    /// does not see it at all.
    pub(crate) fn see(self, mut row: Observation, time: i64, window: Window) -> Option<Observation> {
        match self {
            // Only over IPv4 is the identification part of the identity.
            Self::IpId => row.marks &= !marks::IPV4,
            Self::Gso => (row.gso_type, row.gso_size) = (gso::NONE, 0),
            Self::Guard if time >= window.end_nanos => return None,
            Self::Guard | Self::Multiset => {}
        }
        Some(row)
    }

    /// Leaves of the sightings of one point, in order of time, those that count.
    pub(crate) fn sift(self, of_point: &mut Vec<Sighting>, known: &mut HashSet<(u64, u32), SipKey>) {
        if self == Self::Multiset {
            of_point.retain(|sighting| known.insert((sighting.k0, sighting.owner)));
        }
    }
}
