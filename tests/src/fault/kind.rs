//! The faults as scenario files name them.

use serde::Deserialize;

use super::cast::Side;
use super::{cable, host_ends, nat, service_black_hole};
use crate::scenario::file::Point;

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
    /// The sender's node translates addresses, and nothing is seen beyond.
    ServiceBlackHole {
        /// Which.
        way: nat::Way,
        /// Where it ends.
        at: service_black_hole::Hole,
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
    /// The tunnel's ends are IPv6 addresses. The switch may lose datagrams.
    Ipv6Carrier {
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
