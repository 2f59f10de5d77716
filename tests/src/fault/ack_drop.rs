//! The sender's node drops a share of the pure acknowledgments that come back: the data they speak of has arrived.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected};
use crate::lab::plan::Family;

/// Longer than any acknowledgment with its options, and shorter than any segment in the middle of an answer.
const LONGEST: u32 = 120;

pub(super) fn inject(cast: Cast<'_>, percent: u8) -> Result<Injected<'_>> {
    let [from, to] = [cast.receiver, cast.sender].map(|node| node.plan.pod_in(cast.family));
    let protocol = match cast.family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    // The last segment of every message pushes.
    let expression = format!(
        "{protocol} saddr {from} {protocol} daddr {to} tcp flags == ack meta length < {LONGEST} \
         numgen random mod 100 < {percent}"
    );
    Rule::dropping("hook forward priority 0", &expression).inject(&cast.sender.netns)
}
