//! Faults: each strikes packets at one known place and counts, by itself, those it struck; most swallow them.
//!
//! Every counter counts kernel packets. They equal segments where the wire carries no super-frames; a
//! scenario that counts bulk TCP therefore turns segmentation offload off in front of the fault.

mod ack_drop;
mod asymmetric;
mod bearing;
mod bridged_overlay;
pub mod cable;
mod cast;
mod conntrack_invalid;
mod duplicate_address;
mod duplication;
mod fdb_missing;
mod forward_drop;
mod fragmentation;
mod hairpin;
mod hook_drop;
pub mod host_ends;
mod injected;
mod inner_mac_wrong;
mod ipv6_carrier;
mod kind;
mod mtu_black_hole;
pub mod nat;
mod neighbor_missing;
mod nft;
mod no_route;
pub mod offload;
mod packet_too_big;
mod port_mismatch;
mod prerouting_drop;
mod queue;
mod receiver_routing;
mod redirect;
mod same_node;
mod second_overlay;
mod second_underlay;
pub mod service_black_hole;
mod snat_exhausted;
mod spoofed_source;
mod switch_loss;
mod time_exceeded;
mod two_underlays;
mod vni_mismatch;
mod vxlan_blocked;
mod xdp_drop;

use anyhow::Result;

use self::cast::to_receiver;
pub use self::cast::{Cast, Side};
pub use self::injected::Injected;
pub use self::kind::{Fault, Layer};

impl Fault {
    /// Injects the fault between the cast's sender and receiver.
    pub fn inject<'lab>(&self, cast: Cast<'lab>) -> Result<Injected<'lab>> {
        match self {
            Self::None
            | Self::AllPairs
            | Self::AgentKilled { .. }
            | Self::ControlDelayed { .. }
            | Self::ClockOff { .. }
            | Self::AgentLate { .. }
            | Self::AgentAbsent { .. }
            | Self::AgentPaused { .. } => Ok(Injected::new(|| Ok(0), || Ok(()))),
            Self::ForwardDrop { percent } => forward_drop::inject(cast, *percent),
            Self::VxlanBlocked { at } => vxlan_blocked::inject(cast, *at),
            Self::FdbMissing => fdb_missing::inject(cast),
            Self::SwitchLoss { percent } => switch_loss::inject(cast, *percent),
            Self::PacketTooBig => packet_too_big::inject(cast),
            Self::VniMismatch => vni_mismatch::inject(cast),
            Self::PortMismatch => port_mismatch::inject(cast),
            Self::PreroutingDrop { percent } => prerouting_drop::inject(cast, *percent),
            Self::HookDrop { at, percent } => hook_drop::inject(cast, *at, *percent),
            Self::NeighborMissing => neighbor_missing::inject(cast),
            Self::InnerMacWrong => inner_mac_wrong::inject(cast),
            Self::NoRoute => no_route::inject(cast),
            Self::ForwardingOff => receiver_routing::forwarding_off(cast),
            Self::ReversePath => receiver_routing::reverse_path(cast),
            Self::SpecialRoute { route } => receiver_routing::special_route(cast, route),
            Self::PodGone => receiver_routing::pod_gone(cast),
            Self::VethDown => receiver_routing::veth_down(cast),
            Self::PortDisabled => receiver_routing::port_disabled(cast),
            Self::TimeExceeded { at } => time_exceeded::inject(cast, *at),
            Self::QueueOverflow => queue::overflow(cast),
            Self::QueueBacklog => queue::backlog(cast),
            Self::Duplication => duplication::inject(cast),
            Self::OuterFragmentation => fragmentation::outer(cast),
            Self::LaterFragmentLoss { layer, percent } => fragmentation::loss(cast, *layer, *percent),
            Self::Conntrack => fragmentation::conntrack(cast),
            Self::MtuBlackHole => mtu_black_hole::inject(cast),
            Self::Cable { mischief } => cable::inject(cast, *mischief),
            Self::AckDrop { percent } => ack_drop::inject(cast, *percent),
            Self::Nat { way, lost_percent } => nat::inject(cast, *way, *lost_percent),
            Self::ServiceBlackHole { way, at } => service_black_hole::inject(cast, *way, *at),
            Self::ConntrackInvalid => conntrack_invalid::inject(cast),
            Self::SpoofedSource => spoofed_source::inject(cast),
            Self::SnatExhausted => snat_exhausted::inject(cast),
            Self::SameNode { lost_percent } => same_node::inject(cast, *lost_percent),
            Self::HostEnds { way, lost_percent } => host_ends::inject(cast, *way, *lost_percent),
            Self::Hairpin { lost_percent } => hairpin::inject(cast, *lost_percent),
            Self::SecondOverlay { lost_percent } => second_overlay::inject(cast, *lost_percent),
            Self::Asymmetric { lost_percent } => asymmetric::inject(cast, *lost_percent),
            Self::Ipv6Carrier { lost_percent } => ipv6_carrier::inject(cast, *lost_percent),
            Self::TwoUnderlays { lost_percent } => two_underlays::inject(cast, *lost_percent),
            Self::DuplicateAddress => duplicate_address::inject(cast),
            Self::RedirectPeer => redirect::into_pod(cast),
            Self::RedirectNeighbor => redirect::into_tunnel(cast),
            Self::BridgedOverlay { lost_percent } => bridged_overlay::inject(cast, *lost_percent),
            Self::XdpDrop { at, percent } => xdp_drop::inject(cast, *at, *percent),
        }
    }
}
