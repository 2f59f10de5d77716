//! One entry of a table: `struct ipt_entry` or `struct ip6t_entry`, its matches, and its target.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::super::words::{ip_protocol, joined};
use super::super::{Counters, xt};
use super::Family;
use crate::netlink::attributes::text;

/// `struct xt_entry_match` and `struct xt_entry_target`: length, name, revision.
const EXTENSION: usize = 32;
const EXTENSION_NAME: usize = 2;
const REVISION: usize = 31;
/// `IFNAMSIZ`.
const NAME_BYTES: usize = 16;

/// Where things are in an entry, on a machine of 64 bits.
#[derive(Clone, Copy)]
struct Layout {
    address: usize,
    protocol: usize,
    flags: usize,
    inverted: usize,
    target: usize,
    next: usize,
    counters: usize,
    end: usize,
}

const V4: Layout = Layout {
    address: 4,
    protocol: 80,
    flags: 82,
    inverted: 83,
    target: 88,
    next: 90,
    counters: 96,
    end: 112,
};
const V6: Layout = Layout {
    address: 16,
    protocol: 128,
    flags: 131,
    inverted: 132,
    target: 140,
    next: 142,
    counters: 152,
    end: 168,
};

/// `IPT_INV_*`: of interfaces, addresses, fragments and the protocol.
const NOT_IN: u8 = 1;
const NOT_OUT: u8 = 2;
const NOT_SOURCE: u8 = 8;
const NOT_DESTINATION: u8 = 0x10;
const NOT_FRAGMENT: u8 = 0x20;
const NOT_PROTOCOL: u8 = 0x40;
/// `IPT_F_FRAG`, and `IPT_F_GOTO` or `IP6T_F_GOTO`.
const FRAGMENT: u8 = 1;
const GOTO_V4: u8 = 2;
const GOTO_V6: u8 = 4;

/// One entry.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    bytes: &'a [u8],
    layout: Layout,
    family: Family,
    target: usize,
    pub(super) counters: Counters,
}

impl<'a> Entry<'a> {
    /// The one at the beginning of `bytes`; absent: it does not hold together.
    pub(super) fn read(family: Family, bytes: &'a [u8]) -> Option<Self> {
        let layout = if family == Family::V4 { V4 } else { V6 };
        let [target, next] = [layout.target, layout.next].map(|at| short(bytes, at).map(usize::from));
        let (target, bytes) = (target?, bytes.get(..next?)?);
        (target >= layout.end && bytes.len() >= target + EXTENSION).then_some(())?;
        let big = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
        let counters = Counters { packets: big(layout.counters)?, bytes: big(layout.counters + 8)? };
        Some(Self { bytes, layout, family, target, counters })
    }

    /// Bytes up to the next one, at least those of an entry.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Name of the target; empty: a verdict, or a jump.
    pub(super) fn target_name(&self) -> String {
        text(&self.bytes[self.target + EXTENSION_NAME..self.target + REVISION])
    }

    /// What comes after the header of the target.
    pub(super) fn target_info(&self) -> &'a [u8] {
        &self.bytes[self.target + EXTENSION..]
    }

    /// Of [`Self::target_info`] of a target without a name, `struct xt_standard_target`.
    pub(super) fn verdict(&self) -> Option<i32> {
        self.target_info().first_chunk().map(|verdict| i32::from_ne_bytes(*verdict))
    }

    pub(super) fn is_goto(&self) -> bool {
        self.flags() & if self.family == Family::V4 { GOTO_V4 } else { GOTO_V6 } != 0
    }

    fn flags(&self) -> u8 {
        self.bytes[self.layout.flags]
    }

    /// What it looks at, and its comment.
    pub(super) fn matches(&self) -> (String, String) {
        let (mut words, mut comments) = (self.own(), Vec::new());
        let mut rest = &self.bytes[self.layout.end..self.target];
        while !rest.is_empty() {
            let length = short(rest, 0).map(usize::from).filter(|length| *length >= EXTENSION);
            let Some((extension, others)) = length.and_then(|length| rest.split_at_checked(length)) else {
                words.push("[a match not shown]".to_owned());
                break;
            };
            match xt::matching(&self.extension(extension)) {
                xt::Shown::Words(shown) => words.push(shown),
                xt::Shown::Comment(comment) => comments.push(comment),
            }
            rest = others;
        }
        (words.join(" "), joined(comments))
    }

    /// What becomes of the packet, where the target has a name.
    pub(super) fn target(&self) -> String {
        match xt::target(&self.extension(&self.bytes[self.target..])) {
            xt::Shown::Words(shown) | xt::Shown::Comment(shown) => shown,
        }
    }

    fn extension<'b>(&self, bytes: &'b [u8]) -> xt::Extension<'b> {
        let name = &bytes[EXTENSION_NAME..REVISION];
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        xt::Extension {
            name: std::str::from_utf8(&name[..end]).unwrap_or("?"),
            revision: bytes[REVISION].into(),
            info: &bytes[EXTENSION..],
            is_v6: self.family == Family::V6,
        }
    }

    /// What every rule can look at.
    fn own(&self) -> Vec<String> {
        let Layout { address, protocol, inverted, .. } = self.layout;
        let inverted = self.bytes[inverted];
        let part = |at: usize, length: usize| &self.bytes[at..at + length];
        let mut words = Vec::new();
        let mut add = |option: &str, value: Option<String>, bit: u8| {
            let not = if inverted & bit == 0 { "" } else { "! " };
            words.extend(value.map(|value| format!("{not}{option} {value}")));
        };
        add("-s", network(part(0, address), part(2 * address, address)), NOT_SOURCE);
        add("-d", network(part(address, address), part(3 * address, address)), NOT_DESTINATION);
        let names = 4 * address;
        let name = |place: usize| {
            let at = names + place * NAME_BYTES;
            interface(part(at, NAME_BYTES), part(at + 2 * NAME_BYTES, NAME_BYTES))
        };
        add("-i", name(0), NOT_IN);
        add("-o", name(1), NOT_OUT);
        let number = short(self.bytes, protocol).filter(|number| *number != 0);
        add("-p", number.map(|number| ip_protocol(number as u8)), NOT_PROTOCOL);
        if self.family == Family::V4 && self.flags() & FRAGMENT != 0 {
            words.push(if inverted & NOT_FRAGMENT == 0 { "-f" } else { "! -f" }.to_owned());
        }
        words
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// Absent: all.
fn network(address: &[u8], mask: &[u8]) -> Option<String> {
    let shown = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(octets) => Ipv4Addr::from(octets).to_string(),
        Err(_) => {
            <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).to_string()).unwrap_or_default()
        }
    };
    if mask.iter().all(|byte| *byte == 0) {
        return None;
    }
    let set: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).take_while(|ones| *ones > 0).sum();
    let is_prefix = set == ones && mask.windows(2).all(|pair| pair[0] == 0xff || pair[1] == 0);
    let length = if is_prefix { ones.to_string() } else { shown(mask) };
    Some(format!("{}/{length}", shown(address)))
}

/// Absent: any. Bytes of the name that the mask leaves out may be any.
fn interface(name: &[u8], mask: &[u8]) -> Option<String> {
    let looked_at = mask.iter().take_while(|byte| **byte != 0).count();
    let is_whole = name[..looked_at].contains(&0);
    let name = text(&name[..looked_at]);
    (looked_at > 0).then(|| if is_whole { name } else { format!("{name}+") })
}
