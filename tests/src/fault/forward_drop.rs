//! A FORWARD rule on the receiver drops UDP between the two pods: lost between `flannel.1` and `cni0`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, to_receiver};

pub(super) fn inject(cast: Cast<'_>, percent: u8) -> Result<Injected<'_>> {
    let expression = to_receiver(cast, &format!("meta l4proto udp numgen random mod 100 <= {}", percent - 1));
    Rule::dropping("hook forward priority 0", &expression).inject(&cast.receiver.netns)
}
