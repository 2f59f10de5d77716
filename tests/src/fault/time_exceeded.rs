//! Packets whose TTL does not suffice for one of the two nodes: lost where it expires, between `cni0` and `flannel.1`
//! on the sender or between `flannel.1` and `cni0` on the receiver. The traffic sets the TTL, this only counts.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, Side, to_receiver};

pub(super) fn inject(cast: Cast<'_>, at: Side) -> Result<Injected<'_>> {
    let netns = match at {
        Side::Sender => &cast.sender.netns,
        Side::Receiver => &cast.receiver.netns,
    };
    Rule::counting("hook prerouting priority -300", &to_receiver(cast, "ip ttl 1")).inject(netns)
}
