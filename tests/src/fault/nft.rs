//! One nftables rule with a named counter, in a table of its own.

use anyhow::Result;

use super::Injected;
use crate::lab::counter;
use crate::lab::netns::Netns;

/// A rule of a fault: `expression` is counted and then, if `verdict` says so, dropped.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    /// nftables family: `inet`, `bridge`.
    pub(super) family: &'a str,
    /// Hook and priority, as in `hook forward priority 0`.
    pub(super) hook: &'a str,
    /// What it matches.
    pub(super) expression: &'a str,
    /// `drop`, or nothing to only count.
    pub(super) verdict: &'a str,
    /// Further rules of the same table, whole chains.
    pub(super) beside: &'a str,
}

impl<'a> Rule<'a> {
    /// Counts what meets `expression` in an `inet` hook.
    pub(super) fn counting(hook: &'a str, expression: &'a str) -> Self {
        Self { family: "inet", hook, expression, verdict: "", beside: "" }
    }

    /// Drops what meets `expression` in an `inet` hook.
    pub(super) fn dropping(hook: &'a str, expression: &'a str) -> Self {
        Self { verdict: "drop", ..Self::counting(hook, expression) }
    }

    /// Loads the rule in `netns`; the result counts its matches and removes its table.
    pub(super) fn inject<'lab>(&self, netns: &'lab Netns) -> Result<Injected<'lab>> {
        let Self { family, hook, expression, verdict, beside } = self;
        netns.nft(&format!(
            "table {family} lastseen_lab {{\n\
             counter swallowed {{ }}\n\
             chain fault {{\n\
             type filter {hook}; policy accept;\n\
             {expression} counter name swallowed {verdict}\n\
             }}\n\
             {beside}\n\
             }}\n"
        ))?;
        let (counted, removed) = ((*family).to_owned(), (*family).to_owned());
        Ok(Injected::new(
            move || counter::nft_packets(netns, &counted, "swallowed"),
            move || netns.nft(&format!("delete table {removed} lastseen_lab\n")),
        ))
    }
}
