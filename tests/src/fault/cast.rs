//! Who plays which part in a scenario.

use serde::Deserialize;

use crate::lab::Lab;
use crate::lab::node::Node;
use crate::lab::plan::Family;

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

impl<'lab> Cast<'lab> {
    /// From the pod of a lab's first node to that of its second, in IPv4.
    pub fn first(lab: &'lab Lab) -> Self {
        let [sender, receiver, bystander] = [0, 1, 2].map(|node| &lab.nodes[node]);
        Self { lab, sender, receiver, bystander, bystander_meets_sender: false, family: Family::V4 }
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

/// Which of the two nodes a fault sits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The sending pod's node.
    Sender,
    /// The receiving pod's node.
    Receiver,
}

/// Matches packets from the sender's pod to the receiver's, behind `condition`.
pub(super) fn to_receiver(cast: Cast<'_>, condition: &str) -> String {
    let [from, to] = [cast.sender, cast.receiver].map(|node| node.plan.pod_in(cast.family));
    let protocol = match cast.family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    format!("{condition} {protocol} saddr {from} {protocol} daddr {to}")
}
