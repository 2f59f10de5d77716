//! Faults: each strikes packets at one known place and counts, by itself, those it struck; most swallow them.
//!
//! Every counter counts kernel packets. They equal segments where the wire carries no super-frames; a
//! scenario that counts bulk TCP therefore turns segmentation offload off in front of the fault.

mod ack_drop;
mod asymmetric;
mod bridged_overlay;
pub mod cable;
mod conntrack_invalid;
mod duplicate_address;
mod duplication;
mod fdb_missing;
mod forward_drop;
mod fragmentation;
mod hairpin;
mod hook_drop;
pub mod host_ends;
mod inner_mac_wrong;
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
mod snat_exhausted;
mod spoofed_source;
mod switch_loss;
mod time_exceeded;
mod two_underlays;
mod vni_mismatch;
mod vxlan_blocked;
mod xdp_drop;

use std::net::IpAddr;
use std::rc::Rc;

use anyhow::Result;
use serde::Deserialize;

use crate::lab::Lab;
use crate::lab::bpf::Attached;
use crate::lab::node::Node;
use crate::lab::plan::Family;
use crate::scenario::file::Point;
use crate::traffic::{Conversation, End};

/// Who plays which part in a scenario.
#[derive(Debug, Clone, Copy)]
pub struct Cast<'lab> {
    /// The lab they stand in.
    pub lab: &'lab Lab,
    /// Its pod sends into the fault.
    pub sender: &'lab Node,
    /// Its pod is the destination of what the fault swallows.
    pub receiver: &'lab Node,
    /// The third node, whose traffic must stay clean.
    pub bystander: &'lab Node,
    /// Whether the third node talks to the sender's pod; otherwise to the receiver's.
    pub bystander_meets_sender: bool,
    /// What the pods speak.
    pub family: Family,
}

/// Which of the two nodes a fault sits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The sending pod's node.
    Sender,
    /// The receiving pod's node.
    Receiver,
}

/// Which of two IP headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// That of the overlay's carrier.
    Outer,
    /// That of the pods.
    Inner,
}

/// A kind of fault, as a scenario file names it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Nothing is wrong.
    None,
    /// The receiver's FORWARD hook drops a share of the UDP packets between the two pods.
    ForwardDrop {
        /// Share to drop, 1 to 100.
        percent: u8,
    },
    /// A node drops the overlay's UDP packets between the two nodes: on the receiver as they come in, on the
    /// sender as they leave.
    VxlanBlocked {
        /// Where.
        at: Side,
    },
    /// The sender does not know which node holds the receiver's overlay address.
    FdbMissing,
    /// The underlay switch drops a share of the overlay packets from sender to receiver.
    SwitchLoss {
        /// Share to drop, 1 to 100.
        percent: u8,
    },
    /// The pods' MTU is larger than the overlay's, and the sender's node may not say so.
    PacketTooBig,
    /// The two nodes disagree on the overlay's network identifier.
    VniMismatch,
    /// The two nodes disagree on the overlay's UDP port.
    PortMismatch,
    /// The sender's PREROUTING hook drops a share of the UDP packets between the two pods, inside the bridge.
    PreroutingDrop {
        /// Share to drop, 1 to 100.
        percent: u8,
    },
    /// A device hook on the packets' way drops a share of the UDP packets between the two pods.
    HookDrop {
        /// Whose hook: that of the way in where packets come from the pod or the underlay, else that of the way out.
        at: Point,
        /// Share to drop, 1 to 100.
        percent: u8,
    },
    /// The sender cannot resolve the receiver's overlay address.
    NeighborMissing,
    /// The sender addresses frames in the tunnel to a hardware address the receiver does not have.
    InnerMacWrong,
    /// The sender has no route to the receiver's pods.
    NoRoute,
    /// The receiver does not forward what comes out of the tunnel.
    ForwardingOff,
    /// The receiver filters strictly by reverse path, and the way back leads elsewhere.
    ReversePath,
    /// The receiver has a special route for the pod's address.
    SpecialRoute {
        /// `blackhole`, `unreachable` or `prohibit`.
        route: String,
    },
    /// Nobody answers for the receiving pod's address.
    PodGone,
    /// The host side of the receiving pod's veth is down.
    VethDown,
    /// The bridge of the receiving pod may not forward by its port.
    PortDisabled,
    /// The datagrams' TTL, which the traffic sets, expires on this node.
    TimeExceeded {
        /// Where.
        at: Side,
    },
    /// A rate limit on the sender's `eth0` overflows.
    QueueOverflow,
    /// A rate limit on the sender's `eth0` holds packets up and drops none.
    QueueBacklog,
    /// The underlay switch doubles every overlay packet from sender to receiver.
    Duplication,
    /// The underlay carries less than an overlay packet of full size, so that these are fragmented.
    OuterFragmentation,
    /// The underlay switch drops a share of the fragments from sender to receiver that are not the first.
    LaterFragmentLoss {
        /// Whose fragments.
        layer: Layer,
        /// Share to drop, 1 to 100.
        percent: u8,
    },
    /// Every node tracks connections, so fragments are put together and cut again on the way.
    Conntrack,
    /// The underlay carries less than both nodes believe: large frames vanish in silence.
    MtuBlackHole,
    /// The agent of one node is killed in the middle of the window and started again.
    AgentKilled {
        /// Whose agent.
        at: Side,
    },
    /// The agent of one node hears of the window only after its start.
    AgentLate {
        /// Whose agent.
        at: Side,
    },
    /// The agent of one node does not run when the capture starts, and starts in the middle of the window.
    AgentAbsent {
        /// Whose agent.
        at: Side,
    },
    /// What the coordinator says to one agent comes late, so that the control stream measures its clock wrongly.
    ControlDelayed {
        /// Whose agent.
        at: Side,
        /// How late, in milliseconds.
        millis: u64,
    },
    /// The clocks of one node are off.
    ClockOff {
        /// Whose.
        at: Side,
        /// How far its wall clock is ahead, in milliseconds.
        #[serde(default)]
        millis: i64,
        /// How much faster both of its clocks go, in parts per million.
        #[serde(default)]
        ppm: i64,
    },
    /// The sender's node translates addresses. Datagrams may be lost beyond.
    Nat {
        /// Which.
        way: nat::Way,
        /// Share to drop, 0 to 100.
        #[serde(default)]
        lost_percent: u8,
    },
    /// A box in the receiver's underlay cable makes mischief with what comes from the sender.
    Cable {
        /// Which.
        mischief: cable::Mischief,
    },
    /// The sender's FORWARD hook drops a share of the pure acknowledgments on their way back.
    AckDrop {
        /// Share to drop, 1 to 100.
        percent: u8,
    },
    /// The receiver drops what its connection tracking calls invalid, and it missed how connections began.
    ConntrackInvalid,
    /// The sender's pod sends as an address of the receiver's node.
    SpoofedSource,
    /// The sender's node masquerades datagrams, and has no port left for them.
    SnatExhausted,
    /// Both pods are on the sender's node. Its bridge may drop a share of the UDP packets between them.
    SameNode {
        /// Share to drop, 0 to 100.
        #[serde(default)]
        lost_percent: u8,
    },
    /// One end of the conversation is a node. Datagrams may be lost on the way.
    HostEnds {
        /// Which end.
        way: host_ends::Way,
        /// Share to drop, 0 to 99.
        #[serde(default)]
        lost_percent: u8,
    },
    /// The sender's pod calls a service that is itself. Datagrams may be lost on the way.
    Hairpin {
        /// Share to drop, 0 to 99.
        #[serde(default)]
        lost_percent: u8,
    },
    /// Both nodes have a second overlay, and its pods talk. Datagrams may be lost behind the receiver's tunnel device.
    SecondOverlay {
        /// Share to drop, 0 to 99.
        #[serde(default)]
        lost_percent: u8,
    },
    /// The way there is by the second underlay, the way back by the first. The second may lose datagrams.
    Asymmetric {
        /// Share to drop, 0 to 99.
        #[serde(default)]
        lost_percent: u8,
    },
    /// Each flow takes one of two underlays. The second may lose datagrams.
    TwoUnderlays {
        /// Share to drop, 0 to 99.
        #[serde(default)]
        lost_percent: u8,
    },
    /// The third node has a pod with the address of the receiver's.
    DuplicateAddress,
    /// Every pod talks to every other.
    AllPairs,
    /// A program on the receiver's tunnel device hands packets straight into the pod.
    RedirectPeer,
    /// A program on the sending pod's veth puts packets for the receiver's pod straight into the tunnel device.
    RedirectNeighbor,
    /// Both nodes have a second overlay that is one Ethernet segment, with pods at the addresses of the first overlay's,
    /// which talk. Datagrams may be lost behind the receiver's tunnel device.
    BridgedOverlay {
        /// Share to drop, 0 to 99.
        #[serde(default)]
        lost_percent: u8,
    },
    /// A program in front of an interface drops a share of the UDP packets between the two pods that it receives.
    XdpDrop {
        /// Whose: the sender's veth, the receiver's NIC or tunnel device.
        at: Point,
        /// Share to drop, 1 to 100.
        percent: u8,
    },
    /// The agent of one node stands still for a while: its rings overflow, the network loses nothing.
    AgentPaused {
        /// Whose agent.
        at: Side,
        /// For how long, in milliseconds.
        millis: u64,
        /// How often; between two times it works for as long as it stood still.
        #[serde(default = "once")]
        times: u32,
    },
}

fn once() -> u32 {
    1
}

/// Matches packets from the sender's pod to the receiver's, behind `condition`.
fn to_receiver(cast: Cast<'_>, condition: &str) -> String {
    let [from, to] = [cast.sender, cast.receiver].map(|node| node.plan.pod_in(cast.family));
    let protocol = match cast.family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    format!("{condition} {protocol} saddr {from} {protocol} daddr {to}")
}

type Count<'lab> = Box<dyn Fn() -> Result<u64> + 'lab>;
type Undo<'lab> = Box<dyn FnOnce() -> Result<()> + 'lab>;

/// A fault at work.
pub struct Injected<'lab> {
    count: Count<'lab>,
    undo: Undo<'lab>,
}

impl<'lab> Injected<'lab> {
    fn new(count: impl Fn() -> Result<u64> + 'lab, undo: impl FnOnce() -> Result<()> + 'lab) -> Self {
        Self { count: Box::new(count), undo: Box::new(undo) }
    }

    /// A program that counts what it strikes and goes when it is dropped.
    fn attached(program: Attached) -> Self {
        let program = Rc::new(program);
        let counting = Rc::clone(&program);
        Self::new(
            move || counting.struck(),
            move || {
                drop(program);
                Ok(())
            },
        )
    }

    /// Puts `undo` before what undoes this already.
    fn undone_by(self, undo: impl FnOnce() -> Result<()> + 'lab) -> Self {
        let Self { count, undo: rest } = self;
        let undo = Box::new(move || {
            undo()?;
            rest()
        });
        Self { count, undo }
    }

    /// Packets struck since the fault was injected, by the fault's own counter.
    pub fn struck(&self) -> Result<u64> {
        (self.count)()
    }

    /// Takes the fault away again.
    pub fn undo(self) -> Result<()> {
        (self.undo)()
    }
}

impl Cast<'_> {
    /// The node on `side`.
    pub fn node(&self, side: Side) -> &Node {
        match side {
            Side::Sender => self.sender,
            Side::Receiver => self.receiver,
        }
    }
}

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
            Self::Nat { way, .. } => nat::aim(conversation, *way, cast),
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

    /// How many further tuples the points of the sender's node see of the stream into it.
    pub fn translations(&self) -> usize {
        match self {
            Self::Nat { way, .. } => way.translations(),
            Self::Hairpin { .. } => 1,
            _ => 0,
        }
    }

    /// Whether it counts packets of which it sends a copy.
    pub fn doubles(&self) -> bool {
        matches!(self, Self::Cable { mischief: cable::Mischief::Double { .. } })
    }

    /// Source address with which packets of the sender's pod arrive at the receiver's node.
    pub fn source_beyond(&self, cast: Cast<'_>) -> IpAddr {
        match self {
            Self::Nat { way: nat::Way::ServiceMasqueraded, .. } => cast.sender.plan.pods.into(),
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
            Self::SameNode { .. } => cast.sender.plan.neighbor.address.into(),
            Self::HostEnds { way, .. } => host_ends::ends(cast, *way)[1].address,
            Self::Hairpin { .. } => cast.sender.plan.pod.into(),
            Self::SecondOverlay { .. } => cast.receiver.plan.neighbor.apart.into(),
            _ => cast.receiver.plan.pod_in(cast.family),
        }
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
            Self::ConntrackInvalid => conntrack_invalid::inject(cast),
            Self::SpoofedSource => spoofed_source::inject(cast),
            Self::SnatExhausted => snat_exhausted::inject(cast),
            Self::SameNode { lost_percent } => same_node::inject(cast, *lost_percent),
            Self::HostEnds { way, lost_percent } => host_ends::inject(cast, *way, *lost_percent),
            Self::Hairpin { lost_percent } => hairpin::inject(cast, *lost_percent),
            Self::SecondOverlay { lost_percent } => second_overlay::inject(cast, *lost_percent),
            Self::Asymmetric { lost_percent } => asymmetric::inject(cast, *lost_percent),
            Self::TwoUnderlays { lost_percent } => two_underlays::inject(cast, *lost_percent),
            Self::DuplicateAddress => duplicate_address::inject(cast),
            Self::RedirectPeer => redirect::into_pod(cast),
            Self::RedirectNeighbor => redirect::into_tunnel(cast),
            Self::BridgedOverlay { lost_percent } => bridged_overlay::inject(cast, *lost_percent),
            Self::XdpDrop { at, percent } => xdp_drop::inject(cast, *at, *percent),
        }
    }
}
