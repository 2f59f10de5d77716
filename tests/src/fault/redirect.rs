//! Programs of the kind CNI plugins use lead packets past some of the points of a node. Nothing is lost.

use anyhow::Result;

use super::{Cast, Injected};
use crate::lab::bpf::{self, Attached, Field, Strike};
use crate::lab::node::OVERLAY;

/// A program on the receiver's `flannel.1` hands packets for the pod straight into its namespace
/// (`bpf_redirect_peer`): neither `cni0` nor the host side of its veth sees them.
pub(super) fn into_pod(cast: Cast<'_>) -> Result<Injected<'_>> {
    let node = cast.receiver;
    let index = bpf::index(&node.netns, &node.plan.veth)?;
    let program = Attached::new(&node.netns, OVERLAY, &for_receiver(cast), Strike::ToPeerOf { index })?;
    Ok(Injected::attached(program))
}

/// A program on the sending pod's veth puts packets into `flannel.1` (`bpf_redirect_neigh`): `cni0` does not see them.
pub(super) fn into_tunnel(cast: Cast<'_>) -> Result<Injected<'_>> {
    let node = cast.sender;
    let index = bpf::index(&node.netns, OVERLAY)?;
    let program = Attached::new(&node.netns, &node.plan.veth, &for_receiver(cast), Strike::OutOf { index })?;
    Ok(Injected::attached(program))
}

/// IPv4 packets to the receiver's pod.
fn for_receiver(cast: Cast<'_>) -> [Field; 2] {
    [Field::Half(12, [0x08, 0x00]), Field::Word(30, cast.receiver.plan.pod.octets())]
}
