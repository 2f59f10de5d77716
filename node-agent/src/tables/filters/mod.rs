//! Chains and rules that packets pass, with their counters: those of nftables, and those of legacy iptables where the
//! namespace has such tables.

mod legacy;
mod nft;
mod xt;

use self::nft::chain::Chain;
use self::nft::rule::Rule;
use super::listing::{Listing, text};

pub(super) const COLUMNS: [&str; 14] = [
    "origin", "family", "table", "chain", "type", "hook", "priority", "policy", "rule", "packets", "bytes",
    "text", "action", "comment",
];

const NFTABLES: &str = "nftables";
const LEGACY: &str = "iptables";

pub(super) fn read(mut listing: Listing) -> Result<Listing, String> {
    let nft = nft::read(&mut listing);
    let legacy = legacy::read(&mut listing);
    let failed: Vec<String> = [nft, legacy].into_iter().filter_map(Result::err).collect();
    if listing.total == 0 && !failed.is_empty() {
        return Err(failed.join("; "));
    }
    listing.notes.extend(failed);
    Ok(listing)
}

/// What passes a rule or the end of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    packets: u64,
    bytes: u64,
}

fn chain_row(listing: &mut Listing, chain: &Chain) {
    let counters = chain.counters;
    listing.row(|_| {
        [
            NFTABLES.to_owned(),
            nft::family(chain.family),
            chain.table.clone(),
            chain.name.clone(),
            chain.kind.clone(),
            chain.hook.clone(),
            text(chain.priority),
            chain.policy.to_owned(),
            String::new(),
            text(counters.map(|counters| counters.packets)),
            text(counters.map(|counters| counters.bytes)),
            String::new(),
            String::new(),
            String::new(),
        ]
    });
}

fn rule_row(listing: &mut Listing, rule: Rule) {
    let counters = rule.counters;
    listing.row(|_| {
        let none = String::new;
        [
            NFTABLES.to_owned(),
            nft::family(rule.family),
            rule.table,
            rule.chain,
            none(),
            none(),
            none(),
            none(),
            text(rule.handle),
            text(counters.map(|counters| counters.packets)),
            text(counters.map(|counters| counters.bytes)),
            rule.text,
            rule.action,
            rule.comment,
        ]
    });
}
