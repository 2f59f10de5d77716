//! Faults: each swallows packets at one known place and counts, by itself, what it swallowed.
//!
//! Every counter counts kernel packets. They equal segments where the wire carries no super-frames; a
//! scenario that counts bulk TCP therefore turns segmentation offload off in front of the fault.

mod fdb_missing;
mod forward_drop;
mod mtu_black_hole;
mod nft;
pub mod offload;
mod packet_too_big;
mod switch_loss;
mod vni_mismatch;
mod vxlan_blocked;

use anyhow::Result;
use serde::Deserialize;

use crate::lab::Lab;
use crate::lab::node::Node;

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
    /// The underlay carries less than both nodes believe: large frames vanish in silence.
    MtuBlackHole,
    /// The agent of one node stands still for a while: its rings overflow, the network loses nothing.
    AgentPaused {
        /// Whose agent.
        at: Side,
        /// For how long, in milliseconds.
        millis: u64,
    },
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

    /// Packets swallowed since the fault was injected, by the fault's own counter.
    pub fn swallowed(&self) -> Result<u64> {
        (self.count)()
    }

    /// Takes the fault away again.
    pub fn undo(self) -> Result<()> {
        (self.undo)()
    }
}

impl Fault {
    /// Injects the fault between the cast's sender and receiver.
    pub fn inject<'lab>(&self, cast: Cast<'lab>) -> Result<Injected<'lab>> {
        match self {
            Self::None | Self::AgentPaused { .. } => Ok(Injected::new(|| Ok(0), || Ok(()))),
            Self::ForwardDrop { percent } => forward_drop::inject(cast, *percent),
            Self::VxlanBlocked { at } => vxlan_blocked::inject(cast, *at),
            Self::FdbMissing => fdb_missing::inject(cast),
            Self::SwitchLoss { percent } => switch_loss::inject(cast, *percent),
            Self::PacketTooBig => packet_too_big::inject(cast),
            Self::VniMismatch => vni_mismatch::inject(cast),
            Self::MtuBlackHole => mtu_black_hole::inject(cast),
        }
    }
}
