//! Rule sets of nftables, `linux/netfilter/nf_tables.h`.

pub(super) mod chain;
mod expression;
mod register;
pub(super) mod rule;
mod set;
mod value;

use std::collections::BTreeMap;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use self::chain::Chain;
use self::rule::Rule;
use self::set::Sets;
use super::super::listing::Listing;
use super::super::trouble;
use super::{chain_row, rule_row};
use crate::netlink::attributes::{be_u32, find, text};
use crate::netlink::dump::{Request, dump};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10 << 8;
// `enum nf_tables_msg_types`: what is asked for, and what comes.
const TABLES: (u16, u16) = (SUBSYSTEM + 1, SUBSYSTEM);
const CHAINS: (u16, u16) = (SUBSYSTEM + 4, SUBSYSTEM + 3);
const RULES: (u16, u16) = (SUBSYSTEM + 7, SUBSYSTEM + 6);
const SETS: (u16, u16) = (SUBSYSTEM + 10, SUBSYSTEM + 9);
/// `struct nfgenmsg`; zeroes: of all families.
const HEADER: usize = 4;
/// Chains and sets that are remembered: of more of them a report does not hold the rules.
const REMEMBERED: usize = 16_384;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
/// `NFT_TABLE_F_DORMANT`.
const DORMANT: u32 = 1;

/// Adds a row for each chain, followed by those of its rules.
pub(super) fn read(listing: &mut Listing) -> Result<(), String> {
    tables(listing)
        .and_then(|()| chains(listing))
        .and_then(|chains| rules(listing, &chains))
        .map_err(|error| trouble("rules of nftables", &error))
}

/// By its number, as nft(8) calls it.
pub(super) fn family(number: u8) -> String {
    let name = match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// Family and attributes of a message of this type.
fn of_kind(wanted: u16, kind: u16, body: &[u8]) -> Option<(u8, &[u8])> {
    (kind == wanted).then_some(())?;
    Some((*body.first()?, body.get(HEADER..)?))
}

fn request(kind: u16) -> Request<'static> {
    Request { protocol: NETLINK_NETFILTER, kind, body: &[0; HEADER] }
}

/// Tells of those that are not in force.
fn tables(listing: &mut Listing) -> io::Result<()> {
    let mut dormant = Vec::new();
    dump(request(TABLES.0), listing.deadline, |kind, body| {
        let Some((number, attributes)) = of_kind(TABLES.1, kind, body) else { return };
        let flags = find(attributes, TABLE_FLAGS).and_then(be_u32).unwrap_or_default();
        if flags & DORMANT != 0 {
            let name = find(attributes, TABLE_NAME).map(text).unwrap_or_default();
            dormant
                .push(format!("table {} {name} is dormant: none of its rules is in force", family(number)));
        }
    })?;
    listing.notes.extend(dormant);
    Ok(())
}

fn chains(listing: &Listing) -> io::Result<Vec<Chain>> {
    let mut chains = Vec::new();
    dump(request(CHAINS.0), listing.deadline, |kind, body| {
        let chain =
            of_kind(CHAINS.1, kind, body).and_then(|(family, attributes)| Chain::read(family, attributes));
        if let Some(chain) = chain.filter(|_| chains.len() < REMEMBERED) {
            chains.push(chain);
        }
    })?;
    Ok(chains)
}

fn sets(listing: &Listing) -> io::Result<Sets> {
    let mut sets = Sets::default();
    dump(request(SETS.0), listing.deadline, |kind, body| {
        if let Some((family, attributes)) = of_kind(SETS.1, kind, body)
            && sets.len() < REMEMBERED
        {
            sets.add(family, attributes);
        }
    })?;
    Ok(sets)
}

fn rules(listing: &mut Listing, chains: &[Chain]) -> io::Result<()> {
    let sets = sets(listing)?;
    let places: BTreeMap<(u8, &str, &str), usize> = chains
        .iter()
        .enumerate()
        .map(|(place, chain)| ((chain.family, chain.table.as_str(), chain.name.as_str()), place))
        .collect();
    // Chains and rules come in the same order: those before a rule's chain have no more rules.
    let mut shown = 0;
    let before = listing.total;
    listing.dump("rules of nftables", request(RULES.0), |listing, kind, body| {
        if listing.total == before {
            shown = 0;
        }
        let (family, attributes) = of_kind(RULES.1, kind, body)?;
        let rule = Rule::read(family, attributes, &sets)?;
        if let Some(place) = places.get(&(family, rule.table.as_str(), rule.chain.as_str())) {
            chains.get(shown..=*place).unwrap_or_default().iter().for_each(|chain| chain_row(listing, chain));
            shown = shown.max(place + 1);
        }
        rule_row(listing, rule);
        Some(())
    })?;
    chains[shown..].iter().for_each(|chain| chain_row(listing, chain));
    Ok(())
}
