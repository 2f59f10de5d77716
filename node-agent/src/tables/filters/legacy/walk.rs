//! The chains of a table, one entry after the other. Chains of hooks begin where the table says; all others begin with an
//! entry whose target is called `ERROR` and has their name.

use std::collections::BTreeMap;

use super::super::Counters;
use super::Family;
use super::entry::Entry;
use super::socket::{HOOKS, Info};
use crate::netlink::attributes::text;

/// By number, `enum nf_inet_hooks`: as the chains are called and as the hooks are.
const CHAINS: [&str; HOOKS] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
const HOOK_NAMES: [&str; HOOKS] = ["prerouting", "input", "forward", "output", "postrouting"];
/// `XT_ERROR_TARGET`.
const CHAIN_MARK: &str = "ERROR";

/// A chain, or a rule of one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) chain: String,
    /// Empty, as the policy is: packets come from other chains.
    pub(super) hook: &'static str,
    pub(super) policy: String,
    /// Of a rule, from 1 on.
    pub(super) number: Option<u64>,
    /// Of the policy, or of the rule.
    pub(super) counters: Option<Counters>,
    /// What it looks at.
    pub(super) text: String,
    /// What becomes of packets; empty: they go on to the next rule.
    pub(super) action: String,
    pub(super) comment: String,
}

/// Hands over every chain followed by its rules. Absent: the entries do not hold together.
pub(super) fn walk(family: Family, info: &Info, bytes: &[u8], each: &mut impl FnMut(Line)) -> Option<()> {
    let entries = entries(family, bytes)?;
    let chains = chains(info, &entries);
    let (mut chain, mut number) = (String::new(), 0);
    for (offset, entry) in &entries {
        let is_mark = entry.target_name() == CHAIN_MARK;
        let begin = if is_mark { offset + entry.len() } else { *offset };
        if let Some(begun) = chains.get(&begin).filter(|begun| is_mark == begun.hook.is_none()) {
            (chain, number) = (begun.name.clone(), 0);
            each(head(info, begun, &entries));
        }
        let is_policy = info
            .policies
            .iter()
            .enumerate()
            .any(|(hook, at)| info.hooks >> hook & 1 == 1 && *at as usize == *offset);
        if !is_mark && !is_policy && !is_end(entry, *offset, &entries) {
            number += 1;
            each(rule(&chain, number, *offset, entry, &chains));
        }
    }
    Some(())
}

/// By offset.
fn entries(family: Family, bytes: &[u8]) -> Option<BTreeMap<usize, Entry<'_>>> {
    let (mut entries, mut offset) = (BTreeMap::new(), 0);
    while offset < bytes.len() {
        let entry = Entry::read(family, &bytes[offset..])?;
        entries.insert(offset, entry);
        offset += entry.len();
    }
    Some(entries)
}

struct Chain {
    name: String,
    hook: Option<usize>,
}

/// By the offset of the first rule.
fn chains(info: &Info, entries: &BTreeMap<usize, Entry<'_>>) -> BTreeMap<usize, Chain> {
    let of_hooks = (0..HOOKS).filter(|hook| info.hooks >> hook & 1 == 1);
    let of_hooks = of_hooks
        .map(|hook| (info.begins[hook] as usize, Chain { name: CHAINS[hook].to_owned(), hook: Some(hook) }));
    let marks = entries.iter().filter(|(_, entry)| entry.target_name() == CHAIN_MARK);
    // The last mark is the end of the table, where nothing begins.
    let marks = marks.map(|(offset, entry)| (offset + entry.len(), entry));
    let own = marks
        .filter(|(begin, _)| entries.contains_key(begin))
        .map(|(begin, entry)| (begin, Chain { name: text(entry.target_info()), hook: None }));
    own.chain(of_hooks).collect()
}

/// The line of a chain.
fn head(info: &Info, chain: &Chain, entries: &BTreeMap<usize, Entry<'_>>) -> Line {
    let policy = chain.hook.and_then(|hook| entries.get(&(info.policies[hook] as usize)));
    Line {
        chain: chain.name.clone(),
        hook: chain.hook.map(|hook| HOOK_NAMES[hook]).unwrap_or_default(),
        policy: policy
            .and_then(Entry::verdict)
            .map(|verdict| word(verdict).to_lowercase())
            .unwrap_or_default(),
        counters: policy.map(|policy| policy.counters),
        ..Line::default()
    }
}

/// Whether it is the last of a chain that no hook leads to, which goes back whatever comes: iptables adds it, and it is no
/// rule.
fn is_end(entry: &Entry<'_>, offset: usize, entries: &BTreeMap<usize, Entry<'_>>) -> bool {
    let next = entries.get(&(offset + entry.len()));
    next.is_none_or(|next| next.target_name() == CHAIN_MARK)
        && entry.target_name().is_empty()
        && entry.verdict() == Some(RETURN)
}

/// `-NF_REPEAT - 1`.
const RETURN: i32 = -5;

/// `-NF_* - 1`.
fn word(verdict: i32) -> String {
    let word = match verdict {
        -1 => "DROP",
        -2 => "ACCEPT",
        -4 => "QUEUE",
        RETURN => "RETURN",
        other => return format!("[verdict {other} not shown]"),
    };
    word.to_owned()
}

fn rule(chain: &str, number: u64, offset: usize, entry: &Entry<'_>, chains: &BTreeMap<usize, Chain>) -> Line {
    let (text, comment) = entry.matches();
    let is_named = !entry.target_name().is_empty();
    Line {
        chain: chain.to_owned(),
        number: Some(number),
        counters: Some(entry.counters),
        text,
        action: if is_named { entry.target() } else { decision(offset, entry, chains) },
        comment,
        ..Line::default()
    }
}

/// Of a target without a name: a verdict, the offset of a chain, or the next rule.
fn decision(offset: usize, entry: &Entry<'_>, chains: &BTreeMap<usize, Chain>) -> String {
    let Some(verdict) = entry.verdict() else { return "[target not shown]".to_owned() };
    let Ok(to) = usize::try_from(verdict) else { return format!("-j {}", word(verdict)) };
    match chains.get(&to) {
        _ if to == offset + entry.len() && !entry.is_goto() => String::new(),
        Some(chain) => format!("{} {}", if entry.is_goto() { "-g" } else { "-j" }, chain.name),
        None => "[jump not shown]".to_owned(),
    }
}

#[cfg(test)]
mod tests;
