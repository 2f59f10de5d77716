//! Expressions of a rule in the words of nft(8), as far as they are known. What is not known stands in brackets and is never
//! guessed: what it may have loaded is forgotten.

mod decide;
mod load;
mod translate;

use super::super::{Counters, xt};
use super::chain::counters;
use super::register::Registers;
use super::set::Sets;
use crate::netlink::attributes::{be_u32, find, text};

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(super) const V4: u8 = 2;
pub(super) const V6: u8 = 10;

/// Reads the expressions of one rule, one after the other.
pub(super) struct Reader<'a> {
    family: u8,
    table: &'a str,
    sets: &'a Sets,
    registers: Registers,
    /// Whether the network header is that of IPv4 or IPv6, once that is certain.
    network: Option<u8>,
    /// What it looks at, and what it does beside deciding.
    pub(super) words: Vec<String>,
    /// What becomes of the packet.
    pub(super) actions: Vec<String>,
    pub(super) counters: Option<Counters>,
    /// Those that iptables-nft keeps as matches.
    pub(super) comments: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(family: u8, table: &'a str, sets: &'a Sets) -> Self {
        Self {
            family,
            table,
            sets,
            registers: Registers::default(),
            network: [V4, V6].into_iter().find(|known| *known == family),
            words: Vec::new(),
            actions: Vec::new(),
            counters: None,
            comments: Vec::new(),
        }
    }

    pub(super) fn read(&mut self, name: &str, data: &[u8]) {
        if self.known(name, data).is_none() {
            self.registers.forget();
            self.words.push(format!("[{name} not shown]"));
        }
    }

    fn known(&mut self, name: &str, data: &[u8]) -> Option<()> {
        match name {
            "counter" => self.counters = counters(data),
            "payload" => self.payload(data)?,
            "meta" => self.meta(data)?,
            "ct" => self.connection(data)?,
            "fib" => self.route(data)?,
            "numgen" => self.number(data)?,
            "rt" => self.path(data)?,
            "socket" => self.socket(data)?,
            "exthdr" => self.option(data)?,
            "bitwise" => self.bits(data)?,
            "cmp" => self.compare(data)?,
            "range" => self.range(data)?,
            "lookup" => self.lookup(data)?,
            "dynset" => self.update(data)?,
            "immediate" => self.constant(data)?,
            "nat" => self.nat(data)?,
            "masq" => self.ports_only("masquerade", data, [2, 3])?,
            "redir" => self.ports_only("redirect", data, [1, 2])?,
            "tproxy" => self.proxy(data)?,
            "reject" => self.reject(data)?,
            "limit" => self.limit(data)?,
            "quota" => self.quota(data)?,
            "connlimit" => self.connections(data)?,
            "log" => self.log(data),
            "queue" => self.queue(data)?,
            "objref" => self.object(data)?,
            "flow_offload" => self.say(format!("flow add @{}", find(data, 1).map(text)?)),
            "notrack" => self.say("notrack"),
            "last" => {}
            "match" => match self.extension(data, xt::matching)? {
                xt::Shown::Words(words) => self.say(words),
                xt::Shown::Comment(comment) => self.comments.push(comment),
            },
            "target" => match self.extension(data, xt::target)? {
                xt::Shown::Words(words) | xt::Shown::Comment(words) => self.act(words),
            },
            _ => return None,
        }
        Some(())
    }

    fn say(&mut self, word: impl Into<String>) {
        self.words.push(word.into());
    }

    fn act(&mut self, action: impl Into<String>) {
        self.actions.push(action.into());
    }

    /// A match or target of iptables: `enum nft_match_attributes` and `enum nft_target_attributes` are alike.
    fn extension(&self, data: &[u8], show: fn(&xt::Extension<'_>) -> xt::Shown) -> Option<xt::Shown> {
        let extension = xt::Extension {
            name: &find(data, 1).map(text)?,
            revision: find(data, 2).and_then(be_u32)?,
            info: find(data, 3).unwrap_or_default(),
            is_v6: self.family == V6,
        };
        Some(show(&extension))
    }
}

/// A number in network byte order.
fn number(data: &[u8], kind: u16) -> Option<u32> {
    find(data, kind).and_then(be_u32)
}

/// `NFTA_DATA_VALUE` in a nested attribute.
fn constant(data: &[u8], kind: u16) -> Option<&[u8]> {
    find(find(data, kind)?, 1)
}

#[cfg(test)]
mod tests;
