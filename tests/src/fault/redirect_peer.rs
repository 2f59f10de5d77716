//! A program on the receiver's `flannel.1` hands packets for the pod straight into its namespace
//! (`bpf_redirect_peer`): they reach it and neither `cni0` nor the host side of its veth sees them.

use anyhow::Result;

use super::{Cast, Injected};
use crate::lab::bpf::{self, Attached, Field, Strike};
use crate::lab::node::OVERLAY;

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let node = cast.receiver;
    let index = bpf::index(&node.netns, &node.plan.veth)?;
    let fields = [Field::Half(12, [0x08, 0x00]), Field::Word(30, node.plan.pod.octets())];
    let program = Attached::new(&node.netns, OVERLAY, &fields, Strike::ToPeerOf { index })?;
    Ok(Injected::attached(program))
}
