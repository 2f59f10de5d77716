//! Traits of whole conversations: protocol, class of service, ports, addresses, the flow itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lastseen_packet::observation::{FlowKey, protocol};

use super::candidate::{Candidate, Holders, Kind, MIN_COVERAGE};
use super::chance::Split;
use super::service;
use crate::fabric::topology::Prefix;
use crate::report::text::{ends, protocol_name};

/// Shortest prefixes that are a pattern, in bits: shorter ones are half an Internet.
const MIN_PREFIX: (u8, u8) = (8, 16);
/// Lengths of prefixes that networks usually have, in bits: IPv4, IPv6.
const USUAL_PREFIX: (u8, u8) = (24, 64);

/// What a conversation did on a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) conversation: u32,
    pub(crate) tuple: FlowKey,
    /// The only DSCP and ECN field of its packets; absent where they differ.
    pub(crate) dscp: Option<u8>,
    pub(crate) ecn: Option<u8>,
    pub(crate) lost: u64,
    pub(crate) passed: u64,
}

/// The traits of the conversations of a leg.
pub(crate) fn candidates(rows: &[Row]) -> Vec<Candidate> {
    let leg = Population {
        rows,
        lost: rows.iter().map(|row| row.lost).sum(),
        passed: rows.iter().map(|row| row.passed).sum(),
    };
    let found = [
        leg.common(
            Kind::Protocol,
            |row| Some(row.tuple.protocol),
            |&one| format!("are {}", protocol_name(one)),
            "of other protocols",
        ),
        leg.common(
            Kind::Dscp,
            |row| row.dscp,
            |&one| format!("carry {}", service::dscp(one)),
            "with another DSCP",
        ),
        leg.common(
            Kind::Ecn,
            |row| row.ecn,
            |&one| format!("carry ECN {}", service::ecn(one)),
            "with another ECN",
        ),
        leg.port(),
        leg.address(Kind::Destination, |tuple| tuple.destination, "go to"),
        leg.address(Kind::Source, |tuple| tuple.source, "come from"),
        leg.common(Kind::Flow, |row| Some(row.conversation), |&one| leg.flow(one), "of other flows"),
    ];
    found.into_iter().flatten().collect()
}

struct Population<'r> {
    rows: &'r [Row],
    lost: u64,
    passed: u64,
}

impl Population<'_> {
    fn candidate(
        &self,
        kind: Kind,
        has: impl Fn(&Row) -> bool,
        tried: usize,
        what: String,
        rest: &'static str,
    ) -> Candidate {
        let with = || self.rows.iter().filter(|row| has(row));
        let split = Split::new(
            (with().map(|row| row.lost).sum(), self.lost),
            (with().map(|row| row.passed).sum(), self.passed),
        );
        let mut holders: Vec<_> = with().map(|row| row.conversation).collect();
        holders.sort_unstable();
        let holders = Holders::Conversations(holders);
        Candidate { kind, holders, split, ln_tried: (tried.max(1) as f64).ln(), what, rest }
    }

    /// The value of `key` that most of the lost have.
    fn common<K: Ord + Copy>(
        &self,
        kind: Kind,
        key: impl Fn(&Row) -> Option<K>,
        what: impl Fn(&K) -> String,
        rest: &'static str,
    ) -> Option<Candidate> {
        let (most, values) = most_lost(self.rows.iter().filter_map(|row| Some((key(row)?, row.lost))))?;
        Some(self.candidate(kind, |row| key(row) == Some(most), values, what(&most), rest))
    }

    /// The port, at either end, that most of the lost have. Of two that are as common, the lower: it is the service's.
    fn port(&self) -> Option<Candidate> {
        let mut shared: BTreeMap<(bool, u16), u32> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| has_ports(&row.tuple)) {
            ports(&row.tuple).for_each(|port| *shared.entry(port).or_default() += 1);
        }
        // A port that only one flow has says no more than the flow, unless it is the one of its service.
        let is_named = |tuple: &FlowKey, port: (bool, u16)| {
            shared.get(&port).is_some_and(|&flows| flows > 1)
                || port.1 == tuple.source_port.min(tuple.destination_port)
        };
        let named = self.rows.iter().filter(|row| has_ports(&row.tuple)).flat_map(|row| {
            ports(&row.tuple)
                .filter(|&port| is_named(&row.tuple, port))
                .map(|port| ((port.1, port.0), row.lost))
        });
        let ((number, is_source), _) = most_lost(named)?;
        let (what, rest) =
            if is_source { ("come from", "from other ports") } else { ("go to", "to other ports") };
        let has =
            |row: &Row| has_ports(&row.tuple) && ports(&row.tuple).any(|port| port == (is_source, number));
        Some(self.candidate(Kind::Port, has, shared.len(), format!("{what} port {number}"), rest))
    }

    /// The address that the lost have, or the prefix.
    fn address(&self, kind: Kind, address: impl Fn(&FlowKey) -> IpAddr, what: &str) -> Option<Candidate> {
        let mut all: Vec<_> = self.rows.iter().map(|row| address(&row.tuple)).collect();
        all.sort_unstable();
        all.dedup();
        let lossy = self.lossy(&address);
        let first = *lossy.first()?;
        let length = lossy.iter().skip(1).map(|&other| common_bits(first, other)).min().unwrap_or(u8::MAX);
        let rest = if kind == Kind::Source { "from other addresses" } else { "to other addresses" };
        let prefixes = widths(first, length).map(|length| {
            let prefix = Prefix { address: masked(first, length), length };
            let what = if prefix.is_host() { format!("{what} {first}") } else { format!("{what} {prefix}") };
            // Of n addresses that form a tree of prefixes, at most 2n − 1 groups.
            self.candidate(
                kind,
                |row| common_bits(first, address(&row.tuple)) >= length,
                2 * all.len(),
                what,
                rest,
            )
        });
        prefixes.min_by(|a, b| a.split.ln_chance().total_cmp(&b.split.ln_chance()))
    }

    /// The addresses of the lost, the worst first, without those that few of them have.
    fn lossy(&self, address: impl Fn(&FlowKey) -> IpAddr) -> Vec<IpAddr> {
        let mut sums: BTreeMap<IpAddr, u64> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.lost > 0) {
            *sums.entry(address(&row.tuple)).or_default() += row.lost;
        }
        let mut lossy: Vec<_> = sums.into_iter().collect();
        lossy.sort_by_key(|&(address, lost)| (std::cmp::Reverse(lost), address));
        let mut stray = (self.lost as f64 * (1.0 - MIN_COVERAGE)) as u64;
        while let Some(&(_, lost)) = lossy.last()
            && lost <= stray
        {
            stray -= lost;
            lossy.pop();
        }
        lossy.into_iter().map(|(address, _)| address).collect()
    }

    fn flow(&self, conversation: u32) -> String {
        let row = self.rows.iter().find(|row| row.conversation == conversation);
        let (source, destination) = row.map(|row| ends(&row.tuple)).unwrap_or_default();
        format!("belong to {source} → {destination}")
    }
}

/// The value under which most was lost, the least of several, and how many values there are.
fn most_lost<K: Ord + Copy>(values: impl Iterator<Item = (K, u64)>) -> Option<(K, usize)> {
    let mut sums: BTreeMap<K, u64> = BTreeMap::new();
    values.for_each(|(value, lost)| *sums.entry(value).or_default() += lost);
    let most = sums.iter().min_by_key(|&(value, &lost)| (std::cmp::Reverse(lost), *value))?;
    Some((*most.0, sums.len()))
}

fn has_ports(tuple: &FlowKey) -> bool {
    matches!(tuple.protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
}

/// Whether it is the source's, and the number.
fn ports(tuple: &FlowKey) -> impl Iterator<Item = (bool, u16)> + use<> {
    [(true, tuple.source_port), (false, tuple.destination_port)].into_iter()
}

/// Leading bits that two addresses share; all where they are one, none across families.
fn common_bits(one: IpAddr, other: IpAddr) -> u8 {
    let zeros = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    };
    zeros as u8
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            IpAddr::V4((v4.to_bits() & !u32::MAX.checked_shr(length.into()).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & !u128::MAX.checked_shr(length.into()).unwrap_or(0)).into())
        }
    }
}

/// The prefixes that are worth a look, for addresses that share `length` bits: the usual one, then the exact one.
fn widths(address: IpAddr, length: u8) -> impl Iterator<Item = u8> {
    let (whole, least, usual) = match address {
        IpAddr::V4(_) => (32, MIN_PREFIX.0, USUAL_PREFIX.0),
        IpAddr::V6(_) => (128, MIN_PREFIX.1, USUAL_PREFIX.1),
    };
    let exact = length.min(whole);
    let usual = (exact > usual && exact < whole).then_some(usual);
    usual.into_iter().chain((exact >= least).then_some(exact))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn prefixes_hold_what_shares_their_bits() {
        let (one, other) = (address("10.244.2.9"), address("10.244.2.200"));
        assert_eq!(common_bits(one, other), 24);
        assert_eq!((common_bits(one, one), common_bits(one, address("::1"))), (32, 0));
        assert_eq!(
            (masked(one, 24), masked(one, 32), masked(one, 0)),
            (address("10.244.2.0"), one, address("0.0.0.0"))
        );
        let six = address("2001:db8:1:2::9");
        assert_eq!((masked(six, 64), masked(six, 128)), (address("2001:db8:1:2::"), six));
        assert_eq!(widths(one, 32).collect::<Vec<_>>(), [32]);
        assert_eq!(widths(one, 28).collect::<Vec<_>>(), [24, 28]);
        assert_eq!(widths(one, 4).collect::<Vec<_>>(), [0; 0]);
        assert_eq!(widths(six, u8::MAX).collect::<Vec<_>>(), [128]);
    }
}
