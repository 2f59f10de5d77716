//! Longest-prefix match.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::fabric::topology::Prefix;

/// Values by address prefix, found longest prefix first. A lookup costs one hash per prefix length in use.
#[derive(Debug)]
pub(crate) struct PrefixTable<T> {
    lengths: BTreeMap<(bool, Reverse<u8>), HashMap<u128, Vec<T>>>,
}

impl<T> Default for PrefixTable<T> {
    fn default() -> Self {
        Self { lengths: BTreeMap::new() }
    }
}

impl<T> PrefixTable<T> {
    /// Adds a value; several may share a prefix and keep their order.
    pub(crate) fn insert(&mut self, prefix: Prefix, value: T) {
        let key = (prefix.address.is_ipv4(), Reverse(prefix.length));
        let masked = mask(prefix.address, prefix.length);
        self.lengths.entry(key).or_default().entry(masked).or_default().push(value);
    }

    /// Every value whose prefix contains `address`, the longest prefix first, with the prefix length.
    pub(crate) fn matches(&self, address: IpAddr) -> impl Iterator<Item = (u8, &T)> {
        let is_ipv4 = address.is_ipv4();
        let family = (is_ipv4, Reverse(u8::MAX))..=(is_ipv4, Reverse(0));
        self.lengths.range(family).flat_map(move |(&(_, Reverse(length)), table)| {
            let found = table.get(&mask(address, length));
            found.into_iter().flatten().map(move |value| (length, value))
        })
    }
}

fn mask(address: IpAddr, length: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32_u32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    bits.checked_shr(width.saturating_sub(u32::from(length))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_prefixes_come_first_and_families_stay_apart() {
        let mut table = PrefixTable::default();
        for text in ["0.0.0.0/0", "10.244.0.0/16", "10.244.2.0/24", "::/0", "2001:db8::/32"] {
            table.insert(text.parse().unwrap(), text);
        }
        let found = |address: &str| {
            table.matches(address.parse().unwrap()).map(|(_, text)| *text).collect::<Vec<_>>()
        };
        assert_eq!(found("10.244.2.9"), ["10.244.2.0/24", "10.244.0.0/16", "0.0.0.0/0"]);
        assert_eq!(found("192.0.2.1"), ["0.0.0.0/0"]);
        assert_eq!(found("2001:db8::7"), ["2001:db8::/32", "::/0"]);
    }
}
