//! A chain: a list of rules, and where packets enter it if they do not come from another one.

use super::super::Counters;
use crate::netlink::attributes::{be_u32, be_u64, each, find, text};

// `enum nft_chain_attributes` and those nested in it.
const TABLE: u16 = 1;
const NAME: u16 = 3;
const HOOK: u16 = 4;
const POLICY: u16 = 5;
const KIND: u16 = 7;
const COUNTERS: u16 = 8;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const HOOK_DEVICES: u16 = 4;

/// `NFPROTO_ARP` and `NFPROTO_NETDEV`, whose hooks have numbers of their own.
const ARP: u8 = 3;
const NETDEV: u8 = 5;

/// One chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Chain {
    /// `NFPROTO_*`.
    pub(in super::super) family: u8,
    pub(in super::super) table: String,
    pub(in super::super) name: String,
    /// `filter`, `nat` or `route`; empty like the others that follow: no packet begins here.
    pub(in super::super) kind: String,
    /// With the devices, where it is for some only.
    pub(in super::super) hook: String,
    /// Lower ones come first.
    pub(in super::super) priority: Option<i32>,
    /// What becomes of packets that no rule decides about.
    pub(in super::super) policy: &'static str,
    /// What came to its end, if that is counted.
    pub(in super::super) counters: Option<Counters>,
}

impl Chain {
    /// From the attributes of a message; absent: it has no name.
    pub(super) fn read(family: u8, attributes: &[u8]) -> Option<Self> {
        let mut chain = Self { family, ..Self::default() };
        for (kind, value) in each(attributes) {
            match kind {
                TABLE => chain.table = text(value),
                NAME => chain.name = text(value),
                KIND => chain.kind = text(value),
                POLICY => chain.policy = policy(be_u32(value)?),
                COUNTERS => chain.counters = counters(value),
                HOOK => {
                    chain.hook = hook(family, value);
                    chain.priority = find(value, HOOK_PRIORITY).and_then(be_u32).map(|number| number as i32);
                }
                _ => {}
            }
        }
        (!chain.name.is_empty() && !chain.table.is_empty()).then_some(chain)
    }
}

/// `NF_DROP` and `NF_ACCEPT`: there is no other.
fn policy(number: u32) -> &'static str {
    match number {
        0 => "drop",
        1 => "accept",
        _ => "",
    }
}

/// `NFTA_COUNTER_BYTES` and `NFTA_COUNTER_PACKETS`, of chains and rules alike.
pub(super) fn counters(attributes: &[u8]) -> Option<Counters> {
    let number = |kind| find(attributes, kind).and_then(be_u64);
    Some(Counters { bytes: number(1)?, packets: number(2)? })
}

fn hook(family: u8, attributes: &[u8]) -> String {
    let Some(number) = find(attributes, HOOK_NUMBER).and_then(be_u32) else { return String::new() };
    let names: &[&str] = match family {
        ARP => &["input", "output", "forward"],
        NETDEV => &["ingress", "egress"],
        _ => &["prerouting", "input", "forward", "output", "postrouting", "ingress"],
    };
    let name = names.get(number as usize).map_or_else(|| number.to_string(), ToString::to_string);
    let mut devices: Vec<String> =
        find(attributes, HOOK_DEVICES).into_iter().flat_map(each).map(|(_, name)| text(name)).collect();
    // Where there is one, newer kernels tell it both ways.
    if devices.is_empty() {
        devices.extend(find(attributes, HOOK_DEVICE).map(text));
    }
    if devices.is_empty() { name } else { format!("{name} {}", devices.join(",")) }
}
