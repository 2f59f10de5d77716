//! What a fault means for the traffic and for what a report must say of it.

use std::net::IpAddr;

use super::cast::{Cast, Side};
use super::kind::Fault;
use super::service_black_hole::Hole;
use super::{
    bridged_overlay, cable, duplicate_address, hairpin, host_ends, nat, same_node, second_overlay,
    snat_exhausted, spoofed_source, two_underlays,
};
use crate::lab::node::Node;
use crate::traffic::{Conversation, End};

impl Fault {
    /// The one of the two nodes that the third may talk to, where the fault hits everything at the other.
    pub fn spares(&self) -> Option<Side> {
        match self {
            Self::ForwardingOff
            | Self::SpecialRoute { .. }
            | Self::PodGone
            | Self::VethDown
            | Self::PortDisabled
            | Self::DuplicateAddress
            | Self::MtuBlackHole => Some(Side::Sender),
            Self::QueueOverflow | Self::QueueBacklog => Some(Side::Receiver),
            _ => None,
        }
    }

    /// Whether it strikes what the receiver's pod sends back.
    pub fn strikes_answers(&self) -> bool {
        matches!(self, Self::AckDrop { .. })
    }

    /// Aims the conversation between the two pods at what the fault is about.
    pub fn aim<'lab>(&self, conversation: &mut Conversation<'lab>, cast: Cast<'lab>) {
        match self {
            Self::Nat { way, .. } | Self::ServiceBlackHole { way, .. } => nat::aim(conversation, *way, cast),
            Self::SpoofedSource => spoofed_source::aim(conversation, cast),
            Self::SnatExhausted => snat_exhausted::aim(conversation),
            Self::SameNode { .. } => same_node::aim(conversation, cast),
            Self::HostEnds { way, .. } => host_ends::aim(conversation, cast, *way),
            Self::Hairpin { .. } => hairpin::aim(conversation, cast),
            Self::SecondOverlay { .. } => second_overlay::aim(conversation, cast),
            Self::BridgedOverlay { .. } => bridged_overlay::aim(conversation, cast),
            _ => {}
        }
    }

    /// Ends of the conversations that it takes beside the usual two.
    pub fn others<'lab>(&self, cast: Cast<'lab>) -> Vec<[End<'lab>; 2]> {
        let Cast { sender, receiver, bystander, family, .. } = cast;
        let pod = |node: &'lab Node| End { netns: &node.pod, address: node.plan.pod_in(family) };
        match self {
            Self::AllPairs => {
                let others = [(receiver, sender), (sender, bystander), (bystander, sender)];
                let others = others.into_iter().chain([(receiver, bystander), (bystander, receiver)]);
                others.map(|(from, to)| [pod(from), pod(to)]).collect()
            }
            Self::TwoUnderlays { .. } => vec![[pod(sender), pod(receiver)]; two_underlays::CONVERSATIONS],
            Self::DuplicateAddress => duplicate_address::others(cast),
            Self::BridgedOverlay { .. } => bridged_overlay::others(cast),
            _ => Vec::new(),
        }
    }

    /// How many further tuples the report must name of the stream into it, all given to it by the sender's node.
    pub fn translations(&self) -> usize {
        match self {
            Self::Nat { way, .. } => way.translations(),
            // What a packet is between two translations is not seen there, and what was forgotten is not told.
            Self::Hairpin { .. } | Self::ServiceBlackHole { at: Hole::Neighbor, .. } => 1,
            _ => 0,
        }
    }

    /// Whether it changes packets.
    pub fn corrupts(&self) -> bool {
        matches!(self, Self::Cable { mischief: cable::Mischief::Corrupt { .. } })
    }

    /// Whether it counts packets of which it sends a copy.
    pub fn doubles(&self) -> bool {
        matches!(self, Self::Cable { mischief: cable::Mischief::Double { .. } })
    }

    /// Source address with which packets of the sender's pod arrive at the receiver's node.
    pub fn source_beyond(&self, cast: Cast<'_>) -> IpAddr {
        match self {
            Self::Nat { way, .. } | Self::ServiceBlackHole { way, .. } => nat::beyond(cast, *way)[0].into(),
            Self::SpoofedSource => spoofed_source::source(cast),
            Self::HostEnds { way, .. } => host_ends::ends(cast, *way)[0].address,
            Self::Hairpin { .. } => cast.sender.plan.gateway().into(),
            Self::SecondOverlay { .. } => cast.sender.plan.neighbor.apart.into(),
            _ => cast.sender.plan.pod_in(cast.family),
        }
    }

    /// Destination address with which they arrive.
    pub fn destination_beyond(&self, cast: Cast<'_>) -> IpAddr {
        match self {
            Self::Nat { way, .. } | Self::ServiceBlackHole { way, .. } => nat::beyond(cast, *way)[1].into(),
            Self::SameNode { .. } => cast.sender.plan.neighbor.address.into(),
            Self::HostEnds { way, .. } => host_ends::ends(cast, *way)[1].address,
            Self::Hairpin { .. } => cast.sender.plan.pod.into(),
            Self::SecondOverlay { .. } => cast.receiver.plan.neighbor.apart.into(),
            _ => cast.receiver.plan.pod_in(cast.family),
        }
    }

    /// Whether what it counts are packets that it lost.
    pub fn counts_losses(&self) -> bool {
        self.strikes_packets() && !matches!(self, Self::QueueBacklog)
    }

    /// Whether packets meet it, so that it must have counted some.
    pub fn strikes_packets(&self) -> bool {
        !matches!(
            self,
            Self::None
                | Self::AllPairs
                | Self::AgentKilled { .. }
                | Self::AgentPaused { .. }
                | Self::AgentLate { .. }
                | Self::AgentAbsent { .. }
                | Self::ControlDelayed { .. }
                | Self::ClockOff { .. }
        )
    }
}
