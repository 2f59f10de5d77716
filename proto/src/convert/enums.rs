//! Enumerations, one table each. An unknown number from a newer peer reads as unspecified.

use lastseen_correlate::input::CaptureState;
use lastseen_correlate::report::Verdict;
use lastseen_correlate::topology::{Direction, InterfaceKind};
use lastseen_packet::observation::OverlayKind;

use crate::v1;

/// `From` in both directions between two enumerations with variants of the same meaning.
macro_rules! same {
    ($wire:path, $domain:path, $($w:ident = $d:ident),+ $(,)?) => {
        impl From<$domain> for $wire {
            fn from(value: $domain) -> Self {
                match value { $(<$domain>::$d => Self::$w,)+ }
            }
        }

        impl From<$wire> for $domain {
            fn from(value: $wire) -> Self {
                match value { $(<$wire>::$w => Self::$d,)+ }
            }
        }
    };
}

same!(
    v1::InterfaceKind,
    InterfaceKind,
    Unspecified = Unspecified,
    PodVeth = PodVeth,
    Veth = Veth,
    Bridge = Bridge,
    Overlay = Overlay,
    Physical = Physical,
    Loopback = Loopback,
    Other = Other
);

same!(
    v1::OverlayKind,
    OverlayKind,
    Unspecified = None,
    Vxlan = Vxlan,
    VxlanGpe = VxlanGpe,
    Geneve = Geneve,
    Gre = Gre,
    IpInIp = IpInIp,
    Mpls = Mpls,
    Wireguard = WireGuard,
    Esp = Esp,
    Ah = Ah
);

same!(
    v1::CaptureState,
    CaptureState,
    Unspecified = Unspecified,
    Pending = Pending,
    Arming = Arming,
    Armed = Armed,
    Running = Running,
    Draining = Draining,
    Correlating = Correlating,
    Completed = Completed,
    Failed = Failed,
    Cancelled = Cancelled
);

impl From<Direction> for v1::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::In => Self::In,
            Direction::Out => Self::Out,
        }
    }
}

/// A direction, absent if it is unspecified: a point without one names no place.
pub(super) fn direction(number: i32) -> Option<Direction> {
    match v1::Direction::try_from(number) {
        Ok(v1::Direction::In) => Some(Direction::In),
        Ok(v1::Direction::Out) => Some(Direction::Out),
        _ => None,
    }
}

impl From<Verdict> for v1::diff_report::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Delivered => Self::Delivered,
            Verdict::Lost => Self::Lost,
            Verdict::Inconclusive => Self::Inconclusive,
        }
    }
}

impl From<v1::diff_report::Verdict> for Verdict {
    fn from(verdict: v1::diff_report::Verdict) -> Self {
        match verdict {
            v1::diff_report::Verdict::Delivered => Self::Delivered,
            v1::diff_report::Verdict::Lost => Self::Lost,
            v1::diff_report::Verdict::Inconclusive | v1::diff_report::Verdict::Unspecified => {
                Self::Inconclusive
            }
        }
    }
}
